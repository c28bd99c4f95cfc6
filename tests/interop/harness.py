# SPDX-License-Identifier: Apache-2.0
"""The programs as a user runs them: a cloud, a node, manifests, and what they print.

BIN is the folder of ke-node and ke-cloud, SHIM the path of ke-shim.
"""
import os
import pathlib
import signal
import socket
import subprocess
import time

BIN = pathlib.Path(os.environ.get("BIN", "build/gcc/examples"))
SHIM = os.environ.get("SHIM", "build/gcc/lib/pod/ke-shim")
PATIENCE = float(os.environ.get("KE_PATIENCE", "60"))  # a net for hangs, not a bound that a test relies on


def wait_for(what, condition, patience=PATIENCE):
    """Polls until condition() is true; its value is returned."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {patience:.0f} s")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Program:
    def __init__(self, name, folder, log):
        self.name, self.folder, self.log = name, pathlib.Path(folder), pathlib.Path(log)
        self.process = None

    def spawn(self, *args, env=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(BIN / self.name), *args], stderr=log, stdout=log,
                                            stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_log(self, part, patience=PATIENCE):
        def there():
            if part in self.text():
                return True
            if self.process.poll() is not None and part not in self.text():
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.text()[-3000:]}")
            return False

        wait_for(f"{part!r} in the log of {self.name}", there, patience)

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
        if self.process:
            self.process.wait(timeout=PATIENCE)
        return self.process.returncode if self.process else None

    def command(self, *args):
        r = subprocess.run([str(BIN / self.name), args[0], "--data", str(self.folder), *args[1:]],
                           capture_output=True, text=True, timeout=PATIENCE)
        return r.stdout if r.returncode == 0 else ""


class Cloud(Program):
    def __init__(self, base):
        base = pathlib.Path(base)
        super().__init__("ke-cloud", base / "cloud", base / "cloud.log")
        self.manifests = base / "manifests"
        self.manifests.mkdir(exist_ok=True)
        self.tunnel, self.cert = free_port(), free_port()

    def start(self, *more, **kwargs):
        seen = self.text().count("listening")
        self.spawn("--data", str(self.folder), "--manifests", str(self.manifests), "--listen", "127.0.0.1",
                   "--tunnel-port", str(self.tunnel), "--cert-port", str(self.cert), *more, **kwargs)
        wait_for("the start of the cloud",
                 lambda: self.text().count("listening") > seen or self.process.poll() is not None)
        assert self.process.poll() is None, self.text()[-3000:]
        return self

    def token(self):
        # it listens for nodes a moment before it answers commands
        return wait_for("a token", lambda: self.command("token").strip())

    def apply(self, name, text):
        """Replaces a manifest the way an editor does: never half a file."""
        new = self.manifests / ("." + name)
        new.write_text(text)
        new.rename(self.manifests / name)

    def remove(self, name):
        (self.manifests / name).unlink()

    def node_ready(self, name):
        return any(line.split()[:3] == [name, "Ready", "connected"] for line in self.command("nodes").splitlines())

    def pods(self):
        """name -> (phase, ready, node)"""
        out = {}
        for line in self.command("pods").splitlines()[1:]:
            f = line.split()
            out[f[1]] = (f[2], f[3], f[5])
        return out

    def running(self, name):
        return self.pods().get(name, ("",))[0] == "Running"


class Node(Program):
    def __init__(self, base, name="edge-1", cloud=None, token=None, allow="/bin/,/usr/bin/"):
        base = pathlib.Path(base)
        super().__init__("ke-node", base / name, base / f"{name}.log")
        self.node_name, self.cloud, self.join, self.allow = name, cloud, token, allow

    def start(self, *more, runtime="process", host="127.0.0.1", **kwargs):
        args = ["--name", self.node_name, "--data", str(self.folder), "--runtime", runtime,
                "--process-allow", self.allow, "--shim", SHIM]
        if self.cloud:
            args += ["--cloud", host, "--tunnel-port", str(self.cloud.tunnel), "--cert-port", str(self.cloud.cert)]
        if self.join:
            args += ["--token", self.join]
        self.spawn(*args, *more, **kwargs)
        return self

    def status(self):
        return dict(line.split(None, 1) for line in self.command("status").splitlines() if " " in line)

    def pods(self):
        """name -> phase"""
        return {line.split()[1]: line.split()[2] for line in self.command("pods").splitlines()[1:]}

    def shims(self):
        """Live shims of this node: container id -> pid."""
        live = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv and argv[0].endswith(b"ke-shim") and any(str(self.folder).encode() in a for a in argv):
                live.setdefault(argv[-2].decode(), []).append(int(pid))
        return live

    def end_workloads(self):
        for pids in self.shims().values():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGTERM)
                except OSError:
                    pass
        try:
            wait_for("the end of the workloads", lambda: not self.shims(), 15)
        except AssertionError:
            for pids in self.shims().values():
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass


def pod(name, command, node="edge-1", more=""):
    items = ", ".join('"' + c.replace("\\", "\\\\").replace('"', '\\"') + '"' for c in command)
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  nodeName: {node}
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: test/{name}:1
    command: [{items}]
{more}"""


def configmap(name, **data):
    lines = "".join(f'  {k}: "{v}"\n' for k, v in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n{lines}"
