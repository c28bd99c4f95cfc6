# SPDX-License-Identifier: Apache-2.0
"""Messages through persistent sessions while server, publisher and subscriber are killed (kill -9): with QoS 1 none is
lost, with QoS 2 none is lost and none comes twice.

Memory is flat over many connects and many messages.

KE_SOAK_MESSAGES and KE_SOAK_KILLS set the size (a million and a thousand in soak.sh), KE_SOAK_CONNECTS and KE_SOAK_FLOW
that of the others (a million connects, ten million messages). LOAD is the folder of mqtt_soak and mqtt_load.
"""
import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import pytest

from harness import BIN, PATIENCE, wait_for
from mqtt_harness import IS_MOSQUITTO, Raw, Server, connect, packet, publish, subscribe, text

LOAD = pathlib.Path(os.environ.get("LOAD", str(BIN.parent / "tests/bench/mqtt")))
MESSAGES = int(os.environ.get("KE_SOAK_MESSAGES", "30000"))
KILLS = int(os.environ.get("KE_SOAK_KILLS", "30"))
CONNECTS = int(os.environ.get("KE_SOAK_CONNECTS", "6000"))
FLOW = int(os.environ.get("KE_SOAK_FLOW", "120000"))
FLAT_KIB = 150  # what an allocator may differ by from one look to the next


class Half:
    def __init__(self, role, folder, server, qos):
        self.state = folder / f"{role}.state"
        self.cmd = [str(LOAD / "mqtt_soak"), role, "--to", f"127.0.0.1:{server.port}", "--state", str(self.state),
                    "--messages", str(MESSAGES), "--qos", str(qos), "--id", f"soak-{role}"]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.cmd, stderr=subprocess.PIPE)

    def restart(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.start()

    def got(self):
        if not self.state.exists() or self.state.stat().st_size < 16:
            return 0
        with open(self.state, "rb") as f:
            return struct.unpack("<QQ", f.read(16))[1]

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.mark.skipif(IS_MOSQUITTO, reason="mosquitto keeps nothing over kill -9")
@pytest.mark.parametrize("qos", [1, 2])
def test_kills(tmp_path, qos):
    seed = int(os.environ.get("KE_SEED", "0")) or random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    server = Server(tmp_path, persist=True, more="max_queued_messages 0\nlog_type error\n").start()
    sub, pub = Half("sub", tmp_path, server, qos), Half("pub", tmp_path, server, qos)
    try:
        sub.start()
        wait_for("the subscriber's state", lambda: sub.state.exists())
        time.sleep(0.3)  # its subscription must stand before the first message
        pub.start()
        marks = sorted(rng.randrange(MESSAGES) for _ in range(KILLS))
        for mark in marks:
            stop = time.monotonic() + 20 * PATIENCE
            while sub.got() < mark:
                assert time.monotonic() < stop, f"{sub.got()} of {MESSAGES}, nothing more comes: {server.text()[-2000:]}"
                time.sleep(0.002)
            victim = rng.choice(["server", "pub", "sub", "server"])
            if victim == "server":
                server.restart()
            else:
                {"pub": pub, "sub": sub}[victim].restart()
        assert pub.process.wait(20 * PATIENCE) == 0, pub.process.stderr.read()
        assert sub.process.wait(20 * PATIENCE) == 0, sub.process.stderr.read()
        report = json.loads(subprocess.run(["report" if w in ("pub", "sub") else w for w in sub.cmd], check=True,
                                           stdout=subprocess.PIPE).stdout)
        print(report)
        assert report["missing"] == 0
        if qos == 2:
            assert report["twice"] == 0
    finally:
        pub.end()
        sub.end()
        server.kill()


def come_and_go(path, i):
    """One connection, its subscription and message; every other one goes without a word, and its will is published."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(path)
        version = 4 + i // 2 % 2
        will = (b"\0" if version == 5 else b"") + text("will") + text("gone")
        s.sendall(connect(f"soak-{i}", version, True, 60, 4, b"", will) + subscribe(f"t/{i}", 1, 1, version)
                  + publish(f"t/{i}", b"x" * 50, 1, 2, version) + packet(0xC0))
        got = b""
        while not got.endswith(b"\xd0\0"):
            more = s.recv(4096)
            assert more, got
            got += more
        if i % 2:
            s.sendall(packet(0xE0))


def test_memory_is_flat_over_connects(tmp_path):
    folder = tempfile.mkdtemp(prefix="ke-soak-")  # the path of a socket is short
    path = f"{folder}/s"
    server = Server(tmp_path, more=f"log_type error\nlistener 0 {path}\n").start()
    try:
        Raw(server.port).connected("ready").close()  # it serves, so all its sockets are open
        looks = []
        for part in range(3):
            for i in range(part * CONNECTS // 3, (part + 1) * CONNECTS // 3):
                come_and_go(path, i)
            looks.append(server.private_kib())
        print(f"private KiB over {CONNECTS} connects: {looks}")
        assert looks[-1] - looks[0] <= FLAT_KIB
    finally:
        server.kill()
        shutil.rmtree(folder)


@pytest.mark.parametrize("persist", [False, True], ids=["memory", "disk"])
def test_memory_is_flat_over_messages(tmp_path, persist):
    server = Server(tmp_path, persist=persist, more="max_queued_messages 0\nlog_type error\n").start()
    flow = FLOW // 10 if persist else FLOW
    try:
        looks = []
        for _ in range(3):
            for qos in (0, 1, 2):
                subprocess.run([LOAD / "mqtt_load", "pairs", "--qos", str(qos), "--clients", "20", "--messages",
                                str(flow // 9), "--to", f"127.0.0.1:{server.port}", "--pid", str(server.process.pid)]
                               + (["--persistent"] if persist and qos else []), check=True, stdout=subprocess.DEVNULL,
                               timeout=60 * PATIENCE)
                for i in range(20 if persist else 0):  # what the last run left behind is not the next one's
                    Raw(server.port).connected(f"sub-{i}").send(packet(0xE0)).closed()
            looks.append(server.private_kib())
        print(f"private KiB over {flow} messages: {looks}")
        assert looks[-1] - looks[0] <= FLAT_KIB
    finally:
        server.kill()
