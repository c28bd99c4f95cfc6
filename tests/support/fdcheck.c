/* SPDX-License-Identifier: Apache-2.0 */
/* See fdcheck.h. */
#include "support/fdcheck.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static int walk(int print)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -1;
    int n = 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        n++;
        char target[256];
        ssize_t len = print ? readlinkat(dirfd(d), e->d_name, target, sizeof target - 1) : -1;
        if (len >= 0)
            fprintf(stderr, "  fd %s: %.*s\n", e->d_name, (int)len, target);
    }
    closedir(d);
    return n - 1; /* without the one of this walk */
}

int fdcheck_count(void)
{
    return walk(0);
}

int fdcheck_same(int before)
{
    int now = fdcheck_count();
    if (now == before)
        return 0;
    fprintf(stderr, "%d file descriptors were open before the test, %d are after it:\n", before,
            now);
    walk(1);
    return -1;
}

int fdcheck_setup(void **state)
{
    *state = (void *)(intptr_t)fdcheck_count();
    return 0;
}

int fdcheck_teardown(void **state)
{
    return fdcheck_same((int)(intptr_t)*state);
}
