# SPDX-License-Identifier: Apache-2.0
"""Waiting, for tests. A deadline here is a net for hangs, not a bound that a test relies on."""
import gc
import threading
import time

import kubeedge

PATIENCE = 60.0


class Collector(list):
    """A list that callbacks append to and tests wait on. It collects garbage at every call, so that what only C
    still refers to is gone before it is used again; often=True: only now and then, for what is called at every
    cycle."""

    def __init__(self, often=False):
        super().__init__()
        self.often = often
        self.changed = threading.Condition()
        self.waker = None

    def __call__(self, *args):
        if not self.often or len(self) < 8:
            gc.collect()
        with self.changed:
            self.append(args[0] if len(args) == 1 else args)
            self.changed.notify_all()
            if self.waker:
                self.waker()

    def until(self, ctx, condition):
        """Until condition(self): drives ctx, or waits beside its thread. What another context's thread adds ends
        the wait as well."""
        if ctx.threaded:
            with self.changed:
                assert self.changed.wait_for(lambda: condition(self), PATIENCE), f"only got {list(self)}"
            return
        end = time.monotonic() + PATIENCE
        with self.changed:
            self.waker = lambda: ctx.post(lambda: None)
        while not condition(self):
            assert time.monotonic() < end, f"only got {list(self)}"
            ctx.wait(int(PATIENCE * 1000))
            ctx.dispatch()
        with self.changed:
            self.waker = None


def has(n):
    return lambda collected: len(collected) >= n


def pod(name, *, node="edge-1", image="test/web:1", more="", spec=""):
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  nodeName: {node}
  hostNetwork: true
  terminationGracePeriodSeconds: 1
{spec}  containers:
  - name: main
    image: {image}
{more}"""


def device_model(name="room", protocol="py"):
    """A float to be read, an int to be set, a text."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "protocol": protocol,
            "properties": [
                {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly", "unit": "C"},
                {"name": "setpoint", "type": "INT", "accessMode": "ReadWrite", "minimum": "5", "maximum": "30"},
                {"name": "label", "type": "STRING", "accessMode": "ReadWrite"},
            ],
        },
    }


def device(name, *, desired=None, properties=("temperature", "setpoint"), config=None, methods=(), protocol="py"):
    """One of device_model, of node edge-1. desired: of the setpoint."""
    visited = [
        {
            "name": p,
            "visitors": {"protocolName": protocol, "configData": {"Register": str(40000 + i)}},
            "collectCycle": 20,
            "reportCycle": 20,
            "reportToCloud": True,
        }
        for i, p in enumerate(properties)
    ]
    if desired is not None:
        visited[properties.index("setpoint")]["desired"] = {"value": str(desired)}
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "deviceModelRef": {"name": "room"},
            "nodeName": "edge-1",
            "protocol": {"protocolName": protocol, "configData": {"Port": "502", "deep": {"On": "true"}, **(config or {})}},
            "properties": visited,
            "methods": list(methods),
        },
    }


class Hub:
    """A Cloud with a context and a thread of its own, and its folder of manifests."""

    def __init__(self, folder, **more):
        self.folder = folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir(exist_ok=True)
        self.nodes, self.pods, self.devices, self.errors = (Collector() for _ in range(4))
        self.context = kubeedge.Context(thread=True)
        try:
            self.cloud = kubeedge.Cloud(
                self.context,
                data=folder / "cloud",
                manifests=self.manifests,
                listen="127.0.0.1",
                tunnel_port=kubeedge.PORT_ANY,
                cert_port=kubeedge.PORT_ANY,
                node=self.nodes,
                pod=self.pods,
                device=self.devices,
                manifest_error=self.errors,
                **more,
            )
            self.cloud.start()
        except BaseException:
            self.context.close()
            raise

    def address(self):
        """The parameters a Node or a Tunnel needs to join."""
        tunnel, cert = self.cloud.ports()
        return {"tunnel_port": tunnel, "cert_port": cert, "token": self.cloud.token()}

    def apply(self, name, text):
        """Replaces a manifest the way an editor does: never half a file."""
        new = self.manifests / ("." + name)
        new.write_text(text)
        new.rename(self.manifests / name)

    def remove(self, name):
        (self.manifests / name).unlink()

    def close(self):
        self.context.close()
