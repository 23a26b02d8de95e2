-- The entries summed by hour, chain, tier, account and model, for who looks at them: brought up to date then, not in
-- the commits that write them. '' is what is not known.
CREATE TABLE spent (
    hour_ms     INTEGER NOT NULL,
    chain       TEXT NOT NULL,
    tier        TEXT NOT NULL,
    account     TEXT NOT NULL,
    model       TEXT NOT NULL,
    input       INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    cache_read  INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    PRIMARY KEY (hour_ms, chain, tier, account, model)
) STRICT, WITHOUT ROWID;

-- The last entry that is in it.
CREATE TABLE spent_upto (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    entry INTEGER NOT NULL
) STRICT;
INSERT INTO spent_upto (id, entry) VALUES (1, 0);

-- What metrics count, without reading the rows themselves.
CREATE INDEX run_outcome ON run (chain, tier, agent, state, failure);
CREATE INDEX event_bumped ON event (chain, tier, failure) WHERE kind = 'bumped';
