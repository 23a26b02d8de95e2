-- name: add_source
-- A folder is seen for the first time: what lies there already is not counted.
INSERT INTO source (agent, folder, since_ms) VALUES (:agent, :folder, :since_ms) ON CONFLICT (agent, folder) DO NOTHING;

-- name: reach_back
-- From when on a folder's rows are counted: only ever further back.
INSERT INTO source (agent, folder, since_ms) VALUES (:agent, :folder, :since_ms)
ON CONFLICT (agent, folder) DO UPDATE SET since_ms = MIN(since_ms, excluded.since_ms);

-- name: source
-- From when on a folder's rows are counted.
SELECT since_ms FROM source WHERE agent = :agent AND folder = :folder;

-- name: sources
-- Every folder that was ever watched or imported.
SELECT agent, folder, since_ms FROM source ORDER BY agent, folder;

-- name: transcripts
-- How far the transcripts below a folder were read; `above` is the folder with a slash, `behind` the text after all
-- that begin with it.
SELECT path, agent, since_ms, device, inode, size, mtime_ns, position, mark, skipping, session, message, model
FROM transcript WHERE agent = :agent AND path > :above AND path < :behind;

-- name: save_transcript
-- How far one transcript was read.
INSERT INTO transcript
    (path, agent, since_ms, device, inode, size, mtime_ns, position, mark, skipping, session, message, model)
VALUES
    (:path, :agent, :since_ms, :device, :inode, :size, :mtime_ns, :position, :mark, :skipping, :session, :message,
     :model)
ON CONFLICT (path) DO UPDATE SET
    agent = excluded.agent, since_ms = excluded.since_ms, device = excluded.device, inode = excluded.inode,
    size = excluded.size, mtime_ns = excluded.mtime_ns, position = excluded.position, mark = excluded.mark,
    skipping = excluded.skipping, session = excluded.session, message = excluded.message, model = excluded.model;

-- name: forget_transcript
-- A transcript is gone.
DELETE FROM transcript WHERE path = :path;

-- name: session_runs
-- The runs that had a session, and from when to when; in progress, they have not ended.
SELECT id, started_ms, ended_ms FROM run WHERE session = :session ORDER BY started_ms DESC, seq DESC;

-- name: outside_entries
-- What was counted of a session from a moment on as nobody's run.
SELECT key, chain, tier, account, model, at_ms, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write)
FROM entry WHERE session = :session AND run IS NULL AND agent = :agent AND at_ms >= :since_ms
GROUP BY key, chain, tier, account, model, at_ms
HAVING SUM(input) <> 0 OR SUM(output) <> 0 OR SUM(cache_read) <> 0 OR SUM(cache_write) <> 0;
