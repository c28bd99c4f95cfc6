#!/bin/sh
# Installs what a bare Debian 12 lacks: sh tests/deps.sh build | test | PACKAGE... Without root it
# names the missing packages and stops.
set -eu

build="gcc libc6-dev meson ninja-build pkg-config python3 libssl-dev libsqlite3-dev libcjson-dev libwslay-dev libyaml-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler"
test="$build g++ clang libclang-rt-14-dev libcmocka-dev libuv1-dev abigail-tools binutils openssl curl sqlite3 strace \
python3-pytest python3-websockets python3-cryptography mypy shellcheck faketime tinyproxy fiu-utils procps swtpm swtpm-tools \
tpm2-tools tpm2-openssl libtss2-tcti-swtpm0 libpaho-mqtt-dev mosquitto mosquitto-clients python3-paho-mqtt python3-grpcio python3-grpc-tools python3-pymodbus python3-serial python3-serial-asyncio libmodbus-dev socat"
# with whoever brought it: Debian's npm does not go with a nodejs from elsewhere
command -v npm >/dev/null || test="$test nodejs npm"

case "${1:-}" in
build) want=$build ;;
test) want=$test ;;
"") echo "usage: sh tests/deps.sh build | test | PACKAGE..." >&2; exit 2 ;;
*) want=$* ;;
esac

missing=
for p in $want; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages:$missing" >&2
    echo "install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
