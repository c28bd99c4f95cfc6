# SPDX-License-Identifier: Apache-2.0
"""The example programs that host a node, against a Cloud in this process. BIN is their folder."""
import os
import pathlib
import signal
import subprocess
import threading

import pytest

from support import PATIENCE, Collector, pod

BIN = pathlib.Path(os.environ.get("BIN", ""))


class Program:
    """A program; lines collects what it says."""

    def __init__(self, name, hub):
        if not (BIN / name).exists():
            pytest.skip(f"{name} was not built: BIN is {BIN}")
        a = hub.address()
        args = ["edge-1", "127.0.0.1", a["token"], hub.folder / "node", str(a["tunnel_port"]), str(a["cert_port"])]
        self.lines = Collector()
        self.process = subprocess.Popen(
            [BIN / name, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines(line.rstrip())

    def until(self, ctx, text):
        self.lines.until(ctx, lambda lines: any(text in line for line in lines))

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            self.process.kill()
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()


def until_phase(hub, phase):
    hub.pods.until(hub.context, lambda p: p and p[-1][0].phase == phase)


def test_hello_node(hub):
    with Program("hello_node", hub) as p:
        p.until(hub.context, "node is ready")
        hub.apply("lamp.yaml", pod("porch", image="lamp"))
        p.until(hub.context, "lamp on")
        until_phase(hub, "Running")
        hub.remove("lamp.yaml")
        p.until(hub.context, "lamp off")
        hub.pods.until(hub.context, lambda pods: pods[-1][1])
        hub.apply("web.yaml", pod("web", image="nginx"))
        hub.pods.until(hub.context, lambda pods: pods[-1][0].name == "web" and pods[-1][0].reason)
        p.say("\n")
    assert p.process.returncode == 0


def test_host_poll(hub):
    with Program("host_poll", hub) as p:
        p.until(hub.context, "node is ready")
        hub.apply("web.yaml", pod("web"))
        p.until(hub.context, "0 of 1 pods run")
        p.say("po")  # a line in two parts
        p.say("ds\nwhat\nquit\n")
        p.until(hub.context, "default/web Pending")
        p.until(hub.context, "pods or quit?")
    assert p.process.returncode == 0


def test_host_libuv(hub):
    with Program("host_libuv", hub) as p:
        p.until(hub.context, "node is ready")
        p.process.send_signal(signal.SIGTERM)
    assert p.process.returncode == 0
    hub.nodes.until(hub.context, lambda n: not n[-1][0].connected)


@pytest.mark.parametrize("name", ["host_poll", "host_libuv"])
def test_usage(name):
    if not (BIN / name).exists():
        pytest.skip(f"{name} was not built: BIN is {BIN}")
    r = subprocess.run([BIN / name], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 2 and "usage: " in r.stderr
