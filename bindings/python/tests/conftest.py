# SPDX-License-Identifier: Apache-2.0
"""The library under test is the one KUBEEDGE_LIB names; BIN is the folder of the programs and examples."""
import gc
import os
import pathlib
import socket
import sys
import threading

import pytest

if not os.environ.get("KUBEEDGE_LIB"):
    raise pytest.UsageError("KUBEEDGE_LIB must name the libkubeedge.so.0 to test")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import kubeedge  # noqa: E402
from kubeedge import _core  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_left():
    """After each test: no context, no key that C could still use, no thread, no descriptor more than before."""
    threads, fds = threading.active_count(), len(os.listdir("/proc/self/fd"))
    cores, keys = set(_core._cores), set(_core._live)
    yield
    gc.collect()
    assert _core._cores <= cores
    assert set(_core._live) <= keys, {k: _core._live[k] for k in set(_core._live) - keys}
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == fds


@pytest.fixture(params=["host", "thread"])
def ctx(request):
    """A context that the test drives, and one with a thread of its own."""
    with kubeedge.Context(thread=request.param == "thread") as c:
        yield c


@pytest.fixture
def host():
    with kubeedge.Context() as c:
        yield c


@pytest.fixture
def threaded():
    with kubeedge.Context(thread=True) as c:
        yield c


@pytest.fixture
def refused_port():
    """A port that refuses: it is taken, and nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


@pytest.fixture
def hub(tmp_path):
    from support import Hub

    h = Hub(tmp_path)
    yield h
    h.close()
