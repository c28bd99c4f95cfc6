#!/bin/sh
# The full counts, hours on two cores: sh tests/soak.sh. Same steps and same last line as run.sh; under each step
# stands how often it did what. Environment: as in run.sh, and the counts below.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
build=${BUILD:-$root/build}
log=$build/log-soak
: "${KE_SEED:=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}"
export KE_SEED
passed=0
failed=0
mkdir -p "$log"

# shellcheck source=tests/steps.sh
. tests/steps.sh

sh tests/deps.sh test || exit 1
echo "seed $KE_SEED (KE_SEED=$KE_SEED repeats this run)"
export KE_POWERCUT_IMAGES="${KE_POWERCUT_IMAGES:-12000}" KE_KILLS="${KE_KILLS:-200}" KE_RECONNECTS="${KE_RECONNECTS:-10000}"
export KE_REAL_RECONNECTS="${KE_REAL_RECONNECTS:-200}" KE_DAMAGES="${KE_DAMAGES:-10000}" KE_STARTS="${KE_STARTS:-1000}"
export KE_SOAK_STARTS="${KE_SOAK_STARTS:-1000}" KE_SOAK_CONNECTS="${KE_SOAK_CONNECTS:-1000000}" KE_SOAK_FLOW="${KE_SOAK_FLOW:-10000000}"
export KE_TWIN_ROUNDS="${KE_TWIN_ROUNDS:-1000000}" KE_DEVICE_KILLS="${KE_DEVICE_KILLS:-1000}"
export KE_ALLOC_STEP="${KE_ALLOC_STEP:-1}" KE_MEMORY_STEP="${KE_MEMORY_STEP:-1}" KE_TEST_ROUNDS="${KE_TEST_ROUNDS:-500}"
show_counts=1

step build-gcc compile gcc gcc --buildtype=debugoptimized || finish
suite unit-gcc gcc "--timeout-multiplier 100"
step interop env BIN="$build/gcc/examples" SHIM="$build/gcc/lib/pod/ke-shim" LOAD="$build/gcc/tests/bench/mqtt" \
    PAHO_MODULE="$build/gcc/lib/mqtt/libkubeedge-paho.so" KE_SOAK_MESSAGES="${KE_SOAK_MESSAGES:-1000000}" KE_SOAK_KILLS="${KE_SOAK_KILLS:-1000}" /usr/bin/python3 -m pytest -q -s tests/interop
step build-clang-asan compile clang-asan clang -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dfuzz=true &&
    suite unit-clang-asan clang-asan "--timeout-multiplier 200"
[ -d "$build/clang-asan/tests/fuzz" ] &&
    for target in "$build"/clang-asan/tests/fuzz/fuzz_*; do
        [ -x "$target" ] && [ -f "$target" ] && step "$(basename "$target")" sh tests/fuzz/run.sh "$target" "${KE_FUZZ_SECONDS:-180}"
    done
step cross sh tests/cross.sh
finish
