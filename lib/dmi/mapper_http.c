/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP API of a mapper, as upstream's framework has it: properties read, methods called, models
 * shown. It owns its server and the answers that wait for a device. Loop thread.
 *
 * All is GET there, also what writes: requests that a browser makes for another site are refused.
 */
#include <stdio.h>

#include "base/codec.h"
#include "base/log.h"
#include "dmi/mapper_priv.h"
#include "message/devmodel.h"
#include "net/addr.h"
#include "net/http.h"

#define ROOT "/api/v1/"
#define WRITE_MS 10000    /* for an answer to a write, as upstream */
#define PARTS 8u          /* of a path below it */
#define BODY_MAX 65536u   /* of a request: nobody sends one */
#define MEMORY (1u << 24) /* that an object may take when it is read */

struct kei_mapper_http {
    struct ke_mapper *m;
    struct kei_http_server *server;
    struct kei_link waits;
    bool loopback;
};

/* A write under way. */
struct wait {
    struct kei_link link;
    struct ke_ctx *ctx;
    struct kei_http_conn *conn; /* NULL: gone, or answered */
    struct kei_timer timer;     /* a device that is not there does not end it */
    char *correlation;          /* header line, or NULL */
    char *text;                 /* answer when it went well */
};

/* A request, taken apart; texts are the arena's. */
struct request {
    struct kei_mapper_http *h;
    struct kei_http_conn *conn;
    struct kei_arena a;
    const char *part[PARTS];
    size_t n;
    const char *correlation;
};

/* ---- answers ---- */

static void answer(struct kei_http_conn *c, uint32_t status, const char *type,
                   const char *correlation, struct ke_str body)
{
    (void)!kei_http_respond(c, status, type, correlation, body); /* it closes what it cannot send */
}

static void fail(const struct request *r, uint32_t status, const char *text)
{
    answer(r->conn, status, "text/plain; charset=utf-8", r->correlation, kei_str(text));
}

static void begin(struct ke_ctx *ctx, struct kei_jw *w, struct ke_buf *out)
{
    char when[KEI_TIME_MAX];

    kei_buf_init(out, kei_ctx_alloc(ctx));
    kei_jw_init(w, out);
    kei_time_rfc3339(when, ke_ctx_real_ms(ctx));
    kei_jw_obj(w);
    kei_jw_kstr(w, "apiVersion", "v1");
    kei_jw_ki64(w, "statusCode", 200);
    kei_jw_kstr(w, "timeStamp", when);
}

static void end(struct kei_http_conn *c, const char *correlation, struct kei_jw *w,
                struct ke_buf *out)
{
    kei_jw_obj_end(w);
    if (kei_buf_ok(out))
        answer(c, 200, "application/json", correlation, kei_buf_str(out));
    else
        answer(c, 500, "text/plain; charset=utf-8", correlation, KEI_STR("out of memory"));
    ke_buf_free(out);
}

static void say(struct ke_ctx *ctx, struct kei_http_conn *c, const char *correlation,
                const char *message)
{
    struct ke_buf out;
    struct kei_jw w;

    begin(ctx, &w, &out);
    kei_jw_kstr(&w, "Message", message);
    end(c, correlation, &w, &out);
}

/* ---- objects ---- */

/* The namespace of a device that is named without one. */
static const char *namespace_of(struct request *r, const char *name)
{
    struct ke_str key, own;
    size_t it = 0;
    char text[600];

    snprintf(text, sizeof text, "d/default/%.253s", name);
    if (kei_map_get(&r->h->m->objects, kei_str(text)))
        return "default";
    while (kei_map_next(&r->h->m->objects, &it, &key, NULL)) {
        struct ke_str ns = kei_str_cut(kei_strn(key.p + 2, key.n - 2), '/', &own);
        if (key.p[0] != 'd' || !kei_str_is(own, name))
            continue;
        const char *found = kei_arena_strdup(&r->a, ns);
        return found ? found : "default";
    }
    return "default";
}

static const struct kei_mapper_object *object_of(struct request *r, char kind, const char *ns,
                                                 const char *name)
{
    char key[600];

    snprintf(key, sizeof key, "%c/%.253s/%.253s", kind, ns, name);
    return kei_map_get(&r->h->m->objects, kei_str(key));
}

/* 0, or answered. model may be NULL. */
static int read_device(struct request *r, const char *what, const char *ns, const char *name,
                       struct kei_device *device, struct kei_device_model *model)
{
    struct ke_error err = KE_ERROR_INIT;
    const struct kei_mapper_object *o = object_of(r, 'd', ns, name);
    char text[900];
    int e = o ? kei_device_read(device, kei_strn(o->json, o->n), &r->a, &err)
              : kei_error(&err, KE_ENOTFOUND, "not found device %.253s/%.253s", ns, name);

    if (e == 0 && model) {
        o = object_of(r, 'm', ns, device->model);
        e = o ? kei_device_model_read(model, kei_strn(o->json, o->n), &r->a, &err)
              : kei_error(&err, KE_ENOTFOUND, "not found device model %.253s", device->model);
    }
    if (e == 0)
        return 0;
    snprintf(text, sizeof text, "%s error: %s", what, err.text);
    fail(r, 500, text);
    return e;
}

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

static void put_if(struct kei_jw *w, const char *key, const char *value)
{
    if (value && value[0])
        kei_jw_kstr(w, key, value);
}

/* ---- what is asked ---- */

struct look {
    const char *ns, *name, *property;
    struct kei_arena *a;
    bool device, found;
    const char *value, *type, *error;
    int64_t when_ms;
};

static void on_status(void *user, const struct ke_device_status *s)
{
    struct look *l = user;

    if (strcmp(s->ns, l->ns) != 0 || strcmp(s->name, l->name) != 0)
        return;
    l->device = true;
    for (uint32_t i = 0; i < s->n_properties; i++) {
        const struct ke_device_property_status *p = &s->properties[i];
        if (strcmp(p->name, l->property) != 0)
            continue;
        l->found = true;
        l->value = p->reported ? kei_arena_strdup(l->a, kei_str(p->reported)) : NULL;
        l->type = kei_arena_strdup(l->a, kei_str(p->type));
        l->error = kei_arena_strdup(l->a, kei_str(p->error[0] ? p->error : s->error));
        l->when_ms = p->reported_ms;
    }
}

static void get_property(struct request *r, const char *ns, const char *name, const char *property)
{
    struct look l = {.ns = ns, .name = name, .property = property, .a = &r->a};
    char text[1200];
    struct ke_buf out;
    struct kei_jw w;

    int e = ke_devices_list(r->h->m->devices, on_status, &l);
    if (e < 0 || !l.value) {
        if (e < 0)
            snprintf(text, sizeof text, "Get device data error: %s", ke_strerror(e));
        else if (!l.device)
            snprintf(text, sizeof text, "Get device data error: not found device %.253s/%.253s", ns,
                     name);
        else if (!l.found)
            snprintf(text, sizeof text, "Get device data error: not found property %.253s",
                     property);
        else
            snprintf(text, sizeof text, "Get device data error: nothing was read yet%s%.400s",
                     l.error && l.error[0] ? ": " : "", or_empty(l.error));
        fail(r, 500, text);
        return;
    }
    begin(r->h->m->ctx, &w, &out);
    kei_jw_key(&w, "Data");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "DeviceName", name);
    kei_jw_kstr(&w, "PropertyName", property);
    kei_jw_kstr(&w, "Namespace", ns);
    kei_jw_kstr(&w, "Value", l.value);
    kei_jw_kstr(&w, "Type", or_empty(l.type));
    kei_jw_ki64(&w, "TimeStamp", l.when_ms);
    kei_jw_obj_end(&w);
    end(r->conn, r->correlation, &w, &out);
}

static void get_model(struct request *r, const char *ns, const char *name)
{
    struct kei_device_model m;
    struct kei_device d;
    struct ke_buf out;
    struct kei_jw w;

    if (read_device(r, "Get device model", ns, name, &d, &m) < 0)
        return;
    begin(r->h->m->ctx, &w, &out);
    put_if(&w, "name", m.meta.name);
    put_if(&w, "namespace", m.meta.ns);
    kei_jw_key(&w, "properties");
    kei_jw_arr(&w);
    for (uint32_t i = 0; i < m.n_props; i++) {
        const struct kei_model_prop *p = &m.props[i];
        kei_jw_obj(&w);
        put_if(&w, "name", p->name);
        put_if(&w, "dataType", kei_prop_type_name(p->type));
        put_if(&w, "description", p->description);
        put_if(&w, "accessMode", p->read_only ? "ReadOnly" : "ReadWrite");
        put_if(&w, "minimum", p->minimum);
        put_if(&w, "maximum", p->maximum);
        put_if(&w, "unit", p->unit);
        kei_jw_obj_end(&w);
    }
    kei_jw_arr_end(&w);
    end(r->conn, r->correlation, &w, &out);
}

static void get_methods(struct request *r, const char *ns, const char *name)
{
    struct kei_device_model m;
    struct kei_device d;
    struct ke_buf out;
    struct kei_jw w;

    if (read_device(r, "Get device method", ns, name, &d, &m) < 0)
        return;
    begin(r->h->m->ctx, &w, &out);
    kei_jw_key(&w, "Data");
    kei_jw_obj(&w);
    kei_jw_key(&w, "Methods");
    kei_jw_arr(&w);
    for (uint32_t i = 0; i < d.n_methods; i++) {
        const struct kei_device_method *method = &d.methods[i];
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "Name", method->name);
        kei_jw_kstr(&w, "Path",
                    kei_arena_printf(&r->a, ROOT "devicemethod/%s/%s/%s/{propertyName}/{data}", ns,
                                     name, method->name));
        kei_jw_key(&w, "Parameters");
        kei_jw_arr(&w);
        for (uint32_t k = 0; k < method->n_props; k++) {
            const struct kei_model_prop *p = kei_model_prop_find(&m, method->props[k]);
            kei_jw_obj(&w);
            kei_jw_kstr(&w, "PropertyName", method->props[k]);
            kei_jw_kstr(&w, "ValueType", p ? kei_prop_type_name(p->type) : "");
            kei_jw_obj_end(&w);
        }
        kei_jw_arr_end(&w);
        kei_jw_obj_end(&w);
    }
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
    end(r->conn, r->correlation, &w, &out);
}

/* ---- writing ---- */

static void wait_free(struct wait *w)
{
    const struct ke_alloc *a = kei_ctx_alloc(w->ctx);

    kei_timer_fini(&w->timer);
    kei_list_remove(&w->link);
    kei_free(a, w->correlation);
    kei_free(a, w->text);
    kei_free(a, w);
}

static void on_written(void *user, int status, const char *reply, const char *text)
{
    struct wait *w = user;
    char error[700];

    (void)reply;
    snprintf(error, sizeof error, "Write device data error: %.600s", or_empty(text));
    if (w->conn && status == 0)
        say(w->ctx, w->conn, w->correlation, w->text);
    else if (w->conn)
        answer(w->conn, 500, "text/plain; charset=utf-8", w->correlation, kei_str(error));
    wait_free(w);
}

static void on_timer(struct kei_timer *t)
{
    struct wait *w = KEI_OF(t, struct wait, timer);

    if (w->conn)
        answer(w->conn, 500, "text/plain; charset=utf-8", w->correlation,
               KEI_STR("Write device data error: the device has not taken it yet"));
    w->conn = NULL;
}

/* Whether the method may write that property. */
static bool allows(const struct kei_device *d, const char *method, const char *property, char *text,
                   size_t n)
{
    snprintf(text, n,
             "Write device data error: deviceMethod name %.253s does not exist in device "
             "instance",
             method);
    for (uint32_t i = 0; i < d->n_methods; i++) {
        if (strcmp(d->methods[i].name, method) != 0)
            continue;
        for (uint32_t k = 0; k < d->methods[i].n_props; k++)
            if (strcmp(d->methods[i].props[k], property) == 0)
                return true;
        snprintf(text, n,
                 "Write device data error: deviceProperty %.253s to be written is not in "
                 "the list defined by devicemethod",
                 property);
    }
    return false;
}

static void call_method(struct request *r, const char *ns, const char *name, const char *method,
                        const char *property, const char *data)
{
    const struct ke_alloc *a = kei_ctx_alloc(r->h->m->ctx);
    struct kei_device d;
    char text[700];

    if (read_device(r, "Write device data", ns, name, &d, NULL) < 0)
        return;
    if (!allows(&d, method, property, text, sizeof text)) {
        fail(r, 500, text);
        return;
    }
    struct wait *w = kei_zalloc(a, sizeof *w);
    if (w) {
        snprintf(text, sizeof text, "Write data %.300s to device %.150s/%.150s successfully.", data,
                 ns, name);
        w->ctx = r->h->m->ctx;
        w->text = kei_strdup(a, text);
        w->correlation = r->correlation ? kei_strdup(a, r->correlation) : NULL;
        kei_timer_init(w->ctx, &w->timer, on_timer);
        kei_list_add_tail(&r->h->waits, &w->link);
    }
    if (!w || !w->text || (r->correlation && !w->correlation)) {
        fail(r, 500, "out of memory");
    } else if (ke_devices_set(r->h->m->devices, ns, name, property, data, on_written, w) < 0) {
        snprintf(text, sizeof text, "Write device data error: %.600s", ke_ctx_error(r->h->m->ctx));
        fail(r, 500, text);
    } else {
        w->conn = r->conn;
        kei_timer_in(&w->timer, WRITE_MS);
        return;
    }
    if (w)
        wait_free(w);
}

/* ---- requests ---- */

/* With percent-encoding undone; NULL: malformed, or no memory. */
static const char *decode(struct kei_arena *a, struct ke_str s)
{
    char *out = kei_arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; out && i < s.n; i++) {
        int c = (unsigned char)s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? kei_hex_digit(s.p[i + 1]) : -1;
            int low = i + 2 < s.n ? kei_hex_digit(s.p[i + 2]) : -1;
            c = high < 0 || low < 0 ? 0 : high * 16 + low;
            i += 2;
        }
        if (c == 0)
            return NULL;
        out[n++] = (char)c;
    }
    if (out)
        out[n] = '\0';
    return out && kei_utf8_valid(kei_strn(out, n)) ? out : NULL;
}

static bool take_apart(struct request *r, struct ke_str target)
{
    struct ke_str query, rest = kei_str_cut(target, '?', &query);

    if (!kei_str_starts(rest, KEI_STR(ROOT)))
        return false;
    rest = kei_strn(rest.p + sizeof ROOT - 1, rest.n - (sizeof ROOT - 1));
    while (rest.n > 0) {
        struct ke_str one = kei_str_cut(rest, '/', &rest);
        if (r->n == PARTS || one.n == 0 || !(r->part[r->n] = decode(&r->a, one)))
            return false;
        r->n++;
    }
    return r->n > 0;
}

static void route(struct request *r)
{
    const char *const *p = r->part;

    if (r->n == 1 && strcmp(p[0], "ping") == 0)
        say(r->h->m->ctx, r->conn, r->correlation,
            "This is v1 API, the server is running normally.");
    else if (r->n == 3 && strcmp(p[0], "device") == 0) /* up to KubeEdge 1.15 */
        get_property(r, namespace_of(r, p[1]), p[1], p[2]);
    else if (r->n == 4 && strcmp(p[0], "device") == 0)
        get_property(r, p[1], p[2], p[3]);
    else if (r->n == 3 && strcmp(p[0], "meta") == 0 && strcmp(p[1], "model") == 0)
        get_model(r, namespace_of(r, p[2]), p[2]);
    else if (r->n == 4 && strcmp(p[0], "meta") == 0 && strcmp(p[1], "model") == 0)
        get_model(r, p[2], p[3]);
    else if (r->n == 3 && strcmp(p[0], "devicemethod") == 0)
        get_methods(r, p[1], p[2]);
    else if (r->n == 6 && strcmp(p[0], "devicemethod") == 0)
        call_method(r, p[1], p[2], p[3], p[4], p[5]);
    else if (r->n >= 2 && strcmp(p[0], "database") == 0)
        fail(r, 503, "The database is not enabled. Please configure mapper and try again");
    else
        fail(r, 404, "404 page not found");
}

/* Whether the name in Host is an address, or localhost. */
static bool is_plain(struct ke_str host)
{
    char text[80];
    struct kei_addr a;
    size_t n = host.n;

    while (n > 0 && host.p[n - 1] >= '0' && host.p[n - 1] <= '9')
        n--;
    if (n > 0 && host.p[n - 1] == ':')
        host.n = n - 1;
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = kei_strn(host.p + 1, host.n - 2);
    snprintf(text, sizeof text, "%.*s", (int)(host.n < 79 ? host.n : 79), host.p ? host.p : "");
    return kei_str_ieq(host, KEI_STR("localhost")) || kei_addr_literal(&a, text, 0);
}

/* A page of another site may send a browser here: by a link or an image, or by a name of its own
 * that it makes mean this address. */
static bool is_foreign(const struct kei_mapper_http *h, const struct kei_http_head *head)
{
    struct ke_str site = kei_http_header(head, "Sec-Fetch-Site");

    return kei_http_header(head, "Origin").p ||
           (site.p && !kei_str_is(site, "none") && !kei_str_is(site, "same-origin")) ||
           (h->loopback && !is_plain(kei_http_header(head, "Host")));
}

static void on_request(void *user, struct kei_http_conn *c, const struct kei_http_head *head,
                       struct ke_str body)
{
    struct request r = {.h = user, .conn = c};
    struct ke_str id = kei_http_header(head, "X-Correlation-ID");

    (void)body;
    kei_arena_init(&r.a, kei_ctx_alloc(r.h->m->ctx), MEMORY);
    if (id.p && id.n <= 200)
        r.correlation = kei_arena_printf(&r.a, "X-Correlation-ID: %.*s\r\n", KEI_FMT(id));
    if (!kei_str_is(head->method, "GET"))
        fail(&r, 405, "405 method not allowed");
    else if (is_foreign(r.h, head))
        fail(&r, 403, "requests of other sites are refused");
    else if (!take_apart(&r, head->target))
        fail(&r, 404, "404 page not found");
    else
        route(&r);
    kei_arena_free(&r.a);
}

static void on_closed(void *user, struct kei_http_conn *c)
{
    struct kei_mapper_http *h = user;

    KEI_LIST_EACH(l, &h->waits)
    {
        struct wait *w = KEI_OF(l, struct wait, link);
        if (w->conn == c)
            w->conn = NULL;
    }
}

/* ---- life ---- */

/* "ADDRESS:PORT" */
static int read_address(const char *text, char *host, size_t n, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    uint64_t number;

    if (!colon || colon == text || (size_t)(colon - text) >= n ||
        !kei_str_u64(kei_str(colon + 1), &number) || number > UINT16_MAX)
        return KE_EINVAL;
    bool brackets = text[0] == '[' && colon[-1] == ']' && colon - text > 2;
    snprintf(host, n, "%.*s", (int)(colon - text) - (brackets ? 2 : 0), text + brackets);
    *port = (uint16_t)number;
    return 0;
}

int kei_mapper_http_new(struct ke_mapper *m)
{
    static const struct kei_http_server_ops ops = {on_request, on_closed};
    struct kei_http_server_config c = {.max_body = BODY_MAX};
    char host[100];

    if (read_address(m->c.http_listen, host, sizeof host, &c.listener.port) < 0)
        return kei_fail(m->ctx, KE_EINVAL, "http_listen \"%s\" is not ADDRESS:PORT",
                        m->c.http_listen);
    struct kei_mapper_http *h = kei_zalloc(m->alloc, sizeof *h);
    if (!h)
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for the HTTP API");
    h->m = m;
    kei_list_init(&h->waits);
    h->loopback = strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
    c.listener.host = host;
    c.listener.max_streams = 64;
    int r = kei_http_server_new(&h->server, m->ctx, &c, &ops, h);
    if (r < 0) {
        kei_free(m->alloc, h);
        return r;
    }
    m->http = h;
    kei_log(m->ctx, KE_LOG_INFO, "mapper", "HTTP API at %s", m->c.http_listen);
    return 0;
}

uint16_t kei_mapper_http_port(const struct ke_mapper *m)
{
    return m->http ? kei_http_server_port(m->http->server) : 0;
}

void kei_mapper_http_free(struct ke_mapper *m)
{
    struct kei_mapper_http *h = m->http;

    if (!h)
        return;
    kei_http_server_free(h->server);
    KEI_LIST_EACH_SAFE(l, next, &h->waits)
    {
        struct wait *w = KEI_OF(l, struct wait, link);
        w->conn = NULL; /* the harness ends it */
        kei_timer_stop(&w->timer);
        kei_list_remove(l);
    }
    kei_free(m->alloc, h);
    m->http = NULL;
}
