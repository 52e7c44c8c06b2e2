#!/usr/bin/env python3
"""Has every printed alert fire, and asks a Prometheus what every panel of the printed dashboard asks for.

    tests/by_hand/alerts.py target/release/iii-stream

Needs root (for a limit of file sizes), Debian's prometheus and redis-server, and openssl. Three servers: one
keeps values in files, one in Redis, one is under TLS. Readers stall, sockets find no room, the disk refuses,
Redis stands still and goes, nobody can say who a subscriber is. What takes minutes in the rules takes
seconds here, and a thread is busy from 0.1 % on. Everything is on loopback, on ports of its own; it takes about
a minute. Exit code 1: an alert did not fire, or a panel has no data.
"""
import argparse
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from wire import Socket

FILES, REDIS, TLS = range(3)
STREAM = [23412, 23422, 23432]
WORKER = [23413, 23423, 23433]
ADMIN = [23414, 23424, 23434]
REDIS_PORT, PROMETHEUS_PORT = 23440, 23441
FAULTS = []


def check(what, is_so, seen=""):
    print(f"{'ok' if is_so else 'FAULT'}: {what}" + (f" ({seen})" if not is_so else ""), flush=True)
    if not is_so:
        FAULTS.append(what)


def config(which, config, server):
    return f"""workers:
  - name: iii-stream
    config: {{host: 127.0.0.1, port: {STREAM[which]}, {config}}}
    server: {{threads: 1, drain_ms: 100, admin: {{port: {ADMIN[which]}}}, {server}}}
  - name: iii-worker-manager
    config: {{host: 127.0.0.1, port: {WORKER[which]}}}
"""


class Worker:
    """An SDK worker."""

    def __init__(self, which):
        self.socket = Socket(WORKER[which])
        self.socket.answer()
        self.count = 0

    def call(self, function, **data):
        """The answer's error, or None."""
        self.count += 1
        call = f"00000000-0000-4000-8000-{self.count:012d}"
        self.socket.send({"type": "invokefunction", "invocation_id": call, "function_id": f"stream::{function}",
                          "data": {"stream_name": "s", "group_id": "g", **data}})
        while True:
            message = self.socket.next()
            if message.get("invocation_id") == call:
                return message.get("error")


def join(which, buffer=None):
    socket = Socket(STREAM[which], "/stream/s/g/", buffer=buffer)
    return socket, socket.answer().split("\r\n")[0]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, is_so, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if is_so():
                return
        except OSError:
            pass  # it is not there yet
        time.sleep(0.2)
    check(what, False, "not in time")


def prometheus(path, **query):
    url = f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    return json.loads(get(url))["data"]


def stage_readers(held):
    """Readers that take nothing, more subscribers than there is room for, and a worker that takes nothing."""
    worker = Worker(FILES)
    deaf = Worker(FILES)
    deaf.socket.send({"type": "registerfunction", "id": "deaf"})
    deaf.socket.send({"type": "registertrigger", "id": "t", "trigger_type": "stream", "function_id": "deaf",
                      "config": {"stream_name": "s"}})
    held += [worker, deaf, join(FILES, 4096)[0]]
    time.sleep(0.5)
    for number in range(300):
        worker.call("set", item_id=f"i{number % 50}", data="x" * 30_000)
        if number % 3 == 0:
            worker.call("send", type="t", data=number)
    for _ in range(400):
        socket, answer = join(FILES)
        held.append(socket)
        if " 503 " in answer:
            break
    check("a subscriber finds no room", " 503 " in answer, answer)


def stage_disk(pid):
    """A disk on which no file may grow."""
    worker = Worker(FILES)
    log = max(os.path.getsize(f"values/{name}") for name in os.listdir("values"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log, resource.RLIM_INFINITY))
    errors = [worker.call("set", item_id="refused", data="y" * 9000) for _ in range(20)]
    check("the disk refuses", any(errors), errors[0])
    time.sleep(4)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until("writes are taken again", lambda: worker.call("set", item_id="again", data=1) is None)


def stage_redis(redis):
    """A Redis that stands still, and then goes."""
    worker = Worker(REDIS)
    worker.call("set", item_id="i", data=1)
    for _ in range(3):
        redis.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        worker.socket.send({"type": "invokefunction", "function_id": "stream::set",
                            "invocation_id": "00000000-0000-4000-9000-000000000000",
                            "data": {"stream_name": "s", "group_id": "g", "item_id": "i", "data": 2}})
        time.sleep(2.5)
        redis.send_signal(signal.SIGCONT)
        until("Redis answers again", lambda: worker.call("get", item_id="i") is None)
        check("a call waits for Redis", time.monotonic() - stopped > 2)
    answer = Socket(STREAM[REDIS], "/stream/s/g/").answer().split("\r\n")[0]
    check("nobody can say who a subscriber is", " 503 " in answer, answer)
    redis.kill()
    redis.wait()
    for _ in range(10):
        worker.call("set", item_id="i", data=3)
        time.sleep(0.5)


def finite(series):
    return [value for _, value in series["values"] if math.isfinite(float(value))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    program = os.path.abspath(parser.parse_args().program)
    directory = tempfile.mkdtemp(prefix="iii-stream-alerts-")
    os.chdir(directory)
    printed = lambda what: subprocess.run([program, "print", what], check=True, capture_output=True, text=True).stdout
    started = []

    def write(name, text):
        with open(name, "w") as out:
            out.write(text)

    def start(name, *command):
        log = open(f"{name}.log", "w")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        started.append((name, process))
        return process

    rules = printed("alerts")
    names = re.findall(r"alert: (\w+)", rules)
    short = re.sub(r"for: \w+", "for: 1s", rules)
    short = re.sub(r"\[\d+m\]", "[10s]", short)
    short = short.replace("cpu_seconds_total[10s]) > 0.9", "cpu_seconds_total[10s]) > 0.001")
    write("rules.yml", short)
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in ADMIN)
    write("prometheus.yml", f"""global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: iii-stream
    static_configs: [{{targets: [{targets}]}}]
""")
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "7", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
                    "key.pem", "-out", "cert.pem"], check=True, stderr=subprocess.DEVNULL)
    write("files.yaml", config(FILES, "adapter: {name: kv, config: {store_method: file_based, file_path: values}}",
                               "stall_timeout_ms: 10s, limits: {custom_events_behind: 10, call_queue_bytes: 64KiB}"))
    write("redis.yaml", config(REDIS, f"auth_function: nobody, adapter: {{name: redis, config: {{redis_url: "
                               f"'redis://127.0.0.1:{REDIS_PORT}'}}}}", "call_timeout_ms: 10s"))
    write("tls.yaml", config(TLS, "", "tls: {cert: cert.pem, key: key.pem}"))
    begin = time.time()
    held = []
    try:
        redis = start("redis-server", "redis-server", "--port", str(REDIS_PORT), "--save", "", "--appendonly", "no")
        time.sleep(0.5)
        files = start("files", "prlimit", "--nofile=300:300", program, "-c", "files.yaml")
        start("redis", program, "-c", "redis.yaml")
        tls = start("tls", program, "-c", "tls.yaml")
        start("prometheus", "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
              f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}")
        until("three servers are scraped", lambda: len(prometheus("query", query="up == 1")["result"]) == 3)
        time.sleep(3)
        stage_readers(held)
        time.sleep(13)
        held.clear()
        stage_disk(files.pid)
        stage_redis(redis)
        tls.terminate()
        time.sleep(5)

        fired = prometheus("query", query='count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[10m]))')
        fired = {series["metric"]["alertname"] for series in fired["result"]}
        for name in names:
            check(f"alert {name} has fired", name in fired)
        for alert in prometheus("alerts")["alerts"]:
            told = " ".join(alert["annotations"].values())
            check(f"words of {alert['labels']['alertname']}", "error" not in told.replace("an error", "")
                  .replace('"error"', ""), told)
        board = json.loads(printed("grafana"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"].replace("$__rate_interval", "10s")
                query = query.replace("$job", "iii-stream").replace("$instance", ".*")
                told = prometheus("query_range", query=query, start=begin, end=time.time(), step=1)
                has = any(finite(series) for series in told["result"])
                check(f"panel {panel['title']}: {target['legendFormat']}", has, query)
    finally:
        for _, process in reversed(started):
            if process.poll() is None:
                process.terminate()
        for _, process in started:
            process.wait()
        if FAULTS:
            for name, _ in started:
                print(f"--- {name}\n{open(f'{name}.log').read()[-3000:]}")
        os.chdir("/")
        shutil.rmtree(directory)
    sys.exit(1 if FAULTS else 0)


main()
