//! Members that several hosts keep on one Redis: persons with sockets at any of them, and a Redis that dies,
//! is flushed or full.
//!
//! That nothing is heard of somebody is shown by a marker, or by somebody else whose end is heard. Hosts that
//! die, stand still and come again are in `hosts`.

mod hosts;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use iii_stream::config::{Config, RedisStore, StoreConfig};
use iii_stream::protocol::members::{IdPath, Keys};
use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use serde_json::{Value, json};

use crate::support::clients::{item_input, set_input};
use crate::support::redis::RedisServer;
use crate::support::{
    ONE_WORKER, SdkWorker, Shape, Subscriber, THREE_WORKERS, TestServer, wait_until,
};

const ROOM: (&str, &str) = ("presence", "room");

const GRACE: Duration = Duration::from_millis(600);

const LEASE: Duration = Duration::from_millis(2500);

/// How long a host waits for those whom it finds, in ms: longer than attempts to connect are apart.
const RESTART_GRACE_MS: u64 = 9000;

fn rules() -> StreamRules {
    StreamRules::new(vec![StreamRule {
        streams: StreamPattern::read("presence").unwrap(),
        ttl: Ttl::of_ms(300).unwrap(), // no member ends by it
        pace: Pace::NONE,
        members: Some(MembersRule {
            id: IdPath::read("query.user").unwrap(),
            data: Keys::read("user"),
            grace_ms: GRACE.as_millis() as u64,
            restart_grace_ms: RESTART_GRACE_MS,
        }),
    }])
}

fn host(redis: &RedisServer, shape: Shape) -> TestServer {
    host_with(redis, shape, LEASE)
}

fn host_with(redis: &RedisServer, shape: Shape, lease: Duration) -> TestServer {
    let mut store = RedisStore::at(&redis.url()).unwrap();
    store.lease = lease;
    TestServer::with(shape, |config: &mut Config| {
        config.streams = rules();
        config.store = StoreConfig::Redis(store);
    })
}

fn tab(host: &TestServer, user: &str) -> Subscriber {
    let mut tab = Subscriber::at(host, &format!("/?user={user}"));
    tab.join("s", ROOM);
    tab
}

fn watcher(host: &TestServer) -> Subscriber {
    let mut watcher = Subscriber::connect(host);
    watcher.join("w", ROOM);
    watcher
}

fn there(user: &str, connections: usize) -> Value {
    json!({"id": user, "connections": connections})
}

type Told = (String, Option<String>, Value);

fn told(kind: &str, user: &str, connections: usize) -> Told {
    let id = Some(user.to_owned());
    (kind.to_owned(), id, there(user, connections))
}

fn all_hear(watchers: &mut [Subscriber], expected: &Told) {
    for watcher in watchers {
        assert_eq!(watcher.take(1).first(), Some(expected));
    }
}

/// Redis knows that nobody has a socket of that person; the grace has begun.
fn nobody_keeps(redis: &RedisServer, user: &str) {
    wait_until("nobody keeps the person", || {
        let members = "iii-stream:members:stream:presence:room";
        let record: Option<String> = redis.ask(&["HGET", members, user]);
        record.is_none_or(|record| !record.lines().next().unwrap().contains('='))
    });
}

/// What comes next from a host that had lost Redis: that this person has left and nobody else, by a `delete`
/// or by the fresh `sync`, whichever the host comes back in time for.
fn hears_of_the_leave(watcher: &mut Subscriber, user: &str, stay: [&str; 2]) {
    let after = stay.map(|user| there(user, 1));
    let before = [&after[..], &[there(user, 1)]].concat();
    loop {
        let heard = watcher.next();
        if heard.kind != "sync" {
            let left = there(user, 1);
            return assert_eq!(heard.told(), ("delete", Some(user), &left));
        }
        let mut shown = heard.data.as_array().unwrap().clone();
        shown.sort_by_key(|member| member["id"].as_str().unwrap().to_owned());
        if shown == after {
            return;
        }
        assert_eq!(shown, before);
    }
}

/// With one socket each, at a host each.
fn ann_and_bob(hosts: &[TestServer; 2], watchers: &mut [Subscriber]) -> [Subscriber; 2] {
    let ann = tab(&hosts[0], "ann");
    all_hear(watchers, &told("create", "ann", 1));
    let bob = tab(&hosts[1], "bob");
    all_hear(watchers, &told("create", "bob", 1));
    [ann, bob]
}

#[test]
fn a_person_is_one_member_at_all_hosts_and_goes_after_the_last_socket_anywhere() {
    let redis = RedisServer::start();
    let hosts = [ONE_WORKER, THREE_WORKERS].map(|shape| host(&redis, shape));
    let mut sdks = hosts.each_ref().map(SdkWorker::connect);
    let mut watchers = hosts.each_ref().map(watcher);
    let mut triggered = hosts.each_ref().map(|host| {
        let mut sdk = SdkWorker::connect(host);
        sdk.register("watch");
        sdk.trigger("t", "stream", "watch", json!({"stream_name": ROOM.0}));
        sdk.settle();
        sdk
    });
    let first = tab(&hosts[0], "ann");
    all_hear(&mut watchers, &told("create", "ann", 1));
    let second = tab(&hosts[1], "ann");
    all_hear(&mut watchers, &told("update", "ann", 2));
    let third = tab(&hosts[1], "ann");
    all_hear(&mut watchers, &told("update", "ann", 3));
    second.close();
    all_hear(&mut watchers, &told("update", "ann", 2));
    first.reset();
    all_hear(&mut watchers, &told("update", "ann", 1));
    // It goes from one host to the other, and nobody hears of it.
    third.close();
    nobody_keeps(&redis, "ann");
    let back = tab(&hosts[0], "ann");
    let bob = tab(&hosts[1], "bob");
    all_hear(&mut watchers, &told("create", "bob", 1));
    // What workers write of it, the grace does not lose, nor does a write renew it.
    let mut update = item_input(ROOM, "ann");
    update["ops"] = json!([{"type": "set", "path": "status", "value": "away"}]);
    sdks[1].call("stream::update", update);
    let away = json!({"id": "ann", "connections": 1, "status": "away"});
    for watcher in &mut watchers {
        assert_eq!(watcher.next().told(), ("update", Some("ann"), &away));
    }
    let left = Instant::now();
    back.reset();
    bob.reset();
    for watcher in &mut watchers {
        let mut gone = [watcher.next(), watcher.next()];
        gone.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(gone[0].told(), ("delete", Some("ann"), &away));
        assert_eq!(gone[1].told(), ("delete", Some("bob"), &there("bob", 1)));
    }
    assert!(left.elapsed() >= GRACE, "{:?}", left.elapsed());
    assert!(left.elapsed() < GRACE + Duration::from_secs(2));
    for watcher in &mut watchers {
        watcher.hears_only_the_marker(&mut sdks[0], ROOM);
    }
    // Each of the nine changes has fired at one host.
    let mut fired = 0;
    for (triggered, sdk) in triggered.iter_mut().zip(&mut sdks) {
        sdk.set(("presence", "end"), "marker", json!(1));
        loop {
            let call = triggered.next_call();
            if call["data"]["groupId"] == json!("end") {
                break;
            }
            fired += u32::from(call["data"]["event"]["type"] != json!("event"));
        }
    }
    assert_eq!(fired, 9);
    let members: Vec<String> = redis.ask(&["KEYS", "iii-stream:members:*"]);
    assert!(members.is_empty(), "{members:?}");
    let kept: Vec<String> = redis.ask(&["KEYS", "iii-stream:run:*"]);
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn whom_a_worker_deletes_is_away_until_the_next_join_anywhere() {
    let redis = RedisServer::start();
    let hosts = [(); 2].map(|()| host(&redis, ONE_WORKER));
    let mut sdk = SdkWorker::connect(&hosts[0]);
    let mut watchers = hosts.each_ref().map(watcher);
    let first = tab(&hosts[0], "ann");
    all_hear(&mut watchers, &told("create", "ann", 1));
    sdk.delete(ROOM, "ann");
    all_hear(&mut watchers, &told("delete", "ann", 1));
    let second = tab(&hosts[1], "ann");
    all_hear(&mut watchers, &told("create", "ann", 2));
    sdk.delete(ROOM, "ann");
    all_hear(&mut watchers, &told("delete", "ann", 2));
    first.close();
    second.close();
    let bob = tab(&hosts[1], "bob");
    all_hear(&mut watchers, &told("create", "bob", 1));
    bob.close();
    all_hear(&mut watchers, &told("delete", "bob", 1));
    wait_until("nothing is kept", || {
        let members: Vec<String> = redis.ask(&["KEYS", "iii-stream:members:*"]);
        members.is_empty()
    });
    // An item that was there before its person becomes the person's, and does not end.
    let mut input = set_input(ROOM, "cy", json!({"note": 1}));
    input["ttl_ms"] = json!(2000);
    sdk.call("stream::set", input);
    let cy = tab(&hosts[0], "cy");
    for watcher in &mut watchers {
        assert_eq!(watcher.next().kind, "create");
        let is = json!({"note": 1, "id": "cy", "connections": 1});
        assert_eq!(watcher.next().told(), ("update", Some("cy"), &is));
    }
    std::thread::sleep(Duration::from_millis(2600));
    for watcher in &mut watchers {
        watcher.hears_only_the_marker(&mut sdk, ROOM);
    }
    drop(cy);
}

#[test]
fn an_outage_of_redis_is_nobodys_leave_however_long_and_a_flush_brings_all_back() {
    let mut redis = RedisServer::start();
    let hosts = [(); 2].map(|()| host(&redis, ONE_WORKER));
    let mut watchers = hosts.each_ref().map(watcher);
    let _stay = ann_and_bob(&hosts, &mut watchers);
    let gone = tab(&hosts[1], "gone");
    all_hear(&mut watchers, &told("create", "gone", 1));
    redis.kill();
    gone.close();
    std::thread::sleep(2 * LEASE);
    redis.restart();
    for watcher in &mut watchers {
        hears_of_the_leave(watcher, "gone", ["ann", "bob"]);
    }
    let mut sdk = SdkWorker::connect(&hosts[0]);
    std::thread::sleep(Duration::from_millis(RESTART_GRACE_MS));
    for watcher in &mut watchers {
        watcher.hears_only_the_marker(&mut sdk, ROOM);
    }
    let _: () = redis.ask(&["FLUSHALL"]);
    wait_until("all are there again", || {
        sdk.list(ROOM).as_array().unwrap().len() == 2
    });
    std::thread::sleep(Duration::from_millis(1500)); // groups that were flushed are read again
    sdk.send_event(ROOM, None, "end", json!(null));
    for watcher in &mut watchers {
        let mut is_there = BTreeSet::from(["ann".to_owned(), "bob".to_owned()]);
        loop {
            let heard = watcher.next();
            match (heard.kind.as_str(), heard.id) {
                ("event", _) if heard.data["type"] == json!("end") => break,
                ("event", _) => {} // a marker of the other's
                ("delete", Some(id)) => assert!(is_there.remove(&id), "{id} goes twice"),
                (_, Some(id)) => {
                    is_there.insert(id);
                }
                (kind, None) => unreachable!("{kind}"),
            }
        }
        assert_eq!(is_there.len(), 2);
    }
}

#[test]
fn a_full_redis_ends_nobody_and_lets_go_who_leaves() {
    let redis = RedisServer::start();
    let hosts = [(); 2].map(|()| host(&redis, ONE_WORKER));
    let mut watchers = hosts.each_ref().map(watcher);
    let [_ann, bob] = ann_and_bob(&hosts, &mut watchers);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let _late = tab(&hosts[1], "late");
    bob.close();
    all_hear(&mut watchers, &told("delete", "bob", 1));
    std::thread::sleep(2 * LEASE);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    all_hear(&mut watchers, &told("create", "late", 1));
    std::thread::sleep(Duration::from_millis(RESTART_GRACE_MS));
    let mut sdk = SdkWorker::connect(&hosts[0]);
    for watcher in &mut watchers {
        watcher.hears_only_the_marker(&mut sdk, ROOM);
    }
}
