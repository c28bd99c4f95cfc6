INSERT INTO salvage (saved, lost, text) VALUES (?1, ?2, ?3);
