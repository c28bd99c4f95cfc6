# SPDX-License-Identifier: Apache-2.0
"""Devices that speak JSON over the node's MQTT server, with mosquitto's clients; and pushMethod: values that go to an HTTP server,
to topics of the node's own server and of another broker."""
import http.server
import shutil
import subprocess
import threading
import time

import pytest

from device_harness import device, devices, in_cloud, model, online, says
from harness import PATIENCE, free_port, wait_for
from mqtt_harness import Server

pytestmark = pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto's clients are not installed")
LAMP = {"level": ("INT", "ReadWrite", 'maximum: "100"'), "power": ("DOUBLE", "ReadOnly", "")}
JSON = '{topic: "lamp/${name}/state", commandTopic: "lamp/${name}/set", availabilityTopic: "lamp/${name}/alive"}'


def tell(port, topic, payload, *more):
    subprocess.run(["mosquitto_pub", "-p", str(port), "-t", topic, "-m", payload, "-q", "1", *more], check=True, timeout=PATIENCE)


class Ear:
    """mosquitto_sub: what came, as lines "RETAINED TOPIC PAYLOAD"."""

    def __init__(self, port, topic):
        self.lines, self.marks, self.process = [], 0, None
        mark = "ear/is-there"

        def there():
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(["mosquitto_sub", "-p", str(port), "-t", topic, "-t", mark, "-q", "2", "-F", "%r %t %p"],
                                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                threading.Thread(target=self.listen, args=[self.process], daemon=True).start()
            subprocess.run(["mosquitto_pub", "-p", str(port), "-t", mark, "-m", "x"], timeout=PATIENCE, stderr=subprocess.DEVNULL)
            return self.marks

        wait_for(f"a subscription of {topic}", there)

    def listen(self, process):
        for line in process.stdout:
            if " ear/" in line:
                self.marks += 1
            else:
                self.lines.append(line.strip())

    def close(self):
        self.process.kill()
        self.process.wait()

    def heard(self, part):
        return any(part in line for line in self.lines)


@pytest.fixture
def ears():
    made = []

    def listen(port, topic):
        made.append(Ear(port, topic))
        return made[-1]

    yield listen
    for ear in made:
        ear.close()


@pytest.fixture
def port(node):
    p = free_port()
    node.start("--mqtt", f"127.0.0.1:{p}", runtime="none")
    wait_for("the node's MQTT server", lambda: subprocess.run(["mosquitto_pub", "-p", str(p), "-t", "x", "-n"], timeout=PATIENCE,
                                                              stderr=subprocess.DEVNULL).returncode == 0)
    return p


def lamp(name, wanted=None, **push):
    """push: property -> pushMethod; a property without one is not pushed"""
    def more(prop):
        lines = [f'desired: {{value: "{wanted}"}}'] if prop == "level" and wanted is not None else []
        return "\n    ".join(lines + ([f"pushMethod: {push[prop]}"] if prop in push else []))

    return device(name, "lamp-model", JSON, [("level", "{path: level}", more("level")), ("power", "{path: sensor.power}", more("power"))],
                  protocol="mqtt-json")


def test_json_from_the_cloud_to_the_device_and_back(cloud, node, port, ears):
    cloud.apply("model.yaml", model("lamp-model", LAMP, "mqtt-json"))
    orders = ears(port, "lamp/+/set")
    cloud.apply("a.yaml", lamp("a", 40))
    cloud.apply("b.yaml", lamp("b"))
    wait_for("what a device waits for", lambda: says(node, "a", 'did not say "online" on topic lamp/a/alive'))
    tell(port, "lamp/a/alive", "online", "-r")
    tell(port, "lamp/b/alive", "online", "-r")
    wait_for("both of them", lambda: online(node, "a") and online(node, "b"))
    wait_for("the desired value on its topic", lambda: orders.heard('lamp/a/set {"level":40}'))
    tell(port, "lamp/a/state", '{"level":40,"sensor":{"power":7.25}}')
    wait_for("the reported value", lambda: in_cloud(cloud, "a", "level", "40") and in_cloud(cloud, "a", "power", "7.25"))
    assert devices(node)["a"].properties["level"] == ("40", "40", "")
    # no JSON, and what it goes on with; a device that says it is away, and that does not matter to the other
    tell(port, "lamp/a/state", "{level")
    tell(port, "lamp/b/state", '{"level":1,"sensor":{"power":"much"}}')
    wait_for("what is wrong with it", lambda: says(node, "b", "the device gave no double"))
    tell(port, "lamp/b/alive", "offline", "-r")
    wait_for("why it is away", lambda: says(node, "b", 'says "offline" on topic lamp/b/alive'))
    tell(port, "lamp/a/state", '{"sensor":{"power":8}}')
    wait_for("the next value", lambda: in_cloud(cloud, "a", "power", "8"))
    # set while the node is away
    node.kill()
    cloud.apply("a.yaml", lamp("a", 55))
    node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
    again = ears(port, "lamp/+/set")
    wait_for("the value that was set meanwhile", lambda: again.heard('lamp/a/set {"level":55}') or orders.heard('lamp/a/set {"level":55}'))
    cloud.remove("b.yaml")
    wait_for("its end", lambda: "b" not in devices(node))


RULES = ('[{"name":"mean","property":"level","window":{"count":6},"topic":"plant/mean"},'
         '{"name":"hot","property":"power","threshold":{"above":50},"to":"cloud","topic":"default/user/alarm"}]')


def test_windows_and_results_outlive_kill_9(cloud, node, port, ears):
    notes = f", annotations: {{libkubeedge.io/process: '{RULES}'}}"
    cloud.apply("model.yaml", model("lamp-model", LAMP, "mqtt-json"))
    cloud.apply("a.yaml", device("a", "lamp-model", JSON, [("level", "{path: level}", ""), ("power", "{path: sensor.power}", "")],
                                 protocol="mqtt-json", notes=notes))
    tell(port, "lamp/a/alive", "online", "-r")
    wait_for("the device", lambda: online(node, "a"))
    cloud.kill()
    for level in (10, 20, 30):
        tell(port, "lamp/a/state", f'{{"level":{level}}}')
    tell(port, "lamp/a/state", '{"sensor":{"power":60}}')
    wait_for("the result in the outbox", lambda: node.status().get("outbox", "0").split()[0] not in ("0", ""))
    time.sleep(2)  # what is promised: within a second it is stored
    node.kill()
    node.start("--mqtt", f"127.0.0.1:{port}", runtime="none")
    heard = ears(port, "plant/mean")
    wait_for("the device again", lambda: online(node, "a"))
    for level in (40, 50, 60):
        tell(port, "lamp/a/state", f'{{"level":{level}}}')
    wait_for("the result of both lives", lambda: heard.lines)
    assert '"value":"35","aggregate":"mean","count":6,"incomplete":true' in heard.lines[0]
    cloud.start()
    wait_for("the cloud to have the alarm", lambda: node.status().get("outbox", "1").split()[0] == "0", 90)


class Posts:
    """An HTTP server that keeps what is posted; answer: its status, or None: it never answers."""

    def __init__(self):
        posts = self
        self.bodies, self.answer, self.free = [], 200, threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802 (the name is http.server's)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                posts.bodies.append((self.path, self.headers["Content-Type"], body))
                if posts.answer is None:
                    posts.free.wait(PATIENCE)
                    return
                self.send_response(posts.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.free.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def posts():
    p = Posts()
    yield p
    p.close()


def by_http(port):
    return f"{{http: {{hostName: 'http://127.0.0.1', port: {port}, requestPath: /values, timeout: 1000}}}}"


def by_mqtt(port, topic, more="qos: 1"):
    return f"{{mqtt: {{address: 'tcp://127.0.0.1:{port}', topic: {topic}, {more}}}}}"


def test_values_are_pushed(cloud, node, port, posts, ears, tmp_path):
    (tmp_path / "broker").mkdir()
    broker = Server(tmp_path / "broker").start()
    try:
        cloud.apply("model.yaml", model("lamp-model", LAMP, "mqtt-json"))
        own, far = ears(port, "pushed/#"), ears(broker.port, "pushed/#")
        cloud.apply("a.yaml", lamp("a", level=by_http(posts.port), power=by_mqtt(port, "pushed/own")))
        cloud.apply("b.yaml", lamp("b", level=by_mqtt(broker.port, "pushed/far", "qos: 2, retained: true"),
                                   power="{dbMethod: {TDEngine: {TDEngineClientConfig: {addr: x}}}}"))
        for name in "ab":
            tell(port, f"lamp/{name}/alive", "online", "-r")
            tell(port, f"lamp/{name}/state", '{"level":11,"sensor":{"power":2.5}}', "-r")
        wait_for("a post", lambda: posts.bodies)
        path, kind, body = posts.bodies[0]
        assert (path, kind) == ("/values", "application/x-www-form-urlencoded") and body.startswith("level=11&time=20")
        wait_for("a message at the node's own server", lambda: own.heard("pushed/own: 2.5"))
        assert own.lines[0].startswith("0 pushed/own time is 20")
        wait_for("one at the other broker", lambda: far.heard("pushed/far: 11"))
        late = ears(broker.port, "pushed/far")
        wait_for("and retained", lambda: late.heard("1 pushed/far time is 20"))
        wait_for("what is not executed", lambda: says(node, "b", "dbMethod TDEngine of power: it is not supported"))
        wait_for("their count", lambda: devices(node)["a"].pushed[0] >= 4 and devices(node)["a"].pushed[1] == 0)
        # both servers fail, each in its way: it is said, the twin and the other way go on
        posts.answer = None
        broker.kill()
        wait_for("that nobody answers", lambda: says(node, "a", f"values are not pushed to http://127.0.0.1:{posts.port}/values: no whole answer"))
        wait_for("that nobody is there", lambda: says(node, "b", f"values are not pushed to MQTT server tcp://127.0.0.1:{broker.port}"))
        tell(port, "lamp/a/state", '{"level":12,"sensor":{"power":3.5}}', "-r")
        tell(port, "lamp/b/state", '{"level":13}', "-r")
        wait_for("the twin", lambda: in_cloud(cloud, "a", "level", "12") and in_cloud(cloud, "b", "level", "13"))
        wait_for("the other way", lambda: own.heard("pushed/own: 3.5"))
        assert online(node, "a") and online(node, "b")
        posts.bodies.clear()
        posts.answer = 204
        posts.free.set()
        broker.start()
        back = ears(broker.port, "pushed/#")
        wait_for("the newest value by HTTP", lambda: any(b[2].startswith("level=12&") for b in posts.bodies), 90)
        wait_for("the newest value by MQTT", lambda: back.heard("pushed/far: 13"), 90)
        assert not any(b[2].startswith("level=11&") for b in posts.bodies)
    finally:
        broker.kill()
