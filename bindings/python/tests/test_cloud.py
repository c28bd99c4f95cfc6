# SPDX-License-Identifier: Apache-2.0
import socket

import pytest

import kubeedge
from kubeedge import PORT_ANY, Cloud, Context, StateError
from support import Collector, has, pod


def cloud(ctx, tmp_path, **more):
    return Cloud(
        ctx, data=tmp_path / "cloud", **{"listen": "127.0.0.1", "tunnel_port": PORT_ANY, "cert_port": PORT_ANY, **more}
    )


def test_start_and_stop(ctx, tmp_path):
    with cloud(ctx, tmp_path, advertise=["cloud.example", "192.0.2.1"]) as c:
        for call in (c.ports, c.token, c.nodes, c.pods):
            with pytest.raises(StateError):
                call()
        c.start()
        with pytest.raises(StateError):
            c.start()
        tunnel, cert = c.ports()
        assert tunnel != cert
        for port in (tunnel, cert):
            socket.create_connection(("127.0.0.1", port)).close()
        first = c.token()
        assert len(first.split(".")) == 4 and len(first.split(".")[0]) == 64
        assert c.nodes() == [] and c.pods() == []
        c.stop()
        with pytest.raises(StateError):
            c.ports()
        c.start()
        assert c.token().split(".")[0] == first.split(".")[0]  # the same CA


def test_manifests(ctx, tmp_path):
    folder, pods, errors = tmp_path / "manifests", Collector(), Collector()
    folder.mkdir()
    with cloud(ctx, tmp_path, manifests=folder, pod=pods, manifest_error=errors) as c:
        c.start()
        (folder / ".new").write_text(pod("web"))
        (folder / ".new").rename(folder / "web.yaml")
        pods.until(ctx, has(1))
        info, removed = pods[0]
        assert (info.namespace, info.name, info.node, info.phase) == ("default", "web", "edge-1", "Pending")
        assert not removed and c.pods()[0].uid == info.uid
        (folder / ".bad").write_text("apiVersion: v1\nkind: Pod\nmetadata:\n  name: Not A Name\n")
        (folder / ".bad").rename(folder / "bad.yaml")
        errors.until(ctx, has(1))
        assert "bad.yaml" in errors[0]
        (folder / "web.yaml").unlink()
        pods.until(ctx, lambda p: p[-1][1] or p[-1][0].deleting)


def test_errors(ctx, tmp_path):
    with pytest.raises(ValueError, match="port"):
        cloud(ctx, tmp_path, tunnel_port=70000)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = s.getsockname()[1]
        with cloud(ctx, tmp_path, tunnel_port=taken) as c:
            with pytest.raises(kubeedge.AddressInUse, match=str(taken)):
                c.start()
    with cloud(ctx, tmp_path) as c, cloud(ctx, tmp_path) as other:
        c.start()
        with pytest.raises(kubeedge.Busy):
            other.start()


@pytest.mark.parametrize("what", ["stop", "close"])
def test_ended_from_its_own_callback(ctx, tmp_path, what):
    folder, pods = tmp_path / "manifests", Collector()
    folder.mkdir()
    (folder / "web.yaml").write_text(pod("web"))
    c = cloud(ctx, tmp_path, manifests=folder, pod=lambda info, removed: (pods(info), getattr(c, what)()))
    c.start()
    pods.until(ctx, has(1))
    done = Collector()
    ctx.post(lambda: done(1))
    done.until(ctx, has(1))
    with pytest.raises(StateError):
        c.ports()
    c.close()


def test_exception_of_a_callback(ctx, tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(pod("web"))

    def oops(info, removed):
        raise ZeroDivisionError

    with cloud(ctx, tmp_path, manifests=folder, pod=oops) as c:
        c.start()
        with pytest.raises(ZeroDivisionError):
            ctx.run()
    ctx._core.failures.clear()


def test_closed_with_its_context(tmp_path):
    with Context(thread=True) as ctx:
        c = cloud(ctx, tmp_path)
        c.start()
    assert c.closed
