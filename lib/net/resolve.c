/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getaddrinfo on the resolver thread. A request belongs to the loop; a cancelled one belongs to the
 * resolver until its lookup ends. run() touches nothing but its own request.
 */
#include "net/resolve.h"

#include <errno.h>
#include <netdb.h>

struct kei_resolve {
    struct ke_ctx *ctx;
    struct kei_work work;
    struct kei_defer later; /* literals */
    kei_resolve_fn fn;      /* NULL: cancelled */
    void *user;
    int gai, gai_errno;
    size_t n;
    uint16_t port;
    bool submitted;
    char host[256];
    struct kei_addr addrs[KEI_ADDRS_MAX];
};

static void add_result(struct kei_resolve *r, const struct addrinfo *ai)
{
    struct kei_addr *a = &r->addrs[r->n];

    if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
        return;
    if (ai->ai_addrlen > sizeof a->u)
        return;
    memset(a, 0, sizeof *a);
    memcpy(&a->u, ai->ai_addr, ai->ai_addrlen);
    a->len = ai->ai_addrlen;
    if (ai->ai_family == AF_INET)
        a->u.v4.sin_port = htons(r->port);
    else
        a->u.v6.sin6_port = htons(r->port);
    for (size_t i = 0; i < r->n; i++)
        if (kei_addr_eq(&r->addrs[i], a))
            return;
    r->n++;
}

static void lookup(struct kei_work *w)
{
    struct kei_resolve *r = KEI_OF(w, struct kei_resolve, work);
    struct addrinfo hints, *list = NULL;

    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    r->gai = getaddrinfo(r->host, NULL, &hints, &list);
    r->gai_errno = errno;
    if (r->gai != 0)
        return;
    for (struct addrinfo *ai = list; ai && r->n < KEI_ADDRS_MAX; ai = ai->ai_next)
        add_result(r, ai);
    freeaddrinfo(list);
}

static const char *reason(const struct kei_resolve *r)
{
    switch (r->gai) {
    case EAI_AGAIN:
        return "no name server answered; is there a network?";
    case EAI_SYSTEM:
        return "the system's resolver failed";
    case EAI_MEMORY:
        return "the system's resolver had no memory";
    case 0:
        return "the name has no IPv4 or IPv6 address";
    default:
        return "no such name";
    }
}

static void tell(struct kei_resolve *r)
{
    struct ke_error err = KE_ERROR_INIT;

    if (r->fn && r->n == 0) {
        int code = r->gai == EAI_MEMORY ? KE_ENOMEM : KE_ERESOLVE;
        if (r->gai == EAI_SYSTEM)
            kei_error_errno(&err, r->gai_errno, "host name \"%s\"" KEI_RESOLVE_FAILED ": %s", r->host,
                            reason(r));
        else
            kei_error(&err, code, "host name \"%s\"" KEI_RESOLVE_FAILED ": %s", r->host, reason(r));
        r->fn(r->user, code, err.text, NULL, 0);
    } else if (r->fn) {
        r->fn(r->user, 0, "", r->addrs, r->n);
    }
    kei_free(kei_ctx_alloc(r->ctx), r);
}

static void lookup_done(struct kei_work *w)
{
    tell(KEI_OF(w, struct kei_resolve, work));
}

static void literal_done(struct kei_defer *d)
{
    tell(KEI_OF(d, struct kei_resolve, later));
}

int kei_resolve_start(struct kei_resolve **ret, struct ke_ctx *ctx, const char *host, uint16_t port,
                      kei_resolve_fn fn, void *user)
{
    struct kei_addr literal;
    bool is_literal = kei_addr_literal(&literal, host, port);

    if (!is_literal && !kei_addr_name_ok(host))
        return kei_fail(ctx, KE_EINVAL, "\"%.100s\" is neither a host name nor an address", host);
    struct kei_resolve *r = kei_zalloc(kei_ctx_alloc(ctx), sizeof *r);
    if (!r)
        return kei_fail(ctx, KE_ENOMEM, "no memory to resolve \"%s\"", host);
    r->ctx = ctx;
    r->fn = fn;
    r->user = user;
    r->port = port;
    if (is_literal) {
        r->addrs[0] = literal;
        r->n = 1;
        kei_defer(ctx, &r->later, literal_done);
    } else {
        memcpy(r->host, host, strlen(host) + 1);
        int status = kei_resolver_submit(ctx, &r->work, lookup, lookup_done);
        if (status < 0) {
            kei_free(kei_ctx_alloc(ctx), r);
            return status;
        }
        r->submitted = true;
    }
    *ret = r;
    return 0;
}

void kei_resolve_cancel(struct kei_resolve *r)
{
    if (!r)
        return;
    r->fn = NULL;
    if (r->submitted)
        return;
    kei_defer_cancel(&r->later);
    kei_free(kei_ctx_alloc(r->ctx), r);
}
