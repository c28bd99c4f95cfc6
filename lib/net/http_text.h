/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of HTTP heads that we write: what callers hand in is checked, so nothing can be injected.
 */
#ifndef KEI_NET_HTTP_TEXT_H
#define KEI_NET_HTTP_TEXT_H

#include <kubeedge/version.h>

#include "base/buf.h"

/* a request target: 1.. visible ASCII characters */
bool kei_http_target_ok(const char *target);
/* header lines "Name: value\r\n", none or many; NULL is fine. */
bool kei_http_lines_ok(const char *lines);
/* true if one of the lines is a header of that name */
bool kei_http_lines_have(const char *lines, const char *name);
#define KEI_HTTP_USER_AGENT "User-Agent: libkubeedge/" KE_VERSION "\r\n"
/* Appends "Host: name[:port]\r\n": IPv6 in brackets, no zone, no port when it is the default one.
 * host NULL: localhost (unix sockets). */
void kei_http_add_host(struct ke_buf *b, const char *host, uint16_t port, uint16_t default_port);
/* Appends "host:port" as a CONNECT target and in texts. */
void kei_http_add_authority(struct ke_buf *b, const char *host, uint16_t port);
const char *kei_http_reason(uint32_t status);

#endif
