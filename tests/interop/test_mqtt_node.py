# SPDX-License-Identifier: Apache-2.0
"""A node with MQTT: what devices publish for the cloud waits on disk until the cloud has it."""
import shutil
import subprocess
import time

import pytest

from harness import PATIENCE, Node, free_port, wait_for
from mqtt_harness import MQTTD, Raw, connect, packet, publish, subscribe

needs_mosquitto = pytest.mark.skipif(not shutil.which("mosquitto"), reason="mosquitto is not installed")


def waiting(node):
    for line in node.command("status").splitlines():
        if line.startswith("outbox"):
            return int(line.split()[1])
    return -1


def device(port):
    def try_connect():
        try:
            return Raw(port)
        except OSError:
            return None

    return wait_for("the node's MQTT server", try_connect).connected("device")


def upload(raw, topic, payload, pid):
    raw.send(publish(topic, payload, 1, pid))
    assert raw.read()[0] == 0x40


def test_uploads_wait_for_the_cloud(tmp_path, cloud):
    port = free_port()
    token = cloud.token()
    cloud.kill()
    node = Node(tmp_path, cloud=cloud, token=token)
    try:
        node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
        d = device(port)
        for i in range(20):
            upload(d, "default/user/x", b"%d" % i, i + 1)
        upload(d, "elsewhere", b"stays here", 99)
        wait_for("the outbox to have them", lambda: waiting(node) == 20)
        time.sleep(1)  # on disk, too: the acknowledgement to the device does not wait for that (eventbus.h)
        node.kill()
        node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
        wait_for("the outbox after a kill", lambda: waiting(node) == 20)
        cloud.start()
        wait_for("the cloud to have them", lambda: waiting(node) == 0, 3 * PATIENCE)
        upload(device(port), "SYS/dis/upload_records", b"{}", 1)
        wait_for("the last one", lambda: waiting(node) == 0)
    finally:
        node.kill()


def test_devices_talk_without_a_cloud(tmp_path):
    port = free_port()
    node = Node(tmp_path)
    try:
        node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
        a = device(port)
        a.send(subscribe("room/#", 1))
        assert a.read()[0] == 0x90
        b = Raw(port).connected("b")
        b.send(publish("room/1", b"on", 1, 7))
        assert a.read()[1].endswith(b"on")
        # retained messages and sessions live through a kill
        b.send(publish("room/kept", b"1", 1, 8, flags=1))
        assert b.read()[0] == 0x40 and b.read()[0] == 0x40
        node.kill()
        node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
        a = device(port)
        a.send(subscribe("room/kept", 0))
        assert a.read()[0] == 0x90
        assert a.read()[1].endswith(b"1")
    finally:
        assert node.kill(15) == 0


def test_a_taken_port_does_not_stop_the_node(tmp_path):
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        node = Node(tmp_path)
        try:
            node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
            node.wait_log("the MQTT server does not run")
            wait_for("the node", lambda: "offline" in node.command("status"))
        finally:
            assert node.kill(15) == 0


@needs_mosquitto
def test_broker_outside(tmp_path):
    """edgecore.yaml as it is, mode 2: through paho to a mosquitto."""
    import os

    module = os.environ.get("PAHO_MODULE", "")
    if not module:
        pytest.skip("PAHO_MODULE does not name libkubeedge-paho.so")
    port = free_port()
    conf = tmp_path / "m.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    log = open(tmp_path / "m.log", "wb")
    broker = subprocess.Popen(["mosquitto", "-c", str(conf)], stdout=log, stderr=log)
    yaml = tmp_path / "edgecore.yaml"
    yaml.write_text("modules:\n  eventBus:\n    enable: true\n    mqttMode: 2\n"
                    f"    mqttServerExternal: tcp://127.0.0.1:{port}\n"
                    f"libkubeedge:\n  mqttModule: {module}\n")
    node = Node(tmp_path)
    try:
        node.start("--config", str(yaml), "--cloud", "127.0.0.1", "--cert-port", str(free_port()), "--token",
                   "0" * 64 + ".eyJhbGciOiJIUzI1NiJ9.e30.x", runtime="none")
        node.wait_log("connected to broker")
        d = device(port)
        wait_for("its subscriptions", lambda: upload(d, "default/user/x", b"1", 1) or waiting(node) > 0)
    finally:
        node.kill()
        broker.terminate()
        broker.wait(PATIENCE)
        log.close()
