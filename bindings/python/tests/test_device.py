# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import gc
import json
import os
import threading

import pytest

import kubeedge
from kubeedge import (
    AccessDenied,
    AlreadyExists,
    Canceled,
    Context,
    Devices,
    DeviceState,
    DeviceType,
    Driver,
    InvalidArgument,
    LimitExceeded,
    Node,
    NodeFlag,
    NotFound,
    NotSupported,
    ParseError,
    Reading,
    Router,
    StateError,
    Store,
    TimedOut,
    Twin,
    _core,
)
from support import PATIENCE, Collector, device, device_model, has


class Rooms(Driver):
    """Rooms with a thermometer. Each operation is kept, then answered as the test wants."""

    def __init__(self):
        self.calls = Collector(often=True)  # (name of the operation, of the device, what it was about)
        self.rooms = {}
        self.open_devices = {}

    def room(self, device):
        return self.rooms.setdefault(device.name, {"temperature": 21.5, "setpoint": 20, "label": "none"})

    def open(self, op, device):
        self.calls(("open", device.name, device))
        self.open_devices[device.name] = device
        op.complete()

    def close(self, op, device):
        self.calls(("close", device.name, device))
        self.open_devices.pop(device.name, None)  # opening it may have failed
        op.complete()

    def read(self, op, device, properties):
        self.calls(("read", device.name, [p.name for p in properties]))
        op.complete({p.name: self.room(device)[p.name] for p in properties})

    def write(self, op, device, values):
        self.calls(("write", device.name, values))
        self.room(device).update(values)
        op.complete()

    def attach(self):
        self.calls(("attach", "", None))

    def detach(self):
        self.calls(("detach", "", None))

    def names(self, of=None):
        return [name for name, device, _ in self.calls if of in (None, device)]


def called(what, of):
    return lambda calls: any(name == what and device == of for name, device, _ in calls)


def reported(name, **values):
    """Of the collector that stands in for a twin: these were told."""

    def check(reports):
        newest = {}
        for told, report in reports:
            if told == name:
                newest.update({v.property: v.reported for v in report})
        return all(newest.get(k) == v for k, v in values.items())

    return check


@pytest.fixture
def alone(ctx):
    """A harness whose reports go to lists."""
    reports, states = Collector(often=True), Collector()
    with Devices(
        ctx,
        report=lambda ns, name, values: reports((name, values)),
        state=lambda ns, name, state: states((ns, name, state)),
        retry_min_ms=10,
        retry_max_ms=50,
    ) as devices:
        devices.put(device_model())
        devices.reports, devices.states = reports, states
        yield devices


def begin(alone, driver, *made):
    alone.register("py", driver)
    for one in made or [device("a")]:
        alone.put(one)


# ---- values ----


def test_values_reach_whoever_asks(ctx, alone):
    driver = Rooms()
    begin(alone, driver)
    alone.reports.until(ctx, reported("a", temperature="21.5", setpoint="20"))
    alone.states.until(ctx, has(1))
    assert alone.states[0] == ("default", "a", "online")
    assert driver.names()[:3] == ["attach", "open", "read"]
    status = alone.get("a")
    assert (status.namespace, status.model, status.protocol) == ("default", "room", "py")
    assert (status.state, status.error) == (DeviceState.ONLINE, "") and status.online_ms > 0
    temperature = status.properties[0]
    assert (temperature.name, temperature.type, temperature.unit) == ("temperature", "float", "C")
    assert temperature.reported == "21.5" and temperature.reads > 0 and temperature.reported_ms > 0
    assert [d.name for d in alone.list()] == ["a"] and alone.stats()["online"] == 1
    driver.rooms["a"]["temperature"] = 22.25
    alone.reports.until(ctx, reported("a", temperature="22.25"))


def test_what_a_driver_is_told_of_a_device(ctx, alone):
    driver = Rooms()
    begin(alone, driver, device("a", properties=("temperature", "setpoint", "label")))
    driver.calls.until(ctx, called("open", "a"))
    d = next(what for name, _, what in driver.calls if name == "open")
    assert (d.namespace, d.name, d.model, d.protocol, d.timeout_ms) == ("default", "a", "room", "py", 5000)
    assert d.config["Port"] == "502" and d.config.integer("port") == 502
    assert d.config.boolean("DEEP.on") is True and d.config.number("Port") == 502.0
    assert d.config.text("nothing", "else") == "else" and d.config.integer("nothing", 0) == 0
    with pytest.raises(NotFound, match="nothing"):
        d.config.text("nothing")
    with pytest.raises(ParseError, match="deep"):
        d.config.integer("deep")
    assert [p.name for p in d.properties] == ["temperature", "setpoint", "label"]
    temperature, setpoint, label = d.properties
    assert (temperature.type, temperature.readable, temperature.writable) == (DeviceType.FLOAT, True, False)
    assert (setpoint.type, setpoint.writable, setpoint.scaled) == (DeviceType.INT, True, True)
    assert not label.scaled and temperature.unit == "C" and temperature.collect_ms == 20
    assert setpoint.visitor.integer("register") == 40001


@pytest.mark.parametrize(
    "raw,text",
    [("temp 3", "temp 3"), ("ä", "ä"), (b"raw", "raw"), (7, "7"), (2**64 - 1, str(2**64 - 1)), (True, "true")],
)
def test_kinds_of_values(ctx, alone, raw, text):
    driver = Rooms()
    driver.rooms["a"] = {"label": raw}
    begin(alone, driver, device("a", properties=("label",)))
    alone.reports.until(ctx, reported("a", label=text))


def test_a_reading_has_its_time(ctx, alone):
    driver = Rooms()
    driver.rooms["a"] = {"label": Reading("then", 1_600_000_000_123)}
    begin(alone, driver, device("a", properties=("label",)))
    alone.reports.until(ctx, reported("a", label="then"))
    assert alone.get("a").properties[0].reported_ms == 1_600_000_000_123


def test_a_value_that_is_none(ctx, alone):
    """None of any property is an error of that one; the other goes its way."""
    driver = Rooms()
    driver.rooms["a"] = {"temperature": 20.5, "setpoint": None}
    begin(alone, driver)
    alone.reports.until(ctx, reported("a", temperature="20.5"))
    assert "no value" in alone.get("a").properties[1].error


def test_an_error_of_one_property(ctx, alone):
    driver = Rooms()
    driver.rooms["a"] = {"temperature": OSError(5, "broken sensor"), "setpoint": 19}
    begin(alone, driver)
    alone.reports.until(ctx, reported("a", setpoint="19"))
    status = alone.get("a")
    assert status.state == DeviceState.ONLINE
    assert "broken sensor" in status.properties[0].error and status.properties[1].error == ""


def test_told_by_the_device(ctx, alone):
    class Telling(Rooms):
        def subscribe(self, op, device, properties):
            self.calls(("subscribe", device.name, [p.name for p in properties]))
            op.complete()

    driver = Telling()
    begin(alone, driver)
    driver.calls.until(ctx, called("subscribe", "a"))
    d = driver.open_devices["a"]
    thread = threading.Thread(target=d.report, args=({"temperature": 30.5, "setpoint": 11},))
    thread.start()
    alone.reports.until(ctx, reported("a", temperature="30.5", setpoint="11"))
    thread.join()
    with pytest.raises(InvalidArgument, match="humidity"):
        d.report({"humidity": 1})
    with pytest.raises(TypeError):
        d.report({"temperature": object()})
    with pytest.raises(ValueError, match="64 bits"):
        d.report({"setpoint": 2**64})
    opened = len([n for n in driver.names() if n == "open"])
    assert d.lost("unplugged")
    driver.calls.until(ctx, lambda calls: [c[0] for c in calls].count("open") > opened)
    assert "unplugged" in alone.get("a").error
    assert not d.report({"temperature": 1.5}) and not d.lost("again")


# ---- desired values and methods ----


def test_desired_of_the_object(ctx, alone):
    driver = Rooms()
    begin(alone, driver, device("a", desired=25))
    alone.reports.until(ctx, reported("a", setpoint="25"))
    assert ("write", "a", {"setpoint": 25}) in driver.calls


def test_set(ctx, alone):
    driver = Rooms()
    begin(alone, driver, device("a", properties=("temperature", "setpoint", "label")))
    alone.states.until(ctx, has(1))
    assert ctx.wait_for(alone.set("a", "setpoint", 12), PATIENCE) is None
    assert driver.rooms["a"]["setpoint"] == 12
    ctx.wait_for(alone.set("default/a", "label", "ä"), PATIENCE)
    assert driver.rooms["a"]["label"] == "ä"
    for kind, args in (
        (AccessDenied, ("a", "temperature", 1)),
        (ParseError, ("a", "setpoint", "warm")),
        (LimitExceeded, ("a", "setpoint", 31)),
        (NotFound, ("a", "humidity", 1)),
        (NotFound, ("other/a", "setpoint", 1)),
    ):
        with pytest.raises(kind):
            alone.set(*args)
    assert alone._state.pendings == {}


def test_a_write_that_is_refused(ctx, alone):
    class Locked(Rooms):
        def write(self, op, device, values):
            op.complete({name: AccessDenied(-15, "the door is locked") for name in values})

    begin(alone, Locked())
    alone.states.until(ctx, has(1))
    with pytest.raises(AccessDenied, match="the door is locked"):
        ctx.wait_for(alone.set("a", "setpoint", 12), PATIENCE)
    assert "the door is locked" in alone.get("a").properties[1].error


def test_a_driver_that_cannot_write(ctx, alone):
    class Thermometer(Driver):
        def open(self, op, device):
            op.complete()

        def read(self, op, device, properties):
            op.complete({p.name: 1 for p in properties})

    begin(alone, Thermometer())
    alone.states.until(ctx, has(1))
    with pytest.raises(NotSupported):
        ctx.wait_for(alone.set("a", "setpoint", 12), PATIENCE)


METHODS = [{"name": "blink"}, {"name": "warm", "propertyNames": ["setpoint"]}]


def test_methods(ctx, alone):
    class Blinking(Rooms):
        def call(self, op, device, method, args):
            if args == "oops":
                op.fail(ValueError("no such color"))
            else:
                op.complete(reply={"method": method, "args": args})

    begin(alone, Blinking(), device("a", methods=METHODS))
    alone.states.until(ctx, has(1))
    assert ctx.wait_for(alone.call("a", "blink", [1, "ä"]), PATIENCE) == {"method": "blink", "args": [1, "ä"]}
    assert ctx.wait_for(alone.call("a", "blink"), PATIENCE)["args"] is None
    with pytest.raises(kubeedge.KubeEdgeError, match="no such color"):
        ctx.wait_for(alone.call("a", "blink", "oops"), PATIENCE)
    with pytest.raises(NotFound):
        alone.call("a", "jump")


def test_a_method_that_is_a_write(ctx, alone):
    driver = Rooms()
    begin(alone, driver, device("a", methods=METHODS))
    alone.states.until(ctx, has(1))
    ctx.wait_for(alone.call("a", "warm", {"setpoint": 29}), PATIENCE)
    assert driver.rooms["a"]["setpoint"] == 29
    with pytest.raises(NotSupported):
        alone.call("a", "blink")


def test_await():
    async def main():
        async with Context() as ctx:
            online = asyncio.Event()
            with Devices(ctx, state=lambda ns, name, state: online.set()) as devices:
                driver = Rooms()
                devices.put(device_model())
                begin(devices, driver)
                await asyncio.wait_for(online.wait(), PATIENCE)
                await devices.set("a", "setpoint", 6)
                assert driver.rooms["a"]["setpoint"] == 6

    asyncio.run(main())


# ---- now, later, never ----


def test_completed_later_by_other_threads(ctx, alone):
    class Threaded(Rooms):
        def later(self, fn, *args):
            thread = threading.Thread(target=fn, args=args)
            self.threads.append(thread)
            thread.start()

        def open(self, op, device):
            self.later(Rooms.open, self, op, device)

        def read(self, op, device, properties):
            self.later(Rooms.read, self, op, device, properties)

        def write(self, op, device, values):
            self.later(Rooms.write, self, op, device, values)

    driver = Threaded()
    driver.threads = []
    begin(alone, driver, *(device(f"d{i}", desired=10 + i) for i in range(4)))
    for i in range(4):
        alone.reports.until(ctx, reported(f"d{i}", setpoint=str(10 + i), temperature="21.5"))
    alone.close()  # while some are under way
    for thread in driver.threads:
        thread.join()


def test_one_that_hangs_times_out_alone(ctx):
    reports = Collector(often=True)

    class Hanging(Rooms):
        ops = []

        def read(self, op, device, properties):
            if device.name == "hangs":
                self.ops.append(op)
                self.calls(("read", device.name, None))
            else:
                super().read(op, device, properties)

    with Devices(
        ctx, report=lambda ns, name, v: reports((name, v)), timeout_ms=50, retry_min_ms=10, retry_max_ms=20
    ) as devices:
        driver = Hanging()
        devices.put(device_model())
        begin(devices, driver, device("hangs"), device("well"))
        driver.calls.until(ctx, lambda calls: calls.count(("read", "hangs", None)) >= 2)  # opened anew
        driver.rooms["well"]["temperature"] = 3.5
        reports.until(ctx, reported("well", temperature="3.5"))
        status = devices.get("hangs")
        assert "50 ms" in status.error and status.failures >= 1 and status.reconnects >= 1
        assert devices.stats()["timeouts"] >= 1 and devices.get("well").failures == 0
        assert driver.names(of="hangs")[:4] == ["open", "read", "close", "open"]
        assert driver.ops[0].complete({"temperature": 1.5}) is False  # too late
        assert driver.ops[0].fail(TimedOut(-12, "late")) is False
        assert devices.stats()["late_completions"] == 2
    assert driver.ops[-1].complete() is False


def test_ended_twice(ctx, alone):
    ends = Collector(often=True)

    class Twice(Rooms):
        def read(self, op, device, properties):
            ends((op.complete({p.name: 9 for p in properties}), op.complete(), op.fail(-13, "no")))

    begin(alone, Twice())
    ends.until(ctx, has(1))
    assert ends[0] == (True, False, False)


# ---- what goes wrong ----


@pytest.mark.parametrize("e", [ConnectionRefusedError("not there"), TimeoutError("too slow"), kubeedge.NetworkError(-100, "gone")])
def test_a_device_that_is_lost(ctx, alone, e):
    class Losing(Rooms):
        lose = True

        def read(self, op, device, properties):
            if device.name == "a" and self.lose:
                self.calls(("lost", "a", None))
                raise e
            super().read(op, device, properties)

    driver = Losing()
    begin(alone, driver, device("a"), device("b"))
    driver.calls.until(ctx, lambda calls: calls.count(("lost", "a", None)) >= 2)
    alone.reports.until(ctx, reported("b", temperature="21.5"))
    status = alone.get("a")
    assert str(e.args[0]) in status.error and status.reconnects >= 1
    assert alone.get("b").failures == 0
    driver.lose = False
    alone.reports.until(ctx, reported("a", temperature="21.5"))


def test_a_mistake_of_the_driver(ctx, alone):
    """An error of that device, and told where the context is driven. The other goes on."""

    class Mistaken(Rooms):
        def read(self, op, device, properties):
            if device.name == "a":
                1 / 0
            super().read(op, device, properties)

    begin(alone, Mistaken(), device("a"), device("b"))
    with pytest.raises(ZeroDivisionError):
        ctx.run()
    with pytest.raises(ZeroDivisionError):  # at each cycle
        ctx.run()
    assert "ZeroDivisionError" in alone.get("a").error and "in read" in alone.get("a").error
    while not reported("b", temperature="21.5")(alone.reports):
        with contextlib.suppress(ZeroDivisionError):
            ctx.run()
    alone.close()
    ctx._core.failures.clear()


def test_a_configuration_that_is_wrong(ctx, alone):
    """It is not tried again before it changes."""

    class Careful(Rooms):
        def open(self, op, device):
            device.config.integer("unit")
            super().open(op, device)

    driver = Careful()
    begin(alone, driver)
    alone.register("other", Rooms())
    driver.calls.until(ctx, called("attach", ""))
    while alone.get("a").state != DeviceState.OFFLINE and "unit" not in alone.get("a").error:
        turn(ctx)
    assert "unit in the configuration is missing" in alone.get("a").error
    alone.put(device("a", config={"Unit": 3}))
    driver.calls.until(ctx, called("open", "a"))
    alone.reports.until(ctx, reported("a", temperature="21.5"))


def turn(ctx):
    done = Collector()
    ctx.post(lambda: done(1))
    done.until(ctx, has(1))


def test_waits_for_its_model_and_its_driver(ctx):
    with Devices(ctx) as devices:
        devices.put(json.dumps(device("a")))
        turn(ctx)
        assert devices.get("a").state == DeviceState.WAITING
        devices.put(json.dumps(device_model()).encode())
        turn(ctx)
        assert "py" in devices.get("a").error or devices.get("a").state == DeviceState.WAITING
        driver = Rooms()
        devices.register("PY", driver)
        driver.calls.until(ctx, called("read", "a"))


def test_errors(ctx, alone):
    alone.register("py", Rooms())
    with pytest.raises(AlreadyExists, match="Py"):
        alone.register("Py", Rooms())
    with pytest.raises(NotFound, match="nobody"):
        alone.unregister("nobody")
    with pytest.raises(ParseError):
        alone.put("{")
    with pytest.raises(ParseError, match="spec"):
        alone.put({**device("a"), "spec": 3})
    with pytest.raises(NotFound):
        alone.remove("Device", "nobody")
    with pytest.raises(InvalidArgument):
        alone.remove("Pod", "a")
    with pytest.raises(NotFound):
        alone.get("nobody")
    with pytest.raises(NotFound):
        alone.process("nobody", [])
    alone.put(device("a"))
    with pytest.raises(ParseError):
        alone.process("a", '[{"name": 3}]')
    with pytest.raises(StateError, match="router"):
        alone.register_mqtt_json()
    with pytest.raises(TypeError):
        Driver()
    with Router(ctx) as router:
        with pytest.raises(InvalidArgument, match="node_name"):
            Devices(ctx, router)
        with pytest.raises(InvalidArgument):
            Devices(ctx, router, node_name="edge-1", report=print)
        with Devices(ctx, router, node_name="edge-1") as devices:
            devices.register_mqtt_json()
            with pytest.raises(AlreadyExists):
                devices.register_mqtt_json()


def test_the_librarys_drivers(ctx, alone):
    alone.register_simulated()
    alone.register_modbus(timeout_ms=100)
    alone.register_gpio(dev_folder="/nonexistent", sys_folder="/nonexistent")
    for again in (alone.register_simulated, alone.register_modbus, alone.register_gpio):
        with pytest.raises(AlreadyExists):
            again()
    one = device("sim", protocol="simulated", properties=("temperature",))
    one["spec"]["properties"][0]["visitors"]["configData"] = {"function": "constant", "value": 4.5}
    alone.put(one)
    alone.reports.until(ctx, reported("sim", temperature="4.5"))


# ---- ends ----


def test_remove_and_unregister(ctx, alone):
    driver = Rooms()
    begin(alone, driver, device("a"), device("b"))
    driver.calls.until(ctx, lambda c: called("read", "a")(c) and called("read", "b")(c))
    alone.remove("Device", "a")
    driver.calls.until(ctx, called("close", "a"))
    turn(ctx)
    assert [d.name for d in alone.list()] == ["b"]
    late = driver.open_devices["b"]
    alone.unregister("py")
    assert driver.names()[-2:] == ["close", "detach"]
    assert not late.report({"temperature": 1.5})
    again = Rooms()
    alone.register("py", again)
    again.calls.until(ctx, called("read", "b"))


def test_close_detaches(ctx, alone):
    driver = Rooms()
    begin(alone, driver)
    driver.calls.until(ctx, called("read", "a"))
    alone.close()
    assert driver.names()[-2:] == ["close", "detach"] and driver.open_devices == {}
    for call in (alone.list, alone.stats, lambda: alone.set("a", "setpoint", 12)):
        with pytest.raises(StateError):
            call()


def test_closed_from_a_driver(ctx, alone):
    class Closing(Rooms):
        def read(self, op, device, properties):
            with contextlib.suppress(StateError):
                alone.close()
            super().read(op, device, properties)

        def write(self, op, device, values):
            with pytest.raises(StateError, match="callback"):
                alone.unregister("py")
            super().write(op, device, values)

    driver = Closing()
    begin(alone, driver, device("a", desired=12))
    driver.calls.until(ctx, called("detach", ""))
    assert alone.closed and called("write", "a")(driver.calls)


def test_what_waits_ends_with_it(ctx, alone):
    class Never(Rooms):
        def write(self, op, device, values):
            self.calls(("write", device.name, values))

    driver = Never()
    begin(alone, driver)
    driver.calls.until(ctx, called("read", "a"))
    pending = alone.set("a", "setpoint", 12)
    driver.calls.until(ctx, called("write", "a"))
    alone.close()
    with pytest.raises(Canceled):
        ctx.wait_for(pending, PATIENCE)


# ---- with a twin, and with the cloud ----


def test_to_the_twin(ctx, tmp_path):
    driver, seen = Rooms(), Collector()
    with Store(ctx, tmp_path / "store") as store, Router(ctx) as router:
        with Twin(ctx, router, node_name="edge-1", store=store) as twin:
            with Devices(ctx, router, node_name="edge-1", store=store) as devices:
                twin.start()
                twin.observe(seen)
                ctx.wait_for(twin.add("a"), PATIENCE)
                devices.register("py", driver)
                devices.put(device_model())
                devices.put(device("a", desired=17))
                seen.until(ctx, lambda events: {"temperature", "setpoint"} <= told(events))
                seen.until(ctx, lambda events: any(e.device.state == "online" for e in events))
                assert twin.get("a", "temperature").reported == "21.5"
                rule = {"name": "halved", "expr": "temperature / 2", "to": "twin"}
                devices.process("a", [rule])
                seen.until(ctx, lambda events: "halved" in told(events))
                assert float(twin.get("a", "halved").reported) == 10.75
                devices.process("a", None)
                value = twin.get("a", "setpoint")
                assert (value.type, value.desired, value.reported) == ("int", "17", "17")


def told(events):
    return {e.value.name for e in events if e.value is not None and e.value.reported is not None}


def test_from_the_cloud_and_back(ctx, hub, tmp_path):
    """A driver in Python, in a node: what the cloud wants is written, what it reads is in the cloud."""
    driver, given, seen = Rooms(), Collector(), Collector(often=True)

    def take(twin, devices):
        devices.register("py", driver)
        twin.observe(seen)
        given((twin, devices))

    hub.apply("model.json", json.dumps(device_model()))
    hub.apply("a.json", json.dumps(device("a", desired=18)))
    with Node(ctx, name="edge-1", data=tmp_path / "node", cloud_host="127.0.0.1", devices=take, **hub.address()) as node:
        node.start()
        twin, devices = given[0]
        hub.devices.until(ctx, in_cloud(temperature="21.5", setpoint="18"))
        assert ("write", "a", {"setpoint": 18}) in driver.calls
        hub.apply("a.json", json.dumps(device("a", desired=24)))
        hub.devices.until(ctx, in_cloud(setpoint="24"))
        assert driver.rooms["a"]["setpoint"] == 24
        (info,) = hub.cloud.devices()
        assert (info.namespace, info.name, info.node, info.model) == ("default", "a", "edge-1", "room")
        assert (info.protocol, info.api, info.reason) == ("py", "v1beta1", "")
        assert info.twins["setpoint"].desired == "24" and info.twins["temperature"].desired is None
        hub.devices.until(ctx, lambda told: told[-1][0].state == "online" and not told[-1][0].pending)
        assert devices.get("a").state == DeviceState.ONLINE
        assert [d.name for d in twin.devices()] == ["a"] and twin.get("a", "setpoint").reported == "24"
        assert twin.json("a")["twin"]["setpoint"]["actual"]["value"] == "24"
        assert any(e.value is not None and e.value.reported == "24" for e in seen)
        hub.remove("a.json")
        driver.calls.until(ctx, called("close", "a"))
        hub.devices.until(ctx, lambda told: told[-1][1])
        node.stop()
        driver.calls.until(ctx, called("detach", ""))
        turn(ctx)
        assert twin.closed and devices.closed
        with pytest.raises(StateError):
            twin.devices()
        node.start()
        assert len(given) == 2 and not given[1][0].closed and given[1][0] is not twin
    assert given[1][0].closed and given[1][1].closed


def in_cloud(**values):
    def check(told):
        info, removed = told[-1] if told else (None, True)
        return not removed and all(n in info.twins and info.twins[n].reported == v for n, v in values.items())

    return check


def test_node_without_devices(ctx, tmp_path):
    given = Collector()
    with Node(ctx, name="edge-1", data=tmp_path / "node", flags=NodeFlag.NO_DEVICES, devices=given) as node:
        node.start()
        turn(ctx)
        assert given == []
    with pytest.raises(InvalidArgument, match="typewriter"):
        Node(ctx, name="edge-1", data=tmp_path / "node", drivers=["modbus", "typewriter"])
    with Node(ctx, name="edge-1", data=tmp_path / "node", drivers=["simulated"], dmi_socket=tmp_path / "dmi", devices=given):
        pass
    assert not given
    with Node(ctx, name="edge-1", data=tmp_path / "node", drivers="all", devices=lambda *both: given(both)) as node:
        node.start()
        with pytest.raises(AlreadyExists):
            given[0][1].register("modbus", Rooms())
        given[0][0].close()  # lent: the node's own lives on
        node.stop()


def test_a_node_with_upstreams_limits(ctx, tmp_path):
    """TWIN_STRICT is the twin's: a value that it takes without, it refuses with it."""
    for flags in (NodeFlag(0), NodeFlag.TWIN_STRICT | NodeFlag.TWIN_OLD_TOPICS):
        given = []
        with Node(ctx, name="edge-1", data=tmp_path / f"node-{int(flags)}", flags=flags, devices=lambda *both: given.append(both)) as node:
            node.start()
            twin = given[0][0]
            ctx.wait_for(twin.add("d"), PATIENCE)
            if flags:
                with pytest.raises(InvalidArgument):
                    ctx.wait_for(twin.set("d", "t", "ä"), PATIENCE)
            else:
                ctx.wait_for(twin.set("d", "t", "ä"), PATIENCE)
            node.stop()


def test_a_node_with_devices_dropped_with_its_context(tmp_path):
    """What it lent does not keep them alive."""
    given = []
    ctx = Context()
    node = Node(ctx, name="edge-1", data=tmp_path / "node", devices=lambda *both: given.append(len(both)))
    node.start()
    assert given == [2]
    core = ctx._core
    with pytest.warns(ResourceWarning):
        del ctx, node
        gc.collect()
    with core.lock:
        assert core.changed.wait_for(lambda: core.ptr is None, PATIENCE)
    while core in _core._cores:  # discarded right after the wait above was woken
        os.sched_yield()


def test_dropped():
    with Context(thread=True) as ctx:
        devices = Devices(ctx)
        devices.register("py", Rooms())
        with pytest.warns(ResourceWarning, match="Devices"):
            del devices
            gc.collect()


def test_ends_with_its_context():
    driver = Rooms()
    with Context(thread=True) as ctx:
        devices = Devices(ctx)
        devices.put(device_model())
        begin(devices, driver)
        driver.calls.until(ctx, called("read", "a"))
    assert devices.closed and driver.names()[-2:] == ["close", "detach"]
