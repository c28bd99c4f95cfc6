# SPDX-License-Identifier: Apache-2.0
"""The whole path with our own programs: join, run, change, end; offline; several nodes."""
import shutil
import signal

from harness import Node, configmap, pod, wait_for

SLEEP = ["/bin/sleep", "100000"]
ECHO = ["/bin/sh", "-c", "while :; do echo \"$WORD\"; sleep 0.1; done"]
ENV = "    env:\n    - name: WORD\n      valueFrom: {configMapKeyRef: {name: words, key: word}}\n"


def ready(cloud, node):
    wait_for("Ready", lambda: cloud.node_ready(node.node_name))


def test_pod_with_configmap_runs_and_goes(cloud, node):
    node.start()
    ready(cloud, node)
    cloud.apply("words.yaml", configmap("words", word="one"))
    cloud.apply("echo.yaml", pod("echo", ECHO, more=ENV))
    wait_for("Running", lambda: cloud.running("echo"))
    wait_for("the value", lambda: "one" in node.command("logs", "echo"))
    cloud.remove("echo.yaml")
    wait_for("the deletion", lambda: "echo" not in cloud.pods())
    wait_for("the end of the process", lambda: not node.shims())
    wait_for("the node to forget it", lambda: "echo" not in node.pods())


def test_exit_codes_and_restart_policies(cloud, node):
    node.start()
    never = pod("job", ["/bin/sh", "-c", "exit 0"]).replace("spec:\n", "spec:\n  restartPolicy: Never\n", 1)
    failed = pod("bad", ["/bin/sh", "-c", "exit 3"]).replace("spec:\n", "spec:\n  restartPolicy: Never\n", 1)
    cloud.apply("job.yaml", never)
    cloud.apply("bad.yaml", failed)
    cloud.apply("loop.yaml", pod("loop", ["/bin/sh", "-c", "exit 1"]))
    wait_for("Succeeded", lambda: cloud.pods().get("job", ("",))[0] == "Succeeded")
    wait_for("Failed", lambda: cloud.pods().get("bad", ("",))[0] == "Failed")
    wait_for("CrashLoopBackOff", lambda: "CrashLoopBackOff" in cloud.command("pods"))
    # a finished one stays finished after a restart of the node
    node.kill()
    node.start()
    ready(cloud, node)
    wait_for("the pods", lambda: node.pods().get("job") == "Succeeded" and node.pods().get("bad") == "Failed")


def test_node_restart_offline_takes_back(cloud, node):
    node.start()
    cloud.apply("a.yaml", pod("a", SLEEP))
    cloud.apply("b.yaml", pod("b", SLEEP))
    wait_for("Running", lambda: cloud.running("a") and cloud.running("b"))
    before = node.shims()
    node.kill()
    cloud.kill()
    node.start()
    wait_for("the pods", lambda: node.pods() == {"a": "Running", "b": "Running"})
    assert node.shims() == before
    # back in the cloud by itself when that returns
    cloud.start()
    ready(cloud, node)
    assert node.shims() == before


def test_change_while_away_arrives(cloud, node):
    node.start()
    ready(cloud, node)
    cloud.apply("a.yaml", pod("a", SLEEP))
    wait_for("Running", lambda: cloud.running("a"))
    node.kill()
    cloud.apply("c.yaml", pod("c", SLEEP))
    cloud.remove("a.yaml")
    node.start()
    wait_for("the new pod", lambda: cloud.running("c"))
    wait_for("the deletion", lambda: "a" not in cloud.pods())
    wait_for("one process", lambda: len(node.shims()) == 1)


def test_cloud_that_lost_its_store(cloud, node):
    """A pod that the cloud knows nothing of any more is ended, once the cloud said so."""
    node.start()
    cloud.apply("a.yaml", pod("a", SLEEP))
    wait_for("Running", lambda: cloud.running("a"))
    cloud.kill()
    shutil.rmtree(cloud.folder / "store")
    cloud.remove("a.yaml")
    cloud.start()
    ready(cloud, node)
    wait_for("the end of the pod", lambda: node.pods() == {} and not node.shims())


def test_two_nodes_and_selector(tmp_path, cloud, node):
    node.start("--labels", "place=hall")
    other = Node(tmp_path, name="edge-2", cloud=cloud, token=cloud.token())
    other.start("--labels", "place=yard")
    try:
        cloud.apply("yard.yaml", pod("yard", SLEEP).replace("nodeName: edge-1", "nodeSelector: {place: yard}"))
        wait_for("Running", lambda: cloud.running("yard"))
        assert cloud.pods()["yard"][2] == "edge-2"
        assert other.pods() == {"yard": "Running"} and node.pods() == {}
    finally:
        other.kill()
        other.end_workloads()


def test_graceful_ends(cloud, node):
    node.start()
    ready(cloud, node)
    assert node.kill(signal.SIGTERM) == 0
    assert cloud.kill(signal.SIGTERM) == 0
