# SPDX-License-Identifier: Apache-2.0
import gc
import hashlib
import subprocess
import threading

import pytest

import kubeedge
from kubeedge import (
    AddressInUse,
    Context,
    InvalidArgument,
    LimitExceeded,
    Mqtt,
    MqttAccess,
    MqttEventKind,
    MqttIdentity,
    MqttListener,
    MqttRule,
    NotFound,
    ParseError,
    StateError,
)
from kubeedge import _const
from kubeedge.mqtt import PORT_ANY
from support import PATIENCE, Collector, has

ANY = MqttListener(port=PORT_ANY)
NOT_AUTHORIZED = 0x87


class Client:
    """A client of the paho package, in a thread of its own."""

    def __init__(self, server, client_id, user=None, password=None, **connect):
        mqtt = pytest.importorskip("paho.mqtt.client")
        self.messages, self.results, self.gone, self.subacks = Collector(), Collector(), Collector(), Collector()
        self.client = mqtt.Client(client_id, protocol=mqtt.MQTTv5)
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda c, u, flags, reason, props: self.results(reason.value)
        self.client.on_disconnect = lambda c, u, reason, props=None: self.gone(getattr(reason, "value", reason))
        self.client.on_message = lambda c, u, m: self.messages((m.topic, m.payload, m.properties))
        self.client.on_subscribe = lambda c, u, mid, codes, props: self.subacks([code.value for code in codes])
        self.client.connect("127.0.0.1", server.port(), **connect)
        self.client.loop_start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.disconnect()
        self.client.loop_stop()


# ---- without a socket ----


def test_an_event_of_a_newer_library():
    assert MqttEventKind(1) is MqttEventKind.CONNECTED
    unknown = MqttEventKind(99)
    assert unknown == 99 and unknown.name == "UNKNOWN_99" and isinstance(unknown, MqttEventKind)


def test_publish_and_subscribe(ctx):
    got = Collector()
    with Mqtt(ctx) as m:
        m.start()
        with m.subscribe("a/+", got, id=7):
            ctx.wait_for(m.publish("a/b", "ä", qos=1), PATIENCE)
            ctx.wait_for(
                m.publish(
                    "a/c",
                    b"\0\xff",
                    retain=True,
                    content_type="x/y",
                    response_topic="r",
                    correlation=b"\0c",
                    expiry=60,
                    text=False,
                    user_properties=[("k", "v"), ("k", "w")],
                ),
                PATIENCE,
            )
            ctx.wait_for(m.publish("b/c", "not wanted"), PATIENCE)
            got.until(ctx, has(2))
        ctx.wait_for(m.publish("a/d", "after the end"), PATIENCE)
        first, second = got
        assert (first.topic, first.payload, first.subscription_ids) == ("a/b", "ä".encode(), (7,))
        assert second.payload == b"\0\xff" and second.correlation == b"\0c"
        assert (second.content_type, second.response_topic) == ("x/y", "r")
        assert second.user_properties == (("k", "v"), ("k", "w"))
        assert second.expiry is not None and 0 < second.expiry <= 60
        late = Collector()
        m.subscribe("a/#", late)
        late.until(ctx, has(1))
        assert late[0].topic == "a/c" and late[0].retain
        assert m.stats()["retained"] >= 1


def test_closed_and_bad_input(ctx):
    with Mqtt(ctx) as m:
        m.start()
        with pytest.raises(InvalidArgument):
            m.publish("a/#", "x")
        with pytest.raises(InvalidArgument):
            m.subscribe("a/#/b", print)
        with pytest.raises(NotFound):
            m.disconnect("nobody")
    with pytest.raises(StateError):
        m.publish("a", "x")
    with pytest.raises(TypeError, match="max_nothing"):
        Mqtt(ctx, max_nothing=1)
    with pytest.raises(ValueError):
        Mqtt(ctx, [MqttListener(client_cert="perhaps")])


def test_a_callback_that_raises_is_told(ctx):
    with Mqtt(ctx) as m:
        m.start()
        m.subscribe("a", lambda msg: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ctx.wait_for(m.publish("a", "x"), PATIENCE)
            for _ in range(10):
                ctx.post(lambda: None)
                ctx.wait(1000)
                ctx.dispatch()


def test_dropping_everything_while_running(ctx):
    m = Mqtt(ctx)
    m.start()
    m.subscribe("#", print)
    m.publish("a", "x")
    with pytest.warns(ResourceWarning):
        del m
        gc.collect()


def test_limits_are_passed_on(ctx):
    with Mqtt(ctx, max_retained=1, flags=_const.KE_MQTT_NO_SYS) as m:
        m.start()
        ctx.wait_for(m.publish("a", "x", retain=True), PATIENCE)
        with pytest.raises(LimitExceeded):
            ctx.wait_for(m.publish("b", "x", retain=True), PATIENCE)


def test_port_taken(ctx):
    with Mqtt(ctx, [ANY]) as one:
        one.start()
        with Mqtt(ctx, [MqttListener(port=one.port())]) as two, pytest.raises(AddressInUse):
            two.start()


# ---- with clients ----


def test_client_events_and_filter(threaded):
    events = Collector()
    with Mqtt(threaded, [ANY], event=events, filter=lambda c, msg: msg.payload != b"bad") as m:
        m.start()
        with Client(m, "c1") as client:
            client.results.until(threaded, has(1))
            assert client.results[0] == 0
            assert [c.client_id for c in m.clients()] == ["c1"]
            client.client.subscribe("t/#", 1)
            client.subacks.until(threaded, has(1))
            client.client.publish("t/1", "bad", 1)
            client.client.publish("t/2", "good", 1)
            client.messages.until(threaded, has(1))
            assert client.messages[0][:2] == ("t/2", b"good")
            m.publish("t/3", "ours", user_properties=[("a", "b")]).result(PATIENCE)
            client.messages.until(threaded, has(2))
            assert client.messages[1][2].UserProperty == [("a", "b")]
            m.disconnect("c1", 0x98)
            client.gone.until(threaded, has(1))
        events.until(threaded, lambda e: any(x.kind == MqttEventKind.DISCONNECTED for x in e))
    kinds = [e.kind for e in events]
    assert kinds[0] == MqttEventKind.CONNECTED and events[0].client.client_id == "c1"
    assert MqttEventKind.SUBSCRIBED in kinds


def test_authenticate_and_authorize(threaded):
    asked = Collector()

    def authenticate(client, password):
        asked((client.client_id, client.user_name, password))
        return {"yes": True, "no": False}.get(client.user_name)

    def authorize(client, access, topic):
        return False if access == MqttAccess.WRITE and topic == "closed" else None

    with Mqtt(threaded, [ANY], authenticate=authenticate, authorize=authorize) as m:
        m.start()
        for user, reason in (("yes", 0), ("no", NOT_AUTHORIZED), (None, 0)):
            with Client(m, f"c-{user}", user, "pw" if user else None) as client:
                client.results.until(threaded, has(1))
                assert client.results[0] == reason, user
        assert asked[0] == ("c-yes", "yes", b"pw") and asked[2][2] is None
        got = Collector()
        m.subscribe("#", got)
        with Client(m, "w", "yes", "pw") as client:
            client.results.until(threaded, has(1))
            client.client.publish("closed", "x", 1)
            client.client.publish("open", "x", 1)
            got.until(threaded, has(1))
        assert [g.topic for g in got] == ["open"]


def test_users_identities_and_revoking(threaded, tmp_path):
    rules = (MqttRule("dev/%i/#"), MqttRule("dev/%i/secret", MqttAccess.WRITE | MqttAccess.DENY))
    pump = MqttIdentity("pump-1", user_name="pump", password="s3cret", rules=rules)
    events = Collector()
    with Mqtt(threaded, [ANY], data=tmp_path / "mqtt", event=events) as m:
        m.start()
        m.identity_set(pump).result(PATIENCE)
        m.user_set("ann", "geheim", [MqttRule("ann/#")]).result(PATIENCE)
        assert m.identities() == [pump._replace(password="")]
        with Client(m, "c", "pump", "wrong") as client:
            client.results.until(threaded, has(1))
            assert client.results[0] == NOT_AUTHORIZED
        with Client(m, "c", "pump", "s3cret") as client:
            client.results.until(threaded, has(1))
            assert client.results[0] == 0 and m.clients()[0].identity == "pump-1"
            client.client.subscribe([("dev/pump-1/#", 0), ("other/#", 0)])
            client.subacks.until(threaded, has(1))
            assert client.subacks[0][0] == 0 and client.subacks[0][1] >= 0x80
            m.identity_revoke("pump-1").result(PATIENCE)
            client.gone.until(threaded, has(1))
            events.until(threaded, lambda e: any(x.kind == MqttEventKind.DISCONNECTED for x in e))
            gone = next(e for e in events if e.kind == MqttEventKind.DISCONNECTED)
            assert gone.reason == NOT_AUTHORIZED and gone.client.identity == "pump-1"
        with pytest.raises(NotFound):
            m.identity_revoke("pump-1")
        with pytest.raises(InvalidArgument, match="64 hex"):
            m.identity_set(MqttIdentity("x", cert_sha256="abc"))
    with Mqtt(threaded, [ANY], data=tmp_path / "mqtt") as m:
        m.start()
        assert m.identities() == []
        for user, password, reason in (("pump", "s3cret", NOT_AUTHORIZED), ("ann", "geheim", 0)):
            with Client(m, "c", user, password) as client:
                client.results.until(threaded, has(1))
                assert client.results[0] == reason
        m.user_remove("ann").result(PATIENCE)
        m.rules_set(None, [MqttRule("#", MqttAccess.READ)]).result(PATIENCE)


def test_reload_with_files(threaded, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic read a\n")
    with Mqtt(threaded, [ANY._replace(name="l")], acl_file=acl) as m:
        m.start()
        got = Collector()
        m.subscribe("#", got)
        with Client(m, "c") as client:
            client.results.until(threaded, has(1))
            client.client.publish("a", "1", 1)
            acl.write_text("topic readwrite a\n")
            while m.stats()["denied"] == 0:
                threading.Event().wait(0.01)
            m.reload([ANY._replace(name="l")], acl_file=acl)
            client.client.publish("a", "2", 1)
            got.until(threaded, has(1))
            assert got[0].payload == b"2"
            acl.write_text("topic readwrite a\nbogus\n")
            with pytest.raises(ParseError, match="acl:2"):
                m.reload([ANY._replace(name="l")], acl_file=acl)
            client.client.publish("a", "3", 1)
            got.until(threaded, has(2))


def test_the_certificates_fingerprint_is_what_openssl_prints(threaded, tmp_path):
    """An identity by certificate: over TLS, with a client that only that certificate lets in."""
    ssl = pytest.importorskip("ssl")

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=tmp_path)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca.crt", "-subj", "/CN=ca", "-days", "2")
    for name, subject, extension in (("srv", "/CN=localhost", "subjectAltName=IP:127.0.0.1"),
                                     ("dev", "/CN=dev-1", "extendedKeyUsage=clientAuth")):
        (tmp_path / "ext").write_text(extension)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", "-subj", subject)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.crt", "-days", "2", "-extfile", "ext")
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "dev.crt").read_text())
    listener = MqttListener(
        kind=kubeedge.MqttKind.TLS,
        port=PORT_ANY,
        cert_file=tmp_path / "srv.crt",
        key_file=tmp_path / "srv.key",
        ca_file=tmp_path / "ca.crt",
        client_cert="require",
        anonymous=False,
    )
    mqtt = pytest.importorskip("paho.mqtt.client")
    with Mqtt(threaded, [listener]) as m:
        m.start()

        def connect():
            results = Collector()
            client = mqtt.Client("c", protocol=mqtt.MQTTv5)
            tls = ssl.create_default_context(cafile=tmp_path / "ca.crt")
            tls.load_cert_chain(tmp_path / "dev.crt", tmp_path / "dev.key")
            client.tls_set_context(tls)
            client.on_connect = lambda c, u, flags, reason, props: results(reason.value)
            client.connect("127.0.0.1", m.port())
            client.loop_start()
            results.until(threaded, has(1))
            names = [c.identity for c in m.clients()]
            client.disconnect()
            client.loop_stop()
            return results[0], names

        assert connect() == (NOT_AUTHORIZED, [])
        m.identity_set(MqttIdentity("dev", cert_sha256=hashlib.sha256(der).hexdigest())).result(PATIENCE)
        assert connect() == (0, ["dev"])
