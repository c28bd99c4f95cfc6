# SPDX-License-Identifier: Apache-2.0
"""A gateway that forwards to a mosquitto over TLS, as its mosquitto.conf says, while each of them goes down: nothing that was
acknowledged is lost. And the event bus of a node with a broker outside, over TLS."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from harness import PATIENCE, Node, free_port, wait_for
from mqtt_harness import IS_MOSQUITTO, MQTTD, Raw, make_certificates, publish, subscribe
from test_mqtt_soak import KILLS, MESSAGES, Half

pytestmark = [pytest.mark.skipif(not shutil.which("mosquitto"), reason="mosquitto is not installed"),
              pytest.mark.skipif(IS_MOSQUITTO, reason="of our own")]


class Program:
    def __init__(self, folder, name, words, port):
        self.log, self.words, self.port, self.process = folder / f"{name}.log", words, port, None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log)
        wait_for(f"port {self.port}", self.listens)
        return self

    def listens(self):
        assert self.process.poll() is None, self.text()[-2000:]
        try:
            Raw(self.port).close()
            return True
        except OSError:
            return False

    def text(self):
        return self.log.read_text(errors="replace")

    def end(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(PATIENCE)


def make_mosquitto(folder):
    make_certificates(folder)
    plain, tls = free_port(), free_port()
    data = folder / "mosquitto"
    data.mkdir()
    conf = folder / "mosquitto.conf"
    conf.write_text(f"user root\nallow_anonymous true\nlistener {plain} 127.0.0.1\nlistener {tls} 127.0.0.1\n"
                    f"certfile {folder}/server.crt\nkeyfile {folder}/server.key\ncafile {folder}/ca.crt\n"
                    "require_certificate true\nuse_identity_as_username false\n"
                    f"persistence true\npersistence_location {data}/\nmax_queued_messages 0\nmax_inflight_messages 100\n")
    conf.write_text("per_listener_settings false\n" + conf.read_text())
    return Program(folder, "mosquitto", ["mosquitto", "-c", str(conf)], plain), tls


def make_gateway(folder, remote, topics):
    port = free_port()
    (folder / "gateway").mkdir()
    conf = folder / "gateway.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
                    f"persistence_location {folder}/gateway/\nmax_queued_messages 0\n"
                    f"connection up\naddress 127.0.0.1:{remote}\nrestart_timeout 1\nbridge_cafile {folder}/ca.crt\n"
                    f"bridge_certfile {folder}/client.crt\nbridge_keyfile {folder}/client.key\n{topics}")
    return Program(folder, "gateway", [MQTTD, "--config", str(conf)], port)


def test_bridge_over_tls(tmp_path):
    broker, tls = make_mosquitto(tmp_path)
    gateway = make_gateway(tmp_path, tls, "topic # out 1 up/ plant/7/\ntopic # in 1 down/ cmd/7/\n")
    try:
        broker.start()
        gateway.start()
        wait_for("the bridge", lambda: "bridge up is connected" in gateway.text())
        there = Raw(broker.port).connected("there")
        there.send(subscribe("plant/#", 1)).read()
        here = Raw(gateway.port).connected("here")
        here.send(subscribe("down/#", 1)).read()
        here.send(publish("up/line/1", b"42", 1, 1))
        first, body = there.read()
        assert body[2:].startswith(b"plant/7/line/1") and body.endswith(b"42")
        there.send(publish("cmd/7/stop", b"now", 1, 1))
        while True:
            first, body = here.read()
            if first >> 4 == 3:
                break
        assert body[2:].startswith(b"down/stop") and body.endswith(b"now")
    finally:
        gateway.end()
        broker.end()


def test_bridge_loses_nothing(tmp_path):
    seed = int(os.environ.get("KE_SEED", "0")) or random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    broker, tls = make_mosquitto(tmp_path)
    gateway = make_gateway(tmp_path, tls, "topic soak out 1\n")
    sub = pub = None
    try:
        broker.start()
        gateway.start()
        wait_for("the bridge", lambda: "bridge up is connected" in gateway.text())
        sub, pub = Half("sub", tmp_path, broker, 1), Half("pub", tmp_path, gateway, 1)
        sub.start()
        wait_for("the subscriber's state", sub.state.exists)
        time.sleep(0.3)  # its subscription must stand before the first message
        pub.start()
        for mark in sorted(rng.randrange(MESSAGES) for _ in range(max(4, KILLS // 3))):
            stop = time.monotonic() + 20 * PATIENCE
            while sub.got() < mark:
                assert time.monotonic() < stop, f"{sub.got()} of {MESSAGES}; {gateway.text()[-2000:]}"
                time.sleep(0.005)
            victim = rng.choice(["gateway", "broker", "pub"])
            if victim == "gateway":
                gateway.end()
                gateway.start()
            elif victim == "broker":  # it saves what it has acknowledged only when it ends in order
                broker.end(signal.SIGTERM)
                time.sleep(0.2)
                broker.start()
            else:
                pub.restart()
        assert pub.process.wait(20 * PATIENCE) == 0
        assert sub.process.wait(20 * PATIENCE) == 0
        out = subprocess.run(["report" if w == "sub" else w for w in sub.cmd], check=True, stdout=subprocess.PIPE).stdout
        report = json.loads(out)
        print(report)
        assert report["missing"] == 0
    finally:
        for half in (pub, sub):
            if half:
                half.end()
        gateway.end()
        broker.end()


@pytest.mark.parametrize("right", [True, False])
def test_event_bus_over_tls(tmp_path, right):
    module = os.environ.get("PAHO_MODULE", "")
    if not module:
        pytest.skip("PAHO_MODULE does not name libkubeedge-paho.so")
    broker, tls = make_mosquitto(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    ca = tmp_path / "ca.crt" if right else make_certificates(other) / "ca.crt"
    yaml = tmp_path / "edgecore.yaml"
    yaml.write_text("modules:\n  eventBus:\n    mqttMode: 2\n"
                    f"    mqttServerExternal: ssl://127.0.0.1:{tls}\n"
                    f"    eventBusTLS: {{enable: true, tlsMqttCAFile: {ca}, tlsMqttCertFile: {tmp_path}/client.crt, "
                    f"tlsMqttPrivateKeyFile: {tmp_path}/client.key}}\nlibkubeedge: {{mqttModule: {module}}}\n")
    node = Node(tmp_path)
    try:
        broker.start()
        node.start("--config", str(yaml), runtime="none")
        node.wait_log("connected to broker" if right else "next try in")
        assert ("connected to broker" in node.text()) == right
    finally:
        node.kill()
        broker.end()
