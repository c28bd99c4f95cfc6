/* SPDX-License-Identifier: Apache-2.0 */
/* placeholder until the rules come */
#ifndef KEI_DEVICE_PROCESS_H
#define KEI_DEVICE_PROCESS_H
struct process;
#endif
