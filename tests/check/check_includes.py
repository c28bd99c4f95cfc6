#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: the layer table of lib/README.md, and the owners of third-party headers."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = {
    "base": set(),
    "crypto": {"base"},
    "net": {"base", "crypto"},
    "message": {"base"},
    "router": {"base", "message"},
    "store": {"base", "message"},
    "tunnel": {"base", "crypto", "net", "message", "router", "store"},
    "meta": {"base", "message", "router", "store"},
    "pod": {"base", "message", "router", "store"},
    "mqtt": {"base", "crypto", "net", "message", "router", "store"},
    "twin": {"base", "message", "router", "store"},
    "device": {"base", "net", "message", "router", "store"},
    "dmi": {"base", "net", "message", "router", "store"},
    "node": {"base", "crypto", "net", "message", "router", "store", "tunnel", "meta", "pod", "mqtt", "twin", "device", "dmi"},
    "cloud": {"base", "crypto", "net", "message", "store"},
}
# public headers a layer implements or needs
PUBLIC = {
    "base": {"ctx", "err", "export", "log", "version", "sys/alloc", "sys/io"},
    "message": {"msg"},
    "router": {"router"},
    "store": {"store"},
    "tunnel": {"tunnel"},
    "pod": {"runtime", "node"},
    "mqtt": {"mqtt", "bridge", "eventbus"},
    "twin": {"twin"},
    "device": {"device", "drivers"},
    "dmi": {"mapper", "device"},
    "node": {"node", "runtime", "tunnel"},
    "cloud": {"cloud"},
}
THIRD_PARTY = [
    (re.compile(r"openssl/"), re.compile(r"crypto/|net/tls_openssl")),
    (re.compile(r"cjson/|cJSON"), re.compile(r"base/json")),
    (re.compile(r"yaml\.h"), re.compile(r"base/yaml")),
    (re.compile(r"sqlite3"), re.compile(r"store/")),
    (re.compile(r"wslay/"), re.compile(r"net/ws")),
    (re.compile(r"nghttp2/"), re.compile(r"net/h2")),
    (re.compile(r"protobuf-c/"), re.compile(r"dmi/")),
    (re.compile(r"MQTT(Async|Client)"), re.compile(r"mqtt/paho\.c")),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def allowed_public(layer):
    names = set(PUBLIC.get(layer, ()))
    for below in LAYERS[layer]:
        names |= PUBLIC.get(below, set())
    return names | PUBLIC["base"]


def check(path, layer, errors):
    rel = path.relative_to(ROOT / "lib").as_posix()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, name = match.groups()
        where = f"lib/{rel}:{number}"
        if kind == "<" and name.startswith("kubeedge/"):
            header = name[len("kubeedge/") : -len(".h")]
            if header not in allowed_public(layer):
                errors.append(f"{where}: layer {layer} may not use the public header {name}")
        for pattern, owners in THIRD_PARTY:
            # a header of our own may bear a like name: base/yaml.h
            if kind == "<" and pattern.search(name) and not owners.match(rel):
                errors.append(f"{where}: {name} belongs to {owners.pattern} alone")
        if kind == '"' and "/" in name:
            other = name.split("/", 1)[0]
            if other in LAYERS and other != layer and other not in LAYERS[layer]:
                errors.append(f"{where}: layer {layer} may not include layer {other} ({name})")


def main():
    errors, count = [], 0
    for layer in LAYERS:
        for path in sorted((ROOT / "lib" / layer).rglob("*.[ch]")):
            check(path, layer, errors)
            count += 1
    for path in sorted((ROOT / "include").rglob("*.h*")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and not match.group(2).startswith(("kubeedge/", "stddef.h", "stdint.h")):
                errors.append(f"{path.relative_to(ROOT)}:{number}: public headers include no other header ({match.group(2)})")
    # each is compiled alone, too
    compiled = (ROOT / "tests/headers/meson.build").read_text()
    for path in sorted((ROOT / "include/kubeedge").rglob("*.h")):
        name = path.relative_to(ROOT / "include/kubeedge").with_suffix("").as_posix()
        if f"'{name}'" not in compiled:
            errors.append(f"include/kubeedge/{name}.h is not in the list of tests/headers/meson.build")
    print("\n".join(errors) or f"includes of {count} files follow the layer table")
    return bool(errors) or count == 0


sys.exit(main())
