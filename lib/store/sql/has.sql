SELECT 1 FROM kv WHERE bucket = ?1 AND key = ?2;
