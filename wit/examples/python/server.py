"""Tidegate in Python's HTTP server: what the guard lets through is greeted, all else gets its refusal.

    python3 server.py PORT COMPONENT POLICY SERVICE

POLICY is a file of JSON; SERVICE is where a Tidegate host service answers asks, such as
127.0.0.1:9090. Only a policy with global limits, or with revocation, asks.
"""

import http.client
import os
import re
import secrets
import sys
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import MSG_DONTWAIT, MSG_PEEK
from threading import RLock, Thread
from types import SimpleNamespace

from wasmtime import Engine, Store, WasmtimeError
from wasmtime.component import Component, Linker

EDGE = "tidegate:edge/{}@0.1.0"
PROCESS = str(uuid.uuid4())

# How often to look whether the client of a request that is held is still there; and how long one is
# held at most, which is longer than the longest deadline that a policy can have, 4 s.
LOOK_S, HELD_S_MAX = 0.05, 10


class Guard:
    """The limiter: one instance, used by one thread at a time."""

    def __init__(self, component, policy, service):
        self.service, self.lock = service, RLock()
        self.shared = {}  # what the instances of a process share; this process has one
        self.held = {}  # the requests that wait: by its ticket, the future verdict of each
        self.names = {}  # what the request that is just being decided calls itself
        self.asking = ThreadPoolExecutor(64)
        engine = Engine()
        self.store = Store(engine)
        component = Component.from_file(engine, component)
        self.instance = self.linker(engine).instantiate(self.store, component)
        exports = component.get_export_index(EDGE.format("guard"))
        self.export = lambda name: component.get_export_index(name, exports)
        draw = lambda: secrets.randbits(64)
        setup = SimpleNamespace(seed=(draw(), draw()), process=draw(), number=1, instances=1)
        terms = self.call("configure", policy, setup)
        if isinstance(terms, list):
            sys.exit("\n".join(terms))
        self.wants, self.tick = terms.wants, terms.tick / 1e9
        Thread(target=self.keep_time, daemon=True).start()

    def linker(self, engine):
        linker = Linker(engine)
        imports = {
            "clock": {"now": lambda _: time.monotonic_ns()},
            "log": {"write": lambda _, level, message: print(f"{level}: {message}", file=sys.stderr)},
            "shared": {"get": lambda _, key: self.shared.get(bytes(key)), "put": self.put},
            "store": {"send": self.send},
        }
        for name, functions in imports.items():
            with linker.root() as root, root.add_instance(EDGE.format(name)) as instance:
                for function, body in functions.items():
                    instance.add_func(function, body)
        return linker

    def call(self, name, *arguments):
        """A trap ends the process: whoever runs it starts another."""
        with self.lock:
            try:
                return self.instance.get_func(self.store, self.export(name))(self.store, *arguments)
            except WasmtimeError as trap:
                print(f"error: the guard is gone: {trap}", file=sys.stderr, flush=True)
                os._exit(70)

    def put(self, _, key, value, version):
        _, current = self.shared.get(bytes(key), (b"", 0))
        if version is not None and version != current:
            return False
        self.shared[bytes(key)] = (bytes(value), current % 0xFFFF_FFFF + 1)
        return True

    def send(self, _, question):
        self.asking.submit(self.ask, question, self.names)
        return True

    def ask(self, question, names):
        """Puts a question to the host service, and brings back bytes, for how long its store has
        been away, or None. Without its mark a response is somebody else's."""
        answer, path = None, "/v1/ask" if question.body else "/healthz"
        waits_ms = -(-question.waits // 1_000_000)
        headers = {**names, "host": question.authority}
        headers |= {"x-tidegate-proxy": PROCESS, "x-tidegate-waits-ms": str(waits_ms)}
        if question.body:
            headers["content-type"] = "application/x-tidegate"
        connection = http.client.HTTPConnection(self.service, timeout=waits_ms / 1000)
        try:
            connection.request("POST" if question.body else "GET", path, question.body, headers)
            response = connection.getresponse()
            body, away_ms = response.read(), response.getheader("x-tidegate-away-ms")
            is_ours = response.getheader("x-tidegate")
            if is_ours and response.status == 200:
                answer = body
            elif is_ours and away_ms:
                answer = int(away_ms) * 1_000_000
        except (OSError, ValueError, http.client.HTTPException) as problem:
            print(f"debug: {problem!r}", file=sys.stderr)
        finally:
            connection.close()
        self.settle("on-reply", question.id, answer)

    def settle(self, name, *arguments):
        with self.lock:
            for decision in self.call(name, *arguments):
                waits = self.held.pop(decision.ticket, None)
                if waits:
                    waits.set_result(decision.verdict)

    def keep_time(self):
        while True:
            time.sleep(self.tick)
            self.settle("on-tick")

    def decide(self, request):
        """The verdict; none if the client is gone, or the guard does not tell."""
        with self.lock:
            self.names = names_of(request)
            step = self.call("on-request", [fact(want, request) for want in self.wants])
            self.names = {}
            if not isinstance(step, int):
                return step
            self.held[step] = verdict = Future()
        until = time.monotonic() + HELD_S_MAX
        while not wait([verdict], LOOK_S).done and time.monotonic() < until:
            if is_gone(request.connection):
                break
        with self.lock:
            if self.held.pop(step, None):
                self.call("on-gone", step)
                return None
        return verdict.result()


def names_of(request):
    """What goes along with a question: only what is plainly a name."""
    names = {name: request.headers[name] or "" for name in ("x-request-id", "traceparent")}
    return {name: value for name, value in names.items() if re.fullmatch("[!-~]{1,256}", value)}


def is_gone(connection):
    """Whether a client has hung up, as far as one sees who reads nothing."""
    try:
        return not connection.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def fact(want, request):
    """What the policy wants to know of a request, as bytes."""
    if want.tag == "client-address":
        return request.client_address[0].encode()
    if want.tag not in ("header", "sole-header"):
        return None
    # Perhaps a whole URL, whose authority counts (RFC 9112, 3.2.2); what follows that is the path.
    whole = re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)/?(.*)", request.path)
    path = "/" + whole[2] if whole else request.path
    authority = whole and whole[1] or request.headers["host"]
    pseudo = {":method": request.command, ":path": path, ":authority": authority}
    name = want.payload
    values = [pseudo[name]] if pseudo.get(name) else request.headers.get_all(name, [])
    value = "," if want.tag == "sole-header" and len(values) > 1 else next(iter(values), None)
    return None if value is None else value.encode("latin-1")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        verdict = guard.decide(self)
        if verdict is None:
            self.close_connection = True
            return None if is_gone(self.connection) else self.send_error(503)
        told, is_refused = verdict.payload, verdict.tag == "refuse"
        body = told.body.encode() if is_refused else b"hello\n"
        self.send_response(told.status if is_refused else 200)
        for field in told.fields if told else []:
            self.send_header(field.name, field.value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port, component, policy, service = sys.argv[1:]
    with open(policy, encoding="utf-8") as file:
        guard = Guard(component, file.read(), service)
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    print("ready", flush=True)
    server.serve_forever()
