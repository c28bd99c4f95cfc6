# SPDX-License-Identifier: Apache-2.0
"""kill -9 of node or cloud at random points while objects change (KE_KILLS times, 15 by default)."""
import os
import random
import re
import subprocess
import time

from harness import configmap, pod, wait_for

KILLS = int(os.environ.get("KE_KILLS", "15"))
SEED = int(os.environ.get("KE_SEED", "1"))
# every start of the workload leaves a line: two at once, or one too many, would show
WORK = ["/bin/sh", "-c", "echo \"start $$ $WORD\"; while :; do sleep 1000; done"]
ENV = "    env:\n    - name: WORD\n      valueFrom: {configMapKeyRef: {name: words, key: word}}\n"


def identity_matches(folder):
    """The key in the node's identity belongs to its certificate."""
    pem = folder / "identity" / "current.pem"
    if not pem.exists():
        return True
    public = [subprocess.run(["openssl", *what, "-in", str(pem), "-pubkey" if what[0] == "x509" else "-pubout", "-noout"]
                             if what[0] == "x509" else ["openssl", *what, "-in", str(pem), "-pubout"],
                             capture_output=True, text=True).stdout for what in (["x509"], ["pkey"])]
    keys = [re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", text, re.S) for text in public]
    return all(keys) and keys[0].group(0) == keys[1].group(0)


def test_kills(cloud, node):
    rng = random.Random(SEED)
    node.start()
    wait_for("Ready", lambda: cloud.node_ready("edge-1"))
    wanted, victims = {}, 0
    cloud.apply("words.yaml", configmap("words", word="w0"))
    for i in range(KILLS):
        name = f"p{rng.randrange(6)}"
        if name in wanted and rng.random() < 0.5:
            cloud.remove(f"{name}.yaml")
            del wanted[name]
        elif name not in wanted:
            cloud.apply(f"{name}.yaml", pod(name, WORK, more=ENV))
            wanted[name] = i
        cloud.apply("words.yaml", configmap("words", word=f"w{i}"))
        time.sleep(rng.random() * 0.4)  # a random point, not a synchronisation
        victim = node if rng.random() < 0.6 else cloud
        victims += victim is node
        victim.kill()
        assert identity_matches(node.folder), f"key and certificate differ after kill {i}"
        live = node.shims()
        assert all(len(pids) == 1 for pids in live.values()), f"two live instances after kill {i}: {live}"
        victim.start()
        if rng.random() < 0.3:
            check(cloud, node, wanted)
    check(cloud, node, wanted)
    print(f"count: {KILLS} kills of node or cloud, seed {SEED}, {victims} of the node")


def check(cloud, node, wanted):
    """Both ends agree with the manifests: nothing lost, nothing twice."""
    wait_for("Ready", lambda: cloud.node_ready("edge-1"))
    wait_for(f"the pods {sorted(wanted)}", lambda: {n for n, p in cloud.pods().items() if p[0] == "Running"} == set(wanted)
             == set(cloud.pods()))
    wait_for("the node's pods", lambda: node.pods() == {n: "Running" for n in wanted})
    wait_for("the instances", lambda: len(node.shims()) == len(wanted))
    assert all(len(pids) == 1 for pids in node.shims().values())
