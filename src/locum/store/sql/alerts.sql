-- name: crossed_in_window
-- The thresholds of a chain or tier that are on record in a window; `other` is its second budget.
SELECT budget, limit_tokens, unit, threshold FROM crossing
WHERE budget IN (:scope, :other) AND rolling_ms = 0 AND start_ms = :start_ms AND COALESCE(end_ms, 0) = :end_ms;

-- name: crossed_and_open
-- The thresholds of a chain or tier that are on record in a rolling window and not to be told of again yet.
SELECT budget, limit_tokens, unit, threshold FROM crossing
WHERE budget IN (:scope, :other) AND rolling_ms > 0 AND rolling_ms = :rolling_ms AND closed_ms IS NULL;

-- name: rested
-- The open rows of rolling windows that were told a whole window ago, or by a clock that was ahead.
SELECT seq, budget, limit_tokens, unit, threshold, rolling_ms FROM crossing
WHERE rolling_ms > 0 AND closed_ms IS NULL AND (at_ms + rolling_ms <= :now_ms OR at_ms > :now_ms);

-- name: close_crossing
-- A threshold of a rolling window may be told of again.
UPDATE crossing SET closed_ms = :at_ms WHERE seq = :seq;

-- name: cross
-- Put on record that a threshold was reached; in one window that is possible once.
INSERT INTO crossing (budget, limit_tokens, unit, threshold, rolling_ms, start_ms, end_ms, at_ms,
    input, output, cache_read, cache_write, entry, weights, notice)
VALUES (:budget, :limit, :unit, :threshold, :rolling_ms, :start_ms, :end_ms, :at_ms,
    :input, :output, :cache_read, :cache_write, (SELECT COALESCE(MAX(seq), 0) FROM entry), :weights, :notice);

-- name: carry_crossings
-- A block was found to have begun at another moment: what was told in it is not told again.
INSERT INTO crossing (budget, limit_tokens, unit, threshold, rolling_ms, start_ms, end_ms, at_ms,
    input, output, cache_read, cache_write, entry, weights)
SELECT budget, limit_tokens, unit, threshold, 0, :start_ms, :end_ms, at_ms, 0, 0, 0, 0, 0, '' FROM crossing
WHERE budget IN (:scope, :other) AND rolling_ms = 0 AND start_ms = :was_ms AND end_ms = :was_end_ms
ON CONFLICT DO NOTHING;
