/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message router by itself: two modules, one asks, the other answers. No node, no network, no
 * thread: the program drives the context's loop.
 *
 *     cc router_modules.c $(pkg-config --cflags --libs kubeedge) && ./a.out
 */
#include <stdio.h>
#include <string.h>

#include <kubeedge/kubeedge.h>

struct app {
    struct ke_ctx *ctx;
    struct ke_router *router;
    struct ke_module *thermometer, *display;
    int result; /* of the program */
};

static void log_line(void *user, uint32_t level, const char *area, const char *text)
{
    (void)user;
    fprintf(stderr, "%u %s: %s\n", (unsigned)level, area, text);
}

/* The thermometer answers every query with its reading. */
static void thermometer_message(void *user, struct ke_msg *m)
{
    struct app *app = user;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *reply = NULL;
    static const char reading[] = "{\"celsius\":21.5}";

    if (strcmp(ke_msg_operation(m), "query") != 0)
        return;
    if (ke_msg_new_reply(&reply, app->ctx, m, reading, sizeof reading - 1, &err) < 0 ||
        ke_router_respond(app->router, reply, &err) < 0)
        fprintf(stderr, "thermometer: %s\n", err.text);
    ke_msg_unref(reply);
}

/* The display shows what it is sent. */
static void display_message(void *user, struct ke_msg *m)
{
    struct app *app = user;
    size_t n = 0;
    const char *content = ke_msg_content(m, &n);

    printf("display: %.*s\n", (int)n, content);
    app->result = 0;
    ke_ctx_stop(app->ctx);
}

/* The reply arrives, or the time is up: exactly one of them, and on the loop. */
static void on_reading(void *user, int status, struct ke_msg *reply)
{
    struct app *app = user;
    struct ke_error err = KE_ERROR_INIT;

    if (status < 0) {
        fprintf(stderr, "no reading: %s\n", ke_strerror(status));
        ke_ctx_stop(app->ctx);
        return;
    }
    if (ke_router_send(app->router, "display", reply, &err) < 0) {
        fprintf(stderr, "display: %s\n", err.text);
        ke_ctx_stop(app->ctx);
    }
}

static int add_modules(struct app *app)
{
    struct ke_module_ops thermometer = {sizeof thermometer, thermometer_message, NULL};
    struct ke_module_ops display = {sizeof display, display_message, NULL};
    int r =
        ke_router_add(&app->thermometer, app->router, "thermometer", "sensors", &thermometer, app);
    if (r == 0)
        r = ke_router_add(&app->display, app->router, "display", NULL, &display, app);
    return r;
}

static int ask(struct app *app)
{
    struct ke_msg_config c;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.source = "display";
    c.operation = "query";
    c.resource = "default/reading/room";
    int r = ke_msg_new(&m, app->ctx, &c, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err.text);
        return r;
    }
    r = ke_router_request(app->router, "thermometer", m, 1000, on_reading, app, NULL);
    if (r < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(app->ctx));
    ke_msg_unref(m); /* the router holds its own reference */
    return r;
}

int main(void)
{
    struct app app = {.result = 1};
    struct ke_ctx_config c;
    struct ke_error err = KE_ERROR_INIT;

    ke_ctx_config_init(&c, sizeof c);
    c.log = log_line;
    if (ke_ctx_new(&app.ctx, &c, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (ke_router_new(&app.router, app.ctx, NULL) < 0 || add_modules(&app) < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(app.ctx));
    else if (ask(&app) == 0 && ke_ctx_run(app.ctx) < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(app.ctx));
    ke_router_free(app.router);
    ke_ctx_free(app.ctx);
    return app.result;
}
