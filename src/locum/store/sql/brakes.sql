-- name: fired
-- Whether a budget has fired in this window.
SELECT seq, acted, until_ms FROM fired
WHERE budget = :budget AND limit_tokens = :limit AND rule = :rule AND rolling = 0 AND window_ms = :window_ms;

-- name: episode
-- The open episode of a rolling budget.
SELECT seq, acted, until_ms FROM fired
WHERE budget = :budget AND limit_tokens = :limit AND rule = :rule AND rolling = 1 AND closed_ms IS NULL;

-- name: fire
-- Remember that a budget has fired.
INSERT INTO fired (budget, limit_tokens, rule, rolling, window_ms, at_ms, until_ms, acted)
VALUES (:budget, :limit, :rule, :rolling, :window_ms, :at_ms, :until_ms, :acted);

-- name: mark_acted
-- Remember that a crossing now holds something.
UPDATE fired SET acted = 1 WHERE seq = :seq;

-- name: forget_acted
-- The holds of a budget were lifted by an edit: should it be over again, it acts again.
UPDATE fired SET acted = 0 WHERE budget = :budget;

-- name: move_episode
-- An episode is now expected to end at another time.
UPDATE fired SET until_ms = :until_ms WHERE seq = :seq;

-- name: close_episode
-- An episode is over.
UPDATE fired SET closed_ms = :at_ms WHERE seq = :seq;

-- name: open_episodes
-- All open episodes of rolling windows.
SELECT seq, budget, limit_tokens, rule FROM fired WHERE rolling = 1 AND closed_ms IS NULL;
