//! What calls of SDK workers are bounded by.

use super::*;

#[test]
fn calls_in_flight_over_the_limit_are_refused_at_once() {
    let server = TestServer::with(ONE_WORKER, |config| config.limits.calls_in_flight = 3);
    let (mut caller, mut callee) = pair(&server);
    let held: Vec<String> = (0..3).map(|n| caller.start("f", json!(n))).collect();
    assert_eq!(
        caller.error_of("f", json!({})),
        error("invocation_error", "server is overloaded")
    );
    caller.set(("s", "g"), "i", json!(1)); // ours do not count
    caller.void("f", json!("void"));
    for id in &held {
        let call = callee.next_call();
        callee.answer(&call, json!({"result": 1}));
        caller.result(id);
    }
    assert_eq!(callee.next_call()["data"], "void");
    let again = caller.start("f", json!({}));
    let call = callee.next_call();
    callee.answer(&call, json!({"result": 2}));
    assert_eq!(caller.result(&again)["result"], 2);
}

#[test]
fn joins_that_wait_use_up_no_calls_of_workers() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.calls_in_flight = 3;
        config.limits.joins_in_flight = 20;
    });
    let (mut caller, mut callee) = pair(&server);
    let mut gate = SdkWorker::connect(&server);
    gate.register("gate");
    gate.register("stream::list(kept)");
    gate.trigger("j", "stream:join", "gate", json!({"stream_name": "asked"}));
    let mut subscriber = Subscriber::connect(&server);
    for n in 0..10 {
        subscriber.start_join(&format!("a{n}"), ("asked", "g"), None);
        subscriber.start_join(&format!("k{n}"), ("kept", "g"), None);
    }
    let asked: Vec<_> = (0..20).map(|_| gate.next_call()).collect();
    let id = caller.start("f", json!(1));
    let call = callee.next_call();
    callee.answer(&call, json!({"result": 1}));
    assert_eq!(caller.result(&id)["result"], 1);
    // Beyond their own number they are refused.
    subscriber.start_join("late", ("asked", "g"), None);
    assert_eq!(subscriber.next().kind, "unauthorized");
    for call in &asked {
        gate.answer(call, json!({"result": null}));
        subscriber.sync();
    }
}

#[test]
fn an_sdk_that_does_not_read_has_calls_to_it_refused_and_others_are_served() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.call_queue_bytes = 256 * 1024;
    });
    let mut slow = raw::upgrade(raw::connect_narrow(server.worker()), "/");
    std::io::Write::write_all(
        &mut slow,
        &raw::text(r#"{"type":"registerfunction","id":"slow"}"#),
    )
    .unwrap();
    let mut caller = SdkWorker::connect(&server);
    crate::support::wait_until("nothing more goes to the slow one", || {
        caller.start("slow", json!("x".repeat(64 * 1024)));
        caller.settle();
        server.shared().engine.calls_refused.get() > 0
    });
    assert_eq!(
        caller.error_of("slow", json!({})),
        error("invocation_error", "server is overloaded")
    );
    caller.set(("s", "g"), "i", json!(1));
    let (mut other, mut callee) = pair(&server);
    let id = other.start("f", json!({}));
    let call = callee.next_call();
    callee.answer(&call, json!({"result": 1}));
    assert_eq!(other.result(&id)["result"], 1);
}

#[test]
fn a_message_over_its_limit_ends_the_socket_with_a_reason() {
    let server = TestServer::with(THREE_WORKERS, |config| config.limits.call_bytes = 10_000);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(("s", "g"), "i", json!("x".repeat(9000)));
    let mut subscriber = Subscriber::connect(&server);
    assert_eq!(
        subscriber.join("s", ("s", "g")).data,
        json!(["x".repeat(9000)])
    );
    sdk.send_text(&" ".repeat(10_001));
    let (code, reason) = sdk.close_reason().unwrap();
    assert_eq!(code, 1009);
    assert!(
        reason.contains("10001") && reason.contains("10000"),
        "{reason}"
    );
}
