/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads the shared object around paho-mqtt-c, once and for ever: paho's threads and settings belong
 * to the process. Loop thread.
 */
#include <dlfcn.h>

#include "base/error.h"
#include "base/log.h"
#include "kei_config.h"
#include "mqtt/eventbus_priv.h"

#ifndef KEI_PAHO_PATH
#define KEI_PAHO_PATH "libkubeedge-paho.so"
#endif

int kei_paho_load(const struct kei_paho_module **ret, struct ke_ctx *ctx, const char *path)
{
    const struct kei_paho_module *(*get)(void);
    const char *file = path ? path : KEI_PAHO_PATH;
    void *so = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!so) {
        const char *why = dlerror();
        return kei_fail(
            ctx, KE_ENOTSUP,
            "the module for brokers outside could not be loaded: %s: install paho-mqtt-c "
            "and the module, or use the server inside",
            why ? why : file);
    }
    void *symbol = dlsym(so, KEI_PAHO_SYMBOL);
    memcpy(&get, &symbol, sizeof get); /* C has no cast from an object to a function */
    const struct kei_paho_module *m = symbol ? get() : NULL;
    dlclose(so);
    if (!m || m->version != KEI_PAHO_VERSION)
        return kei_fail(ctx, KE_ENOTSUP, "%s is not of this release: version %u, %u is needed",
                        file, m ? m->version : 0, KEI_PAHO_VERSION);
    kei_log(
        ctx, KE_LOG_INFO, "mqtt",
        "%s is loaded: paho-mqtt-c runs threads of its own, and SIGPIPE is ignored in this process",
        file);
    *ret = m;
    return 0;
}
