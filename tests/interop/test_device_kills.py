# SPDX-License-Identifier: Apache-2.0
"""kill -9 of node, cloud or mapper at random points while devices report and are told (KE_DEVICE_KILLS times, 40 by default).

What an application was told is kept (a result on its topic) is kept; what the cloud wants reaches the register and the
driver; devices that were deleted never come back with old values; in the end cloud and edge say the same.
"""
import os
import random
import threading
import time

import pytest

from device_lab import App, Mapper, Modbus, cloud_devices, device, model
from harness import BIN, free_port, wait_for

KILLS = int(os.environ.get("KE_DEVICE_KILLS", "40"))
SEED = int(os.environ.get("KE_SEED", "1"))
DMI = (BIN / "ke-mapper").exists()
TWINS = [f"t{i}" for i in range(4)]
OLD_MODEL = """apiVersion: devices.kubeedge.io/v1alpha2
kind: DeviceModel
metadata: {name: old-model, namespace: default}
spec:
  properties:
  - name: setpoint
    type: {int: {accessMode: ReadWrite, minimum: 0, maximum: 60000}}
"""
OLD_DEVICE = """apiVersion: devices.kubeedge.io/v1alpha2
kind: Device
metadata: {{name: old, namespace: default}}
spec:
  deviceModelRef: {{name: old-model}}
  nodeSelector:
    nodeSelectorTerms:
    - matchExpressions: [{{key: '', operator: In, values: [edge-1]}}]
  protocol:
    modbus: {{slaveID: 2}}
    common: {{tcp: {{ip: 127.0.0.1, port: {port}}}}}
  propertyVisitors:
  - propertyName: setpoint
    modbus: {{register: HoldingRegister, offset: 5, limit: 1, scale: 1}}
    collectCycle: 100000000
    reportCycle: 100000000
status:
  twins:
  - propertyName: setpoint
    desired: {{value: "{wanted}", metadata: {{type: int}}}}
"""
RULES = ("  annotations:\n    libkubeedge.io/process: '[{\"name\":\"mean\",\"property\":\"level\",\"to\":\"twin\",\"window\":"
         "{\"ms\":700,\"aggregate\":\"mean\"}}]'\n")


class World:
    def __init__(self, tmp_path, cloud, node, dialect):
        self.dialect, self.dmi = dialect, DMI and dialect != "1.4"
        self.driven = ["new", "old", *(["sim"] if self.dmi else [])]
        self.rng = random.Random(SEED)
        self.cloud, self.node, self.port = cloud, node, free_port()
        self.modbus, self.mapper, self.app = Modbus(), Mapper(tmp_path), None
        self.wanted = {}  # (device, property) -> value
        self.lives = {}   # MQTT device -> its life
        self.known = {}   # (device, twin) -> values of which one is in the twin
        self.kept = 0     # results that were checked
        self.n = self.m = 0
        self.told = {}    # victim -> times

    # ---- programs ----

    def start_node(self):
        dmi = ["--dmi", str(self.mapper.edge)] if self.dmi else []
        self.node.start("--mqtt", f"127.0.0.1:{self.port}", "--drivers", "modbus", "--dialect", self.dialect, *dmi,
                        runtime="none")

    def start(self, victim):
        if victim is self.node:
            self.start_node()
            self.app.close()
            self.app = App(self.port)
        else:
            victim.start()

    def end(self):
        self.mapper.kill()
        self.modbus.end()
        if self.app:
            self.app.close()

    def id(self, name):
        return name if self.dialect == "1.4" else f"default/{name}"

    # ---- what the cloud says ----

    def value(self):
        self.n += 1
        return str(self.n)

    def number(self):
        """Of a register that never had it."""
        self.m += 1
        return str(1000 + self.m)

    def want(self, name):
        if name == "old":
            self.wanted[name, "setpoint"] = self.number()
            text = OLD_DEVICE.format(port=self.modbus.port, wanted=self.wanted[name, "setpoint"])
        elif name == "sim":
            self.wanted[name, "speed"] = self.number()
            text = device(name, "sim-model", "simulated",
                          {"speed": (self.wanted[name, "speed"], "{function: constant, value: 7}")})
        else:
            self.wanted[name, "setpoint"] = self.number()
            text = device(name, "new-model", "modbus", {
                "setpoint": (self.wanted[name, "setpoint"], "{register: HoldingRegister, offset: 2, limit: 1}"),
                "level": (None, "{register: InputRegister, offset: 7, limit: 1}")},
                config=f"{{ip: 127.0.0.1, port: {self.modbus.port}, slaveID: 1}}", annotations=RULES)
        self.cloud.apply(f"{name}.yaml", text)

    def live(self, name):
        self.lives[name] = self.value()
        for key in [k for k in self.known if k[0] == name]:
            del self.known[key]
        self.cloud.apply(f"{name}.yaml", device(name, "app-model", "app", {t: (None, "{}") for t in TWINS}))

    def die(self, name):
        del self.lives[name]
        self.cloud.remove(f"{name}.yaml")
        for key in [k for k in self.known if k[0] == name]:
            del self.known[key]

    # ---- what devices say ----

    def report(self):
        """One report of a device; False when the node went away meanwhile."""
        name = self.rng.choice([n for n in self.lives if n != "brief"])
        new = {t: f"{name}-{self.lives[name]}-{self.value()}" for t in self.rng.sample(TWINS, self.rng.randrange(1, 4))}
        for t, v in new.items():
            self.known.setdefault((name, t), {None}).add(v)
        answer = self.app.report(self.id(name), new)
        if answer is None:
            return False
        assert "code" not in answer, answer
        for t, v in new.items():
            self.known[name, t] = {v}
        self.kept += len(new)
        return True

    def report_brief(self):
        """A device that comes and goes: only that no value of a former life is there is known of it."""
        if "brief" in self.lives:
            return self.app.report(self.id("brief"), {"t0": f"brief-{self.lives['brief']}-{self.value()}"}) is not None
        return True

    def verify(self):
        """Every value that was confirmed is in the twin."""
        for name in {n for n, _ in self.known}:
            twin = self.app.twin(self.id(name))
            assert twin is not None, self.node.text()[-2000:]
            for (n, t), values in self.known.items():
                if n == name:
                    assert twin.get(t) in values, (f"seed {SEED}, value {self.n}: {n}.{t} is {twin.get(t)}, "
                                                   f"one of {values} was kept")
                    self.known[n, t] = {twin.get(t)}

    # ---- what must be so in the end ----

    def agree(self):
        shown = cloud_devices(self.cloud)
        names = {*self.driven, *self.lives}
        if {k.split("/")[1] for k in shown} != names or self.app.members() != {self.id(n) for n in names}:
            return False
        for (name, p), value in self.wanted.items():
            if shown[f"default/{name}"].get(p) != (value, value):
                return False
        for name in names:
            twin = self.app.twin(self.id(name))
            told = {p: v[1] for p, v in shown[f"default/{name}"].items() if v[1] is not None}
            if {k: v for k, v in twin.items() if v is not None} != told:
                return False
            for v in twin.values():
                if name == "brief":
                    assert v.startswith(f"brief-{self.lives['brief']}-") or v == "", f"{v} is of a former life"
        return str(self.modbus.register(2, 1)) == self.wanted["new", "setpoint"] \
            and str(self.modbus.register(5, 2)) == self.wanted["old", "setpoint"] \
            and (self.dialect == "1.4" or float(self.app.twin(self.id("new")).get("mean", "nan")) == 107)

    def check(self):
        wait_for("Ready", lambda: self.cloud.node_ready("edge-1"))
        self.verify()
        try:
            wait_for("cloud, edge and devices to say the same", self.agree)
        except AssertionError:
            print("wanted", self.wanted, "lives", self.lives, "members", self.app.members())
            print("registers", self.modbus.register(2, 1), self.modbus.register(5, 2))
            print(self.cloud.command("devices"), self.node.command("devices"))
            print({n: self.app.twin(self.id(n)) for n in (*self.driven, *self.lives)})
            print(self.node.text()[-3000:], self.cloud.text()[-3000:], self.mapper.text()[-1000:])
            raise


@pytest.fixture(params=["auto", "1.4"])
def world(request, tmp_path, cloud, node):
    w = World(tmp_path, cloud, node, request.param)
    yield w
    w.end()


def round_of(w):
    """Changes on both ends until somebody is killed."""
    rng = w.rng
    for name in rng.sample(w.driven, rng.randrange(3)):
        w.want(name)
    if "brief" in w.lives and rng.random() < 0.5:
        w.die("brief")
        if rng.random() < 0.5:
            wait_for("the end of the device in the cloud", lambda: "default/brief" not in cloud_devices(w.cloud))
            w.live("brief")
    elif "brief" not in w.lives:
        w.live("brief")
    victim = rng.choice([w.node, w.node, w.node, w.cloud, w.cloud] + ([w.mapper] if w.dmi else []))
    w.told[victim.name] = w.told.get(victim.name, 0) + 1
    delay = rng.random() * 0.4  # a random point, not a synchronisation
    killer = threading.Thread(target=lambda: (time.sleep(delay), victim.kill()))
    killer.start()
    try:
        while killer.is_alive() and w.report() and w.report_brief():
            pass
    finally:
        killer.join()
    return victim


def test_kills(world):
    w = world
    w.start_node()
    w.app = App(w.port)
    w.cloud.apply("models.yaml", "---\n".join([
        model("new-model", "modbus", ("setpoint", "INT"), ("level", "INT")), OLD_MODEL,
        model("sim-model", "simulated", ("speed", "INT")), model("app-model", "app", *[(t, "STRING") for t in TWINS])]))
    for name in w.driven:
        w.want(name)
    for name in ("app-1", "app-2", "brief"):
        w.live(name)
    if w.dmi:
        w.mapper.start()
    if w.dialect == "1.4":  # it has asked for its profile before there was one, and would not ask again for some seconds
        wait_for("the devices", lambda: len(w.app.members() or ()) == len(w.driven) + len(w.lives))
        w.node.kill()
        w.start(w.node)
    w.check()
    print(f"seed {SEED}")
    for _ in range(KILLS if w.dialect == "auto" else KILLS // 4):
        victim = round_of(w)
        if w.rng.random() < 0.2:  # two at once
            other = w.cloud if victim is w.node else w.node
            other.kill()
            w.start(other)
        w.start(victim)
        w.verify()
        if w.rng.random() < 0.2:
            w.check()
    w.check()
    print(f"count: {sum(w.told.values())} kills, seed {SEED}, {w.told}, {w.kept} confirmed values, {w.n} in all")
