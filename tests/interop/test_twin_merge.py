# SPDX-License-Identifier: Apache-2.0
"""Our node and our cloud change one device while the cable is out: what stands when it is in again."""
import json
import os
import random

import pytest

from cable import Cable
from harness import Node, free_port, wait_for
from mqtt_harness import Raw, publish, subscribe

SEED = int(os.environ.get("KE_SEED", "1"))
ROUNDS = int(os.environ.get("KE_MERGE_ROUNDS", "4"))

MODEL = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: m}
spec:
  protocol: none
  properties:
  - {name: level, type: STRING, accessMode: ReadWrite}
  - {name: other, type: STRING, accessMode: ReadWrite}
"""
BETA = """
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: d}}
spec:
  deviceModelRef: {{name: m}}
  nodeName: edge-1
  properties:
  - {{name: level, desired: {{value: "{level}"}}}}
  - {{name: other}}
"""
ALPHA_MODEL = """
apiVersion: devices.kubeedge.io/v1alpha2
kind: DeviceModel
metadata: {name: m}
spec:
  properties:
  - {name: level, type: {string: {accessMode: ReadWrite}}}
  - {name: other, type: {string: {accessMode: ReadWrite}}}
"""
ALPHA = """
apiVersion: devices.kubeedge.io/v1alpha2
kind: Device
metadata: {{name: d}}
spec:
  deviceModelRef: {{name: m}}
  nodeSelector:
    nodeSelectorTerms:
    - matchExpressions: [{{key: "", operator: In, values: [edge-1]}}]
status:
  twins:
  - {{propertyName: level, desired: {{value: "{level}", metadata: {{type: string}}}}}}
"""


DEVICE = "$hw/events/device/default/d/twin/"


class Site:
    """A cloud, a cable, a node with MQTT."""

    def __init__(self, tmp_path, cloud):
        self.cloud, self.cable, self.port = cloud, Cable(cloud), free_port()
        self.node = Node(tmp_path, cloud=self.cable, token=cloud.token())

    def start(self, **kwargs):
        self.node.start("--mqtt", f"127.0.0.1:{self.port}", "--drivers", "none", *self.more, runtime="none", **kwargs)
        self.mqtt = wait_for("the node's MQTT server", self.dial)
        self.mqtt.send(subscribe(DEVICE + "get/result", 0, 1))
        self.until(0x90)

    def dial(self):
        try:
            return Raw(self.port).connected("app")
        except OSError:
            return None

    def until(self, first):
        """The next packet of that type."""
        while (packet := self.mqtt.read())[0] & 0xf0 != first:
            pass
        return packet[1]

    def at_node(self):
        """TWIN -> {"desired": .., "reported": ..}, as the node's twin says."""
        self.mqtt.send(publish(DEVICE + "get", b'{"event_id": "x", "timestamp": 0}'))
        body = self.until(0x30)
        got = json.loads(body[2 + int.from_bytes(body[:2], "big"):])
        return {name: {word: t[side]["value"] for side, word in (("expected", "desired"), ("actual", "reported"))
                       if side in t} for name, t in got.get("twin", {}).items()}

    def at_cloud(self):
        out = {}
        for line in self.cloud.command("devices").splitlines():
            f = line.split()
            if line.startswith("    "):
                out[f[0]] = {k: f[f.index(k) + 1] for k in ("desired", "reported") if f[f.index(k) + 1] != "-"}
        return out

    def say(self, **twins):
        """An application sets (expected_NAME) and reports (actual_NAME); returns when the node's twin has it."""
        twin = {}
        for key, text in twins.items():
            side, name = key.split("_")
            twin.setdefault(name, {"metadata": {"type": "string"}})[side] = {"value": text}
        self.mqtt.send(publish(DEVICE + "update", json.dumps({"event_id": "", "timestamp": 0, "twin": twin}).encode()))
        for key, text in twins.items():
            side, name = key.split("_")
            word = {"expected": "desired", "actual": "reported"}[side]
            wait_for(f"{key} at the node", lambda n=name, w=word, t=text: self.at_node().get(n, {}).get(w) == t)

    def wanted(self, twin, text):
        wait_for(f"{twin} {text} at the cloud", lambda: self.at_cloud().get(twin, {}).get("desired") == text)

    def both(self, twin, word, text):
        for where in (self.at_cloud, self.at_node):
            wait_for(f"{twin} {word} {text}: {where.__name__}", lambda w=where: w().get(twin, {}).get(word) == text)

    def close(self):
        self.node.kill()
        self.cable.close()


@pytest.fixture(params=["v1beta1", "v1alpha2", "v1alpha2-1.4"])
def site(request, tmp_path, cloud):
    s = Site(tmp_path, cloud)
    s.model, s.device = (MODEL, BETA) if request.param == "v1beta1" else (ALPHA_MODEL, ALPHA)
    s.more = ["--dialect", "1.4"] if request.param.endswith("1.4") else []
    cloud.apply("m.yaml", s.model)
    cloud.apply("d.yaml", s.device.format(level="c0"))
    s.start()
    yield s
    s.close()


def test_made_anew_while_the_cable_is_out(site):
    site.both("level", "desired", "c0")
    site.say(actual_level="old1")
    site.both("level", "reported", "old1")
    site.cable.pull()
    site.say(actual_level="old2", actual_other="old3", expected_other="old4")
    site.cloud.remove("d.yaml")
    wait_for("the device to go", lambda: not site.at_cloud())
    site.cloud.apply("d.yaml", site.device.format(level="c1"))
    site.wanted("level", "c1")
    site.node.kill()  # what waits is on disk
    site.start()
    assert site.at_node()["other"] == {"desired": "old4", "reported": "old3"}
    site.cable.plug()
    site.both("level", "desired", "c1")
    site.say(actual_other="new1")  # behind all that waited
    site.both("other", "reported", "new1")
    for where in (site.at_cloud, site.at_node):
        assert "old" not in json.dumps(where())
    site.cloud.kill()
    site.cloud.start()
    site.say(actual_other="new2")
    site.both("other", "reported", "new2")
    for where in (site.at_cloud, site.at_node):
        assert "old" not in json.dumps(where())


def test_set_at_both_ends(site):
    rng = random.Random(SEED)
    site.both("level", "desired", "c0")
    for i in range(ROUNDS):
        kill, last = rng.choice(["", "node", "cloud"]), rng.choice(["cloud", "edge"])
        stands = f"c{i + 1}" if last == "cloud" else f"e{i}"
        site.cable.pull()
        if last == "cloud":
            site.say(expected_level=f"e{i}")
        site.cloud.apply("d.yaml", site.device.format(level=f"c{i + 1}"))
        site.wanted("level", f"c{i + 1}")
        if last == "edge":
            site.say(expected_level=f"e{i}")
        if kill == "node":
            site.node.kill()
            site.start()
        elif kill == "cloud":
            site.cloud.kill()
            site.cloud.start()
        site.cable.plug()
        site.both("level", "desired", stands)
        # the manifest says the same once more: nobody changed his mind
        site.cloud.apply("d.yaml", site.device.format(level=f"c{i + 1}") + f"# {i}\n")
        site.say(actual_other=f"r{i}")
        site.both("other", "reported", f"r{i}")
        site.both("level", "desired", stands)
    print(f"count: {ROUNDS} rounds, seed {SEED}")
