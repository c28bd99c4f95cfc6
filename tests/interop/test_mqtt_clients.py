# SPDX-License-Identifier: Apache-2.0
"""Clients that people use, over every transport, with both versions: each subscribes, publishes and hears."""
import os
import pathlib
import queue
import shutil
import ssl
import subprocess

import pytest

from harness import PATIENCE
from mqtt_harness import Server

try:
    import paho.mqtt.client as paho
    import paho.mqtt.properties as properties
    from paho.mqtt.packettypes import PacketTypes
except ImportError:
    paho = None

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("mqtt"), tls=True, websockets=True).start()
    yield s
    s.kill()


# ---- mosquitto_pub, mosquitto_sub ----

@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto-clients is not installed")
@pytest.mark.parametrize("qos", ["0", "1", "2"])
@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_mosquitto_clients(server, transport, version, qos):
    where = ["-h", "127.0.0.1", "-p", str(server.ports[transport]), "-V", version, "-q", qos, "-t", "tools/x"]
    if transport == "tls":
        where += ["--cafile", server.ca]
    sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", *where, "-C", "3", "-d", "-W", "60"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in sub.stdout:
        lines.append(line.strip())
        if "Subscribed" in line:
            break
    for text in ("one", "two", "three"):
        subprocess.run(["mosquitto_pub", *where, "-m", text], check=True, timeout=PATIENCE)
    lines += [line.strip() for line in sub.stdout]
    assert sub.wait(PATIENCE) == 0, lines
    assert [line for line in lines if line in ("one", "two", "three")] == ["one", "two", "three"], lines


# ---- paho for Python ----

def paho_client(server, transport, version, client_id="", **options):
    ws = transport.startswith("ws")
    if version == 5:
        c = paho.Client(client_id=client_id, protocol=paho.MQTTv5, transport="websockets" if ws else "tcp")
    else:
        c = paho.Client(client_id=client_id, protocol=paho.MQTTv311, transport="websockets" if ws else "tcp", **options)
    if transport in ("tls", "wss"):
        c.tls_set(server.ca, tls_version=ssl.PROTOCOL_TLS_CLIENT)
    c.heard, c.events = queue.Queue(), queue.Queue()
    c.on_message = lambda c, u, m: c.heard.put(m)
    c.on_connect = lambda *a: a[0].events.put(("connected", a[3]))
    c.on_subscribe = lambda *a: a[0].events.put(("subscribed", a[3]))
    return c


def paho_up(c, server, transport, **kwargs):
    c.connect("127.0.0.1", server.ports[transport], **kwargs)
    c.loop_start()
    what, rc = c.events.get(timeout=PATIENCE)
    assert what == "connected" and rc == 0, rc


def paho_subscribe(c, *args, **kwargs):
    c.subscribe(*args, **kwargs)
    assert c.events.get(timeout=PATIENCE)[0] == "subscribed"


needs_paho = pytest.mark.skipif(paho is None, reason="python3-paho-mqtt is not installed")


@needs_paho
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"])
def test_paho_python(server, transport, version):
    c = paho_client(server, transport, version)
    paho_up(c, server, transport)
    topic = f"py/{transport}/{version}"
    paho_subscribe(c, topic, 2)
    for i in range(30):
        c.publish(topic, f"{i}" + "x" * (i * 400), qos=i % 3).wait_for_publish(PATIENCE)
    for i in range(30):
        m = c.heard.get(timeout=PATIENCE)
        assert (m.payload.decode(), m.qos, m.retain) == (f"{i}" + "x" * (i * 400), i % 3, False)
    c.disconnect()
    c.loop_stop()


@needs_paho
@pytest.mark.parametrize("transport", ["tcp", "wss"])
def test_paho_python_properties(server, transport):
    c = paho_client(server, transport, 5)
    paho_up(c, server, transport)
    subscription = properties.Properties(PacketTypes.SUBSCRIBE)
    subscription.SubscriptionIdentifier = 77
    paho_subscribe(c, "py/props", 1, properties=subscription)
    p = properties.Properties(PacketTypes.PUBLISH)
    p.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
    p.ResponseTopic = "py/answer"
    p.CorrelationData = b"\x00\x01"
    p.ContentType = "text/plain"
    p.PayloadFormatIndicator = 1
    p.MessageExpiryInterval = 100
    c.publish("py/props", "hello", qos=1, properties=p)
    m = c.heard.get(timeout=PATIENCE)
    got = m.properties
    assert got.UserProperty == [("a", "1"), ("b", "2"), ("a", "3")]
    assert (got.ResponseTopic, got.CorrelationData, got.ContentType) == ("py/answer", b"\x00\x01", "text/plain")
    assert got.PayloadFormatIndicator == 1 and 99 <= got.MessageExpiryInterval <= 100
    assert got.SubscriptionIdentifier == [77]
    c.disconnect()
    c.loop_stop()


# ---- paho for C ----

@pytest.fixture(scope="module")
def paho_c(tmp_path_factory):
    if not pathlib.Path("/usr/include/MQTTClient.h").exists() or not shutil.which("cc"):
        pytest.skip("libpaho-mqtt-dev or a C compiler is not installed")
    exe = tmp_path_factory.mktemp("paho") / "paho_client"
    subprocess.run(["cc", "-O1", "-o", exe, HERE / "paho_client.c", "-lpaho-mqtt3cs"], check=True)
    return exe


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("transport,scheme", [("tcp", "tcp"), ("tls", "ssl"), ("ws", "ws"), ("wss", "wss")])
def test_paho_c(server, paho_c, transport, scheme, version):
    url = f"{scheme}://127.0.0.1:{server.ports[transport]}"
    ca = server.ca if transport in ("tls", "wss") else "-"
    done = subprocess.run([paho_c, url, version, ca], stderr=subprocess.PIPE, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stderr + server.text()[-2000:]


# ---- mqtt.js ----

SCRIPT = """
const mqtt = require('mqtt');
const [url, version, ca] = process.argv.slice(2);
const c = mqtt.connect(url, {protocolVersion: +version, reconnectPeriod: 0,
                             ca: ca ? [require('fs').readFileSync(ca)] : undefined});
const n = 30, heard = [];
setTimeout(() => { console.error('no end; heard ' + heard); process.exit(1); }, 60000);
let done = false;
c.on('error', e => { if (!done) { console.error(e); process.exit(1); } });
c.on('message', (t, p) => {
    heard.push(+p);
    if (heard.length == n) {
        done = true;
        const ok = heard.every((v, i) => v == i);
        if (!ok) console.error('order: ' + heard);
        c.end(false, () => process.exit(ok ? 0 : 1));
    }
});
c.on('connect', async () => {
    await c.subscribeAsync('js/#', {qos: 2});
    for (let i = 0; i < n; i++) await c.publishAsync('js/x', '' + i, {qos: i % 3});
});
"""


@pytest.fixture(scope="module")
def mqttjs():
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node or npm is not installed")
    folder = pathlib.Path(os.environ.get("KE_NPM", "/var/tmp/kubeedge-npm"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules/mqtt").exists():
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "mqtt@5"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        if done.returncode != 0:
            pytest.skip(f"mqtt.js cannot be fetched: {done.stdout[-300:]}")
    script = folder / "client.js"
    script.write_text(SCRIPT)
    return script


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("transport,scheme", [("tcp", "mqtt"), ("tls", "mqtts"), ("ws", "ws"), ("wss", "wss")])
def test_mqtt_js(server, mqttjs, transport, scheme, version):
    url = f"{scheme}://localhost:{server.ports[transport]}"
    words = ["node", str(mqttjs), url.replace("localhost", "127.0.0.1"), version]
    if transport in ("tls", "wss"):
        words.append(server.ca)
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stderr + server.text()[-2000:]
