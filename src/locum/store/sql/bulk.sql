-- name: counted_many
-- The largest counts seen so far of many things counted; `keys` is a JSON array.
SELECT key, input, output, cache_read, cache_write FROM counted
WHERE agent = :agent AND key IN (SELECT value FROM json_each(:keys));

-- name: count_many
-- Keep new largest counts.
INSERT INTO counted (agent, key, input, output, cache_read, cache_write) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (agent, key) DO UPDATE SET
    input = excluded.input, output = excluded.output,
    cache_read = excluded.cache_read, cache_write = excluded.cache_write;

-- name: add_entries
-- Append differences of sessions that are no run's.
INSERT INTO entry (chain, tier, account, agent, key, model, session, at_ms, input, output, cache_read, cache_write)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_buckets_many
-- Add to the totals of scopes in hours.
INSERT INTO bucket (scope, hour_ms, input, output, cache_read, cache_write) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (scope, hour_ms) DO UPDATE SET
    input = bucket.input + excluded.input, output = bucket.output + excluded.output,
    cache_read = bucket.cache_read + excluded.cache_read, cache_write = bucket.cache_write + excluded.cache_write;

-- name: forget_blocks
-- Where the blocks of a rule began is to be found anew.
DELETE FROM block WHERE scope = :scope AND length_ms = :length_ms;
