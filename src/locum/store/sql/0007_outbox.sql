-- The outbox: which channels there are, how far each has come along the notices, and what became of each message.

-- `guard` tells one configuration of the channel from another. What comes behind notice `cursor` has not been looked
-- at yet for this channel; `cursor_ms` is the moment of that notice. `failures` is how many attempts have failed in a
-- row, `failing_ms` since when. Nothing is sent before `quiet_ms`: the other side has asked for that. `disabled` is
-- why nothing is sent at all, until `guard` changes.
CREATE TABLE channel (
    name        TEXT NOT NULL PRIMARY KEY,
    guard       TEXT NOT NULL,
    cursor      INTEGER NOT NULL,
    cursor_ms   INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    failing_ms  INTEGER,
    quiet_ms    INTEGER NOT NULL,
    sent_ms     INTEGER,
    disabled    TEXT,
    disabled_ms INTEGER
) STRICT, WITHOUT ROWID;

-- One notice for one channel. `kind`, `chain` and `at_ms` are the notice's. `due_ms` is when it is tried next.
-- `until_ms`: it gathers others of its kind and chain until then, `count` in all with itself; theirs name it as `fold`.
CREATE TABLE delivery (
    channel  TEXT NOT NULL,
    notice   INTEGER NOT NULL REFERENCES notice (seq),
    kind     TEXT NOT NULL,
    chain    TEXT,
    at_ms    INTEGER NOT NULL,
    state    TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_ms INTEGER,
    due_ms   INTEGER NOT NULL,
    until_ms INTEGER,
    ended_ms INTEGER,
    count    INTEGER NOT NULL,
    fold     INTEGER,
    status   INTEGER,
    answer   TEXT NOT NULL,
    PRIMARY KEY (channel, notice)
) STRICT, WITHOUT ROWID;
-- Of all that was ever sent little is open: statements about that name its index, or they would read all the rest.
CREATE INDEX delivery_open ON delivery (channel, notice) WHERE state IN ('waiting', 'sending');
CREATE INDEX delivery_given_up ON delivery (channel, notice) WHERE state = 'given_up';
CREATE INDEX delivery_recent ON delivery (channel, kind, chain, at_ms) WHERE fold IS NULL;
CREATE INDEX delivery_notice ON delivery (notice);
CREATE INDEX delivery_fold ON delivery (channel, fold) WHERE fold IS NOT NULL;
