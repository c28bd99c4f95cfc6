# SPDX-License-Identifier: Apache-2.0
"""What an MQTT server promises, seen from outside: retained messages, wills, sessions over kill -9, shared
subscriptions, clients that misbehave. Packets are made by hand, so that nothing is hidden by a library."""
import os
import signal
import socket
import struct
import time

import pytest

from harness import PATIENCE
from mqtt_harness import IS_MOSQUITTO, Raw, Server, connect, packet, publish, subscribe, text, varint


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path).start()
    yield s
    s.kill()


@pytest.fixture
def durable(tmp_path):
    s = Server(tmp_path, persist=True, more="max_queued_messages 100000\n").start()
    yield s
    s.kill()


def sub(server, client_id, filter_, qos=0, version=4, clean=True, keepalive=0):
    r = Raw(server.port).connected(client_id, version, clean=clean, keepalive=keepalive)
    got = r.send(subscribe(filter_, qos, version=version)).read()
    assert got[0] == 0x90 and got[1][-1] == qos, got
    return r


def pub(raw, topic, payload, qos=0, pid=1, flags=0):
    """Publishes and waits for the acknowledgement."""
    raw.send(publish(topic, payload, qos, pid, flags=flags))
    if qos == 1:
        assert raw.read() == (0x40, struct.pack(">H", pid))
    elif qos == 2:
        assert raw.read() == (0x50, struct.pack(">H", pid))
        assert raw.send(packet(0x62, struct.pack(">H", pid))).read() == (0x70, struct.pack(">H", pid))


def message(raw, patience=PATIENCE):
    """(topic, payload, first byte) of the next PUBLISH, acknowledged."""
    while True:
        got = raw.read(patience)
        assert got is not None, "the server closed"
        first, body = got
        if first >> 4 == 6:
            raw.send(packet(0x70, body[:2]))
            continue
        assert first >> 4 == 3, got
        n = struct.unpack(">H", body[:2])[0]
        at = 2 + n
        qos = first >> 1 & 3
        if qos:
            raw.send(packet(0x40 if qos == 1 else 0x50, body[at:at + 2]))
            at += 2
        return body[2:2 + n].decode(), body[at:], first


def nothing(raw, seconds=0.5):
    """No message comes any more; what ends earlier ones may."""
    while True:
        try:
            got = raw.read(seconds)
        except socket.timeout:
            return
        assert got is not None, "the server closed"
        assert got[0] >> 4 == 6, f"something came: {got}"
        raw.send(packet(0x70, got[1][:2]))


# ---- retained, wills ----

def test_retained(server):
    p = Raw(server.port).connected("p")
    pub(p, "house/temp", b"21", 1, flags=1)
    pub(p, "house/hum", b"40", 1, flags=1)
    s = sub(server, "s", "house/#")
    got = sorted(message(s) for _ in range(2))
    assert [(t, x, f & 1) for t, x, f in got] == [("house/hum", b"40", 1), ("house/temp", b"21", 1)]
    pub(p, "house/temp", b"22", 1, flags=1)
    assert message(s)[1:] == (b"22", 0x30)  # not as retained: it was there
    pub(p, "house/temp", b"", 1, flags=1)
    assert message(s)[1] == b""
    late = sub(server, "late", "house/#")
    assert message(late)[:2] == ("house/hum", b"40")
    nothing(late)


def test_retained_over_kill(durable):
    p = Raw(durable.port).connected("p")
    for i in range(50):
        pub(p, f"kept/{i}", b"v%d" % i, 1, pid=i + 1, flags=1)
    pub(p, "kept/7", b"", 1, pid=99, flags=1)
    if IS_MOSQUITTO:
        durable.restart(signal.SIGTERM)
    else:
        durable.restart()
    s = sub(durable, "s", "kept/#")
    got = {message(s)[0]: 1 for _ in range(49)}
    assert len(got) == 49 and "kept/7" not in got
    nothing(s)


def will_client(server, client_id="w", keepalive=0, qos=1):
    flags = 4 | qos << 3
    r = Raw(server.port)
    r.send(connect(client_id, keepalive=keepalive, flags=flags, rest=text("gone") + text(client_id)))
    assert r.read() == (0x20, b"\0\0")
    return r


def test_will_when_the_connection_breaks(server):
    s = sub(server, "s", "gone", 1)
    w = will_client(server)
    w.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    w.close()
    assert message(s)[:2] == ("gone", b"w")
    w = will_client(server)
    w.send(packet(0xE0))
    w.close()
    nothing(s)


def test_will_of_a_half_open_connection(server):
    """The client is there but says nothing: once and a half its keepalive."""
    s = sub(server, "s", "gone", 1)
    w = will_client(server, keepalive=1)
    start = time.monotonic()
    assert message(s)[:2] == ("gone", b"w")
    assert time.monotonic() - start >= 1.0
    assert w.closed() == []


# ---- sessions ----

@pytest.mark.parametrize("qos", [1, 2])
def test_session_over_kill(durable, qos):
    s = sub(durable, "sleeper", "in/#", qos, clean=False)
    s.send(packet(0xE0)).close()
    p = Raw(durable.port).connected("p")
    for i in range(200):
        pub(p, "in/x", b"%d" % i, qos, pid=i + 1)
    durable.restart(signal.SIGTERM if IS_MOSQUITTO else signal.SIGKILL)
    s = Raw(durable.port)
    s.send(connect("sleeper", clean=False))
    assert s.read() == (0x20, b"\1\0")
    assert [int(message(s)[1]) for _ in range(200)] == list(range(200))
    nothing(s)


def test_session_is_gone_with_a_clean_start(durable):
    sub(durable, "s", "a", 1, clean=False).close()
    assert Raw(durable.port).send(connect("s", clean=True)).read() == (0x20, b"\0\0")
    r = Raw(durable.port)
    assert r.send(connect("s", clean=False)).read() == (0x20, b"\0\0")


def test_unacknowledged_comes_again(server):
    s = sub(server, "s", "t", 1, clean=False)
    p = Raw(server.port).connected("p")
    pub(p, "t", b"x", 1)
    first, body = s.read()
    assert first == 0x32
    s.close()
    s = Raw(server.port)
    s.send(connect("s", clean=False))
    assert s.read() == (0x20, b"\1\0")
    assert s.read() == (0x3A, body)  # DUP, same packet id


def test_taken_over(server):
    a = Raw(server.port).connected("same", 5)
    b = Raw(server.port).connected("same", 5)
    assert a.closed() == [(0xE0, b"\x8e")] or IS_MOSQUITTO
    b.send(packet(0xC0))
    assert b.read() == (0xD0, b"")


# ---- shared subscriptions ----

def test_shared(server):
    group = [sub(server, f"g{i}", "$share/g/work/#", 1, version=5) for i in range(3)]
    alone = sub(server, "alone", "work/#", 1)
    p = Raw(server.port).connected("p")
    for i in range(90):
        pub(p, "work/x", b"%d" % i, 1, pid=i + 1)
    got = []
    for g in group:
        g.socket.settimeout(0.5)
        mine = []
        while True:
            try:
                first, body = g.read(0.5)
            except (TimeoutError, socket.timeout):
                break
            at = 2 + len("work/x")
            g.send(packet(0x40, body[at:at + 2]))
            mine.append(int(body[at + 3:]))
        assert mine == sorted(mine)
        assert len(mine) > 10, "one of the group has nearly nothing"
        got += mine
    assert sorted(got) == list(range(90))
    assert [int(message(alone)[1]) for _ in range(90)] == list(range(90))


# ---- clients that misbehave ----

@pytest.mark.skipif(IS_MOSQUITTO, reason="mosquitto has no such bound by default")
def test_client_that_never_reads(server):
    """Its queue is bounded, and nobody else waits for it."""
    deaf = sub(server, "deaf", "flood", 0)
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    good = sub(server, "good", "flood", 0)
    p = Raw(server.port).connected("p")
    with open(f"/proc/{server.process.pid}/maps", encoding="utf-8") as f:
        sanitized = "libasan" in f.read()  # keeps what was freed
    before = server.private_kib()
    payload = b"x" * 16000
    for i in range(4000):  # 64 MB
        p.send(publish("flood", payload))
        assert len(message(good)[1]) == 16000
    assert server.private_kib() - before < 16 * 1024 or sanitized


def test_slow_consumer_with_qos1_keeps_its_own_queue(server):
    slow = sub(server, "slow", "t", 1)
    good = sub(server, "good", "t", 1)
    p = Raw(server.port).connected("p")
    for i in range(500):
        pub(p, "t", b"%d" % i, 1, pid=i % 1000 + 1)
        assert message(good)[1] == b"%d" % i
    assert [int(message(slow)[1]) for _ in range(500)] == list(range(500))


@pytest.mark.skipif(IS_MOSQUITTO, reason="mosquitto waits for ever")
def test_connections_that_say_nothing_or_little(server):
    quiet = Raw(server.port)
    drip = Raw(server.port)
    start = time.monotonic()
    whole = connect("slowloris")
    closed = False
    for b in whole[:-1]:
        try:
            drip.socket.sendall(bytes([b]))
            drip.socket.settimeout(1.0)
            closed = drip.socket.recv(10) == b""
        except socket.timeout:
            continue
        except ConnectionError:
            closed = True
        if closed:
            break
    assert closed, "a connection that drips its CONNECT lives on"
    assert quiet.closed(30) == []
    assert time.monotonic() - start < 60


# ---- malformed packets: the reason code of the standard, and only that connection ends ----

def v5_packets():
    long_string = struct.pack(">H", 60000) + b"x" * 10
    return [
        # name, bytes of a 5.0 client that is connected, reason codes that are right: the standard leaves it open
        # in places whether a fault is malformed or a protocol error. None: closed without a word
        ("reserved type 0", b"\x00\x00", {0x81, 0x82}),
        ("CONNECT twice", connect("x", 5), {0x82}),
        ("CONNACK from a client", packet(0x20, b"\0\0\0"), {0x82}),
        ("SUBACK from a client", packet(0x90, b"\0\1\0\0"), {0x82}),
        ("length of five bytes", b"\x30\xff\xff\xff\xff\x01", {0x81}),
        ("PUBLISH with QoS 3", packet(0x36, text("t") + b"\0\1\0"), {0x81}),
        ("PUBLISH without packet id", packet(0x32, text("t")), {0x81}),
        ("PUBLISH with packet id 0", packet(0x32, text("t") + b"\0\0\0"), {0x82, 0x81}),
        ("PUBLISH to a wildcard", publish("a/+", b"", version=5), {0x90, 0x81, 0x82}),
        ("PUBLISH to an empty topic", publish("", b"", version=5), {0x81, 0x82, 0x90}),
        ("PUBLISH with a topic that is cut", packet(0x30, long_string), {0x81}),
        ("PUBLISH with bad UTF-8", packet(0x30, text(b"\xc3\x28") + b"\0"), {0x81, 0x90}),
        ("PUBLISH with alias 0", publish("t", b"", version=5, props=b"\x23\0\0"), {0x94, 0x82}),
        ("PUBLISH with alias over the maximum", publish("t", b"", version=5, props=b"\x23\xff\xff"), {0x94}),
        ("PUBLISH with an unknown property", publish("t", b"", version=5, props=b"\x7f\0"), {0x81, 0x82}),
        ("PUBLISH with a property twice", publish("t", b"", version=5, props=b"\x01\0\x01\0"), {0x82, 0x81}),
        ("PUBLISH with a subscription id", publish("t", b"", version=5, props=b"\x0b\1"), {0x82, 0x81}),
        ("SUBSCRIBE with wrong flags", packet(0x80, b"\0\1\0" + text("t") + b"\0"), {0x81}),
        ("SUBSCRIBE without filter", packet(0x82, b"\0\1\0"), {0x82, 0x81}),
        ("SUBSCRIBE with reserved options", subscribe("t", 0xC0, version=5), {0x81, 0x82}),
        ("SUBSCRIBE with QoS 3", subscribe("t", 3, version=5), {0x81, 0x82}),
        ("SUBSCRIBE to a bad filter", subscribe("a/#/b", 0, version=5), {0x8F, 0x81, 0x82}),
        ("shared with no local", subscribe("$share/g/t", 4, version=5), {0x82}),
        ("PUBREL with wrong flags", packet(0x60, b"\0\1"), {0x81}),
        ("PINGREQ with a body", packet(0xC0, b"x"), {0x81, None}),
        ("DISCONNECT with wrong flags", packet(0xE1), {0x81}),
        ("AUTH without a method", packet(0xF0, b"\x18\0"), {0x82, 0x81, 0x8C}),
        ("a packet over the maximum", b"\x30" + varint(200_000_000), {0x95}),
    ]


@pytest.mark.skipif(IS_MOSQUITTO, reason="mosquitto closes without a word for many of them")
@pytest.mark.parametrize("name,data,codes", v5_packets(), ids=[c[0] for c in v5_packets()])
def test_malformed(server, name, data, codes):
    other = sub(server, "other", "alive", 0)
    bad = Raw(server.port).connected("bad", 5)
    try:
        bad.send(data)
    except ConnectionError:
        pass
    got = bad.closed(10)
    reason = None
    if got:
        assert got[-1][0] == 0xE0, f"{name}: no DISCONNECT: {got}"
        reason = got[-1][1][0] if got[-1][1] else 0
    assert reason in codes, f"{name}: {reason}"
    p = Raw(server.port).connected("p")
    p.send(publish("alive", b"yes"))
    assert message(other)[:2] == ("alive", b"yes")
    assert "bad" in server.text()


def test_malformed_connects(server):
    cases = [
        # bytes, version, return or reason codes; None: just closed
        (connect("x", 9), {0x84, 0x01}),
        (packet(0x10, text("HTTP") + b"\4\2\0\0" + text("x")), {None, 0x84, 0x01, 0x81}),
        (connect("x", 5, flags=1), {0x81, None}),
        (connect("", 4, clean=False), {0x02}),
        (connect("x", 4, flags=0x18), {None}),
        (packet(0x10, b"\0"), {None}),
        (b"GET / HTTP/1.1\r\n\r\n", {None}),
        (packet(0xC0), {None}),
    ]
    for data, codes in cases:
        r = Raw(server.port).send(data)
        got = r.closed(10)
        code = got[0][1][1] if got and got[0][0] == 0x20 else None
        assert code in codes or (IS_MOSQUITTO and code is None), (data, got)
    Raw(server.port).connected("still-there")


def test_descriptors_come_back(server):
    def count():
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    Raw(server.port).connected("first").close()
    time.sleep(0.2)
    before = count()
    for i in range(300):
        r = Raw(server.port)
        if i % 3:
            r.connected(f"c{i}")
        r.close()
    deadline = time.monotonic() + PATIENCE
    while count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count() <= before


def web_frame(opcode, data):
    return bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data


@pytest.mark.parametrize("opcode, taken", [(2, True), (1, False)])
def test_a_web_socket_carries_packets_in_binary_frames_only(tmp_path, opcode, taken):
    server = Server(tmp_path, websockets=True).start()
    try:
        with socket.create_connection(("127.0.0.1", server.ports["ws"]), PATIENCE) as s:
            s.sendall(b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                      b"Sec-WebSocket-Protocol: mqtt\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += s.recv(1)
            assert head.startswith(b"HTTP/1.1 101 ")
            s.sendall(web_frame(opcode, connect("web")))
            assert s.recv(100) == (b"\x82\x04\x20\x02\0\0" if taken else b"")
    finally:
        server.kill()
