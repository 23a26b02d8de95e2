-- name: add_notice
-- Tell people something; the row is named next.
INSERT INTO notice (kind, severity, at_ms, chain, title, message, data, link, event)
VALUES (:kind, :severity, :at_ms, :chain, :title, :message, :data, :link, :event);

-- name: name_notice
-- Give a notice the name it has outside.
UPDATE notice SET id = :id WHERE seq = :seq;

-- name: nameless_notices
-- The notices that an older locum has written.
SELECT seq, at_ms FROM notice WHERE id IS NULL;

-- name: notices
-- The notices after a row, oldest first.
SELECT seq, kind, severity, at_ms, chain, title, message, data, link, id FROM notice
WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: latest_notices
-- The newest notices about a chain or about no chain in particular, newest first.
SELECT seq, kind, severity, at_ms, chain, title, message, data, link, id FROM notice
WHERE chain IS NULL OR chain = :chain ORDER BY seq DESC LIMIT :limit;

-- name: notice
-- One notice by its name.
SELECT seq, kind, severity, at_ms, chain, title, message, data, link, id FROM notice WHERE id = :id;

-- name: identity
-- Which ledger this is.
SELECT mark FROM identity WHERE id = 1;

-- name: save_identity
-- Keep which ledger this is, once and for ever.
INSERT INTO identity (id, mark) VALUES (1, :mark);
