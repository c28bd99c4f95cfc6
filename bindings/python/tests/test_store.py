# SPDX-License-Identifier: Apache-2.0
import asyncio
import gc
import warnings

import pytest

import kubeedge
from kubeedge import Canceled, Context, Item, LimitExceeded, NotFound, StateError, Store
from support import PATIENCE, Collector, has


def test_put_get_list(ctx, tmp_path):
    with Store(ctx, tmp_path / "store") as store:
        ctx.wait_for(store.put("b", "k1", b"\0\xff", uid="u", version=2**62), PATIENCE)
        ctx.wait_for(store.put("b", "k2", "ä"), PATIENCE)
        assert ctx.wait_for(store.get("b", "k1"), PATIENCE) == Item("b", "k1", "u", 2**62, b"\0\xff")
        assert [i.key for i in ctx.wait_for(store.list("b"), PATIENCE)] == ["k1", "k2"]
        assert [i.key for i in ctx.wait_for(store.list("b", "k2"), PATIENCE)] == ["k2"]
        assert [i.key for i in ctx.wait_for(store.list(limit=1), PATIENCE)] == ["k1"]
        assert ctx.wait_for(store.list("other"), PATIENCE) == []


def test_missing(ctx):
    with Store(ctx, memory=True) as store:
        with pytest.raises(NotFound, match="b/nothing"):
            ctx.wait_for(store.get("b", "nothing"), PATIENCE)


def test_reads_see_the_commits_before_them(ctx):
    with Store(ctx, memory=True) as store:

        def begin():
            store.put("b", "k", "1")
            return store.get("b", "k")

        assert ctx.wait_for(ctx.call(begin), PATIENCE).value == b"1"


def test_durable_after_done(ctx, tmp_path):
    with Store(ctx, tmp_path / "store") as store:
        ctx.wait_for(store.put("b", "k", "1"), PATIENCE)
    with Store(ctx, tmp_path / "store") as store:
        assert ctx.wait_for(store.get("b", "k"), PATIENCE).value == b"1"


def test_transaction_is_all_or_nothing(ctx):
    with Store(ctx, memory=True, max_value=1000) as store:
        with store.transaction() as tx:
            tx.put("b", "k1", "1")
            tx.put("b", "k2", "2")
            tx.put("c", "k3", "3")
        ctx.wait_for(tx.done, PATIENCE)
        with pytest.raises(ZeroDivisionError):
            with store.transaction() as tx:
                tx.delete("b", "k1")
                1 / 0
        assert tx.done is None
        tx = store.transaction()
        tx.delete("b", "k1")
        tx.put("b", "big", b"x" * 1001)
        with pytest.raises(LimitExceeded, match="1001"):
            tx.commit()
        assert len(ctx.wait_for(store.list(), PATIENCE)) == 3
        with store.transaction() as tx:
            tx.delete_prefix("b", "k")
        ctx.wait_for(tx.done, PATIENCE)
        assert [i.key for i in ctx.wait_for(store.list(), PATIENCE)] == ["k3"]


def test_transaction_is_used_once(ctx):
    with Store(ctx, memory=True) as store:
        tx = store.transaction()
        tx.put("b", "k", "1")
        ctx.wait_for(tx.commit(), PATIENCE)
        for again in (tx.commit, lambda: tx.put("b", "k", "2")):
            with pytest.raises(StateError):
                again()
        tx = store.transaction()
        tx.abort()
        with pytest.raises(StateError):
            tx.commit()


def test_delete_only_that_uid(ctx):
    with Store(ctx, memory=True) as store:
        ctx.wait_for(store.put("b", "k", "1", uid="new"), PATIENCE)
        ctx.wait_for(store.delete("b", "k", uid="old"), PATIENCE)
        assert ctx.wait_for(store.get("b", "k"), PATIENCE).uid == "new"
        ctx.wait_for(store.delete("b", "k", uid="new"), PATIENCE)
        assert ctx.wait_for(store.list(), PATIENCE) == []


def test_callbacks(ctx):
    got = Collector()
    with Store(ctx, memory=True) as store:
        store.put("b", "k", "1").add_done_callback(lambda p: (gc.collect(), got(p.exception())))
        store.get("b", "k").add_done_callback(lambda p: got(p.result().value))
        store.get("b", "x").add_done_callback(lambda p: got(type(p.exception())))
        got.until(ctx, has(3))
    assert got == [None, b"1", NotFound]


def test_a_thread_may_wait(threaded):
    with Store(threaded, memory=True) as store:
        store.put("b", "k", "1").result(PATIENCE)
        assert store.get("b", "k").result(PATIENCE).value == b"1"
        with pytest.raises(StateError):  # but not the one that drives it
            threaded.call(lambda: store.get("b", "k").result())


def test_closed_from_its_own_callback(ctx):
    got = Collector()
    store = Store(ctx, memory=True)
    store.put("b", "k", "1").add_done_callback(lambda p: ctx._core.user(store.close) and got(1))
    got.until(ctx, has(1))
    ctx.call(lambda: None)
    with pytest.raises(StateError, match="Store is closed"):
        store.get("b", "k")


def test_close_finishes_what_is_committed(ctx, tmp_path):
    store = Store(ctx, tmp_path / "store")
    pending = [store.put("b", str(i), "1") for i in range(20)]
    store.close()
    for p in pending:
        assert p.done()
    with Store(ctx, tmp_path / "store") as store:
        assert len(ctx.wait_for(store.list("b"), PATIENCE)) == 20


def test_context_closes_it(tmp_path):
    with Context() as ctx:
        store = Store(ctx, tmp_path / "store")
        pending = store.put("b", "k", "1")
    assert store.closed and pending.result() is None


def test_open_errors(ctx, tmp_path):
    with pytest.raises(ValueError):
        Store(ctx)
    with pytest.raises(NotFound):
        Store(ctx, tmp_path / "no" / "parent")
    with pytest.raises(ValueError):
        Store(ctx, memory=True, max_bytes=1)
    with pytest.raises(ValueError):
        Store(ctx, "a\0b")
    with Store(ctx, tmp_path / "store"):
        with Context() as other:
            with pytest.raises(kubeedge.Busy):
                Store(other, tmp_path / "store")


def test_argument_errors(ctx):
    with Store(ctx, memory=True) as store:
        with pytest.raises(ValueError):
            store.get("", "k")
        with pytest.raises(ValueError):
            store.put("b", "", "1")
        with pytest.raises(ValueError):
            store.get("b", "a\0b")
        with pytest.raises(LimitExceeded):
            store.get("b", "k" * 100_000)


def test_salvage_is_told(ctx, tmp_path):
    folder, got = tmp_path / "store", Collector()
    with Store(ctx, folder) as store:
        with store.transaction() as tx:
            for i in range(200):
                tx.put("b", f"k{i:04}", b"v" * 500)
        ctx.wait_for(tx.done, PATIENCE)
    size = (folder / "kubeedge.db").stat().st_size
    with open(folder / "kubeedge.db", "r+b") as f:
        f.seek(size // 8192 * 4096)
        f.write(b"\xa5" * 4096)  # a page in the middle
    with Store(ctx, folder, first=["b"], salvaged=lambda *a: got(a)) as store:
        whole = ctx.wait_for(store.list("b"), PATIENCE)
        got.until(ctx, has(1))
        saved, lost, text = got[0]
        assert 0 < len(whole) <= saved < 200
        assert (lost is None or lost > 0) and text


def test_asyncio(tmp_path):
    async def main():
        async with Context() as ctx:
            store = Store(ctx, tmp_path / "store")
            await asyncio.gather(*(store.put("b", str(i), "1") for i in range(10)))
            assert len(await store.list("b")) == 10
            with pytest.raises(NotFound):
                await store.get("b", "x")

    asyncio.run(main())


def test_dropped_store_is_closed(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Context() as ctx:
            store = Store(ctx, tmp_path / "store")
            store.put("b", "k", "1")
            del store
            gc.collect()
            ctx.dispatch()
            with Store(ctx, tmp_path / "store") as store:  # it is free again, and what was committed is there
                assert ctx.wait_for(store.get("b", "k"), PATIENCE).value == b"1"
    assert [w.category for w in caught] == [ResourceWarning]
