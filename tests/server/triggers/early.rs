//! Triggers that are registered before anybody serves their type: newer engines keep them.

use super::*;

fn serve(sdk: &mut SdkWorker, trigger_type: &str) {
    sdk.send(&json!({"type": "registertriggertype", "id": trigger_type, "description": ""}));
}

#[test]
fn a_trigger_that_is_there_before_its_type_is_handed_over_when_that_comes() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    for id in ["a", "b", "c"] {
        sdk.send(
            &json!({"type": "registertrigger", "id": id, "trigger_type": "mine",
            "function_id": "f", "config": {"of": id}, "metadata": {"m": 1}}),
        );
    }
    sdk.send(&json!({"type": "unregistertrigger", "id": "b", "trigger_type": "mine"}));
    sdk.hears_nothing_more(); // nobody is told of anything
    let listed = sdk.call("engine::triggers::list", json!({}));
    assert_eq!(listed["result"]["triggers"].as_array().unwrap().len(), 2);

    let mut server_of_type = SdkWorker::connect(&server);
    serve(&mut server_of_type, "mine");
    for id in ["a", "c"] {
        assert_eq!(
            server_of_type.next(),
            json!({"type": "registertrigger", "id": id, "trigger_type": "mine", "function_id": "f",
                "config": {"of": id}, "metadata": {"m": 1}})
        );
    }
    drop(sdk);
    for id in ["a", "c"] {
        assert_eq!(
            server_of_type.next(),
            json!({"type": "unregistertrigger", "id": id, "trigger_type": "mine"})
        );
    }
}

#[test]
fn no_more_triggers_wait_for_their_types_than_may() {
    let server = TestServer::with(ONE_WORKER, |config| config.limits.early_triggers = 8);
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..8 {
        sdk.trigger(&format!("t{n}"), "mine", "f", json!({}));
    }
    sdk.trigger("more", "another", "f", json!({}));
    let message = "nobody serves its type yet, and limits.early_triggers exceeded: 9 > 8";
    let refused = ["more", "trigger_registration_failed", message];
    assert_eq!(texts(&sdk.refusal()), refused);
    // Those of types that somebody serves do not count.
    let mut server_of_type = SdkWorker::connect(&server);
    serve(&mut server_of_type, "mine");
    for _ in 0..8 {
        assert_eq!(server_of_type.next()["type"], "registertrigger");
    }
    for n in 0..8 {
        sdk.trigger(&format!("m{n}"), "mine", "f", json!({}));
        sdk.trigger(&format!("n{n}"), "another", "f", json!({}));
    }
    sdk.trigger("n8", "another", "f", json!({}));
    assert_eq!(sdk.refusal().0, "n8");
    drop(sdk);
    let mut other = SdkWorker::connect(&server);
    wait_until("the first worker's triggers are gone", || {
        let listed = other.call("engine::triggers::list", json!({}));
        listed["result"]["triggers"] == json!([])
    });
    other.trigger("t", "another", "f", json!({}));
    other.hears_nothing_more();
}

#[test]
fn triggers_that_wait_for_their_types_hold_no_more_bytes_than_they_may() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let text = "x".repeat(1 << 20);
    for n in 0..11 {
        sdk.trigger(&format!("t{n}"), "mine", "f", json!({"text": text}));
    }
    sdk.hears_nothing_more();
    sdk.trigger("t11", "mine", "f", json!({"text": text}));
    let (id, _, message) = sdk.refusal();
    assert_eq!(id, "t11", "three quarters of 16 MiB are one worker's");
    assert!(
        message.contains("limits.early_triggers_bytes exceeded"),
        "{message}"
    );
    // Another one has little, and finds room.
    let mut other = SdkWorker::connect(&server);
    other.trigger("t", "mine", "f", json!({"text": "x".repeat(60_000)}));
    other.hears_nothing_more();
}
