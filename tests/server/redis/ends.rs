//! Items that end, with values in a real Redis: once for all hosts, whichever of them is alive, and beside
//! engines that know nothing of ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use iii_stream::config::Config;
use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::clients::{item_input, set_input};
use crate::support::process::{Directory, Process, config, outcome};
use crate::support::redis::RedisServer;
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, TestServer, wait_until};

const ROOM: (&str, &str) = ("typing", "room");
const KEY: &str = "stream:typing:room";
const SECOND: Duration = Duration::from_secs(1);

fn of_stream(ttl_ms: u64) -> impl Fn(&mut Config) {
    move |config| {
        config.streams = StreamRules::new(vec![StreamRule {
            streams: StreamPattern::read("typing").unwrap(),
            ttl: Ttl::of_ms(ttl_ms).unwrap(),
            members: None,
            pace: Pace::NONE,
        }]);
    }
}

fn lasting(group: (&str, &str), item: &str, data: Value, ttl_ms: u64) -> Value {
    let mut input = set_input(group, item, data);
    input["ttl_ms"] = json!(ttl_ms);
    input
}

fn follower(server: &TestServer, group: (&str, &str)) -> Subscriber {
    let mut subscriber = Subscriber::connect(server);
    subscriber.join("s", group);
    subscriber
}

fn hears_end(subscriber: &mut Subscriber, item: &str, value: &Value) {
    assert_eq!(subscriber.next().told(), ("delete", Some(item), value));
}

#[test]
fn an_item_ends_once_for_the_subscribers_and_triggers_of_two_hosts() {
    let redis = RedisServer::start();
    let hosts = [ONE_WORKER, THREE_WORKERS].map(|shape| redis.server(shape));
    let names = [
        ROOM,
        ("a:b", "c"),
        ("t/ü\"", "\",\"]"),
        ("tab\t", "line\n\u{1}\u{7f}\\"),
    ];
    let items = ["", "i", "ü/\"\\\n\u{1}\0\u{7f}", "12:x"];
    let mut watchers = hosts.each_ref().map(|host| {
        let mut watcher = SdkWorker::connect(host);
        watcher.register("watch");
        for (n, (stream, _)) in names.iter().enumerate() {
            let config = json!({"stream_name": stream});
            watcher.trigger(&format!("t{n}"), "stream", "watch", config);
        }
        watcher.settle();
        watcher
    });
    let mut sdks = hosts.each_ref().map(SdkWorker::connect);
    let mut fired = 0;
    for group in names {
        let mut followers = hosts.each_ref().map(|host| follower(host, group));
        let began = Instant::now();
        for (n, item) in items.iter().enumerate() {
            let value = json!({"n": n, "text": "ü\u{7f}/"});
            sdks[n % 2].call("stream::set", lasting(group, item, value, 300));
        }
        for subscriber in &mut followers {
            let heard: Vec<_> = (0..2 * items.len()).map(|_| subscriber.next()).collect();
            assert!(
                heard
                    .windows(2)
                    .all(|two| two[0].timestamp < two[1].timestamp)
            );
            let mut ended = HashMap::new();
            for heard in heard.iter().filter(|heard| heard.kind == "delete") {
                ended.insert(heard.id.clone().unwrap(), heard.data.clone());
            }
            for (n, item) in items.iter().enumerate() {
                assert_eq!(ended[*item], json!({"n": n, "text": "ü\u{7f}/"}));
            }
            subscriber.hears_only_the_marker(&mut sdks[0], group);
        }
        assert!(began.elapsed() >= Duration::from_millis(300));
        fired += 2 * items.len();
        assert_eq!(sdks[1].list(group), json!([]));
    }
    // Each create and each end fires on one of the hosts.
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let mut count = 0;
    for watcher in &mut watchers {
        sdks[0].set(("typing", "end"), "marker", json!(1));
        sdks[1].set(("typing", "end"), "marker", json!(1));
        loop {
            let call = watcher.next_call();
            let data = &call["data"];
            if data["groupId"] == json!("end") {
                break;
            }
            let kind = data["event"]["type"].as_str().unwrap().to_owned();
            if kind == "event" {
                continue; // a marker of the subscribers'
            }
            let of = format!("{} {} {}", data["streamName"], data["groupId"], data["id"]);
            *seen.entry((kind, of)).or_default() += 1;
            count += 1;
        }
    }
    assert_eq!(count, fired);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    sdks[0].delete(("typing", "end"), "marker");
    redis.is_empty_soon();
}

#[test]
fn any_write_renews_an_item_for_as_long_as_it_was_told_last_and_zero_lets_it_stay() {
    let redis = RedisServer::start();
    let hosts = [of_stream(900), of_stream(900)].map(|of| redis.server_with(ONE_WORKER, of));
    let mut sdks = hosts.each_ref().map(SdkWorker::connect);
    let mut subscriber = follower(&hosts[0], ROOM);
    let began = Instant::now();
    sdks[0].set(ROOM, "its stream's", json!(1));
    sdks[0].call("stream::set", lasting(ROOM, "own", json!(1), 2500));
    sdks[0].call("stream::set", lasting(ROOM, "stays", json!(1), 0));
    let other = ("chat", "room");
    sdks[0].call("stream::set", lasting(other, "own", json!(1), 400));
    sdks[1].call("stream::set", lasting(other, "own", json!(2), 0));
    assert_eq!(redis.ask::<u32>(&["ZCARD", "iii-stream:ends"]), 2);
    // The other host, a set and an update.
    let mut update = item_input(ROOM, "own");
    update["ops"] = json!([{"type": "set", "path": "", "value": 2}]);
    sdks[1].call("stream::update", update);
    sdks[1].set(ROOM, "stays", json!(2));
    for _ in 0..5 {
        subscriber.next();
    }
    hears_end(&mut subscriber, "its stream's", &json!(1));
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!(began.elapsed() < Duration::from_millis(900) + SECOND);
    let renewed = Instant::now();
    sdks[1].set(ROOM, "own", json!(3));
    assert_eq!(subscriber.next().kind, "update");
    hears_end(&mut subscriber, "own", &json!(3));
    assert!(renewed.elapsed() >= Duration::from_millis(2500));
    assert!(renewed.elapsed() < Duration::from_millis(2500) + SECOND);
    // What is made anew has forgotten how long it lasted before, and what is deleted ends no more.
    let again = Instant::now();
    sdks[0].set(ROOM, "own", json!(4));
    assert_eq!(subscriber.next().kind, "create");
    hears_end(&mut subscriber, "own", &json!(4));
    assert!(again.elapsed() < Duration::from_millis(900) + SECOND);
    sdks[0].call("stream::set", lasting(ROOM, "deleted", json!(1), 300));
    sdks[1].delete(ROOM, "deleted");
    assert_eq!(subscriber.next().kind, "create");
    hears_end(&mut subscriber, "deleted", &json!(1));
    assert_eq!(sdks[0].list(ROOM), json!([2]));
    assert_eq!(sdks[0].list(other), json!([2]));
    assert_eq!(redis.ask::<u32>(&["ZCARD", "iii-stream:ends"]), 0);
    let kept: HashMap<String, String> = redis.ask(&["HGETALL", "iii-stream:ttls"]);
    assert_eq!(kept.values().collect::<Vec<_>>(), ["0"], "{kept:?}");
}

#[test]
fn thousands_that_are_due_at_once_end_within_a_second_each_once() {
    let redis = RedisServer::start();
    let hosts = [(); 2].map(|()| redis.server(ONE_WORKER));
    let mut sdk = SdkWorker::connect(&hosts[0]);
    let mut subscribers = hosts.each_ref().map(|host| follower(host, ROOM));
    for n in 0..3000 {
        sdk.void(
            "stream::set",
            lasting(ROOM, &n.to_string(), json!(n), 60_000),
        );
    }
    assert_eq!(sdk.get(ROOM, "2999"), Some(json!(2999)));
    for subscriber in &mut subscribers {
        (0..3000).for_each(|_| drop(subscriber.next()));
    }
    // All of them are due now.
    let names: Vec<String> = redis.ask(&["ZRANGE", "iii-stream:ends", "0", "-1"]);
    assert_eq!(names.len(), 3000);
    let mut pipeline = redis::pipe();
    for name in names {
        pipeline.zadd("iii-stream:ends", name, 1).ignore();
    }
    let _: () = pipeline.atomic().query(&mut redis.connection()).unwrap();
    for subscriber in &mut subscribers {
        let mut seen = vec![false; 3000];
        for _ in 0..3000 {
            let heard = subscriber.next();
            assert_eq!(heard.kind, "delete");
            let n = heard.data.as_u64().unwrap() as usize;
            assert!(!std::mem::replace(&mut seen[n], true), "{n} twice");
        }
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    }
    redis.is_empty_soon();
}

fn start(name: &str, redis: &RedisServer) -> Process {
    let adapter = format!(
        "adapter: {{name: redis, config: {{redis_url: '{}'}}}}",
        redis.url()
    );
    let directory = Directory::new(name).with_file(&config(&adapter, "threads: 1, drain_ms: 50"));
    let mut host = Process::start(directory.command(&[]));
    host.directory = Some(directory);
    host
}

#[test]
fn items_end_whichever_host_is_alive_and_after_restarts_of_hosts_and_of_redis() {
    let mut redis = RedisServer::start();
    let first = start("first", &redis);
    let second = start("second", &redis);
    let mut subscriber = second.subscriber();
    subscriber.join("s", ROOM);
    let mut sdk = first.sdk();
    sdk.call("stream::set", lasting(ROOM, "killed", json!(1), 1000));
    assert_eq!(subscriber.next().kind, "create");
    first.kill();
    let killed = Instant::now();
    hears_end(&mut subscriber, "killed", &json!(1));
    assert!(killed.elapsed() < 2 * SECOND);

    // One stands still, and wakes up when all is over.
    let third = start("third", &redis);
    let mut still = third.subscriber();
    still.join("s", ROOM);
    third.signal(Signal::STOP);
    let mut sdk = second.sdk();
    sdk.call("stream::set", lasting(ROOM, "still", json!(2), 500));
    assert_eq!(subscriber.next().kind, "create");
    hears_end(&mut subscriber, "still", &json!(2));
    third.signal(Signal::CONT);
    assert_eq!(still.next().kind, "create");
    hears_end(&mut still, "still", &json!(2));

    // Nobody is there when it is due, nor is Redis.
    sdk.call("stream::set", lasting(ROOM, "alone", json!(3), 1500));
    sdk.call("stream::set", lasting(ROOM, "stays", json!(4), 600_000));
    second.kill();
    third.kill();
    redis.kill();
    std::thread::sleep(Duration::from_millis(1500));
    redis.restart();
    let again = start("again", &redis);
    let mut sdk = again.sdk();
    wait_until("what was due is gone", || sdk.get(ROOM, "alone").is_none());
    assert_eq!(sdk.list(ROOM), json!([4]));

    // An outage below a host that lives.
    let mut subscriber = again.subscriber();
    subscriber.join("s", ROOM);
    sdk.call("stream::set", lasting(ROOM, "outage", json!(5), 800));
    redis.kill();
    std::thread::sleep(Duration::from_millis(800));
    redis.restart();
    wait_until("it is gone as well", || {
        let got = sdk.call("stream::get", item_input(ROOM, "outage"));
        got["error"].is_null() && got["result"].is_null()
    });
    assert_eq!(sdk.list(ROOM), json!([4]));
}

/// As an engine does it that knows nothing of ends.
fn write_as_an_engine(redis: &RedisServer, item: &str, value: u64) {
    let mut engine = redis.connection();
    let _: () = engine.hset(KEY, item, value).unwrap();
    let message = format!(
        r#"{{"type":"stream","timestamp":{value},"streamName":"typing","groupId":"room","id":"{item}","event":{{"type":"update","data":{value}}}}}"#
    );
    let _: () = engine.publish("stream::events", message).unwrap();
}

fn end_of(redis: &RedisServer, item: &str) -> Option<f64> {
    let name = format!(r#"17:["typing","room"]{item}"#);
    redis.ask(&["ZSCORE", "iii-stream:ends", &name])
}

#[test]
fn what_an_engine_writes_lasts_as_what_is_written_here() {
    let redis = RedisServer::start();
    let plain = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&plain);
    sdk.call("stream::set", lasting(ROOM, "own", json!(1), 60_000));
    let first = end_of(&redis, "own").unwrap();
    write_as_an_engine(&redis, "own", 2);
    wait_until("it is renewed", || end_of(&redis, "own").unwrap() > first);
    // Of a stream whose items stay it gives no end to what has none.
    write_as_an_engine(&redis, "new", 3);
    write_as_an_engine(&redis, "own", 4);
    let second = end_of(&redis, "own").unwrap();
    wait_until("it is renewed", || end_of(&redis, "own").unwrap() > second);
    assert_eq!(end_of(&redis, "new"), None);
    // Where its stream's items end, an engine's do.
    let ending = redis.server_with(ONE_WORKER, of_stream(700));
    let mut subscriber = follower(&ending, ROOM);
    write_as_an_engine(&redis, "new", 5);
    assert_eq!(subscriber.next().data, json!(5));
    hears_end(&mut subscriber, "new", &json!(5));
    // What it has removed leaves nothing behind.
    let mut engine = redis.connection();
    let _: () = engine.hdel(KEY, "own").unwrap();
    let message = r#"{"type":"stream","timestamp":1,"streamName":"typing","groupId":"room","id":"own","event":{"type":"delete","data":4}}"#;
    let _: () = engine.publish("stream::events", message).unwrap();
    redis.is_empty_soon();
}

#[test]
fn a_full_redis_refuses_an_end_before_anything_is_changed_and_deletes_what_is_due() {
    let redis = RedisServer::start();
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    sdk.call("stream::set", lasting(ROOM, "due", json!(1), 600));
    let mut subscriber = follower(&server, ROOM);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    for (item, ttl) in [("i", 200), ("new", 200), ("due", 60_000)] {
        let input = lasting(ROOM, item, json!(2), ttl);
        let (_, message) = sdk.error_of("stream::set", input);
        assert!(message.contains("OOM"), "{message}");
    }
    hears_end(&mut subscriber, "due", &json!(1));
    assert_eq!(sdk.list(ROOM), json!([1]));
    assert_eq!(redis.ask::<u32>(&["EXISTS", "iii-stream:ends"]), 0);
    assert_eq!(redis.ask::<u32>(&["EXISTS", "iii-stream:ttls"]), 0);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    subscriber.hears_only_the_marker(&mut sdk, ROOM);
}

#[test]
fn what_stands_in_the_place_of_ends_refuses_changes_and_a_value_of_another_program_stays() {
    let redis = RedisServer::start();
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let _: () = redis.ask(&["SET", "iii-stream:ends", "x"]);
    let (_, message) = sdk.error_of("stream::set", lasting(ROOM, "i", json!(1), 300));
    assert!(message.contains("WRONGTYPE"), "{message}");
    assert_eq!(sdk.list(ROOM), json!([]));
    let _: () = redis.ask(&["DEL", "iii-stream:ends"]);
    for (item, value) in [("i", "no json"), ("j", "2")] {
        sdk.call("stream::set", lasting(ROOM, item, json!(1), 300));
        let _: () = redis.ask(&["HSET", KEY, item, value]);
    }
    // A group that is no hash any more keeps no other from ending.
    let odd = ("typing", "odd");
    sdk.call("stream::set", lasting(odd, "i", json!(1), 300));
    let _: () = redis.ask(&["SET", "stream:typing:odd", "x"]);
    wait_until("what has an end is gone", || {
        let items: Vec<String> = redis.ask(&["HKEYS", KEY]);
        items == ["i"]
    });
    assert_eq!(redis.ask::<u32>(&["ZCARD", "iii-stream:ends"]), 1);
    // A flush takes the ends with it.
    sdk.call("stream::set", lasting(ROOM, "j", json!(1), 300));
    let _: () = redis.ask(&["FLUSHALL"]);
    sdk.set(ROOM, "j", json!(2));
    let mut subscriber = follower(&server, ROOM);
    sdk.call("stream::set", lasting(ROOM, "k", json!(1), 500));
    assert_eq!(subscriber.next().kind, "create");
    hears_end(&mut subscriber, "k", &json!(1));
    assert_eq!(sdk.list(ROOM), json!([2]));
}

#[test]
fn a_user_without_the_rights_for_ends_is_named_and_changes_nothing_in_part() {
    let redis = RedisServer::start();
    let url = redis.url_of_user(&["-zadd", "-zscore"]);
    let adapter = format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}");
    // Where the settings say that items end, it is needed.
    let file = config(
        &adapter,
        "threads: 1, streams: [{stream: typing, ttl_ms: 1s}]",
    );
    let directory = Directory::new("no-ends").with_file(&file);
    let (code, line) = outcome(directory.command(&[]).output().unwrap());
    assert_eq!(code, Some(1), "{line}");
    assert!(
        line.contains("may not ZADD iii-stream:ends, ZSCORE iii-stream:ends"),
        "{line}"
    );
    // Where they do not, all else goes on.
    let directory = Directory::new("some-ends").with_file(&config(&adapter, "threads: 1"));
    let host = Process::start(directory.command(&[]));
    let mut sdk = host.sdk();
    sdk.set(ROOM, "i", json!(1));
    let mut subscriber = host.subscriber();
    subscriber.join("s", ROOM);
    for item in ["i", "new"] {
        let input = lasting(ROOM, item, json!(2), 300);
        let (_, message) = sdk.error_of("stream::set", input);
        assert!(
            message.contains("ermission") || message.contains("can't"),
            "{message}"
        );
    }
    subscriber.hears_only_the_marker(&mut sdk, ROOM);
    assert_eq!(sdk.list(ROOM), json!([1]));
    assert_eq!(redis.ask::<u32>(&["EXISTS", "iii-stream:ttls"]), 0);
}
