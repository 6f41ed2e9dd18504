"""Runs several instances of the limiter as a process would whose threads come and go.

    python3 instances.py COMPONENT POLICY SERVICE INSTANCES TOLD REQUESTS

Each instance is told of one when it starts, and of TOLD once all INSTANCES are there. They share a
map, a clock that stands still, and the host service at SERVICE, whose answers are waited for. Prints
JSON: how many of so many requests to each instance in turn were let through, and how often instances
looked into the map after the first request of each.
"""

import http.client
import json
import secrets
import sys
from types import SimpleNamespace

from wasmtime import Engine, Store
from wasmtime.component import Component, Linker

EDGE = "tidegate:edge/{}@0.1.0"
PROCESS = secrets.randbits(64)

path, policy, service = sys.argv[1:4]
instances, told, requests = map(int, sys.argv[4:])
with open(policy, encoding="utf-8") as file:
    policy = file.read()
engine = Engine()
component = Component.from_file(engine, path)
exports = component.get_export_index(EDGE.format("guard"))
shared, looked = {}, 0


def get(_, key):
    global looked
    looked += 1
    return shared.get(bytes(key))


def put(_, key, value, version):
    _, current = shared.get(bytes(key), (b"", 0))
    if version is not None and version != current:
        return False
    shared[bytes(key)] = (bytes(value), current + 1)
    return True


def answer(question):
    """None if there is none."""
    connection = http.client.HTTPConnection(service)
    headers = {"content-type": "application/x-tidegate", "x-tidegate-proxy": "instances"}
    headers["x-tidegate-waits-ms"] = str(-(-question.waits // 1_000_000))
    connection.request("POST", "/v1/ask", question.body, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return body if response.status == 200 else None


class Guard:
    """One instance; what it asks is answered between two calls."""

    def __init__(self, number):
        self.store, self.questions, linker = Store(engine), [], Linker(engine)
        imports = {
            "clock": {"now": lambda _: 1_000_000_000},
            "log": {"write": lambda _, level, message: print(level, message, file=sys.stderr)},
            "shared": {"get": get, "put": put},
            "store": {"send": lambda _, question: self.questions.append(question) or True},
        }
        for name, functions in imports.items():
            with linker.root() as root, root.add_instance(EDGE.format(name)) as instance:
                for function, body in functions.items():
                    instance.add_func(function, body)
        self.instance = linker.instantiate(self.store, component)
        setup = SimpleNamespace(seed=(1, 2), process=PROCESS, number=number, instances=1)
        self.wants = self.call("configure", policy, setup).wants

    def call(self, name, *arguments):
        function = self.instance.get_func(self.store, component.get_export_index(name, exports))
        return function(self.store, *arguments)

    def decide(self):
        """Whether a request goes on; it is one without any facts."""
        step = self.call("on-request", [None for _ in self.wants])
        while self.questions:
            question = self.questions.pop(0)
            for decision in self.call("on-reply", question.id, answer(question)):
                step = decision.verdict if decision.ticket == step else step
        return step.tag == "allow"


guards = [Guard(number) for number in range(instances)]
for guard in guards:
    guard.call("set-instances", told)
first = [guard.decide() for guard in guards]
looked = 0
admitted = sum(guard.decide() for _ in range(1, requests) for guard in guards)
print(json.dumps({"admitted": sum(first) + admitted, "looked": looked}))
