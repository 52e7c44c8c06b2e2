//! Values in a real Redis: what stands in it, its text and its keys, and those that hold something else.
//!
//! Elsewhere: several hosts on one Redis (`hosts`), ways in which it goes away (`outages`), a Redis that is
//! there and refuses (`refusals`), starts (`starts`), items that end (`ends`), members (`members`), what others
//! do on it (`others`), and processes with an environment of their own (`processes`).

mod ends;
mod hosts;
mod members;
mod others;
mod outages;
mod processes;
mod refusals;
mod starts;

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::redis::RedisServer;
use crate::support::{
    DEADLINE, Heard, ONE_WORKER, SdkWorker, Shape, Subscriber, THREE_WORKERS, TestServer,
    wait_until,
};

const ROOM: (&str, &str) = ("chat", "room:1");

const KEY: &str = "stream:chat:room:1";

/// Two workers, and mailboxes that are not always full.
const WIDE: Shape = Shape {
    threads: 2,
    mailbox_len: 1024,
};

fn increment(group: (&str, &str), item: &str) -> Value {
    let mut input = item_input(group, item);
    input["ops"] = json!([{"type": "increment", "path": "n", "by": 1}]);
    input
}

/// It has its `sync`.
fn follower(server: &TestServer) -> Subscriber {
    let mut subscriber = Subscriber::connect(server);
    subscriber.join("s", ROOM);
    subscriber
}

fn hash(redis: &RedisServer, key: &str) -> HashMap<String, String> {
    redis.ask(&["HGETALL", key])
}

#[test]
fn what_stands_in_redis_is_what_a_reference_engine_would_have_put_there() {
    let redis = RedisServer::start();
    let server = redis.server(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    let mut watch = redis.connection();
    let mut watch = watch.as_pubsub();
    watch.subscribe("stream::events").unwrap();
    watch.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut heard = || -> String { watch.get_message().unwrap().get_payload().unwrap() };

    sdk.set(ROOM, "ü/1", json!({"b": [1, "é"]}));
    assert_eq!(hash(&redis, KEY)["ü/1"], r#"{"b":[1,"é"]}"#);
    let message = heard();
    let (head, tail) = message.split_once(r#","streamName":"#).unwrap();
    let time = head
        .strip_prefix(r#"{"type":"stream","timestamp":"#)
        .unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000_000);
    assert_eq!(
        tail,
        r#""chat","groupId":"room:1","id":"ü/1","event":{"type":"create","data":{"b":[1,"é"]}},"iii-stream-db":0,"iii-stream":"new"}"#
    );
    let index = hash(&redis, "iii-stream:groups");
    assert_eq!(index[KEY], r#"["chat","room:1"]"#);
    assert_eq!(hash(&redis, "iii-stream:times")[KEY], time);

    sdk.set(ROOM, "ü/1", json!(2));
    assert!(
        heard()
            .ends_with(r#""event":{"type":"update","data":2},"iii-stream-db":0,"iii-stream":""}"#)
    );
    sdk.send_event(ROOM, None, "ping", json!({"x": 1}));
    assert!(heard().ends_with(
        r#""id":null,"event":{"type":"event","event":{"type":"ping","data":{"x":1}}},"iii-stream-db":0,"iii-stream":""}"#
    ));
    sdk.delete(ROOM, "ü/1");
    assert!(
        heard().ends_with(
            r#""event":{"type":"delete","data":2},"iii-stream-db":0,"iii-stream":"gone"}"#
        )
    );
    sdk.delete(ROOM, "ü/1");
    redis.is_empty_soon();
}

#[test]
fn text_is_stored_as_it_came_and_updated_natively() {
    let redis = RedisServer::start();
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let text = r#"{"n":12345678901234567890,"f":1.0,"e":[],"o":{},"z":1e3}"#;
    let call = format!(
        r#"{{"type":"invokefunction","invocation_id":"{}","function_id":"stream::set","data":{{"stream_name":"chat","group_id":"room:1","item_id":"i","data":{text}}}}}"#,
        uuid::Uuid::new_v4()
    );
    sdk.send_text(&call);
    wait_until("it is stored", || !hash(&redis, KEY).is_empty());
    assert_eq!(hash(&redis, KEY)["i"], text);
    let mut input = item_input(ROOM, "i");
    input["ops"] = json!([{"type": "set", "path": "m", "value": [], "by": 0}]);
    let updated = sdk.call("stream::update", input);
    assert_eq!(updated["result"]["new_value"]["m"], json!([]));
    assert_eq!(
        hash(&redis, KEY)["i"],
        r#"{"n":12345678901234567890,"f":1.0,"e":[],"o":{},"z":1e3,"m":[]}"#
    );
}

#[test]
fn groups_of_others_are_listed_and_two_pairs_do_not_share_a_key() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&["HSET", "stream:old:room", "i", "1"]);
    let _: () = redis.ask(&["HSET", "stream:a:b:c", "i", "1"]);
    let _: () = redis.ask(&["HSET", "state:x", "i", "1"]);
    let _: () = redis.ask(&[
        "HSET",
        "iii-stream:groups",
        "stream:gone:g",
        r#"["gone","g"]"#,
    ]);
    let hosts = [redis.server(THREE_WORKERS), redis.server(ONE_WORKER)];
    let mut sdk = SdkWorker::connect(&hosts[0]);
    let all =
        |sdk: &mut SdkWorker| sdk.call("stream::list_all", json!({}))["result"]["stream"].take();
    let unnamed = json!([{"groups": ["b:c"], "id": "a"}, {"groups": ["room"], "id": "old"}]);
    wait_until("what nobody has is in no listing", || {
        all(&mut sdk) == unnamed
    });
    assert_eq!(sdk.get(("a:b", "c"), "i"), Some(json!(1)));
    assert_eq!(sdk.get(("a", "b:c"), "i"), Some(json!(1)));

    sdk.set(("a:b", "c"), "j", json!(2));
    let refused = sdk.error_of("stream::set", set_input(("a", "b:c"), "k", json!(1)));
    assert_eq!(refused.0, "STREAM_SET_ERROR");
    assert_eq!(
        refused.1,
        r#"Failed to set value: stream "a:b" group "c" and stream "a" group "b:c" share one Redis key; rename one"#
    );
    // One after the other without waiting: each gets its own answer.
    let other = ("a", "b:c");
    let calls = [
        sdk.start("stream::set", set_input(other, "k", json!(1))),
        sdk.start("stream::get", item_input(other, "k")),
        sdk.start(
            "stream::list",
            json!({"stream_name": "a", "group_id": "b:c"}),
        ),
    ];
    let [set, got, list] = calls.map(|call| sdk.result(&call));
    assert!(error_in(&set).1.contains("share one Redis key"));
    assert_eq!(
        (&got["result"], &list["result"]),
        (&json!(null), &json!([]))
    );
    let mut elsewhere = SdkWorker::connect(&hosts[1]);
    assert_eq!(elsewhere.get(("a", "b:c"), "i"), None);
    assert_eq!(elsewhere.list(("a", "b:c")), json!([]));
    assert_eq!(elsewhere.list(("a:b", "c")).as_array().unwrap().len(), 2);
    let named = json!([{"groups": ["c"], "id": "a:b"}, {"groups": ["room"], "id": "old"}]);
    assert_eq!(all(&mut elsewhere), named);
    sdk.delete(("old", "room"), "i");
    assert_eq!(
        elsewhere.call("stream::list_groups", json!({"stream_name": "old"}))["result"],
        json!([]),
        "a listing knows all that was answered before it"
    );
}

#[test]
fn keys_that_hold_something_else_fail_their_own_calls_and_stay_as_they_are() {
    let redis = RedisServer::start();
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let _: () = redis.ask(&["SET", "stream:w:str", "text"]);
    let wrong = r#""WRONGTYPE": Operation against a key holding the wrong kind of value"#;
    let text = ("w", "str");
    let calls = [
        (
            "stream::set",
            set_input(text, "i", json!(1)),
            "STREAM_SET_ERROR",
            "Failed to set value: Failed to atomically set value in Redis: ",
        ),
        (
            "stream::get",
            item_input(text, "i"),
            "STREAM_GET_ERROR",
            "Failed to get value: Failed to get value from Redis: ",
        ),
        (
            "stream::delete",
            item_input(text, "i"),
            "STREAM_DELETE_ERROR",
            "Failed to delete value: Failed to atomically delete value from Redis: ",
        ),
        (
            "stream::list",
            json!({"stream_name": "w", "group_id": "str"}),
            "STREAM_GET_GROUP_ERROR",
            "Failed to get group: Failed to get group from Redis: ",
        ),
        (
            "stream::update",
            increment(text, "i"),
            "STREAM_UPDATE_ERROR",
            "Failed to update value: Redis atomic update script failed: ",
        ),
    ];
    let started: Vec<String> = calls
        .iter()
        .map(|(function, input, ..)| sdk.start(function, input.clone()))
        .collect();
    let good = sdk.start("stream::set", set_input(ROOM, "i", json!(1)));
    for (id, (function, _, code, before)) in started.iter().zip(&calls) {
        let (got, message) = error_in(&sdk.result(id));
        assert_eq!(&got, code);
        assert!(
            message.starts_with(&format!("{before}{wrong}")),
            "{function}: {message}"
        );
    }
    assert!(
        sdk.result(&good).get("error").is_none(),
        "one wrong call fails alone"
    );

    let group = ("w", "odd");
    for (item, stored) in [("bad", "hello"), ("nan", "nan"), ("good", "[1]")] {
        let _: () = redis.ask(&["HSET", "stream:w:odd", item, stored]);
    }
    let (_, message) = sdk.error_of("stream::get", item_input(group, "bad"));
    assert_eq!(
        message,
        "Failed to get value: Failed to deserialize value: not JSON"
    );
    let (_, message) = sdk.error_of("stream::set", set_input(group, "bad", json!(1)));
    assert_eq!(
        message,
        "Failed to set value: Failed to deserialize old value: not JSON"
    );
    let (_, message) = sdk.error_of("stream::delete", item_input(group, "bad"));
    assert_eq!(
        message,
        "Failed to delete value: Failed to deserialize old value: not JSON"
    );
    let (_, message) = sdk.error_of("stream::update", increment(group, "bad"));
    assert_eq!(
        message,
        "Failed to update value: Redis atomic update script failed: failed to decode existing JSON: not JSON"
    );
    // Looked at whole, however long it is.
    let long = |inside: &str| format!("{{{inside}{}}}", " ".repeat(200_000));
    let _: () = redis.ask(&["HSET", "stream:w:odd", "long", &long("no")]);
    for item in ["nan", "long"] {
        for (function, input) in [
            ("stream::set", set_input(group, item, json!(1))),
            ("stream::delete", item_input(group, item)),
        ] {
            let (_, message) = sdk.error_of(function, input);
            assert!(
                message.contains("Failed to deserialize old value"),
                "{message}"
            );
        }
    }
    let stored = hash(&redis, "stream:w:odd");
    assert_eq!((&*stored["bad"], &*stored["nan"]), ("hello", "nan"));
    assert_eq!(stored["long"], long("no"));
    let _: () = redis.ask(&["HSET", "stream:w:odd", "long", &long("\"yes\":1")]);
    sdk.delete(group, "long");
    assert_eq!(sdk.list(group), json!([[1]]));
    let mut subscriber = Subscriber::connect(&server);
    assert_eq!(subscriber.join("s", group).data, json!([[1]]));
}

#[test]
fn big_values_pass_whole() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    let big = json!({"text": "ü".repeat(3_000_000), "n": 1});
    sdk.set(ROOM, "big", big.clone());
    assert_eq!(subscriber.next().data, big);
    let updated = sdk.call("stream::update", increment(ROOM, "big"));
    assert_eq!(updated["result"]["new_value"]["n"], json!(2));
    assert_eq!(subscriber.next().data["n"], json!(2));
    assert_eq!(sdk.get(ROOM, "big").unwrap()["n"], json!(2));
    sdk.set(ROOM, "big", json!(1));
    assert_eq!(subscriber.next().data, json!(1));
    let turns = &server.shared().store.loop_turns;
    assert!(turns.longest() > std::time::Duration::ZERO);
}

/// Calls until Redis is back.
fn set_until_it_works(sdk: &mut SdkWorker, item: &str, value: Value) {
    wait_until("calls work again", || {
        let result = sdk.call("stream::set", set_input(ROOM, item, value.clone()));
        result.get("error").is_none()
    });
}

/// Passes over what came before the fresh `sync`.
fn fresh_sync(subscriber: &mut Subscriber) -> Heard {
    loop {
        let heard = subscriber.next();
        if heard.kind == "sync" {
            return heard;
        }
    }
}

/// The next event of that item with that value.
fn hears(subscriber: &mut Subscriber, item: &str, value: &Value) {
    loop {
        let heard = subscriber.next();
        if heard.id.as_deref() == Some(item) && heard.data == *value {
            return;
        }
        if heard.kind == "sync" && heard.data.as_array().is_some_and(|all| all.contains(value)) {
            return; // it was stored before the group was read
        }
    }
}
