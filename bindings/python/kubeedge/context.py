# SPDX-License-Identifier: Apache-2.0
"""The context: who drives the loop, and where callbacks run. See Context."""
from __future__ import annotations

import asyncio
import logging
import time
import weakref
from types import TracebackType
from typing import Callable, Optional, Type, TypeVar, Union

from . import _const as c
from . import _ffi as ffi
from ._core import Core, Pending, lost_context
from .errors import TimedOut

T = TypeVar("T")
LogFn = Callable[[int, str, str], None]

_LEVELS = {
    c.KE_LOG_ERROR: logging.ERROR,
    c.KE_LOG_WARN: logging.WARNING,
    c.KE_LOG_INFO: logging.INFO,
    c.KE_LOG_DEBUG: logging.DEBUG,
}


def _to_logger(logger: logging.Logger) -> LogFn:
    def log(level: int, area: str, text: str) -> None:
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s: %s", area, text)

    return log


class Context:
    """Owner of everything else; two contexts share nothing. There are two ways to drive one:

    thread=False: the thread that made it drives it, by run(), by dispatch() whenever fileno() is readable, or by
    an asyncio loop (kubeedge.aio, or `async with Context()`). All calls come from that thread, those that say
    "any thread" excepted; others raise WrongThread.

    thread=True: it has a Python thread of its own until close(). Any method of any handle may be called from any
    thread: what C wants on the loop's thread is carried there and waited for. Do not hold a lock meanwhile that a
    callback takes.

    Callbacks run on the loop's thread in both cases and must not block. One that raises does not stop the loop:
    the exception is kept, C is told KE_ECALLBACK where it asks, and dispatch(), run(), wait_for() or close()
    raises it. close() also closes what was made from the context.
    """

    def __init__(
        self,
        *,
        thread: bool = False,
        log: Union[LogFn, logging.Logger, None] = None,
        log_level: int = c.KE_LOG_INFO,
        thread_name: str = "kubeedge",
    ) -> None:
        """log is a logging.Logger, or called as log(level, area, text) on any of the context's threads, where
        it must not call back into the library."""
        fn = _to_logger(log) if isinstance(log, logging.Logger) else log
        self._core = Core(fn, log_level, thread_name)
        self._asyncio: Optional[asyncio.AbstractEventLoop] = None
        self._finalizer = weakref.finalize(self, lost_context, self._core)
        self._finalizer.atexit = False
        if thread:
            self._core.start_thread(thread_name)

    # -- the loop --

    @property
    def threaded(self) -> bool:
        return self._core.thread is not None

    @property
    def closed(self) -> bool:
        return self._core.ptr is None

    def fileno(self) -> int:
        """The descriptor that is readable when dispatch() has something to do. Gives the loop to the caller's
        thread, which is any one while no other is inside. Not for a context with a thread of its own."""
        if self._core.thread is not None or self._core.in_turn:
            self._core._may_drive()
        return self._core.take_loop()

    def dispatch(self) -> None:
        """One turn; never blocks. Raises what a callback raised."""
        self._core.dispatch()

    def prepare(self) -> int:
        """Milliseconds until there is something to dispatch by itself; -1: nothing."""
        return self._core.prepare()

    def wait(self, timeout_ms: int = -1) -> None:
        """Waits until there is something to dispatch, or a signal came."""
        self._core.wait(timeout_ms)

    def run(self) -> None:
        """Until stop(), or a callback raises, which is raised here. A context with a thread of its own is only
        waited for; a host's is driven."""
        core = self._core
        core.pointer()
        if core.thread is not None:
            with core.changed:
                core.changed.wait_for(lambda: core.stopped or bool(core.failures) or core.ptr is None)
                core.stopped = False
            core.raise_failure()
            return
        core.raise_failure()
        while not core.stopped:
            core.wait(-1)
            core.dispatch()
        core.stopped = False

    def stop(self) -> None:
        """Ends run(), or the next one at once. Any thread, signal handlers too."""
        self._core.stop()

    def wait_for(self, pending: Pending[T], timeout: Optional[float] = None) -> T:
        """The result of pending, driving the loop meanwhile if that is the caller's part. TimedOut after timeout
        seconds; pending goes on then. Raises what a callback raised meanwhile."""
        core = self._core
        end = None if timeout is None else time.monotonic() + timeout
        if core.thread is not None and not core.on_loop():
            return self._wait_threaded(pending, end)
        while not pending.done():
            left = -1 if end is None else int((end - time.monotonic()) * 1000)
            if end is not None and left < 0:
                raise TimedOut(c.KE_ETIMEDOUT, f"not done within {timeout} s")
            core.wait(left)
            core.dispatch()
        return pending.result()

    def _wait_threaded(self, pending: Pending[T], end: Optional[float]) -> T:
        core = self._core

        def wake(_: object) -> None:
            with core.lock:
                core.changed.notify_all()

        pending.add_done_callback(wake)
        with core.changed:
            core.changed.wait_for(
                lambda: pending.done() or bool(core.failures), None if end is None else end - time.monotonic()
            )
        core.raise_failure()
        if not pending.done():
            raise TimedOut(c.KE_ETIMEDOUT, "not done in time")
        return pending.result()

    def post(self, fn: Callable[[], None]) -> None:
        """Runs fn() on the loop's thread in a later turn, in order of the calls. Any thread."""
        self._core.post(fn)

    def call(self, fn: Callable[[], T]) -> T:
        """fn() on the loop's thread: here if this is it, else over there, waited for."""
        return self._core.call(fn)

    # -- time; any thread --

    def mono_ms(self) -> int:
        return int(ffi.ke_ctx_mono_ms(self._core.pointer()))

    def real_ms(self) -> int:
        """Unix time in ms, never below the library's floor."""
        return int(ffi.ke_ctx_real_ms(self._core.pointer()))

    # -- the end --

    def close(self) -> None:
        """Closes all that was made from it, ends its threads, frees it. Not from a callback. Raises what a
        callback raised and nobody was told of."""
        self._close()
        self._core.raise_failure()

    def _close(self) -> None:
        if self._core.ptr is not None:
            self._core.may_close()
            self._detach()
            self._core.shutdown()
            if self._core.thread is not None:
                self._core.thread.join()
        self._finalizer.detach()

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        self._close()
        if kind is None:
            self._core.raise_failure()
        self._core.report_failures()

    # -- asyncio --

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self.fileno(), self._on_readable, loop)
        self._asyncio = loop
        loop.call_soon(self._on_readable, loop)  # what was begun before is due now

    def _detach(self) -> None:
        loop, self._asyncio = self._asyncio, None
        if loop is not None and not loop.is_closed() and self._core.ptr is not None:
            loop.remove_reader(self._core.take_loop())

    def _on_readable(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._asyncio is not loop or self._core.ptr is None:
            return
        try:
            self._core.dispatch()
        except Exception as e:
            loop.call_exception_handler(
                {"message": "a callback of libkubeedge raised", "exception": e, "kubeedge_context": self}
            )
            if self._core.failures:
                loop.call_soon(self._on_readable, loop)

    async def aclose(self) -> None:
        """close() that does not hold the asyncio loop while a thread of the context's own ends."""
        if self.threaded:
            await asyncio.get_running_loop().run_in_executor(None, self.close)
        else:
            self.close()

    async def __aenter__(self) -> Context:
        if not self.threaded and self._asyncio is None:
            self._attach(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        if kind is None:
            await self.aclose()
        else:
            self.__exit__(kind, e, tb)
