# SPDX-License-Identifier: Apache-2.0
"""Who serves a device when a mapper and a driver of the node could, and what a user sees of it."""
import os
import re
import signal

import pytest

from harness import BIN, wait_for
from test_ke_mapper import MANIFEST, Mapper, mapper, reported  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not (BIN / "ke-mapper").exists(), reason="built without DMI")


def device(node):
    """The state and the other words of the device's line, and the rest of the answer."""
    text = node.command("devices")
    line = next((w.split() for w in text.splitlines() if w.startswith("default/sim-1 ")), None)
    return (line[2] if line else None), text


def test_mapper_in_place_of_a_driver(cloud, node, mapper):  # noqa: F811
    cloud.apply("device.yaml", MANIFEST.format(desired="20"))
    node.start("--drivers", "all", "--dmi", str(mapper.edge))
    wait_for("the driver to serve it", lambda: device(node)[0] == "online")
    assert "MAPPER" in device(node)[1] and "mappers     0 (0 lost)" in node.command("status")
    mapper.start()
    mapper.wait_log("registered at")
    wait_for("the mapper to serve it", lambda: "by mapper simulated-mapper, last report" in device(node)[1])
    state, text = device(node)
    assert state in ("online", "mapped"), text
    assert re.search(r"^  level .* desired 20 +reported 20 ", text, re.M), text
    assert re.search(r"^simulated-mapper +simulated +up +20.*Z +1 +0 +%s$" % mapper.own, text, re.M), text
    assert "mappers     1 (0 lost)" in node.command("status")
    # the driver does not read it any more: only the mapper knows of what is set now
    cloud.apply("device.yaml", MANIFEST.format(desired="42"))
    wait_for("the new one", lambda: reported(cloud, "42"))
    # the mapper dies: the device stays its own, and that is shown
    mapper.kill()
    wait_for("that it is lost", lambda: device(node)[0] == "lost")
    assert "mappers     1 (1 lost)" in node.command("status")
    # also after the node died
    node.kill()
    node.start("--drivers", "all", "--dmi", str(mapper.edge))
    wait_for("that it is lost still", lambda: device(node)[0] == "lost")
    assert "by mapper simulated-mapper, no report since the start" in device(node)[1]
    cloud.apply("device.yaml", MANIFEST.format(desired="43"))
    mapper.start()
    wait_for("the newest from the mapper", lambda: reported(cloud, "43"))
    wait_for("that it is back", lambda: re.search(r"^simulated-mapper .* up ", node.command("devices"), re.M))


def test_driver_that_is_named_stays(cloud, node, mapper):  # noqa: F811
    cloud.apply("device.yaml", MANIFEST.format(desired="20"))
    node.start("--drivers", "all", "--dmi", str(mapper.edge))
    mapper.start()
    mapper.wait_log("registered at")
    wait_for("the mapper to serve it", lambda: "by mapper" in device(node)[1])
    # named now: the registration is forgotten, and refused
    node.kill()
    node.start("--drivers", "simulated", "--dmi", str(mapper.edge))
    wait_for("the driver to serve it", lambda: device(node)[0] == "online")
    assert "by mapper" not in device(node)[1]
    mapper.wait_log("are served by a driver of this node")
    assert "mappers     0 (0 lost)" in node.command("status")
    assert mapper.kill(signal.SIGTERM) == 0
    node.kill()
    node.start("--drivers", "all", "--dmi", str(mapper.edge))
    wait_for("the driver to serve it again", lambda: device(node)[0] == "online")


def test_socket_that_cannot_be_made(cloud, node, tmp_path):
    """What is wrong is said in the log and by the commands, and mended without a restart."""
    folder = tmp_path / "later"
    node.start("--drivers", "none", "--dmi", str(folder / "dmi.sock"))
    wait_for("that there is no folder", lambda: str(folder) in node.command("status"))
    text = node.command("devices")
    assert "no mapper can register" in text and "No such file" in text
    assert "no mapper can register: could not listen on" in node.text()
    folder.mkdir()
    wait_for("the socket", lambda: (folder / "dmi.sock").exists())
    wait_for("that all is well", lambda: "mappers     0 (0 lost)\n" in node.command("status"))
    node.kill()
    # a file that is no socket is left alone
    (folder / "dmi.sock").unlink(missing_ok=True)
    (folder / "dmi.sock").write_text("mine")
    node.start("--drivers", "none", "--dmi", str(folder / "dmi.sock"))
    wait_for("that it is in the way", lambda: "exists" in node.command("status"))
    assert (folder / "dmi.sock").read_text() == "mine"
    node.kill()
    # one that is left from a process that died is replaced
    (folder / "dmi.sock").unlink()
    node.start("--drivers", "none", "--dmi", str(folder / "dmi.sock"))
    wait_for("the socket", lambda: "mappers     0 (0 lost)\n" in node.command("status"))
    node.kill()
    assert (folder / "dmi.sock").exists()
    node.start("--drivers", "none", "--dmi", str(folder / "dmi.sock"))
    wait_for("the socket again", lambda: "mappers     0 (0 lost)\n" in node.command("status"))
    if os.geteuid() != 0:  # root may write anywhere
        node.kill()
        folder.chmod(0o500)
        node.start("--drivers", "none", "--dmi", str(folder / "x.sock"))
        wait_for("that it may not", lambda: "ermission denied" in node.command("status"))
