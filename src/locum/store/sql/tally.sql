-- name: counted
-- The largest count seen so far of one thing counted.
SELECT input, output, cache_read, cache_write FROM counted WHERE agent = :agent AND key = :key;

-- name: count
-- Keep a new largest count.
INSERT INTO counted (agent, key, input, output, cache_read, cache_write)
VALUES (:agent, :key, :input, :output, :cache_read, :cache_write)
ON CONFLICT (agent, key) DO UPDATE SET
    input = excluded.input, output = excluded.output,
    cache_read = excluded.cache_read, cache_write = excluded.cache_write;

-- name: add_entry
-- Append a difference to the ledger.
INSERT INTO entry
    (run, task, chain, tier, account, agent, key, model, session, at_ms, input, output, cache_read, cache_write)
VALUES
    (:run, :task, :chain, :tier, :account, :agent, :key, :model, :session, :at_ms,
     :input, :output, :cache_read, :cache_write);

-- name: add_buckets
-- Add to the totals of up to four scopes in one hour; a scope that is null is none.
INSERT INTO bucket (scope, hour_ms, input, output, cache_read, cache_write)
SELECT column1, :hour_ms, :input, :output, :cache_read, :cache_write
FROM (VALUES (:scope_1), (:scope_2), (:scope_3), (:scope_4)) WHERE column1 IS NOT NULL
ON CONFLICT (scope, hour_ms) DO UPDATE SET
    input = bucket.input + excluded.input, output = bucket.output + excluded.output,
    cache_read = bucket.cache_read + excluded.cache_read, cache_write = bucket.cache_write + excluded.cache_write;

-- name: spent_by_runs
-- Everything that runs have spent, in the order in which it was written down.
SELECT run, at_ms, input, output, cache_read, cache_write FROM entry WHERE run IS NOT NULL ORDER BY seq;

-- name: sum_buckets
-- The total of a scope over whole hours.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM bucket WHERE scope = :scope AND hour_ms >= :start_ms AND hour_ms < :end_ms;

-- name: edge_chain
-- The entries of a chain within part of an hour, added up.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM entry WHERE chain = :name AND at_ms >= :start_ms AND at_ms < :end_ms;

-- name: edge_tier
-- The entries of a tier within part of an hour, added up.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM entry WHERE tier = :name AND at_ms >= :start_ms AND at_ms < :end_ms;

-- name: edge_account
-- The entries of an account within part of an hour, added up.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM entry WHERE account = :name AND at_ms >= :start_ms AND at_ms < :end_ms;

-- name: edge_total
-- All entries within part of an hour, added up.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM entry WHERE at_ms >= :start_ms AND at_ms < :end_ms;

-- name: edge_unattributed
-- The entries of no tier within part of an hour, added up.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM entry WHERE tier IS NULL AND :name = '' AND at_ms >= :start_ms AND at_ms < :end_ms;

-- name: entries_chain
-- The entries of a chain from a moment on, oldest first.
SELECT at_ms, input, output, cache_read, cache_write FROM entry
WHERE chain = :name AND at_ms >= :start_ms ORDER BY at_ms;

-- name: entries_tier
-- The entries of a tier from a moment on, oldest first.
SELECT at_ms, input, output, cache_read, cache_write FROM entry
WHERE tier = :name AND at_ms >= :start_ms ORDER BY at_ms;

-- name: block_start
-- Where the latest block that began at or before a moment began.
SELECT MAX(start_ms) FROM block WHERE scope = :scope AND length_ms = :length_ms AND start_ms <= :at_ms;

-- name: add_block
-- Store where a block begins.
INSERT INTO block (scope, length_ms, start_ms) VALUES (:scope, :length_ms, :start_ms);

-- name: run_tokens
-- What one run has spent.
SELECT input, output, cache_read, cache_write FROM run WHERE id = :run;

-- name: task_tokens
-- What all runs of a task have spent.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM run WHERE task = :task;

-- name: add_run_tokens
-- Add to what a run has spent.
UPDATE run SET input = input + :input, output = output + :output,
    cache_read = cache_read + :cache_read, cache_write = cache_write + :cache_write WHERE id = :run;

-- name: run_told
-- The agent's own total of a run that has ended, if it told one.
SELECT told_input, told_output, told_cache_read, told_cache_write, ended_ms FROM run
WHERE id = :run AND told_input IS NOT NULL;

-- name: doubt_usage
-- Remember that a run's usage is not wholly known.
UPDATE run SET usage_known = 0 WHERE id = :run;

-- name: unknown_runs
-- How many runs of a scope that began within a window, and reports that came in it, have not told all that was used.
SELECT (
    SELECT COUNT(*) FROM run
    WHERE usage_known = 0 AND started_ms >= :start_ms AND started_ms < :end_ms
      AND :scope IN ('chain:' || chain, 'tier:' || tier, 'account:' || account, 'total')
) + (
    SELECT COUNT(*) FROM report
    WHERE input IS NULL AND agent = 'report' AND at_ms >= :start_ms AND at_ms < :end_ms
      AND (:scope IN ('chain:' || chain, 'tier:' || tier, 'total') OR (tier IS NULL AND :scope = 'unattributed'))
);
