#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Calls a guest in somebody's firmware must not make, and the size of files (lib/ only)."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALLS = (
    "printf puts putchar perror exit _exit abort signal sigaction sigprocmask system popen fork vfork "
    "posix_spawn posix_spawnp execve execv execvp getenv secure_getenv setenv putenv strtok strtok_r gmtime localtime mktime "
    "rand srand random sprintf vsprintf strcpy strcat strncpy strncat atoi atol atof alloca gets chdir umask setlocale "
    "strerror usleep sleep nanosleep assert_fail sqlite3_config cJSON_InitHooks CRYPTO_set_mem_functions"
).split()
# where a forbidden call is the point of the file
ALLOWED = {
    "getenv": re.compile(r"^base/ctx"),
    "secure_getenv": re.compile(r"^base/ctx"),
    "fork": re.compile(r"^pod/(runtime_|shim/)"),
    "vfork": re.compile(r"^pod/(runtime_|shim/)"),
    "posix_spawn": re.compile(r"^pod/runtime_"),
    "execve": re.compile(r"^pod/shim/"),
    "execv": re.compile(r"^pod/shim/"),
    "_exit": re.compile(r"^pod/(runtime_|shim/)"),
    "exit": re.compile(r"^pod/shim/"),
    "umask": re.compile(r"^pod/shim/"),
    "chdir": re.compile(r"^pod/shim/"),
    "sigaction": re.compile(r"^pod/shim/"),
    "signal": re.compile(r"^pod/shim/"),
    "sigprocmask": re.compile(r"^pod/(runtime_|shim/)"),
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(CALLS) + r")\s*\(")
STRIP = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|//[^\n]*', re.S)
MAX_LINES, MAX_HEADER = 1500, 500


def blank(match):
    return "\n" * match.group(0).count("\n")


def main():
    errors, files, large = [], 0, []
    for path in sorted((ROOT / "lib").rglob("*.[ch]")):
        rel = path.relative_to(ROOT / "lib").as_posix()
        text = path.read_text()
        files += 1
        lines = text.count("\n")
        if lines > MAX_LINES:
            errors.append(f"lib/{rel}: {lines} lines; {MAX_LINES} is the limit: split it by concept")
        elif lines > 1000:
            large.append(f"lib/{rel} ({lines})")
        for number, line in enumerate(STRIP.sub(blank, text).splitlines(), 1):
            for match in CALL.finditer(line):
                name = match.group(1)
                if name in ALLOWED and ALLOWED[name].match(rel):
                    continue
                errors.append(f"lib/{rel}:{number}: {name}() is not for library code (style: a good guest)")
        if not text.startswith("/* SPDX-License-Identifier: Apache-2.0 */"):
            errors.append(f"lib/{rel}: first line must be the SPDX licence line")
    for path in sorted((ROOT / "include").rglob("*.h*")):
        lines = path.read_text().count("\n")
        if lines > MAX_HEADER:
            errors.append(f"{path.relative_to(ROOT)}: {lines} lines; {MAX_HEADER} is the limit of a public header")
    print("\n".join(errors) or f"{files} files: no forbidden call, none over {MAX_LINES} lines"
          + (f"; over 1000: {', '.join(large)}" if large else ""))
    return bool(errors) or files == 0


sys.exit(main())
