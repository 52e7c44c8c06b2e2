//! Callers and subscribers that never pause: nothing is lost, memory stays bounded, and nobody else
//! starves. A process of its own, for it looks at its memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

#[path = "support/memory.rs"]
mod memory;
#[allow(dead_code, unused_imports, reason = "this binary uses a part of it")]
mod support;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use iii_stream::shard::Decides;
use serde_json::json;

use memory::resident_bytes;
use support::clients::{self, set_input};
use support::{SdkWorker, SharedCues, Subscriber, THREE_WORKERS, TestServer, raw, wait_until};

/// One test at a time: their memory is one.
static ALONE: Mutex<()> = Mutex::new(());

/// The burst is 100 MB of calls. While their owner takes none, the server may hold what fits its
/// mailboxes and the one socket's buffers, and no more.
#[test]
fn a_burst_of_void_calls_at_a_slow_owner_is_held_back_and_none_is_lost() {
    const CALLS: usize = 200_000;
    const ITEMS_A_GROUP: usize = 100;
    const VALUE_BYTES: usize = 500;
    const GROWTH_BYTES_MAX: usize = 8 * 1024 * 1024;
    let _alone = ALONE.lock();
    let group_of = |n: usize| format!("g{}@0", n / ITEMS_A_GROUP);
    let cues = SharedCues::default();
    let server = TestServer::on_double(THREE_WORKERS, Decides::Owner, &cues);
    let mut other = SdkWorker::connect(&server);
    other.set(("burst", "other@1"), "i", json!("there"));
    cues.delay(Duration::from_secs(2));
    let before = resident_bytes();
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sdk = SdkWorker::connect(&server);
            let value = "x".repeat(VALUE_BYTES);
            for n in 0..CALLS {
                let item = (n % ITEMS_A_GROUP).to_string();
                let set = set_input(("burst", &group_of(n)), &item, json!([n, value]));
                sdk.void("stream::set", set);
                sent.store(n + 1, Ordering::Relaxed);
            }
            sdk.settle();
        });
        let mut last = (0, Instant::now());
        wait_until("the burst is held back", || {
            let now = sent.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
            now > 0 && last.1.elapsed() > Duration::from_millis(500)
        });
        for _ in 0..100 {
            let there = other.get(("burst", "other@1"), "i");
            assert_eq!(
                there,
                Some(json!("there")),
                "another owner answers meanwhile"
            );
        }
        assert!(
            sent.load(Ordering::Relaxed) < CALLS,
            "the burst is over already"
        );
        let growth = resident_bytes().saturating_sub(before);
        assert!(
            growth < GROWTH_BYTES_MAX,
            "{growth} bytes for calls that wait"
        );
        cues.delay(Duration::ZERO);
    });
    for first in (0..CALLS).step_by(ITEMS_A_GROUP) {
        let values = other.list(("burst", &group_of(first)));
        let values = values.as_array().unwrap();
        assert_eq!(values.len(), ITEMS_A_GROUP);
        for (value, n) in values.iter().zip(first..) {
            assert_eq!(value[0], json!(n));
        }
    }
}

/// Joins that come together, whose answers nobody reads: the value is there once, and each client has one
/// answer to take, however many it has asked for.
#[test]
fn joins_of_clients_that_read_nothing_hold_no_value_for_each() {
    const VALUE_BYTES: usize = 900 * 1024;
    const CLIENTS: usize = 10;
    const JOINS: usize = 60;
    /// The kernel's buffers count as well.
    const GROWTH_BYTES_MAX: usize = 24 * 1024 * 1024;
    let _alone = ALONE.lock();
    for item in [Some("i"), None] {
        let server = TestServer::start(THREE_WORKERS);
        let mut sdk = SdkWorker::connect(&server);
        let value = |n: usize| json!([n, "x".repeat(VALUE_BYTES)]);
        sdk.set(("joins", "g@0"), "i", value(0));
        let mut clients: Vec<Subscriber> = (0..CLIENTS)
            .map(|_| Subscriber::over(raw::connect_narrow(server.stream()), &server))
            .collect();
        let joins = (0..JOINS).map(|n| {
            let join = clients::join(&n.to_string(), ("joins", "g@0"), item);
            raw::text(&join)
        });
        let joins = joins.collect::<Vec<_>>().concat();
        let before = resident_bytes();
        for client in &mut clients {
            client.stream().write_all(&joins).unwrap();
        }
        sdk.set(("joins", "g@0"), "i", value(1)); // what is asked anew is answered with this
        let mut marker = Subscriber::connect(&server);
        for worker in 0..3 {
            marker.join("m", ("joins", &format!("other@{worker}")));
        }
        let growth = resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
        // Whoever reads gets all of its answers.
        let mut client = clients.pop().unwrap();
        drop(clients);
        let mut syncs = 0;
        let mut newest = 0;
        while syncs < JOINS {
            let heard = client.next();
            let is_sync = heard.kind == "sync";
            syncs += usize::from(is_sync);
            let is_list = is_sync && item.is_none();
            let data = if is_list { &heard.data[0] } else { &heard.data };
            newest = newest.max(data[0].as_u64().unwrap());
        }
        assert_eq!(newest, 1);
    }
}

/// A client that follows many groups and reads nothing: what waits for it counts in all of them.
#[test]
fn a_reader_of_many_groups_that_takes_nothing_holds_no_more_than_its_bound() {
    const GROUPS: usize = 300;
    const GROWTH_BYTES_MAX: usize = 24 * 1024 * 1024;
    let _alone = ALONE.lock();
    let server = TestServer::start(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    let stopped = raw::connect_narrow(server.stream());
    let mut stopped = Subscriber::over(stopped, &server);
    let group_of = |n: usize| format!("g{n}");
    for n in 0..GROUPS {
        stopped.join(&n.to_string(), ("many", &group_of(n)));
    }
    let before = resident_bytes();
    let value = "x".repeat(8 * 1024);
    for round in 0..30 {
        for n in 0..GROUPS {
            // One item each, so all that grows beside it is what waits.
            sdk.set(("many", &group_of(n)), "i", json!([round, value]));
        }
    }
    let growth = resident_bytes().saturating_sub(before);
    // The items, the last frame of each, and the bound.
    let most = GROWTH_BYTES_MAX + 2 * GROUPS * value.len();
    assert!(growth < most, "{growth} bytes for one reader");
    let mut newest = vec![None; GROUPS];
    while newest.iter().any(|round| *round != Some(29)) {
        let heard = stopped.next();
        let n: usize = heard.group[1..].parse().unwrap();
        // Who is far behind may be told of the whole group, and then of what it has heard already.
        let is_sync = heard.kind == "sync";
        let value = if is_sync { &heard.data[0] } else { &heard.data };
        let round = value[0].as_u64();
        let is_later = newest[n] < round || (is_sync && newest[n] == round);
        assert!(is_later, "in order, and each once");
        newest[n] = round;
    }
}

#[test]
fn a_subscriber_and_an_sdk_that_never_pause_starve_nobody() {
    let _alone = ALONE.lock();
    let server = TestServer::start(THREE_WORKERS);
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            server.steer_to(worker);
            let mut flood = raw::upgrade(raw::connect(server.stream()), "/");
            server.steer_to(usize::MAX);
            scope.spawn(move || {
                let message = raw::text(&" ".repeat(1024 * 1024 - 1));
                while !is_done() {
                    flood.write_all(&message).unwrap();
                }
            });
        }
        for group in ["g@0", "g@1"] {
            let mut sdk = SdkWorker::connect(&server);
            scope.spawn(move || {
                while !is_done() {
                    sdk.void("stream::set", set_input(("flood", group), "i", json!(0)));
                }
            });
        }
        let mut sdk = SdkWorker::connect(&server);
        for round in 0..30 {
            let mut subscriber = Subscriber::on_worker(&server, round % 3);
            let group = format!("g{round}");
            subscriber.join("s", ("calm", &group));
            sdk.set(("calm", &group), "i", json!(round));
            assert_eq!(subscriber.next().data, json!(round));
        }
        done.store(true, Ordering::Relaxed);
    });
}
