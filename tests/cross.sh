#!/bin/sh
# cross.sh [FOLDER]: unit tests for arm64 and armhf (64-bit time) under qemu-user, and a build on musl of what
# musl allows. Root installs the packages that are missing; without root they are named. Foreign libraries are
# unpacked into FOLDER, from the archive that apt knows on this machine; nothing foreign is installed.
# Environment: TARGETS ("arm64 armhf musl"; s390x can be added).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build/cross}
targets=${TARGETS:-arm64 armhf musl}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

want="gcc libc6-dev meson ninja-build pkg-config python3 mmdebstrap qemu-user-static"
for t in $targets; do
    case $t in
    arm64) want="$want gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
    armhf) want="$want gcc-arm-linux-gnueabihf libc6-dev-armhf-cross" ;;
    s390x) want="$want gcc-s390x-linux-gnu libc6-dev-s390x-cross" ;;
    musl) want="$want musl-tools" ;;
    *) echo "$t is not arm64, armhf, s390x or musl" >&2; exit 2 ;;
    esac
done
# shellcheck disable=SC2086
sh "$root/tests/deps.sh" $want

# The counts of the tests that repeat themselves: emulation is slow, and the full counts are soak.sh's.
export KE_POWERCUT_IMAGES=200 KE_DAMAGES=100 KE_KILLS=5 KE_RECONNECTS=60 KE_ALLOC_STEP=25 KE_MEMORY_STEP=15 KE_TEST_ROUNDS=3

# What an emulator of user programs cannot show, by name.
skipped() {
    case $1 in
    test_shim | test_process) echo "starts ke-shim, and the kernel runs no foreign program by itself" ;;
    *) return 1 ;;
    esac
}

# archive: "URI" of the Debian archive that apt is configured with
archive() {
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$release" '$1 == "Debian" && $2 == release {print $3; exit}'
}
release=$(. /etc/os-release && echo "$VERSION_CODENAME")

sysroot() { # ARCH
    sysroot=$folder/sysroot-$1
    [ -f "$sysroot/usr/include/sqlite3.h" ] && return
    uri=$(archive)
    [ -n "$uri" ] || { echo "apt knows no Debian archive for $release: run apt-get update" >&2; exit 1; }
    rm -rf "$sysroot" "$sysroot.new"
    mode=chrootless # unpacking needs no rights; root is not refused them either
    [ "$(id -u)" = 0 ] && mode=root
    mmdebstrap --quiet --mode=$mode --variant=extract --architectures="$1" \
        --include=libc6-dev,libssl-dev,libsqlite3-dev,libcjson-dev,libwslay-dev,libyaml-dev,libnghttp2-dev,libprotobuf-c-dev,libcmocka-dev,linux-libc-dev \
        "$release" "$sysroot.new" "deb $uri $release main"
    mv "$sysroot.new" "$sysroot"
}

target() { # ARCH TRIPLET QEMU CPU_FAMILY ENDIAN
    arch=$1 triplet=$2 qemu=$3 family=$4 endian=$5
    sysroot "$arch"
    cat >"$folder/$arch.ini" <<INI
[binaries]
c = '$triplet-gcc'
ar = '$triplet-ar'
strip = '$triplet-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['env', 'QEMU_LD_PREFIX=$sysroot', '$qemu']
[properties]
sys_root = '$sysroot'
pkg_config_libdir = '$sysroot/usr/lib/$triplet/pkgconfig:$sysroot/usr/share/pkgconfig'
[built-in options]
c_args = ['--sysroot=$sysroot']
c_link_args = ['--sysroot=$sysroot']
[host_machine]
system = 'linux'
cpu_family = '$family'
cpu = '$family'
endian = '$endian'
INI
    [ -f "$folder/$arch/build.ninja" ] ||
        meson setup "$folder/$arch" "$root" --cross-file "$folder/$arch.ini" -Dwerror=true
    ninja -C "$folder/$arch"
    names=
    for name in $(meson test -C "$folder/$arch" --no-rebuild --list --suite unit 2>/dev/null | sed -n 's/.* \/ //p' | sort -u); do
        if why=$(skipped "$name"); then
            echo "$arch: not run: $name: $why"
        else
            names="$names $name"
        fi
    done
    # shellcheck disable=SC2086
    meson test -C "$folder/$arch" --no-rebuild --suite unit --timeout-multiplier 20 --print-errorlogs $names
    done="$done$arch: unit tests; "
}

# All of the library, the shim and the programs compile; what needs no library beyond libc is linked and run.
musl() {
    sysroot arm64 # for the headers of the libraries; there is no musl build of them in Debian
    dir=$folder/musl
    rm -rf "$dir"
    mkdir -p "$dir/include" "$dir/kernel" "$dir/gen/kubeedge" "$dir/gen/store"
    cp -r "$sysroot/usr/include/openssl" "$sysroot/usr/include/cjson" "$sysroot/usr/include/wslay" \
        "$sysroot/usr/include/sqlite3.h" "$sysroot/usr/include/yaml.h" "$dir/include"
    cp "$sysroot"/usr/include/*/openssl/*.h "$dir/include/openssl"
    cp -r /usr/include/nghttp2 "$dir/include"
    cp -r /usr/include/linux /usr/include/asm-generic "/usr/include/$(gcc -print-multiarch)/asm" "$dir/kernel"
    meson setup "$dir/config" "$root" -Dtests=false >/dev/null
    ninja -C "$dir/config" lib/store/store_sql.h >/dev/null
    for f in "$root"/lib/*/*.c "$root"/lib/pod/shim/*.c "$root"/examples/programs/*.c; do
        case $f in
        */*_off.c | */*_stub.c) continue ;;
        */lib/dmi/* | */lib/mqtt/paho.c) continue ;; # what is generated for protobuf-c, and paho's module
        esac
        name=${f#"$root"/}
        musl-gcc -std=c11 -D_GNU_SOURCE -Os -fPIC -Wall -Wextra -Wno-missing-field-initializers -Werror -I"$root/include" -I"$root/lib" -I"$dir/config" \
            -I"$dir/config/include" -I"$dir/config/lib" -isystem "$dir/include" -idirafter "$dir/kernel" \
            -c "$f" -o "$dir/$(echo "${name%.c}" | tr / -).o"
    done
    musl-gcc -static -o "$dir/ke-shim" "$dir"/lib-pod-shim-*.o
    rm "$dir"/lib-pod-shim-*.o
    ar rcs "$dir/liball.a" "$dir"/lib-*.o
    for name in $musl_runs; do
        musl-gcc -static -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -I"$root/include" -I"$root/lib" -I"$root/tests" \
            -I"$dir/config" -I"$dir/config/include" -o "$dir/replay_$name" "$root/tests/fuzz/fuzz_$name.c" \
            "$root/tests/fuzz/replay_main.c" "$dir/liball.a"
        "$dir/replay_$name" "$root/tests/fuzz/corpus/$name"
    done
    done="${done}musl: all compiles, the shim links,$(for n in $musl_runs; do printf ' %s' "$n"; done) parse their corpus; "
}
musl_runs="http1 msg patch pod"

done=
for t in $targets; do
    case $t in
    arm64) target arm64 aarch64-linux-gnu qemu-aarch64-static aarch64 little ;;
    armhf) target armhf arm-linux-gnueabihf qemu-arm-static arm little ;;
    s390x) target s390x s390x-linux-gnu qemu-s390x-static s390x big ;;
    musl) musl ;;
    esac
done
echo "${done%; }"
