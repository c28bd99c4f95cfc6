# SPDX-License-Identifier: Apache-2.0
import asyncio
import gc
import threading

import pytest

import kubeedge
from kubeedge import (
    AlreadyExists,
    Canceled,
    Context,
    InvalidArgument,
    NotFound,
    Router,
    StateError,
    Store,
    Twin,
    TwinDevice,
    TwinEventKind,
)
from support import PATIENCE, Collector, has


@pytest.fixture
def router(ctx):
    with Router(ctx) as r:
        yield r


@pytest.fixture
def twin(ctx, router):
    """One without a store, which has nothing to read."""
    with Twin(ctx, router, node_name="edge-1") as t:
        t.start()
        yield t


def done(ctx, *pendings):
    for pending in pendings:
        assert ctx.wait_for(pending, PATIENCE) is None


def test_set_report_get(ctx, twin):
    done(ctx, twin.add("lamp", "over the door"))
    assert twin.devices() == [TwinDevice("", "lamp", "over the door", "", "", 0, False)]
    done(ctx, twin.set("lamp", "power", "on"), twin.report("lamp", "power", "off"))
    value = twin.get("lamp", "power")
    assert (value.device, value.name, value.type) == ("lamp", "power", "string")
    assert (value.desired, value.reported, value.optional) == ("on", "off", True)
    assert 0 < value.desired_ms <= value.reported_ms
    assert twin.each("lamp") == [value]
    assert twin.devices()[0].twins == 1
    st = twin.status()
    assert (st.devices, st.refused, st.connected) == (1, 0, False) and st.taken == 3
    done(ctx, twin.remove("lamp"))
    assert twin.devices() == []


@pytest.mark.parametrize(
    "value,type,text", [(21.5, "float", "21.5"), (-3, "int", "-3"), (True, "boolean", "true"), ("ä b", "string", "ä b")]
)
def test_types(ctx, twin, value, type, text):
    done(ctx, twin.add("d"), twin.set("d", "t", value, type=type), twin.report("d", "t", value))
    got = twin.get("d", "t")
    assert (got.type, got.desired, got.reported) == (type, text, text)


def test_never_reported_is_none(ctx, twin):
    done(ctx, twin.add("d"), twin.set("d", "one", "1"), twin.report("d", "other", "1"))
    assert (twin.get("d", "one").desired, twin.get("d", "one").reported) == ("1", None)
    assert (twin.get("d", "other").desired, twin.get("d", "other").reported) == (None, "1")
    assert twin.get("d", "other").desired_ms == 0


def test_errors(ctx, twin):
    done(ctx, twin.add("d"), twin.set("d", "t", 1, type="int"))
    with pytest.raises(InvalidArgument, match="int"):
        ctx.wait_for(twin.set("d", "t", "warm"), PATIENCE)
    assert twin.get("d", "t").desired == "1"
    with pytest.raises(NotFound):
        ctx.wait_for(twin.set("nobody", "t", "1"), PATIENCE)
    with pytest.raises(NotFound):
        ctx.wait_for(twin.remove("nobody"), PATIENCE)
    for look in (lambda: twin.get("nobody", "t"), lambda: twin.get("d", "no"), lambda: twin.each("nobody")):
        with pytest.raises(NotFound):
            look()
    with pytest.raises(NotFound, match="nobody"):
        twin.json("nobody")
    with pytest.raises(InvalidArgument, match="a/b/c"):
        twin.add("a/b/c")
    with pytest.raises(ValueError, match="NUL"):
        twin.set("d", "t", "a\0b")
    assert twin._state.pendings == {}


def test_strict_is_upstreams_limit(ctx, router):
    with Twin(ctx, router, node_name="edge-1", strict=True) as twin:
        twin.start()
        done(ctx, twin.add("d"))
        with pytest.raises(InvalidArgument):
            ctx.wait_for(twin.set("d", "t", "ä"), PATIENCE)


def test_one_of_a_router(ctx, router, twin):
    with pytest.raises(AlreadyExists):
        Twin(ctx, router, node_name="edge-1")
    with Router(ctx) as other, pytest.raises(InvalidArgument, match="node_name"):
        Twin(ctx, other, node_name="")


def test_json(ctx, twin):
    done(ctx, twin.add("d"), twin.set("d", "t", 4, type="int"), twin.set_state("d", "online"))
    document = twin.json("d")
    assert (document["name"], document["state"]) == ("d", "online")
    assert document["twin"]["t"]["expected"]["value"] == "4"
    assert [d["name"] for d in twin.json()["devices"]] == ["d"]


def test_observe(ctx, twin):
    every, one = Collector(), Collector()
    twin.observe(every)
    observer = twin.observe(one, "a")
    done(ctx, twin.add("a"), twin.add("b"), twin.set("a", "t", "1"), twin.report("b", "t", "2"))
    done(ctx, twin.set_state("b", "online"), twin.remove("b"))
    every.until(ctx, lambda events: events and events[-1].kind == TwinEventKind.REMOVED)
    kinds = [(e.kind.name, e.device.name) for e in every]
    assert [k for k in kinds if k[0] in ("ADDED", "CHANGED", "STATE")] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("CHANGED", "a"),
        ("CHANGED", "b"),
        ("STATE", "b"),
    ]
    changed = [e for e in every if e.kind == TwinEventKind.CHANGED]
    assert (changed[0].value.desired, changed[1].value.reported) == ("1", "2")
    assert every[0].value is None and {e.device.name for e in one} == {"a"}
    n = len(one)
    observer.close()
    observer.close()
    assert observer.closed
    done(ctx, twin.set("a", "t", "3"))
    every.until(ctx, lambda events: events[-1].value is not None and events[-1].value.desired == "3")
    assert len(one) == n


def test_a_device_in_its_observer(ctx, twin):
    """What does as it is told: a report made from inside of the callback."""

    def obey(event):
        value = event.value
        if value is not None and value.reported != value.desired:
            twin.report(value.device, value.name, value.desired)

    seen = Collector()
    twin.observe(obey)
    twin.observe(seen)
    done(ctx, twin.add("lamp"), twin.set("lamp", "power", "on"))
    seen.until(ctx, lambda events: events[-1].value is not None and events[-1].value.reported == "on")


def test_observer_ends_itself(ctx, twin):
    seen, every, box = Collector(), Collector(), []
    box.append(twin.observe(lambda e: (seen(e), box[0].close()), "a"))
    twin.observe(every)
    done(ctx, twin.add("a"), twin.add("b"), twin.set("a", "t", "1"))
    every.until(ctx, lambda events: any(e.value is not None for e in events))
    assert len(seen) == 1 and box[0].closed


def test_exception_of_an_observer(ctx, twin):
    def oops(event):
        raise ZeroDivisionError

    seen = Collector()
    twin.observe(oops)
    twin.observe(seen)
    twin.add("a")
    with pytest.raises(ZeroDivisionError):
        ctx.run()
    seen.until(ctx, has(1))


def test_survives_in_a_store(ctx, tmp_path):
    for life in range(2):
        with Store(ctx, tmp_path / "store") as store, Router(ctx) as router:
            with Twin(ctx, router, store=store, node_name="edge-1") as twin:
                with pytest.raises(StateError, match="read"):
                    twin.get("ns/d", "t")
                twin.start()
                if life == 0:
                    # The last one waits for the reading of the store, as all do.
                    done(ctx, twin.add("ns/d"), twin.set("ns/d", "t", 7, type="int"))
                else:
                    done(ctx, twin.report("ns/d", "t", 8))
    assert life == 1
    with Store(ctx, tmp_path / "store") as store, Router(ctx) as router:
        with Twin(ctx, router, store=store, node_name="edge-1") as twin:
            twin.start()
            done(ctx, twin.set_state("d", "online"))
            value = twin.get("d", "t")
            assert (value.namespace, value.desired, value.reported) == ("ns", "7", "8")


def test_await(tmp_path):
    async def main():
        async with Context() as ctx:
            with Router(ctx) as router, Twin(ctx, router, node_name="edge-1") as twin:
                twin.start()
                await twin.add("d")
                await asyncio.gather(*(twin.report("d", f"t{i}", i, type="int") for i in range(20)))
                assert sorted(int(v.reported) for v in twin.each("d")) == list(range(20))
                with pytest.raises(NotFound):
                    await twin.set("x", "t", "1")

    asyncio.run(main())


def test_changes_from_any_thread(ctx, twin):
    """Also while the loop is the host's."""
    done(ctx, twin.add("d"))
    ends, seen = Collector(), Collector()
    twin.observe(seen)

    def work(k):
        for i in range(20):
            twin.report("d", f"t{k}", i, type="int").add_done_callback(ends)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    ends.until(ctx, has(80))
    for t in threads:
        t.join()
    assert all(p.exception() is None for p in ends)
    assert {v.name: v.reported for v in twin.each("d")} == {f"t{k}": "19" for k in range(4)}


def test_what_is_under_way_ends_with_it(ctx, router):
    twin = Twin(ctx, router, node_name="edge-1")
    twin.start()
    observer = twin.observe(lambda e: None)
    ends = []

    def begin_and_close():
        ends.extend(twin.set("d", f"t{i}", "1") for i in range(3))
        twin.close()

    ctx.call(begin_and_close)
    for pending in ends:
        with pytest.raises(Canceled):
            ctx.wait_for(pending, PATIENCE)
    assert observer.closed and twin.closed
    observer.close()
    with pytest.raises(StateError):
        twin.set("d", "t", "1")
    with pytest.raises(StateError):
        twin.observe(lambda e: None)


def test_closed_from_its_observer(ctx, router):
    twin = Twin(ctx, router, node_name="edge-1")
    twin.start()
    seen = Collector()
    twin.observe(lambda e: (seen(e), twin.close()))
    twin.add("d")
    seen.until(ctx, has(1))
    assert twin.closed


def test_stop_and_start(ctx, twin):
    done(ctx, twin.add("d"))
    twin.stop()
    with pytest.raises(StateError):
        ctx.wait_for(twin.set("d", "t", "1"), PATIENCE)
    twin.start()
    with pytest.raises(StateError):
        twin.start()
    done(ctx, twin.set("d", "t", "1"))


def test_ends_with_its_router():
    with Context(thread=True) as ctx:
        router = Router(ctx)
        twin = Twin(ctx, router, node_name="edge-1")
        twin.start()
        router.close()
        assert twin.closed


def test_dropped():
    with Context(thread=True) as ctx, Router(ctx) as router:
        twin = Twin(ctx, router, node_name="edge-1")
        twin.observe(lambda e: None)
        with pytest.warns(ResourceWarning, match="Twin"):
            del twin
            gc.collect()


def test_over_mqtt_topics(ctx, router, twin):
    """The same twin by KubeEdge's topic, as the event bus hands it over."""
    answers = Collector()
    with router.add("eventbus", answers, group="user"):
        done(ctx, twin.add("d"), twin.set("d", "t", 5, type="int"))
        message = kubeedge.Message(
            ctx,
            source="eventbus",
            group="user",
            operation="publish",
            resource="$hw/events/device/d/twin/get",
            json='{"event_id":"1"}',
        )
        router.send("devicetwin", message)
        answers.until(ctx, lambda a: any(m.resource == "$hw/events/device/d/twin/get/result" for m in a))
