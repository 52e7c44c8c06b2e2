//! Streams whose values live in functions of SDK workers, over real sockets: order and times, functions
//! that go, answer late or fail, and our own store beside them.

use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::{
    ONE_WORKER, SdkWorker, Shape, Subscriber, TestServer, on_each_shape, wait_until,
};

const ROOM: (&str, &str) = ("chat", "room");

fn custom(sdk: &mut SdkWorker, ops: &[&str]) {
    for op in ops {
        sdk.register(&format!("stream::{op}(chat)"));
    }
}

fn start(shape: Shape) -> (TestServer, SdkWorker, SdkWorker) {
    let server = TestServer::start(shape);
    let caller = SdkWorker::connect(&server);
    let store = SdkWorker::connect(&server);
    (server, caller, store)
}

fn result(message: &Value) -> Value {
    assert!(message.get("error").is_none(), "{message}");
    message["result"].clone()
}

#[test]
fn answers_out_of_order_take_effect_in_the_order_of_the_calls() {
    on_each_shape(|shape| {
        let (server, mut caller, mut store) = start(shape);
        custom(&mut store, &["set", "delete", "update"]);
        let mut client = Subscriber::connect(&server);
        client.join("s", ROOM); // the list is our own
        caller.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
        caller.register("f");
        const SETS: usize = 20;
        let ids: Vec<String> = (0..SETS)
            .map(|n| caller.start("stream::set", set_input(ROOM, "a", json!(n))))
            .collect();
        let deletion = caller.start("stream::delete", item_input(ROOM, "a"));
        // An event of another kind keeps its place among them.
        let sent = caller.start(
            "stream::send",
            json!({"stream_name": "chat", "group_id": "room", "type": "x", "data": 1}),
        );
        let last = caller.start("stream::set", set_input(ROOM, "a", json!("last")));
        let calls: Vec<Value> = (0..SETS + 2).map(|_| store.next_call()).collect();
        let data = json!({"data": 0, "group_id": "room", "item_id": "a", "stream_name": "chat"});
        assert_eq!(calls[0]["data"], data);
        for (n, call) in calls.iter().enumerate().rev() {
            let answer = match call["function_id"].as_str().unwrap() {
                "stream::delete(chat)" => json!({"old_value": "before"}),
                _ => json!({"old_value": n, "new_value": [call["data"]["data"]], "extra": 1}),
            };
            store.answer(call, json!({"result": answer}));
        }
        for (n, id) in ids.iter().enumerate() {
            let wanted = json!({"old_value": n, "new_value": [n]});
            assert_eq!(
                result(&caller.result(id)),
                wanted,
                "as the function answered"
            );
        }
        let deleted = result(&caller.result(&deletion));
        assert_eq!(deleted, json!({"old_value": "before"}));
        result(&caller.result(&sent));
        result(&caller.result(&last));
        let mut wanted: Vec<(String, Value)> = (0..SETS)
            .map(|n| ("update".to_owned(), json!([n])))
            .collect();
        wanted.push(("delete".to_owned(), json!("before")));
        wanted.push(("event".to_owned(), json!({"type": "x", "data": 1})));
        wanted.push(("update".to_owned(), json!(["last"])));
        let mut time = 0;
        for (kind, data) in wanted {
            let heard = client.next();
            assert_eq!((heard.kind, heard.data), (kind, data));
            assert!(heard.timestamp > time, "times rise");
            time = heard.timestamp;
            let fired = caller.next_call_of("f");
            assert_eq!(fired["data"]["timestamp"], time);
        }
    });
}

#[test]
fn a_sync_is_what_the_function_lists_and_comes_before_what_follows_the_join() {
    on_each_shape(|shape| {
        let (server, mut caller, mut store) = start(shape);
        custom(&mut store, &["set", "list", "get"]);
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        let listed = store.next_call_of("stream::list(chat)");
        let input = json!({"group_id": "room", "stream_name": "chat"});
        assert_eq!(listed["data"], input);
        let set = caller.start("stream::set", set_input(ROOM, "a", json!(1)));
        let asked = store.next_call_of("stream::set(chat)");
        store.answer(&asked, json!({"result": {"new_value": 1}}));
        store.answer(&listed, json!({"result": {"not": "a list"}}));
        let sync = client.sync();
        assert_eq!(sync.data, json!({"not": "a list"}));
        let heard = client.next();
        assert_eq!(heard.told(), ("create", Some("a"), &json!(1)));
        assert!(heard.timestamp > sync.timestamp);
        result(&caller.result(&set));
        // An item's is what `get` answers, null where it answers nothing.
        for (answer, data) in [(json!({"result": 7}), json!(7)), (json!({}), Value::Null)] {
            client.start_join("i", ROOM, Some("b"));
            let asked = store.next_call_of("stream::get(chat)");
            assert_eq!(asked["data"], item_input(ROOM, "b"));
            store.answer(&asked, answer);
            let sync = client.sync();
            assert_eq!((sync.id.as_deref(), sync.data), (Some("b"), data));
        }
    });
}

#[test]
fn a_join_whose_list_fails_stands_without_a_sync() {
    on_each_shape(|shape| {
        let (server, mut caller, mut store) = start(shape);
        custom(&mut store, &["list"]);
        let mut client = Subscriber::connect(&server);
        for (id, fails) in [("error", true), ("s", false)] {
            client.start_join(id, ROOM, None);
            let asked = store.next_call();
            if fails {
                store.answer(&asked, json!({"error": {"code": "x", "message": "boom"}}));
                continue;
            }
            drop(std::mem::replace(&mut store, SdkWorker::connect(&server)));
        }
        wait_until("the function is gone", || {
            let list = caller.call(
                "stream::list",
                json!({"stream_name": "chat", "group_id": "g"}),
            );
            list["result"] == json!([])
        });
        // Values go to our own store; both subscriptions hear of it.
        caller.set(ROOM, "a", json!(1));
        for _ in 0..2 {
            assert_eq!(client.next().told(), ("create", Some("a"), &json!(1)));
        }
    });
}

#[test]
fn a_function_that_goes_fails_what_it_was_asked_and_our_own_store_takes_over() {
    on_each_shape(|shape| {
        let (_server, mut caller, mut store) = start(shape);
        custom(&mut store, &["set", "get", "list", "list_groups"]);
        let set = caller.start("stream::set", set_input(ROOM, "a", json!(1)));
        let get = caller.start("stream::get", item_input(ROOM, "a"));
        let group = json!({"stream_name": "chat", "group_id": "room"});
        let list = caller.start("stream::list", group);
        let groups = caller.start("stream::list_groups", json!({"stream_name": "chat"}));
        for _ in 0..4 {
            store.next_call();
        }
        drop(store);
        let stopped = ("invocation_stopped".into(), "Invocation stopped".into());
        assert_eq!(
            error_in(&caller.result(&set)),
            (
                "STREAM_SET_ERROR".into(),
                "Failed to set value: Failed to invoke function: ErrorBody { code: \
                 \"invocation_stopped\", message: \"Invocation stopped\", stacktrace: None }"
                    .into()
            )
        );
        for id in [&get, &list, &groups] {
            assert_eq!(error_in(&caller.result(id)), stopped);
        }
        assert_eq!(caller.get(ROOM, "a"), None);
        caller.set(ROOM, "a", json!(2));
        assert_eq!(caller.get(ROOM, "a"), Some(json!(2)));
    });
}

#[test]
fn functions_stand_in_for_their_own_operation_and_no_other() {
    on_each_shape(|shape| {
        let (server, mut caller, mut store) = start(shape);
        custom(&mut store, &["get"]);
        let mut client = Subscriber::connect(&server);
        client.join("s", ROOM);
        caller.set(ROOM, "a", json!("own"));
        let get = caller.start("stream::get", item_input(ROOM, "a"));
        let asked = store.next_call();
        store.answer(&asked, json!({"result": "theirs"}));
        assert_eq!(result(&caller.result(&get)), "theirs");
        assert_eq!(caller.list(ROOM), json!(["own"]));
        // Now `set` is theirs as well: `update` and `list` still see our own.
        custom(&mut store, &["set", "list_groups"]);
        let set = caller.start("stream::set", set_input(ROOM, "a", json!("new")));
        let asked = store.next_call();
        store.answer(
            &asked,
            json!({"result": {"old_value": "x", "new_value": "new"}}),
        );
        result(&caller.result(&set));
        assert_eq!(caller.list(ROOM), json!(["own"]));
        let mut update = item_input(ROOM, "a");
        update["ops"] = json!([{"type": "set", "path": "", "value": "updated"}]);
        let updated = caller.call("stream::update", update);
        assert_eq!(result(&updated)["old_value"], "own");
        assert_eq!(caller.list(ROOM), json!(["updated"]));
        caller.delete(ROOM, "a");
        let heard: Vec<Value> = client
            .take(4)
            .into_iter()
            .map(|(_, _, data)| data)
            .collect();
        assert_eq!(
            heard,
            [
                json!("own"),
                json!("new"),
                json!("updated"),
                json!("updated")
            ]
        );
        // Groups are named by theirs; all streams by our own alone.
        let groups = caller.start("stream::list_groups", json!({"stream_name": "chat"}));
        let asked = store.next_call();
        assert_eq!(asked["data"], json!({"stream_name": "chat"}));
        store.answer(&asked, json!({"result": ["g"]}));
        assert_eq!(result(&caller.result(&groups)), json!(["g"]));
        let all = caller.call("stream::list_all", json!({}));
        assert_eq!(all["result"]["count"], 0);
    });
}

#[test]
fn a_function_that_never_answers_holds_up_its_group_alone_and_not_for_ever() {
    let server = TestServer::with(ONE_WORKER, |config| config.call_timeout_ms = 500);
    let mut caller = SdkWorker::connect(&server);
    let mut store = SdkWorker::connect(&server);
    custom(&mut store, &["set"]);
    let set = caller.start("stream::set", set_input(ROOM, "a", json!(1)));
    let behind = caller.start("stream::get", item_input(ROOM, "a"));
    store.next_call();
    for n in 0..100 {
        caller.set(("other", "room"), "a", json!(n));
    }
    assert_eq!(caller.get(("chat", "hall"), "a"), None);
    let (code, message) = error_in(&caller.result(&set));
    assert_eq!(code, "STREAM_SET_ERROR");
    assert!(message.contains("invocation_timeout"), "{message}");
    assert!(caller.result(&behind).get("result").is_none());
}

#[test]
fn what_would_wait_for_a_hung_function_is_refused_in_the_end_and_others_go_on() {
    let (server, mut caller, mut store) = start(ONE_WORKER);
    custom(&mut store, &["set"]);
    let mut other = SdkWorker::connect(&server);
    let first = caller.start("stream::set", set_input(ROOM, "a", json!(0)));
    let asked = store.next_call();
    let event = json!({"stream_name": "chat", "group_id": "room", "type": "x", "data": 1});
    let refused = || server.shared().workers[0].commands_refused.get();
    const VOID: u64 = 17_000;
    for _ in 0..VOID {
        caller.void("stream::send", event.clone());
    }
    wait_until("too much waits", || refused() > 0);
    let refusal = caller.error_of("stream::send", event);
    assert_eq!(
        refusal,
        (
            "STREAM_SEND_ERROR".into(),
            "Failed to send event: server is overloaded".into()
        )
    );
    let more = caller.error_of("stream::set", set_input(("chat", "hall"), "a", json!(0)));
    assert_eq!(more.1, "Failed to set value: server is overloaded");
    for n in 0..10 {
        other.set(("other", "room"), "a", json!(n));
    }
    let mut client = Subscriber::connect(&server);
    client.join("s", ("other", "room"));
    client.start_join("t", ROOM, None);
    store.answer(&asked, json!({"result": {"new_value": 0}}));
    result(&caller.result(&first));
    client.sync();
    // There is room again.
    let id = caller.start("stream::set", set_input(ROOM, "a", json!(1)));
    let asked = store.next_call();
    store.answer(&asked, json!({"result": {"new_value": 1}}));
    result(&caller.result(&id));
    assert_eq!(client.next().told(), ("create", Some("a"), &json!(1)));
}

#[test]
fn a_program_that_calls_what_it_serves_is_read_while_it_waits_for_its_own_answers() {
    on_each_shape(|shape| {
        const LISTS: usize = 12;
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        custom(&mut sdk, &["set", "list"]);
        let mut ids = vec![sdk.start("stream::set", set_input(ROOM, "a", json!(1)))];
        let list = json!({"stream_name": "chat", "group_id": "room"});
        ids.extend((0..LISTS).map(|_| sdk.start("stream::list", list.clone())));
        for _ in 0..=LISTS {
            let call = sdk.next_call();
            let answer = match call["function_id"].as_str().unwrap() {
                "stream::set(chat)" => json!({"old_value": null, "new_value": 1}),
                _ => json!([1]),
            };
            sdk.answer(&call, json!({"result": answer}));
        }
        for id in ids {
            let _ = result(&sdk.result(&id));
        }
    });
}
