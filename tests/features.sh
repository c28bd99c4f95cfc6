#!/bin/sh
# features.sh FOLDER: each feature off, and all; every build must compile without a warning and export the
# same symbols.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$1
features="tunnel node process cloud mqtt device dmi yaml"

try() { # NAME OPTIONS...
    name=$1
    shift
    dir=$folder/$name
    [ -f "$dir/build.ninja" ] || meson setup "$dir" "$root" -Dwerror=true -Dtests=false -Doptimization=0 "$@" >/dev/null
    ninja -C "$dir" >"$folder/$name.txt" 2>&1 || { cat "$folder/$name.txt"; echo "feature set $name does not build"; exit 1; }
    "$root/tests/check/check_symbols.py" "$dir/lib/libkubeedge.so" "$dir/lib/libkubeedge.a" "$root" ||
        { echo "feature set $name changes the symbols"; exit 1; }
    echo "$name: builds, same symbols"
}

mkdir -p "$folder"
all=
for f in $features; do
    try "no-$f" "-D$f=disabled"
    all="$all -D$f=disabled"
done
# shellcheck disable=SC2086
try none $all
