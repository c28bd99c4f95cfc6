/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device twin by itself, on a router and a store: a lamp that shall be on, and says it is. No
 * cloud, no MQTT. Run it twice: the second time the lamp is remembered.
 *
 *     cc twin_alone.c $(pkg-config --cflags --libs kubeedge) && ./a.out FOLDER
 */
#include <stdio.h>

#include <kubeedge/kubeedge.h>
#include <kubeedge/twin.h>

struct app {
    struct ke_ctx *ctx;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_twin *twin;
};

static void log_line(void *user, uint32_t level, const char *area, const char *text)
{
    (void)user;
    fprintf(stderr, "%u %s: %s\n", (unsigned)level, area, text);
}

/* Called when a change is on the disk. The "device" does what it shall, and reports. */
static void on_change(void *user, const struct ke_twin_event *e)
{
    struct app *app = user;
    const struct ke_twin_value *v = e->value;
    struct ke_error err = KE_ERROR_INIT;

    if (e->what != KE_TWIN_CHANGED)
        return;
    printf("%s.%s: desired %s, reported %s\n", v->device, v->name, v->desired ? v->desired : "-",
           v->reported ? v->reported : "-");
    if (v->desired && (!v->reported || v->reported_ms < v->desired_ms) &&
        ke_twin_report(app->twin, v->device, v->name, v->desired, NULL, NULL, NULL, &err) < 0)
        fprintf(stderr, "report: %s\n", err.text);
    else if (v->reported && v->reported_ms >= v->desired_ms)
        ke_ctx_stop(app->ctx);
}

static void on_set(void *user, int status, const char *text)
{
    struct app *app = user;

    if (status == 0)
        return;
    fprintf(stderr, "set: %s\n", text);
    ke_ctx_stop(app->ctx);
}

static int run(struct app *app, const char *folder)
{
    struct ke_ctx_config cc;
    struct ke_store_config sc;
    struct ke_twin_config tc;
    struct ke_twin_sub *sub = NULL;

    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = log_line;
    ke_store_config_init(&sc, sizeof sc);
    sc.folder = folder;
    ke_twin_config_init(&tc, sizeof tc);
    tc.node_name = "gateway";
    if (ke_ctx_new(&app->ctx, &cc, NULL) < 0 || ke_store_open(&app->store, app->ctx, &sc) < 0 ||
        ke_router_new(&app->router, app->ctx, NULL) < 0)
        return 1;
    tc.store = app->store;
    tc.router = app->router;
    if (ke_twin_new(&app->twin, app->ctx, &tc) < 0 || ke_twin_start(app->twin) < 0 ||
        ke_twin_observe(&sub, app->twin, "lamp", on_change, app) < 0 ||
        ke_twin_add(app->twin, "lamp", "over the door", NULL, NULL, NULL) < 0 ||
        ke_twin_set(app->twin, "lamp", "power", "on", "string", on_set, app, NULL) < 0)
        return 1;
    return ke_ctx_run(app->ctx) < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct app app = {NULL, NULL, NULL, NULL};
    int result = run(&app, argc > 1 ? argv[1] : "twin-store");

    if (result && app.ctx)
        fprintf(stderr, "failed: %s\n", ke_ctx_error(app.ctx));
    ke_twin_free(app.twin);
    ke_router_free(app.router);
    ke_store_close(app.store);
    ke_ctx_free(app.ctx);
    return result;
}
