//! Values in a real Redis: what stands in it, several servers and others on one, and all the ways in
//! which it goes away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::process::{Directory, config, outcome};
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
fn all_hosts_show_one_order_once() {
    let redis = RedisServer::start();
    let hosts = [redis.server(WIDE), redis.server(THREE_WORKERS)];
    let mut subscribers: Vec<Subscriber> = hosts
        .iter()
        .flat_map(|host| [Subscriber::connect(host), Subscriber::connect(host)])
        .collect();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.join("s", ROOM).data, json!([]));
    }
    const EACH: usize = 150;
    std::thread::scope(|scope| {
        for (number, host) in hosts.iter().enumerate() {
            scope.spawn(move || {
                let mut sdk = SdkWorker::connect(host);
                for n in 0..EACH {
                    sdk.set(
                        ROOM,
                        if n % 3 == 0 { "both" } else { "own" },
                        json!([number, n]),
                    );
                }
            });
        }
    });
    let told: Vec<Vec<Heard>> = subscribers
        .iter_mut()
        .map(|subscriber| (0..2 * EACH).map(|_| subscriber.next()).collect())
        .collect();
    assert!(
        told.windows(2).all(|pair| pair[0] == pair[1]),
        "one order, one time"
    );
    assert!(
        told[0]
            .windows(2)
            .all(|pair| pair[0].timestamp < pair[1].timestamp)
    );
    let mut of_each = [0, 0];
    for heard in &told[0] {
        let (number, n) = (
            heard.data[0].as_u64().unwrap() as usize,
            heard.data[1].as_u64(),
        );
        assert_eq!(n, Some(of_each[number]), "in the order of the calls");
        of_each[number] += 1;
    }
    let last: HashMap<&str, &Value> = told[0]
        .iter()
        .map(|heard| (heard.id.as_deref().unwrap(), &heard.data))
        .collect();
    for (item, value) in hash(&redis, KEY) {
        assert_eq!(last[&*item].to_string(), value);
    }
    let mut sdk = SdkWorker::connect(&hosts[0]);
    sdk.send_event(ROOM, None, "marker", json!(null));
    for mut subscriber in subscribers {
        assert_eq!(subscriber.next().kind, "event", "nothing came twice");
    }
}

#[test]
fn contended_increments_of_two_servers_are_all_counted() {
    let redis = RedisServer::start();
    let hosts = [redis.server(WIDE), redis.server(WIDE)];
    std::thread::scope(|scope| {
        for number in 0..8 {
            let host = &hosts[number % 2];
            scope.spawn(move || {
                let mut sdk = SdkWorker::connect(host);
                let calls: Vec<String> = (0..125)
                    .map(|_| sdk.start("stream::update", increment(ROOM, "n")))
                    .collect();
                for call in calls {
                    assert!(sdk.result(&call).get("error").is_none());
                }
            });
        }
    });
    assert_eq!(hash(&redis, KEY)["n"], r#"{"n":1000}"#);
}

#[test]
fn a_caller_s_order_holds_over_updates_that_take_two_steps() {
    let redis = RedisServer::start();
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    for round in 0..20 {
        let calls = [
            sdk.start(
                "stream::set",
                set_input(ROOM, "i", json!({"n": 10 * round})),
            ),
            sdk.start("stream::update", increment(ROOM, "i")),
            sdk.start("stream::get", item_input(ROOM, "i")),
            sdk.start("stream::set", set_input(ROOM, "i", json!(null))),
            sdk.start("stream::get", item_input(ROOM, "i")),
        ];
        let results = calls.map(|call| sdk.result(&call)["result"].take());
        assert_eq!(results[2], json!({"n": 10 * round + 1}));
        assert_eq!(results[4], json!(null));
    }
}

#[test]
fn joins_while_others_write_have_no_gap_and_nothing_twice() {
    let redis = RedisServer::start();
    let hosts = [redis.server(THREE_WORKERS), redis.server(THREE_WORKERS)];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sdk = SdkWorker::connect(&hosts[0]);
            for n in 0..1500 {
                sdk.set(ROOM, "n", json!(n));
            }
        });
        let mut round = 0;
        while !writer.is_finished() {
            round += 1;
            let mut subscriber = Subscriber::on_worker(&hosts[round % 2], round % 3);
            // Before the first set there is nothing.
            let synced = match round % 3 {
                0 => subscriber.join_item("s", ROOM, "n").data,
                _ => subscriber
                    .join("s", ROOM)
                    .data
                    .get(0)
                    .cloned()
                    .unwrap_or_default(),
            };
            let first = synced.as_u64().map_or(0, |n| n + 1);
            for n in first..1500.min(first + 10) {
                assert_eq!(subscriber.next().data, json!(n));
            }
        }
        assert!(round > 3);
    });
}

#[test]
fn a_join_of_a_followed_group_asks_redis_nothing() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    let _first = follower(&server);
    let reads = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        stats
            .lines()
            .filter(|line| line.starts_with("cmdstat_hgetall") || line.starts_with("cmdstat_exec"))
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = reads();
    sdk.set(ROOM, "i", json!(2));
    for _ in 0..20 {
        let mut subscriber = Subscriber::connect(&server);
        assert_eq!(subscriber.join("s", ROOM).data, json!([2]));
        assert_eq!(subscriber.join_item("t", ROOM, "i").data, json!(2));
    }
    assert_eq!(reads(), before);
}

#[test]
fn others_who_set_and_publish_apart_end_right_for_everybody() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    sdk.set(ROOM, "ours", json!(1));
    let time = subscriber.next().timestamp;

    let mut other = redis.connection();
    let message = |time: u64, kind: &str, data: &str| {
        format!(
            r#"{{"type":"stream","timestamp":{time},"streamName":"chat","groupId":"room:1","id":"x","event":{{"type":"{kind}","data":{data}}}}}"#
        )
    };
    // Stored in one order, published in the other, by a clock that is 5 s behind.
    let _: () = other.hset(KEY, "x", "1").unwrap();
    let _: () = other.hset(KEY, "x", "2").unwrap();
    let _: () = other
        .publish("stream::events", message(time - 5000, "update", "2"))
        .unwrap();
    let _: () = other
        .publish("stream::events", message(time - 5001, "create", "1"))
        .unwrap();
    let first = subscriber.next();
    assert_eq!(first.told(), ("update", Some("x"), &json!(2)));
    assert!(first.timestamp > time, "raised above what was heard");
    let second = subscriber.next();
    assert_eq!(second.told(), ("create", Some("x"), &json!(1)));
    let healed = subscriber.next();
    assert_eq!(healed.told(), ("update", Some("x"), &json!(2)));
    assert!(second.timestamp < healed.timestamp);
    // Nobody who hears of a change of ours by its clock hears it too early.
    sdk.set(ROOM, "ours", json!(3));
    assert_eq!(
        subscriber.next().told(),
        ("update", Some("ours"), &json!(3))
    );

    let _: () = other.hdel(KEY, &["x", "ours"]).unwrap();
    let _: () = other
        .publish("stream::events", message(time, "delete", "2"))
        .unwrap();
    assert_eq!(subscriber.next().kind, "delete");
    assert_eq!(
        subscriber.next().told(),
        ("delete", Some("ours"), &json!(3)),
        "which nobody has published"
    );
    wait_until("the group is in no listing", || {
        let groups = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
        groups["result"] == json!([])
    });
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

#[test]
fn a_redis_that_dies_fails_calls_and_comes_back_with_a_fresh_sync() {
    let mut redis = RedisServer::start();
    let server = redis.server(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    let mut subscriber = Subscriber::connect(&server);
    let before = subscriber.join("s", ROOM).timestamp;
    let mut of_item = Subscriber::connect(&server);
    of_item.join_item("s", ROOM, "i");

    redis.kill();
    wait_until("calls fail", || {
        let result = sdk.call("stream::set", set_input(ROOM, "i", json!(2)));
        result.get("error").is_some()
    });
    let began = Instant::now();
    let (code, message) = sdk.error_of("stream::get", item_input(ROOM, "i"));
    assert_eq!(code, "STREAM_GET_ERROR");
    assert!(
        message.starts_with("Failed to get value: Failed to get value from Redis: "),
        "{message}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "at once, not after a timeout"
    );
    for function in ["stream::list_groups", "stream::list_all"] {
        let result = sdk.call(function, json!({"stream_name": "chat"}));
        assert!(result.get("error").is_some(), "{function}");
    }
    // Who joins meanwhile is there when it is back.
    let mut late = Subscriber::connect(&server);
    late.start_join("s", ROOM, None);

    redis.restart();
    let _: () = redis.ask(&["HSET", KEY, "elsewhere", "7"]);
    let synced = fresh_sync(&mut subscriber);
    assert!(synced.timestamp > before);
    fresh_sync(&mut late);
    let of_item_synced = fresh_sync(&mut of_item);
    assert!([json!(1), json!(2)].contains(&of_item_synced.data));
    set_until_it_works(&mut sdk, "i", json!("back"));
    for subscriber in [&mut subscriber, &mut late] {
        hears(subscriber, "i", &json!("back"));
    }
    assert_eq!(of_item.next().data, json!("back"));
    let all = sdk.list(ROOM);
    assert!(all.as_array().unwrap().contains(&json!(7)));
}

#[test]
fn either_connection_that_is_killed_is_an_outage_and_heals() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    sdk.set(ROOM, "i", json!(0));
    subscriber.join("s", ROOM);
    for (round, kind) in ["pubsub", "normal", "pubsub"].into_iter().enumerate() {
        let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", kind]);
        fresh_sync(&mut subscriber);
        let value = json!({"round": round});
        set_until_it_works(&mut sdk, "i", value.clone());
        hears(&mut subscriber, "i", &value);
        let joined = Subscriber::connect(&server).join("s", ROOM).data;
        assert_eq!(joined, json!([value]));
    }
}

#[test]
fn scripts_that_redis_has_forgotten_are_loaded_again() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    for round in 0..5 {
        let _: () = redis.ask(&["SCRIPT", "FLUSH"]);
        let calls: Vec<String> = (0..50)
            .map(|n| sdk.start("stream::set", set_input(ROOM, "i", json!([round, n]))))
            .collect();
        for (n, call) in calls.iter().enumerate() {
            assert!(sdk.result(call).get("error").is_none());
            assert_eq!(subscriber.next().data, json!([round, n]));
        }
        let _: () = redis.ask(&["SCRIPT", "FLUSH"]);
        let updated = sdk.call("stream::update", increment(("chat", "n"), "n"));
        assert_eq!(updated["result"]["new_value"]["n"], json!(round + 1));
    }
}

#[test]
fn no_call_overtakes_another_while_scripts_are_forgotten() {
    let redis = RedisServer::start();
    let hosts = [redis.server(WIDE), redis.server(WIDE)];
    std::thread::scope(|scope| {
        let callers: Vec<_> = hosts
            .iter()
            .zip(["one", "two"])
            .map(|(host, group)| scope.spawn(move || set_and_get(host, ("chat", group))))
            .collect();
        let is_over = || callers.iter().all(|caller| caller.is_finished());
        let joiner = scope.spawn(|| {
            // Nobody follows the group meanwhile, so each join reads it.
            for host in &hosts {
                for _ in 0..50 {
                    let mut subscriber = Subscriber::connect(host);
                    let synced = subscriber.join("s", ("chat", "one")).data;
                    assert!(synced.as_array().unwrap().len() < 2);
                }
            }
        });
        let mut connection = redis.connection();
        while !is_over() || !joiner.is_finished() {
            let flushed = redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection);
            flushed.unwrap();
        }
    });
}

fn set_and_get(host: &TestServer, group: (&str, &str)) {
    let mut sdk = SdkWorker::connect(host);
    for round in 0..20 {
        let calls: Vec<_> = (0..50)
            .map(|n| {
                let set = set_input(group, "i", json!([round, n]));
                let set = sdk.start("stream::set", set);
                (set, sdk.start("stream::get", item_input(group, "i")))
            })
            .collect();
        for (n, (set, get)) in calls.iter().enumerate() {
            assert_eq!(sdk.result(set).get("error"), None);
            assert_eq!(sdk.result(get)["result"], json!([round, n]));
        }
    }
}

#[test]
fn a_redis_that_still_loads_its_data_is_waited_for() {
    let slowly = [
        "--key-load-delay",
        "20000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let mut redis = RedisServer::with(&slowly);
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(0));
    for n in 0..100 {
        sdk.set(("many", &n.to_string()), "i", json!("x".repeat(500)));
    }
    let mut subscriber = follower(&server);
    redis.reload();
    wait_until("callers are told that it loads", || {
        let result = sdk.call("stream::get", item_input(ROOM, "i"));
        let message = result["error"]["message"].as_str().unwrap_or_default();
        assert!(result.get("error").is_some(), "it has loaded unseen");
        message.to_lowercase().contains("loading")
    });
    assert_eq!(fresh_sync(&mut subscriber).data, json!([0]));
    sdk.set(ROOM, "i", json!(1));
    hears(&mut subscriber, "i", &json!(1));
}

#[test]
fn a_group_that_redis_has_evicted_is_gone_for_subscribers_at_its_next_change() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "old", json!(1));
    let mut subscriber = follower(&server);
    let memory: String = redis.ask(&["INFO", "memory"]);
    let used = memory
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let most = used.unwrap().trim().parse::<u64>().unwrap() + (2 << 20);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", &most.to_string()]);
    let mut number = 0;
    wait_until("it is evicted", || {
        number += 1;
        let group = format!("other-{number}");
        sdk.set(("chat", &group), "i", json!("x".repeat(100_000)));
        !redis.ask::<bool>(&["EXISTS", KEY])
    });
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    sdk.set(ROOM, "new", json!(2));
    assert_eq!(subscriber.next().told(), ("delete", Some("old"), &json!(1)));
    assert_eq!(subscriber.next().told(), ("create", Some("new"), &json!(2)));
}

#[test]
fn a_redis_that_stands_still_fails_calls_in_time_and_none_is_applied_twice() {
    let redis = RedisServer::start();
    let server = redis.server_with(WIDE, |config| config.call_timeout_ms = 700);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    assert!(
        sdk.call("stream::update", increment(ROOM, "n"))
            .get("error")
            .is_none()
    );
    subscriber.next();
    for pauses in [true, false] {
        if pauses {
            let _: () = redis.ask(&["CLIENT", "PAUSE", "2500"]);
        } else {
            redis.signal(Signal::STOP);
        }
        let began = Instant::now();
        let calls: Vec<String> = (0..20)
            .map(|n| sdk.start("stream::set", set_input(ROOM, &format!("i{n}"), json!(n))))
            .collect();
        for call in calls {
            let (code, message) = error_in(&sdk.result(&call));
            assert_eq!(code, "STREAM_SET_ERROR");
            assert!(
                message
                    .starts_with("Failed to set value: Failed to atomically set value in Redis: ")
            );
        }
        assert!(began.elapsed() < Duration::from_secs(20), "none hangs");
        if !pauses {
            redis.signal(Signal::CONT);
        }
        fresh_sync(&mut subscriber);
        wait_until("calls work again", || {
            sdk.call("stream::get", item_input(ROOM, "n"))
                .get("error")
                .is_none()
        });
        set_until_it_works(&mut sdk, "done", json!([pauses]));
        hears(&mut subscriber, "done", &json!([pauses]));
    }
    assert_eq!(sdk.get(ROOM, "n"), Some(json!({"n": 1})));
}

#[test]
fn a_redis_that_refuses_to_write_says_why() {
    let redis = RedisServer::start();
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let (_, message) = sdk.error_of("stream::set", set_input(ROOM, "i", json!(2)));
    assert!(message.contains("OOM"), "{message}");
    assert_eq!(sdk.get(ROOM, "i"), Some(json!(1)));
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    sdk.set(ROOM, "i", json!(3));

    let _: () = redis.ask(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
    let _: () = redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    wait_until("a replica is not written to", || {
        let result = sdk.call("stream::set", set_input(ROOM, "i", json!(4)));
        result["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("ReadOnly"))
    });
    let _: () = redis.ask(&["REPLICAOF", "NO", "ONE"]);
    set_until_it_works(&mut sdk, "i", json!(5));
}

#[test]
fn a_full_redis_refuses_what_needs_memory_unheard_and_nothing_else() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    sdk.set(ROOM, "j", json!(1));
    sdk.set(("chat", "other"), "i", json!(1));
    let mut subscriber = follower(&server);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = |sdk: &mut SdkWorker, function: &str, input: Value| {
        let (_, message) = sdk.error_of(function, input);
        assert!(message.contains("OOM"), "{message}");
    };
    refused(&mut sdk, "stream::set", set_input(ROOM, "i", json!(2)));
    refused(&mut sdk, "stream::set", set_input(ROOM, "new", json!(2)));
    refused(
        &mut sdk,
        "stream::set",
        set_input(("chat", "new"), "i", json!(2)),
    );
    refused(
        &mut sdk,
        "stream::set",
        set_input(("a:b", "new"), "i", json!(2)),
    );
    refused(&mut sdk, "stream::update", increment(("chat", "n"), "n"));
    // Of a group that has no time yet as well.
    sdk.send_event(("chat", "never"), None, "typing", json!(1));
    sdk.send_event(ROOM, None, "typing", json!(1));
    assert_eq!(
        subscriber.next().kind,
        "event",
        "and of what was refused nothing"
    );
    assert_eq!(sdk.get(ROOM, "i"), Some(json!(1)));
    assert_eq!(sdk.list(ROOM), json!([1, 1]));
    let mut late = Subscriber::connect(&server);
    assert_eq!(late.join("s", ("chat", "other")).data, json!([1]));
    assert_eq!(late.join_item("t", ("chat", "none"), "i").data, json!(null));
    sdk.delete(ROOM, "j");
    assert_eq!(subscriber.next().told(), ("delete", Some("j"), &json!(1)));
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
    assert_eq!(listed["result"], json!(["other", "room:1"]));
    let index = hash(&redis, "iii-stream:groups");
    assert_eq!(index.len(), 2, "{index:?}");
    // A start and a reconnect need no memory either.
    let later = redis.server(WIDE);
    assert_eq!(follower(&later).join("t", ROOM).data, json!([1]));
    let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(fresh_sync(&mut subscriber).data, json!([1]));
}

#[test]
fn what_stands_in_the_place_of_our_hashes_refuses_changes_before_they_are_made() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    let mut subscriber = follower(&server);
    for place in ["iii-stream:groups", "iii-stream:times"] {
        let kept = hash(&redis, place);
        let _: () = redis.ask(&["DEL", place]);
        let _: () = redis.ask(&["SET", place, "text"]);
        for group in [ROOM, ("chat", "new"), ("a:b", "new")] {
            let (_, message) = sdk.error_of("stream::set", set_input(group, "j", json!(2)));
            assert!(message.contains("WRONGTYPE"), "{message}");
        }
        let (_, message) = sdk.error_of("stream::delete", item_input(ROOM, "i"));
        assert!(message.contains("WRONGTYPE"), "{message}");
        let _: () = redis.ask(&["DEL", place]);
        for (field, value) in kept {
            let _: () = redis.ask(&["HSET", place, &field, &value]);
        }
    }
    assert_eq!(
        hash(&redis, KEY),
        HashMap::from([("i".to_owned(), "1".to_owned())])
    );
    subscriber.hears_only_the_marker(&mut sdk, ROOM);
}

#[test]
fn a_user_who_loses_a_right_changes_nothing_that_is_not_heard() {
    let redis = RedisServer::start();
    let all = [
        "ACL", "SETUSER", "me", "reset", "on", ">pw", "~*", "&*", "+@all",
    ];
    let _: () = redis.ask(&all);
    let url = redis.url().replace("://", "://me:pw@");
    let server = TestServer::with(WIDE, |config| {
        let store = iii_stream::config::RedisStore::at(&url).unwrap();
        config.store = iii_stream::config::StoreConfig::Redis(store);
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    sdk.set(ROOM, "j", json!(1));
    let mut subscriber = follower(&server);
    let _: () = redis.ask(&["ACL", "SETUSER", "me", "-publish"]);
    for (function, input) in [
        ("stream::set", set_input(ROOM, "i", json!(2))),
        ("stream::set", set_input(ROOM, "new", json!(2))),
        ("stream::set", set_input(("chat", "new"), "i", json!(2))),
        ("stream::set", set_input(("a:b", "new"), "i", json!(2))),
        ("stream::delete", item_input(ROOM, "j")),
        ("stream::delete", item_input(ROOM, "i")),
    ] {
        let (_, message) = sdk.error_of(function, input);
        assert!(
            message.contains("permission") || message.contains("can't"),
            "{message}"
        );
    }
    let _: () = redis.ask(&all);
    let expected =
        [("i", "1"), ("j", "1")].map(|(item, value)| (item.to_owned(), value.to_owned()));
    assert_eq!(hash(&redis, KEY), HashMap::from(expected));
    let keys: Vec<String> = redis.ask(&["KEYS", "stream:*"]);
    assert_eq!(keys, [KEY]);
    assert_eq!(hash(&redis, "iii-stream:groups").len(), 1);
    // What came meanwhile, if anything but the marker, is a `sync` of what is there.
    sdk.send_event(ROOM, None, "marker", json!(null));
    loop {
        let heard = subscriber.next();
        if heard.kind == "event" {
            break;
        }
        assert_eq!((&*heard.kind, heard.data), ("sync", json!([1, 1])));
    }
}

#[test]
fn a_start_names_what_the_redis_user_may_not() {
    let redis = RedisServer::start();
    let all = [
        "ACL", "SETUSER", "me", "reset", "on", ">pw", "~*", "&*", "+@all",
    ];
    let url = redis.url().replace("://", "://me:pw@");
    for (less, named) in [
        (&["-hset"][..], "HSET stream:a:b"),
        (&["-hdel"], "HDEL stream:a:b"),
        (&["-hscan"], "HSCAN iii-stream:groups"),
        (&["-scan"], "SCAN 0"),
        (&["-multi"], "MULTI"),
        (&["-time"], "TIME"),
        (&["-publish"], "PUBLISH stream::events"),
        (&["resetkeys", "~stream:*"], "HSET iii-stream:groups"),
        (&["resetkeys", "~iii-stream:*"], "HSET stream:a:b"),
        (&["resetkeys", "%R~*"], "HSET stream:a:b"),
        (&["resetchannels", "&iii-stream:*"], "stream::events"),
        (&["resetchannels", "&stream::events"], "iii-stream:cut:"),
        (&["-hgetall"], "HGETALL stream:a:b"),
        (&["-hvals"], "HVALS stream:a:b"),
        (&["-evalsha"], "evalsha"),
        (&["-script"], "script"),
        (&["-subscribe"], "subscribe"),
    ] {
        let _: () = redis.ask(&all);
        let _: () = redis.ask(&[&["ACL", "SETUSER", "me"], less].concat());
        let (code, line) = start_on(&url, ", redis: {connect_timeout_ms: 600}");
        assert_eq!(code, Some(1), "{less:?}: {line}");
        assert!(line.contains(named), "{less:?}: {line}");
        assert!(
            line.contains("may not") || line.contains("no permissions"),
            "{less:?}: {line}"
        );
    }
}

#[test]
fn a_start_reads_the_names_of_many_groups_while_it_serves() {
    let redis = RedisServer::with(&["--enable-debug-command", "yes"]);
    let _: () = redis.ask(&["DEBUG", "POPULATE", "400000", "foreign", "1"]);
    let mut connection = redis.connection();
    let mut pipeline = redis::pipe();
    for n in 0..20_000 {
        pipeline.hset(format!("stream:many:{n}"), "i", "1").ignore();
        let names = format!(r#"["many","{n}"]"#);
        pipeline
            .hset("iii-stream:groups", format!("stream:many:{n}"), names)
            .ignore();
    }
    let _: () = pipeline.query(&mut connection).unwrap();
    let mut store = iii_stream::config::RedisStore::at(&redis.url()).unwrap();
    // All that there is to be read takes longer.
    store.connect_timeout = Duration::from_millis(150);
    let server = TestServer::with(WIDE, |config| {
        config.store = iii_stream::config::StoreConfig::Redis(store);
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    assert_eq!(sdk.get(("many", "7"), "i"), Some(json!(1)));
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "many"}));
    assert_eq!(listed["result"].as_array().map(Vec::len), Some(20_000));
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
    assert_eq!(listed["result"], json!(["room:1"]));
    let mut subscriber = follower(&server);
    let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(fresh_sync(&mut subscriber).data, json!([1]));
    sdk.delete(ROOM, "i");
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
    assert_eq!(
        listed["result"],
        json!([]),
        "what was heard meanwhile counts more"
    );
}

#[test]
fn the_end_of_the_channel_is_noticed_beside_a_flood() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    let mut subscriber = follower(&server);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = redis.connection();
            let text = r#"{"type":"stream","timestamp":1,"streamName":"s","groupId":"g","id":"x","event":{"type":"update","data":1}}"#;
            let mut pipeline = redis::pipe();
            for _ in 0..4 {
                pipeline.publish("stream::events", text).ignore();
            }
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let _: () = pipeline.query(&mut other).unwrap();
                // As many as a build for tests can take: what is behind it would be read first.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut slowest = Duration::ZERO;
        for _ in 0..40 {
            let began = Instant::now();
            let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            assert_eq!(fresh_sync(&mut subscriber).data, json!([1]));
            slowest = slowest.max(began.elapsed());
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    });
}

#[test]
fn followed_groups_are_read_again_after_a_loss_however_long_all_of_them_take() {
    const GROUPS: usize = 800;
    let redis = RedisServer::start();
    let mut connection = redis.connection();
    for n in 0..GROUPS {
        let value = format!("\"{}\"", "x".repeat(100_000));
        let _: () = connection
            .hset(format!("stream:big:{n}"), "i", value)
            .unwrap();
    }
    let server = redis.server_with(WIDE, |config| config.call_timeout_ms = 300);
    let mut subscribers: Vec<Subscriber> = (0..8).map(|_| Subscriber::connect(&server)).collect();
    for n in 0..GROUPS {
        subscribers[n % 8].join(&n.to_string(), ("big", &n.to_string()));
    }
    let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let mut synced = 0;
    for subscriber in &mut subscribers {
        for _ in 0..GROUPS / 8 {
            assert_eq!(subscriber.next().kind, "sync");
            synced += 1;
        }
    }
    assert_eq!(synced, GROUPS);
    let mut sdk = SdkWorker::connect(&server);
    subscribers[0].hears_only_the_marker(&mut sdk, ("big", "0"));
}

#[test]
fn a_caller_is_told_whether_its_change_was_sent() {
    let redis = RedisServer::start();
    let mut store = iii_stream::config::RedisStore::at(&redis.url()).unwrap();
    store.in_flight = 1;
    store.call_timeout = Duration::from_millis(1500);
    let server = TestServer::with(WIDE, |config| {
        config.store = iii_stream::config::StoreConfig::Redis(store);
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    redis.signal(Signal::STOP);
    let first = sdk.start("stream::set", set_input(ROOM, "i", json!(2)));
    let get = sdk.start("stream::get", item_input(ROOM, "i"));
    let second = sdk.start("stream::set", set_input(ROOM, "j", json!(2)));
    let update = sdk.start("stream::update", increment(ROOM, "n"));
    let behind = sdk.start("stream::delete", item_input(ROOM, "i"));
    let mut causes = Vec::new();
    for call in [first, get, second, update, behind] {
        let (_, message) = error_in(&sdk.result(&call));
        causes.push(message.rsplit_once(": ").unwrap().1.to_owned());
    }
    redis.signal(Signal::CONT);
    let unknown = "unknown whether the change was stored";
    let unsent = "the change was not sent";
    // A beat may have been under way: then none was sent.
    assert!(
        causes[0].ends_with(unknown) || causes[0].ends_with(unsent),
        "{causes:?}"
    );
    assert!(!causes[1].contains("change"), "{causes:?}");
    for cause in &causes[2..] {
        assert!(cause.ends_with(unsent), "{causes:?}");
    }
    wait_until("calls work again", || {
        sdk.call("stream::get", item_input(ROOM, "i"))
            .get("error")
            .is_none()
    });
    assert_eq!(sdk.get(ROOM, "j"), None, "it was not sent");
    assert_eq!(sdk.get(ROOM, "n"), None);
}

#[test]
fn a_read_only_redis_keeps_its_reads_and_its_subscribers() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    let mut subscriber = follower(&server);
    let _: () = redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let (_, message) = sdk.error_of("stream::set", set_input(ROOM, "i", json!(2)));
        assert!(message.contains("ReadOnly"), "{message}");
        assert_eq!(sdk.get(ROOM, "i"), Some(json!(1)));
        assert_eq!(
            Subscriber::connect(&server).join("s", ROOM).data,
            json!([1])
        );
    }
    assert_eq!(sdk.list(ROOM), json!([1]));
    // No loss, so no second `sync`.
    subscriber.hears_only_the_marker(&mut sdk, ROOM);
    let later = redis.server(WIDE);
    assert_eq!(
        follower(&later).join("t", ROOM).data,
        json!([1]),
        "a start on it"
    );
    let _: () = redis.ask(&["REPLICAOF", "NO", "ONE"]);
    sdk.set(ROOM, "i", json!(3));
    assert_eq!(subscriber.next().told(), ("update", Some("i"), &json!(3)));
}

#[test]
fn items_that_redis_has_dropped_are_gone_for_subscribers_at_the_next_change() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "old", json!(1));
    let mut subscriber = follower(&server);
    let _: () = redis.ask(&["FLUSHALL"]);
    sdk.set(ROOM, "new", json!(2));
    assert_eq!(subscriber.next().told(), ("delete", Some("old"), &json!(1)));
    assert_eq!(subscriber.next().told(), ("create", Some("new"), &json!(2)));
    assert_eq!(
        Subscriber::connect(&server).join("s", ROOM).data,
        json!([2])
    );
}

#[test]
fn a_slow_channel_that_redis_closes_heals() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&[
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "pubsub 1mb 1mb 0",
    ]);
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    let big = json!("x".repeat(4 << 20));
    // Whether its answer came before the connections went is Redis's affair.
    sdk.call("stream::set", set_input(ROOM, "big", big));
    set_until_it_works(&mut sdk, "i", json!(1));
    hears(&mut subscriber, "i", &json!(1));
}

/// Starts the program in vain. Its exit code and what it said.
fn start_on(url: &str, extra: &str) -> (Option<i32>, String) {
    let adapter = format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}");
    let file = config(&adapter, &format!("threads: 1{extra}"));
    let directory = Directory::new("redis-start").with_file(&file);
    outcome(directory.command(&[]).output().unwrap())
}

#[test]
fn a_start_without_redis_ends_in_time_with_a_line_that_hides_the_password() {
    let (code, line) = start_on(
        "redis://me:secret@127.0.0.1:1/3",
        ", redis: {connect_timeout_ms: 600}",
    );
    assert_eq!(code, Some(1));
    assert_eq!(
        line.lines().last(),
        Some("redis://***@127.0.0.1:1/3: connection refused, given up after 600 ms")
    );
    assert!(!line.contains("secret"), "{line}");
    let redis = RedisServer::start();
    let _: () = redis.ask(&["CONFIG", "SET", "requirepass", "right"]);
    let url = redis.url().replace("://", "://:wrong-secret@");
    let (code, line) = start_on(&url, ", redis: {connect_timeout_ms: 600}");
    assert_eq!(code, Some(1));
    assert!(
        line.contains("WRONGPASS") && !line.contains("secret"),
        "{line}"
    );
}

#[test]
fn a_cluster_is_refused_at_start() {
    let redis = RedisServer::with(&["--cluster-enabled", "yes"]);
    let (code, line) = start_on(&redis.url(), "");
    assert_eq!(code, Some(1));
    assert!(
        line.contains("is a cluster, which is not supported"),
        "{line}"
    );
}

#[test]
fn password_and_database_of_the_url_are_used() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&[
        "ACL",
        "SETUSER",
        "me",
        "on",
        ">p@ss/word",
        "~*",
        "&*",
        "+@all",
    ]);
    let url = redis.url().replace("://", "://me:p%40ss%2Fword@") + "/3";
    let server = TestServer::with(ONE_WORKER, |config| {
        let store = iii_stream::config::RedisStore::at(&url).unwrap();
        config.store = iii_stream::config::StoreConfig::Redis(store);
    });
    SdkWorker::connect(&server).set(ROOM, "i", json!(1));
    let mut connection = redis.connection();
    redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
    let stored: String = connection.hget(KEY, "i").unwrap();
    assert_eq!(stored, "1");
}
