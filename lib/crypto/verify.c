/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times of certificates and what a failed verification means in words. OpenSSL's own check of times
 * is off: it takes a time_t, which may be narrower in libcrypto than here. Pure; loop thread.
 */
#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <stdio.h>
#include <time.h>

#include "base/codec.h"
#include "crypto/crypto_priv.h"

#define DAY 86400

static bool time_text(char out[KEI_TIME_MAX], int64_t unix_s)
{
    bool known = unix_s >= -62135596800 && unix_s <= KEI_YEAR_9999; /* from year 1 */
    kei_time_rfc3339(out, known ? unix_s * 1000 : 0);
    return known;
}

bool kei_time_set(ASN1_TIME *t, int64_t unix_s)
{
    char iso[KEI_TIME_MAX], text[16];
    if (unix_s < 0 || unix_s > KEI_YEAR_9999)
        return false;
    time_text(iso, unix_s); /* 2026-11-22T08:18:48Z */
    snprintf(text, sizeof text, "%.4s%.2s%.2s%.2s%.2s%.2sZ", iso, iso + 5, iso + 8, iso + 11,
             iso + 14, iso + 17);
    return ASN1_TIME_set_string_X509(t, text) == 1;
}

bool kei_time_get(const ASN1_TIME *t, int64_t *ret_unix_s)
{
    struct tm tm;
    if (!ASN1_TIME_to_tm(t, &tm))
        return false;
    *ret_unix_s =
        kei_days_from_civil(tm.tm_year + 1900, (uint32_t)tm.tm_mon + 1, (uint32_t)tm.tm_mday) *
            DAY +
        tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec;
    return true;
}

void kei_verify_param(X509_VERIFY_PARAM *p)
{
    /* A CA that was given is trusted although something else may have signed it, as in Go. */
    X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
    /* Names are alternative names only; a CN is a name of a node, never of a host. */
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                           X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
}

int kei_verify_times(STACK_OF(X509) * chain, int64_t now, X509 **ret_bad)
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *x = sk_X509_value(chain, i);
        int64_t from, to;
        *ret_bad = x;
        if (!kei_time_get(X509_get0_notBefore(x), &from))
            return X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD;
        if (!kei_time_get(X509_get0_notAfter(x), &to))
            return X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD;
        if (now < from)
            return X509_V_ERR_CERT_NOT_YET_VALID;
        if (now > to)
            return X509_V_ERR_CERT_HAS_EXPIRED;
    }
    *ret_bad = NULL;
    return X509_V_OK;
}

/* ---- words ---- */

static void subject_text(const X509 *x, char *out, size_t n)
{
    char cn[256];
    if (!x || kei_name_get(X509_get_subject_name(x), NID_commonName, true, cn, "", NULL) < 0 ||
        cn[0] == '\0')
        snprintf(out, n, "the certificate");
    else
        snprintf(out, n, "the certificate of %s", cn);
}

/* "a.example, 10.0.0.1": the alternative names, as many as fit */
static void names_text(const X509 *x, char *out, size_t n)
{
    GENERAL_NAMES *names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
    size_t at = 0;
    snprintf(out, n, "no host name or address");
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        char one[128];
        if (g->type == GEN_DNS) {
            snprintf(one, sizeof one, "%.*s", ASN1_STRING_length(g->d.dNSName),
                     (const char *)ASN1_STRING_get0_data(g->d.dNSName));
        } else if (g->type == GEN_IPADD) {
            int family = ASN1_STRING_length(g->d.iPAddress) == 4 ? AF_INET : AF_INET6;
            int want = family == AF_INET ? 4 : 16;
            if (ASN1_STRING_length(g->d.iPAddress) != want ||
                !inet_ntop(family, ASN1_STRING_get0_data(g->d.iPAddress), one, sizeof one))
                continue;
        } else {
            continue;
        }
        int used = snprintf(out + at, n - at, "%s%s", at ? ", " : "", one);
        if (used < 0 || (size_t)used >= n - at)
            break;
        at += (size_t)used;
    }
    GENERAL_NAMES_free(names);
}

static int times_error(struct ke_error *err, int v, const X509 *bad, int64_t now, const char *who)
{
    char when[KEI_TIME_MAX], here[KEI_TIME_MAX];
    bool expired = v == X509_V_ERR_CERT_HAS_EXPIRED;
    int64_t t = 0;
    if (bad)
        kei_time_get(expired ? X509_get0_notAfter(bad) : X509_get0_notBefore(bad), &t);
    time_text(when, t);
    time_text(here, now);
    if (expired)
        return kei_error(err, KE_EEXPIRED, "%s expired at %s (it is %s here)", who, when, here);
    return kei_error(err, KE_ECERT,
                     "%s is not valid before %s, but it is %s here: is this clock, or that of who "
                     "made the certificate, right?",
                     who, when, here);
}

int kei_verify_error(struct ke_error *err, int v, const X509 *bad, int64_t now, const char *name)
{
    char who[300], names[300];
    subject_text(bad, who, sizeof who);
    switch (v) {
    case X509_V_ERR_OUT_OF_MEM:
        return kei_error(err, KE_ENOMEM, "out of memory while %s was verified", who);
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return times_error(err, v, bad, now, who);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        names_text(bad, names, sizeof names);
        return kei_error(err, KE_ECERT, "%s is for %s, not for %s", who, names, name ? name : "?");
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return kei_error(err, KE_ECERT, "%s is not signed by the CA that is trusted here", who);
    case X509_V_ERR_INVALID_PURPOSE:
        return kei_error(err, KE_ECERT, "%s may not be used for this (extended key usage)", who);
    default:
        return kei_error(err, KE_ECERT, "%s is not acceptable: %s", who,
                         X509_verify_cert_error_string(v));
    }
}
