/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process on a real file system that is killed while it writes: whatever it had told its parent
 * is there when the next one opens the store. KE_KILLS: how many times (default 25).
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/powercut_model.h"

/* The same transactions in parent and child: made of the round's number and their own. */
static void fill(struct ke_store_tx *tx, int t)
{
    char text[32];
    for (int k = 0; k < 6; k++) {
        char key[16];
        size_t n;
        unsigned char *p = model_value(t, k, &n);
        (void)snprintf(key, sizeof key, "%d", (t * 5 + k * 7) % 40);
        assert_int_equal(ke_store_put(tx, "k", key, NULL, t * 10 + k, p, n), 0);
        free(p);
    }
    (void)snprintf(text, sizeof text, "%d", t);
    assert_int_equal(ke_store_put(tx, "last", "t", NULL, t, text, strlen(text)), 0);
}

struct child {
    int fd, next, acked;
    struct kv *kv;
};

static void on_done(void *user, int status)
{
    struct child *c = user;
    if (status != 0)
        _exit(3);
    c->acked++;
    if (write(c->fd, &c->acked, sizeof c->acked) != sizeof c->acked)
        _exit(4);
}

static void child_main(const char *folder, int last, int fd)
{
    struct ke_ctx *ctx = NULL;
    struct kv kv;
    if (ke_ctx_new(&ctx, NULL, NULL) != 0)
        _exit(1);
    kv_init(&kv, ctx, folder);
    if (kv_open(&kv) != 0)
        _exit(2);
    struct child c = {.fd = fd, .next = last + 1, .acked = last, .kv = &kv};
    for (;;) {
        for (int i = 0; i < 1 + c.next % 3 && c.next - c.acked < 20; i++) {
            struct ke_store_tx *tx = NULL;
            if (ke_store_begin(&tx, kv.s) != 0)
                _exit(5);
            fill(tx, c.next++);
            if (ke_store_commit(tx, on_done, &c) != 0)
                _exit(6);
        }
        kv_turn(&kv);
    }
}

/* What a sequence of whole transactions up to t leaves. */
static void must_be_after(struct kv *kv, int t)
{
    int owner[40] = {0};
    struct rows rows;
    for (int i = 1; i <= t; i++)
        for (int k = 0; k < 6; k++)
            owner[(i * 5 + k * 7) % 40] = i * 10 + k;
    kv_list(kv, "k", "", 0, &rows);
    assert_int_equal(rows.status, 0);
    size_t n = 0;
    for (int key = 0; key < 40; key++) {
        char text[16];
        size_t len;
        (void)snprintf(text, sizeof text, "%d", key);
        const struct row *row = rows_find(&rows, "k", text);
        assert_true((row != NULL) == (owner[key] != 0));
        if (!row)
            continue;
        n++;
        assert_int_equal(row->version, owner[key]);
        unsigned char *p = model_value(owner[key] / 10, owner[key] % 10, &len);
        assert_int_equal(row->len, len);
        assert_memory_equal(row->value, p, len);
        free(p);
    }
    assert_int_equal(rows.n, n);
    rows_free(&rows);
}

static int read_acks(int fd)
{
    int t = 0, got = 0;
    while (read(fd, &got, sizeof got) == sizeof got)
        t = got;
    return t;
}

static void killed_at_random(void **state)
{
    (void)state;
    const char *env = getenv("KE_KILLS"), *seed_text = getenv("KE_SEED");
    int kills = env ? atoi(env) : 25, last = 0;
    uint64_t rng = seed_text ? strtoull(seed_text, NULL, 10) : 1;
    char tmp[256], folder[300];
    print_message("seed %llu (KE_SEED), %d kills\n", (unsigned long long)rng, kills);
    test_tmp_make(tmp, sizeof tmp);
    (void)snprintf(folder, sizeof folder, "%s/store", tmp);
    for (int i = 0; i < kills; i++) {
        int pipe_fd[2];
        assert_int_equal(pipe(pipe_fd), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(pipe_fd[0]);
            child_main(folder, last, pipe_fd[1]);
        }
        close(pipe_fd[1]);
        /* it has begun when it has acknowledged something; then somewhere in its work */
        int first = 0;
        ssize_t got = read(pipe_fd[0], &first, sizeof first);
        struct timespec some = {0, (long)powercut_below(&rng, 30000000)};
        (void)nanosleep(&some, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (got != sizeof first)
            fail_msg("the child ended with status %#x", status);
        int acked = read_acks(pipe_fd[0]);
        acked = acked > first ? acked : first;
        close(pipe_fd[0]);

        struct test_env e;
        struct kv kv;
        char *value = NULL;
        test_env_init(&e, 0);
        kv_init(&kv, e.ctx, folder);
        assert_int_equal(kv_open(&kv), 0);
        assert_int_equal(kv_get(&kv, "last", "t", &value), 0);
        last = atoi(value);
        free(value);
        if (last < acked)
            fail_msg("kill %d: %d was acknowledged, %d is the last there", i, acked, last);
        must_be_after(&kv, last);
        test_settle(&e);
        assert_int_equal(kv.salvaged.calls, 0);
        kv_close(&kv);
        test_env_fini(&e);
    }
    print_message("count: %d kills in the store, seed %s, %d transactions\n", kills,
                  seed_text ? seed_text : "1", last);
    test_tmp_remove(tmp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
