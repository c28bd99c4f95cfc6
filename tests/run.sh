#!/bin/sh
# All tests, scaled to 25 minutes on two cores: sh tests/run.sh. Installs what a bare Debian 12 lacks (as
# root; otherwise it names the packages and stops). Last line: "N passed, N failed".
# Environment: KE_SEED (random tests repeat with it), BUILD (build folders), ONLY (steps to run).
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
build=${BUILD:-$root/build}
log=$build/log
: "${KE_SEED:=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}"
export KE_SEED
passed=0
failed=0
mkdir -p "$log"

# shellcheck source=tests/steps.sh
. tests/steps.sh

sh tests/deps.sh test || exit 1
echo "seed $KE_SEED (KE_SEED=$KE_SEED repeats this run)"

# One folder per compiler and sanitizer; the first is what is installed and measured.
step build-gcc compile gcc gcc --buildtype=debugoptimized || finish
step includes tests/check/check_includes.py
step forbidden tests/check/check_forbidden.py
step symbols tests/check/check_symbols.py "$build/gcc/lib/libkubeedge.so" "$build/gcc/lib/libkubeedge.a" "$root"
step scripts shellcheck -S warning -s sh examples/quickstart.sh tests/*.sh tests/abi/check.sh
suite unit-gcc gcc

# -O1: the sanitizers' own advice for speed with usable stacks.
step build-clang-asan compile clang-asan clang -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dfuzz=true &&
    suite unit-clang-asan clang-asan
step build-gcc-tsan compile gcc-tsan gcc -Db_sanitize=thread -Db_lundef=false -Doptimization=1 &&
    suite unit-gcc-tsan gcc-tsan "mqtt_test_auth mqtt_test_durable mqtt_test_rights mqtt_test_server test_batch test_child test_ctx test_devices test_eventbus test_identity test_loop test_post test_request test_router test_runtime_table test_store test_timer test_twin test_worker"
[ -d "$build/clang-asan/tests/fuzz" ] &&
    for target in "$build"/clang-asan/tests/fuzz/fuzz_*; do
        [ -x "$target" ] && [ -f "$target" ] && step "$(basename "$target")" sh tests/fuzz/run.sh "$target" "${KE_FUZZ_SECONDS:-8}"
    done

step abi sh tests/abi/check.sh "$build/gcc/lib/libkubeedge.so"
step features sh tests/features.sh "$build/features"
step consumer sh tests/consumer.sh "$build/gcc" "$build/consumer"
step python env LD_LIBRARY_PATH="$build/gcc/lib" KUBEEDGE_LIB="$build/gcc/lib/libkubeedge.so.0" BIN="$build/gcc/examples" \
    SHIM="$build/gcc/lib/pod/ke-shim" /usr/bin/python3 -m pytest -q bindings/python/tests
step quickstart env BIN="$build/gcc/examples" SHIM="$build/gcc/lib/pod/ke-shim" sh examples/quickstart.sh
step interop env BIN="$build/gcc/examples" SHIM="$build/gcc/lib/pod/ke-shim" LOAD="$build/gcc/tests/bench/mqtt" \
    PAHO_MODULE="$build/gcc/lib/mqtt/libkubeedge-paho.so" /usr/bin/python3 -m pytest -q -rs tests/interop
finish
