# SPDX-License-Identifier: Apache-2.0
"""Drivers that hang, die and lie, and users' mistakes: each is said where it belongs, and its neighbours go on.

"Goes on" is counted: so many further values of the healthy devices arrive while the other one is still broken.
"""
import itertools
import json
import pathlib
import signal
import subprocess
import threading

import pytest

from device_lab import PREFIX, App, Mapper, Modbus, cloud_devices, device, model
from harness import BIN, Program, free_port, wait_for
from mqtt_harness import publish

needs_dmi = pytest.mark.skipif(not (BIN / "ke-mapper").exists(), reason="built without DMI")
FURTHER = 10


class Liar(Program):
    def __init__(self, base):
        base = pathlib.Path(base)
        super().__init__("lying_mapper.py", base, base / "liar.log")
        self.own = base / "liar.sock"

    def start(self, edge):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["/usr/bin/python3", str(pathlib.Path(__file__).parent / "lying_mapper.py"),
                                             str(edge), str(self.own)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self


class Lab:
    """One device of a driver in the node (level, at a Modbus server), one of a mapper (speed)."""

    def __init__(self, tmp_path, cloud, node):
        self.cloud, self.node, self.port = cloud, node, free_port()
        self.modbus, self.mapper = Modbus(), Mapper(tmp_path)
        self.liar = Liar(tmp_path)
        self.n = itertools.count(1)
        dmi = ["--dmi", str(self.mapper.edge)] if (BIN / "ke-mapper").exists() else []
        node.start("--mqtt", f"127.0.0.1:{self.port}", "--drivers", "modbus", *dmi, runtime="none")
        self.app = App(self.port)
        cloud.apply("models.yaml", "---\n".join([model("well", "modbus", ("level", "INT"), ("setpoint", "INT")),
                                                 model("sim", "simulated", ("speed", "INT")),
                                                 model("liar", "liar", ("x", "INT"))]))
        self.want("0")
        cloud.apply("sim.yaml", self.sim("1"))

    def modbus_device(self, name, properties, slave=1, model_name="well"):
        return device(name, model_name, "modbus", properties,
                      config=f"{{ip: 127.0.0.1, port: {self.modbus.port}, slaveID: {slave}}}")

    def sim(self, desired):
        return device("sim", "sim", "simulated", {"speed": (desired, "{function: constant, value: 7}")})

    def want(self, value):
        self.cloud.apply("well.yaml", self.modbus_device("well", {
            "level": (None, "{register: HoldingRegister, offset: 7, limit: 1}"),
            "setpoint": (value, "{register: HoldingRegister, offset: 2, limit: 1}")}))

    def goes_on(self, times=FURTHER):
        """Values of the healthy device go up, and the cloud's go down, one by one."""
        for _ in range(times):
            value = str(2000 + next(self.n))
            self.modbus.write(7, int(value))
            wait_for(f"level {value} in the twin", lambda v=value: self.app.twin("default/well").get("level") == v)
        wait_for("the level in the cloud", lambda: self.reported("well", "level") == value)
        self.want(value)
        wait_for("the set point in the register", lambda: str(self.modbus.register(2)) == value)

    def reported(self, name, prop):
        return cloud_devices(self.cloud).get(f"default/{name}", {}).get(prop, (None, None))[1]

    def end(self):
        self.mapper.kill()
        self.liar.kill()
        self.modbus.end()


@pytest.fixture
def lab(tmp_path, cloud, node):
    made = Lab(tmp_path, cloud, node)
    yield made
    made.end()


@needs_dmi
def test_a_mapper_that_stops(lab):
    lab.mapper.start()
    wait_for("the value of the mapper", lambda: lab.reported("sim", "speed") == "1")
    lab.mapper.process.send_signal(signal.SIGSTOP)
    for i in range(3):
        lab.cloud.apply("sim.yaml", lab.sim(str(100 + i)))
        lab.goes_on()
    assert lab.app.twin("default/sim")["speed"] == "1"
    assert lab.node.status()["state"] == "ready"
    lab.mapper.process.send_signal(signal.SIGCONT)
    wait_for("what was set meanwhile", lambda: lab.reported("sim", "speed") == "102")
    # stopped for good, and killed there
    lab.mapper.process.send_signal(signal.SIGSTOP)
    lab.cloud.apply("sim.yaml", lab.sim("200"))
    lab.goes_on()
    lab.mapper.kill()
    lab.goes_on()
    lab.mapper.start()
    wait_for("what was set meanwhile", lambda: lab.reported("sim", "speed") == "200")


@needs_dmi
def test_a_mapper_that_is_killed_again_and_again(lab):
    stop = threading.Event()

    def kill():
        while not stop.is_set():
            lab.mapper.start()
            stop.wait(0.2)  # a random point, not a synchronisation
            lab.mapper.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        lab.goes_on(3 * FURTHER)
    finally:
        stop.set()
        killer.join()
    lab.cloud.apply("sim.yaml", lab.sim("300"))
    lab.mapper.start()
    wait_for("the value of the mapper", lambda: lab.reported("sim", "speed") == "300")


@needs_dmi
def test_a_mapper_that_lies(lab):
    lab.cloud.apply("liar.yaml", device("liar", "liar", "liar", {"x": ("1", "{}")}))
    lab.mapper.start()
    wait_for("the value of the mapper", lambda: lab.reported("sim", "speed") == "1")
    lab.liar.start(lab.mapper.edge)
    lab.liar.wait_log("registered")
    lab.liar.wait_log("round 2")
    for i in range(3):
        rounds = lab.liar.text().count("round")
        lab.cloud.apply("sim.yaml", lab.sim(str(400 + i)))
        lab.cloud.apply("liar.yaml", device("liar", "liar", "liar", {"x": (str(i), "{}")}))
        lab.goes_on()
        wait_for("the other mapper", lambda v=str(400 + i): lab.reported("sim", "speed") == v)
        wait_for("more lies", lambda r=rounds: lab.liar.text().count("round") > r)
    assert "asked /v1beta1.DeviceMapperService/" in lab.liar.text()
    assert lab.app.members() == {"default/well", "default/sim", "default/liar"}
    assert set(lab.app.twin("default/liar")) <= {"x"}  # DMI knows no types, as upstream: what value that is, is the mapper's word
    lab.liar.kill()
    lab.goes_on()
    assert lab.node.process.poll() is None and lab.cloud.process.poll() is None


def test_bad_manifests(lab):
    """A mistake in one property or device is told, and the rest works."""
    holding = "{register: HoldingRegister, offset: %d, limit: 1}"
    models = """apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: odd, namespace: default}
spec:
  protocol: modbus
  properties:
  - {name: a, type: INT, accessMode: ReadOnly}
  - {name: b, type: INT, accessMode: ReadWrite, minimum: "1", maximum: "10"}
  - {name: c, type: BOOLEAN, accessMode: ReadWrite}
"""
    lab.cloud.apply("odd.yaml", models)
    for name, properties, more in (
            ("no-model", {"a": (None, holding % 30)}, {"model_name": "nowhere"}),
            ("no-visitor", {"a": (None, "{}")}, {}),
            ("one-visitor", {"a": (None, "{}"), "b": ("6", holding % 39)}, {}),
            ("wrong-type", {"b": ("warm", holding % 31), "c": ("maybe", "{register: CoilRegister, offset: 3, limit: 1}"),
                            "a": (None, holding % 32)}, {}),
            ("read-only", {"a": ("5", holding % 33)}, {}),
            ("range", {"b": ("500", holding % 34)}, {}),
            ("gap", {"a": (None, holding % 250), "b": ("3", holding % 35)}, {}),
            ("no-property", {"z": ("5", holding % 36), "b": ("4", holding % 37)}, {}),
            ("no-slave", {"a": (None, holding % 38)}, {"slave": 999})):
        lab.cloud.apply(f"{name}.yaml", lab.modbus_device(name, properties, **{"model_name": "odd", **more}))
    node = {  # no-model: the cloud keeps it back until the model is there
        "no-visitor": 'property a: "register" is missing',
        "one-visitor": '"register" is missing',
        "wrong-type": 'maybe could not be written: "maybe" is no boolean',
        "read-only": "5 could not be written: the device model says ReadOnly",
        "range": "500 could not be written: the value is above the maximum 10",
        "gap": "holding register 250: illegal data address",
        "no-property": "the device model has no such property",
        "no-slave": '"slaveID" is 999, possible is 0 to 255'}
    cloud = {
        "no-model": "its model nowhere is missing",
        "wrong-type": 'b: the desired value "warm" is no int',
        "read-only": 'a: it is read-only, the desired value "5" has no effect',
        "range": "b: the desired value 500 is above the maximum 10",
        "no-property": "z: its model has no such property"}

    def says(name):
        """What the node's table has of that device."""
        rest = itertools.dropwhile(lambda line: line.split(" ")[0] != f"default/{name}",
                                   lab.node.command("devices").splitlines())
        return "\n".join([next(rest, ""), *itertools.takewhile(lambda line: line[:1] == " ", rest)])

    for name, words in node.items():
        wait_for(f"{words!r} at the node", lambda n=name, w=words: w in says(n))
    for name, words in cloud.items():
        wait_for(f"{words!r} in the cloud", lambda n=name, w=words: any(
            n in line.split() and w in line for line in lab.cloud.command("devices").splitlines()))
    # what is right works beside what is wrong
    for name, prop, value in (("one-visitor", "b", "6"), ("wrong-type", "a", "132"), ("wrong-type", "c", "true"),
                              ("read-only", "a", "133"), ("gap", "b", "3"), ("no-property", "b", "4"),
                              ("wrong-type", "b", "131"), ("range", "b", "134")):
        wait_for(f"{prop} of {name}", lambda n=name, p=prop, v=value: lab.reported(n, p) == v)
    lab.goes_on()


def test_a_model_that_changes_its_type(lab):
    """The twin takes the type of the model, back and forth; an application may not change it."""
    for kind, wanted, visitor in (("INT", "3", "{register: HoldingRegister, offset: 40, limit: 1}"),
                                  ("FLOAT", "4.5", "{register: HoldingRegister, offset: 40, limit: 1, scale: 0.5}"),
                                  ("BOOLEAN", "true", "{register: CoilRegister, offset: 4, limit: 1}"),
                                  ("INT", "7", "{register: HoldingRegister, offset: 40, limit: 1}")):
        lab.cloud.apply("change.yaml", model("change", "modbus", ("v", kind)) + "---\n" + lab.modbus_device(
            "change", {"v": (wanted, visitor)}, model_name="change"))
        wait_for(f"{kind} {wanted}", lambda w=wanted: lab.reported("change", "v") == w)
        assert lab.app.twin("default/change") == {"v": wanted}
    assert lab.app.report("default/change", {"v": "warm"})["reason"] == "the value is not int or integer"


def test_applications_that_misbehave(lab):
    """Each gets its answer on its topic; nothing of it reaches a twin."""
    wait_for("the device", lambda: set(lab.app.twin("default/well")) == {"level", "setpoint"})
    before = lab.app.twin("default/well")
    big = {"twin": {"level": {"actual": {"value": "x" * 1000000}}}}
    for device_id, payload, code, reason in (
            ("default/well", big, 400, "the limit max_message is 262144"),
            ("default/well", {"twin": {"level": {"actual": {"value": 5}}}}, 400, "Unmarshal"),
            ("default/well", {"twin": {"level": {"actual": {"value": "warm"}}}}, 400, "the value is not int"),
            ("default/well", {"twin": {"line\nfeed": {"actual": {"value": "1"}}}}, 400, "The key of twin"),
            ("default/well", {"twin": {f"p{i}": {"actual": {"value": "1"}} for i in range(2000)}}, 400, "max_twins"),
            ("default/nobody", {"twin": {"a": {"actual": {"value": "1"}}}}, 404, "the device is not existed")):
        answer = publish_raw(lab.app, device_id, payload)
        assert (answer["code"], reason in answer["reason"]) == (code, True), answer
    assert {k: v for k, v in lab.app.twin("default/well").items() if k != "level"} == {
        k: v for k, v in before.items() if k != "level"}
    # what is no name of a row, and no colour of the terminal
    lab.app.report("default/well", {"text": "\x1b[31mred\ndefault  evil  "})
    wait_for("it in the cloud", lambda: "?[31mred?default" in lab.cloud.command("devices"))
    assert "\x1b" not in lab.cloud.command("devices")
    lab.goes_on()


def publish_raw(app, device_id, payload):
    """The answer on the device's own topic, whatever its event_id."""
    app.raw.send(publish(f"{PREFIX}{device_id}/twin/update", json.dumps({"event_id": "raw", **payload}).encode()))
    while True:
        topic, text = app.take()
        if topic == f"{PREFIX}{device_id}/twin/update/result" and "code" in (answer := json.loads(text)):
            return answer
