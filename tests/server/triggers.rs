//! Triggers over real sockets: who is called, with what, in which order, and what does not hold up
//! whom. What recorded conversations cover as well stands in `conformance`.
//!
//! Silence is shown by a marker: [`fired`] ends with an event whose calls leave behind all others.

mod early;

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

#[test]
fn registrations_that_are_wrong_are_refused_and_others_say_nothing() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    let shape = "Failed to deserialize stream trigger";
    let of_stream = [
        (json!([]), shape),
        (json!(["chat", null, null, null]), shape),
        (json!("chat"), shape),
        (json!({"stream_name": 1}), shape),
        (json!({"stream_name": "chat", "group_id": 1}), shape),
        (json!({"stream_name": "chat", "item_id": {}}), shape),
        (
            json!({"stream_name": "chat", "condition_function_id": true}),
            shape,
        ),
        (json!(null), shape),
        (json!({}), "stream trigger needs `stream_name`"),
        (
            json!({"stream_name": null}),
            "stream trigger needs `stream_name`",
        ),
    ];
    for (config, message) in of_stream {
        sdk.trigger("t", "stream", "f", config);
        let refused = ["t", "trigger_registration_failed", message];
        assert_eq!(texts(&sdk.refusal()), refused);
    }
    for trigger_type in ["stream:join", "stream:leave"] {
        for field in ["stream_name", "condition_function_id"] {
            sdk.trigger("t", trigger_type, "f", json!({field: 1}));
            let message =
                format!("Failed to deserialize {trigger_type} trigger: `{field}` must be a string");
            assert_eq!(
                texts(&sdk.refusal()),
                ["t", "trigger_registration_failed", &message]
            );
        }
        for config in [json!(null), json!([1]), json!("x"), json!({"other": 1})] {
            sdk.trigger("t", trigger_type, "f", config);
        }
    }
    // Without `config` it is as with null: in order for a join, wrong for a stream.
    for (id, trigger_type) in [("a", "stream:join"), ("b", "stream")] {
        sdk.send(
            &json!({"type": "registertrigger", "id": id, "trigger_type": trigger_type,
            "function_id": "f"}),
        );
    }
    assert_eq!(texts(&sdk.refusal())[0], "b");
    sdk.trigger("c", "stream", "f", json!({"stream_name": "chat"}));
    // The worker of all these is served as before, and was told of nothing else.
    sdk.hears_nothing_more();
}

fn texts(refusal: &(String, String, String)) -> [&str; 3] {
    [&refusal.0, &refusal.1, &refusal.2]
}

#[test]
fn the_newest_registration_of_an_id_has_it() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        let watching = |stream: &str| json!({"stream_name": stream});
        sdk.trigger("t", "stream", "f", watching("chat"));
        sdk.trigger("t", "stream", "f", watching("chat"));
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(functions(&mut sdk, ROOM), ["f"], "once");
        sdk.trigger("t", "stream", "g", watching("other"));
        sdk.set(ROOM, "a", json!(2));
        assert!(functions(&mut sdk, ROOM).is_empty(), "only the new stream");
        sdk.set(("other", "room"), "a", json!(2));
        assert_eq!(functions(&mut sdk, ("other", "room")), ["g"]);

        // Of another type: one id is one trigger.
        sdk.trigger("t", "stream:join", "f", json!({}));
        sdk.set(("other", "room"), "a", json!(3));
        assert!(functions(&mut sdk, ("other", "room")).is_empty());
        sdk.trigger("t", "stream:join", "g", json!({}));
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call();
        assert_eq!(asked["function_id"], "g", "the new function alone");
        sdk.answer(&asked, json!({}));
        client.sync();

        // Another worker's from here on: the end of the older takes nothing away.
        let mut newer = with_functions(&server);
        newer.trigger("t", "stream", "f", watching("chat"));
        drop(sdk);
        newer.call("stream::list_all", json!({}));
        newer.set(ROOM, "a", json!(4));
        assert_eq!(functions(&mut newer, ROOM), ["f"]);
    });
}

#[test]
fn an_id_is_enough_to_unregister_and_unknown_ones_do_nothing() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    for more in [
        json!({}),
        json!({"trigger_type": null}),
        json!({"trigger_type": "log"}),
    ] {
        sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
        let mut message = json!({"type": "unregistertrigger", "id": "t"});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        sdk.send(&message);
        sdk.send(&json!({"type": "unregistertrigger", "id": "unknown"}));
        sdk.set(ROOM, "a", json!(1));
        assert!(functions(&mut sdk, ROOM).is_empty(), "{message}");
    }
}

#[test]
fn a_late_word_of_an_older_socket_does_not_end_what_a_newer_one_has_taken_over() {
    let server = TestServer::start(ONE_WORKER);
    let mut older = with_functions(&server);
    let mut newer = with_functions(&server);
    let watching = json!({"stream_name": "chat"});
    older.trigger("t", "stream", "f", watching.clone());
    newer.trigger("t", "stream", "f", watching.clone());
    older.send(&json!({"type": "unregistertrigger", "id": "t"}));
    older.settle();
    newer.set(ROOM, "a", json!(1));
    assert_eq!(functions(&mut newer, ROOM), ["f"]);
    // Whoever has never had it may end it, and the older one what it has taken back.
    let mut third = SdkWorker::connect(&server);
    third.send(&json!({"type": "unregistertrigger", "id": "t"}));
    third.settle();
    newer.set(ROOM, "a", json!(2));
    assert!(functions(&mut newer, ROOM).is_empty());
    newer.trigger("t", "stream", "f", watching.clone());
    older.trigger("t", "stream", "f", watching);
    older.send(&json!({"type": "unregistertrigger", "id": "t"}));
    older.settle();
    newer.set(ROOM, "a", json!(3));
    assert!(functions(&mut newer, ROOM).is_empty());
}

#[test]
fn a_trigger_goes_with_who_registered_it_and_not_with_its_function() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        let mut owner = SdkWorker::connect(&server);
        let mut callee = SdkWorker::connect(&server);
        owner.trigger("o", "stream", "f", json!({"stream_name": "chat"}));
        owner.trigger("j", "stream:join", "f", json!({}));
        sdk.trigger("t", "stream", "late", json!({"stream_name": "chat"}));
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(functions(&mut sdk, ROOM), ["f"], "`late` is not there yet");
        callee.register("late");
        sdk.set(ROOM, "a", json!(2));
        assert_eq!(callee.next_call()["data"]["event"]["data"], 2);
        assert_eq!(functions(&mut sdk, ROOM), ["f"]);
        // The end of the callee leaves the trigger; the end of the owner takes all that it owns.
        drop(callee);
        wait_until("the function is gone", || {
            let list = sdk.call("engine::functions::list", json!({}));
            !list["result"].to_string().contains("\"late\"")
        });
        sdk.set(ROOM, "a", json!(3));
        assert_eq!(functions(&mut sdk, ROOM), ["f"]);
        let mut callee = SdkWorker::connect(&server);
        callee.register("late");
        sdk.set(ROOM, "a", json!(4));
        assert_eq!(callee.next_call()["data"]["event"]["data"], 4);
        let _ = functions(&mut sdk, ROOM);
        drop(owner);
        wait_until("the triggers are gone", || {
            sdk.set(ROOM, "a", json!(5));
            functions(&mut sdk, ROOM).is_empty()
        });
        Subscriber::connect(&server).join("s", ROOM); // nobody is asked
    });
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

#[test]
fn a_leave_is_not_lost_when_more_conditions_wait_than_calls_may_be_in_flight() {
    const LEAVES: usize = 100;
    let server = TestServer::with(ONE_WORKER, |config| config.limits.calls_in_flight = 4);
    let mut sdk = with_functions(&server);
    sdk.register("may");
    let config = json!({"condition_function_id": "may"});
    sdk.trigger("l", "stream:leave", "f", config);
    let mut client = Subscriber::connect(&server);
    for n in 0..LEAVES {
        client.leave(&format!("s{n}"));
    }
    for left in 0..LEAVES {
        let asked = sdk.next_call_of("may");
        sdk.answer(&asked, json!({"result": true}));
        let call = sdk.next_call_of("f");
        assert_eq!(call["data"]["subscription_id"], *format!("s{left}"));
    }
}

#[test]
fn joins_and_leaves_are_told_of_the_streams_that_are_watched() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        sdk.trigger("e", "stream:leave", "g", json!({"stream_name": ""}));
        let mut client = Subscriber::connect(&server);
        client.join("other", ("other", "room")); // nobody is asked
        client.start_join("s", ROOM, Some("i"));
        let asked = sdk.next_call();
        assert_eq!(asked["function_id"], "f");
        assert_eq!(
            asked["data"],
            json!({"context": null, "group_id": "room", "id": "i", "stream_name": "chat",
                "subscription_id": "s"})
        );
        sdk.answer(&asked, json!({"result": null}));
        client.sync();
        client.leave("unknown");
        let told = sdk.next_call();
        assert_eq!(told["function_id"], "g");
        assert_eq!(
            told["data"],
            json!({"context": null, "group_id": "any", "id": null, "stream_name": "any",
                "subscription_id": "unknown"}),
            "the message's names"
        );
        // A socket without subscriptions, and one that goes.
        Subscriber::connect(&server).close();
        sdk.send(&json!({"type": "unregistertrigger", "id": "e"}));
        sdk.trigger("l", "stream:leave", "h", json!({"stream_name": "chat"}));
        drop(client);
        let told = sdk.next_call();
        assert_eq!(told["function_id"], "h");
        assert_eq!(told["data"]["subscription_id"], "s", "and not `other`");
    });
}

#[test]
fn a_join_is_decided_when_all_functions_have_answered() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({}));
        let mut client = Subscriber::connect(&server);
        let refuses = json!({"unauthorized": true, "other": 1});
        let admits = [
            json!({"unauthorized": false}),
            json!({"unauthorized": "true"}),
            json!({"unauthorized": 1}),
            json!({"any": 1}),
            json!(true),
            json!([true]),
            json!([{"unauthorized": true}]),
            json!("no"),
            json!(null),
        ];
        for answer in admits {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call();
            sdk.answer(&asked, json!({"result": answer}));
            client.sync();
        }
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call();
        sdk.answer(&asked, json!({"error": {"code": "x", "message": "boom"}}));
        client.sync(); // many only log
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call();
        sdk.answer(&asked, json!({"result": refuses}));
        let told = client.next();
        assert_eq!((&*told.kind, &*told.group), ("unauthorized", "room"));

        // All are asked at once, also after one has refused.
        sdk.trigger("k", "stream:join", "g", json!({}));
        client.start_join("t", ROOM, None);
        let (first, second) = (sdk.next_call_of("f"), sdk.next_call_of("g"));
        sdk.answer(&second, json!({"result": {"unauthorized": true}}));
        sdk.answer(&first, json!({"result": {}}));
        assert_eq!(client.next().kind, "unauthorized");
        // Silence refuses when its time is over; other ids, and pings, do not wait for it.
        sdk.send(&json!({"type": "unregistertrigger", "id": "k"}));
        let began = Instant::now();
        client.start_join("u", ROOM, None);
        let silent = sdk.next_call_of("f");
        client.start_join("v", ROOM, Some("i"));
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({}));
        assert_eq!(client.sync().id.as_deref(), Some("i"));
        assert_eq!(client.next().kind, "unauthorized");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "told when the next thing happened to come"
        );
        sdk.answer(&silent, json!({}));
        // A function that is missing, or goes while it is asked, admits.
        let mut other = SdkWorker::connect(&server);
        other.register("f");
        client.start_join("w", ROOM, None);
        other.next_call();
        drop(other);
        client.sync();
        // The one before it serves again, and then nobody.
        client.start_join("x", ROOM, None);
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
        assert_eq!(client.next().kind, "unauthorized");
        sdk.send(&json!({"type": "unregisterfunction", "id": "f"}));
        sdk.settle();
        client.start_join("y", ROOM, None);
        client.sync();
    });
}

#[test]
fn only_false_of_a_condition_takes_a_join_function_s_say_away() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.register("ask");
        let config = json!({"condition_function_id": "ask"});
        sdk.trigger("j", "stream:join", "f", config);
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call_of("ask");
        assert_eq!(asked["data"]["subscription_id"], "s");
        sdk.answer(&asked, json!({"result": false}));
        client.sync(); // the function that refuses everything had no say
        let doubts = [
            Some(json!({"result": true})),
            Some(json!({"error": {"code": "x", "message": "boom"}})),
            None, // its time is over
        ];
        for doubt in doubts {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call_of("ask");
            if let Some(fields) = &doubt {
                sdk.answer(&asked, fields.clone());
            }
            let handled = sdk.next_call_of("f");
            assert_eq!(handled["data"], asked["data"]);
            sdk.answer(&handled, json!({"result": {"unauthorized": true}}));
            assert_eq!(client.next().kind, "unauthorized", "{doubt:?}");
        }
        sdk.send(&json!({"type": "unregisterfunction", "id": "ask"}));
        sdk.settle();
        client.start_join("s", ROOM, None);
        let handled = sdk.next_call_of("f");
        sdk.answer(&handled, json!({"result": {"unauthorized": true}}));
        assert_eq!(client.next().kind, "unauthorized", "missing");
    });
}

#[test]
fn a_leave_function_is_called_unless_its_condition_says_no_or_fails() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.register("ask");
        let config = json!({"condition_function_id": "ask"});
        sdk.trigger("l", "stream:leave", "f", config);
        let mut client = Subscriber::connect(&server);
        let rows = [
            ("yes", Some(json!({"result": 0}))),
            ("no", Some(json!({"result": false}))),
            (
                "error",
                Some(json!({"error": {"code": "x", "message": "boom"}})),
            ),
            ("silent", None),
            ("nothing", Some(json!({}))),
        ];
        for (id, fields) in rows {
            client.leave(id);
            let asked = sdk.next_call_of("ask");
            assert_eq!(asked["data"]["subscription_id"], id);
            if let Some(fields) = fields {
                sdk.answer(&asked, fields);
            }
        }
        for id in ["yes", "nothing"] {
            assert_eq!(sdk.next_call_of("f")["data"]["subscription_id"], id);
        }
    });
}

#[test]
fn leaves_of_a_socket_are_told_in_the_order_of_joining_and_only_of_what_it_held() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("l", "stream:leave", "g", json!({}));
        let mut client = Subscriber::connect(&server);
        for n in 0..30 {
            let group = format!("room@{}", n % 3);
            client.join(&format!("s{n}"), ("chat", &group));
        }
        client.join("s3", ("chat", "elsewhere")); // replaced: no leave, and joined last
        sdk.trigger("j", "stream:join", "f", json!({}));
        client.start_join("refused", ROOM, None);
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
        client.next();
        client.reset();
        let mut expected: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
        expected.retain(|id| id != "s3");
        expected.push("s3".to_owned());
        for id in &expected {
            let told = sdk.next_call_of("g");
            assert_eq!(told["data"]["subscription_id"], **id);
        }
        // Nothing else: the leave of this one is the next.
        client = Subscriber::connect(&server);
        client.leave("marker");
        assert_eq!(sdk.next_call_of("g")["data"]["subscription_id"], "marker");
    });
}

#[test]
fn the_join_that_a_path_implies_is_put_to_functions_as_any_other() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        sdk.trigger("l", "stream:leave", "g", json!({}));
        let mut client = Subscriber::at(&server, "/stream/chat/room/i%201");
        let asked = sdk.next_call_of("f");
        let id = asked["data"]["subscription_id"].clone();
        assert_eq!(
            asked["data"],
            json!({"context": null, "group_id": "room", "id": "i 1", "stream_name": "chat",
                "subscription_id": id})
        );
        sdk.answer(&asked, json!({}));
        assert_eq!(client.sync().id.as_deref(), Some("i 1"));
        drop(client);
        assert_eq!(sdk.next_call_of("g")["data"]["subscription_id"], id);
        let mut refused = Subscriber::at(&server, "/stream/chat/room");
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
        assert_eq!(refused.next().kind, "unauthorized");
        refused.join("s", ("other", "room")); // the socket stays open
    });
}

#[test]
fn a_join_whose_function_fails_is_admitted_or_refused_as_the_settings_say() {
    for (failure, kind) in [
        (AuthFailure::Allow, "sync"),
        (AuthFailure::Refuse, "unauthorized"),
    ] {
        let server = TestServer::with(THREE_WORKERS, |config| config.join_failure = failure);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        let mut client = Subscriber::connect(&server);
        let mut joined = |sdk: &mut SdkWorker, answer: Value| {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call_of("f");
            sdk.answer(&asked, answer);
            client.next().kind
        };
        let error = json!({"error": {"code": "x", "message": "boom"}});
        assert_eq!(joined(&mut sdk, error), kind);
        assert_eq!(joined(&mut sdk, json!({"result": null})), "sync");
        // A second function that is not there.
        sdk.trigger("k", "stream:join", "nobody", json!({}));
        sdk.settle();
        assert_eq!(joined(&mut sdk, json!({"result": null})), kind);
        sdk.send(&json!({"type": "unregistertrigger", "id": "k"}));
        // Its worker goes while it is asked; without any function nobody is refused.
        sdk.settle();
        client.start_join("s", ROOM, None);
        sdk.next_call_of("f");
        drop(sdk);
        assert_eq!(client.next().kind, kind);
        client.join("s", ROOM);
    }
}

#[test]
fn a_required_join_needs_a_function_that_was_asked_and_has_answered() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.join_required = vec!["chat".to_owned()];
            config.call_timeout_ms = 500;
        });
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        assert_eq!(client.next().kind, "unauthorized", "nobody has come yet");
        client.join("s", ("other", "g"));

        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        for (answer, kind) in [
            (json!({"result": null}), "sync"),
            (json!({"result": {"unauthorized": true}}), "unauthorized"),
            (
                json!({"error": {"code": "x", "message": "boom"}}),
                "unauthorized",
            ),
        ] {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call_of("f");
            sdk.answer(&asked, answer.clone());
            assert_eq!(client.next().kind, kind, "{answer}");
        }
        // A condition that keeps the only function from being asked lets nobody in.
        sdk.register("ask");
        let config = json!({"stream_name": "chat", "condition_function_id": "ask"});
        sdk.trigger("j", "stream:join", "f", config);
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call_of("ask");
        sdk.answer(&asked, json!({"result": false}));
        assert_eq!(client.next().kind, "unauthorized");
        // A second function that is not there is a gate that is away.
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        sdk.trigger("k", "stream:join", "nobody", json!({}));
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": null}));
        assert_eq!(client.next().kind, "unauthorized");
        sdk.send(&json!({"type": "unregistertrigger", "id": "k"}));
        // Its worker goes while it is asked, and stays away.
        sdk.settle();
        client.start_join("s", ROOM, None);
        sdk.next_call_of("f");
        drop(sdk);
        assert_eq!(client.next().kind, "unauthorized");
        client.start_join("s", ROOM, None);
        assert_eq!(client.next().kind, "unauthorized");
    });
}

#[test]
fn metadata_goes_with_each_call_of_a_trigger_and_with_direct_calls_and_not_to_conditions() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.register("is-wanted");
        let metadata = r#"{"tenant" : "acme","n":1.10}"#;
        let types = [("j", "stream:join"), ("l", "stream:leave"), ("t", "stream")];
        for (id, trigger_type) in types {
            sdk.send_text(&format!(
                r#"{{"type":"registertrigger","id":"{id}","trigger_type":"{trigger_type}","function_id":"f","config":{{"stream_name":"chat","condition_function_id":"is-wanted"}},"metadata":{metadata}}}"#
            ));
        }
        sdk.settle();
        let heard = |sdk: &mut SdkWorker| {
            let asked = sdk.next_call();
            assert_eq!(asked["function_id"], "is-wanted");
            assert!(asked.get("metadata").is_none(), "{asked}");
            sdk.answer(&asked, json!({"result": true}));
            let call = sdk.next_call_of("f");
            sdk.answer(&call, json!({"result": null}));
            call["metadata"].clone()
        };
        let wanted = json!({"tenant": "acme", "n": 1.10});
        let mut subscriber = Subscriber::connect(&server);
        subscriber.start_join("s", ROOM, None);
        assert_eq!(heard(&mut sdk), wanted);
        assert_eq!(subscriber.next().kind, "sync");
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(heard(&mut sdk), wanted);
        subscriber.close();
        assert_eq!(heard(&mut sdk), wanted);

        let mut caller = SdkWorker::connect(&server);
        for (metadata, wanted) in [("[1,{}]", Some(json!([1, {}]))), ("null", None)] {
            caller.send_text(&format!(
                r#"{{"type":"invokefunction","function_id":"g","data":1,"metadata":{metadata}}}"#
            ));
            assert_eq!(sdk.next_call_of("g").get("metadata").cloned(), wanted);
        }
        caller.send_text(
            r#"{"type":"invokefunction","invocation_id":"00000001-0000-4000-8000-000000000000","function_id":"g","data":1,"metadata":"\ud83d"}"#,
        );
        let refused = caller.result("00000001-0000-4000-8000-000000000000");
        assert_eq!(refused["error"]["code"], "invocation_error", "{refused}");
    });
}

#[test]
fn metadata_that_every_small_event_would_send_on_has_a_bound() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    let mut register = |bytes: usize| {
        sdk.send(
            &json!({"type": "registertrigger", "id": "t", "trigger_type": "stream",
            "function_id": "f", "config": {"stream_name": "chat"}, "metadata": "x".repeat(bytes)}),
        );
    };
    register(64 * 1024 - 2);
    register(64 * 1024 - 1);
    let (id, code, message) = sdk.refusal();
    assert_eq!((&*id, &*code), ("t", "trigger_registration_failed"));
    assert!(message.contains("65537 > 65536 bytes"), "{message}");
}
