# SPDX-License-Identifier: Apache-2.0
"""The tunnel by itself, against a Cloud in the same process."""
import asyncio
import gc

import pytest

import kubeedge
from kubeedge import Context, Message, Send, StateError, Store, Tunnel, TunnelState
from support import PATIENCE, Collector, has, pod


def tunnel(ctx, hub, **more):
    address = {**hub.address(), **more.pop("address", {})}
    return Tunnel(ctx, node_name="edge-1", host="127.0.0.1", folder=hub.folder / "edge", **address, **more)


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "edge").mkdir()


def query(ctx, resource="default/configmap/none"):
    """The cloud answers it: with an error, but it answers."""
    return Message(ctx, operation="query", resource=resource, source="edged", group="meta")


def connected(states):
    return bool(states) and states[-1].state == TunnelState.CONNECTED


def test_join_and_connect(ctx, hub):
    states = Collector()
    with tunnel(ctx, hub, state=states) as t:
        assert t.status().state == TunnelState.IDLE
        t.start()
        with pytest.raises(StateError):
            t.start()
        states.until(ctx, connected)
        st = t.status()
        assert st.connected_ms is not None and st.next_retry_ms is None
        assert st.dialect == kubeedge.Dialect.V1_23 and st.last_error == 0
        assert st.cert_not_after > st.cert_rotate_at > ctx.real_ms() // 1000
        assert TunnelState.JOINING in [s.state for s in states]
    # the second time with the certificate it holds
    states.clear()
    with tunnel(ctx, hub, state=states, address={"token": None}) as t:
        t.start()
        states.until(ctx, connected)
        assert TunnelState.JOINING not in [s.state for s in states]
        assert t.status().state == TunnelState.CONNECTED
        t.stop()
        states.until(ctx, lambda s: s[-1].state == TunnelState.STOPPED)


def test_messages_both_ways(ctx, hub):
    states, got = Collector(), Collector()
    with tunnel(ctx, hub, state=states, message=lambda m: (gc.collect(), t.ack(m), got(m))) as t:
        t.start()
        states.until(ctx, connected)
        m = query(ctx)
        done = t.send(m)
        assert done.done() and done.result() is None
        got.until(ctx, lambda g: any(r.parent_id == m.id for r in g))
        st = t.status()
        assert st.sent >= 1 and st.received >= 1 and st.sent_bytes > 0


def test_kept_messages(ctx, hub):
    """Durable before anybody is connected; a newer state replaces the older one; sent when there is a link."""
    states, sent = Collector(), Collector()

    def told(m, status):
        sent((m.json()["Status"]["message"], status))

    hub.apply("web.yaml", pod("web"))
    hub.pods.until(ctx, has(1))
    uid = hub.pods[0][0].uid

    def status(word):
        content = {"UID": uid, "Name": "web", "Status": {"phase": "Running", "message": word}}
        return Message(
            ctx, operation="update", resource="default/podstatus/web", source="edged", group="meta", json=content
        )

    store = Store(ctx, hub.folder / "store")
    with tunnel(ctx, hub, store=store, state=states, sent=told) as t:
        ctx.wait_for(t.send(status("old"), Send.STATE), PATIENCE)
        assert t.status().outbox == 1
        ctx.wait_for(t.send(status("new"), Send.STATE), PATIENCE)
        sent.until(ctx, has(1))
        assert sent[0] == ("old", kubeedge._const.KE_ECANCELED) and t.status().outbox == 1
    with tunnel(ctx, hub, store=store, state=states, sent=told) as t:
        t.start()
        states.until(ctx, connected)
        sent.until(ctx, has(2))
        assert sent[1] == ("new", 0)
        hub.pods.until(ctx, lambda p: p[-1][0].phase == "Running")
    store.close()


def test_outbox_limit(ctx, hub):
    with tunnel(ctx, hub, outbox_messages=1) as t:
        ctx.wait_for(t.send(query(ctx, "a/b/1"), Send.EVENT), PATIENCE)
        with pytest.raises(kubeedge.LimitExceeded):
            pending = t.send(query(ctx, "a/b/2"), Send.EVENT)
            ctx.wait_for(pending, PATIENCE)
        assert t.status().outbox_refused == 1


def test_nothing_goes_without_a_link(ctx, hub):
    with tunnel(ctx, hub) as t:
        with pytest.raises(ConnectionError):
            t.send(query(ctx))
        with pytest.raises(StateError):
            t.reconnect()


def test_reconnect(ctx, hub):
    states = Collector()
    with tunnel(ctx, hub, state=states) as t:
        t.start()
        states.until(ctx, connected)
        seen = len(states)
        t.reconnect()
        states.until(ctx, lambda s: len(s) > seen and any(x.state != TunnelState.CONNECTED for x in s[seen:]))
        states.until(ctx, connected)


def test_refused_connection(ctx, tmp_path, refused_port):
    states = Collector()
    with Tunnel(
        ctx,
        node_name="edge-1",
        host="127.0.0.1",
        folder=tmp_path / "edge",
        cert_port=refused_port,
        token="ab" * 32 + ".e30.e30.e30",
        retry_min_ms=100_000,
        retry_max_ms=100_000,
        state=states,
    ) as t:
        t.start()
        states.until(ctx, lambda s: s and s[-1].state == TunnelState.WAITING)
        st = states[-1]
        assert st.last_error < 0 and st.last_error_text and st.next_retry_ms is not None
        assert st.connected_ms is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_name": "Not A Name"},
        {"host": "no host"},
        {"dialect": 7},
        {"tunnel_port": 70000},
        {"retry_min_ms": 2, "retry_max_ms": 1},
        {"project_id": "a/b"},
    ],
)
def test_wrong_configuration(host, tmp_path, wrong):
    right = {"node_name": "edge-1", "host": "127.0.0.1", "folder": tmp_path}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tunnel(host, **{**right, **wrong})


def test_closed_from_its_own_callback(ctx, hub):
    states = Collector()

    def state(st):
        states(st)
        if st.state == TunnelState.CONNECTED:
            t.close()

    t = tunnel(ctx, hub, state=state)
    t.start()
    states.until(ctx, connected)
    ctx.call(lambda: None)
    assert t.closed
    with pytest.raises(StateError, match="Tunnel is closed"):
        t.status()


def test_store_takes_its_tunnel_along(ctx, hub):
    store = Store(ctx, hub.folder / "store")
    t = tunnel(ctx, hub, store=store)
    t.start()
    store.close()
    assert t.closed
    t.close()


def test_exception_of_a_message(ctx, hub):
    states = Collector()

    def message(m):
        raise ZeroDivisionError

    with tunnel(ctx, hub, state=states, message=message) as t:
        t.start()
        states.until(ctx, connected)
        t.send(query(ctx))
        with pytest.raises(ZeroDivisionError):
            ctx.run()
    ctx._core.failures.clear()


def test_asyncio(hub):
    async def main():
        async with Context() as ctx:
            up, answer = asyncio.Event(), asyncio.get_running_loop().create_future()
            t = tunnel(
                ctx,
                hub,
                state=lambda st: st.state == TunnelState.CONNECTED and up.set(),
                message=lambda m: answer.done() or answer.set_result(m.parent_id),
            )
            t.start()
            await asyncio.wait_for(up.wait(), PATIENCE)
            m = query(ctx)
            await t.send(m)
            assert await asyncio.wait_for(answer, PATIENCE) == m.id

    asyncio.run(main())
