#!/bin/sh
# consumer.sh BUILD FOLDER: installs BUILD into FOLDER and uses it as a vendor would: pkg-config, C and C++,
# shared and static, the examples, then the programs from where they were installed.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1
folder=$2
rm -rf "$folder"
mkdir -p "$folder"
case $folder in
*" "*) # pkg-config takes no such sysroot
    link=$(mktemp -d)
    trap 'rm -rf "$link"' EXIT
    ln -s "$folder" "$link/consumer"
    folder=$link/consumer
    ;;
esac
meson install -C "$build" --no-rebuild --destdir "$folder/root" --quiet
prefix=$(meson introspect --buildoptions "$build" | python3 -c '
import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
pc=$(find "$folder/root" -name kubeedge.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
PKG_CONFIG_SYSROOT_DIR=$folder/root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
pkg-config --validate kubeedge
pkg-config --exists --print-errors kubeedge
lib=$(dirname "$PKG_CONFIG_PATH")

cat >"$folder/version.c" <<'C'
#include <kubeedge/kubeedge.h>
#include <stdio.h>
int main(void)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_ctx *ctx = NULL;
    struct ke_router *router = NULL;
    if (ke_ctx_new(&ctx, NULL, &err) < 0 || ke_router_new(&router, ctx, NULL) < 0)
        return 1;
    ke_router_free(router);
    ke_ctx_free(ctx);
    printf("%s %u\n", ke_version_string(), (unsigned)ke_version());
    return 0;
}
C
cp "$folder/version.c" "$folder/version.cpp"

cflags=$(pkg-config --cflags kubeedge)
shared=$(pkg-config --libs kubeedge)
# The host's static libraries are not all in Debian: ours stands over shared ones.
static="-Wl,-Bstatic -L$lib -lkubeedge -Wl,-Bdynamic $(PKG_CONFIG_SYSROOT_DIR='' pkg-config --libs libssl libcrypto sqlite3 libcjson yaml-0.1) -lwslay -lpthread"
export LD_LIBRARY_PATH="$lib"
for kind in shared static; do
    case $kind in
    shared) libs=$shared ;;
    static) libs=$static ;;
    esac
    # shellcheck disable=SC2086
    gcc -std=c99 -Wall -Wextra -Werror -pedantic $cflags -o "$folder/c-$kind" "$folder/version.c" $libs
    # shellcheck disable=SC2086
    g++ -std=c++11 -Wall -Wextra -Werror -pedantic $cflags -o "$folder/cpp-$kind" "$folder/version.cpp" $libs
    "$folder/c-$kind"
    "$folder/cpp-$kind"
done
ldd "$folder/c-static" | grep -q libkubeedge && { echo "the static build uses the shared library"; exit 1; }

# Every example is one file that needs nothing but the installed library (and its host loop).
for f in "$root"/examples/*.c; do
    name=$(basename "$f" .c)
    extra=
    case $name in host_libuv) extra=$(pkg-config --cflags --libs libuv) ;; esac
    # shellcheck disable=SC2086
    gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror $cflags -o "$folder/$name" "$f" $shared $extra -lpthread
    lines=$(wc -l <"$f")
    [ "$lines" -le 150 ] || { echo "$name has $lines lines; an example has at most 150"; exit 1; }
    echo "example $name builds"
done

# dlopen and dlclose
cat >"$folder/dl.c" <<'C'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    (void)argc;
    for (int i = 0; i < 3; i++) {
        void *h = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!h || !dlsym(h, "ke_ctx_new") || dlclose(h) != 0) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
    return 0;
}
C
gcc -o "$folder/dl" "$folder/dl.c" -ldl
"$folder/dl" "$lib/libkubeedge.so.0"

"$folder/root$prefix/bin/ke-node" --version
"$folder/root$prefix/bin/ke-cloud" --help >/dev/null
echo "installed, compiled against and run"
