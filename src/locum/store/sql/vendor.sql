-- name: save_vendor_window
-- Keep a reading, unless a later one is there.
INSERT INTO vendor_window (account, name, model, status, used, reset_ms, at_ms)
VALUES (:account, :name, :model, :status, :used, :reset_ms, :at_ms)
ON CONFLICT (account, name, model) DO UPDATE SET
    status = excluded.status, used = excluded.used, reset_ms = excluded.reset_ms,
    at_ms = excluded.at_ms
WHERE excluded.at_ms >= vendor_window.at_ms;

-- name: vendor_windows
-- The latest reading of each of an account's windows.
SELECT name, model, status, used, reset_ms, at_ms FROM vendor_window
WHERE account = :account ORDER BY name, model;
