-- Usage of agents that people run themselves, what their runners have told, the command after each task, and stops.

-- Entries may now belong to no run; those of nobody's tier name neither chain nor tier.
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
    CHECK ((chain IS NULL) = (tier IS NULL) AND (tier IS NULL) = (account IS NULL))
) STRICT;
INSERT INTO entry_new SELECT seq, run, task, chain, tier, account, agent, key, model, session, at_ms,
    input, output, cache_read, cache_write FROM entry;
DROP TABLE entry;
ALTER TABLE entry_new RENAME TO entry;
CREATE INDEX entry_time ON entry (at_ms);
CREATE INDEX entry_chain ON entry (chain, at_ms);
CREATE INDEX entry_tier ON entry (tier, at_ms);
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;

-- What an outside runner has told of one piece of its work. Token counts are null where it told none.
CREATE TABLE report (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    agent       TEXT NOT NULL,
    id          TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    chain       TEXT,
    tier        TEXT,
    session     TEXT,
    model       TEXT,
    provider    TEXT,
    failure     TEXT,
    reason      TEXT NOT NULL,
    cost_micros INTEGER,
    input       INTEGER,
    output      INTEGER,
    cache_read  INTEGER,
    cache_write INTEGER,
    UNIQUE (agent, id)
) STRICT;

CREATE INDEX report_unknown ON report (at_ms) WHERE input IS NULL AND agent = 'report';

CREATE INDEX run_session ON run (session) WHERE session IS NOT NULL;

-- The operator's command after a task: `due` until it has been started, `running` until it has ended.
CREATE TABLE post_task (
    task     TEXT PRIMARY KEY REFERENCES task (id),
    state    TEXT NOT NULL,
    starts   INTEGER NOT NULL,
    due_ms   INTEGER NOT NULL,
    ended_ms INTEGER,
    exit     INTEGER,
    reason   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX post_task_open ON post_task (due_ms) WHERE state IN ('due', 'running');
CREATE INDEX post_task_ended ON post_task (ended_ms) WHERE state IN ('done', 'failed');

-- A run remembers that it was asked to stop: what its agent then ends with is nobody's fault, whoever reads it.
ALTER TABLE run ADD COLUMN stop_asked INTEGER NOT NULL DEFAULT 0;
