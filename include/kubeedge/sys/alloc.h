/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory table of a context. Covers the library's own memory only: cJSON, SQLite and OpenSSL
 * have process-wide hooks that belong to the host (README, "Memory of the libraries below").
 * Stability: minor level, like everything under sys/.
 */
#ifndef KUBEEDGE_SYS_ALLOC_H
#define KUBEEDGE_SYS_ALLOC_H

#include <kubeedge/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All members required, thread-safe, aligned as malloc. free takes NULL. realloc(NULL) allocates. */
struct ke_alloc {
    size_t size;
    void *user;
    void *(*alloc)(void *user, size_t n);
    void *(*realloc)(void *user, void *p, size_t n);
    void (*free)(void *user, void *p);
};

#ifdef __cplusplus
}
#endif
#endif
