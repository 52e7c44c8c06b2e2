//! What others do on the same Redis: servers on another database, engines and programs that write past
//! the channel, messages that nobody who means well has sent.

use std::time::{Duration, Instant};

use iii_stream::config::{RedisStore, StoreConfig};
use redis::Commands;
use serde_json::{Value, json};

use crate::support::redis::RedisServer;
use crate::support::{Heard, SdkWorker, Shape, Subscriber, TestServer, wait_until};

const ROOM: (&str, &str) = ("chat", "room");
const KEY: &str = "stream:chat:room";
const EVENTS: &str = "stream::events";
const WIDE: Shape = Shape {
    threads: 2,
    mailbox_len: 1024,
};

fn follower(server: &TestServer) -> Subscriber {
    let mut subscriber = Subscriber::connect(server);
    subscriber.join("s", ROOM);
    subscriber
}

/// As a reference engine publishes it.
fn message(group: (&str, &str), time: u64, kind: &str, data: &str) -> String {
    let (stream, group) = group;
    format!(
        r#"{{"type":"stream","timestamp":{time},"streamName":"{stream}","groupId":"{group}","id":"x","event":{{"type":"{kind}","data":{data}}}}}"#
    )
}

/// Nothing is read in between.
fn store_and_publish(other: &mut redis::Connection, stored: &str, text: &str) {
    let mut pipeline = redis::pipe();
    pipeline.atomic().hset(KEY, "x", stored).ignore();
    pipeline.publish(EVENTS, text).ignore();
    let _: () = pipeline.query(other).unwrap();
}

fn now_ms(redis: &RedisServer) -> u64 {
    let (seconds, micros): (u64, u64) = redis.ask(&["TIME"]);
    seconds * 1000 + micros / 1000
}

fn groups(sdk: &mut SdkWorker) -> Value {
    sdk.call("stream::list_all", json!({}))["result"]["stream"].take()
}

/// What a client shows that holds items by their names.
struct Model {
    subscriber: Subscriber,
    items: std::collections::BTreeMap<String, Value>,
}

impl Model {
    fn take(&mut self, heard: &Heard) {
        let id = heard.id.clone().unwrap_or_default();
        match &*heard.kind {
            "create" => {
                self.items.entry(id).or_insert(heard.data.clone());
            }
            "update" => {
                self.items
                    .entry(id)
                    .and_modify(|value| *value = heard.data.clone());
            }
            "delete" => {
                self.items.remove(&id);
            }
            _ => {}
        }
    }

    fn hear_until(&mut self, what: &str, is_so: impl Fn(&Model) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            let heard = self.subscriber.next();
            self.take(&heard);
            assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        }
    }
}

#[test]
fn servers_on_two_databases_of_one_redis_hear_nothing_of_each_other() {
    let redis = RedisServer::start();
    let on = |database: u32| {
        let url = format!("{}/{database}", redis.url());
        TestServer::with(WIDE, |config| {
            config.store = StoreConfig::Redis(RedisStore::at(&url).unwrap());
        })
    };
    let hosts = [on(0), on(1), on(1)];
    let mut callers = hosts.each_ref().map(SdkWorker::connect);
    let mut subscribers = hosts.each_ref().map(follower);
    callers[0].set(ROOM, "i", json!(0));
    callers[0].set(("chat", "other"), "i", json!(0));
    callers[0].send_event(ROOM, None, "typing", json!(0));
    callers[1].set(ROOM, "i", json!(1));
    assert_eq!(subscribers[0].next().data, json!(0));
    assert_eq!(subscribers[0].next().kind, "event");
    // The first that each hears is of its own database.
    for subscriber in &mut subscribers[1..] {
        assert_eq!(subscriber.next().told(), ("create", Some("i"), &json!(1)));
    }
    callers[0].set(ROOM, "i", json!(2));
    assert_eq!(
        subscribers[0].next().told(),
        ("update", Some("i"), &json!(2))
    );
    for (host, value) in hosts.iter().zip([2, 1, 1]) {
        assert_eq!(follower_sync(host), json!([value]));
    }
    assert_eq!(
        groups(&mut callers[1]),
        json!([{"groups": ["room"], "id": "chat"}])
    );
    assert_eq!(
        groups(&mut callers[0]),
        json!([{"groups": ["other", "room"], "id": "chat"}])
    );
}

fn follower_sync(server: &TestServer) -> Value {
    Subscriber::connect(server).join("s", ROOM).data
}

/// A `sync` is what a list is, soon after others have written.
fn agree(server: &TestServer, sdk: &mut SdkWorker, what: &str, expected: &Value) {
    assert_eq!(sdk.list(ROOM), *expected, "{what}");
    let began = Instant::now();
    wait_until(what, || follower_sync(server) == *expected);
    assert!(began.elapsed() < Duration::from_secs(6), "{what}");
}

#[test]
fn what_others_flush_remove_and_write_shows_in_syncs_and_reaches_those_who_hold_it() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "a", json!(1));
    sdk.set(ROOM, "b", json!(1));
    let mut model = Model {
        subscriber: follower(&server),
        items: [("a".to_owned(), json!(1)), ("b".to_owned(), json!(1))].into(),
    };
    let mut of_item = Subscriber::connect(&server);
    of_item.join_item("s", ROOM, "a");

    let _: () = redis.ask(&["HSET", KEY, "a", "7"]);
    let mut expected = sdk.list(ROOM);
    agree(&server, &mut sdk, "a field written by hand", &expected);
    model.hear_until("the field", |model| model.items["a"] == json!(7));
    assert_eq!(of_item.next().told(), ("update", Some("a"), &json!(7)));

    let _: () = redis.ask(&["HDEL", KEY, "b"]);
    expected = json!([7]);
    agree(&server, &mut sdk, "a field removed", &expected);
    model.hear_until("the field is gone", |model| !model.items.contains_key("b"));

    let _: () = redis.ask(&["DEL", KEY]);
    agree(&server, &mut sdk, "a key removed", &json!([]));
    model.hear_until("the key is gone", |model| model.items.is_empty());
    assert_eq!(of_item.next().told(), ("delete", Some("a"), &json!(7)));

    sdk.set(ROOM, "a", json!(2));
    model.hear_until("it is back", |model| model.items.contains_key("a"));
    assert_eq!(of_item.next().told(), ("create", Some("a"), &json!(2)));
    for round in 3..9 {
        let _: () = redis.ask(&["FLUSHALL"]);
        sdk.set(ROOM, "a", json!(round));
        model.hear_until("a client holds the new value", |model| {
            model.items.get("a") == Some(&json!(round))
        });
    }
    let _: () = redis.ask(&["FLUSHALL"]);
    agree(&server, &mut sdk, "all is flushed", &json!([]));
    wait_until("nothing is in any listing", || {
        groups(&mut sdk) == json!([])
    });
}

#[test]
fn notices_of_the_keyspace_show_at_once_what_others_do_to_big_groups() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&["CONFIG", "SET", "notify-keyspace-events", "KA"]);
    let mut connection = redis.connection();
    let mut pipeline = redis::pipe();
    for n in 0..3000 {
        pipeline.hset(KEY, format!("i{n}"), "1").ignore();
    }
    let _: () = pipeline.query(&mut connection).unwrap();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    sdk.set(ROOM, "i0", json!(2));
    assert_eq!(subscriber.next().told(), ("update", Some("i0"), &json!(2)));
    // As many items as before.
    let _: () = redis.ask(&["HSET", KEY, "i1", "3"]);
    assert_eq!(subscriber.next().told(), ("update", Some("i1"), &json!(3)));
}

#[test]
fn messages_of_strangers_make_no_group_that_is_not_there() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = follower(&server);
    let mut other = redis.connection();
    let time = now_ms(&redis);
    for n in 0..3000 {
        let group = format!("phantom-{n}");
        let text = message(("chat", &group), time, "create", "1");
        let _: () = other.publish(EVENTS, text).unwrap();
    }
    let long = "n".repeat(5000);
    for text in [
        message((&long, "g"), time, "create", "1"),
        message(("s", &long), time, "create", "1"),
        message(("a", "b:c"), time, "delete", "1"),
        r#"{"type":7,"timestamp":1,"streamName":"s","groupId":"g","id":"x","event":{"type":"create","data":1}}"#.to_owned(),
        r#"{"type":"stream","timestamp":1,"streamName":["s"],"groupId":"g","id":"x","event":{"type":"create","data":1}}"#.to_owned(),
    ] {
        let _: () = other.publish(EVENTS, text).unwrap();
    }
    let _: () = redis.ask(&["SET", "stream:w:text", "no hash"]);
    let _: () = redis.ask(&["HSET", "stream:real:g", "x", "1"]);
    for group in [("w", "text"), ("real", "g"), ROOM] {
        let text = message(group, time, "create", "1");
        let _: () = other.publish(EVENTS, text).unwrap();
    }
    assert_eq!(subscriber.next().told(), ("create", Some("x"), &json!(1)));
    assert_eq!(
        subscriber.next().told(),
        ("delete", Some("x"), &json!(1)),
        "which Redis does not hold"
    );
    let real = json!([{"groups": ["g"], "id": "real"}]);
    wait_until("only what is there is listed", || groups(&mut sdk) == real);
    // The same of one that starts now.
    let later = redis.server(WIDE);
    assert_eq!(groups(&mut SdkWorker::connect(&later)), real);
}

#[test]
fn times_that_nobody_can_mean_move_no_group() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "x", json!(0));
    let mut subscriber = follower(&server);
    let mut other = redis.connection();
    let hour_ahead = now_ms(&redis) + 2 * 3_600_000;
    let times = [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 53) + 1, hour_ahead];
    for (n, time) in times.into_iter().enumerate() {
        let text = message(ROOM, time, "update", &n.to_string());
        store_and_publish(&mut other, &n.to_string(), &text);
        let heard = subscriber.next();
        assert_eq!(heard.data, json!(n));
        assert!(heard.timestamp < now_ms(&redis) + 1000, "{time}");
    }
    for kept in [
        "18446744073709551615",
        "1e300",
        "inf",
        "nan",
        "-5",
        "no number",
    ] {
        let _: () = redis.ask(&["HSET", "iii-stream:times", KEY, kept]);
        sdk.set(ROOM, "x", json!(kept));
        let heard = subscriber.next();
        assert_eq!(heard.data, json!(kept));
        assert!(heard.timestamp < now_ms(&redis) + 1000, "{kept}");
        let joined = Subscriber::connect(&server).join_item("s", ROOM, "x");
        assert!(joined.timestamp < now_ms(&redis) + 1000, "{kept}");
    }
}

#[test]
fn a_value_that_others_store_in_another_form_is_told_once() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "x", json!({"a": 1}));
    let mut subscriber = follower(&server);
    let mut other = redis.connection();
    // As a script of the reference stores it, and as it publishes it.
    let stored = r#"{"b":[{"d":4,"c":3}],"a":1}"#;
    let told = r#"{"a":1.0,"b":[{"c":3,"d":4}]}"#;
    let text = message(ROOM, now_ms(&redis), "update", told);
    store_and_publish(&mut other, stored, &text);
    assert_eq!(subscriber.next().kind, "update");
    wait_until("it has been read again", || {
        let mut joined = Subscriber::connect(&server);
        joined.start_join("s", ROOM, None);
        joined.next_text().contains(stored)
    });
    subscriber.hears_only_the_marker(&mut sdk, ROOM);
}

#[test]
fn what_engines_ahead_of_the_clock_have_had_shown_is_never_shown_older_after_a_restart() {
    let redis = RedisServer::start();
    let first = redis.server(WIDE);
    let mut sdk = SdkWorker::connect(&first);
    sdk.set(ROOM, "ours", json!(0));
    let mut subscriber = follower(&first);
    let mut other = redis.connection();
    let ahead = now_ms(&redis) + 600_000;
    for n in 1..=20 {
        // Its messages come in another order than its clock has given them.
        let text = message(ROOM, ahead - n, "update", &n.to_string());
        store_and_publish(&mut other, &n.to_string(), &text);
    }
    let mut shown = 0;
    while shown < ahead + 10 {
        let heard = subscriber.next();
        assert!(heard.timestamp > shown, "it rises");
        shown = heard.timestamp;
    }
    sdk.set(ROOM, "ours", json!(1));
    loop {
        let heard = subscriber.next();
        assert!(heard.timestamp > shown, "it rises");
        shown = heard.timestamp;
        if heard.id.as_deref() == Some("ours") {
            break;
        }
    }
    wait_until("Redis has the group's time", || {
        let time: Option<u64> = redis.ask(&["HGET", "iii-stream:times", KEY]);
        time >= Some(shown)
    });
    // Another host shows nothing older meanwhile, nor does this one after a restart.
    let second = redis.server(WIDE);
    let of_second = Subscriber::connect(&second).join("s", ROOM);
    assert!(
        of_second.timestamp >= shown,
        "{} {shown}",
        of_second.timestamp
    );
    drop((subscriber, sdk, first));
    let third = redis.server(WIDE);
    let mut again = Subscriber::connect(&third);
    let synced = again.join("s", ROOM).timestamp;
    assert!(synced >= shown, "{synced} {shown}");
    SdkWorker::connect(&third).set(ROOM, "ours", json!(2));
    assert!(again.next().timestamp > synced);
}

#[test]
fn redis_is_told_of_times_ahead_of_it_once_at_a_time_and_of_none_that_nobody_can_mean() {
    let redis = RedisServer::start();
    let server = redis.server(WIDE);
    let mut subscriber = follower(&server);
    let mut other = redis.connection();
    let time_in_redis = || -> Option<u64> { redis.ask(&["HGET", "iii-stream:times", KEY]) };
    let scripts = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        let mut lines = stats.lines();
        let line = lines.find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = line.and_then(|line| line.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    let mut publish = |time: u64| {
        let _: () = other
            .publish(EVENTS, message(ROOM, time, "update", "1"))
            .unwrap();
    };
    let now = now_ms(&redis);
    for time in [now - 1000, now, now + 2 * 3_600_000, 1 << 53, u64::MAX] {
        publish(time);
        assert_eq!(subscriber.next().data, json!(1));
    }
    let before = (scripts(), Instant::now());
    const EVENTS_LEN: u64 = 2000;
    let ahead = now + 600_000;
    let mut pipeline = redis::pipe();
    for n in 0..EVENTS_LEN {
        let text = message(ROOM, ahead + n, "update", "1");
        pipeline.publish(EVENTS, text).ignore();
    }
    let _: () = pipeline.query(&mut redis.connection()).unwrap();
    for _ in 0..EVENTS_LEN {
        assert_eq!(subscriber.next().kind, "update");
    }
    wait_until("Redis has the group's time", || {
        time_in_redis() >= Some(ahead + EVENTS_LEN - 1)
    });
    assert!(time_in_redis() < Some(ahead + 2 * EVENTS_LEN));
    // What is due anyhow is asked for every now and then.
    let of_others = 3 + before.1.elapsed().as_millis() as u64 / 200;
    let told = scripts() - before.0;
    assert!(told < EVENTS_LEN / 4 + of_others, "{told} words");
}
