-- Notices get a name that no other ledger's have, and a place to look; crossings of thresholds are rows of their own.

-- Which ledger this is.
CREATE TABLE identity (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    mark TEXT NOT NULL
) STRICT;

-- `id` is null only within the commit that adds the row, or that first opens an older ledger.
ALTER TABLE notice ADD COLUMN id TEXT;
ALTER TABLE notice ADD COLUMN link TEXT NOT NULL DEFAULT '/';
UPDATE notice SET link = '/#chain/' || chain WHERE chain IS NOT NULL;
CREATE UNIQUE INDEX notice_id ON notice (id);
CREATE INDEX notice_time ON notice (at_ms);
CREATE TRIGGER notice_stays BEFORE UPDATE ON notice WHEN OLD.id IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'notices are never changed'); END;
CREATE TRIGGER notice_kept BEFORE DELETE ON notice BEGIN SELECT RAISE(ABORT, 'notices are never deleted'); END;

-- Each threshold that was reached, of a budget (in percent of its limit) or of a chain's or tier's plain count
-- (in tokens; `limit_tokens` is then the threshold too), in the window from `start_ms` to `end_ms` (null: it never
-- ends). `rolling_ms`: how long a rolling window is, else 0; such a row is open (`closed_ms` null) until the threshold
-- may be told of again. The token counts are what was used by then, `entry` the last entry that is in them, and
-- `weights` what each type weighed. `notice` null: it is on record so that nobody is told again.
CREATE TABLE crossing (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    budget       TEXT NOT NULL,
    limit_tokens INTEGER NOT NULL,
    unit         TEXT NOT NULL,
    threshold    INTEGER NOT NULL,
    rolling_ms   INTEGER NOT NULL,
    start_ms     INTEGER NOT NULL,
    end_ms       INTEGER,
    at_ms        INTEGER NOT NULL,
    closed_ms    INTEGER,
    input        INTEGER NOT NULL,
    output       INTEGER NOT NULL,
    cache_read   INTEGER NOT NULL,
    cache_write  INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    weights      TEXT NOT NULL,
    notice       INTEGER REFERENCES notice (seq)
) STRICT;
CREATE UNIQUE INDEX crossing_once ON crossing (budget, limit_tokens, unit, threshold, start_ms, COALESCE(end_ms, 0))
    WHERE rolling_ms = 0;
CREATE UNIQUE INDEX crossing_open ON crossing (budget, limit_tokens, unit, threshold, rolling_ms)
    WHERE rolling_ms > 0 AND closed_ms IS NULL;
CREATE UNIQUE INDEX crossing_notice ON crossing (notice) WHERE notice IS NOT NULL;

-- What has fired by now was told in the words of that time: it is not told again.
INSERT INTO crossing (budget, limit_tokens, unit, threshold, rolling_ms, start_ms, end_ms, at_ms,
    input, output, cache_read, cache_write, entry, weights)
SELECT budget, limit_tokens, 'percent', column1,
    CASE rolling WHEN 0 THEN 0 ELSE CAST(SUBSTR(rule, LENGTH('Rolling(length_ms=') + 1) AS INTEGER) END,
    window_ms, CASE rolling WHEN 0 THEN until_ms END, at_ms, 0, 0, 0, 0, 0, ''
FROM fired JOIN (VALUES (80), (90), (100)) WHERE closed_ms IS NULL
ON CONFLICT DO NOTHING;
