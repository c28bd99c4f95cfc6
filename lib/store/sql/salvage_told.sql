DELETE FROM salvage;
