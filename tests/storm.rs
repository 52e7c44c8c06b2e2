//! Very many subscribers that end at once, each of which a function is told of exactly once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

#[allow(dead_code, unused_imports, reason = "this binary uses a part of it")]
mod support;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tungstenite::Message;

use support::{SdkWorker, Shape, Subscriber, TestServer, on_each_shape};

/// Descriptors of this process that are no subscriber's.
const FILES_KEPT: u64 = 200;

/// Tests of this file need all descriptors for themselves.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

/// As many sockets as may be open here, both ends in this process, and no more than that.
fn sockets_at_most(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min(files.saturating_sub(FILES_KEPT) / 2)
}

fn id_of(call: &serde_json::Value) -> String {
    assert_eq!(call["function_id"], "left");
    call["data"]["subscription_id"].as_str().unwrap().to_owned()
}

/// So many subscribers, each with one subscription of its own name, spread over groups.
fn subscribers(server: &TestServer, count: u64) -> Vec<Subscriber> {
    let mut clients: Vec<Subscriber> = (0..count).map(|_| Subscriber::connect(server)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let group = format!("room-{}", n % 100);
        client.start_join(&format!("s{n}"), ("chat", &group), None);
    }
    for client in &mut clients {
        client.sync();
    }
    clients
}

fn with_leave_function(server: &TestServer) -> SdkWorker {
    let mut sdk = SdkWorker::connect(server);
    sdk.register("left");
    sdk.trigger("l", "stream:leave", "left", json!({}));
    sdk
}

#[test]
fn sockets_that_are_cut_at_once_have_one_leave_each_though_the_function_is_slow() {
    let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = sockets_at_most(10_000);
    let server = TestServer::with(
        Shape {
            threads: 3,
            mailbox_len: 8,
        },
        |config| config.limits.call_queue_bytes = 64 * 1024,
    );
    let mut sdk = with_leave_function(&server);
    let clients = subscribers(&server, count);
    let cut = std::thread::spawn(move || clients.into_iter().for_each(Subscriber::reset));
    let mut left = HashSet::new();
    for _ in 0..count {
        let call = sdk.next_call();
        std::thread::sleep(Duration::from_millis(1)); // what the function takes
        sdk.answer(&call, json!({}));
        let is_first = left.insert(id_of(&call));
        assert!(is_first, "told twice: {call}");
    }
    cut.join().unwrap();
    assert_eq!(left.len() as u64, count);
    // No other is to come: the next leave is this one.
    let mut marker = Subscriber::connect(&server);
    marker.leave("marker");
    assert_eq!(id_of(&sdk.next_call()), "marker");
}

#[test]
fn at_the_end_of_the_process_every_leave_is_told_before_the_worker_sockets_close() {
    let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    on_each_shape(|shape| {
        let count = sockets_at_most(1000);
        let server = TestServer::with(shape, |config| config.drain_ms = 500);
        let mut sdk = with_leave_function(&server);
        let mut clients = subscribers(&server, count);
        server.shared().drain();
        let mut left = HashSet::new();
        let code = loop {
            match sdk.next_message() {
                Message::Text(text) => {
                    let call = serde_json::from_str(text.as_str()).unwrap();
                    assert!(left.insert(id_of(&call)), "told twice: {call}");
                }
                Message::Close(frame) => break frame.map(|frame| frame.code.into()),
                other => panic!("not {other:?}"),
            }
        };
        assert_eq!((left.len() as u64, code), (count, Some(1012_u16)));
        for client in &mut clients {
            assert_eq!(client.close_code(), Some(1012));
        }
    });
}
