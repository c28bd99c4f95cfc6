/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context: checks and copies the host's tables, fills in the defaults, keeps time above its
 * floor. Owned by who made it. Time, randomness and post: any thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/codec.h"
#include "base/ctx_priv.h"

/* 2026-11-01T00:00:00Z: no release is older, so no clock that shows an earlier time is right. */
#define RELEASE_TIME_MS INT64_C(1793491200000)
#define FLUSH_TURNS 64 /* turns that ke_ctx_free gives to what was posted */

/* ---- default tables ---- */

static int64_t to_ms(const struct timespec *ts)
{
    return (int64_t)ts->tv_sec * 1000 + ts->tv_nsec / 1000000;
}

static int64_t sys_mono_ms(void *user)
{
    const clockid_t *id = user;
    struct timespec ts;
    if (clock_gettime(*id, &ts) < 0)
        clock_gettime(CLOCK_MONOTONIC, &ts);
    return to_ms(&ts);
}

static int64_t sys_real_ms(void *user)
{
    (void)user;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return to_ms(&ts);
}

static int sys_random(void *user, void *p, size_t n)
{
    (void)user;
    unsigned char *out = p;
    while (n > 0) {
        ssize_t got = getrandom(out, n < 256 ? n : 256, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return KE_ESYS;
        out += got;
        n -= (size_t)got;
    }
    return 0;
}

/* ---- making one ---- */

void ke_ctx_config_init(struct ke_ctx_config *c, size_t size)
{
    kei_abi_init(c, size);
}

#define NEED(table, member)                                                                        \
    if (!(table).member)                                                                           \
    return kei_error(err, KE_EINVAL, "the host's table ke_" #table " lacks its member " #member)

static int check_io(const struct ke_io *tab, struct ke_error *err)
{
    struct ke_io io = *tab;
    NEED(io, open);
    NEED(io, close);
    NEED(io, pread);
    NEED(io, pwrite);
    NEED(io, truncate);
    NEED(io, sync);
    NEED(io, length);
    NEED(io, lock);
    NEED(io, rename);
    NEED(io, unlink);
    NEED(io, mkdir);
    NEED(io, rmdir);
    NEED(io, sync_dir);
    NEED(io, stat);
    NEED(io, list);
    return 0;
}

static int take_tables(struct ke_ctx *ctx, const struct ke_ctx_config *c, struct ke_error *err)
{
    int r = kei_abi_in(&ctx->io, sizeof ctx->io, c->io ? c->io : ke_io_posix(),
                       offsetof(struct ke_io, symlink), "struct ke_io", err);
    if (r == 0)
        r = check_io(&ctx->io, err);
    if (r < 0)
        return r;
    ctx->clock_id = CLOCK_BOOTTIME;
    ctx->clock = (struct ke_clock){sizeof ctx->clock, &ctx->clock_id, sys_mono_ms, sys_real_ms};
    ctx->random = (struct ke_random){sizeof ctx->random, NULL, sys_random};
    if (c->clock) {
        r = kei_abi_in(&ctx->clock, sizeof ctx->clock, c->clock,
                       KEI_SIZE_TO(struct ke_clock, real_ms), "struct ke_clock", err);
        if (r < 0)
            return r;
        struct ke_clock clock = ctx->clock;
        NEED(clock, mono_ms);
        NEED(clock, real_ms);
        ctx->host_clock = true;
    }
    if (c->random) {
        r = kei_abi_in(&ctx->random, sizeof ctx->random, c->random,
                       KEI_SIZE_TO(struct ke_random, fill), "struct ke_random", err);
        if (r < 0)
            return r;
        struct ke_random random = ctx->random;
        NEED(random, fill);
    }
    return 0;
}

static void take_names(struct ke_ctx *ctx, const struct ke_ctx_config *c)
{
    const char *name = c->thread_name && c->thread_name[0] ? c->thread_name : "kubeedge";
    size_t n = strnlen(name, sizeof ctx->thread_name - 1);
    memcpy(ctx->thread_name, name, n); /* zeroed before */
    ctx->log = c->log;
    ctx->log_user = c->log_user;
    ctx->log_level = c->log_level ? c->log_level : KE_LOG_INFO;
}

static int check_alloc(const struct ke_alloc *tab, struct ke_error *err)
{
    struct ke_alloc alloc = *tab;
    NEED(alloc, alloc);
    NEED(alloc, realloc);
    NEED(alloc, free);
    return 0;
}

int ke_ctx_new(struct ke_ctx **ret, const struct ke_ctx_config *c, struct ke_error *err)
{
    if (!ret)
        return kei_error(err, KE_EINVAL, "no place was given for the context");
    struct ke_ctx_config conf = {0};
    struct ke_alloc alloc = *kei_alloc_malloc();
    int r = 0;
    if (c)
        r = kei_abi_in(&conf, sizeof conf, c, KEI_SIZE_TO(struct ke_ctx_config, thread_name),
                       "struct ke_ctx_config", err);
    if (r == 0 && conf.alloc)
        r = kei_abi_in(&alloc, sizeof alloc, conf.alloc, KEI_SIZE_TO(struct ke_alloc, free),
                       "struct ke_alloc", err);
    if (r == 0)
        r = check_alloc(&alloc, err);
    if (r == 0 && conf.reserved)
        r = kei_error(err, KE_EABI, "the reserved member of struct ke_ctx_config is not zero");
    if (r < 0)
        return r;
    struct ke_ctx *ctx = kei_zalloc(&alloc, sizeof *ctx);
    if (!ctx)
        return kei_error(err, KE_ENOMEM, "out of memory for a context");
    ctx->alloc = alloc;
    ctx->err.size = sizeof ctx->err;
    ctx->owner = kei_thread_self();
    kei_list_init(&ctx->slots);
    r = take_tables(ctx, &conf, err);
    if (r < 0) {
        kei_free(&alloc, ctx);
        return r;
    }
    take_names(ctx, &conf);
    kei_post_init(ctx);
    kei_worker_init(&ctx->disk, ctx, "-disk");
    kei_worker_init(&ctx->resolver, ctx, "-dns");
    ctx->resolver.skip_on_quit = true;
    r = kei_loop_init(ctx, err);
    if (r < 0) {
        ke_ctx_free(ctx);
        return r;
    }
    kei_ctx_time_floor(ctx, RELEASE_TIME_MS);
    if (kei_ctx_random(ctx, &ctx->rng_key, sizeof ctx->rng_key) < 0)
        ctx->rng_key = (uint64_t)(uintptr_t)ctx ^ (uint64_t)sys_mono_ms(&ctx->clock_id);
    *ret = ctx;
    return 0;
}

/* What was accepted is run: posted functions, deferred calls and completions may hold memory. */
static void flush(struct ke_ctx *ctx)
{
    for (int i = 0; i < FLUSH_TURNS; i++) {
        if (!kei_loop_turn(ctx) && !atomic_load(&ctx->woken))
            return;
    }
}

void ke_ctx_free(struct ke_ctx *ctx)
{
    if (!ctx)
        return;
    if (kei_ctx_on_loop(ctx) && ctx->in_turn) {
        kei_log(ctx, KE_LOG_ERROR, "base", "ke_ctx_free was called from a callback: not done");
        return;
    }
    if (ctx->mode == KEI_MODE_OWN) {
        atomic_store(&ctx->quit, true);
        kei_loop_wake(ctx);
        pthread_join(ctx->thread, NULL);
    }
    ctx->mode = KEI_MODE_HOST;
    ctx->owner = kei_thread_self();
    if (ctx->epoll_fd >= 0 && ctx->event_fd >= 0)
        flush(ctx);
    kei_worker_stop(&ctx->disk);
    kei_worker_stop(&ctx->resolver);
    if (ctx->epoll_fd >= 0 && ctx->event_fd >= 0)
        flush(ctx);
    if (!kei_list_empty(&ctx->fds) || ctx->timers)
        kei_log(ctx, KE_LOG_ERROR, "base",
                "the context was freed before a handle that was made from it");
    kei_slots_fini(ctx);
    kei_worker_fini(&ctx->disk);
    kei_worker_fini(&ctx->resolver);
    kei_post_fini(ctx);
    kei_loop_fini(ctx);
    struct ke_alloc alloc = ctx->alloc;
    kei_free(&alloc, ctx);
}

const struct ke_alloc *kei_ctx_alloc(const struct ke_ctx *ctx)
{
    return &ctx->alloc;
}

const struct ke_io *kei_ctx_io(const struct ke_ctx *ctx)
{
    return &ctx->io;
}

/* ---- time ---- */

int64_t ke_ctx_mono_ms(const struct ke_ctx *ctx)
{
    return ctx->clock.mono_ms(ctx->clock.user);
}

/*
 * A clock below the floor is not set. Time then starts at the floor and passes: leases renewed
 * with a time that stands still would look dead to the cloud.
 */
int64_t ke_ctx_real_ms(const struct ke_ctx *ctx)
{
    int64_t now = ctx->clock.real_ms(ctx->clock.user);
    int64_t floor = atomic_load(&ctx->floor_ms);
    if (now >= floor)
        return now;
    int64_t passed = atomic_load(&ctx->floor_offset) + ke_ctx_mono_ms(ctx);
    return passed > floor ? passed : floor;
}

void kei_ctx_time_floor(struct ke_ctx *ctx, int64_t unix_ms)
{
    pthread_mutex_lock(&ctx->mu); /* writers one at a time; readers take either value of each */
    if (unix_ms > atomic_load(&ctx->floor_ms)) {
        int64_t offset, before = atomic_load(&ctx->floor_offset);
        if (__builtin_sub_overflow(unix_ms, ke_ctx_mono_ms(ctx), &offset))
            offset = 0;
        /* time that has passed since the floor before may be later: it never goes back */
        atomic_store(&ctx->floor_offset, offset > before ? offset : before);
        atomic_store(&ctx->floor_ms, unix_ms);
    }
    pthread_mutex_unlock(&ctx->mu);
}

int64_t kei_ctx_time_floor_get(const struct ke_ctx *ctx)
{
    return atomic_load(&ctx->floor_ms);
}

bool kei_ctx_clock_behind(const struct ke_ctx *ctx)
{
    return ctx->clock.real_ms(ctx->clock.user) < atomic_load(&ctx->floor_ms);
}

/* ---- randomness ---- */

int kei_ctx_random(struct ke_ctx *ctx, void *p, size_t n)
{
    int r = ctx->random.fill(ctx->random.user, p, n);
    if (r < 0 && kei_ctx_on_loop(ctx)) /* any thread may call, the text is the loop's */
        return kei_fail(ctx, r, "the source of randomness failed (%s)", ke_strerror(r));
    return r < 0 ? r : 0;
}

uint64_t kei_ctx_random64(struct ke_ctx *ctx)
{
    uint64_t x;
    if (ctx->random.fill(ctx->random.user, &x, sizeof x) >= 0)
        return x;
    /* Spreads retries and hashes; never a secret. */
    x = ctx->rng_key + atomic_fetch_add(&ctx->rng_counter, 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

int kei_ctx_uuid(struct ke_ctx *ctx, char out[37])
{
    uint8_t random[16];
    int r = kei_ctx_random(ctx, random, sizeof random);
    if (r < 0)
        return r;
    kei_uuid_format(out, random);
    return 0;
}
