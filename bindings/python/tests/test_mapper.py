# SPDX-License-Identifier: Apache-2.0
import gc
import json

import pytest

import kubeedge
from kubeedge import Context, Driver, InvalidArgument, Mapper, MapperState, Node, NotSupported, StateError
from support import Collector, device, device_model


@pytest.fixture(autouse=True)
def built(host, tmp_path):
    try:
        Mapper(host, "py", tmp_path / "built.sock").close()
    except NotSupported:
        pytest.skip("built without DMI")


class Rooms(Driver):
    def __init__(self):
        self.room = {"temperature": 21.5, "setpoint": 20}
        self.events = Collector(often=True)

    def open(self, op, device):
        self.events("open")
        op.complete()

    def close(self, op, device):
        self.events("close")
        op.complete()

    def read(self, op, device, properties):
        op.complete({p.name: self.room[p.name] for p in properties})

    def write(self, op, device, values):
        self.room.update(values)
        self.events(dict(values))
        op.complete()

    def detach(self):
        self.events("detach")


def in_cloud(**values):
    def check(told):
        info, removed = told[-1] if told else (None, True)
        return not removed and all(n in info.twins and info.twins[n].reported == v for n, v in values.items())

    return check


def test_from_the_cloud_to_a_driver_in_another_context(ctx, hub, tmp_path):
    """The mapper runs as in a process of its own: nothing but sockets joins it with the node."""
    driver = Rooms()
    hub.apply("model.json", json.dumps(device_model()))
    hub.apply("a.json", json.dumps(device("a", desired=18)))
    edge = tmp_path / "dmi.sock"
    with Context(thread=True) as other, Node(
        other, name="edge-1", data=tmp_path / "node", cloud_host="127.0.0.1", dmi_socket=edge, **hub.address()
    ) as node:
        node.start()
        with Mapper(
            ctx, "py", tmp_path / "py.sock", edge_socket=edge, name="rooms", report_always=True, retry_min_ms=20, retry_max_ms=50
        ) as mapper:
            assert mapper.status().state == MapperState.STOPPED
            mapper.devices.register("py", driver)
            mapper.start()
            with pytest.raises(StateError):
                mapper.start()
            hub.devices.until(ctx, in_cloud(temperature="21.5", setpoint="18"))
            assert {"setpoint": 18} in driver.events
            hub.apply("a.json", json.dumps(device("a", desired=24)))
            hub.devices.until(ctx, in_cloud(setpoint="24"))
            status = mapper.status()
            assert status.state == MapperState.REGISTERED and status.registrations == 1
            assert (status.devices, status.models) == (1, 1) and status.reports > 0 and status.pushes > 0
            assert [d.name for d in mapper.devices.list()] == ["a"]
            devices = mapper.devices
        assert mapper.closed and devices.closed and driver.events[-1] == "detach"
        with pytest.raises(StateError):
            mapper.status()


def test_nobody_to_register_with(ctx, tmp_path):
    with Mapper(ctx, "py", tmp_path / "py.sock", edge_socket=tmp_path / "none.sock", retry_min_ms=5, retry_max_ms=5) as mapper:
        mapper.start()
        waited = Collector()

        def look():
            status = mapper.status()
            if status.state == MapperState.WAITING and status.error_text:
                waited(status)
            else:
                ctx.post(look)

        ctx.post(look)
        waited.until(ctx, lambda told: told)
        assert "none.sock" in waited[0].error_text and waited[0].last_error < 0


def test_wrong(ctx, tmp_path):
    with pytest.raises(InvalidArgument):
        Mapper(ctx, "", tmp_path / "py.sock")
    with pytest.raises(kubeedge.KubeEdgeError):
        with Mapper(ctx, "py", tmp_path / "no" / "py.sock") as mapper:
            mapper.start()


def test_dropped():
    with Context(thread=True) as ctx:
        mapper = Mapper(ctx, "py", "/tmp/never-made.sock")
        mapper.devices.register("py", Rooms())
        with pytest.warns(ResourceWarning, match="Mapper"):
            del mapper
            gc.collect()


def test_ends_with_its_context():
    driver = Rooms()
    with Context(thread=True) as ctx:
        mapper = Mapper(ctx, "py", "/tmp/never-made.sock")
        mapper.devices.register("py", driver)
    assert mapper.closed and mapper.devices.closed and driver.events == ["detach"]
