# SPDX-License-Identifier: Apache-2.0
"""The tunnel against a cloud written in another language, with other libraries."""
import asyncio
import os
import subprocess

import pytest

from cloud_peer import CloudPeer
from harness import BIN, PATIENCE

ECHO = BIN / "tunnel_echo"


async def until(what, condition):
    for _ in range(int(PATIENCE / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {PATIENCE:.0f} s")


class Echo:
    def __init__(self, peer, folder, node="edge-1", token=None):
        self.log = folder / "echo.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(ECHO), node, "127.0.0.1", token or peer.token, str(folder / "node"), str(peer.tunnel_port),
                 str(peer.cert_port)], stdout=log, stderr=log)

    def text(self):
        return self.log.read_text()

    def end(self):
        self.process.terminate()
        assert self.process.wait(timeout=PATIENCE) == 0, self.text()


def run(scenario, tmp_path, **kwargs):
    if not ECHO.exists():
        pytest.skip(f"{ECHO} is not built")

    async def main():
        peer = await CloudPeer.start(**kwargs)
        echo = Echo(peer, tmp_path)
        try:
            await scenario(peer, echo)
            echo.end()
        finally:
            if echo.process.poll() is None:
                echo.process.kill()
                echo.process.wait()
            await peer.stop()

    asyncio.run(main())


def test_joins_and_acknowledges(tmp_path):
    async def scenario(peer, echo):
        await until("a keepalive", lambda: peer.of("keepalive"))
        assert [p for p, _, _ in peer.requests][:2] == ["/ca.crt", "/edge.crt"]
        _, headers, csr = peer.requests[1]
        assert headers["nodename"] == "edge-1" and headers["authorization"].startswith("Bearer ")
        assert 200 < len(csr) < 400
        path, sent = peer.upgrades[0]
        lower = {k.lower(): v for k, v in sent.items()}
        assert path == "/e632aba927ea4ac2b575ec1603d56f10/edge-1/events"
        assert lower["node_id"] == "edge-1" and lower["connectionuse"] == "msg"
        assert "origin" not in lower and "sec-websocket-protocol" not in lower
        assert "sec-websocket-extensions" not in lower
        assert peer.received[0]["route"]["operation"] == "keepalive" and peer.received[0]["content"] == "ping"
        # one frame; a frame and a continuation; all without FIN and an empty continuation
        for size in (10, 6000, 50000):
            obj = {"metadata": {"name": "a", "uid": "u"}, "data": {"k": "x" * size}}
            msg_id = await peer.send("update", f"default/configmap/c{size}", obj)
            await until("an acknowledgement", lambda: peer.acks(msg_id))
            ack = peer.acks(msg_id)[0]
            assert ack["content"] == "OK" and ack["route"]["resource"] == f"default/configmap/c{size}"
            assert f"update default/configmap/c{size}" in echo.text()
        assert "header" in peer.received[0] and (tmp_path / "node/identity/current.pem").exists()

    run(scenario, tmp_path)


def test_comes_back_and_answers_pings(tmp_path):
    async def scenario(peer, echo):
        await until("a link", peer.connected.is_set)
        await asyncio.wait_for(await peer.session.ping(b"are you there"), PATIENCE)
        n = len(peer.of("keepalive"))
        peer.drop()
        await until("a new link", peer.connected.is_set)
        await until("a keepalive", lambda: len(peer.of("keepalive")) > n)
        assert [p for p, _, _ in peer.requests].count("/edge.crt") == 1
        assert len(peer.upgrades) == 2

    run(scenario, tmp_path)


def test_finds_the_dialect(tmp_path):
    async def scenario(peer, echo):
        await until("a link", peer.connected.is_set)
        notes = tmp_path / "node/identity/notes"
        await until("a note", notes.exists)
        assert "dialect 1.23" in notes.read_text()

    run(scenario, tmp_path, node_answer=b"Node not found")


def test_survives_what_is_no_message(tmp_path):
    async def scenario(peer, echo):
        await until("a link", peer.connected.is_set)
        for bad in ("{\"header\":", "[" * 100000, "", "\x00", "null", "7"):
            await peer.session.send(bad)
        await peer.session.send(b"\xff\xfe\x00binary")
        msg_id = await peer.send("update", "default/secret/s", {"metadata": {"name": "s", "uid": "u"}})
        await until("an acknowledgement", lambda: peer.acks(msg_id))
        assert len(peer.upgrades) == 1

    run(scenario, tmp_path)
