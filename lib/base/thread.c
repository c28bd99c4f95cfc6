/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the library: no signal of the host is ever delivered to one. Any thread. */
#include <signal.h>

#include "base/ctx_priv.h"

int kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                     void *arg)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int e = pthread_attr_init(&attr);
    if (e)
        return e;
    if (stack > 0)
        e = pthread_attr_setstacksize(&attr, stack);
    if (!e) {
        /* A new thread inherits the mask: set before it exists, or it has an open moment. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        e = pthread_create(ret, &attr, fn, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_attr_destroy(&attr);
    if (!e)
        pthread_setname_np(*ret, name); /* for people; failing does no harm */
    return e;
}

uintptr_t kei_thread_self(void)
{
    return (uintptr_t)pthread_self();
}
