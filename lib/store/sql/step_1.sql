-- Format 1. An ordinary table keeps values in its leaves only, so that large ones do not thin out
-- the inner pages, and a row that is replaced leaves the index alone. The index holds every key
-- once more: after damage it tells what is missing. sum covers all columns but id (sum.h).
CREATE TABLE kv (
    id INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    uid TEXT NOT NULL,
    version INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX kv_key ON kv (bucket, key);
-- What a salvage has to tell the host: there until it was told.
CREATE TABLE salvage (saved INTEGER NOT NULL, lost INTEGER NOT NULL, text TEXT NOT NULL);
