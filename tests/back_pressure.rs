//! Callers and subscribers that never pause: nothing is lost, memory stays bounded, and nobody else
//! starves. A process of its own, for it looks at its memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod support;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use iii_stream::shard::Decides;
use serde_json::json;

use support::clients::set_input;
use support::memory::resident_bytes;
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
