/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappers, and what they are told. Each has a list of objects that differ from what it has; one
 * call is under way at a time, models before devices, removals last. A mapper that cannot be
 * reached is tried again after a pause, and then told everything. Loop thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "dmi/dmi_priv.h"
#include "dmi/dmi_v1alpha1.pb-c.h"
#include "dmi/dmi_v1beta1.pb-c.h"

#define TRIES 5u        /* of one object in a row that the mapper refuses */
#define LOOKS_A_TURN 32 /* objects looked at without a call */
#define MESSAGE_MEMORY ((size_t)64 * 1024 * 1024)

/* ---- whose ---- */

struct kei_dmi_mapper *kei_dmi_mapper_find(const struct kei_dmi *d, const char *protocol)
{
    KEI_LIST_EACH(l, &d->mappers)
    {
        struct kei_dmi_mapper *m = KEI_OF(l, struct kei_dmi_mapper, link);
        if (strcmp(m->protocol, protocol) == 0)
            return m;
    }
    return NULL;
}

/* ---- what is to be told ---- */

static void kick(struct kei_dmi_mapper *m)
{
    if (!m->ask && !kei_timer_armed(&m->timer))
        kei_timer_in(&m->timer, 0);
}

static void enqueue(struct kei_dmi_mapper *m, struct kei_dmi_view *v)
{
    if (!kei_list_linked(&v->todo))
        kei_list_add_tail(v->o->is_model ? &m->models : &m->devices, &v->todo);
    kick(m);
}

void kei_dmi_changed(struct kei_dmi_view *v)
{
    struct kei_dmi_mapper *m = kei_dmi_mapper_find(v->o->d, v->protocol);

    v->tries = 0;
    if (m)
        enqueue(m, v);
}

void kei_dmi_removed(struct kei_dmi *d, const char *protocol, const char *key)
{
    struct kei_dmi_mapper *m = kei_dmi_mapper_find(d, protocol);
    size_t n = strlen(key) + 1;

    if (!m)
        return; /* the next one to register is not told of it */
    struct kei_dmi_removal *r = kei_zalloc(d->alloc, sizeof *r + n);
    if (!r) {
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "no memory to tell mapper %s that %s is gone", m->name,
                key + 2);
        return;
    }
    r->is_model = key[0] == 'm';
    memcpy(r->key, key, n);
    kei_list_add_tail(&m->removals, &r->link);
    kick(m);
}

void kei_dmi_told(struct kei_dmi_view *v, struct ke_store_tx *tx, struct kei_dmi_digest digest)
{
    v->known = true;
    v->tries = 0;
    if (v->told.spec == digest.spec && v->told.status == digest.status)
        return;
    v->told = digest;
    kei_dmi_note_told(v->o->d, tx, v->o->key, v->protocol, &digest);
}

void kei_dmi_mapper_forget(struct kei_dmi_mapper *m)
{
    void *value;
    size_t it = 0;

    while (kei_map_next(&m->d->objects, &it, NULL, &value)) {
        struct kei_dmi_object *o = value;
        struct kei_dmi_view *v = kei_dmi_view_of(o, m->protocol);
        if (!v)
            continue;
        v->known = false;
        v->tries = 0;
        if (!kei_list_linked(&v->todo))
            kei_list_add_tail(o->is_model ? &m->models : &m->devices, &v->todo);
    }
}

void kei_dmi_mapper_seen(struct kei_dmi_mapper *m)
{
    m->seen_ms = ke_ctx_real_ms(m->d->ctx);
}

/* ---- a call ---- */

static void unreachable(struct kei_dmi_mapper *m, const char *text)
{
    struct kei_dmi *d = m->d;

    if (m->reachable)
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "mapper %s of protocol %s is not there: %s", m->name,
                m->protocol, text);
    m->reachable = false;
    snprintf(m->error, sizeof m->error, "%s", text);
    kei_dmi_mapper_forget(m);
    if (!kei_timer_armed(&m->timer))
        kei_timer_in(&m->timer, kei_backoff_next(&m->backoff, kei_ctx_random64(d->ctx)));
}

static void end_job(struct kei_dmi_mapper *m)
{
    kei_free(m->d->alloc, m->job);
    m->job = NULL;
}

static void drop_removal(struct kei_dmi_mapper *m)
{
    if (kei_list_empty(&m->removals))
        return;
    struct kei_dmi_removal *r = KEI_OF(m->removals.next, struct kei_dmi_removal, link);
    kei_list_remove(&r->link);
    kei_free(m->d->alloc, r);
}

static void refused(struct kei_dmi_mapper *m, struct kei_dmi_view *v,
                    const struct kei_grpc_answer *a)
{
    struct kei_dmi *d = m->d;

    snprintf(m->error, sizeof m->error, "%.150s was refused with code %u: %.100s", m->job + 2,
             (unsigned)a->code, a->text);
    bool again = v && ++v->tries < TRIES;
    if (v && m->is_status)
        v->told.spec = 0; /* then as an update of the whole device */
    kei_log(d->ctx, KE_LOG_WARN, "dmi", "mapper %s: %s%s", m->name, m->error,
            again ? ", trying again" : "");
    if (again) {
        enqueue(m, v);
        kei_timer_in(&m->timer, kei_backoff_next(&m->backoff, kei_ctx_random64(d->ctx)));
    }
}

static void told(struct kei_dmi_mapper *m, struct kei_dmi_view *v)
{
    m->error[0] = '\0';
    kei_backoff_reset(&m->backoff);
    if (!v)
        return;
    /* a mapper that has it already keeps what it has when it is registered once more */
    if (!m->is_update && !v->o->is_model && v->told.spec &&
        (v->told.spec != m->digest.spec || v->told.status != m->digest.status)) {
        v->known = true;
        enqueue(m, v);
        return;
    }
    kei_dmi_told(v, NULL, m->digest);
}

static void on_pushed(void *user, const struct kei_grpc_answer *a)
{
    struct kei_dmi_mapper *m = user;
    struct kei_dmi_object *o = m->is_removal ? NULL : kei_dmi_find(m->d, m->job);
    struct kei_dmi_view *v = o ? kei_dmi_view_of(o, m->protocol) : NULL;

    m->ask = NULL;
    if (a->status < 0) {
        unreachable(m, a->text); /* v is on the list again, a removal has not left it */
    } else {
        m->reachable = true;
        kei_dmi_mapper_seen(m);
        if (m->is_removal)
            drop_removal(m);
        if (a->code == KEI_GRPC_OK)
            told(m, v);
        else
            refused(m, v, a);
    }
    end_job(m);
    kick(m);
}

static int ask(struct kei_dmi_mapper *m, const char *method, const void *message, const char *key)
{
    struct kei_dmi *d = m->d;
    struct ke_buf body;
    char path[100];

    snprintf(path, sizeof path, "/%s.DeviceMapperService/%s",
             m->form == KEI_DMI_A1 ? "v1alpha1" : "v1beta1", method);
    kei_buf_init(&body, d->alloc);
    kei_pb_pack(&body, message);
    m->job = kei_strdup(d->alloc, key);
    int r = m->job && kei_buf_ok(&body) ? kei_grpc_ask(&m->ask, m->client, path, kei_buf_str(&body),
                                                       d->c.push_ms, on_pushed, m)
                                        : kei_fail(d->ctx, KE_ENOMEM, "no memory to tell a mapper");
    ke_buf_free(&body);
    if (r < 0)
        end_job(m);
    return r;
}

static const char *method_of(const struct kei_dmi_mapper *m, bool is_model)
{
    static const char *const methods[2][2] = {{"RegisterDevice", "UpdateDevice"},
                                              {"CreateDeviceModel", "UpdateDeviceModel"}};

    return m->is_status ? "UpdateDeviceStatus" : methods[is_model][m->is_update];
}

/* The request of that method, around the object's message. */
static void *request_of(const struct kei_dmi_mapper *m, const struct kei_dmi_object *o,
                        void *message, struct kei_arena *a)
{
    bool a1 = m->form == KEI_DMI_A1;
    const ProtobufCMessageDescriptor *device =
        a1 ? &kei__a1__device_request__descriptor : &kei__b1__device_request__descriptor;
    const ProtobufCMessageDescriptor *model =
        a1 ? &kei__a1__model_request__descriptor : &kei__b1__model_request__descriptor;

    if (m->is_status) {
        Kei__A1__UpdateDeviceStatusRequest *q =
            kei_pb_new(a, &kei__a1__update_device_status_request__descriptor);
        if (q) {
            q->devicename = ((Kei__A1__Device *)message)->name;
            q->desireddevice = ((Kei__A1__Device *)message)->status;
        }
        return q;
    }
    ProtobufCMessage *q = kei_pb_new(a, o->is_model ? model : device);
    if (q)
        *(void **)((char *)q + q->descriptor->fields[0].offset) = message;
    return q;
}

/* 1: there is nothing to tell of it */
static int tell_object(struct kei_dmi_mapper *m, struct kei_dmi_view *v, struct ke_error *err)
{
    struct kei_dmi_object *o = v->o;
    struct kei_arena a;
    void *message = NULL;

    kei_arena_init(&a, m->d->alloc, MESSAGE_MEMORY);
    int r = kei_dmi_build(&message, &m->digest, o, m->form, &a, err);
    bool same = r == 0 && v->known && v->told.spec == m->digest.spec;
    if (same && v->told.status == m->digest.status)
        r = 1;
    if (r == 0) {
        m->is_update = v->known;
        m->is_status = same;
        m->is_removal = false;
        void *request = request_of(m, o, message, &a);
        if (request) {
            r = ask(m, method_of(m, o->is_model), request, o->key);
            if (r < 0)
                *err = *kei_err(m->d->ctx);
        } else {
            r = kei_error(err, KE_ENOMEM, "no memory to tell a mapper");
        }
    }
    kei_arena_free(&a);
    return r;
}

static int tell_removal(struct kei_dmi_mapper *m, const struct kei_dmi_removal *r)
{
    struct ke_str name, ns = kei_str_cut(kei_str(r->key + 2), '/', &name);
    Kei__B1__NameOf request; /* in both forms; a namespace is not known in the older one */
    char text[300];
    (void)name;

    const struct kei_dmi_object *o = kei_dmi_find(m->d, r->key);
    if (o && kei_dmi_view_of(o, m->protocol)) {
        drop_removal(m); /* it is there again */
        return 1;
    }
    kei__b1__name_of__init(&request);
    snprintf(text, sizeof text, "%.*s", KEI_FMT(ns));
    request.name = kei_pb_str(r->key + 2 + ns.n + 1);
    request.namespace_ = m->form == KEI_DMI_A1 ? kei_pb_str("") : text;
    m->is_removal = true;
    m->is_update = m->is_status = false;
    return ask(m, r->is_model ? "RemoveDeviceModel" : "RemoveDevice", &request, r->key);
}

/* The next that differs. 0: a call is under way, 1: look on, negative: not now. */
static int tell_next(struct kei_dmi_mapper *m)
{
    struct kei_link *head = kei_list_empty(&m->models) ? &m->devices : &m->models;
    struct ke_error err = KE_ERROR_INIT;

    if (kei_list_empty(head)) {
        if (kei_list_empty(&m->removals))
            return 0;
        return tell_removal(m, KEI_OF(m->removals.next, struct kei_dmi_removal, link));
    }
    struct kei_dmi_view *v = KEI_OF(head->next, struct kei_dmi_view, todo);
    kei_list_remove(&v->todo);
    int r = tell_object(m, v, &err);
    if (r >= 0 || r == KE_ENOTFOUND) /* its model will bring it back */
        return r == 0 ? 0 : 1;
    if (r == KE_ENOMEM || r == KE_ELIMIT) {
        kei_list_add_tail(head, &v->todo);
        return r;
    }
    snprintf(m->error, sizeof m->error, "%.299s", err.text);
    kei_log(m->d->ctx, KE_LOG_WARN, "dmi", "%s is not told to mapper %s: %s", v->o->key + 2,
            m->name, err.text);
    return 1;
}

static void on_timer(struct kei_timer *t)
{
    struct kei_dmi_mapper *m = KEI_OF(t, struct kei_dmi_mapper, timer);
    int r = 1;

    for (int i = 0; i < LOOKS_A_TURN && r == 1 && !m->ask; i++)
        r = tell_next(m);
    if (m->ask)
        return;
    if (r == 1)
        kei_timer_in(&m->timer, 0);
    else if (r < 0)
        kei_timer_in(&m->timer, kei_backoff_next(&m->backoff, kei_ctx_random64(m->d->ctx)));
}

/* ---- signs of life ---- */

static void on_probed(void *user, const struct kei_grpc_answer *a)
{
    struct kei_dmi_mapper *m = user;

    m->probe_ask = NULL;
    if (a->status < 0) {
        unreachable(m, a->text);
        return;
    }
    if (!m->reachable)
        m->error[0] = '\0';
    m->reachable = true; /* whatever it answered: most know no such service */
    kei_dmi_mapper_seen(m);
}

static void on_probe(struct kei_timer *t)
{
    struct kei_dmi_mapper *m = KEI_OF(t, struct kei_dmi_mapper, probe);
    bool busy = m->ask || m->probe_ask || kei_timer_armed(&m->timer);

    kei_timer_in(&m->probe, m->d->c.probe_ms);
    if (!busy && kei_grpc_ask(&m->probe_ask, m->client, "/grpc.health.v1.Health/Check",
                              kei_strn("", 0), m->d->c.push_ms, on_probed, m) < 0)
        kei_log(m->d->ctx, KE_LOG_DEBUG, "dmi", "mapper %s was not looked at: %s", m->name,
                ke_ctx_error(m->d->ctx));
}

/* ---- mappers ---- */

static void on_lost(void *user, const char *text)
{
    unreachable(user, text);
}

static void clear(struct kei_dmi_mapper *m)
{
    const struct ke_alloc *a = m->d->alloc;

    kei_grpc_client_free(m->client); /* with its call */
    m->client = NULL;
    m->ask = m->probe_ask = NULL;
    end_job(m);
    kei_free(a, m->name);
    kei_free(a, m->version);
    kei_free(a, m->api_version);
    kei_free(a, m->address);
    kei_free(a, m->state);
    m->name = m->version = m->api_version = m->address = m->state = NULL;
    kei_timer_stop(&m->timer);
    kei_timer_stop(&m->probe);
}

void kei_dmi_mapper_free(struct kei_dmi_mapper *m)
{
    struct kei_link *lists[] = {&m->models, &m->devices};

    clear(m);
    for (size_t i = 0; i < 2; i++)
        while (!kei_list_empty(lists[i]))
            kei_list_remove(lists[i]->next);
    while (!kei_list_empty(&m->removals))
        drop_removal(m);
    kei_list_remove(&m->link);
    m->d->n_mappers--;
    kei_free(m->d->alloc, m->protocol);
    kei_free(m->d->alloc, m);
}

static struct kei_dmi_mapper *mapper_new(struct kei_dmi *d, const char *protocol)
{
    struct kei_dmi_mapper *m = kei_zalloc(d->alloc, sizeof *m);
    char *own = kei_strdup(d->alloc, protocol);

    if (!m || !own) {
        kei_free(d->alloc, m);
        kei_free(d->alloc, own);
        kei_fail(d->ctx, KE_ENOMEM, "no memory for a mapper");
        return NULL;
    }
    m->d = d;
    m->protocol = own;
    kei_list_init(&m->models);
    kei_list_init(&m->devices);
    kei_list_init(&m->removals);
    kei_list_add_tail(&d->mappers, &m->link);
    d->n_mappers++;
    kei_timer_init(d->ctx, &m->timer, on_timer);
    kei_timer_init(d->ctx, &m->probe, on_probe);
    kei_backoff_init(&m->backoff, d->c.retry_min_ms, d->c.retry_max_ms);
    return m;
}

int kei_dmi_mapper_set(struct kei_dmi_mapper **ret, struct kei_dmi *d,
                       const struct kei_dmi_registration *r)
{
    struct kei_dmi_mapper *m = kei_dmi_mapper_find(d, r->protocol);
    struct ke_str address = kei_str(r->address);

    if (!m && d->n_mappers >= d->c.max_mappers)
        return kei_fail(d->ctx, KE_ELIMIT, "%u mappers have registered, which is the limit",
                        (unsigned)d->n_mappers);
    if (m)
        clear(m);
    else
        m = mapper_new(d, r->protocol);
    if (!m)
        return KE_ENOMEM;
    if (kei_str_starts(address, KEI_STR("unix://")))
        address = kei_strn(address.p + 7, address.n - 7);
    else if (kei_str_starts(address, KEI_STR("unix:")))
        address = kei_strn(address.p + 5, address.n - 5);
    m->form = r->form;
    m->name = kei_strdup(d->alloc, r->name);
    m->version = kei_strdup(d->alloc, r->version);
    m->api_version = kei_strdup(d->alloc, r->api_version);
    m->state = kei_strdup(d->alloc, r->state);
    m->address = kei_strndup(d->alloc, address.p, address.n);
    const struct kei_grpc_client_config c = {
        .stream = {.unix_path = m->address}, .lost = on_lost, .user = m};
    int x = m->name && m->version && m->api_version && m->state && m->address
                ? kei_grpc_client_new(&m->client, d->ctx, &c)
                : kei_fail(d->ctx, KE_ENOMEM, "no memory for a mapper");
    if (x < 0) {
        kei_dmi_mapper_free(m);
        if (d->loaded && d->c.changed)
            d->c.changed(d->c.user);
        return x;
    }
    m->reachable = true; /* until it is found that it is not */
    m->error[0] = '\0';
    kei_backoff_reset(&m->backoff);
    kei_dmi_mapper_forget(m);
    kick(m);
    kei_timer_in(&m->probe, d->c.probe_ms);
    if (d->loaded && d->c.changed)
        d->c.changed(d->c.user);
    *ret = m;
    return 0;
}

static uint32_t count(const struct kei_link *list)
{
    uint32_t n = 0;

    KEI_LIST_EACH(l, list)
    n += l != NULL;
    return n;
}

void kei_dmi_mappers(struct kei_dmi *d, void (*fn)(void *user, const struct kei_dmi_mapper_info *m),
                     void *user)
{
    KEI_LIST_EACH(l, &d->mappers)
    {
        struct kei_dmi_mapper *m = KEI_OF(l, struct kei_dmi_mapper, link);
        struct kei_dmi_mapper_info i = {.name = m->name,
                                        .version = m->version,
                                        .api_version = m->api_version,
                                        .protocol = m->protocol,
                                        .address = m->address,
                                        .form = m->form == KEI_DMI_A1 ? "v1alpha1" : "v1beta1",
                                        .state = m->state,
                                        .error = m->error,
                                        .reachable = m->reachable,
                                        .reports = m->reports,
                                        .registered_ms = m->registered_ms,
                                        .seen_ms = m->seen_ms};
        void *value;
        size_t it = 0;
        while (kei_map_next(&d->objects, &it, NULL, &value)) {
            const struct kei_dmi_object *o = value;
            const struct kei_dmi_view *v = o->is_model ? NULL : kei_dmi_view_of(o, m->protocol);
            i.devices += v && v->known;
        }
        i.waiting = count(&m->models) + count(&m->devices) + count(&m->removals);
        i.waiting += m->ask != NULL && !m->is_removal;
        fn(user, &i);
    }
}

int kei_dmi_serves(struct kei_dmi *d, const char *protocol, const char *ns, const char *name,
                   struct kei_dmi_served *ret)
{
    if (!d)
        return 0;
    if (!d->loaded)
        return KE_EAGAIN;
    const struct kei_dmi_mapper *m = kei_dmi_mapper_find(d, protocol);
    if (!m)
        return 0;
    if (!ret)
        return 1;
    const struct kei_dmi_object *o = kei_dmi_device_of(d, ns, name);
    *ret = (struct kei_dmi_served){
        .mapper = m->name,
        .state = o && o->state ? o->state : "",
        .error = !m->reachable && m->error[0] ? m->error
                 : o && o->error              ? o->error
                                              : "",
        .reachable = m->reachable,
        .report_ms = o ? o->report_ms : 0,
        .reports = o ? o->reports : 0,
    };
    return 1;
}
