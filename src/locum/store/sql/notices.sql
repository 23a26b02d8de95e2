-- name: add_notice
-- Tell people something.
INSERT INTO notice (kind, severity, at_ms, chain, title, message, data, event)
VALUES (:kind, :severity, :at_ms, :chain, :title, :message, :data, :event);

-- name: notices
-- The notices after a row, oldest first.
SELECT seq, kind, severity, at_ms, chain, title, message, data FROM notice
WHERE seq > :after ORDER BY seq LIMIT :limit;
