/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of HTTP heads that we write. Appends to the caller's buffers; pure, any thread. */
#include "net/http_text.h"

#include <string.h>

bool kei_http_target_ok(const char *target)
{
    if (!target || !*target)
        return false;
    for (const char *p = target; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
            return false;
    return true;
}

static bool line_ok(struct ke_str line)
{
    struct ke_str value;
    struct ke_str name = kei_str_cut(line, ':', &value);

    if (!value.p || name.n == 0)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c <= 0x20 || c >= 0x7f || strchr("()<>@,;\\\"/[]?={}", c))
            return false;
    }
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if (c == 0x7f || (c < 0x20 && c != '\t'))
            return false;
    }
    return true;
}

bool kei_http_lines_ok(const char *lines)
{
    while (lines && *lines) {
        const char *end = strstr(lines, "\r\n");
        if (!end || !line_ok(kei_strn(lines, (size_t)(end - lines))))
            return false;
        lines = end + 2;
    }
    return true;
}

bool kei_http_lines_have(const char *lines, const char *name)
{
    struct ke_str line, rest = kei_str(lines ? lines : "");

    while (rest.n) {
        line = kei_str_cut(rest, '\n', &rest);
        if (kei_str_ieq(kei_str_cut(line, ':', &line), kei_str(name)))
            return true;
    }
    return false;
}

static void add_name(struct ke_buf *b, const char *host)
{
    const char *colon = strchr(host, ':');

    if (!colon) {
        kei_buf_adds(b, host);
        return;
    }
    if (*host == '[')
        host++;
    kei_buf_addc(b, '[');
    kei_buf_addv(b, kei_strn(host, strcspn(host, "%]")));
    kei_buf_addc(b, ']');
}

void kei_http_add_authority(struct ke_buf *b, const char *host, uint16_t port)
{
    add_name(b, host);
    kei_buf_addc(b, ':');
    kei_buf_addi(b, port);
}

void kei_http_add_host(struct ke_buf *b, const char *host, uint16_t port, uint16_t default_port)
{
    kei_buf_adds(b, "Host: ");
    if (!host)
        kei_buf_adds(b, "localhost");
    else if (port == default_port)
        add_name(b, host);
    else
        kei_http_add_authority(b, host, port);
    kei_buf_adds(b, "\r\n");
}

const char *kei_http_reason(uint32_t status)
{
    static const struct {
        uint32_t status;
        const char *text;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].status == status)
            return table[i].text;
    return "Status";
}
