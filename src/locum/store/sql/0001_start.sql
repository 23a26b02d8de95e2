-- Tasks and runs, the append-only ledger with its totals, the log of chain events, and notices.

CREATE TABLE task (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    chain         TEXT NOT NULL,
    cwd           TEXT NOT NULL,
    state         TEXT NOT NULL,
    created_ms    INTEGER NOT NULL,
    title         TEXT NOT NULL,
    ended_ms      INTEGER,
    reason        TEXT NOT NULL,
    reason_code   TEXT NOT NULL,
    said          TEXT NOT NULL,
    no_wait       INTEGER NOT NULL,
    shared_cwd    INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    cancel_asked  INTEGER NOT NULL
) STRICT;
CREATE INDEX task_waiting ON task (seq) WHERE state IN ('queued', 'running');
CREATE INDEX task_chain ON task (chain, seq);

-- Apart from the task, because prompts are large and have a shorter life.
CREATE TABLE prompt (
    task TEXT PRIMARY KEY REFERENCES task (id),
    body BLOB NOT NULL
) STRICT;

-- `told_*` is the agent's own total, to which the run's entries are reconciled.
CREATE TABLE run (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL UNIQUE,
    task             TEXT NOT NULL REFERENCES task (id),
    number           INTEGER NOT NULL,
    chain            TEXT NOT NULL,
    tier             TEXT NOT NULL,
    agent            TEXT NOT NULL,
    account          TEXT NOT NULL,
    model            TEXT,
    guard            TEXT NOT NULL,
    cwd              TEXT NOT NULL,
    state            TEXT NOT NULL,
    started_ms       INTEGER NOT NULL,
    ended_ms         INTEGER,
    exit             INTEGER,
    failure          TEXT,
    reason           TEXT NOT NULL,
    rule             TEXT NOT NULL,
    session          TEXT,
    said             TEXT NOT NULL,
    next             TEXT,
    wait_ms          INTEGER NOT NULL,
    lost_session     INTEGER NOT NULL,
    input            INTEGER NOT NULL,
    output           INTEGER NOT NULL,
    cache_read       INTEGER NOT NULL,
    cache_write      INTEGER NOT NULL,
    usage_known      INTEGER NOT NULL,
    told_input       INTEGER,
    told_output      INTEGER,
    told_cache_read  INTEGER,
    told_cache_write INTEGER,
    UNIQUE (task, number)
) STRICT;
CREATE INDEX run_open ON run (seq) WHERE state = 'running';
CREATE INDEX run_unknown ON run (started_ms) WHERE usage_known = 0;
CREATE UNIQUE INDEX run_one_at_a_time ON run (task) WHERE state = 'running';

-- What was spent, as differences: rows are only ever added.
CREATE TABLE entry (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    run         TEXT NOT NULL REFERENCES run (id),
    task        TEXT NOT NULL,
    chain       TEXT NOT NULL,
    tier        TEXT NOT NULL,
    account     TEXT NOT NULL,
    agent       TEXT NOT NULL,
    key         TEXT NOT NULL,
    model       TEXT,
    session     TEXT,
    at_ms       INTEGER NOT NULL,
    input       INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    cache_read  INTEGER NOT NULL,
    cache_write INTEGER NOT NULL
) STRICT;
CREATE INDEX entry_time ON entry (at_ms);
CREATE INDEX entry_chain ON entry (chain, at_ms);
CREATE INDEX entry_tier ON entry (tier, at_ms);
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;

-- The largest count seen of each thing counted: what makes a second reading harmless.
CREATE TABLE counted (
    agent       TEXT NOT NULL,
    key         TEXT NOT NULL,
    input       INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    cache_read  INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    PRIMARY KEY (agent, key)
) STRICT, WITHOUT ROWID;

-- The entries summed by scope and hour.
CREATE TABLE bucket (
    scope       TEXT NOT NULL,
    hour_ms     INTEGER NOT NULL,
    input       INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    cache_read  INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    PRIMARY KEY (scope, hour_ms)
) STRICT, WITHOUT ROWID;

-- Where each block of a block window began.
CREATE TABLE block (
    scope     TEXT NOT NULL,
    length_ms INTEGER NOT NULL,
    start_ms  INTEGER NOT NULL,
    PRIMARY KEY (scope, length_ms, start_ms)
) STRICT, WITHOUT ROWID;

-- Each crossing of a budget. `acted`: its hold stands or has run its course; 0: nothing was held, or it was lifted
-- by an edit. A rolling window has an open row (`closed_ms` null) while its sum is over the limit.
CREATE TABLE fired (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    budget       TEXT NOT NULL,
    limit_tokens INTEGER NOT NULL,
    rule         TEXT NOT NULL,
    rolling      INTEGER NOT NULL,
    window_ms    INTEGER NOT NULL,
    at_ms        INTEGER NOT NULL,
    until_ms     INTEGER,
    closed_ms    INTEGER,
    acted        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX fired_once ON fired (budget, limit_tokens, rule, window_ms) WHERE rolling = 0;
CREATE UNIQUE INDEX fired_episode ON fired (budget, limit_tokens, rule) WHERE rolling = 1 AND closed_ms IS NULL;

-- The log of the chains: rows are only ever added. `quiet`: a tier came back but something else still holds it.
CREATE TABLE event (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    chain   TEXT NOT NULL,
    kind    TEXT NOT NULL,
    at_ms   INTEGER NOT NULL,
    tier    TEXT,
    task    TEXT,
    failure TEXT,
    reason  TEXT NOT NULL,
    hold    TEXT,
    targets TEXT NOT NULL,
    active  TEXT,
    quiet   INTEGER NOT NULL
) STRICT;
CREATE INDEX event_chain ON event (chain, seq);
CREATE TRIGGER event_stays BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_kept BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;

-- The fold of the log, kept so that starting does not take longer every year.
CREATE TABLE board (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    body TEXT NOT NULL
) STRICT;

-- What people must hear of; `event` is the log row that caused it.
CREATE TABLE notice (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    severity TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    chain    TEXT,
    title    TEXT NOT NULL,
    message  TEXT NOT NULL,
    data     TEXT NOT NULL,
    event    INTEGER REFERENCES event (seq)
) STRICT;
CREATE INDEX notice_event ON notice (event);
