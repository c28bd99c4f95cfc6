/* SPDX-License-Identifier: Apache-2.0 */
/* See broker.h. */
#include "broker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netinet/in.h>

#include "support/support.h"

extern char **environ;

static const char *program(void)
{
    static const char *const paths[] = {"/usr/sbin/mosquitto", "/usr/bin/mosquitto",
                                        "/usr/local/sbin/mosquitto"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    return NULL;
}

bool broker_installed(void)
{
    return program() != NULL;
}

static int try_connect(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = connect(fd, (struct sockaddr *)&a, sizeof a);
    close(fd);
    return r;
}

uint16_t broker_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

void broker_restart(struct broker *b, const char *more)
{
    char conf[256];
    snprintf(conf, sizeof conf, "%s/conf", b->dir);
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f,
            "listener %u 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest file %s/log\n"
            "persistence_location %s/\n%s\n",
            b->port, b->dir, b->dir, more);
    fclose(f);
    char *argv[] = {(char *)(uintptr_t)program(), (char *)(uintptr_t) "-c", conf, NULL};
    assert_int_equal(posix_spawn(&b->pid, argv[0], NULL, NULL, argv, environ), 0);
    for (int i = 0; i < 3000; i++) {
        if (try_connect(b->port) == 0)
            return;
        assert_int_equal(waitpid(b->pid, NULL, WNOHANG), 0);
        poll(NULL, 0, 10);
    }
    fail_msg("mosquitto does not listen on port %u", b->port);
}

void broker_start(struct broker *b, const char *more)
{
    memset(b, 0, sizeof *b);
    test_tmp_make(b->dir, sizeof b->dir);
    b->port = broker_free_port();
    broker_restart(b, more);
}

void broker_kill(struct broker *b, int signal_number)
{
    if (!b->pid)
        return;
    kill(b->pid, signal_number);
    waitpid(b->pid, NULL, 0);
    b->pid = 0;
}

void broker_fini(struct broker *b)
{
    broker_kill(b, SIGKILL);
    if (b->dir[0])
        test_tmp_remove(b->dir);
}
