//! A Redis that is there and refuses: full, read-only, without a right or with something else in the place
//! of our hashes. Nothing is heard that was not stored; what it drops by itself is gone at the next change.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{KEY, ROOM, WIDE, follower, fresh_sync, hash, increment, set_until_it_works};
use crate::support::clients::{item_input, set_input};
use crate::support::redis::RedisServer;
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, wait_until};

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
    let url = redis.url_of_user(&[]);
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
    redis.url_of_user(&[]); // it may all again
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
