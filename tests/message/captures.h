/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded traffic of upstream (tests/captures, see its README) as arrays of records.
 *
 *     struct capture c;
 *     capture_load(&c, "kubeedge-1.15", "01-register");
 *     for (size_t i = 0; i < c.n; i++)
 *         if (capture_is(&c.r[i], "ws-message", "c2e")) feed(c.r[i].text);
 *     capture_free(&c);
 *
 * A file that cannot be read or has a line of another form fails the test. Everything in a record
 * lives until capture_free.
 */
#ifndef TEST_MESSAGE_CAPTURES_H
#define TEST_MESSAGE_CAPTURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

struct capture_frame {
    uint32_t opcode;
    bool fin;
    uint32_t len;
};

struct capture_header {
    const char *name, *value;
};

/* Strings are "" where the line does not have the member. */
struct capture_record {
    uint32_t line; /* 0-based, as the mark line is 0 */
    double t;      /* seconds */
    const char *kind, *dir, *listener;
    uint32_t conn;
    struct ke_str text; /* message, decoded; also of "b64" and of an HTTP body; NUL-terminated */
    struct capture_frame *frames;
    size_t n_frames;
    const char *start; /* of HTTP */
    struct capture_header *headers;
    size_t n_headers;
    bool has_client_cert;  /* of open */
    const char *note;      /* of a mark */
    const char *topic;     /* of MQTT */
    struct ke_str payload; /* of MQTT */
};

struct capture {
    char version[32], name[64];
    struct kei_arena arena;
    struct capture_record *r;
    size_t n;
};

/* version "kubeedge-1.15", name "01-register" (without .jsonl) */
void capture_load(struct capture *c, const char *version, const char *name);
void capture_free(struct capture *c);
bool capture_is(const struct capture_record *r, const char *kind, const char *dir);
const char *capture_header(const struct capture_record *r, const char *name); /* NULL: none */

/* Calls fn for every file (mqtt-edge left out) of all versions, in order; number of files. */
size_t capture_each(void (*fn)(const struct capture *c, void *user), void *user);

#endif
