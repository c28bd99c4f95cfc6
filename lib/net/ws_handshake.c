/* SPDX-License-Identifier: Apache-2.0 */
/* The upgrade of RFC 6455, section 4, both sides; pure. Appends to the caller's buffers. */
#include "crypto/crypto.h"
#include "net/http_text.h"
#include "net/ws_priv.h"

#include <stdio.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define VERSION "13"

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Into fixed room: the accept value must not depend on memory. */
static void encode(char *out, const uint8_t *p, size_t n)
{
    for (; n >= 3; n -= 3, p += 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        *out++ = b64[v >> 18];
        *out++ = b64[v >> 12 & 63];
        *out++ = b64[v >> 6 & 63];
        *out++ = b64[v & 63];
    }
    if (n) {
        uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0);
        *out++ = b64[v >> 18];
        *out++ = b64[v >> 12 & 63];
        *out++ = n > 1 ? b64[v >> 6 & 63] : '=';
        *out++ = '=';
    }
    *out = '\0';
}

void kei_ws_key(const uint8_t random[16], char out[KEI_WS_KEY_LEN + 1])
{
    encode(out, random, 16);
}

void kei_ws_accept(const char *key, size_t key_n, char out[29])
{
    char text[KEI_WS_KEY_LEN + sizeof GUID];
    uint8_t digest[20];

    if (key_n > KEI_WS_KEY_LEN)
        key_n = KEI_WS_KEY_LEN;
    memcpy(text, key, key_n);
    memcpy(text + key_n, GUID, sizeof GUID - 1);
    kei_sha1(text, key_n + sizeof GUID - 1, digest);
    encode(out, digest, sizeof digest);
}

/* base64 of 16 bytes: 22 characters, the last with four bits unused, and "==" */
static bool key_ok(struct ke_str key)
{
    if (key.n != KEI_WS_KEY_LEN || key.p[22] != '=' || key.p[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (key.p[i] == '\0' || !strchr(b64, key.p[i]))
            return false;
    return true;
}

int kei_ws_server_handshake(const struct kei_http_head *req, struct ke_buf *out,
                            struct ke_error *err)
{
    struct ke_str key = kei_http_header(req, "Sec-WebSocket-Key");
    struct ke_str version = kei_http_header(req, "Sec-WebSocket-Version");
    char accept[29];

    if (!kei_str_is(req->method, "GET") || req->minor == 0)
        return kei_error(err, KE_EPROTO, "upgrade request was not a GET of HTTP/1.1");
    if (!kei_http_has_token(req, "Upgrade", "websocket") ||
        !kei_http_has_token(req, "Connection", "upgrade"))
        return kei_error(err, KE_EPROTO, "request did not ask for an upgrade to websocket");
    if (!kei_str_is(version, VERSION))
        return kei_error(err, KE_EPROTO,
                         "WebSocket version was \"%.*s\", only " VERSION " is understood",
                         version.n > 16 ? 16 : (int)version.n, version.n ? version.p : "");
    if (!key_ok(key))
        return kei_error(err, KE_EPROTO, "Sec-WebSocket-Key was missing or malformed");
    kei_ws_accept(key.p, key.n, accept);
    kei_buf_adds(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    kei_buf_adds(out, accept);
    kei_buf_adds(out, "\r\n\r\n");
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "no memory for the answer to the upgrade");
    return 0;
}

int kei_ws_client_request(struct ke_buf *out, const char *host, uint16_t port, bool tls,
                          const char *target, const char *headers, const char *key,
                          struct ke_error *err)
{
    if (!kei_http_target_ok(target))
        return kei_error(err, KE_EINVAL, "request target was empty or had invalid characters");
    if (!kei_http_lines_ok(headers))
        return kei_error(err, KE_EINVAL, "headers for the upgrade were not \"Name: value\" lines");
    kei_buf_adds(out, "GET ");
    kei_buf_adds(out, target);
    kei_buf_adds(out, " HTTP/1.1\r\n");
    kei_http_add_host(out, host, port, tls ? 443 : 80);
    kei_buf_adds(out, "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Version: " VERSION "\r\nSec-WebSocket-Key: ");
    kei_buf_adds(out, key);
    kei_buf_adds(out, "\r\n");
    if (!kei_http_lines_have(headers, "User-Agent"))
        kei_buf_adds(out, KEI_HTTP_USER_AGENT);
    kei_buf_adds(out, headers);
    kei_buf_adds(out, "\r\n");
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "no memory for the upgrade request");
    return 0;
}

int kei_ws_client_check(const struct kei_http_head *h, const char *key, struct ke_error *err)
{
    char accept[29];
    struct ke_str got = kei_http_header(h, "Sec-WebSocket-Accept");

    if (h->status != 101)
        return kei_error(err, KE_EHTTP, "the server answered \"%u %.*s\" instead of upgrading",
                         h->status, h->reason.n > 200 ? 200 : (int)h->reason.n, h->reason.p);
    if (!kei_http_has_token(h, "Upgrade", "websocket") ||
        !kei_http_has_token(h, "Connection", "upgrade"))
        return kei_error(err, KE_EPROTO, "the server switched to something else than websocket");
    kei_ws_accept(key, strlen(key), accept);
    if (!kei_str_is(got, accept))
        return kei_error(err, KE_EPROTO,
                         "Sec-WebSocket-Accept did not match the key sent: "
                         "something between answers for the server");
    if (kei_http_header(h, "Sec-WebSocket-Extensions").n ||
        kei_http_header(h, "Sec-WebSocket-Protocol").n)
        return kei_error(err, KE_EPROTO,
                         "the server chose a WebSocket extension or protocol not offered");
    return 0;
}
