#!/bin/sh
# check.sh LIB: the ABI of LIB against the baseline. check.sh --renew LIB writes the baseline anew (at a
# release, or for additions; a break raises the soname first).
set -eu
here=$(dirname "$0")
root=$here/../..
[ "$1" = --renew ] && { renew=1; shift; } || renew=0
if [ $renew = 1 ]; then
    abidw --headers-dir "$root/include" --no-corpus-path --no-comp-dir-path --drop-private-types --exported-interfaces-only \
        --out-file "$here/libkubeedge.abi" "$1"
    exit 0
fi
# Additions are no break: new symbols, and members appended to config, ops, status and info structs.
abidiff --no-added-syms --headers-dir2 "$root/include" --drop-private-types --suppressions "$here/ke.abignore" \
    "$here/libkubeedge.abi" "$1"
echo "no break of the ABI"
