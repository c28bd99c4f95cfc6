/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine is: the facts a Node object reports. Read from the kernel, no memory kept. */
#ifndef KEI_NODE_SYSINFO_H
#define KEI_NODE_SYSINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kei_sysinfo {
    uint32_t cpus;
    uint64_t memory_kib, memory_available_kib;
    uint64_t disk_bytes, disk_available_bytes; /* of the data folder's file system; 0 unknown */
    uint64_t pids_max, pids_used;
    char machine_id[64], system_uuid[64], boot_id[64];
    char kernel[128], os_image[128];
    char arch[16]; /* as Go names it: amd64, arm64, arm, ... */
};

/* Fills what can be read; what cannot stays empty or 0. data: a path on the node's file system. */
void kei_sysinfo_read(struct kei_sysinfo *s, const char *data);
/* Only what changes: memory, disk, pids. */
void kei_sysinfo_refresh(struct kei_sysinfo *s, const char *data);
/*
 * The own address that is used towards a peer (a literal address), or else the first one that is up
 * and not loopback; IPv4 preferred. Sends nothing. false: none found.
 */
bool kei_sysinfo_address(char *out, size_t n, const char *peer);

#endif
