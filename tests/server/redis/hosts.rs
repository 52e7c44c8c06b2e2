//! Several hosts on one Redis: one order for everybody, no call lost, joins without a gap, and others who
//! store and publish apart.

use std::collections::HashMap;

use redis::Commands;
use serde_json::{Value, json};

use super::{KEY, ROOM, WIDE, follower, hash, increment};
use crate::support::clients::{item_input, set_input};
use crate::support::redis::RedisServer;
use crate::support::{Heard, ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, wait_until};

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
