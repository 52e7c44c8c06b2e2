//! Items that end when nobody has written them for so long: by stream, by call, and over a restart.

use std::time::{Duration, Instant};

use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use serde_json::{Value, json};

use crate::support::clients::{error_in, set_input};
use crate::support::process::{Directory, Process, config};
use crate::support::{Heard, SdkWorker, Subscriber, TestServer, on_each_shape};

const ROOM: (&str, &str) = ("typing", "room");

fn rules(stream: &str, ttl_ms: u64) -> StreamRules {
    StreamRules::new(vec![StreamRule {
        streams: StreamPattern::read(stream).unwrap(),
        ttl: Ttl::of_ms(ttl_ms).unwrap(),
        members: None,
        pace: Pace::NONE,
    }])
}

fn lasting(item: &str, data: Value, ttl_ms: u64) -> Value {
    let mut input = set_input(ROOM, item, data);
    input["ttl_ms"] = json!(ttl_ms);
    input
}

fn of(heard: &Heard) -> (&str, &str) {
    (&heard.kind, heard.id.as_deref().unwrap_or_default())
}

#[test]
fn an_item_ends_with_a_delete_of_its_last_value_unless_it_is_written_again() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.streams = rules("typing", 700));
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("s", ROOM);
        let began = Instant::now();
        sdk.set(ROOM, "short", json!({"n": 1}));
        sdk.call("stream::set", lasting("long", json!(2), 1500));
        sdk.call("stream::set", lasting("stays", json!(3), 0));
        for n in 0..3 {
            assert_eq!(of(&subscriber.next()).0, "create", "{n}");
        }
        let first = subscriber.next();
        assert_eq!(first.told(), ("delete", Some("short"), &json!({"n": 1})));
        assert!(began.elapsed() >= Duration::from_millis(700));
        let second = subscriber.next();
        assert_eq!(second.told(), ("delete", Some("long"), &json!(2)));
        assert!(began.elapsed() >= Duration::from_millis(1500));
        assert!(second.timestamp > first.timestamp);
        assert_eq!(sdk.list(ROOM), json!([3]));
        // It is as if it had never been: the next write creates it.
        sdk.set(ROOM, "short", json!(4));
        assert_eq!(of(&subscriber.next()), ("create", "short"));
    });
}

#[test]
fn triggers_hear_of_an_end_as_of_any_delete_and_a_wrong_time_is_refused() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut watcher = SdkWorker::connect(&server);
        watcher.register("watch");
        watcher.trigger("t", "stream", "watch", json!({"stream_name": ROOM.0}));
        sdk.call("stream::set", lasting("i", json!(1), 300));
        let kinds: Vec<Value> = (0..2)
            .map(|_| watcher.next_call()["data"]["event"]["type"].clone())
            .collect();
        assert_eq!(kinds, [json!("create"), json!("delete")]);
        let mut wrong = set_input(ROOM, "i", json!(1));
        wrong["ttl_ms"] = json!("soon");
        let (_, error) = error_in(&sdk.call("stream::set", wrong));
        assert!(error.contains("ttl_ms"), "{error}");
    });
}

/// What stands under `config` and under `server`.
fn home(test: &str, streams: &str) -> Directory {
    let adapter = "adapter: {name: kv, config: {store_method: file_based, file_path: ./store}}";
    let server = format!("threads: 2, drain_ms: 50, streams: [{streams}]");
    Directory::new(test).with_file(&config(adapter, &server))
}

#[test]
fn after_a_kill_and_a_stop_items_end_when_they_would_have_ended() {
    let home = home("ends", "{stream: typing, ttl_ms: 3s}");
    let process = Process::start(home.command(&[]));
    let mut sdk = process.sdk();
    sdk.call("stream::set", lasting("own", json!(1), 5000));
    sdk.call("stream::set", lasting("stays", json!(2), 0));
    sdk.set(ROOM, "its stream's", json!(3));
    let written = Instant::now();
    process.kill();
    let process = Process::start(home.command(&[]));
    process.stop();
    let process = Process::start(home.command(&[]));
    let mut subscriber = process.subscriber();
    let sync = subscriber.join("s", ROOM);
    assert_eq!(sync.data.as_array().map(Vec::len), Some(3), "{sync:?}");
    for (item, ms) in [("its stream's", 3000), ("own", 5000)] {
        let heard = subscriber.next();
        assert_eq!(of(&heard), ("delete", item));
        let took = written.elapsed();
        assert!(took >= Duration::from_millis(ms - 50), "{item}: {took:?}");
    }
    assert_eq!(process.sdk().list(ROOM), json!([2]));
}
