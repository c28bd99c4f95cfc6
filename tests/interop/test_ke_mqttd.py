# SPDX-License-Identifier: Apache-2.0
"""ke-mqttd in the place of mosquitto: the same configuration files, the same answers from both."""
import os
import resource
import signal
import shutil
import socket
import subprocess

import pytest

from harness import BIN, PATIENCE, Program, free_port, wait_for
from mqtt_harness import connect

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
pytestmark = pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto-clients is not installed")


class Broker(Program):
    """ke-mqttd, or mosquitto, with a configuration."""

    def __init__(self, kind, folder, conf, ports=()):
        super().__init__("ke-mqttd", folder, folder / f"{kind}.log")
        self.kind, self.ports = kind, ports
        self.conf = folder / f"{kind}.conf"
        self.write(conf)

    def write(self, conf):
        # mosquitto gives up root's rights, and then cannot read the files of this test
        user = "user root\n" if self.kind == "mosquitto" and os.geteuid() == 0 else ""
        self.conf.write_text(user + conf)

    def __enter__(self):
        if self.kind == "mosquitto":
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen([MOSQUITTO, "-c", self.conf], stderr=log, stdin=subprocess.DEVNULL)
        else:
            self.spawn("--config", str(self.conf), "-v")
        for port in self.ports:
            wait_for(f"{self.kind} on port {port}", lambda: self.process.poll() is not None or connects(port))
        assert self.process.poll() is None, self.text()
        return self

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def __exit__(self, *exc):
        if self.process.poll() is None:
            assert self.end() == 0 or exc[0] is not None


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except ConnectionRefusedError:
        return False


def publish(*args, v="5", message="x"):
    """ok, denied (the message), or refused (the connection)."""
    r = subprocess.run(
        ["mosquitto_pub", "-V", v, "-q", "1", "-m", message, *map(str, args)], capture_output=True, text=True, timeout=PATIENCE
    )
    if r.returncode == 0:
        return "denied" if "ot authorized" in r.stderr else "ok"
    return "refused"


class Subscriber:
    """mosquitto_sub; lines is what came."""

    def __init__(self, *args, folder):
        self.out = folder / f"sub-{id(self)}"
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-V", "5", "-d", "-v", "-q", "1", *map(str, args)], stdout=out,
                                            stderr=subprocess.STDOUT)

    def text(self):
        return self.out.read_text()

    def wait(self, part):
        wait_for(f"{part!r} at a subscriber", lambda: part in self.text())

    def __enter__(self):
        try:
            self.wait("Subscribed")
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["ke-mqttd", "mosquitto"])
def kind(request):
    if request.param == "mosquitto" and not os.path.exists(MOSQUITTO):
        pytest.skip("mosquitto is not installed")
    return request.param


@pytest.fixture
def passwords(tmp_path):
    path = tmp_path / "passwd"
    path.touch(0o600)
    for how, name in (("sha512-pbkdf2", "ann"), ("sha512", "bob")):
        subprocess.run(["mosquitto_passwd", "-H", how, "-b", path, name, f"pw of {name}"], check=True, capture_output=True)
    return path


def as_user(name, password=None):
    return ["-u", name, "-P", password or f"pw of {name}"]


# ---- the same answers ----


def test_anonymous(kind, tmp_path):
    """Named listeners keep clients without a name out, unless it is said otherwise."""
    one, two = free_port(), free_port()
    conf = f"listener {one} 127.0.0.1\n"
    with Broker(kind, tmp_path, conf, [one]):
        assert publish("-p", one, "-t", "a") == "refused"
        assert publish("-p", one, "-t", "a", v="311") == "refused"
    with Broker(kind, tmp_path, conf + "allow_anonymous true\n", [one]):
        assert publish("-p", one, "-t", "a") == "ok"
        assert publish("-p", one, "-t", "a", *as_user("any")) == "ok"
    conf = f"per_listener_settings true\n{conf}allow_anonymous true\nlistener {two} 127.0.0.1\n"
    with Broker(kind, tmp_path, conf, [one, two]):
        assert publish("-p", one, "-t", "a") == "ok"
        assert publish("-p", two, "-t", "a") == "refused"


def test_passwords_and_rules(kind, tmp_path, passwords):
    port, sock = free_port(), tmp_path / "s.sock"
    acl = tmp_path / "acl"
    acl.write_text(
        "# nameless clients\ntopic write public/#\nuser ann\ntopic a/+/c\ntopic deny a/secret/c\n"
        "pattern readwrite dev/%c/%u/#\npattern deny dev/%c/ann/private\nuser bob\ntopic #\n"
    )
    conf = (
        f"listener {port} 127.0.0.1\nallow_anonymous true\npassword_file {passwords}\nacl_file {acl}\nlistener 0 {sock}\n"
    )
    with Broker(kind, tmp_path, conf, [port]):
        at = ["-p", port, "-i", "c1"]
        ann, bob = as_user("ann"), as_user("bob")
        answers = [
            publish(*at, "-t", "public/x"),
            publish(*at, "-t", "a/b/c"),
            publish(*at, *ann, "-t", "public/x"),
            publish(*at, *ann, "-t", "a/b/c"),
            publish(*at, *ann, "-t", "a/secret/c"),
            publish(*at, *ann, "-t", "dev/c1/ann/x"),
            publish(*at, *ann, "-t", "dev/c1/ann/private"),
            publish(*at, *ann, "-t", "dev/c2/ann/x"),
            publish(*at, *bob, "-t", "anything"),
            publish(*at, *bob, "-t", "dev/c1/ann/private"),
            publish(*at, *as_user("ann", "wrong"), "-t", "a/b/c"),
            publish(*at, *as_user("nobody", "x"), "-t", "a/b/c"),
            publish(*at, "-u", "ann", "-t", "a/b/c"),
            publish("--unix", sock, *bob, "-t", "u"),
            publish("-p", port, "-i", "+", "-u", "ann", "-P", "pw of ann", "-t", "dev/x/ann/x"),
        ]
    assert answers == ["ok", "denied", "denied", "ok", "denied", "ok", "denied", "denied", "ok", "ok", "refused", "refused",
                       "refused", "ok", "denied"]


def test_what_a_subscriber_may_not_read_is_held_back(kind, tmp_path):
    port = free_port()
    acl = tmp_path / "acl"
    acl.write_text("topic write #\ntopic read a/#\ntopic deny a/hidden\n")
    conf = f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {acl}\n"
    with Broker(kind, tmp_path, conf, [port]), Subscriber("-p", port, "-t", "#", folder=tmp_path) as sub:
        for topic in ("b", "a/1", "a/hidden", "a/2"):
            publish("-p", port, "-t", topic, message="m-" + topic)
        sub.wait("a/2 m-a/2")
        assert "a/1 m-a/1" in sub.text() and "m-b" not in sub.text() and "m-a/hidden" not in sub.text()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=folder)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for ca in ("ca", "other"):
        openssl("req", "-x509", *new, "-keyout", f"{ca}.key", "-out", f"{ca}.crt", "-subj", f"/CN={ca}", "-days", "2")
    for name, ca, subject, ext in (
        ("srv", "ca", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ("dev", "ca", "/C=DE/O=Acme/CN=dev1", "extendedKeyUsage=clientAuth"),
        ("forged", "other", "/C=DE/O=Acme/CN=dev1", "extendedKeyUsage=clientAuth"),
    ):
        (folder / "ext").write_text(ext)
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-out", f"{name}.crt", "-days", "2", "-extfile", "ext")
    return folder


def test_certificates_bring_user_names(kind, tmp_path, certificates):
    cn, subject, plain = free_port(), free_port(), free_port()
    acl = tmp_path / "acl"
    acl.write_text("user dev1\ntopic cn/#\nuser CN=dev1,O=Acme,C=DE\ntopic subject/#\nuser x\ntopic x/#\n")
    tls = f"certfile {certificates}/srv.crt\nkeyfile {certificates}/srv.key\ncafile {certificates}/ca.crt\n"
    conf = (
        f"acl_file {acl}\n"
        f"listener {cn} 127.0.0.1\n{tls}require_certificate true\nuse_identity_as_username true\n"
        f"listener {subject} 127.0.0.1\n{tls}require_certificate true\nuse_subject_as_username true\n"
        f"listener {plain} 127.0.0.1\n{tls}"
    )
    ca = ["-h", "localhost", "--cafile", certificates / "ca.crt"]

    def cert(name):
        return ["--cert", certificates / f"{name}.crt", "--key", certificates / f"{name}.key"]

    with Broker(kind, tmp_path, conf, [cn, subject, plain]):
        answers = [
            publish(*ca, "-p", cn, *cert("dev"), "-t", "cn/1"),
            publish(*ca, "-p", cn, *cert("dev"), "-t", "subject/1"),
            publish(*ca, "-p", cn, *cert("dev"), "-u", "x", "-t", "x/1"),  # what it says of itself does not count
            publish(*ca, "-p", subject, *cert("dev"), "-t", "subject/1"),
            publish(*ca, "-p", subject, *cert("dev"), "-t", "cn/1"),
            publish(*ca, "-p", cn, *cert("forged"), "-t", "cn/1"),
            publish(*ca, "-p", cn, "-t", "cn/1"),
            publish(*ca, "-p", plain, "-t", "cn/1"),
        ]
    assert answers == ["ok", "denied", "denied", "ok", "denied", "refused", "refused", "refused"]


def test_reload(kind, tmp_path, passwords):
    """SIGHUP: rules and passwords are read again; who is still welcome stays connected."""
    port = free_port()
    acl = tmp_path / "acl"
    acl.write_text("user ann\ntopic #\nuser bob\ntopic #\n")
    conf = f"listener {port} 127.0.0.1\npassword_file {passwords}\nacl_file {acl}\n"
    with Broker(kind, tmp_path, conf, [port]) as broker:
        with Subscriber("-p", port, *as_user("ann"), "-t", "#", folder=tmp_path) as sub:
            assert publish("-p", port, *as_user("bob"), "-t", "t/1", message="one") == "ok"
            sub.wait("t/1 one")
            acl.write_text("user ann\ntopic t/#\nuser bob\ntopic write #\nuser carl\ntopic #\n")
            subprocess.run(["mosquitto_passwd", "-b", passwords, "carl", "pw of carl"], check=True, capture_output=True)
            broker.process.send_signal(signal.SIGHUP)
            wait_for("carl", lambda: publish("-p", port, *as_user("carl"), "-t", "u/1", message="no") == "ok")
            assert publish("-p", port, *as_user("bob"), "-t", "t/2", message="two") == "ok"
            sub.wait("t/2 two")
            assert "u/1" not in sub.text()
            assert sub.text().count("CONNACK") == 1


# ---- its own manners ----


def run(*args):
    return subprocess.run([BIN / "ke-mqttd", *map(str, args)], capture_output=True, text=True, timeout=PATIENCE)


def test_exit_codes(tmp_path):
    assert run("--help").returncode == 0 and "--config" in run("--help").stdout
    assert run("--bogus").returncode == 2
    assert run("--listen", "nonsense").returncode == 2
    assert run("--port", "0").returncode == 2
    assert run("extra").returncode == 2
    r = run("--config", tmp_path / "missing.conf")
    assert r.returncode == 3 and "missing.conf" in r.stderr
    conf = tmp_path / "m.conf"
    conf.write_text("# one\n\nmax_qos 7\n")
    r = run("--config", conf)
    assert r.returncode == 3 and f"{conf}:3: max_qos" in r.stderr
    conf.write_text("listener 1999 127.0.0.1\nacl_file /nonexistent/acl\n")
    r = run("--config", conf)
    assert r.returncode == 3 and "/nonexistent/acl" in r.stderr
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        r = run("--listen", f"127.0.0.1:{s.getsockname()[1]}")
        assert r.returncode == 1 and "another program" in r.stderr


def test_unknown_keys_are_told_and_not_fatal(tmp_path):
    port = free_port()
    with Broker("ke-mqttd", tmp_path, f"listener {port} 127.0.0.1\nno_such_key 1\nauth_plugin /x.so\n", [port]) as b:
        b.wait_log(f"{b.conf}:2: no_such_key is not known")
        b.wait_log(f"{b.conf}:3: auth_plugin has no counterpart")


def test_a_bad_file_at_reload_changes_nothing(tmp_path):
    port = free_port()
    good = f"listener {port} 127.0.0.1\nallow_anonymous true\n"
    with Broker("ke-mqttd", tmp_path, good, [port]) as b:
        b.write(good + "max_qos 9\n")
        b.process.send_signal(signal.SIGHUP)
        b.wait_log("not reloaded")
        assert publish("-p", port, "-t", "a") == "ok"
        b.write(good.replace("true", "false"))
        b.process.send_signal(signal.SIGHUP)
        wait_for("the change", lambda: publish("-p", port, "-t", "a") == "refused")
        other = free_port()
        b.write(f"listener {other} 127.0.0.1\nallow_anonymous true\n")
        b.process.send_signal(signal.SIGHUP)
        wait_for("another port", lambda: connects(other))
        wait_for("the old port's end", lambda: not connects(port))


def test_flags_and_data(tmp_path):
    port, data = free_port(), tmp_path / "data"
    for payload in ("first", "second"):
        p = Program("ke-mqttd", tmp_path, tmp_path / "log")
        p.spawn("--listen", f"127.0.0.1:{port}", "--data", str(data))
        wait_for("the port", lambda: connects(port))
        if payload == "second":
            with Subscriber("-p", port, "-t", "kept", folder=tmp_path) as sub:
                sub.wait("kept first")
        assert publish("-p", port, "-t", "kept", "-r", message=payload) == "ok"
        p.process.send_signal(signal.SIGTERM)
        assert p.process.wait(PATIENCE) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_user(tmp_path):
    port = free_port()
    home = tmp_path / "run"
    home.mkdir()
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        os.chmod(folder, 0o755)
    os.chmod(home, 0o777)
    conf = (
        f"user nobody\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
        f"persistence_location {home}\npid_file {home}/pid\n"
    )
    with Broker("ke-mqttd", tmp_path, conf, [port]) as b:
        status = open(f"/proc/{b.process.pid}/status").read()
        uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert uid == [str(os.stat(home / "mosquitto.db.d").st_uid)] * 4 and uid[0] != "0"
        assert (home / "pid").read_text().strip() == str(b.process.pid)
        assert publish("-p", port, "-t", "kept", "-r") == "ok"
    assert not (home / "pid").exists()


def open_files(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def come(port, i):
    s = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        s.sendall(connect(f"client-{i}"))
    except ConnectionError:
        pass  # refused already
    return s


def is_let_in(s):
    try:
        answer = s.recv(4)
    except ConnectionResetError:
        answer = b""
    assert answer in (b"", b"\x20\x02\x00\x00")
    if not answer:
        s.close()
    return answer != b""


def test_a_crowd_needs_no_flags(tmp_path):
    """Thousands come at once and are let in, though the soft limit of open files is lower."""
    port, n = free_port(), 3000
    with Broker("ke-mqttd", tmp_path, f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n") as broker:
        broker.end()
        with open(broker.log, "ab") as log:
            broker.process = subprocess.Popen([BIN / "ke-mqttd", "--config", broker.conf], stderr=log,
                                              preexec_fn=open_files(256, 4096))
        wait_for("the port", lambda: connects(port))
        crowd = [come(port, i) for i in range(n)]  # none waits for the others
        assert all(is_let_in(s) for s in crowd)
        for s in crowd:
            s.close()


def test_beyond_the_open_files_clients_are_refused_clearly(tmp_path):
    port = free_port()
    with Broker("ke-mqttd", tmp_path, f"listener {port} 127.0.0.1\nallow_anonymous true\n") as broker:
        broker.end()
        with open(broker.log, "ab") as log:
            broker.process = subprocess.Popen([BIN / "ke-mqttd", "--config", broker.conf], stderr=log,
                                              preexec_fn=open_files(128, 256))
        wait_for("the port", lambda: connects(port))
        broker.wait_log("there is room for 191 clients at once")
        inside = [s for s in (come(port, i) for i in range(250)) if is_let_in(s)]
        assert len(inside) == 191
        broker.wait_log("a connection was refused: max_connections is 191")
        inside[0].sendall(b"\xc0\x00")  # those who are in are served
        assert inside[0].recv(2) == b"\xd0\x00"
        for s in inside:
            s.close()


def test_the_server_inside_of_a_firmware():
    """The example that has the server, and is its client without a socket."""
    if not (BIN / "mqtt_embedded").exists():
        pytest.skip("mqtt_embedded was not built")
    alone = subprocess.run([BIN / "mqtt_embedded"], capture_output=True, text=True, timeout=PATIENCE)
    assert alone.returncode == 0 and "sensor/self/temperature: 21.5" in alone.stdout
    port = free_port()
    process = subprocess.Popen([BIN / "mqtt_embedded", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        wait_for("the port", lambda: connects(port))
        pump = ["-p", port, "-u", "pump"]
        wait_for("its identity", lambda: publish(*pump, "-P", "s3cret", "-t", "sensor/pump-1/temperature") == "ok")
        assert publish(*pump, "-P", "s3cret", "-t", "sensor/other/temperature") == "denied"
        assert publish(*pump, "-P", "wrong", "-t", "sensor/pump-1/temperature") == "refused"
        # the server ends on it: the client hears of the end (5.0, reason 0x8b), before its own or after
        publish(*pump, "-P", "s3cret", "-t", "sensor/pump-1/stop")
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and "sensor/pump-1/temperature: x" in out and "other" not in out
        assert "sensor/pump-1/stop: x" in out
    finally:
        process.kill()
        process.wait()
