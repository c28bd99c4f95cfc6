# shellcheck shell=sh
# shellcheck disable=SC2154
# What run.sh and soak.sh share; sourced. Needs: build, log, passed, failed.

wanted() {
    [ -z "${ONLY:-}" ] && return 0
    case " $ONLY " in *" $1 "*) return 0 ;; esac
    return 1
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

# counts FILE: how often each thing was done, as the tests say; with show_counts only
counts() {
    [ -z "${show_counts:-}" ] || grep -ao 'count: .*' "$1" | sed 's/^count:/     /'
    return 0
}

# step NAME COMMAND...: one test; its output is shown when it fails
step() {
    name=$1
    shift
    wanted "$name" || return 0
    start=$(date +%s)
    if "$@" >"$log/$name.txt" 2>&1; then
        passed=$((passed + 1))
        printf 'ok    %-24s %4d s\n' "$name" $(($(date +%s) - start))
        counts "$log/$name.txt"
    else
        failed=$((failed + 1))
        printf 'FAIL  %-24s %4d s, %s:\n' "$name" $(($(date +%s) - start)) "$log/$name.txt"
        tail -n 40 "$log/$name.txt" | sed 's/^/      /'
        return 1
    fi
}

# suite NAME FOLDER [OPTIONS]: the meson tests of a build folder, each of which counts
suite() {
    name=$1
    wanted "$name" || return 0
    start=$(date +%s)
    # shellcheck disable=SC2086
    meson test -C "$build/$2" --no-rebuild --print-errorlogs ${3:-} >"$log/$name.txt" 2>&1
    status=$?
    good=$(sed -n 's/^Ok: *//p' "$log/$name.txt" | tail -n 1)
    bad=$(sed -n -e 's/^Fail: *//p' -e 's/^Timeout: *//p' -e 's/^Unexpected Pass: *//p' "$log/$name.txt" |
        awk '{n += $1} END {print n + 0}')
    skipped=$(sed -n 's/^Skipped: *//p' "$log/$name.txt" | tail -n 1)
    [ "$status" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    passed=$((passed + ${good:-0}))
    failed=$((failed + bad))
    if [ "$bad" -eq 0 ]; then
        printf 'ok    %-24s %4d s, %s tests, %s skipped\n' "$name" $(($(date +%s) - start)) "${good:-0}" \
            "${skipped:-0}"
        counts "$build/$2/meson-logs/testlog.txt"
    else
        printf 'FAIL  %-24s %4d s, %s of %s tests, %s:\n' "$name" $(($(date +%s) - start)) "$bad" \
            $((${good:-0} + bad)) "$log/$name.txt"
        tail -n 80 "$log/$name.txt" | sed 's/^/      /'
    fi
}

# compile FOLDER COMPILER [MESON OPTIONS...]
compile() {
    dir=$build/$1
    compiler=$2
    shift 2
    if [ ! -f "$dir/build.ninja" ]; then
        case $compiler in
        clang) cxx=clang++ ;;
        *) cxx=g++ ;;
        esac
        CC=$compiler CXX=$cxx meson setup "$dir" -Dwerror=true "$@" || return 1
    fi
    ninja -C "$dir"
}
