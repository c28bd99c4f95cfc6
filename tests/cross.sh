#!/bin/sh
# cross.sh [FOLDER]: unit tests for arm64 and armhf (64-bit time) under qemu-user, and a build on musl of what
# musl allows. Needs root once, to install compilers and to unpack foreign libraries into FOLDER.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build/cross}
mkdir -p "$folder"
missing=
for p in gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross qemu-user-static mmdebstrap musl-tools meson ninja-build; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || { echo "missing Debian packages:$missing" >&2; exit 1; }
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

target() { # ARCH TRIPLET QEMU CPU_FAMILY
    arch=$1 triplet=$2 qemu=$3 family=$4
    sysroot=$folder/sysroot-$arch
    [ -d "$sysroot/usr" ] || mmdebstrap --variant=extract --architectures="$arch" \
        --include=libc6-dev,libssl-dev,libsqlite3-dev,libcjson-dev,libwslay-dev,libyaml-dev,libcmocka-dev bookworm "$sysroot"
    cat >"$folder/$arch.ini" <<INI
[binaries]
c = '$triplet-gcc'
ar = '$triplet-ar'
strip = '$triplet-strip'
pkg-config = 'pkg-config'
exe_wrapper = ['env', 'QEMU_LD_PREFIX=$sysroot', '$qemu']
[properties]
sys_root = '$sysroot'
pkg_config_libdir = '$sysroot/usr/lib/$triplet/pkgconfig:$sysroot/usr/share/pkgconfig'
[built-in options]
c_args = ['--sysroot=$sysroot']
c_link_args = ['--sysroot=$sysroot', '-L$sysroot/usr/lib/$triplet']
[host_machine]
system = 'linux'
cpu_family = '$family'
cpu = '$family'
endian = 'little'
INI
    [ -f "$folder/$arch/build.ninja" ] || meson setup "$folder/$arch" "$root" --cross-file "$folder/$arch.ini" -Dwerror=true
    ninja -C "$folder/$arch"
    meson test -C "$folder/$arch" --no-rebuild --suite unit --timeout-multiplier 20 --print-errorlogs
}

target arm64 aarch64-linux-gnu qemu-aarch64-static aarch64
target armhf arm-linux-gnueabihf qemu-arm-static arm

# musl: the layers that need no Debian library beyond libc
mkdir -p "$folder/musl"
for f in "$root"/lib/router/*.c "$root"/lib/net/http1.c "$root"/lib/net/http_text.c "$root"/lib/pod/shim/*.c; do
    musl-gcc -std=c11 -D_GNU_SOURCE -Os -Wall -Wextra -Werror -I"$root/include" -I"$root/lib" -I"$root/build/gcc" -c "$f" \
        -o "$folder/musl/$(basename "$f" .c).o"
done
musl-gcc -static -o "$folder/musl/ke-shim" "$folder"/musl/ke_shim.o "$folder"/musl/shim_*.o
echo "arm64, armhf: unit tests; musl: router, HTTP parser and shim build"
