INSERT INTO kv (bucket, key, uid, version, sum, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (bucket, key) DO UPDATE SET
        uid = excluded.uid, version = excluded.version, sum = excluded.sum, value = excluded.value;
