#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A key that lives in a TPM (swtpm, on loopback): a certificate request, a TLS client and a TLS
# server with it, and that it cannot be taken out. Argument: the program crypto_tool.
# Skipped (77) when swtpm, tpm2-tools or OpenSSL's tpm2 provider is missing.
set -u
tool=$(readlink -f "$1")

skip() {
    echo "SKIP: $*"
    exit 77
}
for program in swtpm tpm2_createprimary tpm2_create tpm2_evictcontrol tpm2_flushcontext openssl; do
    command -v $program >/dev/null || skip "$program is not installed"
done
modules=$(openssl version -m | sed 's/.*"\(.*\)"/\1/')
[ -e "$modules/tpm2.so" ] || skip "OpenSSL's tpm2 provider is not installed ($modules/tpm2.so)"

dir=$(mktemp -d)
tpm=
peer=
finish() {
    status=$?
    [ -n "$peer" ] && kill "$peer" 2>/dev/null
    [ -n "$tpm" ] && kill "$tpm" 2>/dev/null && wait "$tpm" 2>/dev/null
    rm -rf "$dir"
    exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM
fail() {
    echo "FAIL: $*"
    exit 1
}
cd "$dir" || exit 1

# swtpm wants a pair of ports; the next pair is tried when one is taken.
try=0
while [ -z "$tpm" ]; do
    try=$((try + 1))
    [ $try -le 20 ] || skip "swtpm does not start: $(cat swtpm.log)"
    port=$((20000 + ($$ + try * 97) % 15000 * 2))
    rm -rf state
    mkdir state
    swtpm socket --tpm2 --tpmstate dir=state --flags not-need-init,startup-clear \
        --server type=tcp,port=$port,bindaddr=127.0.0.1 \
        --ctrl type=tcp,port=$((port + 1)),bindaddr=127.0.0.1 --pid file=pid >swtpm.log 2>&1 &
    tpm=$!
    while [ ! -s pid ]; do
        kill -0 "$tpm" 2>/dev/null || { tpm=; break; }
        sleep 0.05 # until it has written its pid, or is gone
    done
done
export TPM2TOOLS_TCTI="swtpm:host=127.0.0.1,port=$port"
export TPM2OPENSSL_TCTI="$TPM2TOOLS_TCTI"

make_key() { # handle, kind
    tpm2_flushcontext -t >/dev/null
    tpm2_create -Q -C primary.ctx -G "$2" -u key.pub -r key.priv -c key.ctx || fail "tpm2_create $2"
    tpm2_flushcontext -t >/dev/null
    tpm2_evictcontrol -Q -C o -c key.ctx "$1" || fail "tpm2_evictcontrol $1"
    tpm2_flushcontext -t >/dev/null
}
tpm2_createprimary -Q -C o -G ecc -c primary.ctx || fail tpm2_createprimary
make_key 0x81000001 ecc256:ecdsa-sha256
make_key 0x81000002 ecc256:ecdsa-sha256
make_key 0x81000003 rsa2048

node=handle:0x81000001
cloud=handle:0x81000002

"$tool" new-key ca.key || fail "the CA's key"
"$tool" ca ca.key ca.pem || fail "the CA"
"$tool" csr $node system:nodes system:node:tpm node.csr || fail "a request with a key in the TPM"
openssl req -inform der -in node.csr -verify -noout || fail "openssl does not accept the request"
"$tool" sign-csr ca.pem ca.key node.csr node.pem || fail "its certificate"
openssl verify -CAfile ca.pem -purpose sslclient node.pem || fail "openssl: the node's certificate"
"$tool" sign-server ca.pem ca.key $cloud cloud.pem localhost || fail "a server's certificate"

# Both ends with keys in the TPM.
"$tool" server port ca.pem cloud.pem $cloud >peer.out 2>peer.err &
peer=$!
while [ ! -s port ]; do
    kill -0 $peer 2>/dev/null || fail "the server: $(cat peer.err)"
    sleep 0.05
done
"$tool" client localhost "$(cat port)" ca.pem node.pem $node >client.out || fail "the client"
wait $peer || fail "the server: $(cat peer.err)"
peer=
grep -q '^hello from kubeedge$' client.out || fail "what came back: $(cat client.out)"
grep -q '^system:node:tpm$' peer.out || fail "who the server saw: $(cat peer.out)"

# What must not work.
"$tool" export $node >export.out 2>export.err && fail "the key was taken out of the TPM"
grep -q KE_EKEY export.err || fail "export: $(cat export.err)"
[ -s export.out ] && fail "something of the key came out: $(cat export.out)"
"$tool" csr handle:0x81000009 o cn x.csr 2>missing.err && fail "a handle that is not there"
grep -q 'no private key at handle:0x81000009' missing.err || fail "missing: $(cat missing.err)"
"$tool" csr handle:0x81000003 o cn x.csr 2>rsa.err && fail "an RSA key"
grep -q 'only EC keys' rsa.err || fail "rsa: $(cat rsa.err)"
"$tool" sign-csr ca.pem $node node.csr x.pem 2>other.err && fail "a CA's key that is not the CA's"
grep -q 'does not belong' other.err || fail "other: $(cat other.err)"

# A CA in the TPM.
"$tool" ca $node tpmca.pem || fail "a CA in the TPM"
"$tool" sign-csr tpmca.pem $node node.csr x.pem || fail "signing with a CA in the TPM"
openssl verify -CAfile tpmca.pem -purpose sslclient x.pem || fail "openssl: signed by the TPM"
echo "PASS"
