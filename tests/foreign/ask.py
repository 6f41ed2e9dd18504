"""Loads a plugin as a host that has nothing to offer but a log, and asks it.

    python3 ask.py COMPONENT CASES

CASES is JSON: a list of the facts of requests, each a list of text or null. Prints JSON: what the
plugin says it is, what it has logged, and of each case its answer as a list, or its error as text.
"""

import json
import sys

from wasmtime import Engine, Store
from wasmtime.component import Component, Linker

EDGE = "tidegate:edge/{}@0.1.0"

path, cases = sys.argv[1:]
engine = Engine()
component, linker, store, logged = Component.from_file(engine, path), Linker(engine), Store(engine), []
with linker.root() as root, root.add_instance(EDGE.format("log")) as log:
    log.add_func("write", lambda _, level, message: logged.append([level, message]))
instance = linker.instantiate(store, component)
exports = component.get_export_index(EDGE.format("policy"))


def call(name, *arguments):
    function = instance.get_func(store, component.get_export_index(name, exports))
    return function(store, *arguments)


def bytes_of(facts):
    return [None if fact is None else fact.encode("latin-1") for fact in facts]


said = vars(call("describe"))
said["wants"] = [[want.tag, want.payload] for want in said["wants"]]
answers = [call("resolve", bytes_of(facts)) for facts in json.loads(cases)]
print(json.dumps({"said": said, "logged": logged, "answers": answers}))
