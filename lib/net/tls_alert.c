/* SPDX-License-Identifier: Apache-2.0 */
/* Alerts of TLS in words: what the peer did not like and what to look at. Pure; any thread. */
#include "net/tls_priv.h"

struct alert {
    int number;
    bool about_cert; /* of ours */
    const char *text;
};

static const struct alert alerts[] = {
    {10, false, "unexpected message"},
    {20, false, "bad record MAC: something between the two changes the bytes"},
    {22, false, "record overflow"},
    {40, false, "handshake failure: no cipher suite in common, or it wants a certificate of ours"},
    {42, true, "bad certificate: it does not accept ours"},
    {43, true, "unsupported certificate: ours is not for this use"},
    {44, true, "certificate revoked"},
    {45, true, "certificate expired: ours has, by its clock"},
    {46, true, "certificate unknown: it does not accept ours"},
    {47, false, "illegal parameter"},
    {48, true, "unknown CA: it does not trust who signed our certificate"},
    {49, true, "access denied"},
    {50, false, "decode error"},
    {51, false,
     "decrypt error: a signature did not hold, key and certificate may not belong together"},
    {70, false, "protocol version: it speaks no version of TLS from 1.2 on"},
    {71, false, "insufficient security: it wants stronger ciphers or keys"},
    {80, false, "internal error"},
    {86, false, "inappropriate fallback"},
    {90, false, "user canceled"},
    {109, false, "missing extension"},
    {110, false, "unsupported extension"},
    {112, false, "unrecognized name: it serves no host of this name"},
    {115, false, "unknown PSK identity"},
    {116, true, "certificate required: it wants a client certificate"},
    {120, false, "no application protocol"},
};

int kei_tls_alert_error(struct ke_error *err, int alert, bool own_cert)
{
    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++) {
        const struct alert *a = &alerts[i];
        if (a->number != alert)
            continue;
        return kei_error(err, a->about_cert ? KE_EREFUSED : KE_ETLS,
                         "the peer ended TLS with alert %d, %s%s", alert, a->text,
                         a->about_cert && !own_cert ? " (none was given)" : "");
    }
    return kei_error(err, KE_ETLS, "the peer ended TLS with alert %d", alert);
}
