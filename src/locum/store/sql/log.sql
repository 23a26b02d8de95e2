-- name: add_event
-- Append to the log of the chains.
INSERT INTO event (chain, kind, at_ms, tier, task, failure, reason, hold, targets, active, quiet)
VALUES (:chain, :kind, :at_ms, :tier, :task, :failure, :reason, :hold, :targets, :active, :quiet);

-- name: events
-- The log after a row, oldest first, of one chain or of all.
SELECT seq, chain, kind, at_ms, tier, task, failure, reason, hold, targets, active FROM event
WHERE seq > :after AND (:chain IS NULL OR chain = :chain) ORDER BY seq LIMIT :limit;

-- name: latest_events
-- The newest rows of a chain's log, newest first.
SELECT seq, chain, kind, at_ms, tier, task, failure, reason, hold, targets, active FROM event
WHERE chain = :chain ORDER BY seq DESC LIMIT :limit;

-- name: last_event_before
-- The last row of the log that was written before a moment.
SELECT seq FROM event WHERE at_ms < :at_ms ORDER BY seq DESC LIMIT 1;

-- name: board
-- The board as it was last written.
SELECT body FROM board WHERE id = 1;

-- name: save_board
-- Write the board.
INSERT INTO board (id, body) VALUES (1, :body) ON CONFLICT (id) DO UPDATE SET body = excluded.body;

-- name: ends
-- The last row of the log, and of the notices.
SELECT COALESCE((SELECT MAX(seq) FROM event), 0), COALESCE((SELECT MAX(seq) FROM notice), 0);
