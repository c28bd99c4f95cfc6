/* SPDX-License-Identifier: Apache-2.0 */
/* See ke_mqttd_log.h. One lock; lines come from the loop and from the library's helper threads. */
#include "ke_mqttd_log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "common.h"

static struct {
    pthread_mutex_t mu;
    uint32_t dest, level;
    bool time, syslog;
    char format[200];
    char path[4096];
    FILE *file;
} out = {
    .mu = PTHREAD_MUTEX_INITIALIZER, .dest = MC_LOG_STDERR, .level = KE_LOG_INFO, .time = true};

static void stamp(char *to, size_t n)
{
    struct timespec now;
    struct tm tm;
    char part[160];
    to[0] = 0;
    if (!out.time)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out.format[0]) {
        localtime_r(&now.tv_sec, &tm);
        if (strftime(part, sizeof part, out.format, &tm) > 0)
            snprintf(to, n, "%s: ", part);
        return;
    }
    gmtime_r(&now.tv_sec, &tm);
    strftime(part, sizeof part, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(to, n, "%s.%03dZ ", part, (int)(now.tv_nsec / 1000000));
}

static void put(FILE *f, const char *at, const char *name, const char *area, const char *text)
{
    fprintf(f, "%s%-5s %s: %s\n", at, name, area, text);
    fflush(f);
}

void mqttd_log(void *user, uint32_t level, const char *area, const char *text)
{
    static const char *const names[] = {"", "ERROR", "WARN", "INFO", "DEBUG"};
    static const int severities[] = {LOG_NOTICE, LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
    char at[200];
    (void)user;
    if (level > 4)
        level = 4;
    pthread_mutex_lock(&out.mu);
    if (level <= out.level) {
        stamp(at, sizeof at);
        if (out.dest & MC_LOG_STDERR)
            put(stderr, at, names[level], area, text);
        if (out.dest & MC_LOG_STDOUT)
            put(stdout, at, names[level], area, text);
        if ((out.dest & MC_LOG_FILE) && out.file)
            put(out.file, at, names[level], area, text);
        if (out.dest & MC_LOG_SYSLOG)
            syslog(severities[level], "%s: %s", area, text);
    }
    pthread_mutex_unlock(&out.mu);
}

static void open_file(void)
{
    if (out.file)
        fclose(out.file);
    out.file = out.path[0] ? fopen(out.path, "ae") : NULL;
    if (out.path[0] && !out.file)
        fprintf(stderr, "ke-mqttd: log file %s cannot be written: %m\n", out.path);
}

void mqttd_log_use(const struct mosquitto_conf *c, uint32_t level)
{
    static const int facilities[] = {LOG_LOCAL0, LOG_LOCAL1, LOG_LOCAL2, LOG_LOCAL3,
                                     LOG_LOCAL4, LOG_LOCAL5, LOG_LOCAL6, LOG_LOCAL7};
    pthread_mutex_lock(&out.mu);
    out.dest = c && c->log_dest ? c->log_dest : MC_LOG_STDERR;
    if (out.dest & MC_LOG_NONE)
        out.dest = 0;
    out.level = level               ? level
                : c && c->log_quiet ? 0
                : c && c->log_level ? c->log_level
                                    : KE_LOG_INFO;
    out.time = !c || c->log_time;
    snprintf(out.format, sizeof out.format, "%s", c && c->log_format ? c->log_format : "");
    snprintf(out.path, sizeof out.path, "%s", c && c->log_file ? c->log_file : "");
    open_file();
    if (out.syslog)
        closelog();
    out.syslog = (out.dest & MC_LOG_SYSLOG) != 0;
    if (out.syslog)
        openlog("ke-mqttd", LOG_PID,
                c->log_facility >= 0 && c->log_facility < 8 ? facilities[c->log_facility]
                                                            : LOG_DAEMON);
    pthread_mutex_unlock(&out.mu);
}

uint32_t mqttd_log_level(void)
{
    pthread_mutex_lock(&out.mu);
    uint32_t level = out.level;
    pthread_mutex_unlock(&out.mu);
    return level;
}

void mqttd_log_reopen(void)
{
    pthread_mutex_lock(&out.mu);
    open_file();
    pthread_mutex_unlock(&out.mu);
}

void mqttd_log_close(void)
{
    pthread_mutex_lock(&out.mu);
    if (out.file)
        fclose(out.file);
    out.file = NULL;
    if (out.syslog)
        closelog();
    out.syslog = false;
    pthread_mutex_unlock(&out.mu);
}
