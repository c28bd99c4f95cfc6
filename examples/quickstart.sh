#!/bin/sh
# From nothing to a node that survives a cut cable: builds, starts a cloud and a node, applies
# Kubernetes manifests, pulls the cable, kills the node, brings all back. Leaves nothing running.
# Environment: BUILD (build folder), BIN (folder with ke-node, ke-cloud, ke-shim: nothing is built).
set -eu
cd "$(dirname "$0")/.."
root=$PWD
here=$root/examples/quickstart
work=$(mktemp -d)
pids=

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf '\nquickstart: %s\n' "$*" >&2
    for log in cloud node; do
        [ -f "$work/$log.log" ] && { printf -- '--- last lines of the %s:\n' "$log"; tail -n 15 "$work/$log.log"; } >&2
    done
    exit 1
}
# shellcheck disable=SC2329
cleanup() {
    status=$?
    trap - EXIT INT TERM
    for pid in $pids; do kill -9 "$pid" 2>/dev/null || true; done
    # workloads outlive the node on purpose: end them by their shims' ids
    for f in "$work"/node/run/*/shim.pid; do
        [ -f "$f" ] || continue
        read -r shim _ <"$f" && kill -TERM "$shim" 2>/dev/null || true
    done
    i=0
    while [ $i -lt 50 ] && [ -n "$(shims)" ]; do sleep 0.1; i=$((i + 1)); done
    for pid in $(shims); do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
    exit $status
}
shims() {
    for p in /proc/[0-9]*/cmdline; do
        if { tr '\0' ' ' <"$p"; } 2>/dev/null | grep -qF "$work/node"; then
            p=${p%/cmdline}
            echo "${p#/proc/}"
        fi
    done
}
trap cleanup EXIT
trap 'exit 130' INT TERM

now_ms() { date +%s%3N; }
# wait_for SECONDS WHAT COMMAND...: until the command succeeds
wait_for() {
    limit=$(($(now_ms) + $1 * 1000)); what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$limit" ] || fail "$what did not happen in time"
        sleep 0.05
    done
}

if [ -z "${BIN:-}" ]; then
    say "1. packages and build"
    sh tests/deps.sh build
    sh tests/deps.sh python3-pymodbus python3-serial python3-serial-asyncio # what the device is played by
    build=${BUILD:-$root/build/quickstart}
    [ -f "$build/build.ninja" ] || meson setup "$build" -Dtests=false --buildtype=release >"$work/setup.log" 2>&1 ||
        { cat "$work/setup.log" >&2; fail "meson setup failed"; }
    ninja -C "$build" >"$work/build.log" 2>&1 || { tail -n 30 "$work/build.log" >&2; fail "build failed"; }
    BIN=$build/examples
    SHIM=$build/lib/pod/ke-shim
    echo "built $("$BIN/ke-node" --version)"
fi
SHIM=${SHIM:-$BIN/ke-shim}
demo_start=$(now_ms)

cloud() { "$BIN/ke-cloud" "$@" --data "$work/cloud"; }
node() { "$BIN/ke-node" "$@" --data "$work/node"; }
is_ready() { cloud nodes | grep -q '^edge-1 *Ready *connected'; }
is_running() { cloud pods | grep "^default *$1 " | grep -q ' Running '; }
runs_here() { node pods | grep "^default *$1 " | grep -q ' Running '; }
# shown PROGRAM DEVICE TEXT: TEXT is in what it prints of the device
shown() { "$1" devices | sed -n "\|$2|,/^[^ ]/p" | grep -q "$3"; }
says() { node logs "$1" | tail -n 3 | grep -q "$2"; }

say "2. a cloud"
mkdir "$work/manifests"
"$BIN/ke-cloud" --data "$work/cloud" --manifests "$work/manifests" --listen 127.0.0.1 --tunnel-port 0 \
    --cert-port 0 2>"$work/cloud.log" &
pids="$pids $!"
wait_for 20 "the start of the cloud" grep -q listening "$work/cloud.log"
tunnel=$(sed -n 's/.*tunnel port \([0-9]*\).*/\1/p' "$work/cloud.log" | head -n 1)
cert=$(sed -n 's/.*certificate port \([0-9]*\).*/\1/p' "$work/cloud.log" | head -n 1)
token=$(cloud token)
echo "it listens on ports $tunnel and $cert; a join token begins with $(echo "$token" | cut -c 1-16)..."

say "3. a node, joined through a cable"
start_relay() {
    rm -f "$work/relay"
    python3 "$here/relay.py" "$1:$tunnel" "$2:$cert" >"$work/relay" &
    relay=$!
    pids="$pids $relay"
    wait_for 10 "the cable" test -s "$work/relay"
    read -r near_tunnel near_cert <"$work/relay"
}
start_relay 0 0
start_node() {
    "$BIN/ke-node" --name edge-1 --cloud 127.0.0.1 --tunnel-port "$near_tunnel" --cert-port "$near_cert" \
        --token "$token" --data "$work/node" --runtime process --process-allow /bin/sh,/usr/bin/ --shim "$SHIM" \
        2>>"$work/node.log" &
    node_pid=$!
    pids="$pids $node_pid"
}
t=$(now_ms)
start_node
wait_for 20 "Ready of the node" is_ready
echo "after $(($(now_ms) - t)) ms:"
cloud nodes

say "4. two pods, a ConfigMap and a Secret"
t=$(now_ms)
cp "$here"/manifests/*.yaml "$work/manifests/"
for pod in clock reader; do
    wait_for 30 "pod $pod Running" is_running $pod
    echo "pod $pod is Running after $(($(now_ms) - t)) ms"
done
cloud pods
wait_for 10 "the greeting of pod clock" says clock 'hello from the cloud, operator'
echo "pod clock says: $(node logs clock | tail -n 1)"

say "5. two thermostats at a Modbus server, one in each version of the device API"
/usr/bin/python3 "$here/modbus_server.py" >"$work/modbus" 2>"$work/modbus.log" &
pids="$pids $!"
wait_for 20 "the Modbus server" test -s "$work/modbus"
read -r modbus <"$work/modbus"
# device NAME WANTED: its manifest, with that set point
device() {
    sed -e "s/@PORT@/$modbus/" -e "s/@WANTED@/$2/" "$here/devices/$1.yaml" >"$work/manifests/.new"
    mv "$work/manifests/.new" "$work/manifests/$1.yaml"
}
set_to() { grep -q "register $1 is set to $2" "$work/modbus"; }
t=$(now_ms)
cp "$here/devices/thermo-model.yaml" "$work/manifests/"
device thermo 21
device old-thermo 19
wait_for 20 "set point 21" set_to 2 21
wait_for 20 "set point 19" set_to 5 19
wait_for 20 "the set point in the cloud" shown cloud 'default  *thermo ' 'setpoint.*reported 21'
wait_for 20 "the other in the cloud" shown cloud 'default  *old-thermo ' 'setpoint.*reported 19'
echo "what the cloud wants stands in the registers, and what was read stands in the cloud, after $(($(now_ms) - t)) ms:"
cloud devices

say "6. the cable is pulled, the node killed, one workload killed too"
kill -9 "$relay"
kept=$(node logs reader | wc -l)
kill -9 "$node_pid"
wait "$node_pid" 2>/dev/null || true # gone, and its lock with it
for f in "$work"/node/run/*/shim.pid; do
    case $f in *clock*) read -r shim _ <"$f"; kill -9 "$shim" ;; esac
done
echo "meanwhile, in the cloud, the greeting changes"
sed 's/hello from the cloud/hello again/' "$here/manifests/settings.yaml" >"$work/manifests/.new"
mv "$work/manifests/.new" "$work/manifests/settings.yaml"
echo "and so does what it wants of the thermostats"
device thermo 25
device old-thermo 18

say "7. the node starts without a network"
t=$(now_ms)
start_node
wait_for 20 "the node's answer" node status
for pod in clock reader; do wait_for 20 "pod $pod after the restart" runs_here $pod; done
echo "both pods are there $(($(now_ms) - t)) ms after the start of the program:"
echo "reader was taken back (it had printed $kept lines and goes on), clock was started from the store"
node status | sed -n '1,3p'
wait_for 10 "an unbroken reader" sh -c "[ \$('$BIN/ke-node' logs --data '$work/node' reader | wc -l) -gt $kept ]"
says reader 'hello from the cloud' || fail "pod reader lost its ConfigMap"
wait_for 20 "the device after the restart" shown node "default/thermo " 'setpoint.*reported 21'
echo "the thermostats are read and kept at what was last wanted:"
node devices

say "8. the cable is back"
t=$(now_ms)
start_relay "$near_tunnel" "$near_cert"
wait_for 30 "the connection" is_ready
echo "connected again after $(($(now_ms) - t)) ms"
wait_for 20 "the changed greeting" says reader 'hello again'
echo "the change made while it was away arrived: pod reader says: $(node logs reader | tail -n 1)"
wait_for 20 "set point 25" set_to 2 25
wait_for 20 "set point 18" set_to 5 18
wait_for 20 "it in the cloud" shown cloud 'default  *thermo ' 'setpoint.*reported 25'
wait_for 20 "the other in the cloud" shown cloud 'default  *old-thermo ' 'setpoint.*reported 18'
echo "the registers are $(tail -n 2 "$work/modbus" | sed 's/register \([0-9]*\) is set to /\1: /' | tr '\n' ' ')and the cloud knows"

say "9. the end"
rm "$work/manifests/clock.yaml" "$work/manifests/reader.yaml"
gone() { ! cloud pods | grep -q '^default'; }
wait_for 30 "the end of the pods" gone
echo "the pods are deleted, in the cloud and on the node"
cat <<END

What this showed, in $((($(now_ms) - demo_start) / 1000)) s:
 - a node joined with a token, got its certificate and was Ready;
 - real manifests became running workloads, with values from a ConfigMap and a Secret;
 - with the cable out and the node killed, a workload ran on untouched and was taken back, and a dead one was
   started again from the node's own store;
 - two devices, one in each version of the device API, were set through Modbus registers and read back, with
   the cable out as well;
 - what was changed in the cloud meanwhile arrived after the reconnect.
END
