# SPDX-License-Identifier: Apache-2.0
"""KubeEdge's message: header, route and one JSON value."""
from __future__ import annotations

import enum
import json as _json
import weakref
from ctypes import byref, c_size_t, sizeof
from typing import Any, Optional, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, cstr, pybytes, pystr
from .context import Context
from .errors import InvalidArgument, StateError, error


class Dialect(enum.IntEnum):
    """The versions of KubeEdge whose wire form differs."""

    AUTO = c.KE_DIALECT_AUTO
    V1_4 = c.KE_DIALECT_1_4
    V1_15 = c.KE_DIALECT_1_15
    V1_23 = c.KE_DIALECT_1_23


Content = Union[str, bytes, None]


def _content(content: Content, json: Any) -> Optional[bytes]:
    if json is not None:
        if content is not None:
            raise InvalidArgument(c.KE_EINVAL, "content and json are two ways to give the same thing")
        return _json.dumps(json, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return content.encode("utf-8") if isinstance(content, str) else content


class Message:
    """A message; immutable. All of it is for any thread. Lives no longer than its context.

    content is one JSON value, kept byte for byte; json= takes a Python value instead.
    """

    __slots__ = ("_core", "_key", "_ptr", "__weakref__")

    def __init__(
        self,
        context: Context,
        *,
        operation: str = "",
        resource: str = "",
        content: Content = None,
        json: Any = None,
        source: str = "",
        group: str = "",
        destination: str = "",
        id: Optional[str] = None,
        parent_id: str = "",
        timestamp_ms: int = 0,
        resource_version: str = "",
    ) -> None:
        config = s.MsgConfig()
        ffi.ke_msg_config_init(byref(config), sizeof(config))
        config.id = cstr(id)
        config.parent_id = cstr(parent_id)
        config.timestamp_ms = timestamp_ms
        config.resource_version = cstr(resource_version)
        config.source = cstr(source)
        config.destination = cstr(destination)
        config.group = cstr(group)
        config.operation = cstr(operation)
        config.resource = cstr(resource)
        data = _content(content, json)
        config.content = data
        config.content_len = len(data) if data is not None else 0
        core, ptr, err = context._core, s.Msg(), s.Error.sized()
        r = ffi.ke_msg_new(byref(ptr), core.pointer(), byref(config), byref(err))
        if r < 0:
            raise error(r, pystr(err.text))
        self._own(core, ptr)

    def _own(self, core: Core, ptr: s.Msg) -> None:
        self._core = core
        self._key = core.adopt(ptr)
        self._ptr = ptr
        weakref.finalize(self, core.release, self._key).atexit = False

    @classmethod
    def _adopt(cls, core: Core, ptr: s.Msg) -> Message:
        """Of a reference that is ours."""
        message = cls.__new__(cls)
        message._own(core, ptr)
        return message

    @classmethod
    def _borrow(cls, core: Core, ptr: s.Msg) -> Message:
        """Of a reference that is C's."""
        return cls._adopt(core, ffi.ke_msg_ref(ptr))

    def _pointer(self) -> s.Msg:
        if self._key not in self._core.messages:
            raise StateError(c.KE_ESTATE, "the context of this message is closed")
        return self._ptr

    @classmethod
    def decode(cls, context: Context, data: Union[bytes, str]) -> Message:
        """Reads the wire form."""
        raw = data.encode("utf-8") if isinstance(data, str) else data
        core, ptr, err = context._core, s.Msg(), s.Error.sized()
        r = ffi.ke_msg_decode(byref(ptr), core.pointer(), raw, len(raw), byref(err))
        if r < 0:
            raise error(r, pystr(err.text))
        return cls._adopt(core, ptr)

    def encode(self, dialect: int = Dialect.AUTO) -> bytes:
        """The wire form, with its newline."""
        buf, err = s.Buf(), s.Error.sized()
        r = ffi.ke_msg_encode(self._pointer(), self._core.pointer(), dialect, byref(buf), byref(err))
        try:
            if r < 0:
                raise error(r, pystr(err.text))
            return pybytes(buf.p, buf.n)
        finally:
            ffi.ke_buf_free(byref(buf))

    def reply(self, content: Content = None, *, json: Any = None) -> Message:
        """A new message that answers this one: operation "response", parent_id this one's id."""
        data = _content(content, json)
        ptr, err = s.Msg(), s.Error.sized()
        n = len(data) if data is not None else 0
        r = ffi.ke_msg_new_reply(byref(ptr), self._core.pointer(), self._pointer(), data, n, byref(err))
        if r < 0:
            raise error(r, pystr(err.text))
        return Message._adopt(self._core, ptr)

    @property
    def id(self) -> str:
        return pystr(ffi.ke_msg_id(self._pointer()))

    @property
    def parent_id(self) -> str:
        return pystr(ffi.ke_msg_parent_id(self._pointer()))

    @property
    def timestamp_ms(self) -> int:
        return int(ffi.ke_msg_timestamp_ms(self._pointer()))

    @property
    def resource_version(self) -> str:
        return pystr(ffi.ke_msg_resource_version(self._pointer()))

    @property
    def source(self) -> str:
        return pystr(ffi.ke_msg_source(self._pointer()))

    @property
    def destination(self) -> str:
        return pystr(ffi.ke_msg_destination(self._pointer()))

    @property
    def group(self) -> str:
        return pystr(ffi.ke_msg_group(self._pointer()))

    @property
    def operation(self) -> str:
        return pystr(ffi.ke_msg_operation(self._pointer()))

    @property
    def resource(self) -> str:
        return pystr(ffi.ke_msg_resource(self._pointer()))

    @property
    def content(self) -> bytes:
        """The JSON value as it came; b"null" when there was none."""
        n = c_size_t(0)
        return pybytes(ffi.ke_msg_content(self._pointer(), byref(n)), n.value)

    def json(self) -> Any:
        """The content as a Python value."""
        return _json.loads(self.content)

    def __repr__(self) -> str:
        if self._key not in self._core.messages:
            return "<kubeedge.Message of a closed context>"
        return f"<kubeedge.Message {self.operation} {self.resource} id={self.id}>"
