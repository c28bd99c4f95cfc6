# SPDX-License-Identifier: Apache-2.0
"""A node whose database is damaged, deleted or reset: its workloads run on, and so do their files."""
import shutil
import subprocess

import pytest

from harness import BIN, pod, wait_for

VOLUME = """    volumeMounts:
    - {name: e, mountPath: /e}
  volumes:
  - name: e
    emptyDir: {}
"""
WORK = ["/bin/sleep", "100000"]


def damage(node):
    for path in (node.folder / "store").glob("kubeedge.db*"):
        path.write_bytes(b"\xff" * path.stat().st_size)


def delete(node):
    shutil.rmtree(node.folder / "store")


def reset(node):
    r = subprocess.run([str(BIN / "ke-node"), "reset", "--data", str(node.folder)], capture_output=True, text=True,
                       timeout=60)
    assert r.returncode == 0, r.stderr


def volumes(node):
    return sorted(node.folder.glob("pods/*/volumes/kubernetes.io~empty-dir/e"))


@pytest.mark.parametrize("lose", [damage, delete, reset])
def test_workloads_outlive_the_store(tmp_path, cloud, node, lose):
    config = tmp_path / "edgecore.yaml"
    config.write_text("apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n"
                      "libkubeedge: {strayGrace: 2s}\n")
    node.start()
    for name in ("kept", "gone"):
        cloud.apply(f"{name}.yaml", pod(name, WORK, more=VOLUME))
    wait_for("the pods", lambda: cloud.running("kept") and cloud.running("gone"))
    before = node.shims()
    assert len(before) == 2 and len(volumes(node)) == 2
    for v in volumes(node):
        (v / "file").write_text("x")
    node.kill()
    cloud.kill()
    lose(node)
    unknown = node.folder / "pods" / "11111111-2222-3333-4444-555555555555"
    unknown.mkdir()  # of a pod that no cloud will ever tell

    node.start()  # the cloud is away: nobody can say what should run
    wait_for("the strays", lambda: node.status().get("strays", "").startswith("2 "))
    assert node.shims() == before and len(volumes(node)) == 2
    node.kill()  # nor is it forgotten by another start
    node.start()
    wait_for("the strays", lambda: node.status().get("strays", "").startswith("2 "))
    assert "containers of unknown pods run on" in node.text()

    cloud.remove("gone.yaml")
    cloud.apply("kept.yaml", pod("kept", WORK, more=VOLUME).replace("  name: kept\n", "  name: kept\n  labels: {a: b}\n", 1))
    cloud.start()
    wait_for("the end of the deleted one", lambda: len(node.shims()) == 1)
    assert node.shims().items() < before.items(), "it was started anew"
    wait_for("the pod that is left", lambda: node.pods() == {"kept": "Running"})
    wait_for("the end of the strays", lambda: "strays" not in node.status())
    wait_for("the end of the files of the deleted one", lambda: len(volumes(node)) == 1)
    assert (volumes(node)[0] / "file").read_text() == "x" and unknown.exists()

    node.kill()
    node.start("--config", str(config))  # the host sets an end to it
    wait_for("the end of what no pod has", lambda: not unknown.exists())
    wait_for("the end of the mark", lambda: not (node.folder / "strays").exists())
    assert node.pods() == {"kept": "Running"} and node.shims().items() < before.items()
    assert (volumes(node)[0] / "file").read_text() == "x"


def test_reset_asks_the_lock_not_the_socket(node):
    node.start()
    wait_for("the node", lambda: node.status().get("state") == "ready")
    (node.folder / "control.sock").unlink()
    store = node.folder / "store"
    lock = (store / "lock").stat().st_ino

    def run_reset():
        return subprocess.run([str(BIN / "ke-node"), "reset", "--data", str(node.folder)], capture_output=True, text=True,
                              timeout=60)

    r = run_reset()
    assert r.returncode == 1 and "stop it first" in r.stderr, (r.returncode, r.stderr)
    assert (store / "kubeedge.db").exists()
    node.kill()
    r = run_reset()
    assert r.returncode == 0, r.stderr
    assert [p.name for p in store.iterdir()] == ["lock"] and (store / "lock").stat().st_ino == lock


def test_a_cloud_restored_from_an_older_copy(tmp_path, cloud, node):
    """What the node got since the copy was made does not hide what the restored cloud says."""
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{k: \"{0}\"}}\n"
    mount = """    volumeMounts:
    - {name: v, mountPath: /v}
  volumes:
  - name: v
    configMap: {name: c}
"""

    def value():
        return [p.read_text() for p in node.folder.glob("pods/*/volumes/kubernetes.io~configmap/v/k")]

    node.start()
    cloud.apply("c.yaml", config.format(1))
    cloud.apply("p.yaml", pod("p", WORK, more=mount))
    wait_for("the pod", lambda: cloud.running("p") and value() == ["1"])
    before = node.shims()
    cloud.kill()
    copy = tmp_path / "copy"
    shutil.copytree(cloud.folder, copy, ignore=shutil.ignore_patterns("control.sock"))
    cloud.start()
    for n in range(2, 6):
        cloud.apply("c.yaml", config.format(n))
        wait_for("the change", lambda: value() == [str(n)])
    cloud.kill()
    shutil.rmtree(cloud.folder)
    shutil.copytree(copy, cloud.folder)
    cloud.apply("c.yaml", config.format("restored"))
    cloud.start()
    cloud.wait_log("a copy of an older day")
    wait_for("what the restored cloud says", lambda: value() == ["restored"])
    assert node.shims() == before
