/* SPDX-License-Identifier: Apache-2.0 */
/* See common.h. The host's side of things: signals, stderr, the poll loop. */
#include "common.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

void log_line(void *user, uint32_t level, const char *area, const char *text)
{
    static const char *const names[] = {"", "ERROR", "WARN", "INFO", "DEBUG"};
    struct timespec now;
    struct tm tm;
    char at[32];
    (void)user;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", &tm);
    fprintf(stderr, "%s.%03dZ %-5s %s: %s\n", at, (int)(now.tv_nsec / 1000000),
            names[level <= 4 ? level : 0], area, text);
}

void print_cell(FILE *out, int width, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++, width--) {
        int c1 = s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0; /* U+0080 to U+009F in UTF-8 */
        fputc(*s < ' ' || *s == 127 || c1 ? '?' : *s, out);
        s += c1;
    }
    for (; width > 0; width--)
        fputc(' ', out);
}

uint32_t log_level(const char *word)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};
    for (uint32_t i = 0; i < 4; i++)
        if (strcmp(word, words[i]) == 0)
            return i + 1;
    return 0;
}

long parse_number(const char *s, long max)
{
    char *end;
    errno = 0;
    long n = strtol(s, &end, 10);
    return errno || end == s || *end || n < 0 || n > max ? -1 : n;
}

void *must(void *p)
{
    if (!p) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return p;
}

char **split_list(const char *s, uint32_t *n)
{
    char *copy = must(strdup(s));
    size_t room = 2;
    for (const char *p = s; *p; p++)
        room += *p == ',';
    char **list = must(calloc(room, sizeof *list));
    char *save = NULL;
    *n = 0;
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save))
        list[(*n)++] = item;
    return list;
}

void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* of the terminal; the library needs no such thing */
}

int run_loop(struct ke_ctx *ctx, struct control *c, int (*stop)(void *user), void *user)
{
    struct pollfd p[2 + CONTROL_FDS];
    sigset_t set;
    int ctx_fd = -1, r = ke_ctx_fd(ctx, &ctx_fd);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int sig_fd = r == 0 ? signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK) : -1;
    while (r == 0 && sig_fd >= 0 && (!stop || !stop(user))) {
        p[0] = (struct pollfd){.fd = ctx_fd, .events = POLLIN};
        p[1] = (struct pollfd){.fd = sig_fd, .events = POLLIN};
        size_t n = c ? control_prepare(c, p + 2) : 0;
        if (poll(p, 2 + n, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents)
            break;
        if (p[0].revents)
            r = ke_ctx_dispatch(ctx);
        if (n > 0)
            control_handle(c, p + 2, n);
    }
    if (sig_fd >= 0)
        close(sig_fd);
    return r;
}
