DELETE FROM kv WHERE bucket = ?1 AND key >= ?2 AND key < ?3;
