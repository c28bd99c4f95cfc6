/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 of one connection over nghttp2. The connection owns its streams; what nghttp2 tells is
 * noted, and told to the user only after nghttp2 has returned, so that the user may do anything.
 */
#include <nghttp2/nghttp2.h>

#include "base/alloc.h"
#include "net/h2.h"

#define MAX_STREAMS 100u
#define MAX_HEADERS ((size_t)16 * 1024)
#define MAX_BODY ((size_t)4 * 1024 * 1024)
#define HEADER_COST 32u  /* what RFC 9113 counts for each beside its text */
#define WINDOW (1 << 20) /* of the whole connection: what a peer may send ahead of us */

struct header_span {
    size_t name, name_n, value, value_n; /* in text */
};

struct kei_h2_stream {
    struct kei_h2 *h;
    struct kei_link link, ready; /* ready: has something to tell */
    int32_t id;
    void *user;
    struct ke_buf text; /* of the headers */
    struct header_span *spans;
    size_t n_spans, cap_spans, cost;
    struct ke_buf body; /* received */
    struct ke_buf out;  /* to be sent */
    size_t sent;
    nghttp2_nv *trailers;
    size_t n_trailers;
    struct ke_buf trailer_text;
    uint32_t code; /* of its close */
    bool whole;    /* the peer's message is complete */
    bool over;     /* larger than allowed */
    bool told;     /* server: request was called */
    bool owned;    /* the user holds it */
    bool closed;   /* nghttp2 knows it no more */
    bool bad_head;
};

struct kei_h2 {
    const struct ke_alloc *alloc;
    nghttp2_mem mem;
    nghttp2_session *session;
    struct kei_h2_ops ops;
    void *user;
    struct kei_h2_config c;
    struct kei_link streams, ready;
    uint32_t n_streams;
    size_t bodies; /* received and still held */
    uint32_t depth;
    bool freed, failed, aborted, no_memory;
};

/* ---- memory of nghttp2 ---- */

static void *mem_malloc(size_t n, void *user)
{
    return kei_alloc(((struct kei_h2 *)user)->alloc, n);
}

static void mem_free(void *p, void *user)
{
    kei_free(((struct kei_h2 *)user)->alloc, p);
}

static void *mem_calloc(size_t n, size_t size, void *user)
{
    if (size && n > SIZE_MAX / size)
        return NULL;
    return kei_zalloc(((struct kei_h2 *)user)->alloc, n * size);
}

static void *mem_realloc(void *p, size_t n, void *user)
{
    return kei_realloc(((struct kei_h2 *)user)->alloc, p, n);
}

/* ---- streams ---- */

static void stream_free(struct kei_h2_stream *s)
{
    struct kei_h2 *h = s->h;

    kei_list_remove(&s->link);
    kei_list_remove(&s->ready);
    h->n_streams--;
    h->bodies -= s->body.n;
    ke_buf_free(&s->text);
    ke_buf_free(&s->body);
    ke_buf_free(&s->out);
    ke_buf_free(&s->trailer_text);
    kei_free(h->alloc, s->spans);
    kei_free(h->alloc, s->trailers);
    kei_free(h->alloc, s);
}

/* Neither side needs it any more. */
static void maybe_free(struct kei_h2_stream *s)
{
    if (s->closed && !s->owned && !kei_list_linked(&s->ready))
        stream_free(s);
}

static struct kei_h2_stream *stream_new(struct kei_h2 *h)
{
    struct kei_h2_stream *s = kei_zalloc(h->alloc, sizeof *s);

    if (!s)
        return NULL;
    s->h = h;
    kei_buf_init(&s->text, h->alloc);
    kei_buf_init(&s->body, h->alloc);
    kei_buf_init(&s->out, h->alloc);
    kei_buf_init(&s->trailer_text, h->alloc);
    kei_list_add_tail(&h->streams, &s->link);
    h->n_streams++;
    return s;
}

/* The body is of no more use. */
static void drop_body(struct kei_h2_stream *s)
{
    s->h->bodies -= s->body.n;
    ke_buf_free(&s->body);
    kei_buf_init(&s->body, s->h->alloc);
}

static void make_ready(struct kei_h2_stream *s)
{
    if (!kei_list_linked(&s->ready))
        kei_list_add_tail(&s->h->ready, &s->ready);
}

static void reset(struct kei_h2_stream *s, uint32_t code)
{
    if (!s->closed && !s->h->failed &&
        nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, code) < 0)
        s->h->no_memory = true;
}

/* ---- what nghttp2 tells ---- */

static struct kei_h2_stream *find(struct kei_h2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct kei_h2 *h = user;
    struct kei_h2_stream *s;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    s = stream_new(h);
    if (!s || nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, s) < 0) {
        if (s)
            stream_free(s);
        h->no_memory = true;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    s->id = frame->hd.stream_id;
    return 0;
}

static int add_header(struct kei_h2_stream *s, const uint8_t *name, size_t name_n,
                      const uint8_t *value, size_t value_n)
{
    if (s->n_spans == s->cap_spans) {
        size_t cap = s->cap_spans ? s->cap_spans * 2 : 8;
        struct header_span *p = kei_array_realloc(s->h->alloc, s->spans, cap, sizeof *p);
        if (!p)
            return KE_ENOMEM;
        s->spans = p;
        s->cap_spans = cap;
    }
    s->spans[s->n_spans] = (struct header_span){s->text.n, name_n, s->text.n + name_n, value_n};
    kei_buf_add(&s->text, name, name_n);
    kei_buf_add(&s->text, value, value_n);
    if (!kei_buf_ok(&s->text))
        return KE_ENOMEM;
    s->n_spans++;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct kei_h2 *h = user;
    struct kei_h2_stream *s = find(h, frame->hd.stream_id);

    (void)session, (void)flags;
    if (!s || s->bad_head || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (name_n > h->c.max_headers || value_n > h->c.max_headers ||
        s->cost + name_n + value_n + HEADER_COST > h->c.max_headers) {
        s->bad_head = true;
        reset(s, NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
    }
    s->cost += name_n + value_n + HEADER_COST;
    if (add_header(s, name, name_n, value, value_n) < 0) {
        h->no_memory = true;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct kei_h2 *h = user;
    struct kei_h2_stream *s = find(h, id);

    (void)session, (void)flags;
    if (!s || s->over || s->bad_head)
        return 0;
    if (n > h->c.max_body - s->body.n || n > h->c.max_bodies - h->bodies) {
        s->over = true;
        make_ready(s);
        return 0;
    }
    size_t before = s->body.n;
    kei_buf_add(&s->body, p, n);
    h->bodies += s->body.n - before;
    if (!kei_buf_ok(&s->body)) {
        h->no_memory = true;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct kei_h2_stream *s = find(user, frame->hd.stream_id);

    (void)session;
    if (!s || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
        (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    s->whole = true;
    make_ready(s);
    return 0;
}

/* An answer given before the request's end: the rest of the request is not wanted. */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct kei_h2 *h = user;
    struct kei_h2_stream *s = find(h, frame->hd.stream_id);

    (void)session;
    if (h->c.server && s && !s->whole && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA))
        reset(s, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct kei_h2_stream *s = find(user, id);

    (void)session;
    if (!s)
        return 0;
    s->closed = true;
    s->code = code;
    if (s->owned)
        make_ready(s);
    maybe_free(s);
    return 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct kei_h2_stream *s = source->ptr;
    size_t left = s->out.n - s->sent;

    (void)user;
    n = n < left ? n : left;
    if (n)
        memcpy(buf, s->out.p + s->sent, n);
    s->sent += n;
    if (n < left)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->n_trailers) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, s->trailers, s->n_trailers) < 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

/* ---- telling the user ---- */

static void enter(struct kei_h2 *h)
{
    h->depth++;
}

static void destroy(struct kei_h2 *h)
{
    if (h->session)
        nghttp2_session_del(h->session);
    KEI_LIST_EACH_SAFE(l, next, &h->streams)
    stream_free(KEI_OF(l, struct kei_h2_stream, link));
    kei_free(h->alloc, h);
}

static void leave(struct kei_h2 *h)
{
    if (--h->depth == 0 && h->freed)
        destroy(h);
}

static int message_of(struct kei_h2_stream *s, struct kei_h2_message *m)
{
    struct kei_h2_header *list = NULL;

    if (s->n_spans) {
        list = kei_array_alloc(s->h->alloc, s->n_spans, sizeof *list);
        if (!list)
            return KE_ENOMEM;
    }
    for (size_t i = 0; i < s->n_spans; i++) {
        list[i].name = kei_strn(s->text.p + s->spans[i].name, s->spans[i].name_n);
        list[i].value = kei_strn(s->text.p + s->spans[i].value, s->spans[i].value_n);
    }
    *m = (struct kei_h2_message){list, s->n_spans, kei_buf_str(&s->body), s->over};
    return 0;
}

static void tell_request(struct kei_h2_stream *s)
{
    struct kei_h2 *h = s->h;
    struct kei_h2_message m;

    if (message_of(s, &m) < 0) {
        reset(s, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    /* it stays while its body is being read, whatever the user does with it */
    struct ke_buf body = s->body;
    kei_buf_init(&s->body, h->alloc);
    struct ke_buf text = s->text;
    kei_buf_init(&s->text, h->alloc);
    h->bodies -= body.n;
    s->told = s->owned = true;
    h->ops.request(h->user, s, &m); /* s may be gone */
    ke_buf_free(&body);
    ke_buf_free(&text);
    kei_free(h->alloc, (void *)(uintptr_t)m.headers);
}

static const char *why(const struct kei_h2_stream *s, int *ret)
{
    if (s->bad_head) {
        *ret = KE_ELIMIT;
        return "headers of the answer were larger than the limit";
    }
    switch (s->code) {
    case NGHTTP2_REFUSED_STREAM:
        *ret = KE_EREFUSED;
        return "the peer did not begin with the request";
    case NGHTTP2_CANCEL:
        *ret = KE_ECANCELED;
        return "the peer gave the request up";
    default:
        *ret = KE_EPROTO;
        return "the peer ended the request without an answer";
    }
}

static void tell_response(struct kei_h2_stream *s, int status, const char *text)
{
    struct kei_h2 *h = s->h;
    struct kei_h2_message m = {NULL, 0, {NULL, 0}, false};

    if (status == 0 && s->over) {
        status = KE_ELIMIT;
        text = "the answer was larger than the limit";
    }
    if (status == 0 && message_of(s, &m) < 0) {
        status = KE_ENOMEM;
        text = "no memory for the answer";
    }
    if (!s->closed)
        reset(s, s->over ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_CANCEL);
    h->ops.response(h->user, s, status, text, status == 0 ? &m : NULL);
    kei_free(h->alloc, (void *)(uintptr_t)m.headers);
    s->owned = false;
    drop_body(s);
    maybe_free(s);
}

static void tell_one(struct kei_h2_stream *s)
{
    struct kei_h2 *h = s->h;
    int status = 0;
    const char *text = "";

    if (h->c.server) {
        if (!s->told && !s->bad_head && !s->closed && (s->whole || s->over)) {
            tell_request(s);
            return;
        }
        if (s->closed && s->owned) {
            s->owned = false;
            h->ops.gone(h->user, s);
        }
        maybe_free(s);
        return;
    }
    if (!s->owned) {
        maybe_free(s);
        return;
    }
    if (s->over || (s->whole && !s->bad_head)) {
        tell_response(s, 0, "");
    } else if (s->closed) {
        text = why(s, &status);
        tell_response(s, status, text);
    }
}

/* A client's answer that is whole is told when the stream is closed, or at once. */
static void tell_ready(struct kei_h2 *h)
{
    while (!h->freed && !kei_list_empty(&h->ready)) {
        struct kei_h2_stream *s = KEI_OF(h->ready.next, struct kei_h2_stream, ready);
        kei_list_remove(&s->ready);
        tell_one(s);
    }
}

/* ---- life ---- */

static int callbacks_new(nghttp2_session_callbacks **ret)
{
    nghttp2_session_callbacks *c;

    if (nghttp2_session_callbacks_new(&c) < 0)
        return KE_ENOMEM;
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_close);
    *ret = c;
    return 0;
}

static int session_new(struct kei_h2 *h)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int r = callbacks_new(&callbacks);

    if (r == 0 && nghttp2_option_new(&option) < 0)
        r = KE_ENOMEM;
    if (r == 0) {
        /* clients of unix sockets give the socket's path as :authority, which is none */
        nghttp2_option_set_no_http_messaging(option, h->c.server);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_reserved_remote_streams(option, 0);
        r = h->c.server ? nghttp2_session_server_new3(&h->session, callbacks, h, option, &h->mem)
                        : nghttp2_session_client_new3(&h->session, callbacks, h, option, &h->mem);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return r;
}

static int say_settings(struct kei_h2 *h)
{
    const nghttp2_settings_entry server[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h->c.max_streams},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h->c.max_headers},
    };
    const nghttp2_settings_entry client[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h->c.max_headers},
    };
    int r =
        nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, h->c.server ? server : client, 2);
    if (r == 0)
        r = nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, WINDOW);
    return r;
}

int kei_h2_new(struct kei_h2 **ret, const struct ke_alloc *a, const struct kei_h2_config *c,
               const struct kei_h2_ops *ops, void *user, struct ke_error *err)
{
    struct kei_h2 *h = kei_zalloc(a, sizeof *h);

    if (!h)
        return kei_error(err, KE_ENOMEM, "no memory for an HTTP/2 connection");
    h->alloc = a;
    h->mem = (nghttp2_mem){h, mem_malloc, mem_free, mem_calloc, mem_realloc};
    h->ops = *ops;
    h->user = user;
    h->c = *c;
    h->c.max_streams = c->max_streams ? c->max_streams : MAX_STREAMS;
    h->c.max_headers = c->max_headers ? c->max_headers : MAX_HEADERS;
    h->c.max_body = c->max_body ? c->max_body : MAX_BODY;
    h->c.max_bodies = c->max_bodies ? c->max_bodies : 4 * h->c.max_body;
    kei_list_init(&h->streams);
    kei_list_init(&h->ready);
    if (session_new(h) != 0 || say_settings(h) != 0) {
        destroy(h);
        return kei_error(err, KE_ENOMEM, "no memory for an HTTP/2 connection");
    }
    *ret = h;
    return 0;
}

void kei_h2_free(struct kei_h2 *h)
{
    if (!h || h->freed)
        return;
    h->freed = true;
    h->depth++;
    leave(h);
}

static int failed(struct kei_h2 *h, int code, struct ke_error *err)
{
    h->failed = h->failed || nghttp2_is_fatal(code);
    if (h->no_memory || code == NGHTTP2_ERR_NOMEM)
        return kei_error(err, KE_ENOMEM, "no memory for an HTTP/2 connection");
    return kei_error(err, KE_EPROTO, "HTTP/2 peer broke the protocol: %s", nghttp2_strerror(code));
}

int kei_h2_feed(struct kei_h2 *h, const char *p, size_t n, struct ke_error *err)
{
    ssize_t r;

    if (h->failed)
        return kei_error(err, KE_ESTATE, "HTTP/2 connection has failed");
    enter(h);
    r = nghttp2_session_mem_recv(h->session, (const uint8_t *)p, n);
    int code = r < 0 ? failed(h, (int)r, err) : 0;
    if (code == 0 && h->no_memory) {
        h->failed = true;
        code = failed(h, NGHTTP2_ERR_NOMEM, err);
    }
    tell_ready(h);
    leave(h);
    return code;
}

int kei_h2_send(struct kei_h2 *h, struct ke_str *ret, struct ke_error *err)
{
    const uint8_t *p = NULL;
    ssize_t n;

    *ret = kei_strn(NULL, 0);
    if (h->aborted || (h->failed && h->no_memory))
        return 0;
    enter(h);
    n = nghttp2_session_mem_send(h->session, &p);
    int code = n < 0 ? failed(h, (int)n, err) : 0;
    if (n > 0)
        *ret = kei_strn((const char *)p, (size_t)n);
    tell_ready(h);
    leave(h);
    return code;
}

bool kei_h2_over(const struct kei_h2 *h)
{
    return h->failed ||
           (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session));
}

void kei_h2_shutdown(struct kei_h2 *h)
{
    int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);

    if (!h->failed &&
        nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) < 0)
        h->no_memory = true;
}

void kei_h2_abort(struct kei_h2 *h, int status, const char *text)
{
    enter(h);
    h->failed = h->aborted = true;
    while (!h->freed && !kei_list_empty(&h->streams)) {
        struct kei_h2_stream *s = KEI_OF(h->streams.next, struct kei_h2_stream, link);
        kei_list_remove(&s->ready);
        s->closed = true;
        if (s->owned && h->c.server) {
            s->owned = false;
            h->ops.gone(h->user, s);
        } else if (s->owned) {
            tell_response(s, s->whole && !s->bad_head ? 0 : status, text);
            continue;
        }
        maybe_free(s);
    }
    leave(h);
}

uint32_t kei_h2_streams(const struct kei_h2 *h)
{
    return h->n_streams;
}

uint32_t kei_h2_incomplete(const struct kei_h2 *h)
{
    uint32_t n = 0;

    KEI_LIST_EACH(l, &h->streams)
    {
        const struct kei_h2_stream *s = KEI_OF(l, struct kei_h2_stream, link);
        n += !s->whole && !s->closed;
    }
    return n;
}

/* ---- sending messages ---- */

static nghttp2_nv nv_of(const struct kei_h2_header *h)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)h->name.p, (uint8_t *)(uintptr_t)h->value.p,
                        h->name.n, h->value.n, NGHTTP2_NV_FLAG_NONE};
}

static nghttp2_nv *nvs_of(struct kei_h2 *h, const struct kei_h2_header *headers, size_t n)
{
    nghttp2_nv *list = kei_array_alloc(h->alloc, n ? n : 1, sizeof *list);

    for (size_t i = 0; list && i < n; i++)
        list[i] = nv_of(&headers[i]);
    return list;
}

/* Trailers go out later: they are copied. */
static int keep_trailers(struct kei_h2_stream *s, const struct kei_h2_header *t, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        kei_buf_addv(&s->trailer_text, t[i].name);
        kei_buf_addv(&s->trailer_text, t[i].value);
    }
    s->trailers = nvs_of(s->h, t, n);
    if (!s->trailers || !kei_buf_ok(&s->trailer_text))
        return KE_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        s->trailers[i].name = (uint8_t *)s->trailer_text.p + at;
        at += t[i].name.n;
        s->trailers[i].value = (uint8_t *)s->trailer_text.p + at;
        at += t[i].value.n;
    }
    s->n_trailers = n;
    return 0;
}

int kei_h2_request(struct kei_h2_stream **ret, struct kei_h2 *h,
                   const struct kei_h2_header *headers, size_t n, struct ke_str body, void *user,
                   struct ke_error *err)
{
    struct kei_h2_stream *s = NULL;
    nghttp2_nv *list = NULL;
    nghttp2_data_provider provider = {.read_callback = on_read};

    if (h->failed || h->freed || !nghttp2_session_check_request_allowed(h->session))
        return kei_error(err, KE_ECLOSED, "HTTP/2 connection takes no more requests");
    if (h->n_streams >= h->c.max_streams)
        return kei_error(err, KE_ELIMIT,
                         "%u requests are open on an HTTP/2 connection, which is "
                         "the limit",
                         (unsigned)h->n_streams);
    s = stream_new(h);
    list = nvs_of(h, headers, n);
    if (s)
        kei_buf_addv(&s->out, body);
    if (!s || !list || !kei_buf_ok(&s->out))
        goto no_memory;
    provider.source.ptr = s;
    s->id = nghttp2_submit_request(h->session, NULL, list, n, body.p ? &provider : NULL, s);
    if (s->id < 0)
        goto no_memory;
    kei_free(h->alloc, list);
    s->owned = true;
    s->user = user;
    *ret = s;
    return 0;
no_memory:
    kei_free(h->alloc, list);
    if (s)
        stream_free(s);
    return kei_error(err, KE_ENOMEM, "no memory for an HTTP/2 request");
}

int kei_h2_respond(struct kei_h2_stream *s, const struct kei_h2_header *headers, size_t n,
                   struct ke_str body, const struct kei_h2_header *trailers, size_t n_trailers,
                   struct ke_error *err)
{
    struct kei_h2 *h = s->h;
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = on_read};
    nghttp2_nv *list = nvs_of(h, headers, n);
    int r = list ? 0 : KE_ENOMEM;

    s->owned = false;
    if (s->closed || h->failed) {
        kei_free(h->alloc, list);
        maybe_free(s);
        return kei_error(err, KE_ECLOSED, "the peer of an HTTP/2 request has gone");
    }
    kei_buf_addv(&s->out, body);
    if (r == 0 && n_trailers && body.p)
        r = keep_trailers(s, trailers, n_trailers);
    if (r == 0 && kei_buf_ok(&s->out))
        r = nghttp2_submit_response(h->session, s->id, list, n, body.p ? &provider : NULL);
    else
        r = NGHTTP2_ERR_NOMEM;
    kei_free(h->alloc, list);
    if (r == 0)
        return 0;
    reset(s, NGHTTP2_INTERNAL_ERROR);
    return kei_error(err, KE_ENOMEM, "no memory for an HTTP/2 answer");
}

void kei_h2_cancel(struct kei_h2_stream *s)
{
    s->owned = false;
    reset(s, NGHTTP2_CANCEL);
    maybe_free(s);
}

void kei_h2_stream_set(struct kei_h2_stream *s, void *user)
{
    s->user = user;
}

void *kei_h2_stream_get(const struct kei_h2_stream *s)
{
    return s->user;
}

struct ke_str kei_h2_header(const struct kei_h2_message *m, const char *name)
{
    for (size_t i = 0; i < m->n_headers; i++)
        if (kei_str_is(m->headers[i].name, name))
            return m->headers[i].value;
    return kei_strn(NULL, 0);
}
