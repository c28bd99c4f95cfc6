# SPDX-License-Identifier: Apache-2.0
"""Devices of a node as its user sees them: manifests, what ke-cloud and ke-node print, and Modbus devices to talk to."""
import pathlib
import re
import select
import subprocess
import sys

from harness import PATIENCE, wait_for

HERE = pathlib.Path(__file__).parent


class Peer:
    """modbus_peer.py: a Modbus device that can be asked what its registers hold."""

    def __init__(self, kind, where):
        self.kind, self.where = kind, str(where)
        self.process = None

    def start(self):
        self.process = subprocess.Popen([sys.executable, str(HERE / "modbus_peer.py"), self.kind, self.where], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        ready = self.process.stdout.readline().split() if readable else []
        assert ready[:1] == ["ready"], ready
        if self.kind == "tcp":
            self.where = ready[1]  # the same one when it comes back
        return self

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def get(self, slave, address):
        return self.ask("get", slave, address)

    def set(self, slave, address, value):
        return self.ask("set", slave, address, value)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


class Wire:
    """A serial line between two paths: a pair of pseudo-terminals that can be pulled out and put back."""

    def __init__(self, folder):
        self.ours, self.far = folder / "tty-node", folder / "tty-device"
        self.process = None

    def plug(self):
        self.process = subprocess.Popen(["socat", f"pty,rawer,link={self.ours}", f"pty,rawer,link={self.far}"],
                                        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        wait_for("the serial line", lambda: self.ours.exists() and self.far.exists())
        return self

    def pull(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
            for path in (self.ours, self.far):
                path.unlink(missing_ok=True)


def model(name, properties, protocol="modbus"):
    """properties: name -> (type, access, more)"""
    lines = "".join(f"  - {{name: {n}, type: {t}, accessMode: {a}{', ' + more if more else ''}}}\n" for n, (t, a, more) in properties.items())
    return f"""apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {{name: {name}, namespace: default}}
spec:
  protocol: {protocol}
  properties:
{lines}"""


def device(name, model_name, config, properties, protocol="modbus", notes=""):
    """properties: list of (name, visitor config or None, more), each read and reported every 200 ms"""
    lines = ""
    for n, visitor, more in properties:
        lines += f"  - name: {n}\n    collectCycle: 200\n    reportCycle: 200\n    reportToCloud: true\n"
        if visitor is not None:
            lines += f"    visitors: {{protocolName: {protocol}, configData: {visitor}}}\n"
        if more:
            lines += f"    {more}\n"
    return f"""apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: {name}, namespace: default{notes}}}
spec:
  deviceModelRef: {{name: {model_name}}}
  nodeName: edge-1
  protocol: {{protocolName: {protocol}, configData: {config}}}
  properties:
{lines}"""


def old_model(name, properties):
    """v1alpha2; properties: name -> (type, access)"""
    lines = "".join(f"  - {{name: {n}, type: {{{t}: {{accessMode: {a}}}}}}}\n" for n, (t, a) in properties.items())
    return f"""apiVersion: devices.kubeedge.io/v1alpha2
kind: DeviceModel
metadata: {{name: {name}, namespace: default}}
spec:
  properties:
{lines}"""


def old_device(name, model_name, modbus, common, offset, wanted):
    return f"""apiVersion: devices.kubeedge.io/v1alpha2
kind: Device
metadata: {{name: {name}, namespace: default}}
spec:
  deviceModelRef: {{name: {model_name}}}
  nodeSelector:
    nodeSelectorTerms:
    - matchExpressions: [{{key: '', operator: In, values: [edge-1]}}]
  protocol:
    modbus: {modbus}
    common: {common}
  propertyVisitors:
  - propertyName: setpoint
    modbus: {{register: HoldingRegister, offset: {offset}, limit: 1, scale: 1}}
    collectCycle: 200000000
    reportCycle: 200000000
status:
  twins:
  - propertyName: setpoint
    desired: {{value: "{wanted}", metadata: {{type: int}}}}
"""


def in_cloud(cloud, name, prop, value):
    """Whether the cloud shows this reported value of a device's property."""
    at = None
    for line in cloud.command("devices").splitlines():
        f = line.split()
        if f and not line.startswith(" "):
            at = f[1]
        elif f and at == name and f[0].rstrip(",") == prop and "reported" in f:
            return f[f.index("reported") + 1] == value
    return False


class Seen:
    """One device of `ke-node devices`."""

    def __init__(self, line):
        f = line.split(None, 4)
        self.protocol, self.state, self.error = f[1], f[2], f[4] if len(f) > 4 else "-"
        self.properties, self.pushed = {}, (0, 0)


LINE = re.compile(r"  (\S+?)(?:, .*)? +(\S+) +desired (\S+) +reported (\S+) +(\S+)(?:  (.*))?$")


def devices(node):
    """name -> Seen; a property is (desired, reported, error)."""
    out, last = {}, None
    for line in node.command("devices").splitlines()[1:]:
        if not line.startswith(" "):
            last = out[line.split()[0].split("/")[1]] = Seen(line)
            continue
        m = LINE.match(line)
        if m:
            last.properties[m[1]] = (m[3], m[4], m[6] or "")
        elif line.startswith("  pushed"):
            f = line.split()
            last.pushed = (int(f[1]), int(f[3]))
    return out


def online(node, name):
    d = devices(node).get(name)
    return d is not None and d.state == "online"


def says(node, name, text):
    """Whether the device's error, or one of its properties', has this text."""
    d = devices(node).get(name)
    return d is not None and (text in d.error or any(text in p[2] for p in d.properties.values()))
