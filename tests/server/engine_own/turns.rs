//! What is told to very many, listed of very many or undone of very much is done in turns, and holds up nobody.

use super::*;

/// Each list has 32 MB: made thousands of times they would take minutes.
#[test]
fn lists_that_nobody_waits_for_are_not_made() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let text = "x".repeat(8 * 1024 * 1024);
    for n in 0..4 {
        sdk.send(&json!({"type": "registerfunction", "id": format!("f{n}"), "metadata": text}));
    }
    for _ in 0..5000 {
        sdk.void("engine::functions::list", json!({}));
    }
    sdk.settle();
}

/// How long a call of another worker takes at most, over and over for a while.
fn longest_call(sdk: &mut SdkWorker, for_a_while: Duration) -> Duration {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < for_a_while {
        let since = Instant::now();
        sdk.set(("s", "g"), "i", json!(1));
        longest = longest.max(since.elapsed());
    }
    longest
}

#[test]
fn lists_over_many_hidden_ids_hold_up_nobody() {
    const HIDDEN: usize = 20_000;
    let server = TestServer::start(ONE_WORKER);
    let mut owner = SdkWorker::connect(&server);
    for n in 0..HIDDEN {
        owner.send(&json!({"type": "registerfunction", "id": format!("engine::hidden::{n}")}));
    }
    owner.settle();
    let mut asking = SdkWorker::connect(&server);
    let asked: Vec<String> = (0..100)
        .map(|_| asking.start("engine::functions::list", json!({})))
        .collect();
    let mut other = SdkWorker::connect(&server);
    let longest = longest_call(&mut other, Duration::from_millis(300));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let listed = asking.result(&asked[0]);
    let listed = listed["result"]["functions"].as_array().unwrap();
    assert_eq!(listed.len(), 9, "ours that are not internal");
}

#[test]
fn a_change_that_many_functions_of_ours_would_be_told_of_holds_up_nobody() {
    let server = TestServer::start(ONE_WORKER);
    let mut owner = SdkWorker::connect(&server);
    for n in 0..2000 {
        owner.send(
            &json!({"type": "registertrigger", "id": format!("t{n}"), "config": {},
            "trigger_type": "engine::functions-available", "function_id": "stream::set"}),
        );
    }
    owner.settle();
    let text = "x".repeat(4 << 20);
    for n in 0..4 {
        owner.send(&json!({"type": "registerfunction", "id": format!("f{n}"), "metadata": text}));
    }
    owner.settle();
    let mut other = SdkWorker::connect(&server);
    let longest = longest_call(&mut other, Duration::from_millis(1500));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn what_is_published_to_very_many_is_told_to_all_in_turns() {
    const TRIGGERS: usize = 3000;
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("heard");
    for n in 0..TRIGGERS {
        sdk.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    sdk.settle();
    for round in 0..2 {
        let text = format!("{round}{}", "x".repeat(4000));
        sdk.void("publish", json!({"topic": "t", "data": text}));
        for _ in 0..TRIGGERS {
            assert_eq!(sdk.next_call_of("heard")["data"], *text);
        }
    }
}

/// What a turn of the engine thread may take here, in a test build beside others.
const TURN_MAX: Duration = Duration::from_millis(250);

/// Waits until the server has noticed that a worker is gone.
fn wait_for_end_of(worker_id: &str, sdk: &mut SdkWorker) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let asked = json!({"worker_id": worker_id});
    while result(sdk, "engine::workers::list", asked.clone())["workers"] != json!([]) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_worker_that_had_very_much_is_gone_at_once_and_removed_in_turns() {
    const MANY: usize = 30_000;
    let server = TestServer::start(ONE_WORKER);
    let mut other = SdkWorker::connect(&server);
    let mut owner = SdkWorker::connect(&server);
    other.register("heard");
    for n in 0..MANY {
        owner.send(&json!({"type": "registerfunction", "id": format!("f{n}")}));
        owner.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    owner.settle();
    let gone = owner.worker_id.clone();
    drop(owner);
    wait_for_end_of(&gone, &mut other);
    for n in [0, MANY / 2, MANY - 1] {
        let error = other.error_of(&format!("f{n}"), json!({}));
        assert_eq!(error.0, "function_not_found");
    }
    other.void("publish", json!({"topic": "t", "data": 1}));
    other.trigger("mine", "subscribe", "heard", json!({"topic": "t"}));
    other.void("publish", json!({"topic": "t", "data": 2}));
    assert_eq!(
        other.next_call_of("heard")["data"],
        2,
        "its triggers are gone"
    );
    let triggers = result(&mut other, "engine::triggers::list", json!({}));
    assert_eq!(ids(&triggers["triggers"], "id"), ["mine"]);
    let longest = server.shared().engine.loop_turns.longest();
    assert!(longest < TURN_MAX, "{longest:?}");
}

#[test]
fn triggers_of_a_type_that_is_taken_over_are_handed_over_in_turns() {
    const MANY: usize = 20_000;
    let server = TestServer::start(ONE_WORKER);
    let mut owner = SdkWorker::connect(&server);
    for n in 0..MANY {
        owner.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    owner.settle();
    let mut taker = SdkWorker::connect(&server);
    taker.send(&json!({"type": "registertriggertype", "id": "subscribe", "description": ""}));
    for n in 0..MANY {
        let handed_over = taker.next();
        assert_eq!(handed_over["type"], "registertrigger");
        assert_eq!(handed_over["id"], format!("t{n}"));
    }
    let gone = taker.worker_id.clone();
    drop(taker);
    wait_for_end_of(&gone, &mut owner);
    // They are ours again, of which the last is the last to be.
    owner.register("last");
    owner.trigger("last", "subscribe", "last", json!({"topic": "last"}));
    owner.void("publish", json!({"topic": "last", "data": 1}));
    assert_eq!(owner.next_call_of("last")["data"], 1);
    let longest = server.shared().engine.loop_turns.longest();
    assert!(longest < TURN_MAX, "{longest:?}");
}
