/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the driver for JSON over MQTT does with texts: paths into payloads, payloads of commands,
 * topics. Pure, any thread.
 */
#ifndef KEI_DEVICE_JSON_PATH_H
#define KEI_DEVICE_JSON_PATH_H

#include <kubeedge/device.h>

#include "base/json.h"

#define KEI_JSON_PATH_STEPS 16

/* "a.b[2].c", "[0]", "$" (all of it). KE_EINVAL; for_writing: without places in lists */
int kei_json_path_check(const char *path, bool for_writing, struct ke_error *err);
/* The value at a path that was checked; false if there is none, or it is null. */
bool kei_json_path_find(struct ke_str doc, const char *path, struct ke_str *ret);
/* A JSON value as one of a device; text goes into out. KE_ENOMEM, KE_EPARSE (a NUL in a text) */
int kei_json_to_value(struct ke_device_value *v, struct ke_str json, struct ke_buf *out,
                      struct ke_error *err);
/* Appends the value as JSON; KE_EINVAL for bytes that are no text. */
int kei_json_of_value(struct ke_buf *out, const struct ke_device_value *v, struct ke_error *err);
/* The payload that sets the value: tmpl with ${value} replaced, or {"a":{"b":value}} for path. */
int kei_json_command(struct ke_buf *out, const char *tmpl, const char *path,
                     const struct ke_device_value *v, struct ke_error *err);
/* Appends text with ${namespace} and ${name} replaced. */
void kei_json_expand(struct ke_buf *out, const char *text, const char *ns, const char *name);
/* A filter that may be subscribed, a topic that may be published. */
bool kei_json_filter_ok(const char *filter);
bool kei_json_topic_ok(const char *topic);
bool kei_json_topic_match(const char *filter, struct ke_str topic);

#endif
