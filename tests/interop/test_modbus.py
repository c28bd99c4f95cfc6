# SPDX-License-Identifier: Apache-2.0
"""Modbus devices from a manifest in the cloud to the register and back, against pymodbus over TCP and over a serial line; and all
that goes wrong with them: each is said where its user looks, and no other device stands still for it."""
import shutil

import pytest

pytest.importorskip("pymodbus")

from device_harness import Peer, Wire, device, devices, in_cloud, model, old_device, old_model, online, says  # noqa: E402
from harness import wait_for  # noqa: E402

needs_socat = pytest.mark.skipif(not shutil.which("socat"), reason="socat is not installed")
THERMO = {"setpoint": ("INT", "ReadWrite", 'minimum: "0", maximum: "500"'), "temperature": ("INT", "ReadOnly", "")}
OLD = {"setpoint": ("int", "ReadWrite")}


def holding(offset, more=""):
    return f"{{register: HoldingRegister, offset: {offset}, limit: 1{more}}}"


def thermo(name, config, slave=1, wanted=None, offset=2):
    """A setpoint, and a temperature one register behind it."""
    desired = f'desired: {{value: "{wanted}"}}' if wanted is not None else ""
    return device(name, "thermo-model", "{" + config + f", slaveID: {slave}}}",
                  [("setpoint", holding(offset), desired), ("temperature", holding(offset + 1), "")])


@pytest.fixture
def tcp():
    p = Peer("tcp", 0).start()
    yield p
    p.kill()


@pytest.fixture
def wire(tmp_path):
    w = Wire(tmp_path).plug()
    yield w
    w.pull()


def at(peer):
    return f"ip: 127.0.0.1, port: {peer.where}, timeout: 1000"


def serial(wire):
    return f"serialPort: {wire.ours}, baudRate: 115200, dataBits: 8, parity: none, stopBits: 1, timeout: 500"


def both_versions(cloud, node, peer, config, common):
    cloud.apply("models.yaml", model("thermo-model", THERMO) + "---\n" + old_model("old-model", OLD))
    cloud.apply("new.yaml", thermo("new", config, wanted=41))
    cloud.apply("old.yaml", old_device("old", "old-model", "{slaveID: 2}", common, 5, 17))
    node.start(runtime="none")
    wait_for("the desired value in the register", lambda: peer.get(1, 2) == 41)
    wait_for("that of the older version", lambda: peer.get(2, 5) == 17)
    wait_for("the reported value in the cloud", lambda: in_cloud(cloud, "new", "setpoint", "41"))
    wait_for("that of the older version", lambda: in_cloud(cloud, "old", "setpoint", "17"))
    peer.set(1, 3, 212)
    wait_for("what the device measures", lambda: in_cloud(cloud, "new", "temperature", "212"))
    cloud.apply("new.yaml", thermo("new", config, wanted=42))
    cloud.apply("old.yaml", old_device("old", "old-model", "{slaveID: 2}", common, 5, 18))
    wait_for("another desired value", lambda: peer.get(1, 2) == 42 and peer.get(2, 5) == 18)
    wait_for("and reported", lambda: in_cloud(cloud, "new", "setpoint", "42") and in_cloud(cloud, "old", "setpoint", "18"))
    seen = devices(node)
    assert (seen["new"].state, seen["old"].state) == ("online", "online")
    assert seen["new"].properties["setpoint"] == ("42", "42", "")


def test_both_versions_over_tcp(cloud, node, tcp):
    both_versions(cloud, node, tcp, at(tcp), f"{{tcp: {{ip: 127.0.0.1, port: {tcp.where}}}}}")


@needs_socat
def test_both_versions_over_a_serial_line(cloud, node, wire):
    peer = Peer("rtu", wire.far).start()
    try:
        both_versions(cloud, node, peer, serial(wire),
                      f'{{com: {{serialPort: "{wire.ours}", baudRate: 115200, dataBits: 8, parity: none, stopBits: 1}}}}')
    finally:
        peer.kill()


class Other:
    """A device that goes on while others do not: its measurement follows what is put into its register."""

    def __init__(self, cloud, peer):
        self.cloud, self.peer, self.value = cloud, peer, 100

    def goes_on(self):
        self.value += 1
        self.peer.set(3, 3, self.value)
        wait_for("the other device's value", lambda: in_cloud(self.cloud, "other", "temperature", str(self.value)))


@pytest.fixture
def other(cloud, tcp):
    cloud.apply("models.yaml", model("thermo-model", THERMO))
    cloud.apply("other.yaml", thermo("other", at(tcp), slave=3))
    return Other(cloud, tcp)


def test_server_killed_and_back(cloud, node, other):
    peer = Peer("tcp", 0).start()
    try:
        cloud.apply("a.yaml", thermo("a", at(peer), wanted=50))
        node.start(runtime="none")
        wait_for("the desired value", lambda: peer.get(1, 2) == 50)
        wait_for("online", lambda: online(node, "a"))
        peer.kill()
        wait_for("offline", lambda: not online(node, "a"))
        wait_for("why", lambda: says(node, "a", f"127.0.0.1:{peer.where}"))
        cloud.apply("a.yaml", thermo("a", at(peer), wanted=51))
        other.goes_on()
        peer.start()
        wait_for("what was set meanwhile", lambda: peer.get(1, 2) == 51)
        wait_for("online again", lambda: online(node, "a") and in_cloud(cloud, "a", "setpoint", "51"))
    finally:
        peer.kill()


@needs_socat
def test_serial_line_unplugged_and_back(cloud, node, other, wire):
    peer = Peer("rtu", wire.far).start()
    try:
        cloud.apply("a.yaml", thermo("a", serial(wire), wanted=50))
        node.start(runtime="none")
        wait_for("the desired value", lambda: peer.get(1, 2) == 50)
        wait_for("online", lambda: online(node, "a"))
        peer.kill()
        wire.pull()
        wait_for("offline", lambda: not online(node, "a"))
        wait_for("why", lambda: says(node, "a", str(wire.ours)))
        cloud.apply("a.yaml", thermo("a", serial(wire), wanted=51))
        other.goes_on()
        wire.plug()
        peer.start()
        wait_for("what was set meanwhile", lambda: peer.get(1, 2) == 51)
        wait_for("online again", lambda: online(node, "a") and in_cloud(cloud, "a", "setpoint", "51"))
    finally:
        peer.kill()


def test_each_mistake_is_said(cloud, node, tcp, other):
    config = "{" + at(tcp) + ", slaveID: 1}"
    cloud.apply("gap.yaml", device("gap", "thermo-model", "{" + at(tcp) + ", slaveID: 1, gap: 40}",
                                   [("setpoint", holding(9), ""), ("temperature", holding(20), "")]))
    cloud.apply("hole.yaml", device("hole", "thermo-model", config,
                                    [("setpoint", holding(15), ""), ("temperature", holding(1), "")]))
    cloud.apply("wide.yaml", device("wide", "thermo-model", config, [("setpoint", holding(65600), "")]))
    cloud.apply("nobody.yaml", thermo("nobody", at(tcp), slave=99))
    cloud.apply("blind.yaml", device("blind", "thermo-model", config, [("setpoint", None, "")]))
    cloud.apply("stranger.yaml", device("stranger", "thermo-model", config, [("setpoint", holding(1), ""), ("mood", holding(2), "")]))
    cloud.apply("typed.yaml", device("typed", "thermo-model", config, [("setpoint", holding(4), 'desired: {value: "hot"}'),
                                                                       ("temperature", holding(5), "")]))
    cloud.apply("high.yaml", device("high", "thermo-model", config, [("setpoint", holding(6), 'desired: {value: "501"}')]))
    cloud.apply("orphan.yaml", device("orphan", "no-such-model", config, [("setpoint", holding(7), "")]))
    cloud.apply("bus.yaml", device("bus", "thermo-model", "{slaveID: 1}", [("setpoint", holding(8), "")]))
    node.start(runtime="none")
    for name, text in (("hole", "illegal data address (exception 2)"), ("wide", "\"offset\""), ("nobody", "slave 99"), ("blind", "register"),
                       ("stranger", "the device model has no such property"), ("typed", "hot could not be written"),
                       ("high", "above the maximum 500"), ("bus", "ip")):
        wait_for(f"{text!r} of device {name}", lambda n=name, t=text: says(node, n, t))
    # the cloud keeps a device back whose model it does not have
    wait_for("the unknown model", lambda: any("orphan" in line and "no-such-model" in line for line in cloud.command("devices").splitlines()))
    # what is well of a device with a mistake goes on, and so does the rest
    wait_for("the other register of hole", lambda: in_cloud(cloud, "hole", "temperature", "101"))
    wait_for("what the device has instead", lambda: in_cloud(cloud, "typed", "setpoint", "104"))
    wait_for("the other property of typed", lambda: in_cloud(cloud, "typed", "temperature", "105"))
    wait_for("both sides of the gap", lambda: in_cloud(cloud, "gap", "setpoint", "109") and in_cloud(cloud, "gap", "temperature", "120"))
    assert tcp.get(1, 4) == 104 and tcp.get(1, 6) == 106
    other.goes_on()
    # and each is well once its mistake is
    cloud.apply("orphan-model.yaml", model("no-such-model", THERMO))
    cloud.apply("typed.yaml", device("typed", "thermo-model", config, [("setpoint", holding(4), 'desired: {value: "77"}'),
                                                                       ("temperature", holding(5), "")]))
    cloud.apply("wide.yaml", device("wide", "thermo-model", config, [("setpoint", holding(0), "")]))
    wait_for("the model that came later", lambda: in_cloud(cloud, "orphan", "setpoint", "107"))
    wait_for("the value of its type", lambda: tcp.get(1, 4) == 77 and devices(node)["typed"].properties["setpoint"] == ("77", "77", ""))
    wait_for("and in the cloud", lambda: in_cloud(cloud, "typed", "setpoint", "77"))
    wait_for("the register that is", lambda: in_cloud(cloud, "wide", "setpoint", "100"))


def test_deleted_while_polled(cloud, node, tcp, other):
    for i in range(5):
        cloud.apply(f"d{i}.yaml", thermo(f"d{i}", at(tcp), wanted=10 + i, offset=2 * i % 8))
    node.start(runtime="none")
    wait_for("all of them", lambda: all(online(node, f"d{i}") for i in range(5)))
    for i in range(5):
        cloud.remove(f"d{i}.yaml")
    wait_for("their end", lambda: set(devices(node)) == {"other"})
    other.goes_on()
    cloud.apply("d0.yaml", thermo("d0", at(tcp), wanted=99, offset=0))
    wait_for("one of them again", lambda: tcp.get(1, 0) == 99)
