//! Triggers that are registered and ended by calls, as newer engines have it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::clients::error_in;
use crate::support::{ONE_WORKER, SdkWorker, TestServer, wait_until};

const REGISTER: &str = "engine::register_trigger";
const UNREGISTER: &str = "engine::unregister_trigger";
const ROOM: (&str, &str) = ("chat", "room");

fn on_chat(function: &str) -> Value {
    json!({"trigger_type": "stream", "function_id": function, "config": {"stream_name": "chat"}})
}

/// Registers it, and gives its id.
fn bind(sdk: &mut SdkWorker, input: Value) -> String {
    let answer = sdk.call(REGISTER, input);
    let id = answer["result"]["id"].as_str();
    id.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn ids(sdk: &mut SdkWorker) -> Vec<String> {
    let listed = sdk.call("engine::triggers::list", json!({}));
    let rows = listed["result"]["triggers"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Ends a worker; the server knows when this returns.
fn end(gone: SdkWorker, other: &mut SdkWorker) {
    let asked = json!({"worker_id": gone.worker_id});
    drop(gone);
    wait_until("the worker is gone", || {
        other.call("engine::workers::list", asked.clone())["result"]["workers"] == json!([])
    });
}

#[test]
fn a_trigger_registered_by_a_call_outlives_its_connection_until_somebody_ends_it() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("f");
    let mut gone = SdkWorker::connect(&server);
    let mut input = on_chat("f");
    input["metadata"] = json!({"m": 1});
    let id = bind(&mut gone, input);
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    end(gone, &mut sdk);

    sdk.set(ROOM, "a", json!(1));
    let call = sdk.next_call_of("f");
    assert_eq!(call["data"]["id"], "a");
    assert_eq!(call["metadata"], json!({"m": 1}));
    let ended = sdk.call(UNREGISTER, json!({"id": id}));
    assert_eq!(ended["result"], json!({"id": id}));
    sdk.set(ROOM, "a", json!(2));
    sdk.void("f", json!("marker"));
    assert_eq!(sdk.next_call_of("f")["data"], "marker");
    assert_eq!(
        sdk.error_of(UNREGISTER, json!({"id": id})),
        (
            "trigger_not_found".into(),
            format!("Trigger {id} not found")
        )
    );
}

#[test]
fn what_a_message_would_be_refused_for_is_the_error_of_the_call() {
    let server = TestServer::with(ONE_WORKER, |config| config.limits.early_triggers = 1);
    let mut sdk = SdkWorker::connect(&server);
    let refused = "trigger_registration_failed";
    let early = |id: &str| json!({"id": id, "trigger_type": "mine", "function_id": "f"});
    bind(&mut sdk, early("a"));
    for (input, code, words) in [
        (
            json!({}),
            "deserialization_error",
            "missing field `function_id`",
        ),
        (
            json!({"trigger_type": "stream", "function_id": "f", "config": {}}),
            refused,
            "stream trigger needs `stream_name`",
        ),
        (early("b"), refused, "limits.early_triggers exceeded: 2 > 1"),
        (
            json!({"trigger_type": "stream", "function_id": "f".repeat(5000),
                "config": {"stream_name": "s"}}),
            refused,
            "a function's id is too long",
        ),
        (
            json!({"trigger_type": "log", "function_id": "f", "metadata": "x".repeat(70_000)}),
            refused,
            "its metadata goes with each call",
        ),
    ] {
        let (found, message) = sdk.error_of(REGISTER, input);
        assert_eq!(found, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let id = "00000000-0000-4000-8000-000000000001";
    sdk.send_text(&format!(
        r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{REGISTER}","data":{{"trigger_type":"log",
        "function_id":"f","config":{}1{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    ));
    let (code, message) = error_in(&sdk.result(id));
    assert_eq!(code, "invocation_error");
    assert!(message.contains("limits.json_depth exceeded"), "{message}");
    assert_eq!(ids(&mut sdk), ["a"]);
}

#[test]
fn an_id_is_one_trigger_whether_a_message_or_a_call_has_registered_it() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let mut other = SdkWorker::connect(&server);
    sdk.register("f");
    sdk.register("g");
    let with_id = |function: &str| {
        let mut input = on_chat(function);
        input["id"] = json!("t");
        input
    };
    sdk.trigger("t", "stream", "g", json!({"stream_name": "chat"}));
    assert_eq!(bind(&mut sdk, with_id("f")), "t");
    sdk.set(ROOM, "a", json!(1));
    assert_eq!(sdk.next_call()["function_id"], "f");
    // It is still that worker's to end, as it is everybody's.
    assert!(
        sdk.call(UNREGISTER, json!({"id": "t"}))
            .get("error")
            .is_none()
    );
    bind(&mut sdk, with_id("f"));
    other.send(&json!({"type": "unregistertrigger", "id": "t"}));
    other.settle();
    assert!(ids(&mut sdk).is_empty());
    // A message takes it over, and then it ends with its worker again.
    bind(&mut sdk, with_id("f"));
    other.trigger("t", "stream", "g", json!({"stream_name": "chat"}));
    sdk.set(ROOM, "a", json!(2));
    assert_eq!(sdk.next_call()["function_id"], "g");
    end(other, &mut sdk);
    wait_until("its trigger is gone", || ids(&mut sdk).is_empty());
}

#[test]
fn a_trigger_of_a_call_calls_the_function_of_its_caller_s_namespace() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("f");
    let mut caller = SdkWorker::connect(&server);
    let mut owner = SdkWorker::connect(&server);
    for worker in [&mut caller, &mut owner] {
        let about = json!({"runtime": "node", "pid": 1, "namespace": "orders"});
        worker.call("engine::workers::register", about);
    }
    owner.register("f");
    bind(&mut caller, on_chat("f"));
    end(caller, &mut sdk);
    sdk.set(ROOM, "a", json!(1));
    assert_eq!(owner.next_call()["data"]["id"], "a");
    let mut input = on_chat("f");
    input["namespace"] = json!("default");
    bind(&mut owner, input);
    sdk.set(ROOM, "b", json!(1));
    assert_eq!(sdk.next_call()["data"]["id"], "b");
}

#[test]
fn triggers_of_calls_hold_no_more_than_those_of_one_worker() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let text = "x".repeat(8 << 20);
    let with = |n: usize| json!({"id": format!("t{n}"), "trigger_type": "log", "function_id": "f", "config": text});
    for n in 0..7 {
        bind(&mut sdk, with(n));
    }
    let mut other = SdkWorker::connect(&server);
    let (code, message) = other.error_of(REGISTER, with(7));
    assert_eq!(code, "trigger_registration_failed");
    assert!(
        message.contains("would hold more than 67108864 bytes"),
        "{message}"
    );
    other.call(UNREGISTER, json!({"id": "t0"}));
    bind(&mut other, with(7));
}

#[test]
fn no_trigger_registers_or_ends_triggers() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("f");
    for (id, function) in [("a", REGISTER), ("b", UNREGISTER), ("c", "f")] {
        sdk.trigger(id, "subscribe", function, json!({"topic": "t"}));
    }
    let mut input = on_chat("f");
    input["id"] = json!("a");
    sdk.call("publish", json!({"topic": "t", "data": input}));
    assert_eq!(sdk.next_call()["data"]["id"], "a");
    let listed = sdk.call("engine::triggers::list", json!({"include_internal": true}));
    let rows = listed["result"]["triggers"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["trigger_type"] == "subscribe"));
}

#[test]
fn registered_triggers_are_listed_by_function_and_type_and_one_by_its_id() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let mut on_chat = on_chat("f");
    on_chat["id"] = json!("b");
    on_chat["metadata"] = json!({"m": 1});
    bind(&mut sdk, on_chat);
    sdk.trigger("a", "subscribe", "f", json!({"topic": "t"}));
    sdk.trigger("c", "stream:join", "g", json!({}));
    sdk.trigger("d", "mine", "engine::x", json!(null));
    let mut listed = |input: Value| -> Vec<String> {
        let answer = sdk.call("engine::registered-triggers::list", input);
        let rows = answer["result"]["registered_triggers"].as_array();
        let rows = rows.unwrap_or_else(|| panic!("{answer}")).iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(json!({})), ["a", "b", "c"]);
    assert_eq!(
        listed(json!({"include_internal": true})),
        ["a", "b", "c", "d"]
    );
    assert_eq!(listed(json!({"function_id": "f"})), ["a", "b"]);
    assert_eq!(listed(json!({"function_id": "engine::x"})), ["d"]);
    assert_eq!(
        listed(json!({"trigger_type": "stream:join", "function_id": null})),
        ["c"]
    );
    assert!(listed(json!({"function_id": "f", "trigger_type": "stream:join"})).is_empty());
    let info = "engine::registered-triggers::info";
    assert_eq!(
        sdk.call(info, json!({"id": "b"}))["result"],
        json!({"id": "b", "trigger_type": "stream", "function_id": "f",
            "config": {"stream_name": "chat"}, "metadata": {"m": 1}})
    );
    assert_eq!(
        sdk.error_of(info, json!({"id": "x"})).0,
        "trigger_not_found"
    );
    let (code, message) = sdk.error_of(
        "engine::registered-triggers::list",
        json!({"function_id": 5}),
    );
    assert_eq!(code, "deserialization_error");
    assert!(
        message.ends_with("invalid type: integer `5`, expected a string"),
        "{message}"
    );
}

#[test]
fn a_list_that_passes_over_very_many_triggers_is_made_in_turns() {
    const MANY: usize = 30_000;
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..MANY {
        sdk.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    sdk.settle();
    let asked: Vec<String> = (0..20)
        .map(|_| {
            sdk.start(
                "engine::registered-triggers::list",
                json!({"function_id": "nobody"}),
            )
        })
        .collect();
    for id in asked {
        assert_eq!(
            sdk.result(&id)["result"],
            json!({"registered_triggers": []})
        );
    }
    let longest = server.shared().engine.loop_turns.longest();
    assert!(longest < Duration::from_millis(250), "{longest:?}");
}
