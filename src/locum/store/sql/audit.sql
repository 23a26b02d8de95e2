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
