#!/bin/sh
# run.sh TARGET SECONDS: the corpus, then new inputs for so long. What it finds is kept out of the tree.
set -eu
target=$1
seconds=$2
here=$(dirname "$0")
name=$(basename "$target")
corpus=$here/corpus/${name#fuzz_}
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
"$target" -seed="${KE_SEED:-1}" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="$new/" "$new" "$corpus" || {
    status=$?
    for f in "$new"/crash-* "$new"/timeout-* "$new"/oom-* "$new"/leak-*; do
        [ -f "$f" ] && { echo "input, base64:"; base64 "$f"; }
    done
    exit $status
}
