//! Members that several hosts keep on one Redis: persons with sockets at any of them, hosts that die, stand
//! still and come again, and a Redis that does.
//!
//! That nothing is heard of somebody is shown by a marker, or by somebody else whose end is heard.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iii_stream::config::{Config, RedisStore, StoreConfig};
use iii_stream::id::{GroupKey, WorkerId};
use iii_stream::mesh::{
    self, Owners, Shared, SocketRoom, ToStore, ToWorker, Wake, WorkerPorts, store_thread,
};
use iii_stream::net;
use iii_stream::protocol::members::{IdPath, Keys};
use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use iii_stream::shard::{Learned, Question, Request, RequestKind, ValueLimits};
use iii_stream::store::{self, redis::Redis};
use mio::Poll;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::clients::{item_input, open, set_input};
use crate::support::process::{Directory, Process, outcome};
use crate::support::redis::{RedisServer, free_port};
use crate::support::{
    ONE_WORKER, SdkWorker, Shape, Subscriber, THREE_WORKERS, TestServer, raw, wait_until,
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

/// A home of a process on that Redis, always at the same port.
fn home(name: &str, redis: &RedisServer, drain: &str) -> Directory {
    let adapter = format!(
        "adapter: {{name: redis, config: {{redis_url: '{}'}}}}",
        redis.url()
    );
    let members = format!(
        "{{id: query.user, grace_ms: {}, restart_grace_ms: {RESTART_GRACE_MS}}}",
        GRACE.as_millis()
    );
    let server = format!(
        "threads: 2, drain_ms: {drain}, redis: {{lease_ms: {}}}, \
         streams: [{{stream: presence, members: {members}}}]",
        LEASE.as_millis()
    );
    Directory::new(name).with_file(&on_port(free_port(), &adapter, &server))
}

fn on_port(port: u16, adapter: &str, server: &str) -> String {
    format!(
        "workers:\n  - name: iii-stream\n    config: {{host: 127.0.0.1, port: {port}, {adapter}}}\n    server: {{admin: off, {server}}}\n  - name: iii-worker-manager\n    config: {{host: 127.0.0.1, port: 0}}\n"
    )
}

fn tab_of(process: &Process, user: &str) -> Subscriber {
    let stream = raw::connect(process.stream);
    let mut tab = Subscriber::of(open(stream, process.stream, &format!("/?user={user}")));
    tab.join("s", ROOM);
    tab
}

fn watcher_of(process: &Process) -> Subscriber {
    let mut watcher = process.subscriber();
    watcher.join("w", ROOM);
    watcher
}

const WITH_SCORES: [&str; 5] = ["ZRANGE", "iii-stream:runs", "0", "-1", "WITHSCORES"];

/// Every host has renewed its lease since all of them look.
fn all_are_seen(redis: &RedisServer, hosts: usize) {
    let leases = || -> HashMap<String, f64> { redis.ask(&WITH_SCORES) };
    wait_until("all have a lease", || leases().len() == hosts);
    let first = leases();
    wait_until("all have renewed it", || {
        let now = leases();
        first.iter().all(|(run, lease)| now[run] > *lease)
    });
    std::thread::sleep(LEASE / 3);
}

#[test]
fn members_of_a_host_that_is_killed_go_once_and_no_others() {
    let redis = RedisServer::start();
    let (home_1, home_2, home_3) = (
        home("killed", &redis, "50"),
        home("lives", &redis, "50"),
        home("too", &redis, "50"),
    );
    let killed = Process::start(home_1.command(&[]));
    let lives = Process::start(home_2.command(&[]));
    let too = Process::start(home_3.command(&[]));
    let mut watchers = [watcher_of(&lives), watcher_of(&too)];
    let mut tabs = Vec::new();
    for (host, user) in [(&killed, "ann"), (&killed, "bob"), (&lives, "cy")] {
        tabs.push(tab_of(host, user));
        all_hear(&mut watchers, &told("create", user, 1));
    }
    tabs.push(tab_of(&lives, "bob"));
    all_hear(&mut watchers, &told("update", "bob", 2));
    all_are_seen(&redis, 3);
    let began = Instant::now();
    killed.kill();
    for watcher in &mut watchers {
        let mut heard = watcher.take(2);
        heard.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(heard, [told("delete", "ann", 1), told("update", "bob", 1)]);
    }
    let took = began.elapsed();
    assert!(took < LEASE + Duration::from_secs(2), "{took:?}");
    let mut sdk = lives.sdk();
    for watcher in &mut watchers {
        watcher.hears_only_the_marker(&mut sdk, ROOM);
    }
    wait_until("nothing is kept of it", || {
        redis.ask::<usize>(&["ZCARD", "iii-stream:runs"]) == 2
    });
    assert_eq!(sdk.list(ROOM).as_array().unwrap().len(), 2);
    drop(tabs);
}

#[test]
fn a_host_that_stood_still_deletes_nobody_and_its_people_are_there_again() {
    let redis = RedisServer::start();
    let (home_1, home_2) = (home("still", &redis, "50"), home("goes-on", &redis, "50"));
    let still = Process::start(home_1.command(&[]));
    let lives = Process::start(home_2.command(&[]));
    let mut watcher = watcher_of(&lives);
    let ann = tab_of(&still, "ann");
    assert_eq!(watcher.take(1), [told("create", "ann", 1)]);
    let _bob = tab_of(&lives, "bob");
    assert_eq!(watcher.take(1), [told("create", "bob", 1)]);
    let _ann_too = tab_of(&still, "bob");
    assert_eq!(watcher.take(1), [told("update", "bob", 2)]);
    all_are_seen(&redis, 2);
    // Shorter than its lease: nobody hears of it.
    still.signal(Signal::STOP);
    std::thread::sleep(LEASE / 3);
    still.signal(Signal::CONT);
    all_are_seen(&redis, 2);
    watcher.hears_only_the_marker(&mut lives.sdk(), ROOM);
    still.signal(Signal::STOP);
    let mut heard = watcher.take(2);
    heard.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(heard, [told("delete", "ann", 1), told("update", "bob", 1)]);
    // Somebody comes anew to the other host meanwhile.
    let _ann_there = tab_of(&lives, "ann");
    assert_eq!(watcher.take(1), [told("create", "ann", 1)]);
    still.signal(Signal::CONT);
    let mut heard = watcher.take(2);
    heard.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(heard, [told("update", "ann", 2), told("update", "bob", 2)]);
    assert!(
        still
            .line_with("taken this host for dead")
            .contains("members")
    );
    ann.close();
    assert_eq!(watcher.take(1), [told("update", "ann", 1)]);
    watcher.hears_only_the_marker(&mut lives.sdk(), ROOM);
}

/// A host of the store alone, and whoever plays its one worker.
struct StoreAlone {
    worker: WorkerPorts,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    asked: u64,
}

impl StoreAlone {
    fn start(redis: &RedisServer, lease: Duration) -> StoreAlone {
        let mut poll = Poll::new().unwrap();
        let wake_up = net::wake_up(&poll, net::WAKE).unwrap();
        let mut wakes: Vec<Arc<Wake>> = (0..2).map(|_| Arc::new(Wake::new(|| {}))).collect();
        wakes.push(Arc::new(Wake::new(wake_up)));
        let owners = Owners::Hashed { workers: 1 };
        let shared = Arc::new(Shared::new(owners, wakes, SocketRoom::UNLIMITED));
        let (mut workers, _, store) = mesh::tie(Arc::clone(&shared), 1, 1 << 20);
        let mut settings = RedisStore::at(&redis.url()).unwrap();
        settings.lease = lease;
        let limits = ValueLimits {
            json_depth: 125,
            value_bytes: 1 << 20,
        };
        let place = "alone:1".to_owned();
        let rules = Arc::new(rules());
        let redis = Redis::start(&settings, limits, 256, &rules, place, &mut poll).unwrap();
        let thread = std::thread::spawn(|| store::run(Box::new(redis), poll, store.unwrap()));
        StoreAlone {
            worker: workers.remove(0),
            shared,
            thread: Some(thread),
            asked: 0,
        }
    }

    /// Whether the store's mailbox takes it.
    fn ask(&mut self, question: Question) -> bool {
        let request = Request {
            shard: WorkerId(0),
            epoch: 0,
            number: self.asked,
            kind: RequestKind::Decide(question),
        };
        let to_store = self.worker.to_store.as_mut().unwrap();
        let is_taken = to_store.try_send(ToStore::Requests(vec![request])).is_ok();
        to_store.flush();
        self.asked += u64::from(is_taken);
        is_taken
    }
}

impl Drop for StoreAlone {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake(store_thread(1));
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

#[test]
fn a_host_with_a_worker_that_takes_nothing_keeps_its_members() {
    let redis = RedisServer::start();
    let lease = Duration::from_millis(900);
    let other = host_with(&redis, ONE_WORKER, lease);
    let mut watcher = watcher(&other);
    let mut host = StoreAlone::start(&redis, lease);
    let group = GroupKey::new(ROOM.0, ROOM.1);
    assert!(host.ask(Question::Keep {
        group: group.clone(),
        item: "ann".into(),
        data: "{}".into(),
        connections: 1,
    }));
    assert_eq!(watcher.take(1), [told("create", "ann", 1)]);
    // From here on the worker is stuck, with a full mailbox.
    let get = || Question::Get {
        group: group.clone(),
        item: "ann".into(),
    };
    wait_until("the store waits for room", || {
        let is_taken = host.ask(get());
        !is_taken && !host.worker.open.is_empty()
    });
    let now = || -> u64 {
        let (seconds, micros): (u64, u64) = redis.ask(&["TIME"]);
        seconds * 1000 + micros / 1000
    };
    let since = now();
    let until = since + 3 * lease.as_millis() as u64 + GRACE.as_millis() as u64;
    wait_until("leases have passed", || now() > until);
    assert!(!host.ask(get()), "it waits still");
    let leases: Vec<(String, f64)> =
        redis.ask(&["ZRANGE", "iii-stream:runs", "0", "-1", "WITHSCORES"]);
    let ours = leases.iter().find(|(run, _)| run.starts_with("alone"));
    let (_, ends_at) = ours.expect("others have ended it");
    assert!(*ends_at > now() as f64, "its lease was renewed");
    SdkWorker::connect(&other).send_event(ROOM, None, "marker", json!(null));
    assert_eq!(watcher.next().kind, "event", "nobody has left");
    // Whoever goes on hears all that was answered.
    let mut answers = 0;
    wait_until("all is answered", || {
        while let Some(message) = host.worker.open.take() {
            if let ToWorker::Learned(learned) = message {
                let is_answer = |it: &&Learned| matches!(it, Learned::Answer(_));
                answers += learned.iter().filter(is_answer).count() as u64;
            }
        }
        host.worker
            .open
            .tell_waiters(|thread| host.shared.wake(thread));
        answers == host.asked
    });
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
fn who_is_back_after_a_restart_of_all_hosts_was_never_away() {
    for signal in [Signal::KILL, Signal::TERM] {
        let redis = RedisServer::start();
        let homes = [home("one", &redis, "300"), home("other", &redis, "300")];
        let mut hosts = homes
            .each_ref()
            .map(|home| Process::start(home.command(&[])));
        let tabs: Vec<Subscriber> = [(0, "ann"), (0, "ann"), (1, "ann"), (0, "bob"), (1, "cy")]
            .map(|(at, user)| tab_of(&hosts[at], user))
            .into();
        let mut sdk = hosts[0].sdk();
        let all = json!([there("ann", 3), there("bob", 1), there("cy", 1)]);
        let sorted = |list: Value| {
            let mut list = list.as_array().unwrap().clone();
            list.sort_by_key(|member| member["id"].as_str().unwrap().to_owned());
            Value::Array(list)
        };
        wait_until("all are there", || sorted(sdk.list(ROOM)) == all);
        for host in &mut hosts {
            host.signal(signal);
            host.exit_code();
        }
        drop(tabs);
        let hosts = homes
            .each_ref()
            .map(|home| Process::start(home.command(&[])));
        let started = Instant::now();
        let mut watcher = hosts[0].subscriber();
        assert_eq!(sorted(watcher.join("w", ROOM).data), all, "{signal:?}");
        let _back = [(0, "ann"), (1, "bob"), (1, "ann")].map(|(at, user)| tab_of(&hosts[at], user));
        let mut heard = watcher.take(2);
        heard.sort_by(|a, b| a.1.cmp(&b.1));
        let took = started.elapsed();
        assert_eq!(
            heard,
            [told("update", "ann", 2), told("delete", "cy", 1)],
            "{took:?}"
        );
        assert!(
            took >= Duration::from_millis(RESTART_GRACE_MS - 2000),
            "{took:?}"
        );
        watcher.hears_only_the_marker(&mut hosts[1].sdk(), ROOM);
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

#[test]
fn many_who_leave_at_once_and_many_of_a_host_that_is_killed_go_once_each() {
    let redis = RedisServer::start();
    let home = home("killed", &redis, "50");
    let killed = Process::start(home.command(&[]));
    let lives = host(&redis, THREE_WORKERS);
    let mut watcher = watcher(&lives);
    let come = |n: usize| format!("u{n}");
    let mut tabs: Vec<Subscriber> = Vec::new();
    for n in 0..300 {
        let host = if n % 2 == 0 {
            killed.stream
        } else {
            lives.stream()
        };
        let stream = raw::connect(host);
        let mut tab = Subscriber::of(open(stream, host, &format!("/?user={}", come(n))));
        tab.start_join("s", ROOM, None);
        tabs.push(tab);
    }
    for _ in 0..300 {
        assert_eq!(watcher.next().kind, "create");
    }
    all_are_seen(&redis, 2);
    killed.kill();
    let (even, odd): (Vec<_>, Vec<_>) = tabs.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    drop(even);
    odd.into_iter().for_each(|(_, tab)| tab.reset());
    let mut gone = BTreeSet::new();
    for _ in 0..300 {
        let heard = watcher.next();
        assert_eq!(heard.kind, "delete");
        assert!(gone.insert(heard.id), "each once");
    }
    let mut sdk = SdkWorker::connect(&lives);
    watcher.hears_only_the_marker(&mut sdk, ROOM);
    assert_eq!(sdk.list(ROOM), json!([]));
}

#[test]
fn a_user_without_the_rights_for_members_is_named() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&[
        "ACL",
        "SETUSER",
        "me",
        "on",
        ">pw",
        "~*",
        "&*",
        "+@all",
        "-srandmember",
        "-sadd",
    ]);
    let url = redis.url().replace("://", "://me:pw@");
    let adapter = format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}");
    for (streams, is_needed) in [
        ("[{stream: presence, members: {id: query.user}}]", true),
        ("[]", false),
    ] {
        let server = format!("threads: 1, streams: {streams}");
        let directory = Directory::new("rights").with_file(&on_port(0, &adapter, &server));
        if is_needed {
            let (code, line) = outcome(directory.command(&[]).output().unwrap());
            assert_eq!(code, Some(1), "{line}");
            let named = "may not SADD iii-stream:run:a, SRANDMEMBER iii-stream:run:a";
            assert!(line.contains(named), "{line}");
        } else {
            Process::start(directory.command(&[])).stop();
        }
    }
}
