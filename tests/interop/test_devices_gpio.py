# SPDX-License-Identifier: Apache-2.0
"""GPIO lines from a manifest in the cloud and back: a node of the library in this process, with a folder in place of sysfs."""
import os
import pathlib
import sys

import pytest

from device_harness import device, in_cloud, model
from harness import BIN, wait_for

os.environ.setdefault("KUBEEDGE_LIB", str(BIN.parent / "lib" / "libkubeedge.so.0"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bindings" / "python"))

if not pathlib.Path(os.environ["KUBEEDGE_LIB"]).exists():
    pytest.skip("KUBEEDGE_LIB names no library", allow_module_level=True)

from kubeedge import Context, DeviceState, Node  # noqa: E402

MODEL = {"door": ("BOOLEAN", "ReadOnly", ""), "horn": ("BOOLEAN", "ReadWrite", "")}


class Chip:
    """What the kernel makes of a chip with lines 500 to 503, once they are exported."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "chip0").mkdir(parents=True)
        (folder / "chip0" / "base").write_text("500\n")
        (folder / "export").write_text("")
        for i in range(500, 504):
            (folder / f"gpio{i}").mkdir()
            for name, text in (("active_low", "0"), ("direction", ""), ("value", "0\n")):
                (folder / f"gpio{i}" / name).write_text(text)

    def set(self, line, text):
        (self.folder / f"gpio{500 + line}" / "value").write_text(f"{text}\n")

    def get(self, line, name="value"):
        return (self.folder / f"gpio{500 + line}" / name).read_text().strip()


def gate(name, door, horn, wanted):
    return device(name, "gate-model", "{chip: chip0}",
                  [("door", f"{{line: {door}, direction: in}}", ""),
                   ("horn", f"{{line: {horn}, direction: out}}", f'desired: {{value: "{wanted}"}}')], protocol="gpio")


def test_lines_from_the_cloud_and_back(cloud, tmp_path):
    chip = Chip(tmp_path / "gpio")
    given = []

    def take(twin, devices):
        devices.register_gpio(dev_folder=tmp_path / "no-dev", sys_folder=chip.folder)
        given[:] = [devices]

    cloud.apply("model.yaml", model("gate-model", MODEL, "gpio"))
    cloud.apply("gate.yaml", gate("gate", 0, 1, "true"))
    cloud.apply("other.yaml", gate("other", 2, 3, "false"))
    with Context(thread=True) as ctx, Node(ctx, name="edge-1", data=tmp_path / "node", cloud_host="127.0.0.1", token=cloud.token(),
                                           tunnel_port=cloud.tunnel, cert_port=cloud.cert, devices=take) as node:
        node.start()
        wait_for("the desired level", lambda: chip.get(1) == "1")
        assert chip.get(0, "direction") == "in" and chip.get(1, "direction") in ("high", "low")
        wait_for("the reported value", lambda: in_cloud(cloud, "gate", "horn", "true") and in_cloud(cloud, "gate", "door", "false"))
        chip.set(0, 1)
        wait_for("the door", lambda: in_cloud(cloud, "gate", "door", "true"))
        cloud.apply("gate.yaml", gate("gate", 0, 1, "false"))
        wait_for("the other level", lambda: chip.get(1) == "0" and in_cloud(cloud, "gate", "horn", "false"))
        # a line that says nonsense, and one that is not there: said, and the other device goes on
        chip.set(0, "?")
        wait_for("what is wrong", lambda: any(p.error for p in given[0].get("gate").properties))
        cloud.apply("gate.yaml", gate("gate", 40, 1, "false"))
        wait_for("the missing line", lambda: "540" in given[0].get("gate").error)
        chip.set(2, 1)
        wait_for("the other device", lambda: in_cloud(cloud, "other", "door", "true"))
        assert given[0].get("other").state == DeviceState.ONLINE
        cloud.apply("gate.yaml", gate("gate", 0, 1, "true"))
        chip.set(0, 0)
        wait_for("the line that is there", lambda: chip.get(1) == "1" and in_cloud(cloud, "gate", "door", "false"))
        node.stop()
