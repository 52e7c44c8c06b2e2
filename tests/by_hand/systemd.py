#!/usr/bin/env python3
"""Runs the printed unit under a real systemd: as process 1 of namespaces of its own, in a root of its own.

    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm ROOT
    tests/by_hand/systemd.py ROOT target/release/iii-stream

Needs root. It starts, is reloaded, is watched, is stopped with sockets open under load, and has too little
memory. ROOT is changed. Exit code 1: something did not go as the unit says.
"""
import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time

from wire import Socket

CLONE_NEWNET = 0x40000000
SOCKETS = 300
FAULTS = []
BOOT = """
mount --make-rprivate /
mount --bind {root} {root}
cd {root}
mount -t proc proc proc
mount -t sysfs sysfs sys
for it in run tmp dev; do mount -t tmpfs tmpfs $it; done
for it in null zero full random urandom tty; do touch dev/$it; mount --bind /dev/$it dev/$it; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/console
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  for it in systemd memory pids; do
    mkdir sys/fs/cgroup/$it
    [ $it = systemd ] && named=none,name=systemd || named=$it
    mount -t cgroup -o $named cgroup sys/fs/cgroup/$it
  done
fi
mkdir -p old
pivot_root . old
cd /
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


def check(what, is_so, seen=""):
    print(f"{'ok' if is_so else 'FAULT'}: {what}" + (f" ({seen})" if not is_so else ""), flush=True)
    if not is_so:
        FAULTS.append(what)


def boot(root):
    """Gives the process that is 1 there."""
    # A group of its own, which the namespace then takes for the root of all.
    for kind in ["systemd", "memory", "pids", ""]:
        group = os.path.join("/sys/fs/cgroup", kind, "iii-stream-by-hand")
        if os.path.isdir(os.path.dirname(group)):
            try:
                os.makedirs(group, exist_ok=True)
                with open(group + "/cgroup.procs", "w") as procs:
                    procs.write(str(os.getpid()))
            except OSError:
                pass  # no hierarchy of that kind
    unshared = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net", "--fork", "--kill-child"]
    outer = subprocess.Popen(["unshare", *unshared, "bash", "-ec", BOOT.format(root=root)])
    while outer.poll() is None:
        children = f"/proc/{outer.pid}/task/{outer.pid}/children"
        for child in open(children).read().split():
            if os.readlink(f"/proc/{child}/exe").endswith("/systemd"):
                return outer, child
        time.sleep(0.1)
    sys.exit("it does not start")


class Inside:
    """What is asked there."""

    def __init__(self, one):
        self.enter = ["nsenter", "-t", one, "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "env", "-i",
                      "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]

    def run(self, *command):
        ran = subprocess.run([*self.enter, *command], capture_output=True, text=True)
        return ran.returncode, (ran.stdout + ran.stderr).strip()

    def show(self, name):
        return self.run("systemctl", "show", "--value", "-p", name, "iii-stream")[1]

    def until(self, what, is_so):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if is_so():
                return check(what, True)
            time.sleep(0.1)
        check(what, False, self.run("journalctl", "-u", "iii-stream", "-n", "5", "--no-pager")[1])


def follow(socket, closes):
    """Reads to the close frame, and takes note of its code and when it came."""
    try:
        while True:
            first, size = socket.exactly(2)
            if size == 126:
                size = int.from_bytes(socket.exactly(2), "big")
            elif size == 127:
                size = int.from_bytes(socket.exactly(8), "big")
            payload = socket.exactly(size)
            if first & 0xF == 8:
                return closes.append((int.from_bytes(payload[:2], "big"), time.monotonic()))
    except (EOFError, OSError) as error:
        closes.append((repr(error), time.monotonic()))


def stop_under_load(inside):
    subscribers = [Socket(3112, "/stream/s/g/") for _ in range(SOCKETS)]
    for subscriber in subscribers:
        subscriber.answer()
        subscriber.next()
    worker = Socket(49134)
    worker.answer()

    def change():
        try:
            for number in range(100_000):
                worker.send({"type": "invokefunction", "function_id": "stream::set", "data": {
                    "stream_name": "s", "group_id": "g", "item_id": f"i{number % 50}", "data": number}})
                time.sleep(0.002)
        except OSError:
            pass  # it has ended

    closes, stopping = [], []
    threads = [threading.Thread(target=follow, args=(subscriber, closes)) for subscriber in subscribers]
    threads.append(threading.Thread(target=change))
    for thread in threads:
        thread.start()
    time.sleep(0.5)

    def look():
        while not stopping:
            if inside.show("StatusText").startswith("closes "):
                stopping.append(time.monotonic())

    looking = threading.Thread(target=look)
    looking.start()
    code, said = inside.run("systemctl", "stop", "iii-stream")
    for thread in [*threads, looking]:
        thread.join()
    check("it stops", code == 0 and inside.show("Result") == "success", said)
    codes = {code for code, _ in closes}
    check(f"{SOCKETS} sockets are closed with 1012", codes == {1012} and len(closes) == SOCKETS, codes)
    check("STOPPING is told before the last of them", stopping[0] < max(at for _, at in closes))


def has_little_memory(inside):
    inside.run("systemctl", "set-property", "--runtime", "iii-stream", "MemoryMax=64M")
    inside.run("systemctl", "start", "iii-stream")
    inside.until("it starts with little memory", lambda: inside.show("SubState") == "running")
    worker = Socket(49134)
    worker.answer()
    error = None
    for number in range(3000):
        call = f"00000000-0000-4000-8000-{number:012d}"
        worker.send({"type": "invokefunction", "invocation_id": call, "function_id": "stream::set", "data": {
            "stream_name": "s", "group_id": "g", "item_id": f"i{number}", "data": "x" * 60_000}})
        message = worker.next()
        while message.get("invocation_id") != call:
            message = worker.next()
        error = message.get("error")
        if error:
            break
    check("calls that would add are refused", error and "out of memory" in error["message"], error)
    answer = Socket(3112, "/stream/s/g/").answer()
    check("who comes then is told 503", " 503 " in answer.split("\r\n")[0], answer)
    check("it is not killed", inside.show("NRestarts") == "0", inside.show("NRestarts"))


def main():
    root, program = (os.path.abspath(path) for path in sys.argv[1:3])
    for folder in ["etc/iii-stream", "var/lib/iii-stream"]:
        shutil.rmtree(f"{root}/{folder}", ignore_errors=True)
        os.makedirs(f"{root}/{folder}")
    shutil.copy(program, f"{root}/usr/bin/iii-stream")
    for what, path in [("systemd", "etc/systemd/system/iii-stream.service"), ("config", "etc/iii-stream/config.yaml")]:
        with open(f"{root}/{path}", "w") as out:
            subprocess.run([program, "print", what], check=True, stdout=out)
    outer, one = boot(root)
    inside = Inside(one)
    try:
        inside.run("useradd", "--system", "--home-dir", "/var/lib/iii-stream", "iii-stream")
        subprocess.run(["nsenter", "-t", one, "-n", "ip", "link", "set", "lo", "up"], check=True)
        network = os.open(f"/proc/{one}/ns/net", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
            sys.exit("cannot enter its network")
        inside.until("systemd answers", lambda: inside.run("systemctl", "is-system-running")[1] in ["running", "degraded"])
        drop_in = "/run/systemd/system/iii-stream.service.d"
        inside.run("sh", "-c", f"mkdir -p {drop_in}; printf '[Service]\\nWatchdogSec=2\\n' > {drop_in}/w.conf")
        inside.run("systemctl", "daemon-reload")
        code, said = inside.run("systemctl", "start", "iii-stream")
        check("it is ready", code == 0 and inside.show("StatusText").startswith("serves subscribers"), said)
        time.sleep(6)
        check("it tells the watchdog that it is alive", inside.show("NRestarts") == "0")
        code, said = inside.run("systemctl", "reload", "iii-stream")
        check("it is reloaded", code == 0, said)
        config = f"{root}/etc/iii-stream/config.yaml"
        kept = open(config).read()
        open(config, "w").write("workers: 5\n")
        code, _ = inside.run("systemctl", "reload", "iii-stream")
        check("settings with a fault fail the reload, and it serves on", code != 0 and inside.show("SubState") == "running")
        open(config, "w").write(kept)
        inside.run("sh", "-c", f"kill -STOP {inside.show('MainPID')}")
        is_back = lambda: inside.show("NRestarts") == "1" and inside.show("SubState") == "running"
        inside.until("one that stands still is started anew", is_back)
        inside.run("rm", f"{drop_in}/w.conf")
        inside.run("systemctl", "daemon-reload")
        inside.run("systemctl", "restart", "iii-stream")
        stop_under_load(inside)
        has_little_memory(inside)
    finally:
        outer.kill()
        outer.wait()
    sys.exit(1 if FAULTS else 0)


main()
