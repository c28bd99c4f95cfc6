#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our MQTT server against mosquitto, in the same rounds: bench.py --build BUILD [--persist] [--quick].

The server runs on one core, the load generator on another. What counts is the server's processor time
per delivered message (the ratio of the medians says little on a busy machine: it is the median of the
rounds' ratios that is printed), the delay of paced messages, and the growth of private dirty memory per
object on a fresh server. The generator ends the run when a message is out of order or skipped.
"""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

FLOWS = [
    # name, generator's arguments, messages, goal for ours / mosquitto, memory-only
    ("QoS 0, 50 pairs", ["pairs", "--qos", "0"], 400000, 0.80),
    ("QoS 1, 50 pairs", ["pairs", "--qos", "1"], 200000, 0.40),
    ("QoS 2, 50 pairs", ["pairs", "--qos", "2"], 100000, 0.19),
    ("fan-out 1 to 500", ["fanout", "--clients", "500"], 2000, 0.28),
    ("fan-in 500 to 1", ["fanin", "--clients", "500"], 200000, 0.65),
]
# QoS 0 leaves nothing on a disk: what is kept for absent sessions is QoS 1, measured where both keep it.
KEPT_FLOWS = FLOWS[1:3] + [
    ("fan-out 1 to 500, QoS 1", ["fanout", "--clients", "500", "--qos", "1"], 400, 1.0),
    ("fan-in 500 to 1, QoS 1", ["fanin", "--clients", "500", "--qos", "1"], 50000, 1.0),
]
PACED = [
    ("p99 of QoS 1 at 2,000/s, bursts of 20, 1 pair",
     ["pairs", "--qos", "1", "--rate", "2000", "--burst", "20", "--clients", "1"], 8000, 0.20),
    ("p99 of QoS 1 at 2,000/s, 50 pairs", ["pairs", "--qos", "1", "--rate", "2000"], 8000, 0.20),
    ("p99 of QoS 1 at 2,000/s, 1 pair", ["pairs", "--qos", "1", "--rate", "2000", "--clients", "1"], 8000, 0.20),
    ("p99 of QoS 1 at 2,000/s, 1 pair, acknowledged each 5 ms",
     ["pairs", "--qos", "1", "--rate", "2000", "--clients", "1", "--ack-every", "5"], 8000, 0.20),
]
MEMORY = [
    # name, mode, count, goal in bytes
    ("idle connection", "idle", 15000, 734),
    ("retained message", "retained", 100000, 800),
    ("queued message", "queue", 100000, 400),
    ("exact filter", "filters", 100000, 900),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One server process, pinned; its folder goes with it."""

    def __init__(self, kind, args, before=()):
        self.folder = tempfile.mkdtemp(prefix="ke-bench-", dir=args.folder)
        self.port = free_port()
        if kind == "mosquitto":
            cmd = ["mosquitto", "-c", self.mosquitto_conf(args.persist)]
        else:
            cmd = [args.ours, "--config", self.our_conf(args.persist)]
            if args.bare:
                cmd = [args.ours, str(self.port)] + ([os.path.join(self.folder, "data")] if args.persist else [])
        env = dict(os.environ, LD_LIBRARY_PATH=args.build + "/lib")
        self.log = open(os.path.join(self.folder, "log"), "wb")
        cmd = [*before, "nice", "-n", str(args.nice), "taskset", "-c", str(args.server_core)] + cmd
        self.process = subprocess.Popen(cmd, env=env, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    with open(self.log.name, encoding="utf-8", errors="replace") as f:
                        sys.exit(f"{cmd} does not listen: {f.read()[-2000:]}")
                time.sleep(0.05)

    def write(self, text):
        path = os.path.join(self.folder, "conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def mosquitto_conf(self, persist):
        os.chmod(self.folder, 0o777)
        keep = f"persistence true\npersistence_location {self.folder}/\nautosave_interval 5\n"
        return self.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
                          + "user root\nlog_dest none\n" + (keep if persist else "persistence false\n"))

    def our_conf(self, persist):
        keep = f"persistence true\npersistence_location {self.folder}/\n"
        return self.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
                          + "log_dest none\n" + (keep if persist else "persistence false\n"))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def load(args, server, words, before=()):
    cmd = [*before, "nice", "-n", str(args.nice), "taskset", "-c", str(args.load_core), os.path.join(args.build, "tests/bench/mqtt/mqtt_load")]
    cmd += words + ["--to", f"127.0.0.1:{server.port}", "--pid", str(server.process.pid)]
    if args.persist and words[0] in ("pairs", "fanout", "fanin"):
        cmd.append("--persistent")
    done = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(cmd)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def realtime():
    """What is measured in microseconds must not wait for other work's time slices (commits need the kernel's threads)."""
    words = ["chrt", "-f", "1"]
    return words if subprocess.run([*words, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0 else []


def rounds(args, table, key, scale, before=()):
    kinds = ["mosquitto", "ours"]
    for name, words, messages, goal in table:
        if args.only and args.only not in name:
            continue
        values = {k: [] for k in kinds}
        for i in range(args.rounds):
            for kind in kinds if i % 2 == 0 else kinds[::-1]:
                server = Server(kind, args, before)
                try:
                    r = load(args, server, words + ["--messages", str(int(messages * scale)),
                                                    "--window", str(args.window)], before)
                    values[kind].append(r[key])
                except RuntimeError as e:
                    print(f"{name}: {kind}: {e}", flush=True)
                finally:
                    server.stop()
        show(name, values, goal)


def show(name, values, goal):
    line = f"{name:46} mosquitto {statistics.median(values['mosquitto']):9.2f} us"
    ours = values.get("ours")
    if ours and len(ours) == len(values["mosquitto"]):
        ratio = statistics.median(o / m for o, m in zip(ours, values["mosquitto"]))
        line += f"  ours {statistics.median(ours):9.2f} us  ratio {ratio:5.2f}"
        if goal is not None:
            line += f"  goal {goal:.2f} " + ("met" if ratio <= goal else "MISSED")
    print(line, flush=True)


def one_commit(folder):
    """What the disk takes for one: 64 bytes written over, and synced. Median and p99 in microseconds."""
    took = []
    with tempfile.TemporaryFile(dir=folder) as f:
        f.write(bytes(4096))
        os.fsync(f.fileno())
        for _ in range(2000):
            begin = time.monotonic()
            os.pwrite(f.fileno(), bytes(64), 0)
            os.fdatasync(f.fileno())
            took.append((time.monotonic() - begin) * 1e6)
    took.sort()
    return took[1000], took[1980]


def memory(args):
    for name, mode, count, goal in MEMORY:
        if args.only and args.only not in name:
            continue
        for kind in ["mosquitto", "ours"]:
            server = Server(kind, args)
            try:
                r = load(args, server, [mode, "--count", str(count // (10 if args.quick else 1))])
                print(f"{name:46} {kind:9} {r['bytes_each']:7.0f} bytes  goal {goal}", flush=True)
            except RuntimeError as e:
                print(f"{name}: {kind}: {e}", flush=True)
            finally:
                server.stop()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", required=True, help="build folder")
    p.add_argument("--ours", help="our server's program; it takes --config FILE (default: ke-mqttd of BUILD)")
    p.add_argument("--bare", action="store_true", help="--ours is mqtt_server: PORT [FOLDER]")
    p.add_argument("--persist", action="store_true", help="persistence on both sides (default: memory only)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--window", type=int, default=20, help="messages in flight per publisher")
    p.add_argument("--quick", action="store_true", help="a tenth of the messages")
    p.add_argument("--only", default="", help="part of a name")
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--load-core", type=int, default=1)
    p.add_argument("--nice", type=int, default=-15, help="of server and generator, against other work (root)")
    p.add_argument("--folder", default=None, help="where servers keep their data")
    args = p.parse_args()
    args.ours = args.ours or os.path.join(args.build, "examples/ke-mqttd")
    favour(args.nice)
    print(("persistence on both sides" if args.persist else "memory only on both sides")
          + f"; mosquitto {mosquitto_version()}; load average {os.getloadavg()[0]:.1f}", flush=True)
    rounds(args, KEPT_FLOWS if args.persist else FLOWS, "us_per_message", 0.1 if args.quick else 1)
    paced = PACED
    if args.persist:  # ours answers when a message is on the disk, mosquitto before that: nothing to compare
        paced = [(*flow[:3], None) for flow in PACED]
        print("ours commits a message before it answers, mosquitto writes all it has every 5 s; "
              "one commit here: median %.0f us, p99 %.0f us" % one_commit(args.folder), flush=True)
    rounds(args, paced, "p99_us", 0.5 if args.quick else 1, [] if args.persist else realtime())
    memory(args)


def favour(nice):
    """Nice values count only inside a session where the kernel groups sessions: weigh ours, too."""
    try:
        os.setsid()
    except OSError:
        pass  # leads one already
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as f:
            f.write(str(nice))
    except OSError:
        pass


def mosquitto_version():
    text = subprocess.run(["mosquitto", "-h"], stdout=subprocess.PIPE, text=True, check=False).stdout
    return text.split("\n", 1)[0].split()[-1]


if __name__ == "__main__":
    main()
