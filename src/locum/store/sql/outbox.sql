-- name: last_notice
-- The row of the newest notice, null without one.
SELECT MAX(seq) FROM notice;

-- name: channels
-- Every channel and how it stands.
SELECT name, guard, cursor, cursor_ms, failures, failing_ms, quiet_ms, sent_ms, disabled, disabled_ms FROM channel
ORDER BY name;

-- name: channel
-- One channel and how it stands.
SELECT name, guard, cursor, cursor_ms, failures, failing_ms, quiet_ms, sent_ms, disabled, disabled_ms FROM channel
WHERE name = :name;

-- name: add_channel
-- A channel hears of what is told from now on.
INSERT INTO channel (name, guard, cursor, cursor_ms, failures, quiet_ms)
VALUES (:name, :guard, :cursor, :now_ms, 0, 0);

-- name: mend_channel
-- Its entry is another one now: whatever was wrong with it is forgotten.
UPDATE channel SET guard = :guard, failures = 0, failing_ms = NULL, quiet_ms = 0, disabled = NULL, disabled_ms = NULL
WHERE name = :name;

-- name: hurry_deliveries
-- Whatever was tried in vain through a channel is due at once.
UPDATE delivery INDEXED BY delivery_open SET due_ms = :now_ms
WHERE channel = :channel AND state = 'waiting' AND state IN ('waiting', 'sending') AND attempts > 0;

-- name: drop_channel
-- It is not in service.json any more.
DELETE FROM channel WHERE name = :name;

-- name: drop_deliveries
-- What waits for a channel that is gone is not sent.
UPDATE delivery INDEXED BY delivery_open SET state = 'dropped', ended_ms = :now_ms
WHERE channel = :channel AND state IN ('waiting', 'sending');

-- name: move_cursor
-- How far a channel has come.
UPDATE channel SET cursor = :cursor, cursor_ms = :cursor_ms WHERE name = :name;

-- name: open_deliveries
-- What a channel has yet to send, oldest first; what gathers others included.
SELECT notice, attempts, due_ms, until_ms, count FROM delivery INDEXED BY delivery_open
WHERE channel = :channel AND state IN ('waiting', 'sending') ORDER BY notice;

-- name: laid_out
-- How many messages a channel has yet to send, without those that gather others.
SELECT COUNT(*) FROM delivery INDEXED BY delivery_open
WHERE channel = :channel AND state IN ('waiting', 'sending') AND until_ms IS NULL;

-- name: told_lately
-- How many of a kind and chain go through a channel one by one, around a moment.
SELECT COUNT(*) FROM delivery
WHERE channel = :channel AND kind = :kind AND chain IS :chain AND at_ms BETWEEN :from_ms AND :to_ms
AND fold IS NULL AND until_ms IS NULL;

-- name: gathering
-- The message that gathers what is like this and of this moment.
SELECT notice FROM delivery
WHERE channel = :channel AND kind = :kind AND chain IS :chain AND at_ms BETWEEN :from_ms AND :at_ms
AND fold IS NULL AND until_ms > :at_ms AND state = 'waiting' AND attempts = 0 ORDER BY notice DESC LIMIT 1;

-- name: add_delivery
-- A notice is to go through a channel.
INSERT INTO delivery (channel, notice, kind, chain, at_ms, state, attempts, due_ms, until_ms, count, fold, answer)
VALUES (:channel, :notice, :kind, :chain, :at_ms, :state, 0, :due_ms, :until_ms, 1, :fold, '');

-- name: gather
-- One more is told in a message.
UPDATE delivery SET count = count + 1 WHERE channel = :channel AND notice = :notice;

-- name: folded_titles
-- What a message has gathered, oldest first.
SELECT title FROM delivery JOIN notice ON notice.seq = delivery.notice
WHERE channel = :channel AND fold = :notice ORDER BY delivery.notice LIMIT :limit;

-- name: claim_delivery
-- An attempt begins.
UPDATE delivery SET state = 'sending', attempts = attempts + 1, first_ms = COALESCE(first_ms, :now_ms)
WHERE channel = :channel AND notice = :notice AND state IN ('waiting', 'sending');

-- name: end_delivery
-- How an attempt ended.
UPDATE delivery SET state = :state, due_ms = :due_ms, ended_ms = :ended_ms, status = :status, answer = :answer
WHERE channel = :channel AND notice = :notice AND state = 'sending';

-- name: channel_works
-- Something has got through.
UPDATE channel SET failures = 0, failing_ms = NULL, quiet_ms = 0, sent_ms = :now_ms WHERE name = :name;

-- name: channel_fails
-- Something has not got through.
UPDATE channel SET failures = failures + 1, failing_ms = COALESCE(failing_ms, :now_ms), quiet_ms = :quiet_ms
WHERE name = :name;

-- name: disable_channel
-- It wants no more.
UPDATE channel SET disabled = :why, disabled_ms = :now_ms WHERE name = :name;

-- name: delivery
-- One notice for one channel.
SELECT first_ms FROM delivery WHERE channel = :channel AND notice = :notice;

-- name: deliveries_of
-- One notice for every channel.
SELECT channel, notice, state, attempts, first_ms, due_ms, ended_ms, count,
    (SELECT id FROM notice WHERE notice.seq = fold), status, answer FROM delivery
WHERE notice = :notice ORDER BY channel;

-- name: replay_delivery
-- It is sent again, as if it had never been tried.
UPDATE delivery SET state = 'waiting', attempts = 0, first_ms = NULL, due_ms = :now_ms, until_ms = NULL,
    ended_ms = NULL, fold = NULL
WHERE channel = :channel AND notice = :notice AND state <> 'sending';

-- name: replay_given_up
-- Whatever a channel was not told is sent again.
UPDATE delivery INDEXED BY delivery_given_up SET state = 'waiting', attempts = 0, first_ms = NULL, due_ms = :now_ms, ended_ms = NULL
WHERE channel = :channel AND state = 'given_up';

-- name: waiting_deliveries
-- How many messages of a channel wait, and the moment of the oldest one's notice.
SELECT COUNT(*), MIN(at_ms) FROM delivery INDEXED BY delivery_open WHERE channel = :channel AND state IN ('waiting', 'sending');

-- name: unseen_notices
-- How many notices a channel has not looked at, and the moment of the first.
SELECT COUNT(*), MIN(at_ms) FROM notice WHERE seq > :cursor;

-- name: given_up_deliveries
-- How many messages of a channel were given up.
SELECT COUNT(*) FROM delivery WHERE channel = :channel AND state = 'given_up';

-- name: alerts
-- The newest notices first, below a row; only those that were not delivered everywhere, or of a kind or chain.
SELECT seq, kind, severity, at_ms, chain, title, message, data, link, id FROM notice
WHERE seq < :before AND (:kind IS NULL OR kind = :kind) AND (:chain IS NULL OR chain = :chain)
AND (NOT :failed OR seq IN (
    SELECT notice FROM delivery INDEXED BY delivery_given_up WHERE state = 'given_up'
    UNION SELECT notice FROM delivery INDEXED BY delivery_open WHERE state IN ('waiting', 'sending') AND attempts > 0
))
ORDER BY seq DESC LIMIT :limit;
