# uWebSockets through socketify doing the job of the reference: JSON in, store, fan out, answer.
# python socketify_iii.py SUB_PORT WORKER_PORT     (PyPI socketify, Debian libuv1)
import json
import sys
import time

from socketify import App, CompressOptions, OpCode

SUB, WRK = int(sys.argv[1]), int(sys.argv[2])
app = App()
store = {}
latest = 0


def text(value):
    return json.dumps(value, separators=(",", ":"))


def now():
    # Rises with every event, or clients drop the second of one millisecond.
    global latest
    latest = max(int(time.time() * 1000), latest + 1)
    return latest


def event(stream, group, item, kind, data):
    return text({"type": "stream", "timestamp": now(), "streamName": stream, "groupId": group,
                 "id": item, "event": {"type": kind, "data": data}})


def upgrade(res, req, context):
    res.upgrade(req.get_header("sec-websocket-key"), req.get_header("sec-websocket-protocol"),
                req.get_header("sec-websocket-extensions"), context, None)


def message(ws, raw, _):
    asked = json.loads(raw)
    if asked["type"] == "join":
        data = asked["data"]
        stream, group = data["streamName"], data["groupId"]
        ws.subscribe(stream + "/" + group)
        values = list(store.get((stream, group), {}).values())
        ws.send(event(stream, group, None, "sync", values), OpCode.TEXT)
    elif asked["type"] == "invokefunction":
        data, function = asked["data"], asked["function_id"]
        stream, group = data["stream_name"], data["group_id"]
        values = store.setdefault((stream, group), {})
        if function == "stream::set":
            item, new = data["item_id"], data["data"]
            old = values.get(item)
            values[item] = new
            kind = "create" if old is None else "update"
            app.publish(stream + "/" + group, event(stream, group, item, kind, new), OpCode.TEXT)
            result = {"old_value": old, "new_value": new}
        elif function == "stream::list":
            result = list(values.values())
        else:
            result = values.get(data.get("item_id"))
        ws.send(text({"type": "invocationresult", "invocation_id": asked["invocation_id"],
                      "function_id": function, "result": result}), OpCode.TEXT)


app.ws("/*", {"compression": CompressOptions.DISABLED, "max_payload_length": 1 << 24, "idle_timeout": 0,
              "max_backpressure": 16 << 20, "upgrade": upgrade, "message": message})
app.listen(SUB, lambda _: print("ready", flush=True))
app.listen(WRK, lambda _: None)
app.run()
