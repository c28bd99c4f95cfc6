/* SPDX-License-Identifier: Apache-2.0 */
/* Output of the command to its log file. No heap; owned by ke-shim's one thread. */
#include "shim_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "shim_proc.h"

/* "2026-11-22T08:18:48.123456789Z" of now, by arithmetic: no locale, no time zone files */
static void stamp(char out[40])
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t days = t.tv_sec / 86400, rem = t.tv_sec % 86400;
    if (rem < 0) {
        rem += 86400;
        days--;
    }
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int day = (int)(doy - (153 * mp + 2) / 5 + 1), month = (int)(mp < 10 ? mp + 3 : mp - 9);
    int64_t year = yoe + era * 400 + (month <= 2);
    snprintf(out, 40, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", (int)year, month, day,
             (int)(rem / 3600), (int)(rem / 60 % 60), (int)(rem % 60), t.tv_nsec);
}

static void log_open(struct shim_log *l)
{
    struct stat st;
    if (l->fd >= 0 || shim_mono_ms() < l->retry_at)
        return;
    l->retry_at = shim_mono_ms() + 1000;
    l->fd =
        open(l->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (l->fd >= 0 && (fstat(l->fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(l->fd);
        l->fd = -1;
    }
    if (l->fd >= 0)
        l->size = st.st_size;
}

static void log_close(struct shim_log *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

static void rotate(struct shim_log *l)
{
    char from[PATH_MAX], to[PATH_MAX];
    log_close(l);
    for (int i = SHIM_LOG_KEEP; i > 0; i--) {
        int a = i > 1 ? snprintf(from, sizeof from, "%s.%d", l->path, i - 1)
                      : snprintf(from, sizeof from, "%s", l->path);
        int b = snprintf(to, sizeof to, "%s.%d", l->path, i);
        if (a < (int)sizeof from && b < (int)sizeof to && rename(from, to) < 0 && errno != ENOENT)
            break;
    }
    l->retry_at = 0;
    log_open(l);
}

/* One whole record or nothing. */
static bool put(struct shim_log *l, const char *stream, char tag, const char *p, size_t n)
{
    char head[80], time[40];
    stamp(time);
    int h = snprintf(head, sizeof head, "%s %s %c ", time, stream, tag);
    struct iovec v[3] = {{head, (size_t)h}, {(void *)(uintptr_t)p, n}, {(char[]){'\n'}, 1}};
    ssize_t all = (ssize_t)((size_t)h + n + 1);
    if (l->max > 0 && l->size > 0 && l->size + all > l->max)
        rotate(l);
    if (l->fd < 0)
        log_open(l);
    if (l->fd < 0)
        return false;
    ssize_t r = writev(l->fd, v, 3);
    if (r == all) {
        l->size += all;
        return true;
    }
    if (r > 0 && ftruncate(l->fd, l->size) < 0) /* half a record would spoil the next one too */
        l->size += r;
    log_close(l);
    l->retry_at = shim_mono_ms() + 1000;
    return false;
}

static void line(struct shim_log *l, const char *stream, char tag, const char *p, size_t n)
{
    if (l->lost) {
        char text[80];
        int k = snprintf(text, sizeof text, "ke-shim: %llu lines before this one were lost",
                         (unsigned long long)l->lost);
        if (put(l, "stderr", 'F', text, (size_t)k))
            l->lost = 0;
    }
    if (l->lost || !put(l, stream, tag, p, n))
        l->lost += tag == 'F';
}

void shim_log_init(struct shim_log *l, int out, int err)
{
    l->fd = -1;
    l->out.fd = out;
    l->out.name = "stdout";
    l->err.fd = err;
    l->err.name = "stderr";
    log_open(l); /* so that the file is there even if nothing is written */
}

static void lines(struct shim_log *l, struct shim_stream *s)
{
    size_t at = 0;
    for (;;) {
        char *nl = memchr(s->buf + at, '\n', s->n - at);
        if (!nl)
            break;
        size_t n = (size_t)(nl - (s->buf + at));
        line(l, s->name, 'F', s->buf + at, n);
        at += n + 1;
    }
    if (at == 0 && s->n == sizeof s->buf) {
        line(l, s->name, 'P', s->buf, s->n);
        at = s->n;
    }
    s->n -= at;
    memmove(s->buf, s->buf + at, s->n);
}

void shim_log_read(struct shim_log *l, struct shim_stream *s)
{
    /* bounded, so that a command that writes without end can still be stopped */
    for (int i = 0; i < 16 && s->fd >= 0; i++) {
        ssize_t r = read(s->fd, s->buf + s->n, sizeof s->buf - s->n);
        if (r < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (r <= 0) {
            close(s->fd);
            s->fd = -1;
            return;
        }
        s->n += (size_t)r;
        lines(l, s);
    }
}

void shim_log_end(struct shim_log *l)
{
    struct shim_stream *s[2] = {&l->out, &l->err};
    for (int i = 0; i < 2; i++) {
        if (s[i]->n > 0)
            line(l, s[i]->name, 'F', s[i]->buf, s[i]->n);
        s[i]->n = 0;
    }
    log_close(l);
}
