# SPDX-License-Identifier: Apache-2.0
"""Who drives, where callbacks run, what becomes of exceptions, and how it all ends."""
import asyncio
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import warnings

import pytest

import kubeedge
from kubeedge import Context, KubeEdgeError, Message, Pending, Router, StateError, WrongThread, _core, _lib, aio
from support import PATIENCE, Collector, has


class Oops(Exception):
    pass


def oops(*_):
    raise Oops("raised in a callback")


# ---- driving ----


def test_post_runs_in_order_in_a_later_turn(ctx):
    got = Collector()

    def post_all():
        for i in range(3):
            ctx.post(lambda i=i: got(i))
        assert not got

    ctx.call(post_all)
    got.until(ctx, has(3))
    assert got == [0, 1, 2]


def test_callbacks_run_on_the_loops_thread(ctx):
    got = Collector()
    ctx.post(lambda: got(threading.current_thread()))
    got.until(ctx, has(1))
    assert (got[0] is threading.current_thread()) is not ctx.threaded
    if ctx.threaded:
        assert got[0].name == "kubeedge"


def test_fd_and_dispatch(host):
    got = Collector()
    poll = select.poll()
    poll.register(host.fileno(), select.POLLIN)
    host.dispatch()
    assert poll.poll(0) == []
    assert host.prepare() == -1
    host.post(lambda: got(1))
    assert host.prepare() == 0
    assert poll.poll(PATIENCE * 1000)
    host.dispatch()
    assert got == [1]


def test_run_until_stop(host):
    got = Collector()
    host.post(lambda: (got(1), host.post(lambda: (got(2), host.stop()))))
    host.run()
    assert got == [1, 2]
    host.stop()  # a stop that came before ends it at once
    host.run()
    host.post(lambda: (got(3), host.stop()))  # and that one only
    host.run()
    assert got == [1, 2, 3]


def test_run_waits_beside_a_thread_until_stop(threaded):
    got = Collector()
    for i in range(2):
        threaded.post(lambda: (got(i), threaded.stop()))
        threaded.run()
        assert got == list(range(i + 1))


def test_run_from_another_thread(host):
    """fileno() takes the loop over; the maker's thread has it back the same way."""
    got = Collector()

    def other():
        host.fileno()
        host.post(lambda: (got(threading.get_ident()), host.stop()))
        host.run()

    t = threading.Thread(target=other)
    t.start()
    t.join()
    assert got == [t.ident] or len(got) == 1
    with pytest.raises(WrongThread):
        host.dispatch()
    host.fileno()
    host.dispatch()


def test_wrong_thread_is_refused(host):
    caught = []

    def other():
        for call in (lambda: host.call(int), lambda: Router(host), host.dispatch, host.close):
            try:
                call()
            except WrongThread as e:
                caught.append(e.name)

    t = threading.Thread(target=other)
    t.start()
    t.join()
    assert caught == ["KE_ETHREAD"] * 4


def test_a_thread_of_its_own_is_not_driven(threaded):
    for call in (threaded.fileno, threaded.dispatch, threaded.prepare, threaded.wait):
        with pytest.raises(StateError):
            call()


def test_no_driving_from_a_callback(host):
    got = Collector()

    def inner():
        for call in (host.dispatch, host.wait, host.fileno, host.close):
            with pytest.raises(StateError):
                call()
        got(1)

    host.post(inner)
    host.dispatch()
    assert got == [1]


def test_call_carries_results_and_exceptions(threaded):
    assert threaded.call(threading.get_ident) != threading.get_ident()
    with pytest.raises(Oops):
        threaded.call(oops)
    assert threaded.call(lambda: threaded.call(lambda: 7)) == 7


def test_signals_reach_python_while_it_runs(host):
    got = Collector()
    old = signal.signal(signal.SIGUSR1, lambda *_: (got(1), host.stop()))
    try:
        host.post(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        host.run()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert got == [1]


def test_signals_end_the_wait_for_a_thread(threaded):
    got = Collector()
    old = signal.signal(signal.SIGUSR1, lambda *_: (got(1), threaded.stop()))
    try:
        threaded.post(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        threaded.run()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert got == [1]


def test_time(ctx):
    a = ctx.mono_ms()
    assert ctx.mono_ms() >= a
    assert ctx.real_ms() > 1_700_000_000_000


# ---- exceptions ----


def test_exception_comes_out_of_run(ctx):
    got = Collector()
    ctx.post(oops)
    ctx.post(lambda: got(1))  # the loop goes on
    with pytest.raises(Oops):
        ctx.run()
    got.until(ctx, has(1))


def test_exception_comes_out_of_wait_for(ctx):
    never = Pending(ctx._core)
    ctx.post(oops)
    with pytest.raises(Oops):
        ctx.wait_for(never, PATIENCE)


def test_no_exception_is_lost(host):
    host.post(oops)
    host.post(oops)
    for _ in range(2):
        with pytest.raises(Oops):
            host.dispatch()
    host.dispatch()


def test_exception_comes_out_of_close():
    for thread in (False, True):
        ctx = Context(thread=thread)
        ctx.post(oops)
        with pytest.raises(Oops):
            ctx.close()
        assert ctx.closed


def test_exception_of_the_block_wins(caplog):
    with pytest.raises(ZeroDivisionError):
        with Context() as ctx:
            ctx.post(oops)
            1 / 0
    assert "raised in a callback" in caplog.text


def test_exception_of_a_done_callback(host):
    done = Pending(host._core)
    done.add_done_callback(oops)
    host.post(lambda: done.finish(None))
    with pytest.raises(Oops):
        host.dispatch()


def test_keyboard_interrupt_in_a_callback(host):
    def interrupt():
        raise KeyboardInterrupt

    host.post(interrupt)
    with pytest.raises(KeyboardInterrupt):
        host.run()


# ---- what is under way ----


def test_pending_does_not_wait_for_itself(host):
    pending = Pending(host._core)
    with pytest.raises(StateError):
        pending.result(1)
    assert not pending.cancel()


def test_wait_for_times_out(ctx):
    with pytest.raises(TimeoutError):
        ctx.wait_for(Pending(ctx._core), 0.01)


# ---- the log ----


def failing_tunnel(ctx, folder, port):
    """Something that logs: the port is taken and nobody listens there."""
    tunnel = kubeedge.Tunnel(
        ctx, node_name="edge-1", host="127.0.0.1", folder=folder, cert_port=port, token="ab" * 32 + ".e30.e30.e30"
    )
    tunnel.start()
    return tunnel


def test_log_lines(tmp_path, refused_port):
    got = Collector()
    with Context(log=got, log_level=4) as ctx:
        with failing_tunnel(ctx, tmp_path, refused_port):
            got.until(ctx, has(1))
    level, area, text = got[0]
    assert (level, area) == (2, "tunnel") and text and "\n" not in text


def test_log_level(tmp_path, refused_port):
    got, states = Collector(), Collector()
    with Context(log=got, log_level=1) as ctx:
        with kubeedge.Tunnel(
            ctx,
            node_name="edge-1",
            host="127.0.0.1",
            folder=tmp_path,
            cert_port=refused_port,
            token="ab" * 32 + ".e30.e30.e30",
            state=states,
        ) as tunnel:
            tunnel.start()
            states.until(ctx, lambda s: s and s[-1].last_error < 0)
    assert got == []


def test_log_to_a_logger(tmp_path, refused_port, caplog):
    caplog.set_level(logging.DEBUG, "test.kubeedge")
    got = Collector()

    class Seen(logging.Handler):
        def emit(self, record):
            got(record)

    log = logging.getLogger("test.kubeedge")
    handler = Seen()
    log.addHandler(handler)
    try:
        with Context(thread=True, log=log, log_level=4) as ctx:
            with failing_tunnel(ctx, tmp_path, refused_port):
                got.until(ctx, has(1))
    finally:
        log.removeHandler(handler)
    assert got[0].levelno == logging.WARNING and got[0].getMessage().startswith("tunnel: ")


def test_exception_of_the_log(tmp_path, refused_port):
    with Context(log=oops, log_level=4) as ctx:
        with failing_tunnel(ctx, tmp_path, refused_port):
            with pytest.raises(Oops):
                ctx.run()


# ---- ends ----


def test_close_is_idempotent_and_final():
    for thread in (False, True):
        ctx = Context(thread=thread)
        ctx.close()
        ctx.close()
        for call in (lambda: ctx.post(int), lambda: Router(ctx), lambda: Message(ctx), ctx.mono_ms, ctx.run):
            with pytest.raises(StateError):
                call()


def test_close_from_its_own_thread_is_refused(threaded):
    with pytest.raises(StateError):
        threaded.call(threaded.close)
    assert not threaded.closed


def test_close_runs_what_was_posted():
    for thread in (False, True):
        got = Collector()
        ctx = Context(thread=thread)
        ctx.post(lambda: got(1))
        ctx.close()
        assert got == [1]


def test_close_wakes_who_waits_in_run():
    ctx = Context(thread=True)
    ended = []

    def run():
        try:
            ctx.run()
        except StateError:
            pass  # it was closed before this began
        ended.append(True)

    t = threading.Thread(target=run)
    t.start()
    ctx.close()
    t.join(PATIENCE)
    assert ended


def test_two_threads_close():
    for _ in range(20):
        ctx = Context(thread=True)
        router = Router(ctx)
        threads = [threading.Thread(target=ctx.close) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert ctx.closed and router.closed


def test_calls_race_with_close():
    """Every caller gets an answer: a result, or that it is closed."""
    for _ in range(10):
        ctx = Context(thread=True)
        ended = []

        def hammer():
            try:
                while True:
                    ctx.call(lambda: None)
            except StateError:
                ended.append(True)

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for t in threads:
            t.start()
        ctx.call(lambda: None)
        ctx.close()
        for t in threads:
            t.join(PATIENCE)
        assert len(ended) == 3


def test_a_handle_keeps_its_context_alive(host):
    router = Router(Context())
    gc.collect()
    assert not router.context.closed
    router.context.close()
    assert router.closed


@pytest.mark.parametrize("thread", [False, True])
def test_dropped_context_is_freed_with_a_warning(thread):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ctx = Context(thread=thread)
        core = ctx._core
        Router(ctx).close()
        del ctx
        gc.collect()
        with core.changed:
            assert core.changed.wait_for(lambda: core.ptr is None, PATIENCE)
        if core.thread:
            core.thread.join()
    assert [w.category for w in caught] == [ResourceWarning]
    while core in _core._cores:  # discarded right after the wait above was woken
        os.sched_yield()


@pytest.mark.parametrize("thread", [False, True])
def test_dropped_handle_is_freed_with_a_warning(thread):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Context(thread=thread) as ctx:
            state = Router(ctx)._state
            gc.collect()
            if thread:
                ctx.call(lambda: None)
            else:
                ctx.dispatch()
            assert state.ptr is None
    assert [w.category for w in caught] == [ResourceWarning]


def test_exit_without_close():
    """The interpreter ends with a live thread, callbacks and all, and exits as it should."""
    code = (
        "import kubeedge, sys, threading\n"
        "ctx = kubeedge.Context(thread=True)\n"
        "r = kubeedge.Router(ctx)\n"
        "m = r.add('m', lambda m: r.send('m', m))\n"
        "r.send('m', kubeedge.Message(ctx, operation='x'))\n"
        "other = kubeedge.Context()\n"
        "s = kubeedge.Store(other, memory=True)\n"
        "sys.exit(3)\n"
    )
    package = os.path.dirname(os.path.dirname(kubeedge.__file__))
    r = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert r.returncode == 3, r.stderr
    assert "Traceback" not in r.stderr, r.stderr


# ---- asyncio ----


def test_asyncio_drives_it():
    async def main():
        async with Context() as ctx:
            got = asyncio.get_running_loop().create_future()
            ctx.post(lambda: got.set_result(threading.get_ident()))
            assert await asyncio.wait_for(got, PATIENCE) == threading.get_ident()
            pending = Pending(ctx._core)
            ctx.post(lambda: pending.finish(5))
            assert await pending == 5

    asyncio.run(main())


def test_asyncio_beside_a_thread():
    async def main():
        async with Context(thread=True) as ctx:
            pending = Pending(ctx._core)
            ctx.post(lambda: pending.finish(5))
            assert await asyncio.wait_for(pending, PATIENCE) == 5

    asyncio.run(main())


def test_asyncio_hears_of_exceptions():
    async def main():
        told = []
        both = asyncio.Event()

        def handler(loop, info):
            told.append(info["exception"])
            if len(told) == 2:
                both.set()

        asyncio.get_running_loop().set_exception_handler(handler)
        ctx = Context()
        aio.attach(ctx)
        with pytest.raises(StateError):
            aio.attach(ctx)
        ctx.post(oops)
        ctx.post(oops)
        await asyncio.wait_for(both.wait(), PATIENCE)
        assert all(isinstance(e, Oops) for e in told)
        await ctx.aclose()

    asyncio.run(main())


def test_asyncio_close_in_a_callback_is_refused():
    async def main():
        async with Context() as ctx:
            told = asyncio.get_running_loop().create_future()

            def inner():
                try:
                    ctx.close()
                except StateError as e:
                    told.set_result(e)

            ctx.post(inner)
            await asyncio.wait_for(told, PATIENCE)
            pending = Pending(ctx._core)  # it is still attached
            ctx.post(lambda: pending.finish(1))
            assert await asyncio.wait_for(pending, PATIENCE) == 1

    asyncio.run(main())


# ---- the library and errors ----


def test_library_is_the_named_one():
    assert kubeedge.library_version >= (0, 1, 0)
    assert kubeedge._ffi.LIBRARY._name == os.environ["KUBEEDGE_LIB"]


def test_import_error_tells_what_was_tried(monkeypatch):
    monkeypatch.setenv("KUBEEDGE_LIB", "/nonexistent/libkubeedge.so.0")
    with pytest.raises(ImportError, match="/nonexistent/libkubeedge.so.0.*KUBEEDGE_LIB"):
        _lib.load()


def test_import_error_of_a_stranger(monkeypatch):
    monkeypatch.setenv("KUBEEDGE_LIB", "libc.so.6")
    with pytest.raises(ImportError, match="is not libkubeedge"):
        _lib.load()


@pytest.mark.parametrize("low, high", [((0, 2, 0), (1, 0, 0)), ((0, 0, 1), (0, 1, 0))])
def test_import_error_of_a_version(monkeypatch, low, high):
    monkeypatch.setattr(_lib, "OLDEST", low)
    monkeypatch.setattr(_lib, "TOO_NEW", high)
    with pytest.raises(ImportError, match="is version 0.1.0; this package works with"):
        _lib.load()


def test_without_a_name_the_system_is_asked(monkeypatch):
    monkeypatch.delenv("KUBEEDGE_LIB")
    assert _lib._candidates()[-1] == "libkubeedge.so.0"


@pytest.mark.parametrize(
    "code, kinds",
    [
        ("KE_EINVAL", (kubeedge.InvalidArgument, ValueError)),
        ("KE_ETIMEDOUT", (kubeedge.TimedOut, TimeoutError)),
        ("KE_ECONN", (kubeedge.NetworkError, ConnectionError)),
        ("KE_EADDRINUSE", (kubeedge.AddressInUse, OSError)),
        ("KE_EACCES", (kubeedge.AccessDenied, PermissionError)),
        ("KE_ETOKEN", (kubeedge.IdentityError, PermissionError)),
        ("KE_ENOTFOUND", (kubeedge.NotFound, LookupError)),
        ("KE_ENOMEM", (kubeedge.OutOfMemory, MemoryError)),
        ("KE_ECORRUPT", (kubeedge.StoreError,)),
    ],
)
def test_errors_are_what_one_catches(code, kinds):
    import pickle

    number = getattr(kubeedge._const, code)
    e = kubeedge.errors.error(number, "what and why")
    for kind in (*kinds, KubeEdgeError):
        assert isinstance(e, kind)
    assert (e.code, e.name, str(e)) == (number, code, f"what and why ({code})")
    again = pickle.loads(pickle.dumps(e))
    assert type(again) is type(e) and again.code == number and again.text == e.text


def test_every_code_has_a_class_of_its_own():
    plain = [
        name
        for code, name in kubeedge._const.ERROR_NAMES.items()
        if code < 0 and type(kubeedge.errors.error(code)) is KubeEdgeError
    ]
    assert plain == ["KE_EABI", "KE_ECALLBACK"]
