//! The worker port: calls between SDK workers, registrations, and what becomes of both when one goes.

mod bounds;
mod owners;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;
use uuid::Uuid;

use crate::support::clients::{error_in, set_input};
use crate::support::{
    ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape, raw,
};

fn error(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

/// A server with a caller and a callee that has registered `f`.
fn pair(server: &TestServer) -> (SdkWorker, SdkWorker) {
    let caller = SdkWorker::connect(server);
    let mut callee = SdkWorker::connect(server);
    callee.register("f");
    (caller, callee)
}

#[test]
fn a_call_reaches_its_function_and_the_answer_its_caller() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    let id = caller.start("f", json!({"a": 1, "_caller_worker_id": "forged"}));
    let call = callee.next_call();
    assert_eq!(
        call,
        json!({"type": "invokefunction", "invocation_id": id, "function_id": "f",
            "data": {"_caller_worker_id": caller.worker_id, "a": 1}})
    );
    callee.answer(&call, json!({"result": {"a": [1]}}));
    assert_eq!(
        caller.result(&id),
        json!({"type": "invocationresult", "invocation_id": id, "function_id": "f", "result": {"a": [1]}})
    );
    for data in [json!([1]), json!("text"), json!(null), json!(5)] {
        let id = caller.start("f", data.clone());
        let call = callee.next_call();
        assert_eq!(call["data"], data, "only an object is told who calls");
        callee.answer(&call, json!({}));
        caller.result(&id);
    }
}

#[test]
fn no_value_means_no_result_field() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    for fields in [
        json!({}),
        json!({"result": null}),
        json!({"result": null, "error": null}),
    ] {
        let id = caller.start("f", json!({}));
        let call = callee.next_call();
        callee.answer(&call, fields);
        let result = caller.result(&id);
        assert!(
            result.get("result").is_none() && result.get("error").is_none(),
            "{result}"
        );
    }
}

#[test]
fn errors_pass_with_code_message_and_stack_and_others_are_completed() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    let whole = json!({"code": "c", "message": "m", "stacktrace": "st"});
    let errors = [
        (
            json!({"code": "c", "message": "m", "stacktrace": "st", "more": 1}),
            whole,
        ),
        (
            json!({"code": "c", "message": "m"}),
            json!({"code": "c", "message": "m"}),
        ),
        (
            json!("boom"),
            json!({"code": "invocation_failed", "message": "boom"}),
        ),
    ];
    for (given, told) in errors {
        let id = caller.start("f", json!({}));
        let call = callee.next_call();
        callee.answer(&call, json!({"error": given, "result": 1}));
        let result = caller.result(&id);
        assert!(result.get("result").is_none(), "the error wins");
        if given.is_string() {
            assert_eq!(result["error"]["code"], told["code"]);
            assert!(
                result["error"]["message"]
                    .as_str()
                    .unwrap()
                    .contains("boom")
            );
        } else {
            assert_eq!(result["error"], told);
        }
    }
}

#[test]
fn a_void_call_is_made_under_a_new_id_and_nobody_is_answered() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    let id = Uuid::new_v4().to_string();
    caller.send(
        &json!({"type": "invokefunction", "invocation_id": id, "function_id": "f",
        "data": {}, "action": {"type": "void"}}),
    );
    caller.send(&json!({"type": "invokefunction", "function_id": "f", "data": {}}));
    for _ in 0..2 {
        let call = callee.next_call();
        assert!(Uuid::parse_str(call["invocation_id"].as_str().unwrap()).is_ok());
        assert_ne!(call["invocation_id"], json!(id));
        callee.answer(&call, json!({"result": 1}));
    }
    callee.settle();
    caller.void("unknown", json!({}));
    caller.void("stream::set", json!({"of": "no such shape"}));
    caller.hears_nothing_more();
}

#[test]
fn an_unknown_function_is_not_found_and_a_queue_is_not_there() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, _callee) = pair(&server);
    assert_eq!(
        caller.error_of("nowhere", json!({})),
        error("function_not_found", "Function nowhere not found")
    );
    let id = Uuid::new_v4().to_string();
    let mut call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "f",
        "data": {}, "action": {"type": "enqueue", "queue": "q"}});
    caller.send(&call);
    assert_eq!(
        error_in(&caller.result(&id)),
        error("enqueue_error", "QueueModule not loaded")
    );
    call["action"] = json!({"type": "enqueue"});
    caller.send(&call);
    call["action"] = json!({"type": "later"});
    caller.send(&call);
    caller.hears_nothing_more(); // both were dropped
}

#[test]
fn trace_fields_go_to_the_callee_and_back_unchanged() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    for function in ["f", "stream::list_all", "unknown"] {
        let id = Uuid::new_v4().to_string();
        caller.send(
            &json!({"type": "invokefunction", "invocation_id": id, "function_id": function,
            "data": {}, "traceparent": "00-a-b-01", "baggage": "k=v"}),
        );
        if function == "f" {
            let call = callee.next_call();
            assert_eq!(call["traceparent"], "00-a-b-01");
            assert_eq!(call["baggage"], "k=v");
            callee.answer(
                &call,
                json!({"result": 1, "traceparent": "other", "baggage": "other"}),
            );
        }
        let result = caller.result(&id);
        assert_eq!(result["traceparent"], "00-a-b-01");
        assert_eq!(result["baggage"], "k=v");
    }
}

#[test]
fn ids_of_calls_are_per_caller() {
    let server = TestServer::start(ONE_WORKER);
    let (mut first, mut callee) = pair(&server);
    let mut second = SdkWorker::connect(&server);
    let id = Uuid::new_v4().to_string();
    first.start_as(&id, "f", json!("first"));
    let of_first = callee.next_call();
    second.start_as(&id, "f", json!("second"));
    let of_second = callee.next_call();
    assert_eq!(of_first["invocation_id"], json!(id));
    assert_ne!(
        of_second["invocation_id"],
        json!(id),
        "it is in flight there already"
    );
    callee.answer(&of_second, json!({"result": 2}));
    callee.answer(&of_first, json!({"result": 1}));
    assert_eq!(first.result(&id)["result"], 1);
    assert_eq!(second.result(&id)["result"], 2);
}

#[test]
fn the_same_id_twice_ends_the_older_call() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    let id = Uuid::new_v4().to_string();
    caller.start_as(&id, "f", json!(1));
    caller.start_as(&id, "f", json!(2));
    assert_eq!(
        error_in(&caller.result(&id)),
        error("invocation_error", "channel closed")
    );
    let calls = [callee.next_call(), callee.next_call()];
    callee.answer(&calls[0], json!({"result": "older"}));
    callee.answer(&calls[1], json!({"result": "newer"}));
    assert_eq!(caller.result(&id)["result"], "newer");
    // The server's own functions answer both.
    caller.start_as(&id, "stream::list_all", json!({}));
    caller.start_as(&id, "stream::list_all", json!({}));
    assert!(caller.result(&id).get("error").is_none());
    assert!(caller.result(&id).get("error").is_none());
}

#[test]
fn ids_are_taken_in_every_form_and_written_in_one() {
    let server = TestServer::start(ONE_WORKER);
    let mut caller = SdkWorker::connect(&server);
    let id = "a1b2c3d4-0000-1000-8000-00000000000a";
    for form in [
        id.to_uppercase(),
        id.replace('-', ""),
        format!("{{{id}}}"),
        format!("urn:uuid:{id}"),
    ] {
        caller.start_as(&form, "unknown", json!({}));
        caller.result(id);
    }
    caller.start_as("no uuid", "unknown", json!({}));
    caller.settle();
}

#[test]
fn only_the_callee_may_answer_and_only_once() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    let mut stranger = SdkWorker::connect(&server);
    let id = caller.start("f", json!({}));
    let call = callee.next_call();
    stranger.answer(&call, json!({"result": "forged"}));
    stranger.settle();
    caller.answer(&call, json!({"result": "forged"}));
    caller.settle();
    callee.answer(&call, json!({"result": "true"}));
    callee.answer(&call, json!({"result": "late"}));
    assert_eq!(caller.result(&id)["result"], "true");
    callee.settle();
    caller.hears_nothing_more();
}

#[test]
fn a_call_without_an_answer_times_out() {
    let server = TestServer::with(ONE_WORKER, |config| config.call_timeout_ms = 200);
    let (mut caller, mut callee) = pair(&server);
    let began = Instant::now();
    let id = caller.start("f", json!({}));
    assert_eq!(
        error_in(&caller.result(&id)),
        error("invocation_timeout", "invocation timed out after 200ms")
    );
    assert!(began.elapsed() >= Duration::from_millis(200));
    let call = callee.next_call();
    callee.answer(&call, json!({"result": "late"}));
    callee.settle();
    caller.hears_nothing_more();
}

#[test]
fn an_answer_for_a_caller_that_left_harms_nobody() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut callee) = pair(&server);
    caller.start("f", json!({}));
    let call = callee.next_call();
    drop(caller);
    let mut next = SdkWorker::connect(&server);
    let id = next.start("f", json!({}));
    let second = callee.next_call();
    callee.answer(&call, json!({"result": "for nobody"}));
    callee.answer(&second, json!({"result": "for the next"}));
    assert_eq!(next.result(&id)["result"], "for the next");
}

#[test]
fn a_trigger_that_is_refused_is_answered_by_a_message() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.send(
        &json!({"type": "registertrigger", "id": "t4", "trigger_type": "stream",
        "function_id": "f", "config": {}, "message_type": "registertrigger"}),
    );
    assert_eq!(
        sdk.next(),
        json!({"type": "triggerregistrationresult", "id": "t4", "trigger_type": "stream",
            "function_id": "f", "error": {"code": "trigger_registration_failed",
            "message": "stream trigger needs `stream_name`"}})
    );
    sdk.settle();
}

#[test]
fn what_an_sdk_says_of_itself_at_connect_is_taken() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let about = json!({"runtime": "node", "version": "0.11.6", "name": "host:1", "os": "linux",
        "pid": 1, "isolation": null, "telemetry": {"language": "node"}, "features": []});
    sdk.void("engine::workers::register", about.clone());
    assert_eq!(
        sdk.call("engine::workers::register", about)["result"],
        json!({"success": true})
    );
}

#[test]
fn what_is_no_message_is_dropped_and_the_next_is_served() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    for text in [
        "",
        "  ",
        "nonsense",
        "[]",
        "{}",
        r#"["ping"]"#,
        r#"{"type":"Ping"}"#,
        r#"{"type":"reattach","id":"x"}"#,
        r#"{"type":"ping"} x"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"registerfunction"}"#,
        r#"{"type":"registerfunction","id":5}"#,
        r#"{"type":"invokefunction","data":{}}"#,
        r#"{"type":"invocationresult","invocation_id":"00000000-0000-4000-8000-000000000000","function_id":"f"}"#,
        r#"{"type":"registerservice","id":"s"}"#,
        r#"{"type":"unregistertrigger","id":"none"}"#,
        r#"{"type":"pong"}"#,
    ] {
        sdk.send_text(text);
    }
    sdk.send_message(Message::binary(b"OTLP{}".to_vec()));
    sdk.send_message(Message::binary(br#"{"type":"ping"}"#.to_vec()));
    assert_eq!(
        sdk.next(),
        json!({"type": "pong"}),
        "binary is read like text"
    );
}

#[test]
fn calls_of_one_socket_reach_a_group_in_the_order_sent() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let room = ("ordered", "room");
        let ids: Vec<String> = (0..500)
            .map(|n| sdk.start("stream::set", set_input(room, "i", json!(n))))
            .collect();
        for (n, id) in ids.iter().enumerate() {
            let result = sdk.next();
            assert_eq!(
                result["invocation_id"],
                json!(id),
                "answers of one group keep the order"
            );
            let old = if n == 0 { Value::Null } else { json!(n - 1) };
            assert_eq!(result["result"], json!({"new_value": n, "old_value": old}));
        }
    });
}
