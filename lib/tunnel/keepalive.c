/* SPDX-License-Identifier: Apache-2.0 */
/* The keepalive message. No memory of its own; pure. */
#include "tunnel/keepalive.h"

#include <kubeedge/msg.h>

#define ID_LEN 36u
#define TIME_LEN 13u /* until the year 2286 */
#define TIME_MAX UINT64_C(9999999999999)

static void add(struct kei_keepalive *k, const char *s)
{
    size_t n = strlen(s);

    memcpy(k->text + k->n, s, n);
    k->n += (uint32_t)n;
}

static void pad(struct kei_keepalive *k, char c, uint32_t n)
{
    memset(k->text + k->n, c, n);
    k->n += n;
}

void kei_keepalive_init(struct kei_keepalive *k, uint32_t dialect)
{
    bool every_key = dialect == KE_DIALECT_1_4;

    k->n = 0;
    add(k, "{\"header\":{\"msg_id\":\"");
    k->id_at = k->n;
    pad(k, '0', ID_LEN);
    add(k, every_key ? "\",\"parent_msg_id\":\"\",\"timestamp\":" : "\",\"timestamp\":");
    k->time_at = k->n;
    pad(k, ' ', TIME_LEN);
    /* Clouds of 1.4 keep the value of the message before where a key is missing. */
    if (every_key)
        add(k, ",\"resourceversion\":\"\",\"sync\":false");
    add(k,
        "},\"route\":{\"source\":\"websocket\",\"group\":\"resource\",\"operation\":\"keepalive\","
        "\"resource\":\"node\"},\"content\":\"ping\"}\n");
}

struct ke_str kei_keepalive_make(struct kei_keepalive *k, const char *uuid, int64_t unix_ms)
{
    char digits[TIME_LEN];
    uint32_t n = 0;
    uint64_t v = unix_ms > 0 ? (uint64_t)unix_ms : 0;

    if (v > TIME_MAX)
        v = TIME_MAX; /* a clock that is wrong; nobody computes with this time */
    memcpy(k->text + k->id_at, uuid, ID_LEN);
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    /* White space before a number is JSON too: its length does not move what follows. */
    memset(k->text + k->time_at, ' ', TIME_LEN);
    for (uint32_t i = 0; i < n; i++)
        k->text[k->time_at + TIME_LEN - 1 - i] = digits[i];
    return (struct ke_str){k->text, k->n};
}
