/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded traffic of upstream against the metamanager: what upstream's edge asked is asked here,
 * what its cloud sent is sent here; then what is acknowledged and what is stored is compared with
 * what upstream's edge acknowledged and must have stored.
 */
#include "meta_rig.h"

#include "message/captures.h"
#include "message/msg_priv.h"

#define PAIRS 512

/* A request of the recording and the one that stands for it here. */
struct pair {
    char recorded[64], live[64];
};

struct replay {
    struct meta_rig r;
    struct capture c;
    struct pair pairs[PAIRS];
    uint32_t n_pairs;
    uint32_t pushed, asked, answered; /* so that a test that plays nothing is noticed */
};

static struct ke_msg *decode(struct replay *p, const struct capture_record *rec)
{
    struct ke_msg *m = NULL;

    if (ke_msg_decode(&m, p->r.env.ctx, rec->text.p, rec->text.n, kei_err(p->r.env.ctx)) < 0)
        fail_msg("%s/%s line %u: %s", p->c.version, p->c.name, rec->line,
                 ke_ctx_error(p->r.env.ctx));
    return m;
}

static bool is_request(const struct ke_msg *m)
{
    const char *op = ke_msg_operation(m);
    struct kei_resource res;

    if (strcmp(ke_msg_source(m), "edged") != 0 || strcmp(ke_msg_group(m), "meta") != 0 ||
        !kei_resource_parse(&res, kei_str(ke_msg_resource(m))))
        return false;
    /* reports have another form between our modules; they are not asked of the metamanager */
    return (strcmp(op, "query") == 0 || strcmp(op, "insert") == 0 || strcmp(op, "update") == 0) &&
           !kei_str_is(res.type, "nodestatus") && !kei_str_is(res.type, "podstatus");
}

static void play_request(struct replay *p, struct ke_msg *m)
{
    uint32_t before = p->r.cloud.n;
    struct pair *pair = &p->pairs[p->n_pairs];
    size_t n;

    meta_ask(&p->r, ke_msg_operation(m), ke_msg_resource(m), ke_msg_content(m, &n));
    p->asked++;
    for (uint32_t i = before; i < p->r.cloud.n; i++) {
        const struct ke_msg *up = p->r.cloud.m[i];

        if (strcmp(ke_msg_resource(up), ke_msg_resource(m)) != 0 ||
            strcmp(ke_msg_operation(up), ke_msg_operation(m)) != 0)
            continue;
        assert_true(p->n_pairs < PAIRS);
        snprintf(pair->recorded, sizeof pair->recorded, "%s", ke_msg_id(m));
        snprintf(pair->live, sizeof pair->live, "%s", ke_msg_id(up));
        p->n_pairs++;
        return;
    }
}

static const char *live_id(struct replay *p, const char *recorded)
{
    for (uint32_t i = 0; i < p->n_pairs; i++) {
        if (strcmp(p->pairs[i].recorded, recorded) == 0)
            return p->pairs[i].live;
    }
    return recorded; /* asked before the recording began, or not by us: comes late */
}

static void play_push(struct replay *p, struct ke_msg *m)
{
    size_t n;
    struct told t = {.id = ke_msg_id(m),
                     .rv = ke_msg_resource_version(m),
                     .source = ke_msg_source(m),
                     .group = ke_msg_group(m),
                     .operation = ke_msg_operation(m),
                     .resource = ke_msg_resource(m),
                     .content = ke_msg_content(m, &n),
                     .timestamp_ms = ke_msg_timestamp_ms(m)};

    if (*ke_msg_parent_id(m)) {
        t.parent = live_id(p, ke_msg_parent_id(m));
        p->answered += strcmp(t.parent, ke_msg_parent_id(m)) != 0;
    } else {
        p->pushed++;
    }
    meta_tell(&p->r, &t, NULL);
}

static bool is_for_meta(const struct ke_msg *m)
{
    return strcmp(ke_msg_group(m), "resource") == 0;
}

static void play(struct replay *p)
{
    for (size_t i = 0; i < p->c.n; i++) {
        const struct capture_record *rec = &p->c.r[i];
        struct ke_msg *m;

        if (strcmp(rec->kind, "ws-message") != 0 || strcmp(rec->listener, "ws") != 0)
            continue;
        m = decode(p, rec);
        if (strcmp(rec->dir, "e2c") == 0 && is_request(m))
            play_request(p, m);
        else if (strcmp(rec->dir, "c2e") == 0 && is_for_meta(m))
            play_push(p, m);
        ke_msg_unref(m);
    }
}

/* ---- comparing ---- */

/* Did upstream's edge acknowledge it? */
static bool upstream_acked(struct replay *p, const char *id, size_t from)
{
    for (size_t i = from; i < p->c.n; i++) {
        const struct capture_record *rec = &p->c.r[i];
        struct ke_msg *m;
        bool found;

        if (!capture_is(rec, "ws-message", "e2c") || strcmp(rec->listener, "ws") != 0)
            continue;
        m = decode(p, rec);
        found =
            strcmp(ke_msg_operation(m), "response") == 0 && strcmp(ke_msg_parent_id(m), id) == 0;
        ke_msg_unref(m);
        if (found)
            return true;
    }
    return false;
}

static void compare_acks(struct replay *p)
{
    for (size_t i = 0; i < p->c.n; i++) {
        const struct capture_record *rec = &p->c.r[i];
        struct ke_msg *m;
        uint32_t ours;
        bool theirs;

        if (!capture_is(rec, "ws-message", "c2e") || strcmp(rec->listener, "ws") != 0)
            continue;
        m = decode(p, rec);
        ours = meta_acks(&p->r, ke_msg_id(m));
        theirs = upstream_acked(p, ke_msg_id(m), i);
        if (is_for_meta(m) && ours != (theirs ? 1u : 0u) && i + 2 < p->c.n)
            fail_msg("%s/%s line %u, %s %s: acknowledged %u times here, %d by upstream",
                     p->c.version, p->c.name, rec->line, ke_msg_operation(m), ke_msg_resource(m),
                     ours, theirs);
        ke_msg_unref(m);
    }
}

/* The last word of the cloud on an object is what is stored, byte for byte. */
static void compare_rows(struct replay *p)
{
    for (size_t i = p->c.n; i-- > 0;) {
        const struct capture_record *rec = &p->c.r[i];
        struct kei_resource res;
        struct ke_msg *m;
        char bucket[256], key[512];
        bool last = true;
        size_t n;

        if (!capture_is(rec, "ws-message", "c2e") || strcmp(rec->listener, "ws") != 0)
            continue;
        m = decode(p, rec);
        if (!is_for_meta(m) || *ke_msg_parent_id(m) ||
            !kei_resource_parse(&res, kei_str(ke_msg_resource(m))) ||
            !(kei_str_is(res.type, "pod") || kei_str_is(res.type, "configmap") ||
              kei_str_is(res.type, "secret"))) {
            ke_msg_unref(m);
            continue;
        }
        for (size_t k = i + 1; k < p->c.n && last; k++) {
            struct ke_msg *later;
            struct kei_resource r2;

            if (!capture_is(&p->c.r[k], "ws-message", "c2e") ||
                strcmp(p->c.r[k].listener, "ws") != 0)
                continue;
            later = decode(p, &p->c.r[k]);
            /* a later change, or a later answer about it */
            last = !(kei_resource_parse(&r2, kei_str(ke_msg_resource(later))) &&
                     kei_str_eq(r2.name, res.name) && kei_str_eq(r2.ns, res.ns) &&
                     (kei_str_eq(r2.type, res.type) || kei_str_is(r2.type, "podpatch")));
            ke_msg_unref(later);
        }
        if (last) {
            snprintf(bucket, sizeof bucket, "o/%.*s", (int)res.type.n, res.type.p);
            snprintf(key, sizeof key, "%.*s/%.*s", (int)res.ns.n, res.ns.p, (int)res.name.n,
                     res.name.p);
            meta_row(&p->r, bucket, key);
            if (strcmp(ke_msg_operation(m), "delete") == 0)
                assert_int_equal(p->r.row_status, KE_ENOTFOUND);
            else if (p->r.row_status != 0 || strcmp(p->r.row, ke_msg_content(m, &n)) != 0)
                fail_msg("%s/%s line %u: %s was not stored as it came", p->c.version, p->c.name,
                         rec->line, ke_msg_resource(m));
        }
        ke_msg_unref(m);
    }
}

static void on_any_row(void *user, int status, const struct ke_store_item *item)
{
    bool *done = user;

    (void)status;
    if (!item) {
        *done = true;
        return;
    }
    if (strncmp(item->bucket, "o/", 2) == 0) {
        if (strstr(item->value, "\"ErrStatus\""))
            fail_msg("an error was stored as %s %s", item->bucket, item->key);
        if (strncmp(item->value, "{}", 3) == 0)
            fail_msg("an empty object was stored as %s %s", item->bucket, item->key);
    }
}

static void no_error_is_stored(struct replay *p)
{
    bool done = false;

    assert_int_equal(ke_store_list(p->r.store, NULL, NULL, 0, on_any_row, &done), 0);
    assert_true(test_drive(&p->r.env, test_true, &done));
}

static void replay_one(const char *version, const char *name)
{
    struct replay *p = calloc(1, sizeof *p);

    assert_non_null(p);
    meta_init(&p->r, false);
    p->r.dialect = strcmp(version, "kubeedge-1.4") == 0    ? KE_DIALECT_1_4
                   : strcmp(version, "kubeedge-1.15") == 0 ? KE_DIALECT_1_15
                                                           : KE_DIALECT_1_23;
    capture_load(&p->c, version, name);
    play(p);
    assert_true(p->pushed + p->asked > 0);
    compare_acks(p);
    compare_rows(p);
    no_error_is_stored(p);
    capture_free(&p->c);
    meta_fini(&p->r);
    free(p);
}

static void replay_1_15(void **state)
{
    static const char *const names[] = {
        "01-register",          "03-pod-create",       "04-configmap-update", "05-secret-update",
        "06-pod-update",        "08-container-crash",  "09-pod-delete",       "13-pod-error",
        "14-pod-force-delete",  "15-job-completed",    "16-configmap-delete", "42-edge-restart",
        "43-cloud-restart",     "44-cert-rotation",    "45-late-delete",      "46-node-delete",
        "47-after-node-delete", "50-apiserver-outage",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        replay_one("kubeedge-1.15", names[i]);
}

static void replay_1_4(void **state)
{
    static const char *const names[] = {
        "01-register",   "02-pod-create", "03-configmap-update", "04-secret-update", "05-service",
        "10-pod-delete", "11-restart",    "21-pod-run",          "22-pod-delete",    "23-kill",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        replay_one("kubeedge-1.4", names[i]);
}

static void replay_1_23(void **state)
{
    static const char *const names[] = {"01-register", "02-pod-create", "03-configmap-update",
                                        "06-pod-delete"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        replay_one("kubeedge-1.23", names[i]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_1_15),
        cmocka_unit_test(replay_1_4),
        cmocka_unit_test(replay_1_23),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
