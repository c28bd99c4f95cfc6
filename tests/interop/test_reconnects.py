# SPDX-License-Identifier: Apache-2.0
"""The link is cut again and again while objects change (KE_REAL_RECONNECTS times, 8 by default): all arrives,
and neither end grows."""
import os
import pathlib
import random
import re

from cable import Cable
from harness import Node, configmap, pod, wait_for

CUTS = int(os.environ.get("KE_REAL_RECONNECTS", "8"))
SEED = int(os.environ.get("KE_SEED", "1"))
SHOW = ["/bin/sh", "-c", "echo \"word $WORD\"; while :; do sleep 1000; done"]
ENV = "    env:\n    - name: WORD\n      valueFrom: {configMapKeyRef: {name: words, key: word}}\n"
# One leaked block of 100 bytes per connection would not show over an allocator's own noise here: blocks are
# counted on the virtual clock (tests/tunnel/test_endure.c). A leaked TLS session is 50 KiB and more.
GROWTH_KIB = 1024


def fds(program):
    return len(os.listdir(f"/proc/{program.process.pid}/fd"))


def private_kib(program):
    text = pathlib.Path(f"/proc/{program.process.pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_Dirty:\s+(\d+) kB", text, re.M))


def test_reconnects(tmp_path, cloud):
    rng = random.Random(SEED)
    cable = Cable(cloud)
    node = Node(tmp_path, cloud=cable, token=cloud.token())
    quick = tmp_path / "edgecore.yaml"  # pauses would grow to a minute, as links that break at once make them
    quick.write_text("libkubeedge: {retryMin: 20ms, retryMax: 200ms}\n")
    node.start("--config", str(quick))
    try:
        wait_for("Ready", lambda: cloud.node_ready("edge-1"))
        cloud.apply("kept.yaml", pod("kept", ["/bin/sleep", "100000"]))
        wait_for("Running", lambda: cloud.running("kept"))
        before, first = node.shims(), None
        for i in range(CUTS):
            if i == CUTS // 4:  # what is needed once is there by now
                first = [(fds(p), private_kib(p)) for p in (node, cloud)]
            ended = cloud.text().count("session of node edge-1 ended")
            if rng.random() < 0.5:
                cloud.apply("words.yaml", configmap("words", word=f"w{i}"))
            cable.cut(rng)
            wait_for(f"cut {i}", lambda: cloud.text().count("session of node edge-1 ended") > ended)
            cloud.apply("words.yaml", configmap("words", word=f"last{i}"))
            wait_for(f"reconnect {i}", lambda: cloud.node_ready("edge-1"))
        cloud.apply("show.yaml", pod("show", SHOW, more=ENV))
        wait_for("the last word", lambda: f"word last{CUTS - 1}" in node.command("logs", "show"))
        assert {k: v for k, v in node.shims().items() if k in before} == before
        cloud.remove("show.yaml")
        wait_for("the deletion", lambda: "show" not in cloud.pods())
        wait_for("no descriptor more than at first", lambda: [fds(node), fds(cloud)] == [n for n, _ in first])
        last = [(fds(p), private_kib(p)) for p in (node, cloud)]
        print(f"count: {CUTS} real reconnects, seed {SEED}, (descriptors, private KiB) of node and cloud: {first} -> {last}")
        assert all(b[1] <= a[1] + GROWTH_KIB for a, b in zip(first, last)), (first, last)
    finally:
        cable.close()
        node.kill()
        node.end_workloads()
