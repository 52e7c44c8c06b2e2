//! A Redis that goes away, stands still, loads or has forgotten its scripts: what callers are told, and that
//! every subscriber is brought up to date.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::Commands;
use rustix::process::Signal;
use serde_json::json;

use super::{KEY, ROOM, WIDE, follower, fresh_sync, hears, increment, set_until_it_works};
use crate::support::clients::{error_in, item_input, set_input};
use crate::support::redis::RedisServer;
use crate::support::{SdkWorker, Subscriber, THREE_WORKERS, TestServer, wait_until};

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

/// What stands between us and Redis and gives, for some of its answers, one of its own.
struct Between {
    port: u16,
    lies: Arc<AtomicBool>,
}

impl Between {
    fn start(redis: u16, lie: &'static [u8]) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lies = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&lies);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", redis)).unwrap();
                let (mut up, mut down) = (client.try_clone().unwrap(), client);
                let (mut to, mut from) = (server.try_clone().unwrap(), server);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let told = Arc::clone(&told);
                std::thread::spawn(move || {
                    let mut bytes = [0; 65536];
                    while let Ok(len @ 1..) = from.read(&mut bytes) {
                        let says = match told.load(Ordering::Relaxed) {
                            true => lie,
                            false => &bytes[..len],
                        };
                        if down.write_all(says).is_err() {
                            break;
                        }
                    }
                    let _ = down.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Between { port, lies }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// One answer too few or too many, and each that follows would be another's for good.
#[test]
fn answers_that_cannot_be_the_next_ones_are_an_outage_that_heals() {
    let redis = RedisServer::start();
    for lie in [
        &b"$-1\r\n"[..],
        b"*0\r\n",
        b":1\r\n:1\r\n",
        b"$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n",
    ] {
        let between = Between::start(redis.port(), lie);
        let store = iii_stream::config::RedisStore::at(&between.url()).unwrap();
        let server = TestServer::with(THREE_WORKERS, |config| {
            config.store = iii_stream::config::StoreConfig::Redis(store);
        });
        let mut sdk = SdkWorker::connect(&server);
        sdk.set(ROOM, "i", json!(1));
        between.lies.store(true, Ordering::Relaxed);
        let (_, cause) = sdk.error_of("stream::set", set_input(ROOM, "i", json!(2)));
        assert!(
            cause.contains("unknown whether the change was stored"),
            "{cause}"
        );
        between.lies.store(false, Ordering::Relaxed);
        set_until_it_works(&mut sdk, "i", json!(3));
        for n in 4..20 {
            sdk.set(ROOM, "i", json!(n));
            assert_eq!(sdk.get(ROOM, "i"), Some(json!(n)));
        }
    }
}
