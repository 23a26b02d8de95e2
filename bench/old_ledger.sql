-- name: tiers
-- The tiers, each with its place from 1 on.
CREATE TABLE bench_tier (chain TEXT, tier TEXT, account TEXT);

-- name: tier
-- One of them.
INSERT INTO bench_tier (chain, tier, account) VALUES (:chain, :tier, :account);

-- name: entries
-- Everything follows from `age`, an entry's place from the end: so the last hours are the same in every ledger.
INSERT INTO entry (run, task, chain, tier, account, agent, key, model, session, at_ms,
    input, output, cache_read, cache_write)
WITH RECURSIVE
number (age) AS (SELECT :entries - 1 UNION ALL SELECT age - 1 FROM number WHERE age > 0),
placed (age, run) AS (SELECT age, age / (:run * :tiers) * :tiers + age % :tiers FROM number)
SELECT printf('r-%012d', placed.run), printf('t-%012d', placed.run), chain, tier, account, 'claude-code',
    printf('msg_01%022d', age), 'claude-opus-4-1', printf('00000000-0000-4000-8000-%012d', placed.run),
    CASE WHEN age < :recent THEN :end_ms - 1 - CAST(age * :recent_step AS INTEGER)
        ELSE :end_ms - 1 - :before_ms - CAST((age - :recent) * :old_step AS INTEGER) END,
    3 + age % 900, 40 + age % 700, 20000 + age % 60000, age % 2000
FROM placed JOIN bench_tier ON bench_tier.rowid = 1 + age % :tiers;

-- name: runs
-- The runs that these entries are of.
INSERT INTO run (id, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit,
    reason, rule, session, said, wait_ms, lost_session, input, output, cache_read, cache_write, usage_known)
SELECT run, task, 1, chain, tier, agent, account, 'opus', 'g', '/srv/work', 'succeeded', MIN(at_ms), MAX(at_ms), 0,
    '', '', session, 'done', 0, 0, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write), 1
FROM entry GROUP BY run ORDER BY run DESC;

-- name: tasks
-- The tasks that these runs are of.
INSERT INTO task (id, chain, cwd, state, created_ms, title, ended_ms, reason, reason_code, said, no_wait, shared_cwd,
    not_before_ms, cancel_asked)
SELECT task, chain, cwd, 'done', started_ms, 'one of very many', ended_ms, '', '', said, 0, 0, 0, 0
FROM run ORDER BY seq;

-- name: counted
-- The largest count of each key: none of them grew.
INSERT INTO counted (agent, key, input, output, cache_read, cache_write)
SELECT agent, key, input, output, cache_read, cache_write FROM entry ORDER BY seq DESC;

-- name: tier_buckets
-- The entries by tier and hour; each tier is one account's, and one chain's.
CREATE TABLE bench_hour AS
SELECT chain, tier, account, at_ms / 3600000 * 3600000 AS hour_ms, SUM(input) AS input, SUM(output) AS output,
    SUM(cache_read) AS cache_read, SUM(cache_write) AS cache_write
FROM entry GROUP BY 4, tier;

-- name: buckets
-- The same for every scope.
INSERT INTO bucket (scope, hour_ms, input, output, cache_read, cache_write)
SELECT scope, hour_ms, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write) FROM (
    SELECT 'chain:' || chain AS scope, * FROM bench_hour UNION ALL
    SELECT 'tier:' || tier, * FROM bench_hour UNION ALL
    SELECT 'account:' || account, * FROM bench_hour UNION ALL
    SELECT 'total', * FROM bench_hour
) GROUP BY scope, hour_ms ORDER BY scope, hour_ms;

-- name: drop_tiers
-- What was only needed here goes.
DROP TABLE bench_tier;

-- name: drop_hours
-- What was only needed here goes.
DROP TABLE bench_hour;
