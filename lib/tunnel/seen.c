/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of messages that were told or acknowledged. No memory of its own; pure. */
#include "tunnel/seen.h"

#include "crypto/crypto.h"

/* Peers choose ids, so a digest and not a checksum: no id can be made to hide another one. */
static void digest(struct ke_str id, uint8_t out[16])
{
    uint8_t full[32];

    kei_sha256(id.p, id.n, full);
    memcpy(out, full, 16);
}

static struct kei_seen_item *find(struct kei_seen *s, const uint8_t d[16])
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (memcmp(s->items[i].id, d, 16) == 0)
            return &s->items[i];
    }
    return NULL;
}

static struct kei_seen_item *add(struct kei_seen *s, const uint8_t d[16])
{
    struct kei_seen_item *it = &s->items[s->next];

    s->next = (s->next + 1) % KEI_SEEN_MAX;
    if (s->n < KEI_SEEN_MAX)
        s->n++;
    memcpy(it->id, d, 16);
    return it;
}

int kei_seen_check(struct kei_seen *s, struct ke_str id, int64_t now_ms)
{
    uint8_t d[16];
    struct kei_seen_item *it;

    if (id.n == 0)
        return KEI_SEEN_NEW;
    digest(id, d);
    it = find(s, d);
    if (it && it->told_ms == KEI_SEEN_IS_ACKED)
        return KEI_SEEN_ACKED;
    if (it && it->told_ms >= 0 && now_ms - it->told_ms < KEI_SEEN_WORK_MS)
        return KEI_SEEN_WORKING;
    if (!it)
        it = add(s, d);
    it->told_ms = now_ms < 0 ? 0 : now_ms;
    return KEI_SEEN_NEW;
}

void kei_seen_ack(struct kei_seen *s, struct ke_str id)
{
    uint8_t d[16];
    struct kei_seen_item *it;

    if (id.n == 0)
        return;
    digest(id, d);
    it = find(s, d);
    if (!it)
        it = add(s, d);
    it->told_ms = KEI_SEEN_IS_ACKED;
}

void kei_seen_forget(struct kei_seen *s, struct ke_str id)
{
    uint8_t d[16];
    struct kei_seen_item *it;

    if (id.n == 0)
        return;
    digest(id, d);
    it = find(s, d);
    if (it && it->told_ms != KEI_SEEN_IS_ACKED)
        it->told_ms = KEI_SEEN_IS_FORGOTTEN;
}
