//! When answers leave, and how soon the link is tried again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{ROOM, attached};
use crate::support::clients::set_input;
use crate::support::script::ScriptedEngine;

/// Engines note a call after they have sent it: an answer that comes before that is lost to its caller.
#[test]
fn no_answer_leaves_within_half_a_millisecond_of_its_call() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.attach(&[], &[]);
    let calls: [(&str, serde_json::Value); 4] = [
        ("stream::set", set_input(ROOM, "i", json!(1))),
        ("stream::list_all", json!({})),
        ("stream::set", json!({})),
        ("unknown", json!({})),
    ];
    for (function, input) in calls.iter().cycle().take(100) {
        let sent = Instant::now();
        let id = link.start(function, input.clone());
        assert_eq!(link.next()["invocation_id"], json!(id));
        let took = sent.elapsed();
        assert!(took >= Duration::from_micros(500), "{function}: {took:?}");
    }
}

#[test]
fn calls_that_come_together_are_held_together() {
    const CALLS: u32 = 10_000;
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.attach(&[], &[]);
    let since = Instant::now();
    for n in 0..CALLS {
        link.start("stream::set", set_input(ROOM, "i", json!(n)));
    }
    for _ in 0..CALLS {
        assert_eq!(link.next()["function_id"], "stream::set");
    }
    // One after the other they would take half a millisecond each.
    let took = since.elapsed();
    assert!(took < CALLS * Duration::from_micros(500), "{took:?}");
}

#[test]
fn an_engine_that_is_away_is_tried_again_several_times_a_second() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    engine.attach(&[], &[]).end();
    // Each attempt finds the port open, and is ended before it is let in.
    let since = Instant::now();
    for _ in 0..8 {
        drop(engine.accept_bare());
    }
    let took = since.elapsed();
    assert!(took > Duration::from_millis(8 * 80), "{took:?}: too often");
    // With waits that double it would be 100 s.
    assert!(took < Duration::from_secs(20), "{took:?}: too seldom");
}
