# SPDX-License-Identifier: Apache-2.0
"""Finds and loads libkubeedge. The library is never unloaded.

Order: the file that KUBEEDGE_LIB names (and no other, when it is set); the one that came with this package;
libkubeedge.so.0 as the system finds it.
"""
import ctypes
import os
import pathlib
from typing import List, Tuple

SONAME = "libkubeedge.so.0"
OLDEST = (0, 1, 0)  # the first release with everything that _ffi.py names
TOO_NEW = (1, 0, 0)  # the soname's promise ends before

Version = Tuple[int, int, int]


def _candidates() -> List[str]:
    named = os.environ.get("KUBEEDGE_LIB")
    if named:
        return [named]
    bundled = pathlib.Path(__file__).resolve().parent / "lib" / SONAME
    return [str(bundled)] * bundled.exists() + [SONAME]


def version_of(library: ctypes.CDLL) -> Version:
    """The version a loaded library tells; ImportError when it is no libkubeedge."""
    try:
        function = library.ke_version
    except AttributeError:
        raise ImportError(f"{library._name} is not libkubeedge: it has no ke_version") from None
    function.argtypes = []
    function.restype = ctypes.c_uint32
    number = int(function())
    return number >> 16, number >> 8 & 0xFF, number & 0xFF


def _check(library: ctypes.CDLL) -> Version:
    version = version_of(library)
    if not OLDEST <= version < TOO_NEW:
        raise ImportError(
            "{} is version {}; this package works with {} up to, not including, {}".format(
                library._name, *(".".join(map(str, v)) for v in (version, OLDEST, TOO_NEW))
            )
        )
    return version


def load() -> Tuple[ctypes.CDLL, Version]:
    """The library and its version. ImportError tells all that was tried."""
    tried = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)  # releases the GIL during calls
        except OSError as e:
            tried.append(f"{path}: {e}")
            continue
        return library, _check(library)
    raise ImportError(
        "libkubeedge was not found. Tried: {}. Install it, or set KUBEEDGE_LIB to the path of {}.".format(
            "; ".join(tried), SONAME
        )
    )
