# SPDX-License-Identifier: Apache-2.0
"""A node whose runtime is written in Python, against a Cloud in the same process."""
import asyncio
import gc
import os
import threading
import time
import warnings

import pytest

import kubeedge
from kubeedge import (
    ContainerFlag,
    ContainerInfo,
    ContainerState,
    Context,
    KubeEdgeError,
    Node,
    NodeSettings,
    NodeState,
    Runtime,
    StateError,
    Taint,
)
from kubeedge import _const as c
from support import PATIENCE, Collector, Hub, has, pod


class Fake(Runtime):
    """Keeps containers in a dict and completes on the loop's thread, within the call."""

    def __init__(self):
        self.containers = {}
        self.calls = Collector()
        self.configs = {}

    def container_create(self, op, config):
        id = f"{config.pod_uid}/{config.name}/{config.attempt}"
        self.configs[id] = config
        self.containers[id] = ContainerInfo(
            id,
            config.pod_namespace,
            config.pod_name,
            config.pod_uid,
            config.name,
            image=config.image,
            attempt=config.attempt,
            state=ContainerState.CREATED,
            created_ms=1,
        )
        self.calls(("create", config.pod_name))
        self.end(op, id=id)

    def container_start(self, op, id):
        self.change(id, state=ContainerState.RUNNING, started_ms=2)
        self.calls(("start", self.containers[id].pod_name))
        self.end(op)

    def container_stop(self, op, id, grace_ms):
        self.change(id, state=ContainerState.EXITED, exit_code=0, finished_ms=3)
        self.calls(("stop", self.containers[id].pod_name))
        self.end(op)

    def container_remove(self, op, id):
        name = self.containers.pop(id).pod_name
        self.calls(("remove", name))
        self.end(op)

    def container_list(self, op):
        self.end(op, containers=list(self.containers.values()))

    def change(self, id, **more):
        self.containers[id] = self.containers[id]._replace(**more)

    def end(self, op, **more):
        assert op.complete(**more)


class Threaded(Fake):
    """Completes from a thread of its own each time."""

    def end(self, op, **more):
        threading.Thread(target=lambda: op.complete(**more)).start()


class Edge:
    """A node and what it told."""

    def __init__(self, ctx, folder, runtime=None, **more):
        self.states, self.pods = Collector(), Collector()
        self.context = ctx
        self.node = Node(
            ctx, name="edge-1", data=folder / "node", runtime=runtime, state=self.states, pod=self.pods, **more
        )

    def until_state(self, *wanted):
        self.states.until(self.context, lambda s: s and s[-1].state in wanted)

    def until_pod(self, condition):
        self.pods.until(self.context, lambda p: p and condition(p[-1]))


def running(info):
    return info.phase == "Running" and info.ready == 1


def edge(ctx, hub, runtime, **more):
    return Edge(ctx, hub.folder, runtime, cloud_host="127.0.0.1", **hub.address(), **more)


@pytest.mark.parametrize("kind", [Fake, Threaded])
def test_pod_of_a_manifest(ctx, hub, kind):
    """It is created and started, the cloud sees it Running; its manifest goes, and so does it."""
    runtime = kind()
    e = edge(ctx, hub, runtime)
    e.node.start()
    e.until_state(NodeState.READY)
    hub.nodes.until(ctx, lambda n: n and n[-1][0].status == "Ready" and n[-1][0].connected)
    hub.apply("web.yaml", pod("web"))
    e.until_pod(running)
    hub.pods.until(ctx, lambda p: p and p[-1][0].phase == "Running" and p[-1][0].ready == 1)
    assert runtime.calls == [("create", "web"), ("start", "web")]
    status = e.node.status()
    assert (status.state, status.pods, status.pods_running) == (NodeState.READY, 1, 1)
    assert status.tunnel.state == kubeedge.TunnelState.CONNECTED and status.tunnel.connected_ms is not None
    assert [(p.namespace, p.name, p.phase) for p in e.node.pods()] == [("default", "web", "Running")]
    hub.remove("web.yaml")
    e.until_pod(lambda p: p.removed)
    hub.pods.until(ctx, lambda p: p[-1][1])
    assert hub.cloud.pods() == [] and e.node.pods() == []
    runtime.calls.until(ctx, has(4))
    assert runtime.calls[2:] == [("stop", "web"), ("remove", "web")]
    e.node.close()
    assert e.node.closed


def test_what_a_runtime_is_given(ctx, hub):
    hub.apply(
        "map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {word: h\u00e9llo}\n",
    )
    runtime = Fake()
    e = edge(ctx, hub, runtime)
    e.node.start()
    more = """    command: ["/bin/lamp", "-v"]
    args: ["on"]
    workingDir: /tmp
    env:
    - {name: PLAIN, value: "1"}
    - {name: WORD, valueFrom: {configMapKeyRef: {name: settings, key: word}}}
    resources: {limits: {memory: 64Mi, cpu: 500m}, requests: {cpu: 100m}}
    volumeMounts:
    - {name: settings, mountPath: /etc/settings, readOnly: true}
  volumes:
  - {name: settings, configMap: {name: settings}}
"""
    hub.apply("web.yaml", pod("web", more=more))
    e.until_pod(running)
    (config,) = runtime.configs.values()
    assert (config.pod_namespace, config.pod_name, config.name) == ("default", "web", "main")
    assert (config.command, config.args) == (("/bin/lamp", "-v"), ("on",))
    assert config.working_dir == "/tmp" and config.attempt == 0
    assert config.env["PLAIN"] == "1" and config.env["WORD"] == "h\u00e9llo"
    assert (config.memory_limit, config.cpu_limit_milli, config.cpu_request_milli) == (64 << 20, 500, 100)
    assert config.run_as_user is None and config.run_as_group is None
    assert config.flags & ContainerFlag.HOST_NETWORK and not config.flags & ContainerFlag.TTY
    (mount,) = [m for m in config.mounts if m.volume == "settings"]
    assert mount.container_path == "/etc/settings" and mount.read_only
    with open(os.path.join(mount.host_path, "word"), encoding="utf-8") as f:
        assert f.read() == "h\u00e9llo"
    assert b'"web"' in config.pod_json
    e.node.close()


def test_restart_takes_back_without_the_cloud(ctx, hub):
    runtime = Fake()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web"))
    e.until_pod(running)
    hub.pods.until(ctx, lambda p: p and p[-1][0].phase == "Running")
    address = hub.address()
    e.node.close()
    hub.cloud.close()
    runtime.calls.clear()
    again = Edge(ctx, hub.folder, runtime, cloud_host="127.0.0.1", **address)
    again.node.start()
    again.until_pod(running)
    again.until_state(NodeState.OFFLINE)
    assert runtime.calls == []
    again.node.close()


def test_event_of_a_container(ctx, hub):
    runtime = Fake()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("job.yaml", pod("job", spec="  restartPolicy: Never\n"))
    e.until_pod(running)
    (id,) = runtime.containers
    runtime.change(id, state=ContainerState.EXITED, exit_code=3, finished_ms=5, reason="Error")
    threading.Thread(target=lambda: runtime.event(runtime.containers[id])).start()
    e.until_pod(lambda p: p.phase == "Failed")
    hub.pods.until(ctx, lambda p: p[-1][0].phase == "Failed")
    e.node.close()
    assert runtime.event(runtime.containers[id]) is False


def test_refusal_by_the_runtime(ctx, hub):
    """A KubeEdgeError of a method is the operation's end, and is told to the cloud; the program goes on."""

    class Refusing(Fake):
        def container_create(self, op, config):
            self.calls(op)
            raise KubeEdgeError(c.KE_ENOTSUP, "this board\0has no lamp")

    runtime = Refusing()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web"))
    runtime.calls.until(ctx, has(1))
    hub.pods.until(ctx, lambda p: p and p[-1][0].reason)
    assert hub.pods[-1][0].phase == "Pending"
    e.node.close()


def test_fail_with_reason(ctx, hub):
    class Failing(Fake):
        def image_pull(self, op, image, policy, pod_json):
            self.calls((image, policy))
            op.fail(c.KE_ENOTFOUND, "no such image here", reason="ErrImagePull")

    runtime = Failing()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web", image="shop/lamp:9"))
    hub.pods.until(ctx, lambda p: p and p[-1][0].reason in ("ErrImagePull", "ImagePullBackOff"))
    assert runtime.calls[0] == ("shop/lamp:9", "IfNotPresent")
    e.node.close()


def test_mistake_in_the_runtime_is_raised(ctx, hub):
    class Broken(Fake):
        def container_create(self, op, config):
            self.calls(op)
            raise ZeroDivisionError("a mistake\0\udcff")

    runtime = Broken()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web"))
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        ctx.run()
    assert runtime.calls[0].complete(id="late") is False
    hub.pods.until(ctx, lambda p: p and p[-1][0].reason)  # the cloud is told too
    e.node.close()
    while ctx._core.failures:  # it was tried again meanwhile
        with pytest.raises(ZeroDivisionError):
            ctx.run()


def test_sandboxes_and_images(ctx, hub):
    class Full(Fake):
        def sandbox_run(self, op, config):
            self.calls(("sandbox", config.pod_name))
            op.complete(id="box-" + config.pod_uid, ip="10.1.2.3")

        def sandbox_stop(self, op, id):
            self.calls(("sandbox stop", id[:4]))
            op.complete()

        def sandbox_remove(self, op, id):
            self.calls(("sandbox remove", id[:4]))
            op.complete()

        def image_pull(self, op, image, policy, pod_json):
            self.calls(("pull", image))
            op.complete(id="sha256:1")

    runtime = Full()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web"))
    e.until_pod(running)
    assert [k for k, _ in runtime.calls] == ["sandbox", "pull", "create", "start"]
    assert next(iter(runtime.configs.values())).sandbox_id.startswith("box-")
    hub.remove("web.yaml")
    runtime.calls.until(ctx, lambda calls: ("sandbox remove", "box-") in calls)
    e.node.close()


def test_operations_end_once(ctx, hub):
    class Twice(Fake):
        def end(self, op, **more):
            self.calls((op.complete(**more), op.complete(**more)))

    runtime = Twice()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web"))
    e.until_pod(running)
    assert {r for r in runtime.calls if isinstance(r[0], bool)} == {(True, False)}
    e.node.close()


def test_completion_after_the_node_is_gone(ctx, hub):
    class Slow(Fake):
        def end(self, op, **more):
            self.calls(op)
            if op.name != "container_create":
                op.complete(**more)

    runtime = Slow()
    e = edge(ctx, hub, runtime)
    e.node.start()
    hub.apply("web.yaml", pod("web"))
    runtime.calls.until(ctx, lambda calls: any(getattr(o, "name", "") == "container_create" for o in calls))
    operations = [o for o in runtime.calls if hasattr(o, "complete")]
    e.node.stop()
    e.until_state(NodeState.STOPPED)
    assert not any(op.complete(id="late") for op in operations)
    e.node.close()
    gc.collect()
    assert not any(op.complete(id="late") for op in operations)


def test_attach_and_detach(ctx, tmp_path):
    class Told(Fake):
        def attach(self):
            self.calls("attach")

        def detach(self):
            self.calls("detach")

    runtime = Told()
    e = Edge(ctx, tmp_path, runtime)
    e.node.start()
    assert runtime.calls == ["attach"]
    e.node.stop()
    runtime.calls.until(ctx, has(2))
    e.node.start()
    e.node.close()
    assert runtime.calls == ["attach", "detach"] * 2


# ---- life ----


def test_offline_node(ctx, tmp_path):
    e = Edge(ctx, tmp_path, Fake())
    assert e.node.status().state == NodeState.STOPPED
    e.node.start()
    e.until_state(NodeState.OFFLINE)
    with pytest.raises(StateError):
        e.node.start()
    e.node.stop()
    e.until_state(NodeState.STOPPED)
    assert e.node.pods() == []
    e.node.close()
    for call in (e.node.status, e.node.pods, e.node.start, e.node.stop):
        with pytest.raises(StateError, match="Node is closed"):
            call()


@pytest.mark.parametrize("what", ["stop", "close"])
def test_ended_from_its_own_callback(ctx, tmp_path, what):
    states = Collector()

    def state(st):
        states(st.state)
        if st.state == NodeState.OFFLINE:
            getattr(node, what)()

    runtime = Fake()
    node = Node(ctx, name="edge-1", data=tmp_path / "node", runtime=runtime, state=state)
    node.start()
    states.until(ctx, lambda s: (NodeState.STOPPED if what == "stop" else NodeState.OFFLINE) in s)
    node.close()
    seen = len(states)
    done = Collector()
    ctx.post(lambda: done(1))
    done.until(ctx, has(1))
    assert len(states) == seen


def test_callbacks_see_ready(ctx, hub):
    e = edge(ctx, hub, Fake(), labels={"place": "hall"}, taints=[Taint("only", "lamps", "NoSchedule")])
    e.node.start()
    e.until_state(NodeState.READY)
    order = [s.state for s in e.states]
    assert order.index(NodeState.OFFLINE) < order.index(NodeState.CONNECTED) < order.index(NodeState.READY)
    (node,) = hub.cloud.nodes()
    assert (node.name, node.status, node.connected) == ("edge-1", "Ready", True)
    place = "nodeSelector: {place: hall}"
    tolerate = "\n  tolerations: [{key: only, value: lamps}]"
    hub.apply("away.yaml", pod("away").replace("nodeName: edge-1", place))  # the taint keeps it away
    hub.apply("web.yaml", pod("web").replace("nodeName: edge-1", place + tolerate))
    e.until_pod(running)
    assert {p.name: p.node for p in hub.cloud.pods()} == {"web": "edge-1", "away": ""}
    e.node.close()
    hub.nodes.until(ctx, lambda n: not n[-1][0].connected)


def test_exception_of_a_state_callback(ctx, tmp_path):
    def state(st):
        raise ZeroDivisionError(st.state.name)

    node = Node(ctx, name="edge-1", data=tmp_path / "node", state=state)
    node.start()
    with pytest.raises(ZeroDivisionError):
        ctx.run()
    node.close()
    ctx._core.failures.clear()


def test_a_state_of_a_newer_library():
    assert NodeState(4) is NodeState.READY
    unknown = NodeState(99)
    assert unknown == 99 and unknown.name == "UNKNOWN_99" and isinstance(unknown, NodeState)
    with pytest.raises(ValueError):
        NodeState("ready")


def test_two_nodes_on_one_folder(ctx, tmp_path):
    first = Edge(ctx, tmp_path)
    first.node.start()
    second = Edge(ctx, tmp_path)
    with pytest.raises(kubeedge.Busy):
        second.node.start()
    second.node.close()
    first.node.close()


def test_wrong_configuration(ctx, tmp_path):
    with pytest.raises(ValueError, match="name"):
        Node(ctx, data=tmp_path)
    with pytest.raises(ValueError, match="name"):
        Node(ctx, name="Not A Name", data=tmp_path, runtime=Fake())
    with pytest.raises(TypeError):
        Runtime()


def test_dropped_node_is_ended(tmp_path):
    """Callbacks that do not hold the node do not keep it either."""
    runtime = Fake()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Context() as ctx:
            Node(ctx, name="edge-1", data=tmp_path / "node", runtime=runtime).start()
            gc.collect()
            ctx.dispatch()
            ctx.dispatch()
            with Node(ctx, name="edge-1", data=tmp_path / "node") as again:
                again.start()
    assert [w.category for w in caught] == [ResourceWarning]


# ---- settings, the built-in runtime, asyncio ----


def test_settings(ctx, hub):
    tunnel, cert = hub.cloud.ports()
    path = hub.folder / "edgecore.yaml"
    path.write_text(
        f"""apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore
modules:
  edgeHub:
    httpServer: https://127.0.0.1:{cert}
    token: {hub.cloud.token()}
    websocket:
      server: 127.0.0.1:{tunnel}
  edged:
    hostnameOverride: edge-9
colour: blue
libkubeedge:
  data: {hub.folder}/node9
"""
    )
    with NodeSettings(ctx, path) as settings:
        assert (settings.name, settings.data) == ("edge-9", f"{hub.folder}/node9")
        assert settings.unknown == [("colour", 11)]
        states = Collector()
        node = Node(ctx, settings=settings, runtime=Fake(), state=states)
    node.start()
    states.until(ctx, lambda s: s and s[-1].state == NodeState.READY)
    assert [n.name for n in hub.cloud.nodes()] == ["edge-9"]
    node.close()
    with pytest.raises(kubeedge.NotFound):
        NodeSettings(ctx, hub.folder / "none.yaml")
    path.write_text("a: [1")
    with pytest.raises(kubeedge.ParseError):
        NodeSettings(ctx, path)


def test_process_runtime(ctx, hub):
    e = edge(
        ctx,
        hub,
        None,
        builtin_runtime="process",
        process_allow=["/bin/", "/usr/bin/"],
        shim=os.environ["SHIM"],
        log_folder=hub.folder / "logs",
    )
    e.node.start()
    hub.apply("sleep.yaml", pod("sleep", more='    command: ["/bin/sleep", "100000"]\n'))
    e.until_pod(running)
    hub.remove("sleep.yaml")
    e.until_pod(lambda p: p.removed)
    e.node.close()


def test_asyncio_runtime(hub):
    """A node in an asyncio loop, whose runtime's work is coroutines."""

    class Coroutines(Fake):
        def end(self, op, **more):
            async def later():
                await asyncio.sleep(0)
                assert op.complete(**more)

            tasks.append(asyncio.get_running_loop().create_task(later()))

    tasks = []

    async def main():
        async with Context() as ctx:
            up = asyncio.Event()
            runtime = Coroutines()
            node = Node(
                ctx,
                name="edge-1",
                data=hub.folder / "node",
                runtime=runtime,
                cloud_host="127.0.0.1",
                pod=lambda p: running(p) and up.set(),
                **hub.address(),
            )
            node.start()
            hub.apply("web.yaml", pod("web"))
            await asyncio.wait_for(up.wait(), PATIENCE)
            assert runtime.calls == [("create", "web"), ("start", "web")]
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_cloud_is_gone_and_back(ctx, tmp_path):
    """The cloud restarts with its folder; the node finds it again on the same ports by itself."""
    first = Hub(tmp_path)
    tunnel, cert = first.cloud.ports()
    e = edge(ctx, first, Fake(), retry_min_ms=50, retry_max_ms=200)
    e.node.start()
    e.until_state(NodeState.READY)
    first.close()
    e.until_state(NodeState.OFFLINE)
    with Context(thread=True) as other:
        with kubeedge.Cloud(
            other, data=tmp_path / "cloud", listen="127.0.0.1", tunnel_port=tunnel, cert_port=cert
        ) as cloud:
            cloud.start()
            e.until_state(NodeState.READY)
            e.node.close()


def until(ctx, condition):
    """For what no callback tells."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        if ctx.threaded:
            time.sleep(0.01)
        else:
            ctx.wait(50)
            ctx.dispatch()


def test_mappers(hub, ctx, tmp_path):
    """What is said of mappers: none can register; the socket cannot be made; nobody has registered yet."""
    config = dict(cloud_host="127.0.0.1", runtime=Fake(), **hub.address())
    with Node(ctx, name="edge-1", data=tmp_path / "none", **config) as node:
        with pytest.raises(StateError):
            node.mappers()
        node.start()
        with pytest.raises(StateError):
            node.mappers()
    with Node(ctx, name="edge-1", data=tmp_path / "bad", dmi_socket=tmp_path / "no" / "dmi.sock", **config) as node:
        node.start()

        def refused():
            try:
                node.mappers()
            except kubeedge.NotFound as e:
                return "dmi.sock" in str(e)
            except kubeedge.KubeEdgeError:
                return False
            raise AssertionError("there is no such folder")

        until(ctx, refused)
    with Node(ctx, name="edge-1", data=tmp_path / "good", dmi_socket=tmp_path / "dmi.sock", **config) as node:
        node.start()

        def listens():
            try:
                return node.mappers() == []
            except kubeedge.KubeEdgeError:
                return False

        until(ctx, listens)
