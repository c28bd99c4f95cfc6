/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store by itself: notes that survive restarts and power cuts. Run it twice.
 *
 *     cc store_notes.c $(pkg-config --cflags --libs kubeedge)
 *     ./a.out notes milk "buy two"      keeps a note; says so when it is durable
 *     ./a.out notes                     lists them
 */
#include <stdio.h>
#include <string.h>

#include <kubeedge/kubeedge.h>

struct app {
    struct ke_ctx *ctx;
    int left;   /* answers still to come */
    int result; /* of the program */
};

static void answered(struct app *app, int status)
{
    if (status < 0) {
        fprintf(stderr, "%s (%s)\n", ke_ctx_error(app->ctx), ke_strerror(status));
        app->result = 1;
    }
    if (--app->left == 0)
        ke_ctx_stop(app->ctx);
}

static void on_kept(void *user, int status)
{
    if (status == 0)
        puts("kept");
    answered(user, status);
}

static void on_note(void *user, int status, const struct ke_store_item *item)
{
    if (item)
        printf("%s: %.*s\n", item->key, (int)item->len, (const char *)item->value);
    else
        answered(user, status);
}

static void on_salvaged(void *user, uint64_t saved, uint64_t lost, const char *text)
{
    (void)user;
    (void)saved;
    (void)lost;
    fprintf(stderr, "%s\n", text);
}

static int keep(struct app *app, struct ke_store *store, const char *name, const char *text)
{
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, store);
    if (r < 0)
        return r;
    r = ke_store_put(tx, "notes", name, NULL, 0, text, strlen(text));
    if (r < 0) {
        ke_store_abort(tx);
        return r;
    }
    app->left++;
    return ke_store_commit(tx, on_kept, app);
}

int main(int argc, char **argv)
{
    struct app app = {NULL, 0, 0};
    struct ke_error err = KE_ERROR_INIT;
    struct ke_store_config config;
    struct ke_store *store = NULL;
    int r;

    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: %s FOLDER [NAME TEXT]\n", argv[0]);
        return 2;
    }
    if (ke_ctx_new(&app.ctx, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    ke_store_config_init(&config, sizeof config);
    config.folder = argv[1];
    config.salvaged = on_salvaged;
    r = ke_store_open(&store, app.ctx, &config);
    if (r == 0 && argc == 4)
        r = keep(&app, store, argv[2], argv[3]);
    if (r == 0) {
        app.left++;
        r = ke_store_list(store, "notes", "", 0, on_note, &app);
    }
    if (r == 0)
        r = ke_ctx_run(app.ctx);
    if (r < 0) {
        fprintf(stderr, "%s (%s)\n", ke_ctx_error(app.ctx), ke_strerror(r));
        app.result = 1;
    }
    ke_store_close(store);
    ke_ctx_free(app.ctx);
    return app.result;
}
