-- name: spent_upto
-- The last entry that is summed up, and the last there is.
SELECT entry, COALESCE((SELECT MAX(seq) FROM entry), 0) FROM spent_upto;

-- name: sum_up
-- Add some entries to their sums.
INSERT INTO spent (hour_ms, chain, tier, account, model, input, output, cache_read, cache_write)
SELECT at_ms / 3600000 * 3600000, COALESCE(chain, ''), COALESCE(tier, ''), COALESCE(account, ''), COALESCE(model, ''),
    SUM(input), SUM(output), SUM(cache_read), SUM(cache_write)
FROM entry WHERE seq > :after AND seq <= :upto
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (hour_ms, chain, tier, account, model) DO UPDATE SET
    input = spent.input + excluded.input, output = spent.output + excluded.output,
    cache_read = spent.cache_read + excluded.cache_read, cache_write = spent.cache_write + excluded.cache_write;

-- name: save_spent_upto
-- Keep up to which entry that was done.
UPDATE spent_upto SET entry = :upto;

-- name: spent
-- The sums of the hours within a time, of one chain, tier, account and model or of all, oldest first.
SELECT hour_ms, chain, tier, account, model, input, output, cache_read, cache_write FROM spent
WHERE hour_ms >= :start_ms AND hour_ms < :end_ms AND (:chain IS NULL OR chain = :chain)
    AND (:tier IS NULL OR tier = :tier) AND (:account IS NULL OR account = :account)
    AND (:model IS NULL OR model = :model)
ORDER BY hour_ms, chain, tier, account, model;

-- name: spent_ever
-- The sums of all time.
SELECT 0, chain, tier, account, model, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write) FROM spent
GROUP BY chain, tier, account, model;

-- name: bumps
-- How often each tier was bumped, and why.
SELECT chain, COALESCE(tier, ''), COALESCE(failure, ''), COUNT(*) FROM event WHERE kind = 'bumped'
GROUP BY chain, tier, failure;

-- name: attempts
-- How the attempts on each tier have ended so far.
SELECT chain, tier, agent, state, COALESCE(failure, ''), COUNT(*) FROM run GROUP BY chain, tier, agent, state, failure;
