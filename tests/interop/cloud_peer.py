# SPDX-License-Identifier: Apache-2.0
"""A cloud that shares no code with the library: websockets and cryptography.

    peer = await CloudPeer.start()
    ... peer.token, peer.cert_port, peer.tunnel_port ...
    await peer.stop()

It frames what it sends as KubeEdge's cloud does: messages over 4082 bytes as a text frame without FIN
and one continuation, over 8192 bytes as the whole message without FIN and an empty continuation.
"""
import asyncio
import base64
import datetime
import hashlib
import hmac
import http
import ipaddress
import json
import pathlib
import ssl
import tempfile
import uuid

import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def name(cn, org=None):
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, org)] if org else []
    return x509.Name(parts + [x509.NameAttribute(NameOID.COMMON_NAME, cn)])


class Authority:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        self.cert = (x509.CertificateBuilder().subject_name(name("KubeEdge")).issuer_name(name("KubeEdge"))
                     .public_key(self.key.public_key()).serial_number(1024)
                     .not_valid_before(now - DAY).not_valid_after(now + 36500 * DAY)
                     .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                     .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
                     .sign(self.key, hashes.SHA256()))
        self.der = self.cert.public_bytes(serialization.Encoding.DER)
        self.secret = self.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL,
                                             serialization.NoEncryption())

    def issue(self, subject, public_key, usage, names=()):
        now = datetime.datetime.utcnow()
        b = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.cert.subject)
             .public_key(public_key).serial_number(x509.random_serial_number())
             .not_valid_before(now).not_valid_after(now + 365 * DAY)
             .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
             .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False))
        if names:
            b = b.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
        return b.sign(self.key, hashes.SHA256())

    def token(self, lifetime=3600):
        head = b64url(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        exp = int(datetime.datetime.now().timestamp()) + lifetime
        body = b64url(json.dumps({"exp": exp}).encode())
        mac = hmac.new(self.secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
        return f"{hashlib.sha256(self.der).hexdigest()}.{head}.{body}.{b64url(mac)}"

    def token_ok(self, jwt):
        head, body, mac = jwt.split(".")
        want = b64url(hmac.new(self.secret, f"{head}.{body}".encode(), hashlib.sha256).digest())
        return hmac.compare_digest(want, mac)


class CloudPeer:
    @classmethod
    async def start(cls, node_answer=None):
        self = cls()
        self.ca, self.node_answer = Authority(), node_answer
        self.token = self.ca.token()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.requests, self.received, self.upgrades, self.session = [], [], [], None
        self.connected = asyncio.Event()
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self.ca.issue(name("KubeEdge", "KubeEdge"), key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH,
                             [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        pem = self.folder / "server.pem"
        pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                          serialization.NoEncryption()) + cert.public_bytes(serialization.Encoding.PEM))
        (self.folder / "ca.pem").write_bytes(self.ca.cert.public_bytes(serialization.Encoding.PEM))
        self.cert_server = await asyncio.start_server(self._certificates, "127.0.0.1", 0, ssl=self._tls(ssl.CERT_NONE))
        self.cert_port = self.cert_server.sockets[0].getsockname()[1]
        self.tunnel_server = await websockets.serve(self._tunnel, "127.0.0.1", 0, ssl=self._tls(ssl.CERT_REQUIRED),
                                                    compression=None, max_size=None, ping_interval=None,
                                                    process_request=self._upgrade)
        self.tunnel_port = self.tunnel_server.sockets[0].getsockname()[1]
        return self

    def _tls(self, client):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(self.folder / "server.pem")
        c.load_verify_locations(self.folder / "ca.pem")
        c.verify_mode = client
        return c

    async def stop(self):
        self.tunnel_server.close()
        self.cert_server.close()
        await self.tunnel_server.wait_closed()

    # ---- certificates ----

    async def _certificates(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = head[0].split(" ")[1]
            self.requests.append((path, headers, body))
            status, answer = self._answer(path, headers, body)
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    def _answer(self, path, headers, body):
        if path == "/ca.crt":
            return 200, self.ca.der
        if path == "/edge.crt":
            kind, _, jwt = headers.get("authorization", "").partition(" ")
            if kind != "Bearer" or not self.ca.token_ok(jwt):
                return 401, b"Invalid authorization token"
            csr = x509.load_der_x509_csr(body)
            assert csr.is_signature_valid
            cn = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
            org = csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
            cert = self.ca.issue(name(cn, org), csr.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH)
            return 200, cert.public_bytes(serialization.Encoding.DER)
        if path.startswith("/node/") and self.node_answer:
            return 404, self.node_answer
        return 404, b"404: Page Not Found"

    # ---- the tunnel ----

    async def _upgrade(self, path, headers):
        self.upgrades.append((path, dict(headers.raw_items())))
        return None if headers.get("ConnectionUse") == "msg" else (http.HTTPStatus.BAD_REQUEST, [], b"")

    async def _tunnel(self, ws, path):
        self.session = ws
        self.connected.set()
        try:
            async for text in ws:
                assert isinstance(text, str) and text.endswith("\n")
                self.received.append(json.loads(text))
        except websockets.ConnectionClosed:
            pass

    def drop(self):
        """Closes the socket, without a close frame."""
        self.connected.clear()
        self.session.transport.abort()

    async def send(self, operation, resource, content, rv="1", parent=None):
        header = {"msg_id": str(uuid.uuid4()), "timestamp": 1795335480044, "resourceversion": rv}
        if parent:
            header["parent_msg_id"] = parent
        text = json.dumps({"header": header, "content": content,
                           "route": {"source": "edgecontroller", "group": "resource", "operation": operation,
                                     "resource": resource}}) + "\n"
        if len(text) <= 4082:
            await self.session.send(text)
        elif len(text) <= 8192:
            await self.session.send([text[:4082], text[4082:]])
        else:
            await self.session.send([text, ""])
        return header["msg_id"]

    def of(self, operation):
        return [m for m in self.received if m["route"].get("operation") == operation]

    def acks(self, msg_id):
        return [m for m in self.of("response") if m["header"].get("parent_msg_id") == msg_id]
