-- Settings of every connection; what matters most is read back (db.c).
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA cell_size_check = ON;
PRAGMA trusted_schema = OFF;
-- Freed pages and cells are overwritten: a deleted Secret is gone, and salvage, which reads pages
-- wherever it finds them, cannot bring a deleted row back.
PRAGMA secure_delete = ON;
