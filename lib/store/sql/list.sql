-- ?3 is the first key behind the range, or an empty blob, which is greater than any text.
SELECT bucket, key, uid, version, sum, value FROM kv
    WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key;
