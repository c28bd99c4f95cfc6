/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity unit: text form, files, and that after a power cut at any write the key and the
 * certificate belong together and nothing that was acknowledged is lost. KE_POWERCUT_IMAGES scales
 * the number of images.
 */
#include <sys/stat.h>

#include "crypto/crypto.h"
#include "sim/powercut_io.h"
#include "support/support.h"
#include "tunnel/identity.h"

#define NODE "edge-1"
#define UNITS 4

/* Some units of one CA, as text, and what they hold. */
struct units {
    struct test_env env;
    struct kei_crypto *crypto;
    struct ke_buf text[UNITS];
    uint8_t sha[UNITS][32];
};

static void make_unit(struct units *u, const struct kei_key *ca_key, const struct kei_cert *ca,
                      uint32_t i)
{
    struct kei_identity id = {0};
    struct ke_buf csr;
    int64_t now = ke_ctx_real_ms(u->env.ctx) / 1000;

    kei_buf_init(&csr, kei_ctx_alloc(u->env.ctx));
    assert_int_equal(kei_key_new_p256(&id.key, u->crypto, NULL), 0);
    assert_int_equal(kei_csr_make(&csr, id.key, "system:nodes", "system:node:" NODE, NULL), 0);
    assert_int_equal(
        kei_ca_sign_csr(&id.cert, ca, ca_key, kei_buf_str(&csr), NULL, 0, now, 86400, NULL), 0);
    assert_int_equal(kei_cert_info(id.cert, &id.info, NULL), 0);
    memcpy(u->sha[i], id.info.sha256, 32);
    ke_buf_free(&csr);
    csr = (struct ke_buf){0};
    kei_buf_init(&csr, kei_ctx_alloc(u->env.ctx));
    assert_int_equal(kei_cert_der(ca, &csr, NULL), 0);
    assert_int_equal(kei_cert_from_der(&id.ca, u->crypto, kei_buf_str(&csr), NULL), 0);
    ke_buf_free(&csr);
    kei_buf_init(&u->text[i], kei_ctx_alloc(u->env.ctx));
    assert_int_equal(kei_identity_format(&u->text[i], &id, true, NULL), 0);
    kei_identity_clear(&id);
}

static void units_init(struct units *u)
{
    struct kei_key *ca_key = NULL;
    struct kei_cert *ca = NULL;

    memset(u, 0, sizeof *u);
    test_env_init(&u->env, 0);
    assert_int_equal(kei_crypto_get(u->env.ctx, &u->crypto), 0);
    assert_int_equal(kei_key_new_p256(&ca_key, u->crypto, NULL), 0);
    assert_int_equal(kei_ca_make(&ca, ca_key, 1796083200, NULL), 0);
    for (uint32_t i = 0; i < UNITS; i++)
        make_unit(u, ca_key, ca, i);
    kei_cert_free(ca);
    kei_key_free(ca_key);
}

static void units_fini(struct units *u)
{
    for (uint32_t i = 0; i < UNITS; i++)
        kei_buf_wipe(&u->text[i]);
    test_env_fini(&u->env);
}

static int parse(struct units *u, struct kei_identity *id, const char *text)
{
    return kei_identity_parse(id, u->crypto, kei_str(text), NULL, NULL);
}

/* ---- text ---- */

static void text_there_and_back(void **state)
{
    struct units u;
    struct kei_identity id = {0};
    struct ke_buf again;

    (void)state;
    units_init(&u);
    assert_int_equal(parse(&u, &id, u.text[0].p), 0);
    assert_true(kei_identity_whole(&id));
    assert_non_null(id.key);
    assert_memory_equal(id.info.sha256, u.sha[0], 32);
    assert_true(kei_identity_is_for(&id, NODE));
    assert_false(kei_identity_is_for(&id, "edge-10"));
    assert_false(kei_identity_is_for(&id, "edge-"));
    assert_false(kei_identity_is_for(&id, ""));
    kei_buf_init(&again, kei_ctx_alloc(u.env.ctx));
    assert_int_equal(kei_identity_format(&again, &id, true, NULL), 0);
    assert_string_equal(again.p, u.text[0].p);
    assert_non_null(strstr(again.p, "-----BEGIN EC PRIVATE KEY-----"));
    kei_buf_wipe(&again);
    kei_identity_clear(&id);
    units_fini(&u);
}

/* A unit that cannot be used is refused as a whole, and what was held stays. */
static void broken_text(void **state)
{
    struct units u;
    struct kei_identity id = {0};
    struct ke_buf mixed;
    const char *key_end, *other_cert;

    (void)state;
    units_init(&u);
    assert_int_equal(parse(&u, &id, u.text[0].p), 0);
    for (size_t n = 0; n < u.text[1].n - 1; n += 7) {
        char *cut = strndup(u.text[1].p, n);

        assert_true(parse(&u, &id, cut) < 0);
        assert_memory_equal(id.info.sha256, u.sha[0], 32);
        free(cut);
    }
    /* the key of one with the certificate of another */
    key_end = strstr(u.text[1].p, "-----BEGIN CERT");
    other_cert = strstr(u.text[2].p, "-----BEGIN CERT");
    kei_buf_init(&mixed, kei_ctx_alloc(u.env.ctx));
    kei_buf_add(&mixed, u.text[1].p, (size_t)(key_end - u.text[1].p));
    kei_buf_adds(&mixed, other_cert);
    assert_int_equal(parse(&u, &id, mixed.p), KE_EKEY);
    assert_memory_equal(id.info.sha256, u.sha[0], 32);
    /* without a key, unless the host has it */
    assert_int_equal(parse(&u, &id, other_cert), KE_EPARSE);
    kei_buf_wipe(&mixed);
    kei_identity_clear(&id);
    units_fini(&u);
}

/* ---- files ---- */

static void read_unit(struct units *u, const struct ke_io *io, const char *name,
                      struct kei_identity *id)
{
    struct ke_buf text;

    kei_identity_clear(id);
    kei_buf_init(&text, kei_ctx_alloc(u->env.ctx));
    assert_true(kei_identity_read(io, "/node", name, &text, NULL) >= 0);
    if (text.n > 0)
        assert_int_equal(
            kei_identity_parse(id, u->crypto, kei_buf_str(&text), NULL, kei_err(u->env.ctx)), 0);
    kei_buf_wipe(&text);
}

static int which(const struct units *u, const struct kei_identity *id)
{
    if (!kei_identity_whole(id))
        return -1;
    for (int i = 0; i < UNITS; i++) {
        if (memcmp(u->sha[i], id->info.sha256, 32) == 0)
            return i;
    }
    fail_msg("a unit that was never made");
    return -2;
}

static int file_is(struct units *u, const struct ke_io *io, const char *name)
{
    struct kei_identity id = {0};
    int w;

    read_unit(u, io, name, &id);
    w = which(u, &id);
    kei_identity_clear(&id);
    return w;
}

static int store(struct units *u, const struct ke_io *io, uint32_t i)
{
    return kei_identity_store(io, kei_ctx_alloc(u->env.ctx), "/node", kei_buf_str(&u->text[i]),
                              kei_err(u->env.ctx));
}

static void previous_is_kept_until_proven(void **state)
{
    struct units u;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);
    const struct ke_alloc *a;

    (void)state;
    units_init(&u);
    a = kei_ctx_alloc(u.env.ctx);
    assert_int_equal(file_is(&u, io, "current.pem"), -1);
    assert_int_equal(store(&u, io, 0), 0);
    assert_int_equal(file_is(&u, io, "current.pem"), 0);
    assert_int_equal(file_is(&u, io, "previous.pem"), -1);
    assert_int_equal(store(&u, io, 1), 0);
    assert_int_equal(file_is(&u, io, "current.pem"), 1);
    assert_int_equal(file_is(&u, io, "previous.pem"), 0);
    /* 1 never proved itself: 0 stays */
    assert_int_equal(store(&u, io, 2), 0);
    assert_int_equal(file_is(&u, io, "current.pem"), 2);
    assert_int_equal(file_is(&u, io, "previous.pem"), 0);
    assert_int_equal(kei_identity_proven(io, "/node", NULL), 0);
    assert_int_equal(kei_identity_proven(io, "/node", NULL), 0);
    assert_int_equal(file_is(&u, io, "previous.pem"), -1);
    assert_int_equal(store(&u, io, 3), 0);
    assert_int_equal(kei_identity_go_back(io, a, "/node", NULL), 0);
    assert_int_equal(file_is(&u, io, "current.pem"), 2);
    assert_int_equal(file_is(&u, io, "previous.pem"), -1);
    assert_int_equal(kei_identity_go_back(io, a, "/node", NULL), 0); /* nothing to go back to */
    assert_int_equal(file_is(&u, io, "current.pem"), 2);
    powercut_free(p);
    units_fini(&u);
}

static void keys_are_for_the_owner_only(void **state)
{
    struct units u;
    char dir[128], path[256];
    struct stat st;

    (void)state;
    units_init(&u);
    test_tmp_make(dir, sizeof dir);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(kei_identity_store(ke_io_posix(), kei_ctx_alloc(u.env.ctx), dir,
                                            kei_buf_str(&u.text[i]), NULL),
                         0);
    snprintf(path, sizeof path, "%s/identity", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/identity/current.pem", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(path, sizeof path, "%s/identity/previous.pem", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    test_tmp_remove(dir);
    units_fini(&u);
}

/* ---- power cuts ---- */

#define STEPS_MAX 16
struct script {
    size_t pos[STEPS_MAX];                       /* of the disk after each step was acknowledged */
    int current[STEPS_MAX], previous[STEPS_MAX]; /* what is there then */
    /* what may be there besides while the step is under way; -3: nothing else */
    int mid_current[STEPS_MAX], mid_previous[STEPS_MAX];
    uint32_t n;
};

#define NONE (-1)
#define DAMAGED (-2)
#define NO_MID (-3)

/* A step that was acknowledged. */
static void note(struct script *s, struct powercut *p, int current, int previous, int mid_current,
                 int mid_previous)
{
    assert_true(s->n < STEPS_MAX);
    s->pos[s->n] = powercut_pos(p);
    s->current[s->n] = current;
    s->previous[s->n] = previous;
    s->mid_current[s->n] = mid_current;
    s->mid_previous[s->n] = mid_previous;
    s->n++;
}

/* Two rotations, one of them refused by the cloud, and what is proven in between. */
static void play(struct units *u, struct powercut *p, struct script *s)
{
    const struct ke_io *io = powercut_io(p);

    s->n = 0;
    note(s, p, NONE, NONE, NO_MID, NO_MID);
    assert_int_equal(store(u, io, 0), 0);
    note(s, p, 0, NONE, NO_MID, NO_MID);
    assert_int_equal(kei_identity_proven(io, "/node", NULL), 0);
    note(s, p, 0, NONE, NO_MID, NO_MID);
    assert_int_equal(store(u, io, 1), 0);
    note(s, p, 1, 0, 0, 0);
    assert_int_equal(kei_identity_proven(io, "/node", NULL), 0);
    note(s, p, 1, NONE, NO_MID, NO_MID);
    assert_int_equal(store(u, io, 2), 0);
    note(s, p, 2, 1, 1, 1);
    assert_int_equal(kei_identity_go_back(io, kei_ctx_alloc(u->env.ctx), "/node", NULL), 0);
    note(s, p, 1, NONE, 1, 1);
    assert_int_equal(store(u, io, 3), 0);
    note(s, p, 3, 1, 1, 1);
}

/* What a node finds after a cut: a whole unit that was stored, or NONE, or DAMAGED. */
static int find(const struct units *u, const struct ke_io *io, const char *name)
{
    struct ke_buf text;
    int w = DAMAGED;

    kei_buf_init(&text, NULL);
    if (kei_identity_read(io, "/node", name, &text, NULL) == 0)
        w = text.n == 0 ? NONE : DAMAGED;
    for (int i = 0; i < UNITS && text.n > 0; i++) {
        if (kei_str_eq(kei_buf_str(&text), kei_buf_str(&u->text[i])))
            w = i;
    }
    ke_buf_free(&text);
    return w;
}

/* Is this image one that the steps around it allow? */
static bool holds(struct units *u, const struct script *s, struct powercut *image, size_t pos)
{
    const struct ke_io *io = powercut_io(image);
    uint32_t last = 0, next;
    int current = find(u, io, "current.pem"), previous = find(u, io, "previous.pem");

    while (last + 1 < s->n && s->pos[last + 1] <= pos)
        last++;
    if (current == s->current[last] && previous == s->previous[last])
        return true;
    if (s->pos[last] == pos)
        return false; /* what was acknowledged is there */
    next = last + 1;
    return (current == s->current[next] && previous == s->previous[next]) ||
           (current == s->mid_current[next] && previous == s->mid_previous[next]);
}

static uint64_t images_wanted(void)
{
    const char *s = getenv("KE_POWERCUT_IMAGES");

    return s ? strtoull(s, NULL, 10) : 10000;
}

/* Number of images that do not hold. */
static uint64_t try_images(struct units *u, struct powercut *p, const struct script *s, uint64_t n)
{
    size_t end = powercut_pos(p);
    uint64_t bad = 0, seed = 20261122;

    for (uint64_t i = 0; i < n; i++) {
        /* every position, then again with other seeds */
        size_t pos = (size_t)(i % (end + 1));
        struct powercut *image = powercut_image(p, pos, i < end + 1 ? i : powercut_random(&seed));

        bad += !holds(u, s, image, pos);
        powercut_free(image);
    }
    return bad;
}

static void power_cuts(void **state)
{
    struct units u;
    struct script s;
    struct powercut *p = powercut_new();

    (void)state;
    units_init(&u);
    play(&u, p, &s);
    assert_int_equal(try_images(&u, p, &s, images_wanted()), 0);
    print_message("count: %llu power cuts of the identity\n", (unsigned long long)images_wanted());
    powercut_free(p);
    units_fini(&u);
}

struct dropping {
    uint32_t nth, count;
};

static bool drop_nth(void *user, const struct powercut_op *op)
{
    struct dropping *d = user;

    (void)op;
    return d->count++ == d->nth;
}

/* Without any one of the syncs some image is wrong: none is there for nothing, and this test sees.
 */
static void every_sync_is_needed(void **state)
{
    struct units u;
    struct dropping d = {UINT32_MAX, 0};
    struct script s;
    struct powercut *p = powercut_new();
    uint32_t syncs, unneeded = 0;

    (void)state;
    units_init(&u);
    powercut_drop(p, drop_nth, &d);
    play(&u, p, &s);
    syncs = d.count;
    powercut_free(p);
    assert_true(syncs >= 12);
    for (uint32_t i = 0; i < syncs; i++) {
        p = powercut_new();
        d = (struct dropping){i, 0};
        powercut_drop(p, drop_nth, &d);
        play(&u, p, &s);
        if (try_images(&u, p, &s, 2500) == 0) {
            print_message("sync %u of %u could be left out\n", i, syncs);
            unneeded++;
        }
        powercut_free(p);
    }
    assert_int_equal(unneeded, 0);
    units_fini(&u);
}

/* ---- disks that fail ---- */

static int full_disk(void *user, const struct powercut_op *op)
{
    (void)user;
    return op->kind == POWERCUT_WRITE ? KE_ENOSPC : 0;
}

static void a_full_disk_loses_nothing(void **state)
{
    struct units u;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);

    (void)state;
    units_init(&u);
    assert_int_equal(store(&u, io, 0), 0);
    powercut_fault(p, full_disk, NULL);
    assert_int_equal(store(&u, io, 1), KE_ENOSPC);
    assert_true(strlen(ke_ctx_error(u.env.ctx)) > 0);
    powercut_fault(p, NULL, NULL);
    assert_int_equal(file_is(&u, io, "current.pem"), 0);
    assert_int_equal(store(&u, io, 1), 0);
    assert_int_equal(file_is(&u, io, "current.pem"), 1);
    powercut_free(p);
    units_fini(&u);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_there_and_back),
        cmocka_unit_test(broken_text),
        cmocka_unit_test(previous_is_kept_until_proven),
        cmocka_unit_test(keys_are_for_the_owner_only),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(every_sync_is_needed),
        cmocka_unit_test(a_full_disk_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
