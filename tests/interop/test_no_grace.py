# SPDX-License-Identifier: Apache-2.0
"""A pod with terminationGracePeriodSeconds 0: replaced and deleted, though nobody confirms its end."""
from harness import pod, wait_for


def hasty(command):
    return pod("a", command).replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 0")


def test_pod_without_grace(cloud, node):
    node.start()
    cloud.apply("a.yaml", hasty(["/bin/sleep", "100000"]))
    wait_for("Running", lambda: cloud.running("a"))
    before = node.shims()
    cloud.apply("a.yaml", hasty(["/bin/sleep", "99999"]))
    wait_for("the other one", lambda: cloud.running("a") and node.shims() and not set(node.shims()) & set(before))
    cloud.remove("a.yaml")
    wait_for("the deletion", lambda: "a" not in cloud.pods())
    wait_for("the end of the process", lambda: not node.shims() and node.pods() == {})
