# SPDX-License-Identifier: Apache-2.0
"""A node that lost what it had is given it again, though it had acknowledged all of it."""
import shutil
import signal
import subprocess

import pytest

from harness import BIN, configmap, pod, wait_for

WORK = ["/bin/sh", "-c", "while :; do echo \"$WORD\"; sleep 0.1; done"]
ENV = "    env:\n    - name: WORD\n      valueFrom: {configMapKeyRef: {name: words, key: word}}\n"


def delete_store(cloud, node):
    shutil.rmtree(node.folder / "store")


def reset(cloud, node):
    subprocess.run([str(BIN / "ke-node"), "reset", "--data", str(node.folder)], check=True, timeout=60)
    node.join = cloud.token()


def new_hardware(cloud, node):
    node.end_workloads()
    shutil.rmtree(node.folder)
    node.join = cloud.token()


@pytest.mark.parametrize("lose", [delete_store, reset, new_hardware])
@pytest.mark.parametrize("cloud_restarts", [False, True])
def test_everything_is_delivered_again(cloud, node, lose, cloud_restarts):
    node.start()
    cloud.apply("words.yaml", configmap("words", word="one"))
    cloud.apply("a.yaml", pod("a", WORK, more=ENV))
    wait_for("Running", lambda: cloud.running("a"))
    node.kill(signal.SIGTERM)
    lose(cloud, node)
    if cloud_restarts:
        cloud.kill()
        cloud.start()
    node.start()
    wait_for("the pod", lambda: node.pods() == {"a": "Running"})
    wait_for("its only process", lambda: [len(p) for p in node.shims().values()] == [1])
    wait_for("the value", lambda: "one" in node.command("logs", "a"))
    # and its end reaches the node that has it now
    cloud.remove("a.yaml")
    wait_for("the deletion", lambda: "a" not in cloud.pods())
    wait_for("the end of the process", lambda: not node.shims())
