-- Transcripts of sessions that nobody told of: which folders are read, and how far each file was.

-- An entry may now belong to an account alone: of a home that several tiers share it is known whose login pays, and
-- not for which tier.
CREATE TABLE entry_new (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    run         TEXT REFERENCES run (id),
    task        TEXT,
    chain       TEXT,
    tier        TEXT,
    account     TEXT,
    agent       TEXT NOT NULL,
    key         TEXT NOT NULL,
    model       TEXT,
    session     TEXT,
    at_ms       INTEGER NOT NULL,
    input       INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    cache_read  INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    CHECK ((run IS NULL) = (task IS NULL)),
    CHECK ((chain IS NULL) = (tier IS NULL) AND (tier IS NULL OR account IS NOT NULL))
) STRICT;
INSERT INTO entry_new SELECT seq, run, task, chain, tier, account, agent, key, model, session, at_ms,
    input, output, cache_read, cache_write FROM entry;
DROP TABLE entry;
ALTER TABLE entry_new RENAME TO entry;
CREATE INDEX entry_time ON entry (at_ms);
CREATE INDEX entry_chain ON entry (chain, at_ms);
CREATE INDEX entry_tier ON entry (tier, at_ms);
CREATE INDEX entry_session ON entry (session) WHERE run IS NULL;
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;

CREATE INDEX report_session ON report (session) WHERE session IS NOT NULL;

-- A folder that an agent keeps its transcripts in (a real path). Rows dated before `since_ms` are not counted: that
-- is when it was seen first, or how far back its history was imported.
CREATE TABLE source (
    agent    TEXT NOT NULL,
    folder   TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, folder)
) STRICT, WITHOUT ROWID;

-- How far a transcript (by its real path) was read: every row dated from `since_ms` on that begins before byte
-- `position` is counted, in the commit that wrote `position`. `device`, `inode` and `mark` (a digest of the bytes just
-- before it) tell whether the file is still that one, `size` and `mtime_ns` whether anything was added since.
-- `skipping`: `position` lies within a line that is too long, the rest of which is passed over. `session`, `message`
-- and `model` are what its rows have told so far and what later rows lean on.
CREATE TABLE transcript (
    path     TEXT NOT NULL PRIMARY KEY,
    agent    TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    device   INTEGER NOT NULL,
    inode    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    position INTEGER NOT NULL,
    mark     TEXT NOT NULL,
    skipping INTEGER NOT NULL,
    session  TEXT NOT NULL,
    message  TEXT NOT NULL,
    model    TEXT
) STRICT, WITHOUT ROWID;
