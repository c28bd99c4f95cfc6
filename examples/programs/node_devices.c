/* SPDX-License-Identifier: Apache-2.0 */
/* Devices as a table: state and last error of each, desired and reported value of each property. */
#include "node_devices.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common.h"

static const char *state_word(uint32_t state)
{
    static const char *const words[] = {"waiting", "opening", "online", "offline", "failed", "closing", "mapped"};
    return state < sizeof words / sizeof words[0] ? words[state] : "?";
}

/* "-" for what was never read or written */
static const char *clock_text(int64_t ms, char *out, size_t n)
{
    struct tm tm;
    time_t s = (time_t)(ms / 1000);
    if (ms == 0 || !gmtime_r(&s, &tm) || strftime(out, n, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        return "-";
    return out;
}

/* The library's struct may be longer than the one this program was built with. */
static const struct ke_device_property_status *property(const struct ke_device_status *s, uint32_t i)
{
    return (const void *)((const char *)s->properties + i * s->properties->size);
}

struct printing {
    FILE *out;
    struct ke_twin *twin; /* NULL: none */
};

/* Its state in words of the mapper, which may be anything. */
static const char *mapped_word(const struct ke_device_status *s)
{
    return s->mapper_lost ? "lost" : s->mapper_state[0] ? s->mapper_state : state_word(s->state);
}

static void print_mapper_of(const struct ke_device_status *s, FILE *out)
{
    char when[40];

    fputs("  by mapper ", out);
    print_cell(out, 0, s->mapper);
    fputs(", ", out);
    if (s->mapper_reports)
        fprintf(out, "last report %s (%llu since the start)\n",
                clock_text(s->mapper_report_ms, when, sizeof when),
                (unsigned long long)s->mapper_reports);
    else
        fputs("no report since the start\n", out);
}

/* What the twin holds of a property whose values the harness does not see. */
static void from_twin(struct ke_twin *t, const struct ke_device_status *s,
                      struct ke_device_property_status *p)
{
    struct ke_twin_value v = {0};
    char id[600];

    snprintf(id, sizeof id, "%s/%s", s->ns, s->name);
    if (!t || (ke_twin_get(t, id, p->name, &v, sizeof v) < 0 &&
               ke_twin_get(t, s->name, p->name, &v, sizeof v) < 0))
        return;
    if (!p->desired)
        p->desired = v.desired;
    p->reported = v.reported;
    p->reported_ms = v.reported ? v.reported_ms : 0;
}

static void print_one(void *user, const struct ke_device_status *s)
{
    const struct printing *to = user;
    FILE *out = to->out;
    bool mapped = s->state == KE_DEVICE_MAPPED;
    char when[40], name[600];

    snprintf(name, sizeof name, "%s/%s", s->ns, s->name);
    fprintf(out, "%-32s ", name);
    print_cell(out, 12, s->protocol);
    fputc(' ', out);
    print_cell(out, 8, mapped ? mapped_word(s) : state_word(s->state)); /* a mapper's word */
    fprintf(out, " %-21s ", clock_text(s->online_ms, when, sizeof when));
    print_cell(out, 0, s->error[0] ? s->error : "-");
    fputc('\n', out);
    if (mapped)
        print_mapper_of(s, out);
    if (s->pushes + s->push_failures)
        fprintf(out, "  pushed %llu values, %llu attempts failed\n", (unsigned long long)s->pushes,
                (unsigned long long)s->push_failures);
    for (uint32_t i = 0; i < s->n_properties; i++) {
        struct ke_device_property_status own = {0};
        const struct ke_device_property_status *p = property(s, i);
        memcpy(&own, p, p->size < sizeof own ? p->size : sizeof own);
        if (mapped)
            from_twin(to->twin, s, &own);
        p = &own;
        snprintf(name, sizeof name, "%s%s%s", p->name, p->unit[0] ? ", " : "", p->unit);
        fputs("  ", out);
        print_cell(out, 30, name);
        fprintf(out, " %-12s desired ", p->type);
        print_cell(out, 10, p->desired ? p->desired : "-");
        fputs(" reported ", out);
        print_cell(out, 10, p->reported ? p->reported : "-");
        fprintf(out, " %s%s", clock_text(p->reported_ms, when, sizeof when), p->error[0] ? "  " : "");
        print_cell(out, 0, p->error);
        fputc('\n', out);
    }
}

static void print_mapper(void *user, const struct ke_node_mapper_info *m)
{
    FILE *out = user;
    char when[40];

    print_cell(out, 24, m->name[0] ? m->name : "-");
    fputc(' ', out);
    print_cell(out, 12, m->protocol);
    fprintf(out, " %-8s %-21s %-7u %-7u ", m->reachable ? "up" : "lost",
            clock_text(m->seen_ms, when, sizeof when), m->devices, m->waiting);
    print_cell(out, 0, m->address);
    fputs(m->error[0] ? "  " : "", out);
    print_cell(out, 0, m->error);
    fputc('\n', out);
}

void print_mappers(struct ke_node *n, FILE *out)
{
    struct ke_error err = KE_ERROR_INIT;
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    int r = lines ? ke_node_mappers(n, print_mapper, lines, &err) : KE_ENOMEM;

    if (lines)
        fclose(lines);
    if (r != KE_ESTATE && r != KE_ENOTSUP)
        fprintf(out, "\n%-24s %-12s %-8s %-21s %-7s %-7s %s\n%s", "MAPPER", "PROTOCOL", "STATE",
                "LAST SEEN", "DEVICES", "WAITING", "SOCKET", text ? text : "");
    if (r < 0 && r != KE_ESTATE && r != KE_ENOTSUP)
        fprintf(out, "%s\n", err.text);
    free(text);
}

struct count {
    unsigned all, lost;
};

static void count_one(void *user, const struct ke_node_mapper_info *m)
{
    struct count *c = user;

    c->all++;
    c->lost += !m->reachable;
}

void print_mapper_count(struct ke_node *n, FILE *out)
{
    struct ke_error err = KE_ERROR_INIT;
    struct count c = {0, 0};
    int r = ke_node_mappers(n, count_one, &c, &err);

    if (r == KE_ESTATE || r == KE_ENOTSUP)
        return;
    fprintf(out, "mappers     %u (%u lost)%s%s\n", c.all, c.lost, r < 0 ? ": " : "",
            r < 0 ? err.text : "");
}

void print_devices(struct ke_devices *d, struct ke_twin *twin, FILE *out)
{
    struct printing to = {out, twin};

    fprintf(out, "%-32s %-12s %-8s %-21s %s\n", "DEVICE", "PROTOCOL", "STATE", "ONLINE SINCE", "LAST ERROR");
    if (d && ke_devices_list(d, print_one, &to) < 0)
        fputs("out of memory\n", out);
}
