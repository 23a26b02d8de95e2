-- name: integrity
-- What SQLite itself finds wrong with the file.
SELECT integrity_check FROM pragma_integrity_check;

-- name: dangling
-- Rows that name a row which is not there.
SELECT "table", "parent" FROM pragma_foreign_key_check;

-- name: ledger_sum
-- How many entries there are, and their sum.
SELECT COUNT(*), COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0),
    COALESCE(SUM(cache_write), 0)
FROM entry;

-- name: wrong_buckets
-- Hourly totals that are not the sum of their entries.
SELECT scope, hour_ms FROM (
    SELECT CASE WHEN chain IS NULL THEN 'unattributed' ELSE 'chain:' || chain END AS scope,
        at_ms / 3600000 * 3600000 AS hour_ms, input, output, cache_read, cache_write FROM entry
    UNION ALL SELECT 'tier:' || tier, at_ms / 3600000 * 3600000, input, output, cache_read, cache_write
    FROM entry WHERE tier IS NOT NULL
    UNION ALL SELECT 'account:' || account, at_ms / 3600000 * 3600000, input, output, cache_read, cache_write
    FROM entry WHERE account IS NOT NULL
    UNION ALL SELECT 'total', at_ms / 3600000 * 3600000, input, output, cache_read, cache_write FROM entry
    UNION ALL SELECT scope, hour_ms, -input, -output, -cache_read, -cache_write FROM bucket
)
GROUP BY scope, hour_ms
HAVING SUM(input) <> 0 OR SUM(output) <> 0 OR SUM(cache_read) <> 0 OR SUM(cache_write) <> 0;

-- name: wrong_spent
-- Sums by chain, tier, account and model that are not those of the entries up to where they were brought up to date.
SELECT hour_ms, chain, tier, model FROM (
    SELECT at_ms / 3600000 * 3600000 AS hour_ms, COALESCE(chain, '') AS chain, COALESCE(tier, '') AS tier,
        COALESCE(account, '') AS account, COALESCE(model, '') AS model, input, output, cache_read, cache_write
    FROM entry WHERE seq <= (SELECT entry FROM spent_upto)
    UNION ALL SELECT hour_ms, chain, tier, account, model, -input, -output, -cache_read, -cache_write FROM spent
)
GROUP BY hour_ms, chain, tier, account, model
HAVING SUM(input) <> 0 OR SUM(output) <> 0 OR SUM(cache_read) <> 0 OR SUM(cache_write) <> 0;

-- name: wrong_counts
-- Things counted whose largest count is not the sum of their entries.
SELECT agent, key FROM (
    SELECT agent, key, input, output, cache_read, cache_write FROM entry
    UNION ALL SELECT agent, key, -input, -output, -cache_read, -cache_write FROM counted
)
GROUP BY agent, key
HAVING SUM(input) <> 0 OR SUM(output) <> 0 OR SUM(cache_read) <> 0 OR SUM(cache_write) <> 0;

-- name: wrong_runs
-- Runs whose tokens are not the sum of their entries.
SELECT id FROM (
    SELECT run AS id, input, output, cache_read, cache_write FROM entry WHERE run IS NOT NULL
    UNION ALL SELECT id, -input, -output, -cache_read, -cache_write FROM run
)
GROUP BY id
HAVING SUM(input) <> 0 OR SUM(output) <> 0 OR SUM(cache_read) <> 0 OR SUM(cache_write) <> 0;

-- name: unreconciled
-- Runs whose tokens are not what the agent said in the end.
SELECT id FROM run WHERE told_input IS NOT NULL AND (input <> told_input OR output <> told_output
    OR cache_read <> told_cache_read OR cache_write <> told_cache_write);

-- name: misplaced
-- Entries that name another task, chain, tier or account than their run.
SELECT entry.seq FROM entry JOIN run ON run.id = entry.run
WHERE entry.task <> run.task OR entry.chain <> run.chain OR entry.tier <> run.tier OR entry.account <> run.account;

-- name: log
-- The whole log, oldest first.
SELECT chain, kind, at_ms, tier, task, failure, reason, hold, targets, active FROM event ORDER BY seq;

-- name: log_length
-- How many events there are.
SELECT COUNT(*) FROM event;

-- name: unnoticed
-- Events that people must hear of and that have no notice, or not exactly one.
SELECT event.seq, event.kind FROM event LEFT JOIN notice ON notice.event = event.seq
WHERE event.kind IN ('bumped', 'returned', 'released', 'exhausted') AND event.quiet = 0
GROUP BY event.seq HAVING COUNT(notice.seq) <> 1;

-- name: wrong_crossings
-- Thresholds on record with another sum than that of the entries which there were in their window.
SELECT seq, budget FROM crossing WHERE notice IS NOT NULL AND budget LIKE 'tier:%'
    AND (input, output, cache_read, cache_write) <> (
        SELECT COALESCE(SUM(entry.input), 0), COALESCE(SUM(entry.output), 0), COALESCE(SUM(entry.cache_read), 0),
            COALESCE(SUM(entry.cache_write), 0)
        FROM entry WHERE entry.tier = SUBSTR(crossing.budget, 6) AND entry.seq <= crossing.entry
            AND entry.at_ms >= crossing.start_ms AND entry.at_ms < COALESCE(crossing.end_ms, 1 << 62))
UNION ALL
SELECT seq, budget FROM crossing WHERE notice IS NOT NULL AND budget NOT LIKE 'tier:%'
    AND (input, output, cache_read, cache_write) <> (
        SELECT COALESCE(SUM(entry.input), 0), COALESCE(SUM(entry.output), 0), COALESCE(SUM(entry.cache_read), 0),
            COALESCE(SUM(entry.cache_write), 0)
        FROM entry WHERE entry.chain = SUBSTR(crossing.budget, INSTR(crossing.budget, ':') + 1)
            AND entry.seq <= crossing.entry
            AND entry.at_ms >= crossing.start_ms AND entry.at_ms < COALESCE(crossing.end_ms, 1 << 62));

-- name: misquoted_crossings
-- Thresholds whose notice tells of another one, and notices of thresholds that are not on record.
SELECT notice.seq FROM notice LEFT JOIN crossing ON crossing.notice = notice.seq
WHERE notice.kind = 'token_threshold_crossed' AND notice.data ->> '$.threshold_unit' IS NOT NULL
    AND (notice.data ->> '$.budget', notice.data ->> '$.threshold_unit', notice.data ->> '$.threshold', notice.at_ms)
        IS NOT (crossing.budget, crossing.unit, crossing.threshold, crossing.at_ms)
UNION ALL
SELECT notice.seq FROM crossing JOIN notice ON notice.seq = crossing.notice
WHERE notice.kind <> 'token_threshold_crossed';

-- name: told_crossings
-- Every threshold that people were told of, with what was used by then.
SELECT seq, budget, limit_tokens, unit, threshold, weights, input, output, cache_read, cache_write FROM crossing
WHERE notice IS NOT NULL;

-- name: wrong_tasks
-- Tasks whose state is not what their runs say.
SELECT task.id, task.state FROM task
WHERE (task.state = 'running') <> ((SELECT COUNT(*) FROM run WHERE run.task = task.id AND run.state = 'running') = 1)
    OR (task.state = 'done')
        <> EXISTS (SELECT 1 FROM run WHERE run.task = task.id AND run.state = 'succeeded')
    OR (task.state IN ('done', 'failed', 'cancelled')) <> (task.ended_ms IS NOT NULL);

-- name: wrong_endings
-- Runs that ended without a time, or have a failure without having failed.
SELECT id FROM run
WHERE (state = 'running') <> (ended_ms IS NULL) OR (state = 'failed') <> (failure IS NOT NULL);

-- name: wrong_post_tasks
-- Commands after a task that ended without a time, or follow a task that has not ended.
SELECT post_task.task FROM post_task JOIN task ON task.id = post_task.task
WHERE (post_task.state IN ('due', 'running')) <> (post_task.ended_ms IS NULL)
    OR post_task.state NOT IN ('due', 'running', 'done', 'failed', 'dropped') OR task.ended_ms IS NULL
    OR (post_task.state = 'running' AND post_task.starts = 0);

-- name: parallel_runs
-- Tasks with more than one run at a time.
SELECT task FROM run WHERE state = 'running' GROUP BY task HAVING COUNT(*) > 1;
