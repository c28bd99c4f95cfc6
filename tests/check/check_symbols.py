#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_symbols.py LIB.so LIB.a SOURCE_ROOT

One list of symbols: the version script, the headers, and what the shared library exports. The static
archive defines nothing without our prefix, and no object holds a writable global.
"""
import pathlib
import re
import subprocess
import sys


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def nm(path, *flags):
    for line in run("nm", *flags, str(path)).splitlines():
        parts = line.split()
        if len(parts) >= 2 and len(parts[-2]) == 1:
            yield parts[-2], parts[-1]


def declared(include):
    names = set()
    for path in include.rglob("*.h*"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        for match in re.finditer(r"KE_API\b([^;{]*?)\b(ke_\w+)\s*\(", text):
            names.add(match.group(2))
    return names


def mapped(path):
    text = re.sub(r"/\*.*?\*/|#[^\n]*", "", path.read_text(), flags=re.S)
    if "*" in re.sub(r"local:\s*\*;", "", text):
        sys.exit("version script: a wildcard hides additions; name each symbol")
    return set(re.findall(r"\b(ke_\w+);", text))


def main():
    shared, static, root = (pathlib.Path(p) for p in sys.argv[1:4])
    headers, script = declared(root / "include"), mapped(root / "lib" / "libkubeedge.map")
    exported = {name.split("@")[0] for kind, name in nm(shared, "-D", "--defined-only") if kind in "TDBRVW"}
    exported = {name for name in exported if not name.startswith("KE_0")}
    errors = []
    for what, left, right in (("in headers, not in the version script", headers, script),
                              ("in the version script, not in headers", script, headers),
                              ("in the version script, not in the library", script, exported),
                              ("in the library, not in the version script", exported, script)):
        errors += [f"{what}: {name}" for name in sorted(left - right)]
    for kind, name in nm(static, "--defined-only", "-g"):
        if not name.startswith(("ke_", "kei_")) and kind != "w":
            errors.append(f"static archive: global {name} lacks the prefix ke_ or kei_")
    # Sanitizer runtimes bring globals of their own; a plain build must have none.
    for kind, name in nm(static):
        if kind in "dDbBcC" and not name.startswith(("__", ".L")) and not name.startswith("__func__"):
            errors.append(f"writable global: {name} ({kind})")
    relro = run("objdump", "-t", str(static))
    relro_names = {line.split()[-1] for line in relro.splitlines() if ".data.rel.ro" in line}
    errors = [e for e in errors if not (e.startswith("writable global") and e.split()[2] in relro_names)]
    print("\n".join(errors) or f"{len(exported)} symbols: headers, version script and library agree")
    return bool(errors) or not exported


sys.exit(main())
