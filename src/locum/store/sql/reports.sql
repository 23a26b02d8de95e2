-- name: report
-- For which tier this piece of work was told first.
SELECT chain, tier FROM report WHERE agent = :agent AND id = :id;

-- name: add_report
-- Keep what was told of a piece of work.
INSERT INTO report (agent, id, at_ms, chain, tier, session, model, provider, failure, reason, cost_micros,
    input, output, cache_read, cache_write)
VALUES (:agent, :id, :at_ms, :chain, :tier, :session, :model, :provider, :failure, :reason, :cost_micros,
    :input, :output, :cache_read, :cache_write);

-- name: grow_report
-- More of the same piece of work was counted.
UPDATE report SET input = COALESCE(input, 0) + :input, output = COALESCE(output, 0) + :output,
    cache_read = COALESCE(cache_read, 0) + :cache_read, cache_write = COALESCE(cache_write, 0) + :cache_write
WHERE agent = :agent AND id = :id;

-- name: reports
-- The reports behind a row, oldest first.
SELECT seq, agent, id, at_ms, chain, tier, session, model, provider, failure, reason, cost_micros,
    input, output, cache_read, cache_write
FROM report WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: untold
-- What was counted of a session outside runs, less what its turns were reported with.
SELECT COALESCE(SUM(input), 0), COALESCE(SUM(output), 0), COALESCE(SUM(cache_read), 0), COALESCE(SUM(cache_write), 0)
FROM (
    SELECT input, output, cache_read, cache_write FROM entry
    WHERE session = :session AND agent = :agent AND run IS NULL
    UNION ALL SELECT -input, -output, -cache_read, -cache_write FROM report
    WHERE session = :session AND agent = :agent AND input IS NOT NULL
);

-- name: session_owner
-- The run that a session belongs to: one in progress, or one that ended at or after a moment.
SELECT id FROM run WHERE session = :session AND (state = 'running' OR ended_ms >= :ended_ms) LIMIT 1;
