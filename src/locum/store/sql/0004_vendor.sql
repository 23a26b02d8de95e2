-- What vendors say of their own windows: the latest reading of each. `model` '' is all models.
CREATE TABLE vendor_window (
    account   TEXT NOT NULL,
    name      TEXT NOT NULL,
    model     TEXT NOT NULL,
    status    TEXT NOT NULL,
    used      REAL,
    reset_ms  INTEGER,
    at_ms     INTEGER NOT NULL,
    PRIMARY KEY (account, name, model)
) STRICT, WITHOUT ROWID;
