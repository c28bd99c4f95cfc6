/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts of the machine from /proc, /etc and the system calls made for it. These are the kernel's
 * files, not the node's: they do not go through the file table. Loop thread, never blocks long.
 */
#include "node/sysinfo.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/str.h"

/* First bytes of a small file, NUL-terminated, without the newline at the end. */
static bool read_small(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, out, n - 1);
    close(fd);
    if (got < 0)
        return false;
    out[got] = 0;
    while (got > 0 && (out[got - 1] == '\n' || out[got - 1] == ' '))
        out[--got] = 0;
    return true;
}

/* The number after "name:" in a file of "name: number unit" lines; 0 if absent. */
static uint64_t field(const char *text, const char *name)
{
    struct ke_str rest = kei_str(text);
    while (rest.p && rest.n > 0) {
        struct ke_str line = kei_str_cut(rest, '\n', &rest);
        struct ke_str value;
        struct ke_str key = kei_str_cut(line, ':', &value);
        if (!kei_str_is(key, name))
            continue;
        struct ke_str unit;
        uint64_t n = 0;
        value = kei_str_cut(kei_str_trim(value), ' ', &unit);
        return kei_str_u64(value, &n) ? n : 0;
    }
    return 0;
}

static void read_os_image(char *out, size_t n)
{
    char text[4096];
    if (!read_small("/etc/os-release", text, sizeof text) &&
        !read_small("/usr/lib/os-release", text, sizeof text))
        return;
    struct ke_str rest = kei_str(text);
    while (rest.p && rest.n > 0) {
        struct ke_str line = kei_str_cut(rest, '\n', &rest);
        struct ke_str value;
        if (!kei_str_is(kei_str_cut(line, '=', &value), "PRETTY_NAME"))
            continue;
        if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
            value = kei_strn(value.p + 1, value.n - 2);
        if (value.n < n) {
            memcpy(out, value.p, value.n);
            out[value.n] = 0;
        }
        return;
    }
}

static const char *go_arch(const char *machine)
{
    static const struct {
        const char *uname, *go;
    } names[] = {{"x86_64", "amd64"},    {"aarch64", "arm64"}, {"armv8l", "arm"},
                 {"armv7l", "arm"},      {"armv6l", "arm"},    {"i686", "386"},
                 {"riscv64", "riscv64"}, {"s390x", "s390x"},   {"ppc64le", "ppc64le"},
                 {"mips64", "mips64le"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(machine, names[i].uname) == 0)
            return names[i].go;
    return machine;
}

static uint32_t count_cpus(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

void kei_sysinfo_refresh(struct kei_sysinfo *s, const char *data)
{
    char text[4096];
    if (read_small("/proc/meminfo", text, sizeof text)) {
        s->memory_kib = field(text, "MemTotal");
        s->memory_available_kib = field(text, "MemAvailable");
    }
    struct statvfs fs;
    if (data && statvfs(data, &fs) == 0) {
        s->disk_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
        s->disk_available_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    }
    if (read_small("/proc/sys/kernel/pid_max", text, sizeof text))
        (void)kei_str_u64(kei_str(text), &s->pids_max);
    /* "0.20 0.18 0.12 1/80 11206": running/all threads */
    if (read_small("/proc/loadavg", text, sizeof text)) {
        struct ke_str rest = kei_str(text), all = {0};
        for (int i = 0; i < 3 && rest.p; i++)
            (void)kei_str_cut(rest, ' ', &rest);
        (void)kei_str_cut(kei_str_cut(rest, ' ', &rest), '/', &all);
        (void)kei_str_u64(all, &s->pids_used);
    }
}

void kei_sysinfo_read(struct kei_sysinfo *s, const char *data)
{
    memset(s, 0, sizeof *s);
    s->cpus = count_cpus();
    (void)read_small("/etc/machine-id", s->machine_id, sizeof s->machine_id);
    (void)read_small("/proc/sys/kernel/random/boot_id", s->boot_id, sizeof s->boot_id);
    if (!read_small("/sys/class/dmi/id/product_uuid", s->system_uuid, sizeof s->system_uuid))
        memcpy(s->system_uuid, s->machine_id, sizeof s->system_uuid);
    read_os_image(s->os_image, sizeof s->os_image);
    struct utsname u;
    if (uname(&u) == 0) {
        snprintf(s->kernel, sizeof s->kernel, "%s", u.release);
        snprintf(s->arch, sizeof s->arch, "%.15s", go_arch(u.machine));
    }
    kei_sysinfo_refresh(s, data);
}

/* A datagram socket "connected" to the peer knows which own address it would use. */
static bool address_towards(char *out, size_t n, const char *peer)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    struct sockaddr *to = (struct sockaddr *)&a4;
    socklen_t len = sizeof a4;
    if (inet_pton(AF_INET, peer, &a4.sin_addr) != 1) {
        if (inet_pton(AF_INET6, peer, &a6.sin6_addr) != 1)
            return false;
        to = (struct sockaddr *)&a6;
        len = sizeof a6;
    }
    int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool ok = false;
    if (connect(fd, to, len) == 0 && getsockname(fd, to, &len) == 0) {
        const void *ip = to->sa_family == AF_INET ? (void *)&a4.sin_addr : (void *)&a6.sin6_addr;
        ok = inet_ntop(to->sa_family, ip, out, (socklen_t)n) != NULL;
    }
    close(fd);
    return ok;
}

bool kei_sysinfo_address(char *out, size_t n, const char *peer)
{
    if (peer && address_towards(out, n, peer))
        return true;
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return false;
    bool found = false;
    for (int pass = 0; pass < 2 && !found; pass++) {
        int family = pass == 0 ? AF_INET : AF_INET6;
        for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
            if (!i->ifa_addr || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP) ||
                (i->ifa_flags & IFF_LOOPBACK))
                continue;
            const struct sockaddr_in6 *six = (const void *)i->ifa_addr;
            const struct sockaddr_in *four = (const void *)i->ifa_addr;
            if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
                continue;
            const void *ip =
                family == AF_INET ? (const void *)&four->sin_addr : (const void *)&six->sin6_addr;
            found = inet_ntop(family, ip, out, (socklen_t)n) != NULL;
        }
    }
    freeifaddrs(all);
    return found;
}
