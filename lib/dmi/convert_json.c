/* SPDX-License-Identifier: Apache-2.0 */
/* From messages of v1beta1 to objects of the device API. See convert.h. */
#include "dmi/convert.h"
#include "dmi/dmi_v1beta1.pb-c.h"

static void begin(struct kei_jw *w, const char *kind, const char *ns, const char *name)
{
    kei_jw_obj(w);
    kei_jw_kstr(w, "apiVersion", "devices.kubeedge.io/v1beta1");
    kei_jw_kstr(w, "kind", kind);
    kei_jw_key(w, "metadata");
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", name);
    kei_jw_kstr(w, "namespace", ns[0] ? ns : "default");
    kei_jw_obj_end(w);
}

void kei_dmi_device_json(struct ke_buf *out, const void *device)
{
    const Kei__B1__Device *d = device;
    struct kei_jw w;

    kei_jw_init(&w, out);
    begin(&w, "Device", d->namespace_, d->name);
    kei_jw_key(&w, "spec");
    kei_jw_obj(&w);
    if (d->spec) {
        kei_jw_key(&w, "deviceModelRef");
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "name", d->spec->devicemodelreference);
        kei_jw_obj_end(&w);
        kei_pb_to_json(&w, d->spec);
    }
    if (d->status && (d->status->reporttocloud || d->status->reportcycle)) {
        kei_jw_key(&w, "stateReport");
        kei_jw_obj(&w);
        kei_jw_kbool(&w, "reportToCloud", d->status->reporttocloud);
        kei_jw_ki64(&w, "reportCycle", d->status->reportcycle);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

void kei_dmi_model_json(struct ke_buf *out, const void *model, const char *protocol)
{
    const Kei__B1__DeviceModel *m = model;
    struct kei_jw w;

    kei_jw_init(&w, out);
    begin(&w, "DeviceModel", m->namespace_, m->name);
    kei_jw_key(&w, "spec");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "protocol", protocol);
    if (m->spec)
        kei_pb_to_json(&w, m->spec);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}
