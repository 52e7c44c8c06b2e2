//! Namespaces of SDK workers: whose function a call, a trigger, a gate or a custom store reaches.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::clients::{item_input, set_input};
use crate::support::script::{ScriptedEngine, trigger};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, raw, wait_until};
use iii_stream::config::{Endpoint, Rbac, WorkerListener};
use iii_stream::protocol::rbac::Filter;

const ROOM: (&str, &str) = ("chat", "room");

/// As the newest SDKs do: first what is registered, then who it was.
fn settle_in(sdk: &mut SdkWorker, namespace: &str) {
    let told = json!({"runtime": "python", "name": "w", "pid": 1, "namespace": namespace});
    let answer = sdk.call("engine::workers::register", told);
    assert_eq!(answer["result"], json!({"success": true}));
}

fn worker_in(server: &TestServer, namespace: &str, functions: &[&str]) -> SdkWorker {
    let mut sdk = SdkWorker::connect(server);
    for function in functions {
        sdk.register(function);
    }
    settle_in(&mut sdk, namespace);
    sdk
}

/// Calls with a field `namespace`.
fn start_in(sdk: &mut SdkWorker, namespace: Value, function_id: &str) -> String {
    let id = uuid::Uuid::new_v4().to_string();
    sdk.send(
        &json!({"type": "invokefunction", "invocation_id": id, "function_id": function_id,
        "data": {}, "namespace": namespace}),
    );
    id
}

fn code(result: &Value) -> &str {
    result["error"]["code"].as_str().unwrap_or_default()
}

#[test]
fn functions_of_two_namespaces_never_answer_for_each_other() {
    let server = TestServer::start(ONE_WORKER);
    let mut caller = SdkWorker::connect(&server);
    let mut a = worker_in(&server, "team-a", &["who"]);
    let mut b = worker_in(&server, "team-b", &["who"]);
    for (namespace, owner) in [("team-a", &mut a), ("team-b", &mut b)] {
        let id = start_in(&mut caller, json!(namespace), "who");
        let call = owner.next_call();
        assert!(call.get("namespace").is_none(), "{call}");
        owner.answer(&call, json!({"result": namespace}));
        assert_eq!(caller.result(&id)["result"], namespace);
    }
    for namespace in [json!(null), json!("default"), json!("team-c")] {
        let id = start_in(&mut caller, namespace, "who");
        assert_eq!(code(&caller.result(&id)), "function_not_found");
    }
    // A worker of a namespace looks there first, and finds what is of `default` as well.
    a.register("own");
    let id = b.start("own", json!({}));
    assert_eq!(code(&b.result(&id)), "function_not_found");
    caller.register("shared");
    let id = start_in(&mut b, json!("team-b"), "shared");
    let call = caller.next_call();
    caller.answer(&call, json!({"result": 1}));
    assert_eq!(b.result(&id)["result"], 1);
    let id = start_in(&mut b, json!("team-b"), "stream::list_all");
    assert_eq!(b.result(&id)["result"]["count"], 0);
    // When one goes the other stays its own.
    drop(a);
    wait_until("the worker is gone", || {
        let id = start_in(&mut caller, json!("team-a"), "who");
        code(&caller.result(&id)) == "function_not_found"
    });
    let rows = caller.call("engine::functions::list", json!({}));
    let rows = rows["result"]["functions"].as_array().unwrap().clone();
    let who: Vec<&Value> = rows
        .iter()
        .filter(|row| row["function_id"] == "who")
        .collect();
    assert_eq!((who.len(), &who[0]["namespace"]), (1, &json!("team-b")));
    assert!(
        rows.iter()
            .filter(|row| row["function_id"] != "who")
            .all(|row| row.get("namespace").is_none())
    );
}

#[test]
fn a_worker_stays_in_the_namespace_that_it_has_told() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = worker_in(&server, "orders", &["f"]);
    settle_in(&mut sdk, "orders");
    let told = json!({"runtime": "x", "namespace": "others"});
    sdk.start("engine::workers::register", told);
    let rejected = sdk.next();
    assert_eq!(
        (&rejected["type"], &rejected["namespace"]),
        (&json!("registrationrejected"), &json!("others"))
    );
    assert_eq!(sdk.close_reason().map(|(code, _)| code), Some(1008));
}

#[test]
fn a_trigger_calls_the_function_of_its_own_namespace_and_so_does_its_condition() {
    let server = TestServer::start(ONE_WORKER);
    let mut plain = SdkWorker::connect(&server);
    for function in ["on-chat", "gate", "is-wanted"] {
        plain.register(function);
    }
    let mut orders = SdkWorker::connect(&server);
    for function in ["on-chat", "gate", "is-wanted"] {
        orders.register(function);
    }
    // Registered before the worker has told where it stands.
    orders.trigger(
        "t",
        "stream",
        "on-chat",
        json!({"stream_name": "chat", "condition_function_id": "is-wanted"}),
    );
    settle_in(&mut orders, "orders");
    orders.trigger("j", "stream:join", "gate", json!({"stream_name": "chat"}));
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    let call = orders.next_call_of("gate");
    orders.answer(&call, json!({"result": {"unauthorized": true}}));
    assert_eq!(subscriber.next().kind, "unauthorized");
    plain.set(ROOM, "a", json!(1));
    let asked = orders.next_call_of("is-wanted");
    orders.answer(&asked, json!({"result": true}));
    orders.next_call_of("on-chat");
    // One that names a namespace stays with it.
    plain.send(
        &json!({"type": "registertrigger", "id": "u", "trigger_type": "stream",
        "function_id": "gate", "config": {"stream_name": "other"}, "namespace": "orders"}),
    );
    plain.set(("other", "g"), "a", json!(1));
    orders.next_call_of("gate");
    plain.hears_nothing_more(); // none of its functions was called
}

#[test]
fn a_custom_store_of_a_namespace_is_none_of_ours() {
    let server = TestServer::start(ONE_WORKER);
    let mut caller = SdkWorker::connect(&server);
    let _orders = worker_in(
        &server,
        "orders",
        &["stream::set(chat)", "stream::get(chat)"],
    );
    caller.set(ROOM, "a", json!(1));
    assert_eq!(caller.get(ROOM, "a"), Some(json!(1)));
}

#[test]
fn a_listener_with_rules_grants_namespaces_one_by_one() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners.push(WorkerListener {
            endpoint: Endpoint::new("127.0.0.1", 0),
            rbac: Some(Rbac {
                auth_function: Some("auth".to_owned()),
                expose_functions: vec![Filter::of_id("*")],
                ..Rbac::default()
            }),
            middleware: None,
        });
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("auth");
    let mut orders = worker_in(&server, "orders", &["svc::a", "svc::no", "hidden"]);
    let mut admit = |grant: Value| {
        let mut worker = SdkWorker::over(server.workers()[1], "/");
        let call = sdk.next_call_of("auth");
        sdk.answer(&call, json!({"result": grant}));
        worker.wait_for_hello();
        worker
    };
    let mut worker = admit(json!({"namespaces": {"orders": ["svc::*"]},
        "forbidden_functions": ["svc::no"]}));
    let id = start_in(&mut worker, json!("orders"), "svc::a");
    let call = orders.next_call();
    orders.answer(&call, json!({"result": 1}));
    assert_eq!(worker.result(&id)["result"], 1);
    for function in ["svc::no", "hidden"] {
        let id = start_in(&mut worker, json!("orders"), function);
        assert_eq!(code(&worker.result(&id)), "FORBIDDEN", "{function}");
    }
    settle_in(&mut worker, "orders");
    worker.register("svc::mine");
    let id = start_in(&mut orders, json!("orders"), "svc::mine");
    let call = worker.next_call();
    worker.answer(&call, json!({"result": 2}));
    assert_eq!(orders.result(&id)["result"], 2);
    // Without a word about namespaces there is none to call in, nor to settle in.
    let mut stranger = admit(json!({}));
    let id = start_in(&mut stranger, json!("orders"), "svc::a");
    assert_eq!(code(&stranger.result(&id)), "FORBIDDEN");
    stranger.start(
        "engine::workers::register",
        json!({"runtime": "x", "namespace": "orders"}),
    );
    assert_eq!(stranger.next()["type"], "registrationrejected");
    assert_eq!(stranger.close_reason().map(|(code, _)| code), Some(1008));
}

#[test]
fn an_attached_server_sends_namespace_and_metadata_of_a_trigger_with_its_calls() {
    let engine = ScriptedEngine::start();
    let server = TestServer::attached(ONE_WORKER, &engine.url(), |_| {});
    let with = |id: &str, of_type: &str, function: &str, condition: Option<&str>| {
        let config = json!({"stream_name": "chat", "condition_function_id": condition});
        let mut trigger = trigger(id, of_type, function, config);
        trigger["namespace"] = json!("orders");
        trigger["metadata"] = json!({"tenant": "acme"});
        trigger
    };
    let mut bare = trigger("p", "stream", "plain", json!({"stream_name": "chat"}));
    bare["namespace"] = json!(null);
    let triggers = [
        with("j", "stream:join", "gate", Some("is-member")),
        with("l", "stream:leave", "gone", None),
        with("t", "stream", "on-chat", Some("is-wanted")),
        bare,
    ];
    let mut link = engine.attach(&triggers, &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    let asked = link.next_call("is-member");
    assert_eq!(asked["namespace"], "orders");
    assert!(asked.get("metadata").is_none(), "{asked}");
    link.answer(&asked, json!({"result": true}));
    let gate = link.next_call("gate");
    assert_eq!(
        (&gate["namespace"], &gate["metadata"]["tenant"]),
        (&json!("orders"), &json!("acme"))
    );
    link.answer(&gate, json!({"result": null}));
    assert_eq!(subscriber.next().kind, "sync");
    link.start("stream::set", set_input(ROOM, "a", json!(1)));
    assert_eq!(link.next()["type"], "invocationresult");
    // Both triggers fire at once: the condition of the one, and the function of the other.
    let asked = link.next_call("is-wanted");
    assert_eq!(
        (&asked["namespace"], asked.get("metadata")),
        (&json!("orders"), None)
    );
    let plain = link.next_call("plain");
    assert!(
        plain.get("namespace").is_none() && plain.get("metadata").is_none(),
        "{plain}"
    );
    link.answer(&asked, json!({"result": true}));
    let fired = link.next_call("on-chat");
    assert_eq!(
        (&fired["namespace"], &fired["metadata"]),
        (&json!("orders"), &json!({"tenant": "acme"}))
    );
    subscriber.close();
    let gone = link.next_call("gone");
    assert_eq!(
        (&gone["namespace"], &gone["metadata"]),
        (&json!("orders"), &json!({"tenant": "acme"}))
    );
}

#[test]
fn an_attached_server_knows_what_an_engine_misses_by_its_code() {
    let engine = ScriptedEngine::start();
    let server = TestServer::attached(ONE_WORKER, &engine.url(), |config| {
        config.auth.function = Some("auth".to_owned());
    });
    let mut link = engine.accept();
    // A store of another namespace is none: the engine would not find it.
    let ours = [
        "set",
        "get",
        "delete",
        "list",
        "list_groups",
        "list_all",
        "send",
        "update",
    ];
    let rows = ours.map(|name| json!({"function_id": format!("stream::{name}")}));
    let mut rows = rows.to_vec();
    rows.push(json!({"function_id": "stream::set(chat)", "namespace": "orders"}));
    rows.push(json!({"function_id": "stream::get(chat)", "namespace": "default"}));
    let list = link.registrations().pop().unwrap();
    link.answer_rows(&list, rows.clone());
    let list = link.types();
    link.answer_rows(&list, rows);
    link.settle();
    link.start("stream::set", set_input(ROOM, "a", json!(1)));
    assert_eq!(link.next()["result"]["new_value"], 1);
    link.start("stream::get", item_input(ROOM, "a"));
    let missing = |function: &str| {
        let text = format!("Function {function} not found in namespace default. It is in: orders");
        json!({"error": {"code": "function_not_found", "message": text}})
    };
    let call = link.next_call("stream::get(chat)");
    link.answer(&call, missing("stream::get(chat)"));
    let answer = link.next();
    assert_eq!(answer["type"], "invocationresult", "{answer}");
    link.start("stream::get", item_input(ROOM, "a"));
    assert_eq!(
        link.next()["result"],
        1,
        "it is gone, so the own store answers"
    );
    let mut upgrade = raw::connect(server.stream());
    let request = raw::upgrade_request("/", "");
    upgrade.write_all(request.as_bytes()).unwrap();
    let call = link.next_call("auth");
    link.answer(&call, missing("auth"));
    let head = raw::read_head(&mut upgrade);
    assert!(
        head.starts_with("HTTP/1.1 503 "),
        "nobody could be asked: {head}"
    );
}
