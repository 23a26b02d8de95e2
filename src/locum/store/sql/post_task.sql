-- name: post_task_due
-- A task has ended: the operator's command is to follow.
INSERT INTO post_task (task, state, starts, due_ms, reason) VALUES (:task, 'due', 0, :now_ms, '')
ON CONFLICT (task) DO NOTHING;

-- name: post_tasks_due
-- What is due, oldest first.
SELECT task FROM post_task WHERE state = 'due' AND state IN ('due', 'running') ORDER BY due_ms, task LIMIT :limit;

-- name: post_tasks_running
-- What was started and has not ended, oldest first.
SELECT task FROM post_task WHERE state = 'running' AND state IN ('due', 'running') ORDER BY due_ms, task;

-- name: post_task
-- What became of the command after one task.
SELECT task, state, starts, due_ms, ended_ms, exit, reason FROM post_task WHERE task = :task;

-- name: start_post_task
-- Count a start.
UPDATE post_task SET state = 'running', starts = starts + 1 WHERE task = :task AND state = 'due' AND starts < :most;

-- name: put_back_post_task
-- It has not come to its end: it is due again.
UPDATE post_task SET state = 'due' WHERE task = :task AND state = 'running';

-- name: end_post_task
-- How it ended; what has ended stays as it is.
UPDATE post_task SET state = :state, ended_ms = :now_ms, exit = :exit, reason = :reason
WHERE task = :task AND state IN ('due', 'running');

-- name: drop_post_tasks
-- There is no command any more: what is due is not run.
UPDATE post_task SET state = 'dropped', ended_ms = :now_ms, reason = :reason WHERE state = 'due';

-- name: post_tasks_waiting
-- How many are due and how many run.
SELECT state, COUNT(*) FROM post_task WHERE state IN ('due', 'running') GROUP BY state;

-- name: last_post_task
-- The one that ended last, of those that were run.
SELECT task, state, starts, due_ms, ended_ms, exit, reason FROM post_task
WHERE state IN ('done', 'failed') ORDER BY ended_ms DESC, task DESC LIMIT 1;
