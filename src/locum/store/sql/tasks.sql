-- name: add_task
-- Take in a task.
INSERT INTO task (id, chain, cwd, state, created_ms, title, ended_ms, reason, reason_code, said, no_wait, shared_cwd,
    not_before_ms, cancel_asked)
VALUES (:id, :chain, :cwd, :state, :created_ms, :title, :ended_ms, :reason, :reason_code, :said, :no_wait, :shared_cwd,
    :not_before_ms, :cancel_asked);

-- name: add_prompt
-- Keep a task's prompt.
INSERT INTO prompt (task, body) VALUES (:task, :body);

-- name: prompt
-- A task's prompt.
SELECT body FROM prompt WHERE task = :task;

-- name: find_tasks
-- The task of that id, or the first two whose id begins so.
SELECT id, chain, cwd, state, created_ms, title, ended_ms, reason, reason_code, said, no_wait, shared_cwd,
    not_before_ms, cancel_asked
FROM task WHERE id = :id OR (id >= :id AND id < :behind AND LENGTH(:id) >= 4) ORDER BY id <> :id, id LIMIT 2;

-- name: tasks
-- The newest tasks, of one chain or all, in some states or all, before one or from the last.
SELECT id, chain, cwd, state, created_ms, title, ended_ms, reason, reason_code, said, no_wait, shared_cwd,
    not_before_ms, cancel_asked
FROM task
WHERE (:chain IS NULL OR chain = :chain) AND (:states IS NULL OR INSTR(:states, ',' || state || ',') > 0)
    AND (:before IS NULL OR seq < (SELECT seq FROM task WHERE id = :before))
ORDER BY seq DESC LIMIT :limit;

-- name: queue
-- The tasks that have not ended, oldest first.
SELECT id, chain, cwd, state, created_ms, title, ended_ms, reason, reason_code, said, no_wait, shared_cwd,
    not_before_ms, cancel_asked
FROM task WHERE state IN ('queued', 'running') ORDER BY seq;

-- name: open_counts
-- How many tasks wait and how many run, by chain.
SELECT chain, state, COUNT(*) FROM task WHERE state IN ('queued', 'running') GROUP BY chain, state;

-- name: save_task
-- Write what may change in a task.
UPDATE task SET state = :state, ended_ms = :ended_ms, reason = :reason, reason_code = :reason_code, said = :said,
    not_before_ms = :not_before_ms, cancel_asked = :cancel_asked
WHERE id = :id;

-- name: add_run
-- Begin an attempt.
INSERT INTO run (id, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit,
    failure, reason, rule, session, said, next, wait_ms, lost_session, input, output, cache_read, cache_write,
    usage_known)
VALUES (:id, :task, :number, :chain, :tier, :agent, :account, :model, :guard, :cwd, :state, :started_ms, :ended_ms,
    :exit, :failure, :reason, :rule, :session, :said, :next, :wait_ms, :lost_session, :input, :output, :cache_read,
    :cache_write, :usage_known);

-- name: run
-- One run.
SELECT id, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit,
    failure, reason, rule, session, said, next, wait_ms, lost_session, input, output, cache_read, cache_write,
    usage_known
FROM run WHERE id = :id;

-- name: runs
-- The runs of a task, first to last.
SELECT id, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit,
    failure, reason, rule, session, said, next, wait_ms, lost_session, input, output, cache_read, cache_write,
    usage_known
FROM run WHERE task = :task ORDER BY number;

-- name: last_run_tokens
-- What the last run of a task on a tier has spent, and whether that is all of it.
SELECT input, output, cache_read, cache_write, usage_known FROM run
WHERE task = :task AND tier = :tier ORDER BY number DESC LIMIT 1;

-- name: open_runs
-- The runs that have not ended, oldest first.
SELECT id, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit,
    failure, reason, rule, session, said, next, wait_ms, lost_session, input, output, cache_read, cache_write,
    usage_known
FROM run WHERE state = 'running' ORDER BY seq;

-- name: save_run
-- Write how a run ended; usage that was in doubt stays so.
UPDATE run SET state = :state, ended_ms = :ended_ms, exit = :exit, failure = :failure, reason = :reason, rule = :rule,
    session = :session, said = :said, next = :next, wait_ms = :wait_ms, lost_session = :lost_session,
    usage_known = MIN(usage_known, :usage_known)
WHERE id = :id;

-- name: ask_stop
-- Remember that a run is to stop.
UPDATE run SET stop_asked = 1 WHERE id = :id;

-- name: ask_stop_all
-- Remember that every run that has not ended is to stop.
UPDATE run SET stop_asked = 1 WHERE state = 'running';

-- name: boot
-- The start of the host on which the last daemon ran.
SELECT boot FROM host WHERE id = 1;

-- name: save_boot
-- Keep the start of the host on which this daemon runs.
INSERT INTO host (id, boot) VALUES (1, :boot) ON CONFLICT (id) DO UPDATE SET boot = excluded.boot;

-- name: stop_asked
-- Whether a run is to stop: its task was cancelled, or its daemon or its host was stopping.
SELECT run.stop_asked OR task.cancel_asked FROM run JOIN task ON task.id = run.task WHERE run.id = :id;

-- name: save_told
-- Keep the agent's own total of a run.
UPDATE run SET told_input = :input, told_output = :output, told_cache_read = :cache_read,
    told_cache_write = :cache_write WHERE id = :id;

-- name: save_session
-- Keep the session that a run is in.
UPDATE run SET session = :session WHERE id = :id;

-- name: prune_prompts
-- Delete the prompts of tasks that ended long ago.
DELETE FROM prompt WHERE task IN (SELECT id FROM task WHERE ended_ms < :before_ms);

-- name: unexplained_runs
-- The newest runs that failed for a reason that no rule knew.
SELECT id, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit,
    failure, reason, rule, session, said, next, wait_ms, lost_session, input, output, cache_read, cache_write,
    usage_known
FROM run WHERE failure = 'unknown' ORDER BY seq DESC LIMIT :limit;
