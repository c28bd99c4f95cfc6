DELETE FROM kv WHERE bucket = ?1 AND key = ?2 AND (?3 = '' OR uid = ?3);
