# SPDX-License-Identifier: Apache-2.0
"""An MQTT server as a user runs it, and the raw bytes of MQTT for what no client library sends.

MQTTD is the server's program (default: ke-mqttd in BIN). With MQTTD=mosquitto the same tests run against
mosquitto, which tells whether a failure is the test's.
"""
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

from harness import BIN, PATIENCE, free_port, wait_for

MQTTD = os.environ.get("MQTTD", str(BIN / "ke-mqttd"))
IS_MOSQUITTO = os.path.basename(MQTTD) == "mosquitto"


def make_certificates(folder):
    """ca.crt, server.crt/key for 127.0.0.1 and localhost, client.crt/key (CN device-1)."""
    folder = pathlib.Path(folder)

    def run(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=test-ca")
    for name, cn, ext in (("server", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                          ("client", "device-1", "extendedKeyUsage=clientAuth")):
        run("req", *ec, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={cn}")
        (folder / f"{name}.ext").write_text(ext + "\n")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            f"{name}.crt", "-days", "30", "-extfile", f"{name}.ext")
        os.chmod(folder / f"{name}.key", 0o644)
    return folder


class Server:
    def __init__(self, folder, more="", tls=False, websockets=False, persist=False):
        self.folder = pathlib.Path(folder)
        self.log = self.folder / "server.log"
        self.process = None
        self.port = free_port()
        self.ports = {"tcp": self.port}
        self.ca = str(self.folder / "ca.crt")
        lines = ["per_listener_settings false", "allow_anonymous true", f"listener {self.port} 127.0.0.1"]
        if IS_MOSQUITTO:
            lines += ["user root", "log_type all"]
        if tls:
            make_certificates(self.folder)
        for name, wanted, is_tls, is_ws in (("tls", tls, True, False), ("ws", websockets, False, True),
                                            ("wss", tls and websockets, True, True)):
            if not wanted:
                continue
            self.ports[name] = free_port()
            lines.append(f"listener {self.ports[name]} 127.0.0.1")
            if is_ws:
                lines.append("protocol websockets")
            if is_tls:
                lines += [f"certfile {self.folder}/server.crt", f"keyfile {self.folder}/server.key"]
        if persist:
            (self.folder / "data").mkdir(exist_ok=True)
            lines += ["persistence true", f"persistence_location {self.folder}/data/"]
        self.conf = self.folder / "server.conf"
        self.conf.write_text("\n".join(lines) + "\n" + more)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([MQTTD, "-c" if IS_MOSQUITTO else "--config", str(self.conf)], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        for port in self.ports.values():
            wait_for(f"listening on {port}", lambda p=port: self.listens(p))
        return self

    def listens(self, port):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.text()[-3000:]}")
        try:
            Raw(port).close()
            return True
        except OSError:
            return False

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(timeout=PATIENCE)
        return self.process.returncode if self.process else None

    def restart(self, sig=signal.SIGKILL):
        self.kill(sig)
        return self.start()

    def private_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1])
        raise AssertionError("no Private_Dirty")


# ---- raw packets ----

def text(s):
    b = s.encode() if isinstance(s, str) else s
    return struct.pack(">H", len(b)) + b


def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 0x7F
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


def packet(first, body=b""):
    return bytes([first]) + varint(len(body)) + body


def connect(client_id="", version=4, clean=True, keepalive=0, flags=0, props=b"", rest=b""):
    name = text("MQTT") + bytes([version, flags | (2 if clean else 0)]) + struct.pack(">H", keepalive)
    return packet(0x10, name + (varint(len(props)) + props if version == 5 else b"") + text(client_id) + rest)


def publish(topic, payload=b"", qos=0, pid=0, version=4, flags=0, props=b""):
    body = text(topic) + (struct.pack(">H", pid) if qos else b"")
    if version == 5:
        body += varint(len(props)) + props
    return packet(0x30 | qos << 1 | flags, body + payload)


def subscribe(filter_, qos=0, pid=1, version=4, props=b""):
    return packet(0x82, struct.pack(">H", pid) + (varint(len(props)) + props if version == 5 else b"")
                  + text(filter_) + bytes([qos]))


class Raw:
    """A connection that sends what it is told and reads whole packets."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        if self.socket.getsockname() == self.socket.getpeername():
            self.socket.close()  # nobody listens, and the kernel chose that very port for us
            raise ConnectionRefusedError(f"port {port}")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, *packets):
        self.socket.sendall(b"".join(packets))
        return self

    def read(self, patience=PATIENCE):
        """(first byte, body), or None when the server closed."""
        end = time.monotonic() + patience
        while True:
            got = self.take()
            if got:
                return got
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self.buffer += more

    def take(self):
        length = shift = 0
        for i, b in enumerate(self.buffer[1:5], 2):
            length |= (b & 0x7F) << shift
            shift += 7
            if not b & 0x80:
                if len(self.buffer) < i + length:
                    return None
                got = self.buffer[0], self.buffer[i:i + length]
                self.buffer = self.buffer[i + length:]
                return got
        return None

    def connected(self, *args, **kwargs):
        got = self.send(connect(*args, **kwargs)).read()
        assert got and got[0] == 0x20 and got[1][1] == 0, got
        return self

    def closed(self, patience=PATIENCE):
        """What came before the server closed."""
        out = []
        while True:
            got = self.read(patience)
            if got is None:
                return out
            out.append(got)

    def close(self):
        self.socket.close()
