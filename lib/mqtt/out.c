/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes on their way to a client: a list of chunks from a pool of the server, some of which only
 * refer to the payload of a message. An idle connection has none. Loop thread.
 */
#include "mqtt/server.h"

static struct mq_chunk *chunk_new(struct ke_mqtt *m, size_t want)
{
    struct mq_chunk *k = m->chunks;
    size_t cap = want <= MQ_CHUNK ? MQ_CHUNK : want;

    if (cap == MQ_CHUNK && k) {
        m->chunks = k->next;
        m->n_chunks--;
    } else {
        k = kei_alloc(m->alloc, sizeof *k + cap);
        if (!k)
            return NULL;
        k->cap = (uint32_t)cap;
    }
    k->next = NULL;
    k->p = k->bytes;
    k->from = k->to = 0;
    k->msg = NULL;
    return k;
}

static void chunk_free(struct ke_mqtt *m, struct mq_chunk *k)
{
    mq_unref(k->msg);
    if (k->cap == MQ_CHUNK && m->n_chunks < MQ_CHUNKS_KEPT) {
        k->next = m->chunks;
        m->chunks = k;
        m->n_chunks++;
        return;
    }
    kei_free(m->alloc, k);
}

void kei_mq_chunks_free(struct ke_mqtt *m)
{
    while (m->chunks) {
        struct mq_chunk *k = m->chunks;
        m->chunks = k->next;
        kei_free(m->alloc, k);
    }
    m->n_chunks = 0;
}

static void append(struct mq_out *o, struct mq_chunk *k)
{
    if (o->tail)
        o->tail->next = k;
    else
        o->head = k;
    o->tail = k;
}

/* Room for n bytes in one piece; they count as written. */
uint8_t *kei_mq_out_room(struct ke_mqtt *m, struct mq_out *o, size_t n)
{
    struct mq_chunk *k = o->tail;

    if (!k || k->msg || k->cap - k->to < n) { /* what refers to a message has no room */
        k = chunk_new(m, n);
        if (!k)
            return NULL;
        append(o, k);
    }
    uint8_t *p = k->bytes + k->to;
    k->to += (uint32_t)n;
    o->n += n;
    m->st.output_bytes += n;
    return p;
}

bool kei_mq_out_add(struct ke_mqtt *m, struct mq_out *o, const void *p, size_t n)
{
    uint8_t *to = kei_mq_out_room(m, o, n);

    if (to)
        memcpy(to, p, n);
    return to != NULL;
}

bool kei_mq_out_share(struct ke_mqtt *m, struct mq_out *o, struct mq_msg *g, const uint8_t *p,
                      size_t n)
{
    struct mq_chunk *k = kei_alloc(m->alloc, sizeof *k);

    if (!k)
        return false;
    k->next = NULL;
    k->p = p;
    k->from = 0;
    k->to = (uint32_t)n;
    k->cap = 0;
    k->msg = mq_ref(g);
    append(o, k);
    o->n += n;
    m->st.output_bytes += n;
    return true;
}

void kei_mq_out_move(struct mq_out *to, struct mq_out *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->n += from->n;
    memset(from, 0, sizeof *from);
}

void kei_mq_out_drop(struct ke_mqtt *m, struct mq_out *o, size_t n)
{
    o->n -= n;
    m->st.output_bytes -= n;
    while (o->head) {
        struct mq_chunk *k = o->head;
        size_t have = k->to - k->from;
        if (n < have) {
            k->from += (uint32_t)n;
            return;
        }
        n -= have;
        o->head = k->next;
        if (!o->head)
            o->tail = NULL;
        chunk_free(m, k);
    }
}

void kei_mq_out_clear(struct ke_mqtt *m, struct mq_out *o)
{
    kei_mq_out_drop(m, o, o->n);
}
