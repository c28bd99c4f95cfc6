# SPDX-License-Identifier: Apache-2.0
"""Messages through persistent sessions while server, publisher and subscriber are killed (kill -9): with QoS 1 none is
lost, with QoS 2 none is lost and none comes twice.

KE_SOAK_MESSAGES and KE_SOAK_KILLS set the size (a million and a thousand in soak.sh), LOAD is the folder of mqtt_soak.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import time

import pytest

from harness import BIN, PATIENCE, wait_for
from mqtt_harness import IS_MOSQUITTO, Server

LOAD = pathlib.Path(os.environ.get("LOAD", str(BIN.parent / "tests/bench/mqtt")))
MESSAGES = int(os.environ.get("KE_SOAK_MESSAGES", "30000"))
KILLS = int(os.environ.get("KE_SOAK_KILLS", "30"))


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
