/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests of Device and DeviceModel, v1alpha2 and v1beta1: what may stand in them, and the object
 * that is stored of one. What a driver alone understands (configData) is not looked into. Pure;
 * also runs on the disk worker.
 */
#include <stdio.h>
#include <string.h>

#include "cloud/manifest.h"
#include "message/devmodel.h"

#define ALPHA "devices.kubeedge.io/v1alpha2"
#define BETA "devices.kubeedge.io/v1beta1"
#define PROPERTY_NAME_MAX 128 /* what the twin of a node takes */

/* One map of a manifest: what was checked, and where it stands. */
struct place {
    struct kei_field *f;
    struct ke_error *err;
    struct ke_str object;
    char path[KEI_WHERE_MAX];
};
#define WHERE_MAX (KEI_WHERE_MAX + 120)

static int bad(const struct place *p, struct ke_str at, const char *key, const char *what)
{
    char where[WHERE_MAX];
    snprintf(where, sizeof where, "%s%s%s", p->path, p->path[0] && key[0] ? "." : "", key);
    return kei_field_bad(p->f, p->err, at, where, what);
}

/* The member of parent as a place: 1 it is there and a map with these names (NULL: any) and types,
 * 0 absent. */
static int enter(struct place *ret, const struct place *parent, const char *key,
                 const char *const *names, const struct kei_typed *types, size_t n)
{
    const struct kei_typed map[] = {{key, '{'}};
    *ret = (struct place){.f = parent->f, .err = parent->err};
    int r = kei_check_types(parent->f, parent->object, parent->path, map, 1, parent->err);
    if (r < 0 || !kei_member(parent->object, key, &ret->object))
        return r;
    snprintf(ret->path, sizeof ret->path, "%.200s%s%.80s", parent->path, parent->path[0] ? "." : "",
             key);
    if (names)
        r = kei_check_names(ret->f, ret->object, ret->path, names, ret->err);
    if (r == 0)
        r = kei_check_types(ret->f, ret->object, ret->path, types, n, ret->err);
    return r < 0 ? r : 1;
}

/* The same for the next item of a list that kei_check_maps accepted; *it and *i start at 0. */
static int enter_item(struct place *ret, const struct place *parent, const char *key, size_t *it,
                      unsigned *i, const char *const *names, const struct kei_typed *types,
                      size_t n)
{
    struct ke_str list, k;
    *ret = (struct place){.f = parent->f, .err = parent->err};
    if (!kei_member(parent->object, key, &list) || !kei_json_next(list, it, &k, &ret->object))
        return 0;
    snprintf(ret->path, sizeof ret->path, "%.200s%s%.60s[%u]", parent->path,
             parent->path[0] ? "." : "", key, (*i)++);
    int r = kei_check_names(ret->f, ret->object, ret->path, names, ret->err);
    if (r == 0)
        r = kei_check_types(ret->f, ret->object, ret->path, types, n, ret->err);
    return r < 0 ? r : 1;
}

static int need(const struct place *p, const char *key)
{
    struct ke_str v;
    if (!kei_member(p->object, key, &v))
        return bad(p, p->object, key, "is missing");
    if (kei_json_type(v) != '"')
        return bad(p, v, key, "is not a string; put it in quotes");
    return kei_inner(v).n > 0 ? 0 : bad(p, v, key, "is empty");
}

static int check_word(const struct place *p, const char *key, const char *const *words,
                      const char *what)
{
    struct ke_str v;
    if (!kei_member(p->object, key, &v))
        return 0;
    for (; *words; words++)
        if (kei_json_str_is(v, *words))
            return 0;
    return bad(p, v, key, what);
}

static int check_int(const struct place *p, const char *key, int64_t min, int64_t max,
                     const char *what)
{
    struct ke_str v;
    int64_t n;
    if (!kei_member(p->object, key, &v) || (kei_json_i64(v, &n) && n >= min && n <= max))
        return 0;
    return bad(p, v, key, what);
}

/* A map of strings. */
static int check_texts(const struct place *p, const char *key)
{
    struct place map;
    struct ke_str k, v;
    int r = enter(&map, p, key, NULL, NULL, 0);
    for (size_t it = 0; r == 1 && kei_json_next(map.object, &it, &k, &v);) {
        char name[100];
        snprintf(name, sizeof name, "%.*s", (int)(k.n > 80 ? 80 : k.n), k.p);
        if (kei_json_type(v) != '"')
            return bad(&map, v, name, "is not a string; put it in quotes");
    }
    return r < 0 ? r : 0;
}

/* Escaped as JSON has them; no edge takes such a name. */
static bool has_control(struct ke_str inner)
{
    for (size_t i = 0; i < inner.n; i++) {
        if (inner.p[i] == 0x7f)
            return true;
        if (inner.p[i] != '\\' || ++i == inner.n)
            continue;
        if (strchr("bfnrt", inner.p[i]) ||
            (inner.p[i] == 'u' && inner.n - i > 4 && memcmp(inner.p + i + 1, "00", 2) == 0 &&
             inner.p[i + 3] < '2'))
            return true;
    }
    return false;
}

/* The name of an item: there, not too long, and of no item before it. */
static int check_item_name(const struct place *item, const struct place *parent, const char *list,
                           const char *key, unsigned before)
{
    struct ke_str items, k, other, v, name;
    int r = need(item, key);
    if (r < 0)
        return r;
    (void)kei_member(item->object, key, &name);
    if (kei_inner(name).n > PROPERTY_NAME_MAX)
        return bad(item, name, key, "is longer than 128 characters");
    if (has_control(kei_inner(name)))
        return bad(item, name, key, "has a control character, which no node takes");
    (void)kei_member(parent->object, list, &items);
    for (size_t it = 0; before > 0 && kei_json_next(items, &it, &k, &other); before--)
        if (kei_json_get(other, key, &v) && kei_json_type(v) == '"' && kei_json_str_eq(v, name))
            return bad(item, name, key, "stands in this list already");
    return 0;
}

/* {value, metadata} */
static int check_value(const struct place *p, const char *key)
{
    static const char *const names[] = {"value", "metadata", NULL};
    struct place v;
    struct ke_str text;
    int r = enter(&v, p, key, names, NULL, 0);
    if (r != 1)
        return r;
    if (!kei_member(v.object, "value", &text))
        return bad(&v, v.object, "value", "is missing");
    if (kei_json_type(text) != '"')
        return bad(&v, text, "value", "is not a string; put it in quotes");
    return check_texts(&v, "metadata");
}

static int check_metadata(const struct place *doc)
{
    return kei_check_metadata(doc->f, doc->object, doc->err);
}

static int check_model_ref(const struct place *spec)
{
    static const char *const names[] = {"name", NULL};
    struct place ref;
    struct ke_str v;
    int r = enter(&ref, spec, "deviceModelRef", names, NULL, 0);
    if (r == 0)
        return bad(spec, spec->object, "deviceModelRef", "is missing");
    if (r == 1)
        r = need(&ref, "name");
    if (r < 0)
        return r;
    (void)kei_member(ref.object, "name", &v);
    return kei_dns_subdomain(kei_inner(v)) ? 0 : bad(&ref, v, "name", "is not a DNS name");
}

/* ---- v1beta1 ---- */

static int check_push(const struct place *property)
{
    static const char *const names[] = {"http", "mqtt", "otel", "dbMethod", "anomalyDetection",
                                        NULL};
    static const struct kei_typed types[] = {{"dbMethod", '{'}, {"anomalyDetection", '{'}};
    static const char *const http[] = {"hostName", "port", "requestPath", "timeout", NULL};
    static const struct kei_typed http_types[] = {
        {"hostName", '"'}, {"port", '0'}, {"requestPath", '"'}, {"timeout", '0'}};
    static const char *const mqtt[] = {"address", "topic", "qos", "retained", NULL};
    static const struct kei_typed mqtt_types[] = {
        {"address", '"'}, {"topic", '"'}, {"qos", '0'}, {"retained", 't'}};
    static const char *const otel[] = {"endpointURL", NULL};
    static const struct kei_typed otel_types[] = {{"endpointURL", '"'}};
    struct place push, part;
    int r = enter(&push, property, "pushMethod", names, types, 2);
    if (r != 1)
        return r;
    r = enter(&part, &push, "http", http, http_types, 4);
    if (r == 1)
        r = check_int(&part, "port", 0, 65535, "is not a number from 0 to 65535");
    if (r >= 0)
        r = enter(&part, &push, "mqtt", mqtt, mqtt_types, 4);
    if (r == 1)
        r = check_int(&part, "qos", 0, 2, "is not 0, 1 or 2");
    if (r >= 0)
        r = enter(&part, &push, "otel", otel, otel_types, 1);
    return r < 0 ? r : 0;
}

static int check_cycles(const struct place *p)
{
    static const char *const cycles[] = {"reportCycle", "collectCycle"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = check_int(p, cycles[i], 0, INT64_MAX, "is not a whole number from 0");
    return r;
}

/* {protocolName, configData} */
static int check_configured(const struct place *p, const char *key)
{
    static const char *const names[] = {"protocolName", "configData", NULL};
    static const struct kei_typed types[] = {{"protocolName", '"'}, {"configData", '{'}};
    struct place at;
    int r = enter(&at, p, key, names, types, 2);
    return r < 0 ? r : 0;
}

static int check_properties(const struct place *spec)
{
    static const char *const names[] = {
        "name",         "desired",       "visitors",   "reportCycle",
        "collectCycle", "reportToCloud", "pushMethod", NULL};
    static const struct kei_typed types[] = {{"reportToCloud", 't'}};
    struct place item;
    size_t it = 0;
    unsigned n = 0;
    int r = kei_check_maps(spec->f, spec->object, spec->path, "properties", spec->err);
    while (r == 0 && (r = enter_item(&item, spec, "properties", &it, &n, names, types, 1)) == 1) {
        r = check_item_name(&item, spec, "properties", "name", n - 1);
        if (r == 0)
            r = check_value(&item, "desired");
        if (r == 0)
            r = check_configured(&item, "visitors");
        if (r == 0)
            r = check_cycles(&item);
        if (r == 0)
            r = check_push(&item);
    }
    return r;
}

static int check_methods(const struct place *spec)
{
    static const char *const names[] = {"name", "description", "propertyNames", NULL};
    static const struct kei_typed types[] = {{"description", '"'}, {"propertyNames", '['}};
    struct place item;
    struct ke_str list, k, v;
    size_t it = 0;
    unsigned n = 0;
    int r = kei_check_maps(spec->f, spec->object, spec->path, "methods", spec->err);
    while (r == 0 && (r = enter_item(&item, spec, "methods", &it, &n, names, types, 2)) == 1) {
        r = check_item_name(&item, spec, "methods", "name", n - 1);
        if (r < 0 || !kei_member(item.object, "propertyNames", &list))
            continue;
        for (size_t at = 0; r == 0 && kei_json_next(list, &at, &k, &v);)
            if (kei_json_type(v) != '"')
                r = bad(&item, v, "propertyNames", "has an item that is not a string; quote it");
    }
    return r;
}

static int check_spec_beta(const struct place *doc)
{
    static const char *const names[] = {"deviceModelRef", "nodeName",    "properties", "protocol",
                                        "methods",        "stateReport", NULL};
    static const struct kei_typed types[] = {{"nodeName", '"'}, {"stateReport", '{'}};
    static const char *const report[] = {"reportToCloud", "reportCycle", NULL};
    static const struct kei_typed report_types[] = {{"reportToCloud", 't'}};
    struct place spec, state;
    struct ke_str v;
    int r = enter(&spec, doc, "spec", names, types, 2);
    if (r == 0)
        return bad(doc, doc->object, "spec", "is missing");
    if (r == 1)
        r = check_model_ref(&spec);
    if (r == 0 && kei_member(spec.object, "nodeName", &v) && !kei_dns_subdomain(kei_inner(v)))
        r = bad(&spec, v, "nodeName", "is not the name of a node");
    if (r == 0)
        r = check_configured(&spec, "protocol");
    if (r == 0)
        r = check_properties(&spec);
    if (r == 0)
        r = check_methods(&spec);
    if (r == 0)
        r = enter(&state, &spec, "stateReport", report, report_types, 1);
    if (r == 1)
        r = check_int(&state, "reportCycle", 0, INT64_MAX, "is not a whole number from 0");
    return r;
}

static int check_model_beta(const struct place *doc)
{
    static const char *const names[] = {"protocol", "properties", "protocolConfigData", NULL};
    static const struct kei_typed types[] = {{"protocol", '"'}, {"protocolConfigData", '{'}};
    static const char *const property[] = {"name",       "description", "type",
                                           "accessMode", "minimum",     "maximum",
                                           "unit",       "visitors",    NULL};
    static const struct kei_typed texts[] = {
        {"description", '"'}, {"minimum", '"'}, {"maximum", '"'}, {"unit", '"'}};
    static const char *const kinds[] = {"INT",     "FLOAT", "DOUBLE", "STRING",
                                        "BOOLEAN", "BYTES", "STREAM", NULL};
    static const char *const modes[] = {"ReadWrite", "ReadOnly", NULL};
    struct place spec, item;
    size_t it = 0;
    unsigned n = 0;
    int r = enter(&spec, doc, "spec", names, types, 2);
    if (r <= 0)
        return r < 0 ? r : bad(doc, doc->object, "spec", "is missing");
    r = kei_check_maps(spec.f, spec.object, spec.path, "properties", spec.err);
    while (r == 0 &&
           (r = enter_item(&item, &spec, "properties", &it, &n, property, texts, 4)) == 1) {
        r = check_item_name(&item, &spec, "properties", "name", n - 1);
        if (r == 0)
            r = check_word(&item, "type", kinds,
                           "is not INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES or STREAM");
        if (r == 0)
            r = check_word(&item, "accessMode", modes, "is not ReadWrite or ReadOnly");
        if (r == 0)
            r = check_configured(&item, "visitors");
    }
    return r;
}

/* ---- v1alpha2 ---- */

static int check_type_alpha(const struct place *property)
{
    static const char *const kinds[] = {"int",     "string", "double", "float",
                                        "boolean", "bytes",  NULL};
    static const char *const members[] = {"accessMode", "defaultValue", "minimum",
                                          "maximum",    "unit",         NULL};
    static const struct kei_typed types[] = {{"minimum", '0'}, {"maximum", '0'}, {"unit", '"'}};
    static const char *const modes[] = {"ReadWrite", "ReadOnly", NULL};
    struct place type, kind;
    unsigned n = 0;
    int r = enter(&type, property, "type", kinds, NULL, 0);
    if (r <= 0)
        return r < 0 ? r : bad(property, property->object, "type", "is missing");
    for (size_t i = 0; r >= 0 && kinds[i]; i++) {
        r = enter(&kind, &type, kinds[i], members, types, 3);
        n += r == 1;
        if (r == 1)
            r = check_word(&kind, "accessMode", modes, "is not ReadWrite or ReadOnly");
    }
    if (r >= 0 && n != 1)
        r = bad(property, type.object, "type",
                "needs one of int, string, double, float, boolean and bytes");
    return r < 0 ? r : 0;
}

static int check_model_alpha(const struct place *doc)
{
    static const char *const names[] = {"properties", "protocol", NULL};
    static const struct kei_typed types[] = {{"protocol", '"'}};
    static const char *const property[] = {"name", "description", "type", NULL};
    static const struct kei_typed texts[] = {{"description", '"'}};
    struct place spec, item;
    size_t it = 0;
    unsigned n = 0;
    int r = enter(&spec, doc, "spec", names, types, 1);
    if (r <= 0)
        return r < 0 ? r : bad(doc, doc->object, "spec", "is missing");
    r = kei_check_maps(spec.f, spec.object, spec.path, "properties", spec.err);
    while (r == 0 &&
           (r = enter_item(&item, &spec, "properties", &it, &n, property, texts, 1)) == 1) {
        r = check_item_name(&item, &spec, "properties", "name", n - 1);
        if (r == 0)
            r = check_type_alpha(&item);
    }
    return r;
}

/* The one node that is read: the first value of the first expression. */
static int check_selector(const struct place *spec)
{
    struct ke_str v, terms = {0}, k, term, values;
    size_t a = 0, b = 0, c = 0;
    if (!kei_member(spec->object, "nodeSelector", &v))
        return 0;
    (void)kei_json_get(v, "nodeSelectorTerms", &terms);
    if (!kei_json_next(terms, &a, &k, &term) || !kei_json_get(term, "matchExpressions", &terms) ||
        !kei_json_next(terms, &b, &k, &term) || !kei_json_get(term, "values", &values) ||
        !kei_json_next(values, &c, &k, &term))
        return bad(spec, v, "nodeSelector",
                   "names no node (nodeSelectorTerms[0].matchExpressions[0].values[0])");
    return kei_dns_subdomain(kei_inner(term))
               ? 0
               : bad(spec, term, "nodeSelector",
                     "has a first value that is not the name of a node");
}

static int check_common(const struct place *protocol)
{
    static const char *const names[] = {"com",
                                        "tcp",
                                        "commType",
                                        "reconnTimeout",
                                        "reconnRetryTimes",
                                        "collectTimeout",
                                        "collectType",
                                        "collectRetryTimes",
                                        "customizedValues",
                                        NULL};
    static const struct kei_typed types[] = {{"customizedValues", '{'}};
    static const char *const com[] = {"serialPort", "baudRate", "dataBits",
                                      "parity",     "stopBits", NULL};
    static const struct kei_typed com_types[] = {{"serialPort", '"'}, {"baudRate", '0'}};
    static const char *const parities[] = {"none", "even", "odd", NULL};
    static const char *const tcp[] = {"ip", "port", NULL};
    static const struct kei_typed tcp_types[] = {{"ip", '"'}};
    struct place common, part;
    int r = enter(&common, protocol, "common", names, types, 1);
    if (r != 1)
        return r;
    r = enter(&part, &common, "com", com, com_types, 2);
    if (r == 1)
        r = check_word(&part, "parity", parities, "is not none, even or odd");
    if (r == 0 && part.object.p)
        r = check_int(&part, "dataBits", 5, 8, "is not 5, 6, 7 or 8");
    if (r == 0 && part.object.p)
        r = check_int(&part, "stopBits", 1, 2, "is not 1 or 2");
    if (r >= 0)
        r = enter(&part, &common, "tcp", tcp, tcp_types, 1);
    if (r == 1)
        r = check_int(&part, "port", 1, 65535, "is not a number from 1 to 65535");
    return r < 0 ? r : 0;
}

static int check_protocol_alpha(const struct place *spec)
{
    static const char *const names[] = {"opcua",  "modbus", "bluetooth", "customizedProtocol",
                                        "common", NULL};
    static const struct kei_typed types[] = {
        {"opcua", '{'}, {"modbus", '{'}, {"bluetooth", '{'}, {"customizedProtocol", '{'}};
    static const char *const modbus[] = {"slaveID", NULL};
    static const char *const custom[] = {"protocolName", "configData", NULL};
    static const struct kei_typed custom_types[] = {{"configData", '{'}};
    struct place protocol, part;
    int r = enter(&protocol, spec, "protocol", names, types, 4);
    if (r != 1)
        return r;
    r = enter(&part, &protocol, "modbus", modbus, NULL, 0);
    if (r == 1)
        r = check_int(&part, "slaveID", 0, 255, "is not a number from 0 to 255");
    if (r >= 0)
        r = enter(&part, &protocol, "customizedProtocol", custom, custom_types, 1);
    if (r == 1)
        r = need(&part, "protocolName");
    return r < 0 ? r : check_common(&protocol);
}

static int check_visitor(const struct place *item)
{
    static const char *const modbus[] = {"register", "offset",         "limit", "scale",
                                         "isSwap",   "isRegisterSwap", NULL};
    static const struct kei_typed types[] = {
        {"scale", '0'}, {"isSwap", 't'}, {"isRegisterSwap", 't'}};
    static const char *const registers[] = {"CoilRegister", "DiscreteInputRegister",
                                            "InputRegister", "HoldingRegister", NULL};
    static const char *const custom[] = {"protocolName", "configData", NULL};
    static const struct kei_typed custom_types[] = {{"protocolName", '"'}, {"configData", '{'}};
    struct place part;
    int r = enter(&part, item, "modbus", modbus, types, 3);
    if (r == 1)
        r = need(&part, "register");
    if (r == 0 && part.object.p)
        r = check_word(&part, "register", registers,
                       "is not CoilRegister, DiscreteInputRegister, InputRegister or "
                       "HoldingRegister");
    if (r == 0 && part.object.p)
        r = check_int(&part, "offset", 0, 65535, "is not a number from 0 to 65535");
    if (r == 0 && part.object.p)
        r = check_int(&part, "limit", 0, 65535, "is not a number from 0 to 65535");
    if (r >= 0)
        r = enter(&part, item, "customizedProtocol", custom, custom_types, 2);
    return r < 0 ? r : 0;
}

static int check_visitors(const struct place *spec)
{
    static const char *const names[] = {"propertyName",
                                        "reportCycle",
                                        "collectCycle",
                                        "customizedValues",
                                        "opcua",
                                        "modbus",
                                        "bluetooth",
                                        "customizedProtocol",
                                        NULL};
    static const struct kei_typed types[] = {
        {"customizedValues", '{'}, {"opcua", '{'}, {"bluetooth", '{'}};
    struct place item;
    size_t it = 0;
    unsigned n = 0;
    int r = kei_check_maps(spec->f, spec->object, spec->path, "propertyVisitors", spec->err);
    while (r == 0 &&
           (r = enter_item(&item, spec, "propertyVisitors", &it, &n, names, types, 3)) == 1) {
        r = check_item_name(&item, spec, "propertyVisitors", "propertyName", n - 1);
        if (r == 0)
            r = check_cycles(&item);
        if (r == 0)
            r = check_visitor(&item);
    }
    return r;
}

static int check_data(const struct place *spec)
{
    static const char *const names[] = {"dataProperties", "dataTopic", NULL};
    static const struct kei_typed types[] = {{"dataTopic", '"'}};
    static const char *const property[] = {"propertyName", "metadata", NULL};
    struct place data, item;
    size_t it = 0;
    unsigned n = 0;
    int r = enter(&data, spec, "data", names, types, 1);
    if (r != 1)
        return r;
    r = kei_check_maps(data.f, data.object, data.path, "dataProperties", data.err);
    while (r == 0 &&
           (r = enter_item(&item, &data, "dataProperties", &it, &n, property, NULL, 0)) == 1) {
        r = check_item_name(&item, &data, "dataProperties", "propertyName", n - 1);
        if (r == 0)
            r = check_texts(&item, "metadata");
    }
    return r;
}

/* Both APIs: the twins; in v1alpha2 they hold what is desired. */
static int check_status(const struct place *doc)
{
    static const char *const names[] = {
        "twins", "state", "lastOnlineTime", "reportToCloud", "reportCycle", "extensions", NULL};
    static const char *const twin[] = {"propertyName", "desired", "reported", "observedDesired",
                                       NULL};
    static const char *const sides[] = {"desired", "reported", "observedDesired"};
    struct place status, item;
    size_t it = 0;
    unsigned n = 0;
    int r = enter(&status, doc, "status", names, NULL, 0);
    if (r != 1)
        return r;
    r = kei_check_maps(status.f, status.object, status.path, "twins", status.err);
    while (r == 0 && (r = enter_item(&item, &status, "twins", &it, &n, twin, NULL, 0)) == 1) {
        r = check_item_name(&item, &status, "twins", "propertyName", n - 1);
        for (size_t i = 0; r == 0 && i < 3; i++)
            r = check_value(&item, sides[i]);
    }
    return r;
}

static int check_spec_alpha(const struct place *doc)
{
    static const char *const names[] = {"deviceModelRef",   "nodeSelector", "protocol",
                                        "propertyVisitors", "data",         NULL};
    static const struct kei_typed types[] = {{"nodeSelector", '{'}};
    struct place spec;
    int r = enter(&spec, doc, "spec", names, types, 1);
    if (r == 0)
        return bad(doc, doc->object, "spec", "is missing");
    if (r == 1)
        r = check_model_ref(&spec);
    if (r == 0)
        r = check_selector(&spec);
    if (r == 0)
        r = check_protocol_alpha(&spec);
    if (r == 0)
        r = check_visitors(&spec);
    return r < 0 ? r : check_data(&spec);
}

/* ---- whole ---- */

static void copy_known(struct kei_jw *w, struct ke_str object, const char *key, const char *dflt)
{
    struct ke_str v;
    if (kei_member(object, key, &v))
        kei_jw_kraw(w, key, v);
    else if (dflt)
        kei_jw_kraw(w, key, kei_str(dflt));
}

static void write_metadata(struct kei_jw *w, struct ke_str doc)
{
    struct ke_str meta = {0}, key, v;
    bool has_ns = false;
    (void)kei_json_get(doc, "metadata", &meta);
    kei_jw_key(w, "metadata");
    kei_jw_obj(w);
    for (size_t it = 0; kei_json_next(meta, &it, &key, &v);) {
        if (kei_json_type(v) == 'n')
            continue;
        has_ns |= kei_json_key_is(key, "namespace");
        if (w->comma)
            kei_buf_addc(w->out, ',');
        kei_buf_add(w->out, key.p - 1, (size_t)(v.p + v.n - key.p) + 1);
        w->comma = true;
    }
    if (!has_ns)
        kei_jw_kstr(w, "namespace", "default");
    kei_jw_obj_end(w);
}

/* What the reader of devices, which nodes use too, has to say. */
static int check_readable(const struct place *doc, bool model, const struct ke_alloc *al)
{
    struct kei_arena a;
    struct kei_device d;
    struct kei_device_model m;
    struct ke_error why = KE_ERROR_INIT;
    struct ke_str spec = doc->object;
    kei_arena_init(&a, al, 0);
    int r = model ? kei_device_model_read(&m, doc->object, &a, &why)
                  : kei_device_read(&d, doc->object, &a, &why);
    kei_arena_free(&a);
    if (r == 0)
        return 0;
    if (r == KE_ENOMEM)
        return kei_error(doc->err, KE_ENOMEM, "out of memory");
    (void)kei_json_get(doc->object, "spec", &spec);
    return kei_field_bad(doc->f, doc->err, spec, "spec", why.text);
}

static int whole(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_error *err,
                 bool model)
{
    static const char *const top_model[] = {"apiVersion", "kind", "metadata", "spec", NULL};
    static const char *const top_device[] = {"apiVersion", "kind",   "metadata",
                                             "spec",       "status", NULL};
    struct place doc = {.f = f, .err = err, .object = o};
    struct ke_str version = {0};
    (void)kei_json_get(o, "apiVersion", &version);
    bool alpha = kei_json_str_is(version, ALPHA);
    if (!alpha && !kei_json_str_is(version, BETA))
        return bad(&doc, version.p ? version : o, "apiVersion", "is not " BETA " or " ALPHA);
    int r = kei_check_names(f, o, "", model ? top_model : top_device, err);
    if (r == 0)
        r = check_metadata(&doc);
    if (r == 0 && model)
        r = alpha ? check_model_alpha(&doc) : check_model_beta(&doc);
    if (r == 0 && !model)
        r = alpha ? check_spec_alpha(&doc) : check_spec_beta(&doc);
    if (r == 0 && !model)
        r = check_status(&doc);
    if (r == 0)
        r = check_readable(&doc, model, w->out->alloc);
    if (r < 0)
        return r;
    kei_jw_kstr(w, "kind", model ? "DeviceModel" : "Device");
    kei_jw_kstr(w, "apiVersion", alpha ? ALPHA : BETA);
    write_metadata(w, o);
    copy_known(w, o, "spec", "{}");
    if (!model)
        copy_known(w, o, "status", "{}");
    return 0;
}

int kei_manifest_device(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                        struct ke_error *err)
{
    (void)tmp;
    return whole(w, o, f, err, false);
}

int kei_manifest_devicemodel(struct kei_jw *w, struct ke_str o, struct kei_field *f,
                             struct ke_buf *tmp, struct ke_error *err)
{
    (void)tmp;
    return whole(w, o, f, err, true);
}
