"""A worker program on the Python SDK, which does what it is told: python worker.py ws://HOST:PORT

Each line of the input is one order as JSON, each line of the output that begins with `{` one thing
that it saw. `../sdks.rs` says which.
"""

import json
import sys
import threading

from iii import IStream, TriggerAction, register_worker

try:
    from iii.helpers import create_stream
    from iii_helpers.observability import Logger
    from iii_helpers.stream import StreamDeleteResult, StreamSetResult
except ImportError:  # 0.11.6 has these elsewhere
    from iii import Logger
    from iii.stream import StreamDeleteResult, StreamSetResult

    def create_stream(iii, name, store):
        iii.create_stream(name, store)


output = threading.Lock()


def tell(line):
    with output:
        print(json.dumps(line), flush=True)


class Store(IStream):
    """Values of one stream, kept by this program."""

    def __init__(self):
        self.items = {}

    async def get(self, input):
        return self.items.get((input.group_id, input.item_id))

    async def set(self, input):
        tell({"called": f"stream::set({input.stream_name})", "data": input.model_dump()})
        old_value = self.items.get((input.group_id, input.item_id))
        self.items[input.group_id, input.item_id] = input.data
        return StreamSetResult(old_value=old_value, new_value=input.data)

    async def delete(self, input):
        return StreamDeleteResult(old_value=self.items.pop((input.group_id, input.item_id), None))

    async def list(self, input):
        return [value for (group, _), value in self.items.items() if group == input.group_id]

    async def list_groups(self, input):
        return list(dict.fromkeys(group for group, _ in self.items))

    async def update(self, input):
        raise NotImplementedError("is never registered")


class Orders:
    def __init__(self, iii):
        self.iii = iii
        self.functions = {}
        self.triggers = {}

    def function(self, id, answer=None, fails=None):
        async def handler(data):
            tell({"called": id, "data": data})
            if fails:
                raise RuntimeError(fails)
            return answer

        self.functions[id] = self.iii.register_function(id, handler)

    def unregister_function(self, id):
        self.functions[id].unregister()

    def trigger(self, name, type, function_id, config):
        trigger = {"type": type, "function_id": function_id, "config": config}
        self.triggers[name] = self.iii.register_trigger(trigger)

    def unregister_trigger(self, name):
        self.triggers[name].unregister()

    def store(self, stream):
        create_stream(self.iii, stream, Store())

    def call(self, function_id, payload):
        try:
            result = self.iii.trigger({"function_id": function_id, "payload": payload})
            tell({"answered": True, "result": result})
        except Exception as error:
            code = getattr(error, "code", type(error).__name__)
            message = getattr(error, "message", str(error))
            tell({"answered": True, "error": {"code": code, "message": message}})

    def tell(self, function_id, payload):
        action = TriggerAction.Void()
        self.iii.trigger({"function_id": function_id, "payload": payload, "action": action})

    def log(self, level, message, data):
        getattr(Logger(), level)(message, data)


def main():
    iii = register_worker(sys.argv[1])
    orders = Orders(iii)
    for line in sys.stdin:
        order = json.loads(line)
        getattr(orders, order.pop("order"))(**order)
    iii.shutdown()


main()
