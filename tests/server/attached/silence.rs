//! A link on which nothing comes any more, though nobody has closed it.

use std::time::{Duration, Instant};

use tungstenite::Message;

use crate::support::script::ScriptedEngine;
use crate::support::{ONE_WORKER, TestServer};

const PING_EVERY: Duration = Duration::from_millis(200);

#[test]
fn an_engine_that_freezes_is_given_up_after_three_pings_time() {
    let engine = ScriptedEngine::start();
    let _server = TestServer::attached_with_ping(ONE_WORKER, &engine.url(), PING_EVERY);
    let frozen = engine.attach(&[], &[]);
    let since = Instant::now();
    // It reads nothing and closes nothing; the server comes back all the same.
    let mut link = engine.accept();
    assert!(since.elapsed() >= PING_EVERY, "{:?}", since.elapsed());
    link.registrations();
    drop(frozen);
}

#[test]
fn an_engine_that_answers_pings_is_kept_though_it_says_nothing() {
    let engine = ScriptedEngine::start();
    let _server = TestServer::attached_with_ping(ONE_WORKER, &engine.url(), PING_EVERY);
    let mut link = engine.attach(&[], &[]);
    // The socket answers each ping when it is read.
    for _ in 0..6 {
        match link.socket.read() {
            Ok(Message::Ping(_)) => link.socket.flush().unwrap(),
            other => panic!("expected a ping, got {other:?}"),
        }
    }
    link.settle();
}
