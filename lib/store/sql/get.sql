SELECT bucket, key, uid, version, sum, value FROM kv WHERE bucket = ?1 AND key = ?2;
