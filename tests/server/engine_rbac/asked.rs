//! Functions that a listener has asked: in place of each call, and about each registration.

use super::*;

const FUNCTION: &str = "on-function";
const TRIGGER: &str = "on-trigger";
const TRIGGER_TYPE: &str = "on-type";

/// All registrations are asked about, and whoever connects has a context.
fn with_questions(call_timeout_ms: u64) -> (TestServer, SdkWorker, SdkWorker) {
    with_listener(call_timeout_ms, |listener| {
        let rbac = listener.rbac.as_mut().unwrap();
        rbac.on_function = Some(FUNCTION.to_owned());
        rbac.on_trigger = Some(TRIGGER.to_owned());
        rbac.on_trigger_type = Some(TRIGGER_TYPE.to_owned());
    })
}

/// Gives the server, the worker of the functions that are asked, and a worker of that listener.
fn with_listener(
    call_timeout_ms: u64,
    change: impl FnOnce(&mut WorkerListener),
) -> (TestServer, SdkWorker, SdkWorker) {
    let mut listener = rules(Some("auth"), exposed("*"));
    change(&mut listener);
    let server = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners.push(listener);
        config.call_timeout_ms = call_timeout_ms;
    });
    let mut sdk = SdkWorker::connect(&server);
    for function in ["auth", FUNCTION, TRIGGER, TRIGGER_TYPE, "middleware"] {
        sdk.register(function);
    }
    let grant = json!({"allow_trigger_type_registration": true, "context": {"user": 7},
        "function_registration_prefix": "p"});
    let worker = admitted(&mut sdk, server.workers()[1], grant);
    (server, sdk, worker)
}

/// Answers what is asked next, and gives what was asked.
fn answer_next(sdk: &mut SdkWorker, function: &str, answer: Value) -> Value {
    let call = sdk.next_call();
    assert_eq!(call["function_id"], function, "{call}");
    sdk.answer(&call, answer);
    call["data"].clone()
}

fn register_function(worker: &mut SdkWorker, id: &str) {
    worker.send(
        &json!({"type": "registerfunction", "id": id, "description": "d",
        "metadata": {"m": 1}}),
    );
}

fn register_trigger(worker: &mut SdkWorker, id: &str) {
    worker.send(
        &json!({"type": "registertrigger", "id": id, "trigger_type": "subscribe",
        "function_id": "f", "config": {"topic": "sent"}, "metadata": {"m": 2}}),
    );
}

fn register_type(worker: &mut SdkWorker, id: &str) {
    worker.send(&json!({"type": "registertriggertype", "id": id, "description": "d"}));
}

fn listed(sdk: &mut SdkWorker, function: &str, rows: &str) -> Vec<Value> {
    let list = sdk.call(function, json!({}));
    list["result"][rows].as_array().unwrap().clone()
}

#[test]
fn a_function_is_registered_as_the_answer_names_it_and_its_worker_keeps_its_own_name() {
    let (_server, mut sdk, mut worker) = with_questions(60_000);
    register_function(&mut worker, "f");
    let answer = json!({"function_id": "g", "description": "e", "metadata": {"m": 3}});
    let asked = answer_next(&mut sdk, FUNCTION, json!({"result": answer}));
    assert_eq!(
        asked,
        json!({"function_id": "f", "description": "d", "metadata": {"m": 1},
            "context": {"user": 7}})
    );
    worker.settle();
    let functions = listed(&mut sdk, "engine::functions::list", "functions");
    let row = functions.iter().find(|row| row["function_id"] == "p::g");
    let row = row.unwrap();
    assert_eq!(
        (&row["description"], &row["metadata"]),
        (&json!("e"), &json!({"m": 3}))
    );
    assert_eq!(sdk.error_of("p::f", json!({})).0, "function_not_found");
    calls_by_name(&mut sdk, "p::g", &mut worker);
    // Registered anew it stands where the newer answer says, and nowhere else.
    register_function(&mut worker, "f");
    answer_next(&mut sdk, FUNCTION, json!({"result": {}}));
    worker.settle();
    assert_eq!(sdk.error_of("p::g", json!({})).0, "function_not_found");
    register_function(&mut worker, "f");
    answer_next(&mut sdk, FUNCTION, json!({"result": {"function_id": "h"}}));
    worker.send(&json!({"type": "unregisterfunction", "id": "f"}));
    worker.settle();
    for function in ["p::f", "p::h"] {
        assert_eq!(sdk.error_of(function, json!({})).0, "function_not_found");
    }
}

#[test]
fn a_trigger_and_a_type_are_registered_as_the_answer_names_them() {
    let (_server, mut sdk, mut worker) = with_questions(60_000);
    register_trigger(&mut worker, "t");
    let answer = json!({"trigger_id": "u", "function_id": "g", "config": {"topic": "named"}});
    let asked = answer_next(&mut sdk, TRIGGER, json!({"result": answer}));
    assert_eq!(
        asked,
        json!({"trigger_id": "t", "trigger_type": "subscribe", "function_id": "f",
            "config": {"topic": "sent"}, "metadata": {"m": 2}, "context": {"user": 7}})
    );
    worker.settle();
    let triggers = listed(&mut sdk, "engine::triggers::list", "triggers");
    assert_eq!(triggers.len(), 1);
    assert_eq!(
        (&triggers[0]["id"], &triggers[0]["function_id"]),
        (&json!("u"), &json!("p::g"))
    );
    assert_eq!(triggers[0]["config"], json!({"topic": "named"}));
    for _ in 0..2 {
        // Registered anew it takes the place of what it was.
        register_trigger(&mut worker, "t");
        answer_next(&mut sdk, TRIGGER, json!({"result": {}}));
        worker.settle();
        let triggers = listed(&mut sdk, "engine::triggers::list", "triggers");
        assert_eq!((triggers.len(), &triggers[0]["id"]), (1, &json!("t")));
        register_trigger(&mut worker, "t");
        answer_next(&mut sdk, TRIGGER, json!({"result": {"trigger_id": "u"}}));
    }
    worker.settle();
    assert_eq!(
        listed(&mut sdk, "engine::triggers::list", "triggers").len(),
        1
    );
    worker.send(&json!({"type": "unregistertrigger", "id": "t"}));
    worker.settle();
    assert!(listed(&mut sdk, "engine::triggers::list", "triggers").is_empty());

    register_type(&mut worker, "k");
    let answer = json!({"trigger_type_id": "kind", "description": "e"});
    let asked = answer_next(&mut sdk, TRIGGER_TYPE, json!({"result": answer}));
    assert_eq!(
        asked,
        json!({"trigger_type_id": "k", "description": "d", "context": {"user": 7}})
    );
    worker.settle();
    let types = listed(&mut sdk, "engine::trigger-types::list", "trigger_types");
    let row = types.iter().find(|row| row["id"] == "kind").unwrap();
    assert_eq!(row["description"], "e");
    assert!(!types.iter().any(|row| row["id"] == "k"));
    sdk.trigger("x", "kind", "auth", json!({}));
    let handed = worker.next();
    assert_eq!(
        (&handed["type"], &handed["trigger_type"]),
        (&json!("registertrigger"), &json!("k"))
    );
}

#[test]
fn what_is_refused_or_answered_with_nonsense_is_not_registered() {
    let (_server, mut sdk, mut worker) = with_questions(60_000);
    let error = json!({"error": {"code": "c", "message": "not you"}});
    let answers = [
        (error, "not you"),
        (
            json!({}),
            "invalid type: null, expected struct OnTriggerRegistrationResult",
        ),
        (
            json!({"result": "yes"}),
            "invalid type: string \"yes\", expected struct OnTriggerRegistrationResult",
        ),
        (
            json!({"result": {"function_id": 5, "trigger_type_id": 5}}),
            "invalid type: integer `5`, expected a string",
        ),
    ];
    for (answer, why) in answers {
        register_function(&mut worker, "f");
        answer_next(&mut sdk, FUNCTION, answer.clone());
        register_type(&mut worker, "k");
        answer_next(&mut sdk, TRIGGER_TYPE, answer.clone());
        register_trigger(&mut worker, "t");
        answer_next(&mut sdk, TRIGGER, answer);
        let (id, code, message) = worker.refusal();
        assert_eq!(
            (&*id, &*code, &*message),
            ("t", "trigger_registration_failed", why)
        );
    }
    assert_eq!(sdk.error_of("p::f", json!({})).0, "function_not_found");
    assert!(listed(&mut sdk, "engine::triggers::list", "triggers").is_empty());
    let types = listed(&mut sdk, "engine::trigger-types::list", "trigger_types");
    assert!(!types.iter().any(|row| row["id"] == "k"));
    // What the answer names has to be allowed as well.
    register_function(&mut worker, "f");
    answer_next(&mut sdk, FUNCTION, json!({"result": {"function_id": "g"}}));
    worker.settle();
    sdk.void("p::g", json!({}));
    assert_eq!(worker.next_call()["function_id"], "f");
}

#[test]
fn nobody_to_ask_and_silence_refuse() {
    let (_server, mut sdk, mut worker) = with_questions(300);
    register_trigger(&mut worker, "t");
    register_function(&mut worker, "f");
    assert_eq!(sdk.next_call()["function_id"], TRIGGER);
    let (id, _, message) = worker.refusal();
    assert_eq!((&*id, &*message), ("t", "invocation timed out after 300ms"));
    // What was sent behind is asked about only now.
    assert_eq!(sdk.next_call()["function_id"], FUNCTION);
    worker.settle();
    assert_eq!(sdk.error_of("p::f", json!({})).0, "function_not_found");
    for function in [TRIGGER, FUNCTION, TRIGGER_TYPE] {
        sdk.send(&json!({"type": "unregisterfunction", "id": function}));
    }
    sdk.settle();
    register_function(&mut worker, "f");
    register_type(&mut worker, "k");
    register_trigger(&mut worker, "t");
    let (id, _, message) = worker.refusal();
    assert_eq!((&*id, &*message), ("t", "Function on-trigger not found"));
    assert_eq!(sdk.error_of("p::f", json!({})).0, "function_not_found");
}

#[test]
fn what_is_sent_behind_a_registration_waits_for_it_in_order() {
    let (_server, mut sdk, mut worker) = with_questions(60_000);
    register_function(&mut worker, "f");
    for n in 0..100 {
        worker.void("p::f", json!({"n": n}));
    }
    worker.send(&json!({"type": "ping"}));
    let call = sdk.next_call();
    // Others go on meanwhile.
    sdk.set(("s", "g"), "i", json!(1));
    assert_eq!(sdk.error_of("p::f", json!({})).0, "function_not_found");
    sdk.answer(&call, json!({"result": {}}));
    for n in 0..100 {
        assert_eq!(worker.next_call()["data"]["n"], n);
    }
    worker.settle();
}

#[test]
fn an_answer_for_a_worker_that_has_gone_registers_nothing() {
    let (_server, mut sdk, mut worker) = with_questions(60_000);
    register_function(&mut worker, "f");
    let call = sdk.next_call();
    drop(worker);
    sdk.answer(&call, json!({"result": {}}));
    sdk.settle();
    assert_eq!(sdk.error_of("p::f", json!({})).0, "function_not_found");
}

#[test]
fn the_functions_that_are_asked_are_not_taken_over() {
    let (_server, mut sdk, mut worker) = with_listener(60_000, |listener| {
        listener.rbac.as_mut().unwrap().on_trigger = Some("p::nobodys".to_owned());
        listener.rbac.as_mut().unwrap().on_function = Some("p::mine".to_owned());
        listener.middleware = Some("p::between".to_owned());
    });
    // Nobody has it, so that nothing can be registered: also not it itself.
    register_function(&mut worker, "mine");
    worker.settle();
    assert_eq!(sdk.error_of("p::mine", json!({})).0, "function_not_found");
    sdk.register("p::mine");
    for function in ["mine", "nobodys", "between"] {
        register_function(&mut worker, function);
        answer_next(&mut sdk, "p::mine", json!({"result": {}}));
    }
    // Nor by way of an answer.
    register_function(&mut worker, "f");
    answer_next(
        &mut sdk,
        "p::mine",
        json!({"result": {"function_id": "nobodys"}}),
    );
    worker.settle();
    for function in ["p::nobodys", "p::between"] {
        assert_eq!(sdk.error_of(function, json!({})).0, "function_not_found");
    }
    register_function(&mut worker, "f");
    answer_next(&mut sdk, "p::mine", json!({"result": {}}));
    worker.settle();
    sdk.void("p::f", json!({}));
    assert_eq!(worker.next_call()["function_id"], "f");
}

fn with_middleware() -> (TestServer, SdkWorker, SdkWorker) {
    with_listener(60_000, |listener| {
        listener.middleware = Some("middleware".to_owned());
    })
}

#[test]
fn each_call_of_a_listener_goes_to_its_middleware_function() {
    let (_server, mut sdk, mut worker) = with_middleware();
    sdk.register("f");
    let functions = [
        "f",
        "nowhere",
        "stream::set",
        "engine::workers::register",
        "middleware",
    ];
    for function in functions {
        let id = worker.start(function, json!({"a": 1}));
        let call = sdk.next_call();
        assert_eq!(call["function_id"], "middleware");
        let input = json!({"function_id": function, "payload": {"a": 1}, "context": {"user": 7}});
        assert_eq!(call["data"], input);
        sdk.answer(&call, json!({"result": function}));
        let result = worker.result(&id);
        assert_eq!(
            (&result["function_id"], &result["result"]),
            (&json!(function), &json!(function))
        );
    }
    let id = worker.start("f", json!(5));
    answer_next(
        &mut sdk,
        "middleware",
        json!({"error": {"code": "c", "message": "m"}}),
    );
    assert_eq!(
        error_in(&worker.result(&id)),
        ("c".to_owned(), "m".to_owned())
    );
    // What it forwards itself goes there, and so does what others call.
    let id = worker.start("f", json!(6));
    let asked = sdk.next_call();
    let forwarded = sdk.start("f", asked["data"]["payload"].clone());
    let call = sdk.next_call();
    assert_eq!(
        (&call["function_id"], &call["data"]),
        (&json!("f"), &json!(6))
    );
    sdk.answer(&call, json!({"result": 7}));
    let result = sdk.result(&forwarded)["result"].clone();
    sdk.answer(&asked, json!({"result": result}));
    assert_eq!(worker.result(&id)["result"], 7);
}

#[test]
fn actions_are_told_to_the_middleware_function_and_void_calls_stay_void() {
    let (_server, mut sdk, mut worker) = with_middleware();
    worker.void("f", json!(1));
    let call = sdk.next_call();
    assert_eq!(
        call["data"],
        json!({"function_id": "f", "payload": 1, "action": {"type": "void"}, "context": {"user": 7}})
    );
    sdk.answer(&call, json!({"result": "unheard"}));
    let id = Uuid::new_v4().to_string();
    worker.send(
        &json!({"type": "invokefunction", "invocation_id": id, "function_id": "f",
        "data": 2, "action": {"type": "enqueue", "queue": "q"}, "traceparent": "tp"}),
    );
    let call = sdk.next_call();
    assert_eq!(
        call["data"]["action"],
        json!({"type": "enqueue", "queue": "q"})
    );
    assert_eq!(call["traceparent"], "tp");
    sdk.answer(&call, json!({"result": {"messageReceiptId": "r"}}));
    assert_eq!(worker.next()["invocation_id"], id, "nothing is said before");
}

#[test]
fn what_the_middleware_function_could_not_read_is_refused() {
    let (_server, mut sdk, mut worker) = with_middleware();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let call = |id: &Uuid, depth: usize| {
        format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"f","data":{}}}"#,
            nested(depth)
        )
    };
    let id = Uuid::new_v4();
    worker.send_text(&call(&id, 126));
    let (code, message) = error_in(&worker.result(&id.to_string()));
    assert_eq!(code, "invocation_error");
    assert!(
        message.starts_with("limits.json_depth exceeded"),
        "{message}"
    );
    worker.send_text(&call(&id, 125));
    answer_next(&mut sdk, "middleware", json!({"result": 1}));
    assert_eq!(worker.result(&id.to_string())["result"], 1);
}

#[test]
fn a_call_without_a_middleware_function_to_go_to_fails_and_what_is_forbidden_does_not_reach_it() {
    let (_server, mut sdk, mut worker) = with_listener(60_000, |listener| {
        listener.middleware = Some("later".to_owned());
        listener.rbac.as_mut().unwrap().expose_functions = exposed("open");
    });
    sdk.register("open");
    let not_found = (
        "function_not_found".to_owned(),
        "Function later not found".to_owned(),
    );
    assert_eq!(worker.error_of("open", json!({})), not_found);
    assert_eq!(worker.error_of("closed", json!({})), forbidden("closed"));
    sdk.register("later");
    assert_eq!(worker.error_of("closed", json!({})), forbidden("closed"));
    let id = worker.start("open", json!({}));
    answer_next(&mut sdk, "later", json!({"result": 1}));
    assert_eq!(worker.result(&id)["result"], 1);
}

#[test]
fn calls_of_the_middleware_function_s_own_worker_go_where_they_say_on_one_listener_as_well() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners[0].middleware = Some("middleware".to_owned());
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("middleware");
    sdk.set(("s", "g"), "i", json!(1));
    let mut worker = SdkWorker::connect(&server);
    let id = worker.start("stream::list", json!({"stream_name": "s", "group_id": "g"}));
    let asked = sdk.next_call();
    assert_eq!(asked["data"]["context"], json!({}));
    let listed = sdk.call("stream::list", asked["data"]["payload"].clone());
    sdk.answer(&asked, json!({"result": listed["result"]}));
    assert_eq!(worker.result(&id)["result"], json!([1]));
}
