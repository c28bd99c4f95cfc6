/* SPDX-License-Identifier: Apache-2.0 */
/* Devices as a table: state and last error of each, desired and reported value of each property. */
#include "node_devices.h"

#include <time.h>

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
    fprintf(out, "%-32s %-12s %-8s %-21s %s\n", name, s->protocol, state_word(s->state),
            clock_text(s->online_ms, when, sizeof when), s->error[0] ? s->error : "-");
    if (s->pushes + s->push_failures)
        fprintf(out, "  pushed %llu values, %llu attempts failed\n", (unsigned long long)s->pushes,
                (unsigned long long)s->push_failures);
    for (uint32_t i = 0; i < s->n_properties; i++) {
        const struct ke_device_property_status *p = property(s, i);
        snprintf(name, sizeof name, "%s%s%s", p->name, p->unit[0] ? ", " : "", p->unit);
        fprintf(out, "  %-30s %-12s desired %-10s reported %-10s %s%s%s\n", name, p->type,
                p->desired ? p->desired : "-", p->reported ? p->reported : "-",
                clock_text(p->reported_ms, when, sizeof when), p->error[0] ? "  " : "", p->error);
    }
}

void print_devices(struct ke_devices *d, FILE *out)
{
    fprintf(out, "%-32s %-12s %-8s %-21s %s\n", "DEVICE", "PROTOCOL", "STATE", "ONLINE SINCE", "LAST ERROR");
    if (d && ke_devices_list(d, print_one, out) < 0)
        fputs("out of memory\n", out);
}
