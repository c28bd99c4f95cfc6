# SPDX-License-Identifier: Apache-2.0
"""What libkubeedge's error codes become.

Every failure is a KubeEdgeError with the library's code and text. Its subclasses also derive from the built-in
exception of the same meaning, so that `except TimeoutError` or `except ConnectionError` work as one expects.
"""
from __future__ import annotations

from typing import Dict, Tuple, Type

from . import _const as c

__all__ = [
    "AccessDenied",
    "AddressInUse",
    "AlreadyExists",
    "Busy",
    "Canceled",
    "ConflictError",
    "DeviceError",
    "IdentityError",
    "InvalidArgument",
    "KubeEdgeError",
    "LimitExceeded",
    "NetworkError",
    "NotFound",
    "NotSupported",
    "OutOfMemory",
    "ParseError",
    "StateError",
    "StoreError",
    "TimedOut",
    "TryAgain",
    "WrongThread",
    "error",
]


class KubeEdgeError(Exception):
    """A call failed. code is KE_E*, name the same as text, text says what failed and what to do."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def name(self) -> str:
        return c.ERROR_NAMES.get(self.code, f"KE_E{self.code}")

    def __str__(self) -> str:
        return f"{self.text} ({self.name})" if self.text else self.name

    def __reduce__(self) -> Tuple[Type[KubeEdgeError], Tuple[int, str]]:
        return type(self), (self.code, self.text)


class InvalidArgument(KubeEdgeError, ValueError):
    """KE_EINVAL"""


class ParseError(KubeEdgeError, ValueError):
    """KE_EPARSE"""


class OutOfMemory(KubeEdgeError, MemoryError):
    """KE_ENOMEM"""


class NotSupported(KubeEdgeError, NotImplementedError):
    """KE_ENOTSUP: the library was built without it"""


class StateError(KubeEdgeError, RuntimeError):
    """KE_ESTATE: not now; among others, the object is closed"""


class WrongThread(KubeEdgeError, RuntimeError):
    """KE_ETHREAD: only the thread that drives the context may do this"""


class LimitExceeded(KubeEdgeError):
    """KE_ELIMIT"""


class NotFound(KubeEdgeError, LookupError):
    """KE_ENOTFOUND"""


class AlreadyExists(KubeEdgeError):
    """KE_EEXIST"""


class Busy(KubeEdgeError):
    """KE_EBUSY"""


class TryAgain(KubeEdgeError):
    """KE_EAGAIN"""


class Canceled(KubeEdgeError):
    """KE_ECANCELED: ended before it was done"""


class TimedOut(KubeEdgeError, TimeoutError):
    """KE_ETIMEDOUT"""


class DeviceError(KubeEdgeError, OSError):
    """KE_EIO, KE_ENOSPC, KE_ESYS: the operating system failed"""


class AccessDenied(KubeEdgeError, PermissionError):
    """KE_EACCES, KE_EROFS"""


class NetworkError(KubeEdgeError, ConnectionError):
    """Codes -100 to -199"""


class AddressInUse(NetworkError):
    """KE_EADDRINUSE"""


class IdentityError(KubeEdgeError, PermissionError):
    """Codes -200 to -299: certificates, keys, tokens"""


class StoreError(KubeEdgeError):
    """Codes -300 to -399"""


class ConflictError(KubeEdgeError):
    """Codes -400 to -499"""


_BY_CODE: Dict[int, Type[KubeEdgeError]] = {
    c.KE_EINVAL: InvalidArgument,
    c.KE_ENOMEM: OutOfMemory,
    c.KE_ENOTSUP: NotSupported,
    c.KE_ESTATE: StateError,
    c.KE_ELIMIT: LimitExceeded,
    c.KE_ENOTFOUND: NotFound,
    c.KE_EEXIST: AlreadyExists,
    c.KE_EBUSY: Busy,
    c.KE_EAGAIN: TryAgain,
    c.KE_ECANCELED: Canceled,
    c.KE_ETIMEDOUT: TimedOut,
    c.KE_EIO: DeviceError,
    c.KE_ENOSPC: DeviceError,
    c.KE_ESYS: DeviceError,
    c.KE_EACCES: AccessDenied,
    c.KE_EROFS: AccessDenied,
    c.KE_EPARSE: ParseError,
    c.KE_ETHREAD: WrongThread,
    c.KE_EADDRINUSE: AddressInUse,
}
# A code of a later release is at least told apart by its layer.
_BY_LAYER: Dict[int, Type[KubeEdgeError]] = {1: NetworkError, 2: IdentityError, 3: StoreError, 4: ConflictError}


def error(code: int, text: str = "") -> KubeEdgeError:
    """The exception for a code."""
    kind = _BY_CODE.get(code, _BY_LAYER.get(-code // 100, KubeEdgeError))
    return kind(code, text)
