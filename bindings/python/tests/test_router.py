# SPDX-License-Identifier: Apache-2.0
"""Messages and the router."""
import asyncio
import gc
import json
import threading

import pytest

import kubeedge
from kubeedge import Canceled, Context, Dialect, LimitExceeded, Message, NotFound, Router, StateError
from support import PATIENCE, Collector, has


def msg(ctx, operation="update", **more):
    return Message(ctx, operation=operation, resource="default/pod/web", **more)


# ---- messages ----


def test_message_has_what_it_was_given(ctx):
    m = Message(
        ctx,
        operation="update",
        resource="default/pod/web",
        content='{"a":1}',
        source="edged",
        group="meta",
        destination="cloud",
        id="the-id",
        parent_id="the-parent",
        timestamp_ms=1_700_000_000_123,
        resource_version="17",
    )
    assert (m.operation, m.resource, m.source, m.group) == ("update", "default/pod/web", "edged", "meta")
    assert (m.id, m.parent_id, m.timestamp_ms) == ("the-id", "the-parent", 1_700_000_000_123)
    assert (m.destination, m.resource_version) == ("cloud", "17")
    assert m.content == b'{"a":1}' and m.json() == {"a": 1}


def test_message_without_anything(ctx):
    m = Message(ctx)
    assert len(m.id) == 36 and m.timestamp_ms > 0
    assert m.content == b"null" and m.json() is None


def test_message_keeps_bytes(ctx):
    """A number above 2^53, and a form Python would not write."""
    raw = b'{ "n" : 9007199254740993 , "t":"\\u00e4" }'
    assert msg(ctx, content=raw).content == raw
    assert msg(ctx, json={"t": "ä"}).content == '{"t":"ä"}'.encode()


@pytest.mark.parametrize("dialect", list(Dialect))
def test_message_survives_the_wire(ctx, dialect):
    m = msg(ctx, json={"x": [1, 2]}, source="edged", group="meta")
    wire = m.encode(dialect)
    assert wire.endswith(b"\n") and json.loads(wire)["content"] == {"x": [1, 2]}
    again = Message.decode(ctx, wire)
    assert (again.id, again.operation, again.content) == (m.id, m.operation, m.content)


def test_message_reply(ctx):
    m = msg(ctx, "query", source="edged")
    r = m.reply(json="OK")
    assert (r.parent_id, r.operation, r.content) == (m.id, "response", b'"OK"')


def test_message_errors(ctx):
    with pytest.raises(kubeedge.ParseError):
        msg(ctx, content="{")
    with pytest.raises(kubeedge.ParseError):
        Message.decode(ctx, b'{"header":')
    with pytest.raises(kubeedge.LimitExceeded):
        Message.decode(ctx, b"[" * 1000 + b"]" * 1000)
    with pytest.raises(ValueError):
        Message(ctx, resource="a\0b")
    with pytest.raises(ValueError):
        Message(ctx, content="1", json=2)


def test_message_ends_with_its_context():
    with Context() as ctx:
        m = msg(ctx)
        assert "update default/pod/web" in repr(m)
    for look in (lambda: m.id, m.json, m.encode, m.reply):
        with pytest.raises(StateError):
            look()
    assert "closed" in repr(m)


def test_messages_are_freed(host):
    kept = msg(host)
    for _ in range(100):
        msg(host)
    gc.collect()
    assert len(host._core.messages) == 1
    assert kept.id


# ---- sending ----


def test_modules_get_messages_in_order(ctx):
    got = Collector()
    with Router(ctx) as router:
        router.add("a", lambda m: got(m.json()))
        for i in range(5):
            router.send("a", msg(ctx, json=i))
        assert ctx.threaded or not got  # never from within the sending call
        got.until(ctx, has(5))
    assert got == list(range(5))


def test_a_kept_message_outlives_the_callback(ctx):
    got = Collector()
    with Router(ctx) as router:
        router.add("a", got)
        router.send("a", msg(ctx, json={"k": 1}))
        got.until(ctx, has(1))
    gc.collect()
    assert got[0].json() == {"k": 1}


def test_groups(ctx):
    got = Collector()
    with Router(ctx) as router:
        for name in ("a", "b"):
            router.add(name, lambda m, name=name: got(name), group="g")
        router.send_group("g", msg(ctx))
        got.until(ctx, has(2))
        assert sorted(got) == ["a", "b"]
        with pytest.raises(NotFound):
            router.send_group("other", msg(ctx))
        with pytest.raises(NotFound, match="nobody"):
            router.send("nobody", msg(ctx))
        with pytest.raises(kubeedge.AlreadyExists):
            router.add("a", got)


def test_full_queue(host):
    got, refused = Collector(), Collector()
    with Router(host, queue_messages=2) as router:
        module = router.add("a", got, overflow=refused)
        router.send("a", msg(host))
        router.send("a", msg(host))
        with pytest.raises(LimitExceeded, match="queue_messages is 2"):
            router.send("a", msg(host))
        assert module.stats() == (0, 1, 2, 2)
        refused.until(host, has(1))
        got.until(host, has(2))
        assert refused == [1]
        assert module.stats() == (2, 1, 0, 2)


def test_any_thread_sends(threaded):
    got = Collector()
    with Router(threaded) as router:
        router.add("a", lambda m: got(m.json()))

        def send(n):
            for i in range(10):
                router.send("a", msg(threaded, json=[n, i]))

        threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        got.until(threaded, has(40))
    for n in range(4):
        assert [i for k, i in got if k == n] == list(range(10))


def test_module_removed_from_its_own_callback(ctx):
    got = Collector()
    router = Router(ctx)

    def once(m):
        got(m.json())
        module.close()

    module = router.add("a", once)
    ctx.call(lambda: [router.send("a", msg(ctx, json=i)) for i in range(3)])
    got.until(ctx, has(1))
    done = Collector()
    ctx.post(lambda: done(1))
    done.until(ctx, has(1))
    assert got == [0] and module.closed
    with pytest.raises(StateError):
        module.stats()
    router.close()


def test_router_closed_from_a_callback(ctx):
    got = Collector()
    router = Router(ctx)
    router.add("a", lambda m: (router.close(), got(1)))
    router.send("a", msg(ctx))
    got.until(ctx, has(1))
    assert router.closed
    with pytest.raises(StateError, match="Router is closed"):
        router.send("a", msg(ctx))


def test_exception_of_a_module(ctx):
    got = Collector()
    with Router(ctx) as router:

        def bad(m):
            if m.json() == 0:
                raise ZeroDivisionError("first")
            got(m.json())

        router.add("a", bad)
        router.send("a", msg(ctx, json=0))
        router.send("a", msg(ctx, json=1))
        with pytest.raises(ZeroDivisionError):
            ctx.run()
        got.until(ctx, has(1))
    assert got == [1]


# ---- requests ----


def test_request(ctx):
    with Router(ctx) as router:
        router.add("a", lambda m: (gc.collect(), router.respond(m.reply(json=m.json() + 1))))
        assert ctx.wait_for(router.request("a", msg(ctx, json=1), timeout_ms=60_000), PATIENCE).json() == 2


def test_request_callback(ctx):
    got = Collector()
    with Router(ctx) as router:
        router.add("a", lambda m: router.respond(m.reply(json="yes")))
        router.request("a", msg(ctx), timeout_ms=60_000).add_done_callback(lambda p: got(p.result().json()))
        got.until(ctx, has(1))
    assert got == ["yes"]


def test_request_blocks_where_a_thread_drives(threaded):
    with Router(threaded) as router:
        router.add("a", lambda m: router.respond(m.reply(json="yes")))
        assert router.request("a", msg(threaded), timeout_ms=60_000).result(PATIENCE).json() == "yes"


def test_request_times_out(ctx):
    with Router(ctx) as router:
        router.add("a", lambda m: None)
        with pytest.raises(TimeoutError):
            ctx.wait_for(router.request("a", msg(ctx), timeout_ms=1), PATIENCE)


def test_request_canceled(ctx):
    late = Collector()
    with Router(ctx) as router:
        router.add("a", late)
        pending = router.request("a", msg(ctx), timeout_ms=60_000)
        assert pending.cancel() and pending.cancelled()
        late.until(ctx, has(1))
        ctx.call(lambda: None)  # it is carried to the loop's thread
        with pytest.raises(NotFound):
            router.respond(late[0].reply())


def test_request_ends_with_its_router(ctx):
    router = Router(ctx)
    router.add("a", lambda m: None)
    pending = router.request("a", msg(ctx), timeout_ms=60_000)
    router.close()
    with pytest.raises(Canceled):
        ctx.wait_for(pending, PATIENCE)


def test_request_refused(ctx):
    with Router(ctx) as router:
        with pytest.raises(NotFound):
            router.request("nobody", msg(ctx), timeout_ms=1000)
        router.add("a", lambda m: None)
        with pytest.raises(ValueError):
            router.request("a", msg(ctx), timeout_ms=0)


def test_request_in_asyncio():
    async def main():
        async with Context() as ctx:
            router = Router(ctx)
            router.add("a", lambda m: router.respond(m.reply(json="yes")))
            router.add("mute", lambda m: None)
            reply = await router.request("a", msg(ctx), timeout_ms=60_000)
            assert reply.json() == "yes"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(router.request("mute", msg(ctx), timeout_ms=60_000), 0.01)
            assert not router._state.pendings or not any(router._state.pendings.values())

    asyncio.run(main())
