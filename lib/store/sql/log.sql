-- Durable before acknowledged. The log is written back every MiB: a killed process is back after
-- reading that much. A log that a large transaction has blown up is cut afterwards.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 256;
PRAGMA journal_size_limit = 1048576;
