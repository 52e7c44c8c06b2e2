//! Hosts that keep members and die, stand still, start anew or have a worker that takes nothing: processes
//! of their own, or a store without workers. And whom Redis does not give the rights for members.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iii_stream::config::RedisStore;
use iii_stream::id::{GroupKey, WorkerId};
use iii_stream::mesh::{
    self, Owners, Shared, SocketRoom, ToStore, ToWorker, Wake, WorkerPorts, store_thread,
};
use iii_stream::shard::{Learned, Question, Request, RequestKind, ValueLimits};
use iii_stream::store::redis::Redis;
use iii_stream::{net, store};
use mio::Poll;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    GRACE, LEASE, RESTART_GRACE_MS, ROOM, all_hear, host, host_with, rules, there, told, watcher,
};
use crate::support::clients::open;
use crate::support::process::{Directory, Process, outcome};
use crate::support::redis::{RedisServer, free_port};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, raw, wait_until};

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
    let url = redis.url_of_user(&["-srandmember", "-sadd"]);
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
