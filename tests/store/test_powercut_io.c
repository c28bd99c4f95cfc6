/* SPDX-License-Identifier: Apache-2.0 */
/* The power-cut file system itself: what it must keep, and that it does lose the rest. */
#include "sim/powercut_io.h"
#include "support/support.h"

#define IMAGES 400

static struct ke_io_file *open_file(struct powercut *p, const char *path, uint32_t flags)
{
    struct ke_io_file *f = NULL;
    const struct ke_io *io = powercut_io(p);
    assert_int_equal(io->open(io->user, path, KE_IO_READ | KE_IO_WRITE | flags, 0600, &f), 0);
    return f;
}

/* Writes n bytes of c. */
static void put(struct powercut *p, struct ke_io_file *f, char c, size_t n, int64_t off)
{
    const struct ke_io *io = powercut_io(p);
    char *bytes = malloc(n);
    memset(bytes, c, n);
    assert_int_equal(io->pwrite(io->user, f, bytes, n, off), 0);
    free(bytes);
}

static void close_file(struct powercut *p, struct ke_io_file *f)
{
    const struct ke_io *io = powercut_io(p);
    assert_int_equal(io->close(io->user, f), 0);
}

/* How many of the images have the path, with every byte one of those in allowed (NULL: any). */
static int count(struct powercut *p, const char *path, const char *allowed, size_t least)
{
    int n = 0;
    for (uint64_t seed = 0; seed < IMAGES; seed++) {
        size_t len = 0;
        struct powercut *d = powercut_image(p, powercut_pos(p), seed);
        unsigned char *bytes = powercut_get(d, path, &len);
        n += bytes != NULL;
        if (bytes && allowed)
            for (size_t i = 0; i < len; i++)
                if (!bytes[i] || !strchr(allowed, bytes[i]))
                    fail_msg("image %d: byte %zu is %#x", (int)seed, i, bytes[i]);
        if (bytes)
            assert_true(len >= least);
        free(bytes);
        powercut_free(d);
    }
    return n;
}

static void synced_is_kept(void **state)
{
    (void)state;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);
    struct ke_io_file *f = open_file(p, "/f", KE_IO_CREATE);
    put(p, f, 'a', 2000, 0);
    assert_int_equal(io->sync(io->user, f), 0);
    int n = count(p, "/f", "a", 2000); /* the bytes are sure, the name is not */
    assert_true(n > IMAGES / 10 && n < IMAGES * 9 / 10);
    assert_int_equal(io->sync_dir(io->user, "/"), 0);
    assert_int_equal(count(p, "/f", "a", 2000), IMAGES);
    put(p, f, 'b', 1500, 100); /* old or new, nothing else, whatever subset */
    assert_int_equal(count(p, "/f", "ab", 2000), IMAGES);
    close_file(p, f);
    powercut_free(p);
}

/* The unsynced part: all, nothing, and mixtures at sectors occur. */
static void unsynced_is_torn(void **state)
{
    (void)state;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);
    struct ke_io_file *f = open_file(p, "/f", KE_IO_CREATE);
    int none = 0, all = 0, mixed = 0, reordered = 0;
    put(p, f, 'a', 4096, 0);
    assert_int_equal(io->sync(io->user, f), 0);
    assert_int_equal(io->sync_dir(io->user, "/"), 0);
    for (int i = 0; i < 8; i++)
        put(p, f, 'b', 512, i * 512);
    for (uint64_t seed = 0; seed < IMAGES; seed++) {
        size_t len = 0;
        struct powercut *d = powercut_image(p, powercut_pos(p), seed);
        unsigned char *bytes = powercut_get(d, "/f", &len);
        int news = 0;
        for (size_t s = 0; s < 8; s++) {
            for (size_t i = 1; i < 512; i++)
                assert_int_equal(bytes[s * 512 + i], bytes[s * 512]);
            news += bytes[s * 512] == 'b';
        }
        none += news == 0;
        all += news == 8;
        mixed += news > 0 && news < 8;
        reordered += bytes[0] == 'a' && bytes[7 * 512] == 'b';
        free(bytes);
        powercut_free(d);
    }
    assert_true(none > 20 && all > 20 && mixed > 20 && reordered > 20);
    close_file(p, f);
    powercut_free(p);
}

static void rename_is_one_step(void **state)
{
    (void)state;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);
    int old = 0, new = 0;
    for (int i = 0; i < 2; i++) {
        struct ke_io_file *f = open_file(p, i ? "/f.new" : "/f", KE_IO_CREATE);
        put(p, f, i ? 'n' : 'o', 10, 0);
        assert_int_equal(io->sync(io->user, f), 0);
        close_file(p, f);
    }
    assert_int_equal(io->sync_dir(io->user, "/"), 0);
    assert_int_equal(io->rename(io->user, "/f.new", "/f"), 0);
    for (uint64_t seed = 0; seed < IMAGES; seed++) {
        size_t len = 0, rest = 0;
        struct powercut *d = powercut_image(p, powercut_pos(p), seed);
        unsigned char *bytes = powercut_get(d, "/f", &len),
                      *other = powercut_get(d, "/f.new", &rest);
        assert_int_equal(len, 10);
        assert_true((bytes[0] == 'o') == (other != NULL));
        old += bytes[0] == 'o';
        new += bytes[0] == 'n';
        free(bytes);
        free(other);
        powercut_free(d);
    }
    assert_true(old > 20 && new > 20);
    assert_int_equal(io->sync_dir(io->user, "/"), 0);
    assert_int_equal(count(p, "/f", "n", 10), IMAGES);
    powercut_free(p);
}

static void killed_keeps_all_but_sure_is_less(void **state)
{
    (void)state;
    struct powercut *p = powercut_new();
    struct ke_io_file *f = open_file(p, "/f", KE_IO_CREATE);
    size_t n = 0;
    put(p, f, 'a', 100, 0);
    size_t pos = powercut_pos(p);
    put(p, f, 'b', 100, 0);
    close_file(p, f);
    struct powercut *d = powercut_killed(p, pos);
    unsigned char *bytes = powercut_get(d, "/f", &n);
    assert_int_equal(n, 100);
    assert_int_equal(bytes[0], 'a');
    free(bytes);
    n = (size_t)count(d, "/f", NULL, 0);
    assert_true(n > 20 && n < IMAGES - 20);
    powercut_free(d);
    powercut_free(p);
}

static bool drop_all(void *user, const struct powercut_op *op)
{
    (void)user;
    (void)op;
    return true;
}

static void dropped_sync_keeps_nothing(void **state)
{
    (void)state;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);
    powercut_drop(p, drop_all, NULL);
    struct ke_io_file *f = open_file(p, "/f", KE_IO_CREATE);
    put(p, f, 'a', 100, 0);
    assert_int_equal(io->sync(io->user, f), 0);
    assert_int_equal(io->sync_dir(io->user, "/"), 0);
    int n = count(p, "/f", NULL, 0);
    assert_true(n > 20 && n < IMAGES - 20);
    close_file(p, f);
    powercut_free(p);
}

static void folders_links_and_locks(void **state)
{
    (void)state;
    struct powercut *p = powercut_new();
    const struct ke_io *io = powercut_io(p);
    struct ke_io_stat st = {.size = sizeof st};
    size_t n = 0;
    assert_int_equal(io->mkdir(io->user, "/d", 0700), 0);
    assert_int_equal(io->mkdir(io->user, "/d", 0700), KE_EEXIST);
    struct ke_io_file *f = open_file(p, "/d/f", KE_IO_CREATE | KE_IO_EXCL);
    struct ke_io_file *g = open_file(p, "d/./f", 0);
    assert_int_equal(io->lock(io->user, f), 0);
    assert_int_equal(io->lock(io->user, g), KE_EBUSY);
    put(p, f, 'x', 3, 0);
    close_file(p, f);
    assert_int_equal(io->lock(io->user, g), 0);
    close_file(p, g);
    assert_int_equal(io->rmdir(io->user, "/d"), KE_EEXIST);
    assert_int_equal(io->symlink(io->user, "d", "/now"), 0);
    unsigned char *bytes = powercut_get(p, "/now/f", &n);
    assert_int_equal(n, 3);
    free(bytes);
    assert_int_equal(io->rename(io->user, "/d", "/e"), 0); /* a folder with what is in it */
    assert_int_equal(io->stat(io->user, "/e/f", &st), 0);
    assert_int_equal(st.length, 3);
    assert_int_equal(io->stat(io->user, "/now/f", &st), KE_ENOTFOUND);
    assert_int_equal(io->unlink(io->user, "/e/f"), 0);
    assert_int_equal(io->rmdir(io->user, "/e"), 0);
    powercut_capacity(p, 1000);
    f = open_file(p, "/f", KE_IO_CREATE);
    char bytes2[2000] = {0};
    assert_int_equal(io->pwrite(io->user, f, bytes2, 2000, 0), KE_ENOSPC);
    int64_t len = 0;
    assert_int_equal(io->length(io->user, f, &len), 0);
    assert_int_equal(len, 1000);
    close_file(p, f);
    powercut_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_is_kept),
        cmocka_unit_test(unsynced_is_torn),
        cmocka_unit_test(rename_is_one_step),
        cmocka_unit_test(killed_keeps_all_but_sure_is_less),
        cmocka_unit_test(dropped_sync_keeps_nothing),
        cmocka_unit_test(folders_links_and_locks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
