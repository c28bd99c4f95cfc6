SELECT bucket, key, uid, version, sum, value FROM kv
    WHERE (bucket, key) >= (?1, ?2) ORDER BY bucket, key;
