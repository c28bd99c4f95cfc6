# SPDX-License-Identifier: Apache-2.0
"""The metadata store: durable values by bucket and key."""
from __future__ import annotations

from ctypes import byref, cast, sizeof
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Tuple, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, Path, Pending, State, cpath, cstr, cstrings, drop, held, hold, pybytes, pystr
from .context import Context
from .errors import StateError, error

Value = Union[bytes, bytearray, memoryview, str]


class Item(NamedTuple):
    bucket: str
    key: str
    uid: str
    version: int
    value: bytes


# salvaged(saved, lost, text): a damaged file was rebuilt; lost is None when it is not known
SalvagedFn = Callable[[int, Optional[int], str], object]

_UNKNOWN = 0xFFFF_FFFF_FFFF_FFFF


def _item(p: Any) -> Item:
    i = p.contents
    return Item(pystr(i.bucket), pystr(i.key), pystr(i.uid), i.version, pybytes(i.value, i.len))


def _text(core: Core, status: int) -> str:
    return pystr(ffi.ke_ctx_error(core.ptr)) if status != c.KE_ECANCELED else "the store was closed"


@s.callback(s.StoreItemFn)
def _on_get(user: Optional[int], status: int, item: Any) -> None:
    entry = held(user)
    if entry is None:
        return
    state, pending = entry
    state.unpend(user)
    if status < 0:
        pending.give_up(error(status, _text(state.core, status)))
    else:
        pending.finish(_item(item))


@s.callback(s.StoreItemFn)
def _on_list(user: Optional[int], status: int, item: Any) -> None:
    entry = held(user)
    if entry is None:
        return
    state, pending, items = entry
    if item:
        items.append(_item(item))
        return
    state.unpend(user)
    if status < 0:
        pending.give_up(error(status, _text(state.core, status)))
    else:
        pending.finish(items)


@s.callback(s.StoreDoneFn)
def on_done(user: Optional[int], status: int) -> None:
    """The end of a transaction, or of putting a message into an outbox."""
    entry = held(user)
    if entry is None:
        return
    state, pending = entry
    state.unpend(user)
    pending.end(status, None)


@s.callback(s.SalvagedFn)
def _on_salvaged(user: Optional[int], saved: int, lost: int, text: Optional[bytes]) -> None:
    entry = held(user)
    if entry is None:
        return
    core, fn = entry
    core.user(fn, saved, None if lost == _UNKNOWN else lost, pystr(text))


class Transaction:
    """Changes that are written together or not at all. It collects them; commit() hands them over.

    As a with statement it commits at the end and drops everything when the block raises; done is then what
    commit() returned.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._steps: List[Tuple[Any, Tuple[Any, ...]]] = []
        self._over = False
        self.done: Optional[Pending[None]] = None

    def _add(self, function: Any, *args: Any) -> None:
        if self._over:
            raise StateError(c.KE_ESTATE, "this transaction was committed or aborted already")
        self._steps.append((function, args))

    def put(self, bucket: str, key: str, value: Value, *, uid: str = "", version: int = 0) -> None:
        """Replaces the value under bucket and key."""
        data = value.encode("utf-8") if isinstance(value, str) else bytes(value)
        self._add(ffi.ke_store_put, cstr(bucket), cstr(key), cstr(uid), version, data, len(data))

    def delete(self, bucket: str, key: str, *, uid: str = "") -> None:
        """Deletes one; with uid only that one. A missing one is no error."""
        self._add(ffi.ke_store_delete, cstr(bucket), cstr(key), cstr(uid))

    def delete_prefix(self, bucket: str, prefix: str) -> None:
        """Deletes all whose key starts with prefix."""
        self._add(ffi.ke_store_delete_prefix, cstr(bucket), cstr(prefix))

    def commit(self) -> Pending[None]:
        """Done when it is durable. Raises when a change is refused; then nothing is written."""
        if self._over:
            raise StateError(c.KE_ESTATE, "this transaction was committed or aborted already")
        self._over = True
        self.done = self._store._commit(self._steps)
        return self.done

    def abort(self) -> None:
        self._over = True
        self._steps.clear()

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: object, e: object, tb: object) -> None:
        if kind is not None:
            self.abort()
        elif not self._over:
            self.commit()


class Store(Handle):
    """Durable values by bucket and key, in a folder of its own. Usable by itself. Results are Pending: await
    them, wait for them, or give them a callback."""

    def __init__(
        self,
        context: Context,
        folder: Optional[Path] = None,
        *,
        memory: bool = False,
        cache_kib: int = 0,
        max_bytes: int = 0,
        max_value: int = 0,
        first: Iterable[str] = (),
        salvaged: Optional[SalvagedFn] = None,
    ) -> None:
        """Opens it, which blocks. memory: nothing on disk. Bounds of 0: the default. first: buckets that are
        checked first after an unclean stop."""
        core = context._core

        def make() -> State:
            config = s.StoreConfig()
            ffi.ke_store_config_init(byref(config), sizeof(config))
            config.folder = cpath(folder)
            config.flags = c.KE_STORE_MEMORY if memory else 0
            config.cache_kib = cache_kib or config.cache_kib
            config.max_bytes = max_bytes or config.max_bytes
            config.max_value = max_value or config.max_value
            names = cstrings(first)
            config.first = cast(names, type(config.first))
            key = 0
            if salvaged is not None:
                key = hold((core, salvaged))
                config.salvaged = _on_salvaged
                config.user = key
            ptr = s.Store()
            try:
                core.check(ffi.ke_store_open(byref(ptr), core.pointer(), byref(config)))
            except BaseException:
                drop(key)
                raise
            # C forbids closing from its own callbacks only; which those are Python does not know.
            return State(core, "Store", ptr, ffi.ke_store_close, [key], defer=True)

        super().__init__(context, core.call(make))

    def get(self, bucket: str, key: str) -> Pending[Item]:
        """One value; NotFound."""

        def begin() -> Pending[Item]:
            pending: Pending[Item] = Pending(self._core)
            user = self._state.pend(pending)
            try:
                r = ffi.ke_store_get(self._state.pointer(), cstr(bucket), cstr(key), _on_get, user)
                self._core.check(r)
            except BaseException:
                self._state.unpend(user)
                raise
            return pending

        return self._core.call(begin)

    def list(self, bucket: Optional[str] = None, prefix: str = "", *, limit: int = 0) -> Pending[List[Item]]:
        """The items whose key starts with prefix, in order; of all buckets when none is given."""

        def begin() -> Pending[List[Item]]:
            pending: Pending[List[Item]] = Pending(self._core)
            items: List[Item] = []
            user = self._state.pend(pending, (self._state, pending, items))
            try:
                r = ffi.ke_store_list(self._state.pointer(), cstr(bucket), cstr(prefix), limit, _on_list, user)
                self._core.check(r)
            except BaseException:
                self._state.unpend(user)
                raise
            return pending

        return self._core.call(begin)

    def transaction(self) -> Transaction:
        return Transaction(self)

    def put(self, bucket: str, key: str, value: Value, *, uid: str = "", version: int = 0) -> Pending[None]:
        """A transaction of one put."""
        tx = self.transaction()
        tx.put(bucket, key, value, uid=uid, version=version)
        return tx.commit()

    def delete(self, bucket: str, key: str, *, uid: str = "") -> Pending[None]:
        """A transaction of one delete."""
        tx = self.transaction()
        tx.delete(bucket, key, uid=uid)
        return tx.commit()

    def _commit(self, steps: List[Tuple[Any, Tuple[Any, ...]]]) -> Pending[None]:
        def begin() -> Pending[None]:
            tx = s.StoreTx()
            self._core.check(ffi.ke_store_begin(byref(tx), self._state.pointer()))
            try:
                for function, args in steps:
                    self._core.check(function(tx, *args))
            except BaseException:
                ffi.ke_store_abort(tx)
                raise
            pending: Pending[None] = Pending(self._core)
            user = self._state.pend(pending)
            r = ffi.ke_store_commit(tx, on_done, user)  # tx is gone, whatever it returns
            if r < 0:
                self._state.unpend(user)
            self._core.check(r)
            return pending

        return self._core.call(begin)
