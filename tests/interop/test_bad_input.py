# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in the field: each has a clear message and loses nothing."""
import glob
import signal
import subprocess

import pytest

from harness import BIN, Cloud, Node, free_port, pod, wait_for

SLEEP = ["/bin/sleep", "100000"]


def run(program, *args):
    return subprocess.run([str(BIN / program), *args], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("args, words", [
    (["--dialect", "2.0"], "is not auto, 1.4, 1.15 or 1.23"),
    (["--tunnel-port", "70000"], "is no port"),
    (["--runtime", "docker"], "is not none or process"),
    (["--labels", "novalue"], "KEY=VALUE"),
    (["--taints", "a=b"], "EFFECT"),
    (["--nonsense"], "nonsense"),
    (["frobnicate"], "is not status, pods, devices, logs or reset"),
    (["--name", "UPPER_case", "--data", "/tmp/never-made"], "no node name"),
    (["--name", "e", "--process-allow", "bin/sleep"], '"bin/sleep" is not an absolute path'),
    (["--name", "e", "--proxy", "nonsense"], "proxy URL had no scheme; expected http://"),
    (["--name", "e", "--proxy", "socks5://h:1"], "proxy scheme was not http://"),
    (["--name", "e", "--drivers", "modbus,nonsense"], '"nonsense" does not exist: modbus, gpio'),
    (["--name", "e", "--cloud", "1.2.3.4:10000"], "give ports apart"),
    (["--name", "e", "--cloud", "https://c"], "is no address and no host name"),
])
def test_bad_flags_of_the_node(args, words):
    r = run("ke-node", *args)
    assert r.returncode == 2 and words in r.stderr, (r.returncode, r.stderr)


@pytest.mark.parametrize("path", ["/nonexistent/ke-shim", "/tmp", "/etc/passwd"])
def test_a_shim_that_is_none(path):
    r = run("ke-node", "--shim", path)
    assert r.returncode == 3 and f"--shim {path}: " in r.stderr, (r.returncode, r.stderr)


def test_a_malformed_token_is_refused_at_once(tmp_path):
    r = run("ke-node", "--name", "e", "--cloud", "127.0.0.1", "--data", str(tmp_path / "d"), "--token", "abc")
    assert r.returncode == 2 and "the token has no dots" in r.stderr, (r.returncode, r.stderr)
    assert "the cloud 127.0.0.1 gives a new one" in r.stderr


def test_a_malformed_token_does_not_matter_with_a_certificate(tmp_path, cloud):
    n = Node(tmp_path, cloud=cloud, token=cloud.token())
    n.start()
    try:
        wait_for("the node", lambda: n.status().get("state") == "ready")
        n.kill()
        n.join = "abc"
        n.start()
        wait_for("the node", lambda: n.status().get("state") == "ready")
    finally:
        n.kill()


def test_bad_file_is_told_from_a_bad_flag(tmp_path):
    config = tmp_path / "edgecore.yaml"
    assert run("ke-node", "--config", str(config)).returncode == 3
    config.write_text("modules: [1, 2\n")
    r = run("ke-node", "--config", str(config))
    assert r.returncode == 3 and str(config) in r.stderr, r.stderr
    config.write_text("modules:\n  edgeHub:\n    heartbeat: soon\n")
    r = run("ke-node", "--config", str(config))
    assert r.returncode == 3 and ":3: modules.edgeHub.heartbeat" in r.stderr, r.stderr


def test_a_folder_with_a_long_path(tmp_path):
    base = tmp_path / ("long-" * 20) / ("longer-" * 20)
    base.mkdir(parents=True)
    n = Node(base)
    n.start()
    try:
        wait_for("the node", lambda: n.status().get("state") == "offline")
        assert n.pods() == {}
        assert (n.folder / "control.sock").is_socket()
        assert n.kill(signal.SIGTERM) == 0
        assert not (n.folder / "control.sock").exists()
        assert "control socket" not in n.text(), n.text()
    finally:
        n.kill()


def test_wrong_token_and_wrong_hash(tmp_path, cloud):
    good = cloud.token()
    ca_hash, jwt = good.split(".", 1)
    for name, token, words in [("signature", good[:-6] + "AAAAAA", "401"),
                               ("pin", "0" * 64 + "." + jwt, "the join token names")]:
        n = Node(tmp_path, name=name, cloud=cloud, token=token)
        n.start()
        try:
            n.wait_log(words)
            assert n.process.poll() is None, "the node must go on"
        finally:
            n.kill()
    assert ca_hash


def test_refused_connection_then_cloud_appears(tmp_path):
    c = Cloud(tmp_path)
    c.start()
    token = c.token()
    c.kill()
    n = Node(tmp_path, cloud=c, token=token)
    n.start()
    try:
        n.wait_log("refused")
        c.start()
        wait_for("Ready", lambda: c.node_ready("edge-1"))
    finally:
        n.kill()
        c.kill()


def test_port_in_use(tmp_path, cloud):
    other = Cloud(tmp_path / "x" if (tmp_path / "x").mkdir() is None else tmp_path)
    r = run("ke-cloud", "--data", str(other.folder), "--listen", "127.0.0.1", "--tunnel-port", str(free_port()),
            "--cert-port", str(cloud.cert))
    assert r.returncode == 1 and str(cloud.cert) in r.stderr and "KE_EADDRINUSE" in r.stderr, r.stderr


def test_two_on_one_folder(cloud, node):
    node.start()
    wait_for("Ready", lambda: cloud.node_ready("edge-1"))
    r = run("ke-node", "--name", "edge-1", "--data", str(node.folder))
    assert r.returncode == 3 and str(node.folder) in r.stderr, r.stderr
    r = run("ke-cloud", "--data", str(cloud.folder), "--tunnel-port", "0", "--cert-port", "0")
    assert r.returncode == 3 and str(cloud.folder) in r.stderr, r.stderr
    assert cloud.node_ready("edge-1")


def test_data_folder_of_another_node(cloud, node):
    node.start()
    cloud.apply("a.yaml", pod("a", SLEEP))
    wait_for("Running", lambda: cloud.running("a"))
    node.kill()
    r = run("ke-node", "--name", "edge-9", "--data", str(node.folder), "--runtime", "process")
    assert r.returncode == 3 and "belongs to node edge-1" in r.stderr, r.stderr
    assert len(node.shims()) == 1, "the workloads are not the other node's to end"


def test_read_only_data_folder(tmp_path):
    r = run("ke-node", "--name", "n", "--data", "/proc/nowhere/node")
    assert r.returncode == 3 and "/proc/nowhere/node" in r.stderr, r.stderr


@pytest.mark.parametrize("text, words", [
    ("apiVersion: v2\nkind: Pod\nmetadata: {name: x}\n", ":1: apiVersion: is not v1"),
    ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n", ':2: kind: "Deployment" is not known'),
    ("apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n", ':2: kind: "Gadget" is not known'),
    ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  nodeName: node\n  containers:\n  - name: c\n    imgae: i\n",
     ":9: spec.containers[0].imgae: unknown field"),
    ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: X_y\nspec: {}\n", ":4: metadata.name"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  on: yes\n", "is not a string"),
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata:\n  k: 'not base64!'\n", ":5: data.k: is not base64"),
    ("apiVersion: v1\nkind: Pod\n  metadata: [\n", "bad.yaml"),
    ("[" * 200000, "bad.yaml"),
], ids=["version", "group", "kind", "field", "name", "bool", "base64", "syntax", "deep"])
def test_bad_manifest_names_file_line_and_field(cloud, node, text, words):
    cloud.apply("good.yaml", pod("good", SLEEP))
    cloud.apply("bad.yaml", text)
    cloud.wait_log("bad.yaml")
    assert words in cloud.text(), cloud.text()[-1500:]
    # the others are not harmed, and the cloud goes on
    wait_for("the good pod", lambda: "good" in cloud.pods())


def test_broken_manifest_keeps_its_objects(cloud, node):
    node.start()
    cloud.apply("a.yaml", pod("a", SLEEP))
    wait_for("Running", lambda: cloud.running("a"))
    cloud.apply("a.yaml", "kind: [")
    cloud.wait_log("manifest")
    cloud.apply("b.yaml", pod("b", SLEEP))
    wait_for("the next one", lambda: cloud.running("b"))
    assert cloud.running("a")


def test_command_outside_the_allow_list(cloud, tmp_path):
    n = Node(tmp_path, cloud=cloud, token=cloud.token(), allow="/bin/sleep")
    n.start()
    try:
        cloud.apply("refused.yaml", pod("refused", ["/usr/bin/id"]))
        cloud.apply("allowed.yaml", pod("allowed", SLEEP))
        wait_for("Running", lambda: cloud.running("allowed"))
        wait_for("the reason", lambda: "/usr/bin/id" in n.text() and "allow" in n.text())
        assert not cloud.running("refused")
    finally:
        n.kill()
        n.end_workloads()


def test_no_runtime_leaves_pods_pending(cloud, node):
    node.start(runtime="none")
    cloud.apply("a.yaml", pod("a", SLEEP))
    wait_for("the pod", lambda: node.pods().get("a") == "Pending")
    wait_for("the reason", lambda: "runtime" in node.text())


FAKETIME = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


@pytest.mark.skipif(not FAKETIME, reason="faketime is not installed")
@pytest.mark.parametrize("date", ["1970-01-02 00:00:00", "2106-02-07 06:28:14"])
def test_clock_that_is_wrong(cloud, node, date):
    """A node without a battery clock joins all the same."""
    node.start(env={"LD_PRELOAD": FAKETIME[0], "FAKETIME": "@" + date, "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    wait_for("Ready", lambda: cloud.node_ready("edge-1"))


def test_disk_full(tmp_path, cloud):
    """The data folder on a file system of 2 MiB that is filled: the node says so, and goes on when there is room."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]).returncode != 0:
        pytest.skip("mounting needs root")
    n = Node(small, cloud=cloud, token=cloud.token())
    try:
        n.log = tmp_path / "small.log"
        n.start()
        wait_for("Ready", lambda: cloud.node_ready("edge-1"))
        cloud.apply("a.yaml", pod("a", SLEEP))
        wait_for("Running", lambda: cloud.running("a"))
        with open(small / "filler", "wb") as f:
            try:
                while True:
                    f.write(b"x" * 65536)
            except OSError:
                pass
        cloud.apply("b.yaml", pod("b", SLEEP))
        wait_for("the complaint", lambda: "ENOSPC" in n.text() or "space" in n.text())
        assert n.process.poll() is None and cloud.running("a")
        (small / "filler").unlink()
        wait_for("the second pod", lambda: cloud.running("b"))
    finally:
        n.kill()
        n.end_workloads()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_command_does_not_wait_for_a_node_that_hangs(cloud, node):
    """It says so in time, and can be interrupted meanwhile."""
    ask = ["pods", "--data", str(node.folder)]
    node.start()
    wait_for("an answer", lambda: run("ke-node", *ask).returncode == 0)
    node.process.send_signal(signal.SIGSTOP)
    try:
        asking = subprocess.Popen([str(BIN / "ke-node"), *ask])
        asking.terminate()
        assert asking.wait(60) == -signal.SIGTERM
        r = run("ke-node", *ask)
        assert r.returncode == 1 and "timed out" in r.stderr, (r.returncode, r.stderr)
    finally:
        node.process.send_signal(signal.SIGCONT)
