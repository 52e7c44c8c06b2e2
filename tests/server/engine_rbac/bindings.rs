//! Triggers that are registered by calls through a listener with rules.

use super::*;

const REGISTER: &str = "engine::register_trigger";
const UNREGISTER: &str = "engine::unregister_trigger";

fn on_topic(function: &str) -> Value {
    json!({"id": "t", "trigger_type": "subscribe", "function_id": function, "config": {"topic": "t"}})
}

#[test]
fn a_call_registers_no_more_than_a_message_and_ends_with_its_worker() {
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("open::*")));
    for function in ["auth", "open::f", "closed::f", "marker"] {
        sdk.register(function);
    }
    let none = json!({});
    let mut stranger = admitted(&mut sdk, guarded, none);
    for function in [REGISTER, UNREGISTER] {
        assert_eq!(stranger.error_of(function, json!({})), forbidden(function));
    }
    let grant = json!({"allowed_functions": [REGISTER, UNREGISTER], "allowed_trigger_types": ["subscribe"],
        "function_registration_prefix": "p"});
    let mut worker = admitted(&mut sdk, guarded, grant);
    let mut of_log = on_topic("open::f");
    of_log["trigger_type"] = json!("log");
    assert_eq!(
        worker.error_of(REGISTER, of_log),
        (
            "FORBIDDEN".to_owned(),
            "trigger type 'log' not allowed (add to allowed_trigger_types)".to_owned()
        )
    );
    // Its functions stand under its prefix, and so does what its trigger calls.
    worker.register("f");
    assert_eq!(
        worker.call(REGISTER, on_topic("f"))["result"],
        json!({"id": "t"})
    );
    assert!(told_of(&mut sdk, "t").is_empty());
    assert_eq!(worker.next_call()["function_id"], "f");
    // What is others' it neither ends nor replaces.
    subscribe(&mut sdk, "theirs", "marker", "u");
    let not_found = (
        "trigger_not_found".to_owned(),
        "Trigger theirs not found".to_owned(),
    );
    assert_eq!(
        worker.error_of(UNREGISTER, json!({"id": "theirs"})),
        not_found
    );
    let mut theirs = on_topic("f");
    theirs["id"] = json!("theirs");
    assert_eq!(
        worker.error_of(REGISTER, theirs).0,
        "trigger_registration_failed"
    );
    // Nothing of it outlives it.
    let gone = worker.worker_id.clone();
    drop(worker);
    let asked = json!({"worker_id": gone});
    crate::support::wait_until("it is gone", || {
        sdk.call("engine::workers::list", asked.clone())["result"]["workers"] == json!([])
    });
    let listed = sdk.call("engine::triggers::list", json!({}));
    assert_eq!(listed["result"]["triggers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_trigger_of_a_call_calls_only_what_its_worker_may() {
    let (_server, mut sdk, guarded) = with_rules(rules(None, exposed("*")));
    let mut grantless = SdkWorker::over(guarded, "/");
    grantless.wait_for_hello();
    sdk.register("f");
    assert!(
        grantless
            .call(REGISTER, on_topic("f"))
            .get("error")
            .is_none()
    );

    let closed = vec![Filter::of_id("engine::*"), Filter::of_id("open::*")];
    let (_server, mut sdk, guarded) = with_rules(rules(None, closed));
    sdk.register("closed::f");
    let mut worker = SdkWorker::over(guarded, "/");
    worker.wait_for_hello();
    assert_eq!(
        worker.error_of(REGISTER, on_topic("closed::f")).0,
        "FORBIDDEN"
    );
    assert_eq!(
        worker.error_of(REGISTER, on_topic("publish")).0,
        "FORBIDDEN"
    );
}

#[test]
fn the_function_that_is_asked_about_triggers_is_asked_about_those_of_calls() {
    let mut listener = rules(Some("auth"), exposed("*"));
    listener.rbac.as_mut().unwrap().on_trigger = Some("on-trigger".to_owned());
    let (_server, mut sdk, guarded) = with_rules(listener);
    for function in ["auth", "on-trigger", "f"] {
        sdk.register(function);
    }
    let mut worker = admitted(&mut sdk, guarded, json!({"context": {"user": 7}}));
    // The answer names another id, which its worker does not see.
    let id = worker.start(REGISTER, on_topic("f"));
    let asked = sdk.next_call_of("on-trigger");
    assert_eq!(
        asked["data"],
        json!({"trigger_id": "t", "trigger_type": "subscribe", "function_id": "f",
            "config": {"topic": "t"}, "context": {"user": 7}})
    );
    sdk.answer(&asked, json!({"result": {"trigger_id": "outer"}}));
    assert_eq!(worker.result(&id)["result"], json!({"id": "t"}));
    let listed = sdk.call("engine::triggers::list", json!({}));
    assert_eq!(listed["result"]["triggers"][0]["id"], "outer");
    let ended = worker.call(UNREGISTER, json!({"id": "t"}));
    assert_eq!(ended["result"], json!({"id": "t"}));
    // A refusal is the call's error.
    let id = worker.start(REGISTER, on_topic("f"));
    let asked = sdk.next_call_of("on-trigger");
    sdk.answer(
        &asked,
        json!({"error": {"code": "no", "message": "not today"}}),
    );
    assert_eq!(
        error_in(&worker.result(&id)),
        (
            "trigger_registration_failed".to_owned(),
            "not today".to_owned()
        )
    );
    let listed = sdk.call("engine::triggers::list", json!({}));
    assert_eq!(listed["result"]["triggers"], json!([]));
}
