#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What crypto and TLS make, before the openssl program: requests, certificates, and connections
# with s_server and s_client. Argument: the program crypto_tool. Skipped (77) without openssl.
set -u
tool=$(readlink -f "$1")
command -v openssl >/dev/null || {
    echo "SKIP: openssl is not installed"
    exit 77
}

dir=$(mktemp -d)
peer=
finish() {
    status=$?
    [ -n "$peer" ] && kill "$peer" 2>/dev/null
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

# ---- requests and certificates ----
"$tool" new-key ca.key || fail "new-key"
"$tool" ca ca.key ca.pem || fail "ca"
"$tool" new-key cloud.key || fail "new-key"
"$tool" sign-server ca.pem ca.key cloud.key cloud.pem 127.0.0.1 ::1 localhost || fail "sign-server"
"$tool" new-key node.key || fail "new-key"
"$tool" csr node.key system:nodes system:node:n1 node.csr || fail "csr"
"$tool" sign-csr ca.pem ca.key node.csr node.pem || fail "sign-csr"

openssl ec -in node.key -check -noout 2>/dev/null || fail "openssl does not read the key"
openssl req -inform der -in node.csr -verify -noout 2>/dev/null || fail "openssl: the request"
openssl verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_ip 127.0.0.1 cloud.pem \
    >/dev/null || fail "openssl: the server's certificate"
openssl verify -CAfile ca.pem -purpose sslserver -verify_hostname localhost cloud.pem >/dev/null ||
    fail "openssl: the server's name"
openssl verify -CAfile ca.pem -purpose sslclient node.pem >/dev/null || fail "openssl: the node"
openssl verify -CAfile ca.pem -purpose sslserver node.pem >/dev/null 2>&1 &&
    fail "openssl takes a node for a server"
got=$(openssl x509 -in node.pem -noout -subject -nameopt RFC2253)
[ "$got" = "subject=CN=system:node:n1,O=system:nodes" ] || fail "the node's subject: $got"

# A token, against openssl's own HMAC.
token=$("$tool" token ca.pem ca.key 1795600000) || fail "token"
hash=$(openssl x509 -in ca.pem -outform der | openssl sha256 -r | cut -d' ' -f1)
[ "${token%%.*}" = "$hash" ] || fail "the token's hash of the CA"
jwt=${token#*.}
key=$(openssl ec -in ca.key -outform der 2>/dev/null | od -An -v -tx1 | tr -d ' \n')
want=$(printf '%s' "${jwt%.*}" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary |
    openssl base64 -A | tr '+/' '-_' | tr -d '=')
[ "${jwt##*.}" = "$want" ] || fail "the token's signature"

# ---- our client, s_server ----
serve() { # further arguments; sets port
    : >server.out # what the last one said is not this one's
    openssl s_server -accept 127.0.0.1:0 -cert cloud.pem -key cloud.key -CAfile ca.pem \
        -Verify 3 -verify_return_error -naccept 1 -rev "$@" >server.out 2>&1 &
    peer=$!
    port=
    while [ -z "$port" ]; do
        kill -0 $peer 2>/dev/null || fail "s_server: $(cat server.out)"
        port=$(sed -n 's/^ACCEPT 127.0.0.1:\([0-9]*\).*/\1/p' server.out)
        [ -n "$port" ] || sleep 0.05
    done
}
for version in -tls1_2 -tls1_3; do
    serve $version
    "$tool" client 127.0.0.1 "$port" ca.pem node.pem node.key >client.out 2>client.err ||
        fail "client $version: $(cat client.err) $(cat server.out)"
    grep -q '^egdeebuk morf olleh$' client.out || fail "$version: $(cat client.out)"
    kill $peer 2>/dev/null
    wait $peer 2>/dev/null
    peer=
done
serve
"$tool" client 127.0.0.1 "$port" ca.pem >client.out 2>client.err && fail "a client without certificate"
grep -q 'certificate required' client.err || fail "without certificate: $(cat client.err)"
kill $peer 2>/dev/null
wait $peer 2>/dev/null
serve
"$tool" client other.example "$port" ca.pem node.pem node.key >client.out 2>client.err &&
    fail "a wrong name"
grep -q 'not for other.example' client.err || fail "wrong name: $(cat client.err)"
kill $peer 2>/dev/null
wait $peer 2>/dev/null
peer=

# ---- our server, s_client ----
for version in -tls1_2 -tls1_3; do
    rm -f port
    "$tool" server port ca.pem cloud.pem cloud.key >server.out 2>server.err &
    peer=$!
    while [ ! -s port ]; do
        kill -0 $peer 2>/dev/null || fail "server: $(cat server.err)"
        sleep 0.05
    done
    echo "from s_client" | openssl s_client -connect "127.0.0.1:$(cat port)" $version -CAfile ca.pem \
        -verify_return_error -verify_ip 127.0.0.1 -cert node.pem -key node.key -quiet -no_ign_eof \
        >client.out 2>client.err || fail "s_client $version: $(cat client.err)"
    wait $peer || fail "server $version: $(cat server.err)"
    peer=
    grep -q '^system:node:n1$' server.out || fail "who the server saw: $(cat server.out)"
done
echo "PASS"
