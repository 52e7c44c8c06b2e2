//! Joins while it is not known which functions they have to be put to: right after our own start, and
//! after the engine's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ROOM, attached};
use crate::support::script::{ScriptedEngine, ScriptedLink, trigger};
use crate::support::{DEADLINE, Subscriber};

fn gate() -> Value {
    trigger("j", "stream:join", "gate", json!({"stream_name": "chat"}))
}

fn refuse(link: &mut ScriptedLink, subscription: &str) {
    let call = link.next_call("gate");
    assert_eq!(call["data"]["subscription_id"], subscription);
    link.answer(&call, json!({"result": {"unauthorized": true}}));
}

#[test]
fn a_join_right_after_the_start_waits_until_the_gates_are_known() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    // The first before there is a link at all, the others at each step of the conversation.
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("0", ROOM, None);
    let mut link = engine.accept();
    subscriber.start_join("1", ROOM, None);
    let list = link.registrations().pop().unwrap();
    subscriber.start_join("2", ROOM, None);
    link.answer_list(&list, &[]);
    let list = link.types();
    subscriber.start_join("3", ROOM, None);
    // An engine that is slow: meanwhile nobody is let in, and a trigger of another kind ends no wait.
    link.send(&trigger(
        "t",
        "stream",
        "on",
        json!({"stream_name": "chat"}),
    ));
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    link.settle();
    assert!(!subscriber.has_something());
    link.send(&gate());
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    subscriber.start_join("free", ("free", "g"), None);
    link.answer_list(&list, &[]);
    for subscription in ["0", "1", "2", "3"] {
        refuse(&mut link, subscription);
    }
    let mut kinds: Vec<String> = (0..5).map(|_| subscriber.next().kind).collect();
    kinds.sort();
    assert_eq!(kinds[..2], ["sync", "unauthorized"]);
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "unauthorized").count(),
        4
    );
}

#[test]
fn a_join_waits_no_longer_than_a_call_for_an_engine_that_never_answers() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.call_timeout_ms = 300);
    let mut subscriber = Subscriber::connect(&server);
    let since = Instant::now();
    subscriber.join("s", ROOM);
    assert!(since.elapsed() >= Duration::from_millis(300));
}

#[test]
fn after_an_engine_s_restart_a_join_waits_for_the_gate_that_was_there_before() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    engine.attach(&[gate()], &[]).end();
    // The engine is back, the worker with the gate is not.
    let mut link = engine.attach(&[], &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    subscriber.join("free", ("free", "g"));
    let other = trigger("k", "stream:join", "other", json!({"stream_name": "chat"}));
    link.send(&other);
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    link.settle();
    assert!(!subscriber.has_something(), "another gate is not that gate");
    // It comes under another trigger's id: its program was started again too.
    link.send(&trigger(
        "new",
        "stream:join",
        "gate",
        json!({"stream_name": "chat"}),
    ));
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    let mut calls = [link.next(), link.next()];
    calls.sort_by_key(|call| call["function_id"].to_string());
    assert_eq!(calls[0]["function_id"], "gate");
    link.answer(&calls[0], json!({"result": {"unauthorized": true}}));
    link.answer(&calls[1], json!({"result": null}));
    assert_eq!(subscriber.next().kind, "unauthorized");
}

#[test]
fn a_gate_that_does_not_come_back_lets_in_unless_it_is_required() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.call_timeout_ms = 1000;
        config.join_required = vec!["strict".to_owned()];
    });
    let all = trigger("j", "stream:join", "gate", json!({}));
    engine.attach(&[all], &[]).end();
    let mut link = engine.attach(&[], &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ("strict", "g"), None);
    subscriber.start_join("t", ROOM, None);
    let mut kinds = [subscriber.next().kind, subscriber.next().kind];
    kinds.sort();
    assert_eq!(kinds, ["sync", "unauthorized"]);
    // It is gone: from then on nothing waits for it.
    let since = Instant::now();
    subscriber.join("u", ("chat", "other"));
    assert!(since.elapsed() < DEADLINE / 2);
    link.settle();
}

#[test]
fn joins_beyond_those_that_may_wait_are_refused() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.limits.calls_in_flight = 1);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    subscriber.start_join("t", ROOM, None);
    assert_eq!(subscriber.next().kind, "unauthorized");
    engine.attach(&[], &[]);
    assert_eq!(subscriber.next().kind, "sync");
}
