# SPDX-License-Identifier: Apache-2.0
"""Devices as a user has them: manifests, a Modbus server in another process, an application at the node's MQTT server."""
import json
import pathlib
import socket
import struct
import subprocess

from harness import Program, wait_for
from mqtt_harness import Raw, publish, subscribe

SERVER = pathlib.Path(__file__).parent.parent / "device" / "modbus_server.py"
PREFIX = "$hw/events/device/"


class Modbus:
    """pymodbus; register i of slave s holds 100 * s + i at first."""

    def __init__(self):
        self.process = subprocess.Popen(["/usr/bin/python3", str(SERVER), "tcp"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def register(self, offset, slave=1):
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, slave, 3, offset, 1))
            got = b""
            while len(got) < 11:
                more = s.recv(64)
                assert more, "the Modbus server closed"
                got += more
        return struct.unpack(">H", got[9:11])[0]

    def write(self, offset, value, slave=1):
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, slave, 6, offset, value))
            assert s.recv(64)

    def end(self):
        self.process.kill()
        self.process.wait()


class App:
    """An application, or an MQTT-native device: says what it has and waits for the answer."""

    def __init__(self, port, more=()):
        def try_connect():
            try:
                return Raw(port).connected("app")
            except (OSError, AssertionError):
                return None

        self.raw = wait_for("the node's MQTT server", try_connect)
        self.n = 0
        self.seen = []  # (topic, payload) of what nobody asked for
        for topic in (PREFIX + "+/+/twin/+/result", PREFIX + "+/twin/+/result", PREFIX + "/twin/update/result",
                      "$hw/events/node/+/membership/get/result", *more):
            self.raw.send(subscribe(topic, 0))
            while self.raw.read()[0] != 0x90:
                pass  # what the topics before bring already

    def take(self, patience=60):
        """The next (topic, payload); None when the server is gone."""
        got = self.raw.read(patience)
        if got is None:
            return None
        n = struct.unpack(">H", got[1][:2])[0]
        return got[1][2:2 + n].decode(), got[1][2 + n:]

    def ask(self, topic, what=None):
        """Publishes, and returns the answer with the same event_id; None when the server went first."""
        self.n += 1
        event = f"e{id(self) % 1000}-{self.n}"
        try:
            self.raw.send(publish(topic, json.dumps({"event_id": event, "timestamp": 0, **(what or {})}).encode()))
            while True:
                got = self.take()
                if got is None:
                    return None
                answer = json.loads(got[1])
                if answer.get("event_id") == event:
                    return answer
                self.seen.append(got)
        except ConnectionError:
            return None

    def report(self, device, values, kind="string"):
        return self.ask(f"{PREFIX}{device}/twin/update",
                        {"twin": {k: {"actual": {"value": v}, "metadata": {"type": kind}} for k, v in values.items()}})

    def twin(self, device):
        """name -> reported value; None when the node went."""
        answer = self.ask(f"{PREFIX}{device}/twin/get")
        if answer is None or "twin" not in answer:
            return None if answer is None else {}
        return {k: v["actual"]["value"] for k, v in answer["twin"].items() if "actual" in v}

    def members(self, node="edge-1"):
        answer = self.ask(f"$hw/events/node/{node}/membership/get")
        return answer and {d["id"] for d in answer["devices"]}

    def close(self):
        self.raw.close()


class Mapper(Program):
    def __init__(self, base, protocol="simulated"):
        base = pathlib.Path(base)
        super().__init__("ke-mapper", base, base / "mapper.log")
        self.edge, self.own, self.protocol = base / "dmi.sock", base / "mapper.sock", protocol

    def start(self):
        self.spawn("--protocol", self.protocol, "--socket", str(self.own), "--edge-socket", str(self.edge), "--cycle-unit",
                   "ms")
        return self


def cloud_devices(cloud):
    """"NS/NAME" -> property -> (desired, reported), as ke-cloud devices shows them; "-" becomes None."""
    return parse(cloud.command("devices"), "seen")


def node_devices(node):
    return parse(node.command("devices"), None)


def parse(text, end):
    out, name = {}, None
    for line in text.splitlines()[1:]:
        if line[:1] not in (" ", ""):
            f = line.split()
            name = f"{f[0]}/{f[1]}" if end else f[0]
            out[name] = {}
        elif name and " desired " in line:
            head, rest = line.split(" desired ", 1)
            desired, reported = rest.split(" reported ", 1)
            value = reported.rsplit(f" {end} ", 1)[0] if end else reported.split()[0]
            out[name][head.split()[0].rstrip(",")] = tuple(None if v.strip() == "-" else v.strip() for v in (desired, value))
    return out


def model(name, protocol, *properties, namespace="default"):
    """properties: (name, type) of v1beta1"""
    lines = "".join(f"  - {{name: {p}, type: {kind}, accessMode: ReadWrite}}\n" for p, kind in properties)
    return (f"apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
            f"spec:\n  protocol: {protocol}\n  properties:\n{lines}")


def device(name, model_name, protocol, properties, config="{}", node="edge-1", namespace="default", annotations=""):
    """properties: name -> (desired or None, visitors' configData)"""
    text = (f"apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata:\n  name: {name}\n  namespace: {namespace}\n"
            f"{annotations}spec:\n  deviceModelRef: {{name: {model_name}}}\n  nodeName: {node}\n"
            f"  protocol: {{protocolName: {protocol}, configData: {config}}}\n  properties:\n")
    for p, (desired, visitors) in properties.items():
        text += f"  - name: {p}\n    collectCycle: 100\n    reportCycle: 100\n    reportToCloud: true\n"
        if desired is not None:
            text += f"    desired: {{value: \"{desired}\"}}\n"
        text += f"    visitors: {{protocolName: {protocol}, configData: {visitors}}}\n"
    return text
