#!/usr/bin/env python3
"""Runs the printed recipes of nginx, Caddy and HAProxy in front of a server, and looks at what goes through.

    tests/by_hand/proxies.py target/release/iii-stream [--idle SECONDS]

And HAProxy in front of a server under TLS, which it hands through unopened. Needs Debian's nginx, caddy and
haproxy, and openssl; those that are not there are left out, and that is said. Everything is on loopback, on
ports of its own. Exit code 1: something did not go through as the recipe says.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from wire import Socket

STREAM, WORKER = 23112, 23134
STREAM_TLS, WORKER_TLS = 23113, 23135
CLIENT = "127.0.0.5"  # none of the trusted proxies
FAULTS = []


def check(what, is_so, seen=""):
    print(f"{'ok' if is_so else 'FAULT'}: {what}" + (f" ({seen})" if not is_so else ""), flush=True)
    if not is_so:
        FAULTS.append(what)


def serve_auth(asked, port=WORKER):
    """An SDK worker whose function lets in who has the right token."""
    worker = Socket(port)
    worker.socket.settimeout(None)
    worker.answer()
    worker.send({"type": "registerfunction", "id": "auth"})

    def run():
        while True:
            try:
                call = worker.next()
            except (EOFError, OSError):
                return  # the checks are over
            if call.get("type") != "invokefunction":
                continue
            asked.append(call["data"])
            told = json.dumps(call["data"])
            result = {} if "s3cret" in told else {"unauthorized": True}
            worker.send({"type": "invocationresult", "invocation_id": call["invocation_id"],
                         "function_id": "auth", "result": result})

    threading.Thread(target=run, daemon=True).start()
    return worker


def looks(name, port, asked):
    """Gives a socket that has said nothing yet."""
    lying = "X-Forwarded-For: 198.51.100.66\r\n"
    for what, path in [("kept", "/stream/s/g/?token=s3cret"), ("stripped", "/rt/stream/s/g/?token=s3cret")]:
        subscriber = Socket(port, path, lying, CLIENT)
        answer = subscriber.answer()
        check(f"{name}: prefix {what}, token by query", " 101 " in answer.split("\r\n")[0], answer)
        message = subscriber.next()
        check(f"{name}: prefix {what}, sync", message["event"]["type"] == "sync", message)
        told = asked[-1]
        check(f"{name}: path {what}", told["path"] == "/stream/s/g/", told["path"])
        address = told["addr"].rsplit(":", 1)[0]
        check(f"{name}: the client's address, and no lie", address == CLIENT, told["addr"])
    token = "Sec-WebSocket-Protocol: Authorization, s3cret\r\n"
    root = Socket(port, "/rt/", token, CLIENT)
    answer = root.answer()
    check(f"{name}: token by subprotocol", " 101 " in answer.split("\r\n")[0], answer)
    check(f"{name}: subprotocol comes back", "sec-websocket-protocol:" in answer.lower(), answer)
    refused = Socket(port, "/rt/", "", CLIENT).answer()
    check(f"{name}: no token, 401", " 401 " in refused.split("\r\n")[0], refused)
    elsewhere = Socket(port, "/elsewhere", token, CLIENT).answer()
    check(f"{name}: elsewhere is not served", " 101 " not in elsewhere.split("\r\n")[0], elsewhere)
    return root


def is_alive(name, root, idle):
    root.send({"type": "join", "data": {"subscriptionId": "a", "streamName": "s", "groupId": "g"}})
    try:
        kind = root.next()["event"]["type"]
    except (EOFError, OSError) as error:
        kind = repr(error)
    check(f"{name}: alive after {idle} s of silence", kind == "sync", kind)


def looks_through(name, port, asked):
    """TLS that the proxy hands through unopened: it says where the client is before that."""
    lying = "X-Forwarded-For: 198.51.100.66\r\n"
    subscriber = Socket(port, "/stream/s/g/?token=s3cret", lying, CLIENT, tls=True)
    answer = subscriber.answer()
    check(f"{name}: TLS goes through", " 101 " in answer.split("\r\n")[0], answer)
    message = subscriber.next()
    check(f"{name}: sync", message["event"]["type"] == "sync", message)
    address = asked[-1]["addr"].rsplit(":", 1)[0]
    check(f"{name}: the client's address, and no lie", address == CLIENT, asked[-1]["addr"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--idle", type=float, default=40, help="above the 25 s between two pings")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    directory = tempfile.mkdtemp(prefix="iii-stream-proxies-")
    os.chmod(directory, 0o755)
    printed = lambda what: subprocess.run([program, "print", what], check=True, capture_output=True, text=True).stdout
    file = lambda name: os.path.join(directory, name)

    def write(name, text):
        with open(file(name), "w") as out:
            out.write(text)
        return file(name)

    write("config.yaml", f"""workers:
  - name: iii-stream
    config: {{host: 127.0.0.1, port: {STREAM}, auth_function: auth}}
    server: {{threads: 1, drain_ms: 100, trusted_proxies: [127.0.0.1]}}
  - name: iii-worker-manager
    config: {{host: 127.0.0.1, port: {WORKER}}}
""")
    started = []

    def start(name, command):
        log = open(file(f"{name}.log"), "w")
        started.append((name, subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)))

    start("server", [program, "-c", "config.yaml"])
    here = lambda text, port: text.replace("127.0.0.1:3112", f"127.0.0.1:{STREAM}")
    proxies = []
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx:
        recipe = here(printed("nginx"), 0).replace("listen 80;", "listen 127.0.0.1:23201;")
        recipe = recipe.replace("/var/log/nginx/", directory + "/")
        write("nginx.conf", f"daemon off; pid {directory}/nginx.pid; error_log stderr;\n"
              f"events {{}}\nhttp {{\n{recipe}\n}}\n")
        start("nginx", [nginx, "-p", directory, "-c", file("nginx.conf")])
        proxies.append(("nginx", 23201))
    caddy = shutil.which("caddy")
    if caddy:
        recipe = here(printed("caddy"), 0).replace(":80 {", ":23202 {\n\tbind 127.0.0.1")
        write("Caddyfile", "{\n\tadmin off\n\tauto_https off\n}\n" + recipe)
        start("caddy", [caddy, "run", "--adapter", "caddyfile", "--config", file("Caddyfile")])
        proxies.append(("caddy", 23202))
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy:
        recipe = here(printed("haproxy"), 0).replace("maxconn 200000", "maxconn 1000")
        for name, port, more in [("haproxy", 23203, ""), ("haproxy with PROXY v2", 23204, " send-proxy-v2"),
                                 ("haproxy with PROXY v1", 23205, " send-proxy")]:
            own = recipe.replace("bind :80", f"bind 127.0.0.1:{port}")
            own = own.replace(f"127.0.0.1:{STREAM}", f"127.0.0.1:{STREAM}{more}")
            start(name.replace(" ", "-"), [haproxy, "-db", "-f", write(f"{port}.cfg", own)])
            proxies.append((name, port))
    through = []
    openssl = shutil.which("openssl")
    if haproxy and openssl:
        subprocess.run([openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", file("key.pem"), "-out", file("cert.pem"), "-days", "2", "-subj", "/CN=localhost"],
                       check=True, capture_output=True)
        start("server-tls", [program, "-c", write("tls.yaml", f"""workers:
  - name: iii-stream
    config: {{host: 127.0.0.1, port: {STREAM_TLS}, auth_function: auth, adapter: {{name: kv}}}}
    server: {{threads: 1, drain_ms: 100, admin: off, trusted_proxies: [127.0.0.1],
             tls: {{cert: cert.pem, key: key.pem}}}}
  - name: iii-worker-manager
    config: {{host: 127.0.0.1, port: {WORKER_TLS}}}
""")])
        for name, port, more in [("haproxy, TLS handed through with PROXY v2", 23206, "send-proxy-v2"),
                                 ("haproxy, TLS handed through with PROXY v1", 23207, "send-proxy")]:
            own = (f"defaults\n mode tcp\n timeout connect 5s\n timeout client 90s\n timeout server 90s\n"
                   f"listen through\n bind 127.0.0.1:{port}\n server a 127.0.0.1:{STREAM_TLS} {more}\n")
            start(f"through-{port}", [haproxy, "-db", "-f", write(f"{port}.cfg", own)])
            through.append((name, port))
    for name, found in [("nginx", nginx), ("caddy", caddy), ("haproxy", haproxy), ("openssl", openssl)]:
        if not found:
            print(f"left out: {name} is not installed")
    try:
        time.sleep(3)
        asked = []
        worker = serve_auth(asked)
        time.sleep(0.5)
        if through:
            told = []
            other = serve_auth(told, WORKER_TLS)
            time.sleep(0.5)
            for name, port in through:
                looks_through(name, port, told)
            other.socket.close()
        silent = [(name, looks(name, port, asked)) for name, port in proxies]
        time.sleep(arguments.idle)
        for name, root in silent:
            is_alive(name, root, arguments.idle)
        worker.socket.close()
    finally:
        for _, process in reversed(started):
            process.terminate()
        for _, process in started:
            process.wait()
        if FAULTS:
            for name, _ in started:
                path = file(f"{name}.log")
                print(f"--- {name}\n{open(path).read()[-2000:]}")
        shutil.rmtree(directory)
    sys.exit(1 if FAULTS else 0)


main()
