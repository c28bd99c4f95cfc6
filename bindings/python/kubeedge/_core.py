# SPDX-License-Identifier: Apache-2.0
"""Inside of the binding: live objects, the context's core, the base of all handles.

C is given integers as user pointers, keys of _live. So a late call finds nothing instead of freed memory, and
nothing in C keeps a Python object alive after C has let go of it: an entry is removed when C has confirmed that
it will not call again, which for a handle freed inside a turn of the loop is after the next one.

A handle (Node, Store, ...) is split in two: the object the user holds, and its State, which the core holds.
When the user drops a handle without closing it, the State is freed on the loop's thread, with a ResourceWarning.
"""
from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import enum
import itertools
import logging
import os
import threading
import warnings
import weakref
from _thread import start_new_thread
from collections import deque
from ctypes import byref, c_char_p, c_int, c_int64, sizeof, string_at
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    Dict,
    Generator,
    Iterable,
    List,
    Optional,
    Set,
    TypeVar,
    Union,
)

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from .errors import Canceled, KubeEdgeError, StateError, WrongThread, error

if TYPE_CHECKING:
    from .context import Context

T = TypeVar("T")
Path = Union[str, "os.PathLike[str]"]

logger = logging.getLogger("kubeedge")

# ---- texts ----


def cstr(text: Optional[str]) -> Optional[bytes]:
    """A str for C, or None. ValueError when C would see less than all of it."""
    if text is None:
        return None
    data = text.encode("utf-8")
    if b"\0" in data:
        raise ValueError(f"{text!r} has a NUL character")
    return data


def cpath(path: Optional[Path]) -> Optional[bytes]:
    if path is None:
        return None
    data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError(f"path {path!r} has a NUL character")
    return data


def pystr(data: Optional[bytes]) -> str:
    """A text of C; the library's are UTF-8, those of a peer or a disk may claim so only."""
    return data.decode("utf-8", "replace") if data else ""


def cstrings(texts: Iterable[str]) -> Any:
    """A char ** with a NULL at its end."""
    items = [cstr(t) for t in texts]
    return (c_char_p * (len(items) + 1))(*items, None)


def pybytes(pointer: Any, n: int) -> bytes:
    """A copy of n bytes at a pointer or an address."""
    return string_at(pointer, n) if pointer and n else b""


class OpenEnum(enum.IntEnum):
    """States of the library. One that only a newer library knows is a member as well, named UNKNOWN_n."""

    @classmethod
    def _missing_(cls, value: object) -> Optional[OpenEnum]:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


# ---- live objects ----

_live: Dict[int, Any] = {}
_keys = itertools.count(1)


def hold(record: Any) -> int:
    key = next(_keys)
    _live[key] = record
    return key


def held(key: Optional[int]) -> Any:
    return _live.get(key) if key else None


def drop(key: Optional[int]) -> Any:
    return _live.pop(key, None) if key else None


# ---- the context's core ----

_cores: Set[Core] = set()


class Core:
    """A context: its pointer, its thread, the exceptions of its callbacks. Context is what users see of it."""

    def __init__(self, log: Optional[Callable[[int, str, str], None]], log_level: int, thread_name: str) -> None:
        # Reentrant: a garbage collection inside may free a message or post.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.ptr: Optional[s.Ctx] = None
        self.loop_thread = threading.get_ident()
        self.thread: Optional[threading.Thread] = None
        self.driving = False  # the host is inside wait or dispatch
        self.in_turn = False
        self.depth = 0  # of user callbacks on the stack
        self.stopped = False
        self.ending = False  # somebody closes it
        self.abandoned = False  # nobody closed it, its thread does
        self.closing = False  # from here on, only who closes it may post
        self.sealed = False  # no more messages
        self.failures: Deque[BaseException] = deque()
        self.states: List[State] = []
        self.messages: Dict[int, s.Msg] = {}
        self.log = log
        self.log_key = 0 if log is None else hold(self)
        try:
            self._new(log_level, thread_name)
        except BaseException:
            drop(self.log_key)
            raise
        _cores.add(self)

    def _new(self, log_level: int, thread_name: str) -> None:
        config = s.CtxConfig()
        ffi.ke_ctx_config_init(byref(config), sizeof(config))
        config.thread_name = cstr(thread_name)
        if self.log is not None:
            config.log = _on_log
            config.log_user = self.log_key
            config.log_level = log_level
        ptr, err = s.Ctx(), s.Error.sized()
        r = ffi.ke_ctx_new(byref(ptr), byref(config), byref(err))
        if r < 0:
            raise error(r, pystr(err.text))
        self.ptr = ptr
        # From now on the loop is the host's, that is ours: never a thread of the library's own, on which
        # Python would see a new, nameless thread at every callback.
        self.take_loop()

    # -- threads --

    def take_loop(self) -> int:
        fd = c_int(-1)
        self.check(ffi.ke_ctx_fd(self.pointer(), byref(fd)))
        self.loop_thread = threading.get_ident()
        return fd.value

    def start_thread(self, name: str) -> None:
        ready = threading.Event()
        self.thread = threading.Thread(target=self._thread_main, args=(ready,), name=name, daemon=True)
        self.thread.start()
        ready.wait()
        self.raise_failure()

    def _thread_main(self, ready: threading.Event) -> None:
        """The context's whole life from here on, its end too: what OpenSSL keeps for each thread that used a
        context must be gone before the context is, and Python's join() returns before a thread is quite over."""
        self.in_turn = True  # as seen by all that runs on this thread
        try:
            self.take_loop()
        except BaseException as e:
            self.fail(e)
            return
        finally:
            ready.set()
        while not self.ending:
            ffi.ke_ctx_run(self.ptr)
        self._finish()
        if self.abandoned:
            self.report_failures()

    def on_loop(self) -> bool:
        return threading.get_ident() == self.loop_thread

    def call(self, fn: Callable[[], T]) -> T:
        """fn() on the loop's thread: here, or over there and waited for."""
        if self.on_loop():
            return fn()
        self.pointer()
        if self.thread is None:
            raise WrongThread(
                c.KE_ETHREAD,
                "the context is driven by another thread: call from there, post() it, or make the context with "
                "thread=True",
            )
        box: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                box.set_result(fn())
            except BaseException as e:
                box.set_exception(e)

        self.post(run)
        return box.result()

    def post(self, fn: Callable[[], None]) -> None:
        """fn() in a later turn, in order. Any thread."""
        err = s.Error.sized()
        with self.lock:
            if self.closing and not self.on_loop():
                raise StateError(c.KE_ESTATE, "the context is being closed")
            ptr = self.pointer()
            key = hold((self, fn))
            r = ffi.ke_ctx_post(ptr, _on_post, key, byref(err))
        if r < 0:
            drop(key)
            raise error(r, pystr(err.text))

    # -- failures --

    def pointer(self) -> s.Ctx:
        if self.ptr is None:
            raise StateError(c.KE_ESTATE, "the context is closed")
        return self.ptr

    def check(self, r: int) -> None:
        """Raises what a call on the loop's thread returned."""
        if r < 0:
            raise error(r, pystr(ffi.ke_ctx_error(self.ptr)) if self.ptr else "")

    def fail(self, e: BaseException) -> None:
        """Keeps an exception of a callback until somebody can be told. Any thread."""
        with self.lock:
            self.failures.append(e)
            self.changed.notify_all()

    def raise_failure(self) -> None:
        with self.lock:
            e = self.failures.popleft() if self.failures else None
        if e is not None:
            raise e

    def user(self, fn: Optional[Callable[..., object]], *args: object) -> bool:
        """Calls a function of the user's on the loop's thread. False: it raised, which is kept."""
        if fn is None:
            return True
        self.depth += 1
        try:
            fn(*args)
            return True
        except BaseException as e:
            self.fail(e)
            return False
        finally:
            self.depth -= 1

    # -- driving, by the host --

    def _may_drive(self) -> s.Ctx:
        ptr = self.pointer()
        if self.thread is not None:
            raise StateError(c.KE_ESTATE, "the context has a thread of its own, which drives it")
        if not self.on_loop():
            raise WrongThread(c.KE_ETHREAD, "another thread drives the context; fileno() takes it over")
        if self.in_turn:
            raise StateError(c.KE_ESTATE, "the loop was driven from inside one of its callbacks")
        return ptr

    def dispatch(self) -> None:
        ptr = self._may_drive()
        self.in_turn = self.driving = True
        try:
            self.check(ffi.ke_ctx_dispatch(ptr))
        finally:
            self.in_turn = self.driving = False
        self.raise_failure()

    def prepare(self) -> int:
        timeout = c_int64(-1)
        self.check(ffi.ke_ctx_prepare(self._may_drive(), byref(timeout)))
        return timeout.value

    def wait(self, timeout_ms: int) -> None:
        ptr = self._may_drive()
        self.driving = True
        try:
            # A signal ends it early, and its Python handler runs as soon as we are back.
            self.check(ffi.ke_ctx_wait(ptr, timeout_ms))
        finally:
            self.driving = False

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            self.changed.notify_all()
            # The thread of our own runs on until close(); a host that waits is woken.
            if self.ptr is not None and self.thread is None:
                ffi.ke_ctx_stop(self.ptr)

    # -- messages; any thread --

    def adopt(self, msg: s.Msg) -> int:
        """Takes over a reference; the key is for release."""
        with self.lock:
            if self.sealed or self.ptr is None:
                ffi.ke_msg_unref(msg)
                raise StateError(c.KE_ESTATE, "the context is closed")
            key = next(_keys)
            self.messages[key] = msg
            return key

    def release(self, key: int) -> None:
        with self.lock:
            msg = self.messages.pop(key, None)
            if msg is not None:
                ffi.ke_msg_unref(msg)

    # -- the end --

    def _free_states(self) -> None:
        for state in reversed(self.states[:]):
            state.free()

    def may_close(self, take: bool = False) -> None:
        if self.on_loop() and (self.thread is not None or self.in_turn):
            raise StateError(c.KE_ESTATE, "a context cannot be closed from inside one of its callbacks")
        if self.thread is None and not self.on_loop() and not take:
            raise WrongThread(c.KE_ETHREAD, "the thread that drives a context closes it; fileno() takes it over")

    def shutdown(self, take: bool = False) -> None:
        """Frees everything; it is done when this returns. take: whoever drove the loop is gone."""
        with self.lock:
            self.may_close(take)
            mine = not self.ending and self.thread is None
            self.ending = True
            if not mine:
                if self.ptr is not None:
                    ffi.ke_ctx_stop(self.ptr)
                self.changed.wait_for(lambda: self.ptr is None)
                return
        self.take_loop()
        self._finish()

    def _finish(self) -> None:
        """On the loop's thread, between turns."""
        with self.lock:
            self.closing = True
        self.in_turn = True
        try:
            self._free_states()
        except BaseException as e:
            self.fail(e)
        self._settle()
        with self.lock:
            self.sealed = True
            for key in list(self.messages):
                self.release(key)
        ffi.ke_ctx_free(self.ptr)
        drop(self.log_key)
        _cores.discard(self)
        with self.lock:
            self.ptr = None
            self.in_turn = False
            self.loop_thread = 0  # the number of an ended thread may be given to another
            self.changed.notify_all()

    def _settle(self) -> None:
        """Runs what is due, so that no message is made any more once they are let go."""
        for _ in range(64):
            timeout = c_int64(-1)
            if ffi.ke_ctx_prepare(self.ptr, byref(timeout)) < 0 or timeout.value != 0:
                break
            if ffi.ke_ctx_dispatch(self.ptr) < 0:
                break

    def report_failures(self) -> None:
        """To the log, when nobody can be told by an exception."""
        while self.failures:
            e = self.failures.popleft()
            logger.error("a callback of libkubeedge raised", exc_info=(type(e), e, e.__traceback__))

    def abandon(self) -> None:
        """The end of a context that nobody closed."""
        try:
            self.shutdown(take=True)
        except KubeEdgeError as e:
            logger.error("a context was not closed: %s", e)
        self.report_failures()


@atexit.register
def _close_all() -> None:
    """C must not call into an interpreter that ends."""
    for core in list(_cores):
        if core.driving and not core.on_loop():
            continue  # some other thread is inside of it and cannot be told
        core.abandon()


def lost_context(core: Core) -> None:
    """A Context was collected as garbage: on any thread, the context's own among them, inside of anything."""
    with core.lock:
        if core.ptr is None or core.ending:
            return
        if core.thread is not None:
            core.ending = core.abandoned = True
            ffi.ke_ctx_stop(core.ptr)
        else:
            start_new_thread(core.abandon, ())
    warnings.warn("a Context was dropped without close()", ResourceWarning, stacklevel=2)


@s.callback(s.LogFn)
def _on_log(user: Optional[int], level: int, area: Optional[bytes], text: Optional[bytes]) -> None:
    core = held(user)
    if core is None:
        return
    try:
        core.log(level, pystr(area), pystr(text))
    except BaseException as e:
        core.fail(e)


@s.callback(s.PostFn)
def _on_post(user: Optional[int]) -> None:
    entry = drop(user)
    if entry is None:
        return
    core, fn = entry
    try:
        fn()
    except BaseException as e:
        core.fail(e)


# ---- what is under way ----


class Pending(concurrent.futures.Future[T]):
    """The result of an operation that is under way. Awaitable in any asyncio loop.

    result(timeout) blocks, so not on the thread that drives the context: there, await it, give it a callback, or
    use Context.wait_for. A callback of add_done_callback runs on the thread that ends it, usually the loop's; an
    exception of it is treated like one of any other callback.
    """

    def __init__(self, core: Core, stop: Optional[Callable[[], None]] = None) -> None:
        super().__init__()
        self._core = core
        self._stop = stop

    def _may_block(self) -> None:
        if not self.done() and self._core.on_loop():
            raise StateError(
                c.KE_ESTATE,
                "the thread that drives the context would wait for itself: await this, or use Context.wait_for",
            )

    def result(self, timeout: Optional[float] = None) -> T:
        self._may_block()
        return super().result(timeout)

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        self._may_block()
        return super().exception(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        def guarded(done: Any) -> None:
            try:
                fn(done)
            except BaseException as e:
                self._core.fail(e)

        super().add_done_callback(guarded)

    def cancel(self) -> bool:
        """Only where the operation can be called back: a request. Else False, and it goes on."""
        if self._stop is None or self.done():
            return False
        stop = self._stop
        if self._core.on_loop():
            stop()
        else:
            self._core.post(stop)
        return super().cancel()

    # -- for the binding --

    def finish(self, value: T) -> None:
        try:
            self.set_result(value)
        except concurrent.futures.InvalidStateError:
            pass  # canceled meanwhile

    def give_up(self, e: BaseException) -> None:
        try:
            self.set_exception(e)
        except concurrent.futures.InvalidStateError:
            pass

    def end(self, status: int, value: T) -> None:
        """With a status that C told on the loop's thread."""
        if status == 0:
            self.finish(value)
        else:
            text = pystr(ffi.ke_ctx_error(self._core.ptr)) if status != c.KE_ECANCELED else ""
            self.give_up(error(status, text))


# ---- handles ----


class State:
    """The C side of a handle. All but the attributes' reading is for the loop's thread."""

    def __init__(
        self, core: Core, what: str, ptr: Any, free: Callable[[Any], None], keys: Iterable[int] = (), defer: bool = False
    ) -> None:
        self.core = core
        self.what = what
        self.ptr = ptr
        self._free = free
        self.keys = list(keys)
        self.on_confirmed: Optional[Callable[[], None]] = None
        self._defer = defer  # C has no free of its own for the inside of a callback
        self.dependents: List[State] = []
        self.pendings: Dict[int, Pending[Any]] = {}
        core.states.append(self)

    def pointer(self) -> Any:
        if self.ptr is None:
            raise StateError(c.KE_ESTATE, f"the {self.what} is closed")
        return self.ptr

    def pend(self, pending: Pending[Any], record: Any = None) -> int:
        """A key for C to end pending with."""
        key = hold(record if record is not None else (self, pending))
        self.pendings[key] = pending
        return key

    def unpend(self, key: Optional[int]) -> Any:
        record = drop(key)
        if record is not None and key:
            self.pendings.pop(key, None)
        return record

    def free(self) -> None:
        """Frees it, after what depends on it. Does nothing the second time."""
        if self.ptr is None:
            return
        for state in reversed(self.dependents[:]):
            state.free()
        ptr, self.ptr = self.ptr, None
        if self in self.core.states:
            self.core.states.remove(self)
        if self._defer and self.core.depth > 0:
            self.core.post(lambda: self._free_now(ptr))
        else:
            self._free_now(ptr)

    def _free_now(self, ptr: Any) -> None:
        self._free(ptr)
        if self.core.in_turn:
            try:
                self.core.post(self._confirmed)
            except KubeEdgeError:
                pass  # no memory: better a few keys too many than one too few
        else:
            self._confirmed()

    def _confirmed(self) -> None:
        """C has let go of it: no key of it will be used again."""
        for key in self.keys:
            drop(key)
        for key, pending in list(self.pendings.items()):
            drop(key)
            pending.give_up(Canceled(c.KE_ECANCELED, f"the {self.what} was closed"))
        self.pendings.clear()
        if self.on_confirmed is not None:
            self.on_confirmed()


def _lost_handle(state: State, warn: bool) -> None:
    if state.ptr is None:
        return
    try:
        state.core.post(state.free)
    except KubeEdgeError:
        pass  # its context ends, and ends it
    if warn:
        warnings.warn(f"a {state.what} was dropped without close()", ResourceWarning, stacklevel=2)


H = TypeVar("H", bound="Handle")


class Handle:
    """Base of what is made from a context. Close it, best by a with statement; it keeps its context alive."""

    _owned = False  # by another handle: dropping this one ends nothing
    _warn = True  # when it is dropped without close()

    def __init__(self, context: Context, state: State) -> None:
        self._context = context
        self._core = state.core
        self._state = state
        if not self._owned:
            self._finalizer = weakref.finalize(self, _lost_handle, state, self._warn)
            self._finalizer.atexit = False

    @property
    def context(self) -> Context:
        return self._context

    @property
    def closed(self) -> bool:
        return self._state.ptr is None

    def close(self) -> None:
        """Ends it. From a callback too; again is harmless. Otherwise it is gone when this returns."""
        if self._core.ptr is not None and self._state.ptr is not None:
            self._core.call(self._state.free)
            if not self._core.on_loop():
                self._core.call(lambda: None)  # freed within that turn: gone after the next
        if not self._owned:
            self._finalizer.detach()

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kubeedge.{type(self).__name__}{' closed' if self.closed else ''} at {id(self):#x}>"
