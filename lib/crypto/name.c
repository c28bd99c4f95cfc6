/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of X.509 names as text, in and out. Pure; loop thread. */
#include <openssl/err.h>

#include "crypto/crypto_priv.h"

/* What encoding/asn1 of Go puts into a PrintableString: ASN.1's set, thus without '*', '&', '_'. */
static bool printable(const char *s)
{
    for (; *s; s++) {
        bool ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                  (*s >= '0' && *s <= '9') || strchr(" '()+,-./:=?", *s);
        if (!ok)
            return false;
    }
    return true;
}

bool kei_name_add(X509_NAME *name, int nid, const char *value)
{
    int type = printable(value) ? V_ASN1_PRINTABLESTRING : V_ASN1_UTF8STRING;
    return X509_NAME_add_entry_by_NID(name, nid, type, (const unsigned char *)value, -1, -1, 0) ==
           1;
}

static int find(const X509_NAME *name, int nid, bool last)
{
    int at = -1, next = X509_NAME_get_index_by_NID(name, nid, -1);
    while (next >= 0) {
        at = next;
        if (!last)
            break;
        next = X509_NAME_get_index_by_NID(name, nid, at);
    }
    return at;
}

int kei_name_get(const X509_NAME *name, int nid, bool last, char out[256], const char *what,
                 struct ke_error *err)
{
    unsigned char *text = NULL;
    out[0] = '\0';
    int at = find(name, nid, last);
    if (at < 0)
        return 0;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (n < 0)
        return kei_ossl_error(err, KE_ECERT, "%s has a %s that is no text", what, OBJ_nid2sn(nid));
    int r = 0;
    if (n > 255)
        r = kei_error(err, KE_ECERT, "%s has a %s of %d bytes, the limit is 255", what,
                      OBJ_nid2sn(nid), n);
    else if (!kei_utf8_valid(kei_strn((const char *)text, (size_t)n)))
        r = kei_error(err, KE_ECERT, "%s has a %s that is not UTF-8 or holds a NUL", what,
                      OBJ_nid2sn(nid));
    else
        memcpy(out, text, (size_t)n), out[n] = '\0';
    OPENSSL_free(text);
    return r;
}
