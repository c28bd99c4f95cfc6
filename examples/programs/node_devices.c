/* SPDX-License-Identifier: Apache-2.0 */
/* Devices as a table: state and last error of each, desired and reported value of each property. */
#include "node_devices.h"

#include <time.h>

#include "common.h"

static const char *state_word(uint32_t state)
{
    static const char *const words[] = {"waiting", "opening", "online", "offline", "failed", "closing"};
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

static void print_one(void *user, const struct ke_device_status *s)
{
    FILE *out = user;
    char when[40], name[600];

    snprintf(name, sizeof name, "%s/%s", s->ns, s->name);
    fprintf(out, "%-32s ", name);
    print_cell(out, 12, s->protocol);
    fprintf(out, " %-8s %-21s ", state_word(s->state), clock_text(s->online_ms, when, sizeof when));
    print_cell(out, 0, s->error[0] ? s->error : "-");
    fputc('\n', out);
    for (uint32_t i = 0; i < s->n_properties; i++) {
        const struct ke_device_property_status *p = property(s, i);
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

void print_devices(struct ke_devices *d, FILE *out)
{
    fprintf(out, "%-32s %-12s %-8s %-21s %s\n", "DEVICE", "PROTOCOL", "STATE", "ONLINE SINCE", "LAST ERROR");
    if (d && ke_devices_list(d, print_one, out) < 0)
        fputs("out of memory\n", out);
}
