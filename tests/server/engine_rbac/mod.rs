//! Several listeners for SDK workers: what whoever is let in may call and register there.
//!
//! Who is let in is in `entering`, what is another worker's or listener's in `others`, functions that are asked
//! about calls and registrations in `asked`, triggers that calls register in `bindings`.

mod asked;
mod bindings;
mod entering;
mod others;

use std::net::SocketAddr;

use iii_stream::config::{Endpoint, Rbac, WorkerListener};
use iii_stream::protocol::rbac::{Filter, Wanted};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::clients::error_in;
use crate::support::{ONE_WORKER, SdkWorker, TestServer};

fn rules(auth_function: Option<&str>, expose_functions: Vec<Filter>) -> WorkerListener {
    WorkerListener {
        endpoint: Endpoint::new("127.0.0.1", 0),
        rbac: Some(Rbac {
            auth_function: auth_function.map(str::to_owned),
            expose_functions,
            ..Rbac::default()
        }),
        middleware: None,
    }
}

fn exposed(pattern: &str) -> Vec<Filter> {
    vec![Filter::of_id(pattern)]
}

/// A server with a listener without rules and one with these, and an SDK worker on the first.
fn with_rules(listener: WorkerListener) -> (TestServer, SdkWorker, SocketAddr) {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners.push(listener);
        config.call_timeout_ms = 60_000;
    });
    let sdk = SdkWorker::connect(&server);
    let guarded = server.workers()[1];
    (server, sdk, guarded)
}

/// Whoever calls this name reaches the worker's function `f`, and is answered by that name.
fn calls_by_name(caller: &mut SdkWorker, name: &str, worker: &mut SdkWorker) {
    let id = caller.start(name, json!({}));
    let call = worker.next_call();
    assert_eq!(call["function_id"], "f");
    worker.answer(&call, json!({"result": 1}));
    let result = caller.result(&id);
    assert_eq!(
        (&result["function_id"], &result["result"]),
        (&json!(name), &json!(1))
    );
}

/// An SDK worker that the auth function of the other one lets in with this answer.
fn admitted(sdk: &mut SdkWorker, guarded: SocketAddr, grant: Value) -> SdkWorker {
    let mut worker = SdkWorker::over(guarded, "/");
    let call = sdk.next_call();
    assert_eq!(call["function_id"], "auth");
    sdk.answer(&call, json!({"result": grant}));
    worker.wait_for_hello();
    worker
}

fn forbidden(function: &str) -> (String, String) {
    let message = format!("function '{function}' not allowed (add to rbac.expose_functions)");
    ("FORBIDDEN".to_owned(), message)
}

fn functions_listed(worker: &mut SdkWorker, include_internal: bool) -> Vec<String> {
    let asked = json!({"include_internal": include_internal});
    let list = worker.call("engine::functions::list", asked);
    let functions = list["result"]["functions"].as_array().unwrap().iter();
    functions
        .map(|entry| entry["function_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Fires that topic, and gives the functions of `sdk` that were called before the marker.
fn told_of(sdk: &mut SdkWorker, topic: &str) -> Vec<String> {
    sdk.void("publish", json!({"topic": topic, "data": 1}));
    sdk.void("marker", json!({}));
    let mut told = Vec::new();
    loop {
        let call = sdk.next_call();
        match call["function_id"].as_str().unwrap() {
            "marker" => return told,
            function => told.push(function.to_owned()),
        }
    }
}

fn subscribe(worker: &mut SdkWorker, id: &str, function: &str, topic: &str) {
    worker.trigger(id, "subscribe", function, json!({"topic": topic}));
}

#[test]
fn what_may_be_called_is_what_is_granted_or_exposed_and_not_forbidden() {
    let metadata = Filter {
        metadata: vec![("public".into(), Wanted::Equal(true.into()))],
        ..Filter::default()
    };
    let exposed = vec![Filter::of_id("open::*"), metadata];
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed));
    sdk.register("auth");
    for function in ["open::a", "open::no", "granted", "closed"] {
        sdk.register(function);
    }
    sdk.send(&json!({"type": "registerfunction", "id": "shown", "metadata": {"public": true}}));
    sdk.settle();
    let grant = json!({"allowed_functions": ["granted", "engine::functions::list", "nowhere"],
        "forbidden_functions": ["open::no", "engine::log::info"]});
    let mut worker = admitted(&mut sdk, guarded, grant);
    for function in ["open::a", "granted", "shown"] {
        let id = worker.start(function, json!({}));
        let call = sdk.next_call();
        assert_eq!(call["function_id"], function);
        sdk.answer(&call, json!({"result": 1}));
        assert_eq!(worker.result(&id)["result"], 1);
    }
    assert_eq!(worker.error_of("closed", json!({})), forbidden("closed"));
    assert_eq!(
        worker.error_of("nowhere", json!({})).0,
        "function_not_found",
        "it may call what is not there"
    );
    for function in ["open::no", "engine::log::info"] {
        let message =
            format!("function '{function}' not allowed (remove from rbac.forbidden_functions)");
        assert_eq!(
            worker.error_of(function, json!({})),
            ("FORBIDDEN".to_owned(), message)
        );
    }
    assert_eq!(
        functions_listed(&mut worker, false),
        ["granted", "open::a", "shown"]
    );
    let internal = functions_listed(&mut worker, true);
    assert!(internal.contains(&"engine::log::warn".to_owned()));
    assert!(!internal.contains(&"engine::log::info".to_owned()));

    // The refusal comes before the action is looked at, also to those who wait for nothing.
    let id = Uuid::new_v4().to_string();
    worker.send(
        &json!({"type": "invokefunction", "invocation_id": id, "function_id": "closed",
        "data": {}, "traceparent": "tp", "baggage": "b", "action": {"type": "void"}}),
    );
    let told = worker.next();
    assert_eq!(error_in(&told), forbidden("closed"));
    assert_eq!(
        (&told["traceparent"], &told["baggage"]),
        (&json!("tp"), &json!("b"))
    );
    let told_id = told["invocation_id"].as_str().unwrap();
    assert!(Uuid::parse_str(told_id).is_ok() && told_id != id);
    worker.send(
        &json!({"type": "invokefunction", "invocation_id": id, "function_id": "closed",
        "data": {}, "action": {"type": "enqueue", "queue": "q"}}),
    );
    assert_eq!(error_in(&worker.result(&id)), forbidden("closed"));
}

#[test]
fn registrations_that_are_not_allowed_are_passed_over() {
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("*")));
    sdk.register("auth");
    let grant = json!({"allow_function_registration": false, "allowed_trigger_types": ["log"]});
    let mut worker = admitted(&mut sdk, guarded, grant);
    worker.send(&json!({"type": "registerfunction", "id": "f"}));
    worker.send(&json!({"type": "registertriggertype", "id": "mine", "description": "d"}));
    for (id, kind) in [("s", "stream:join"), ("l", "log"), ("m", "mine")] {
        worker.send(
            &json!({"type": "registertrigger", "id": id, "trigger_type": kind,
            "function_id": "f", "config": {}}),
        );
    }
    worker.hears_nothing_more(); // without a word
    assert_eq!(sdk.error_of("f", json!({})).0, "function_not_found");
    let triggers = sdk.call("engine::triggers::list", json!({}));
    let triggers = triggers["result"]["triggers"].as_array().unwrap();
    assert_eq!(triggers.len(), 1);
    assert_eq!(triggers[0]["id"], "l");
    let types = sdk
        .call("engine::trigger-types::list", json!({}))
        .to_string();
    assert!(!types.contains("\"mine\""));
}

#[test]
fn functions_stand_under_the_prefix_that_is_granted() {
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("*")));
    sdk.register("auth");
    let grant = json!({"function_registration_prefix": "tenant"});
    let mut worker = admitted(&mut sdk, guarded, grant);
    worker.register("f");
    worker.send(
        &json!({"type": "registertrigger", "id": "t", "trigger_type": "subscribe",
        "function_id": "f", "config": {"topic": "t"}}),
    );
    worker.settle();
    assert_eq!(sdk.error_of("f", json!({})).0, "function_not_found");
    calls_by_name(&mut sdk, "tenant::f", &mut worker);
    sdk.void("publish", json!({"topic": "t", "data": "hello"}));
    let call = worker.next_call();
    assert_eq!(
        (&call["function_id"], &call["data"]),
        (&json!("f"), &json!("hello"))
    );
    let listed = sdk.call("engine::triggers::list", json!({}));
    assert_eq!(listed["result"]["triggers"][0]["function_id"], "tenant::f");
    // A refused trigger is told of as the worker knows it.
    worker.send(
        &json!({"type": "registertrigger", "id": "u", "trigger_type": "stream",
        "function_id": "f", "config": {}}),
    );
    let told = worker.next();
    assert_eq!(
        (&told["type"], &told["function_id"]),
        (&json!("triggerregistrationresult"), &json!("f"))
    );
    worker.send(&json!({"type": "unregisterfunction", "id": "f"}));
    worker.settle();
    assert_eq!(sdk.error_of("tenant::f", json!({})).0, "function_not_found");
}
