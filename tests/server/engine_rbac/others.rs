//! What a worker of a listener with rules may not do to others: call by a trigger what it may not call, take
//! over, replace or end what they have.

use serde_json::json;
use tungstenite::Message;

use super::{admitted, exposed, rules, subscribe, told_of, with_rules};
use crate::support::{ONE_WORKER, SdkWorker, TestServer};

fn end_trigger(worker: &mut SdkWorker, id: &str) {
    worker.send(&json!({"type": "unregistertrigger", "id": id}));
    worker.settle();
}

#[test]
fn a_trigger_of_a_worker_with_rules_calls_what_is_its_own_or_may_be_called() {
    let (_server, mut sdk, guarded) = with_rules(rules(None, exposed("open::*")));
    for function in ["open::f", "closed::f", "closed::ask", "marker"] {
        sdk.register(function);
    }
    let mut worker = SdkWorker::over(guarded, "/");
    worker.wait_for_hello();
    subscribe(&mut worker, "a", "open::f", "t");
    for (id, function) in [("b", "closed::f"), ("c", "stream::set"), ("d", "publish")] {
        subscribe(&mut worker, id, function, "t");
        let (refused, code, _) = worker.refusal();
        assert_eq!((&*refused, &*code), (id, "FORBIDDEN"));
    }
    // One that nobody has yet may come to be its own, or somebody else's.
    for (id, function) in [("e", "mine"), ("f", "closed::late")] {
        subscribe(&mut worker, id, function, "t");
    }
    worker.register("mine");
    sdk.register("closed::late");
    assert_eq!(told_of(&mut sdk, "t"), ["open::f"]);
    assert_eq!(worker.next_call()["function_id"], "mine");
    // A condition is a call as well.
    let watched = json!({"stream_name": "s", "condition_function_id": "closed::ask"});
    worker.trigger("g", "stream", "mine", watched);
    sdk.set(("s", "g"), "i", json!(1));
    assert!(told_of(&mut sdk, "other").is_empty());
    // Where there are no rules everything may be called.
    subscribe(&mut sdk, "h", "closed::f", "u");
    assert_eq!(told_of(&mut sdk, "u"), ["closed::f"]);
}

#[test]
fn a_worker_with_rules_neither_replaces_nor_ends_what_is_another_s() {
    let (_server, mut sdk, guarded) = with_rules(rules(None, exposed("*")));
    for function in ["f", "marker"] {
        sdk.register(function);
    }
    sdk.send(&json!({"type": "registertriggertype", "id": "kind", "description": "d"}));
    subscribe(&mut sdk, "t", "f", "topic");
    let mut worker = SdkWorker::over(guarded, "/");
    worker.wait_for_hello();
    subscribe(&mut worker, "t", "f", "elsewhere");
    let (id, code, message) = worker.refusal();
    assert_eq!((&*id, &*code), ("t", "trigger_registration_failed"));
    assert_eq!(message, "the id is that of a trigger of another worker");
    end_trigger(&mut worker, "t");
    worker.register("f");
    for kind in ["kind", "subscribe"] {
        worker.send(&json!({"type": "registertriggertype", "id": kind, "description": "d"}));
    }
    worker.settle();
    assert_eq!(told_of(&mut sdk, "topic"), ["f"]);
    worker.trigger("k", "kind", "f", json!({}));
    assert_eq!(sdk.next()["type"], "registertrigger", "it serves the type");

    // A program of the same port that has connected anew goes on with its own.
    let mut newer = SdkWorker::over(guarded, "/");
    newer.wait_for_hello();
    for worker in [&mut worker, &mut newer] {
        worker.register("mine");
        subscribe(worker, "m", "mine", "topic");
    }
    end_trigger(&mut worker, "m");
    assert_eq!(told_of(&mut sdk, "topic"), ["f"]);
    assert_eq!(newer.next_call()["function_id"], "mine");
    subscribe(&mut worker, "m", "mine", "other");
    assert_eq!(worker.refusal().0, "m");
    // Whoever has no rules may end it.
    end_trigger(&mut sdk, "m");
    assert_eq!(told_of(&mut sdk, "topic"), ["f"]);
    newer.settle();
    newer.void("mine", json!("marker"));
    assert_eq!(newer.next_call()["data"], "marker");
}

#[test]
fn functions_that_decide_and_those_of_other_ports_are_not_taken_over() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.auth.function = Some("door".to_owned());
        config
            .worker_listeners
            .push(rules(Some("auth"), exposed("*")));
    });
    let mut sdk = SdkWorker::connect(&server);
    let guarded = server.workers()[1];
    for function in ["auth", "f", "stream::get(chat)"] {
        sdk.register(function);
    }
    sdk.trigger("j", "stream:join", "gate", json!({"stream_name": "chat"}));
    let mut worker = admitted(&mut sdk, guarded, json!({}));
    let taken = [
        "auth",
        "door",
        "gate",
        "f",
        "stream::get(chat)",
        "stream::set(chat)",
        "stream::set",
    ];
    for function in taken {
        worker.register(function);
    }
    worker.register("stream::get(free)");
    let workers = sdk.call("engine::functions::list", json!({"include_internal": true}));
    let listed = workers["result"]["functions"].as_array().unwrap().iter();
    let ids: Vec<&str> = listed
        .map(|entry| entry["function_id"].as_str().unwrap())
        .collect();
    for function in ["door", "gate", "stream::set(chat)"] {
        assert!(!ids.contains(&function), "{function}");
    }
    assert!(ids.contains(&"stream::get(free)"));
    let id = worker.start("f", json!({}));
    let call = sdk.next_call_of("f");
    sdk.answer(&call, json!({"result": "still"}));
    assert_eq!(worker.result(&id)["result"], "still");
    sdk.set(("chat", "g"), "i", json!(1));
    // One that comes later has it all the same.
    sdk.register("door");
    sdk.register("gate");
    let mut again = SdkWorker::over(guarded, "/");
    let call = sdk.next_call_of("auth");
    sdk.answer(&call, json!({"result": {}}));
    again.wait_for_hello();
}

#[test]
fn a_token_gives_no_place_on_another_listener_nor_with_other_rights() {
    let (server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("*")));
    sdk.register("auth");
    let reattach = |newer: &mut SdkWorker, older: &SdkWorker| {
        newer.send(
            &json!({"type": "reattach", "previous_worker_id": older.worker_id,
            "reattach_token": older.reattach_token}),
        );
        newer.settle();
    };
    let grant = json!({"context": {"user": 1}});
    let mut older = admitted(&mut sdk, guarded, grant.clone());
    older.register("mine");
    // One from a listener without rules, and one that may do something else.
    let mut strange = SdkWorker::connect(&server);
    reattach(&mut strange, &older);
    let mut other = admitted(&mut sdk, guarded, json!({"context": {"user": 2}}));
    reattach(&mut other, &older);
    let id = sdk.start("mine", json!({}));
    let call = older.next_call();
    older.answer(&call, json!({"result": 1}));
    assert_eq!(sdk.result(&id)["result"], 1);
    // The same user may.
    let mut newer = admitted(&mut sdk, guarded, grant);
    reattach(&mut newer, &older);
    newer.register("mine");
    assert!(matches!(older.next_message(), Message::Close(_)));
    let id = sdk.start("mine", json!({}));
    let call = newer.next_call();
    newer.answer(&call, json!({"result": 2}));
    assert_eq!(sdk.result(&id)["result"], 2);
}
