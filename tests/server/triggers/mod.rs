//! Triggers over real sockets: who is called for an event, with what, in which order, and what does not hold up
//! whom. What recorded conversations cover as well stands in `conformance`.
//!
//! Silence is shown by a marker: [`fired`] ends with an event whose calls leave behind all others.

mod early;
mod metadata;
mod registered;
mod subscriptions;

use std::time::{Duration, Instant};

use iii_stream::config::AuthFailure;
use iii_stream::shard::Decides;
use serde_json::{Value, json};

use crate::support::clients::{item_input, set_input};
use crate::support::{
    ONE_WORKER, SdkWorker, Shape, SharedCues, Subscriber, THREE_WORKERS, TestServer, on_each_shape,
    raw, wait_until,
};

const ROOM: (&str, &str) = ("chat", "room");

/// A server, and a worker with functions `f`, `g`, `h`, and one that ends what [`fired`] collects.
fn with_functions(server: &TestServer) -> SdkWorker {
    let mut sdk = SdkWorker::connect(server);
    for function in ["f", "g", "h", "end"] {
        sdk.register(function);
    }
    sdk
}

/// What was called for events of that group since this was last asked, as function and payload.
fn fired(sdk: &mut SdkWorker, group: (&str, &str)) -> Vec<(String, Value)> {
    // The newest of the group's triggers, so that its call is the last of the marker.
    sdk.trigger(
        "end",
        "stream",
        "end",
        json!({"stream_name": group.0, "group_id": group.1}),
    );
    sdk.send_event(group, None, "end", json!(null));
    let mut calls = Vec::new();
    loop {
        let call = sdk.next_call();
        let is_marker = call["data"]["event"]["event"]["type"] == "end";
        match call["function_id"].as_str().unwrap() {
            "end" if is_marker => {
                sdk.send(&json!({"type": "unregistertrigger", "id": "end"}));
                return calls;
            }
            function if !is_marker => calls.push((function.to_owned(), call["data"].clone())),
            _ => {}
        }
    }
}

/// The functions that were called since this was last asked.
fn functions(sdk: &mut SdkWorker, group: (&str, &str)) -> Vec<String> {
    let fired = fired(sdk, group).into_iter();
    fired.map(|(function, _)| function).collect()
}

fn quick_calls(shape: Shape) -> TestServer {
    TestServer::with(shape, |config| config.call_timeout_ms = 500)
}

fn texts(refusal: &(String, String, String)) -> [&str; 3] {
    [&refusal.0, &refusal.1, &refusal.2]
}

#[test]
fn a_trigger_fires_by_its_stream_group_and_item() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        let all: [(&str, Value); 7] = [
            ("any", json!({"stream_name": "chat"})),
            (
                "nulls",
                json!({"stream_name": "chat", "group_id": null, "item_id": null,
                "condition_function_id": null, "other": 1}),
            ),
            (
                "empties",
                json!({"stream_name": "chat", "group_id": "", "item_id": "",
                "condition_function_id": ""}),
            ),
            ("room", json!({"stream_name": "chat", "group_id": "room"})),
            ("item", json!({"stream_name": "chat", "item_id": "a"})),
            (
                "both",
                json!({"stream_name": "chat", "group_id": "room", "item_id": "a"}),
            ),
            ("nameless", json!({"stream_name": ""})),
        ];
        for (function, config) in all {
            sdk.register(function);
            sdk.trigger(function, "stream", function, config);
        }
        let rows: [(&str, &str, Option<&str>, &[&str]); 6] = [
            (
                "chat",
                "room",
                Some("a"),
                &["any", "nulls", "empties", "room", "item", "both"],
            ),
            (
                "chat",
                "hall",
                Some("a"),
                &["any", "nulls", "empties", "item"],
            ),
            (
                "chat",
                "room",
                Some("b"),
                &["any", "nulls", "empties", "room"],
            ),
            ("chat", "room", None, &["any", "nulls", "empties", "room"]),
            ("chats", "room", Some("a"), &[]),
            ("", "room", Some("a"), &["nameless"]),
        ];
        for (stream, group, id, called) in rows {
            sdk.send_event((stream, group), id, "x", json!(null));
            let functions = functions(&mut sdk, (stream, group));
            assert_eq!(functions, called, "{stream} {group} {id:?}");
        }
    });
}

#[test]
fn changes_and_events_fire_and_nothing_else_does() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
        let mut client = Subscriber::connect(&server);
        client.join("s", ROOM);
        sdk.set(ROOM, "a", json!({"z": 1, "a": [2]}));
        sdk.set(ROOM, "a", json!({"z": 1, "a": [2]})); // nothing changed
        let mut update = item_input(ROOM, "a");
        update["ops"] = json!([{"type": "set", "path": "z", "value": 9}]);
        sdk.call("stream::update", update.clone());
        update["item_id"] = json!("b");
        sdk.call("stream::update", update);
        sdk.delete(ROOM, "a");
        sdk.send_event(ROOM, None, "x", json!({"q": 1}));
        sdk.send_event(ROOM, Some("i"), "x", json!(null));
        // None of these is an event.
        sdk.delete(ROOM, "a");
        sdk.call("stream::set", json!({"stream_name": "chat"}));
        sdk.get(ROOM, "b");
        sdk.list(ROOM);
        let mut other = Subscriber::connect(&server);
        other.join("s", ROOM);
        other.leave("s");
        client.leave("s");
        let calls = fired(&mut sdk, ROOM);
        let kinds: Vec<_> = calls
            .iter()
            .map(|(_, data)| data["event"]["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "create", "update", "update", "create", "delete", "event", "event"
            ]
        );
        // The very object that subscribers got, time included.
        let payload = &calls[0].1;
        let timestamp = payload["timestamp"].as_u64().unwrap();
        assert_eq!(
            *payload,
            json!({"type": "stream", "timestamp": timestamp, "streamName": "chat",
                "groupId": "room", "id": "a",
                "event": {"type": "create", "data": {"a": [2], "z": 1}}})
        );
        assert_eq!(calls[4].1["event"]["data"], json!({"z": 9, "a": [2]}));
        let sent = &calls[5].1;
        assert_eq!(sent["id"], Value::Null);
        assert_eq!(
            sent["event"],
            json!({"type": "event", "event": {"type": "x", "data": {"q": 1}}})
        );
    });
}

#[test]
fn frames_and_triggers_bear_the_same_time_and_calls_nothing_but_their_payload() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
    let mut client = Subscriber::connect(&server);
    client.join("s", ROOM);
    sdk.void("stream::set", set_input(ROOM, "a", json!(1)));
    let call = sdk.next_call();
    let mut keys: Vec<&String> = call.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["data", "function_id", "invocation_id", "type"]);
    assert!(call["data"].get("_caller_worker_id").is_none());
    assert_eq!(call["data"]["timestamp"], client.next().timestamp);
}

#[test]
fn only_false_and_failures_of_a_condition_hold_the_handler_back() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.register("ask");
        sdk.trigger(
            "t",
            "stream",
            "f",
            json!({"stream_name": "chat", "condition_function_id": "ask"}),
        );
        let goes_on = [
            json!(true),
            json!(null),
            json!(0),
            json!(""),
            json!("false"),
            json!([]),
            json!({}),
        ];
        for answer in goes_on {
            sdk.set(ROOM, "a", json!(1));
            let asked = sdk.next_call();
            assert_eq!(asked["function_id"], "ask");
            sdk.answer(&asked, json!({"result": answer}));
            let handled = sdk.next_call();
            assert_eq!(handled["function_id"], "f", "{answer}");
            assert_eq!(handled["data"], asked["data"], "the same payload");
        }
        sdk.set(ROOM, "a", json!(1));
        let asked = sdk.next_call_of("ask");
        sdk.answer(&asked, json!({})); // no result
        sdk.next_call_of("f");
        let held_back = [
            json!({"result": false}),
            json!({"error": {"code": "x", "message": "boom"}}),
        ];
        for fields in held_back {
            sdk.set(ROOM, "a", json!(1));
            let asked = sdk.next_call();
            sdk.answer(&asked, fields);
            sdk.settle();
        }
        // None: as an error when its time is over. Then the next event is asked about as ever.
        let began = Instant::now();
        sdk.set(ROOM, "a", json!("unanswered"));
        let late = sdk.next_call_of("ask");
        sdk.trigger("end", "stream", "end", json!({"stream_name": "chat"}));
        wait_until("its time is over", || {
            began.elapsed() > Duration::from_millis(700)
        });
        sdk.answer(&late, json!({"result": true})); // nobody waits any more
        sdk.send(&json!({"type": "unregisterfunction", "id": "ask"}));
        sdk.set(ROOM, "a", json!("unasked"));
        let call = sdk.next_call();
        assert_eq!(call["function_id"], "end", "the handler was not called");
        assert_eq!(call["data"]["event"]["data"], "unasked");
    });
}

#[test]
fn a_condition_whose_worker_goes_holds_its_handler_back() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    let mut other = SdkWorker::connect(&server);
    other.register("ask");
    let config = json!({"stream_name": "chat", "condition_function_id": "ask"});
    sdk.trigger("t", "stream", "f", config);
    sdk.set(ROOM, "a", json!(1));
    other.next_call();
    drop(other);
    wait_until("the function is gone", || {
        let list = sdk.call("engine::functions::list", json!({}));
        !list["result"].to_string().contains("\"ask\"")
    });
    assert!(functions(&mut sdk, ROOM).is_empty());
}

#[test]
fn triggers_of_an_event_are_called_at_once_in_order_of_registration() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        let mut deaf = SdkWorker::connect(&server);
        deaf.register("deaf");
        deaf.register("ask");
        let watching = json!({"stream_name": "chat"});
        sdk.trigger("1", "stream", "deaf", watching.clone());
        sdk.trigger(
            "2",
            "stream",
            "f",
            json!({"stream_name": "chat", "condition_function_id": "ask"}),
        );
        sdk.trigger("3", "stream", "h", json!({"stream_name": "chat"}));
        sdk.trigger("4", "stream", "missing", watching.clone());
        sdk.trigger(
            "5",
            "stream",
            "f",
            json!({"stream_name": "chat", "group_id": "room"}),
        );
        sdk.trigger("6", "stream", "g", watching.clone());
        // `deaf` and the condition never answer: everybody else hears at once.
        for n in 0..20 {
            sdk.set(ROOM, "a", json!(n));
            let heard = fired(&mut sdk, ROOM);
            let called: Vec<_> = heard.iter().map(|(function, _)| &**function).collect();
            assert_eq!(called, ["h", "f", "g"]);
            assert!(
                heard
                    .iter()
                    .all(|(_, data)| data["event"]["data"] == json!(n))
            );
        }
        // An error of a handler is nobody's business.
        sdk.set(ROOM, "a", json!("x"));
        let call = sdk.next_call_of("h");
        sdk.answer(&call, json!({"error": {"code": "x", "message": "boom"}}));
        assert_eq!(functions(&mut sdk, ROOM), ["f", "g"]);
    });
}

#[test]
fn one_trigger_s_calls_leave_in_the_order_of_the_group_s_events() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
        let groups = ["one@0", "two@1", "three@2"];
        const EACH: u64 = 500;
        for n in 0..EACH {
            for group in groups {
                sdk.void("stream::set", set_input(("chat", group), "a", json!(n)));
            }
        }
        let mut next = [0; 3];
        let mut times = [0; 3];
        for _ in 0..EACH * 3 {
            let data = sdk.next_call_of("f")["data"].take();
            let group = data["groupId"].as_str().unwrap();
            let at = groups.iter().position(|known| *known == group).unwrap();
            assert_eq!(data["event"]["data"], next[at]);
            next[at] += 1;
            let time = data["timestamp"].as_u64().unwrap();
            assert!(time > times[at]);
            times[at] = time;
        }
    });
}

#[test]
fn no_trigger_is_called_before_the_store_has_accepted_the_write() {
    for decides in [Decides::Owner, Decides::Shared] {
        let cues = SharedCues::default();
        let server = TestServer::on_double(ONE_WORKER, decides, &cues);
        let mut sdk = with_functions(&server);
        sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
        let delay = Duration::from_millis(150);
        cues.delay(delay);
        let began = Instant::now();
        sdk.void("stream::set", set_input(ROOM, "a", json!(1)));
        sdk.next_call_of("f");
        assert!(began.elapsed() >= delay, "{decides:?}");
        cues.delay(Duration::ZERO);
        cues.refuse_after(0);
        let (code, _) = sdk.error_of("stream::set", set_input(ROOM, "a", json!(2)));
        assert_eq!(code, "STREAM_SET_ERROR");
        sdk.set(ROOM, "a", json!(3));
        let call = sdk.next_call_of("f");
        assert_eq!(call["data"]["event"]["data"], 3, "the refused one is none");
    }
}

#[test]
fn a_trigger_may_fire_itself_and_functions_of_our_own() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
    sdk.set(ROOM, "a", json!(0));
    for n in 1..50 {
        let call = sdk.next_call_of("f");
        assert_eq!(call["data"]["event"]["data"], json!(n - 1));
        sdk.set(ROOM, "a", json!(n));
        sdk.answer(&call, json!({}));
    }
}

#[test]
fn a_callee_that_reads_nothing_loses_trigger_calls_and_no_leave() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.call_queue_bytes = 64 * 1024;
    });
    let mut sdk = SdkWorker::connect(&server);
    let narrow = raw::connect_narrow(server.worker());
    let mut slow = SdkWorker::on(narrow, server.worker(), "/");
    slow.wait_for_hello();
    slow.register("event");
    slow.register("left");
    slow.trigger("t", "stream", "event", json!({"stream_name": "chat"}));
    slow.trigger("l", "stream:leave", "left", json!({}));
    let dropped = || server.shared().engine.trigger_calls_dropped.get();
    let value = json!("x".repeat(8 * 1024));
    let mut sets = 0;
    while dropped() < 20 {
        sdk.set(ROOM, "a", value.clone());
        sets += 1;
        assert!(sets < 100_000, "nothing is dropped");
    }
    // Leaves that come about now are owed.
    const LEAVES: usize = 3000;
    let mut client = Subscriber::connect(&server);
    for n in 0..LEAVES {
        client.leave(&format!("s{n}"));
    }
    client.join("last", ROOM);
    sdk.set(ROOM, "b", json!("end")); // dropped as well
    let (mut events, mut left) = (0, Vec::new());
    while left.len() < LEAVES {
        let call = slow.next_call();
        match call["function_id"].as_str().unwrap() {
            "event" => events += 1,
            _ => left.push(call["data"]["subscription_id"].as_str().unwrap().to_owned()),
        }
    }
    let ids: Vec<String> = (0..LEAVES).map(|n| format!("s{n}")).collect();
    assert_eq!(left, ids, "each once, in their order");
    assert_eq!(events + dropped(), sets + 1, "what was not dropped came");
}
