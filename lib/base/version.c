/* SPDX-License-Identifier: Apache-2.0 */
/* The version of the library that runs, as opposed to the headers of its user. Any thread. */
#include <kubeedge/version.h>

uint32_t ke_version(void)
{
    return ((uint32_t)KE_VERSION_MAJOR << 16) | ((uint32_t)KE_VERSION_MINOR << 8) |
           (uint32_t)KE_VERSION_PATCH;
}

const char *ke_version_string(void)
{
    return KE_VERSION;
}
