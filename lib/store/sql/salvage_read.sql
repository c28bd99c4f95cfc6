SELECT saved, lost, text FROM salvage ORDER BY rowid DESC LIMIT 1;
