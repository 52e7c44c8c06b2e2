//! Several listeners for SDK workers: who may connect to which, and do what there.

mod asked;
mod bindings;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use tungstenite::Message;
use uuid::Uuid;

use iii_stream::config::{Config, Endpoint, Rbac, WorkerListener};
use iii_stream::protocol::rbac::{Filter, Wanted};
use iii_stream::server::{Options, Server, StartError};

use crate::support::clients::error_in;
use crate::support::{ONE_WORKER, SdkWorker, TestServer, raw};

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

#[test]
fn all_listeners_lead_to_the_same_tables() {
    let (_server, mut sdk, guarded) = with_rules(rules(None, exposed("open::*")));
    sdk.register("open::f");
    sdk.register("closed::f");
    let mut other = SdkWorker::over(guarded, "/");
    other.wait_for_hello();
    let id = other.start("open::f", json!({}));
    let call = sdk.next_call();
    assert_eq!(call["data"]["_caller_worker_id"], json!(other.worker_id));
    sdk.answer(&call, json!({"result": 1}));
    assert_eq!(other.result(&id)["result"], 1);
    // Without an auth function everything may be registered, and called is what is exposed.
    other.register("theirs");
    let id = sdk.start("theirs", json!({}));
    let call = other.next_call();
    other.answer(&call, json!({"result": 2}));
    assert_eq!(sdk.result(&id)["result"], 2);
    for function in ["closed::f", "stream::set", "nowhere", "theirs", "publish"] {
        assert_eq!(other.error_of(function, json!({})), forbidden(function));
    }
    let registered = other.call("engine::workers::register", json!({"pid": 1}));
    assert_eq!(registered["result"], json!({"success": true}));
    let logged = other.call("engine::log::info", json!({"message": "m"}));
    assert!(logged.get("error").is_none(), "{logged}");
}

#[test]
fn a_taken_port_of_any_listener_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config {
        stream: Endpoint::new("127.0.0.1", 0),
        worker_listeners: vec![
            Endpoint::new("127.0.0.1", 0).into(),
            Endpoint::new("127.0.0.1", address.port()).into(),
        ],
        ..Config::default()
    };
    match Server::start(&config, Options::default()) {
        Err(StartError::AddressInUse {
            address: told,
            hint,
        }) => {
            assert_eq!(told, address.to_string());
            let engine = format!("--engine ws://127.0.0.1:{}", address.port());
            assert!(hint.contains(&engine), "{hint}");
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it started"),
    }
}

#[test]
fn pages_from_elsewhere_are_refused_where_there_are_no_rules() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners.push(rules(None, Vec::new()));
        config.worker_origins = vec![
            "https://app.example".parse().unwrap(),
            "*.in.example".parse().unwrap(),
        ];
    });
    let [open, guarded] = *server.workers() else {
        panic!("two listeners");
    };
    let request = |origin: &str| raw::upgrade_request("/", &format!("Origin: {origin}\r\n"));
    for origin in [
        "https://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
    ] {
        assert_eq!(raw::ask(open, request(origin)).status, 403, "{origin}");
        let otel = raw::upgrade_request("/otel", &format!("Origin: {origin}\r\n"));
        assert_eq!(raw::ask(open, otel).status, 403, "{origin}");
    }
    let let_in = |address: SocketAddr, origin: &str| {
        let mut stream = raw::connect(address);
        stream.write_all(request(origin).as_bytes()).unwrap();
        let head = raw::read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{origin}: {head}");
    };
    for origin in [
        "http://localhost:3000",
        "http://127.0.0.1:5173",
        "http://[::1]",
        "https://APP.example",
        "http://a.in.example:1",
    ] {
        let_in(open, origin);
    }
    let_in(guarded, "https://evil.example");
}

#[test]
fn the_auth_function_is_asked_about_each_socket_and_nothing_is_read_meanwhile() {
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("*")));
    sdk.register("auth");
    let mut worker = SdkWorker::over(guarded, "/?a=1&a=2&b");
    let call = sdk.next_call();
    assert_eq!(call["function_id"], "auth");
    let asked = &call["data"];
    assert_eq!(asked["ip_address"], "127.0.0.1");
    assert_eq!(asked["query_params"], json!({"a": ["1", "2"], "b": [""]}));
    assert_eq!(asked["headers"]["host"], guarded.to_string());
    let keys: Vec<&String> = asked.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["headers", "ip_address", "query_params"]);
    // It is not there yet, whatever it sends.
    worker.send(&json!({"type": "registerfunction", "id": "early"}));
    worker.send(&json!({"type": "ping"}));
    assert_eq!(sdk.error_of("early", json!({})).0, "function_not_found");
    sdk.answer(&call, json!({"result": {}}));
    worker.wait_for_hello();
    assert_eq!(worker.next(), json!({"type": "pong"}));
    let id = sdk.start("early", json!({}));
    let call = worker.next_call();
    worker.answer(&call, json!({"result": "served"}));
    assert_eq!(sdk.result(&id)["result"], "served");

    let mut otel = raw::upgrade(raw::connect(guarded), "/otel");
    let call = sdk.next_call();
    assert_eq!(call["function_id"], "auth");
    otel.write_all(&raw::frame(0x89, b"ping")).unwrap();
    sdk.answer(&call, json!({"result": {}}));
    assert_eq!(raw::read_frame(&mut otel), (0x8a, b"ping".to_vec()));
}

#[test]
fn what_is_sent_with_the_request_waits_as_well() {
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("*")));
    sdk.register("auth");
    let mut stream = raw::connect(guarded);
    let mut bytes = raw::upgrade_request("/", "").into_bytes();
    bytes.extend(raw::text(r#"{"type":"registerfunction","id":"early"}"#));
    bytes.extend(raw::text(r#"{"type":"ping"}"#));
    stream.write_all(&bytes).unwrap();
    raw::read_head(&mut stream);
    let call = sdk.next_call();
    assert_eq!(sdk.error_of("early", json!({})).0, "function_not_found");
    sdk.answer(&call, json!({"result": {}}));
    let (_, hello) = raw::read_frame(&mut stream);
    assert!(
        String::from_utf8(hello)
            .unwrap()
            .contains("workerregistered")
    );
    assert_eq!(
        raw::read_frame(&mut stream),
        (0x81, br#"{"type":"pong"}"#.to_vec())
    );
}

/// The last words to a socket that is not let in.
fn refusal(worker: &mut SdkWorker) -> String {
    let last = worker.next();
    assert_eq!(
        last.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["error", "type"]
    );
    assert_eq!(
        (&last["type"], &last["error"]["code"]),
        (&json!("error"), &json!("AUTH_ERROR"))
    );
    assert_eq!(worker.close_reason(), None);
    last["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn whoever_is_not_let_in_hears_why_and_nothing_else() {
    let (_server, mut sdk, guarded) = with_rules(rules(Some("auth"), Vec::new()));
    let mut early = SdkWorker::over(guarded, "/");
    assert_eq!(refusal(&mut early), "Function auth not found");
    sdk.register("auth");
    let rows = [
        (
            json!({"error": {"code": "c", "message": "who are you?"}}),
            "who are you?",
        ),
        (json!({}), "auth function returned no result"),
        (json!({"result": null}), "auth function returned no result"),
        (
            json!({"result": "x"}),
            "invalid type: string \"x\", expected struct AuthResult",
        ),
        (
            json!({"result": {"allowed_functions": 5}}),
            "invalid type: integer `5`, expected a sequence",
        ),
    ];
    for (answer, message) in rows {
        for path in ["/", "/otel"] {
            let mut worker = SdkWorker::over(guarded, path);
            let call = sdk.next_call();
            sdk.answer(&call, answer.clone());
            assert_eq!(refusal(&mut worker), message, "{path}");
        }
    }
    let mut worker = SdkWorker::over(guarded, "/");
    sdk.next_call();
    drop(sdk);
    assert_eq!(refusal(&mut worker), "Invocation stopped");
}

#[test]
fn an_auth_function_that_says_nothing_lets_nobody_in() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config
            .worker_listeners
            .push(rules(Some("auth"), Vec::new()));
        config.call_timeout_ms = 50;
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("auth");
    let mut worker = SdkWorker::over(server.workers()[1], "/");
    assert_eq!(refusal(&mut worker), "invocation timed out after 50ms");
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

#[test]
fn a_server_that_ends_closes_those_who_wait_to_be_let_in() {
    let (server, mut sdk, guarded) = with_rules(rules(Some("auth"), Vec::new()));
    sdk.register("auth");
    let mut worker = SdkWorker::over(guarded, "/");
    sdk.next_call();
    let ended = std::thread::spawn(move || drop(server));
    let reason = "the server ends; come again".to_owned();
    assert_eq!(worker.close_reason(), Some((1012, reason)));
    drop((worker, sdk));
    ended.join().unwrap();
}

#[test]
fn telemetry_is_counted_only_of_those_who_are_let_in() {
    let (server, mut sdk, guarded) = with_rules(rules(Some("auth"), exposed("*")));
    sdk.register("auth");
    let mut worker = SdkWorker::over(guarded, "/");
    worker.send_message(Message::binary(b"OTLP{}".to_vec()));
    let call = sdk.next_call();
    sdk.answer(&call, json!({"error": {"code": "c", "message": "no"}}));
    refusal(&mut worker);
    assert_eq!(server.shared().engine.telemetry_frames.get(), 0);
    let mut worker = admitted(&mut sdk, guarded, json!({}));
    worker.send_message(Message::binary(b"OTLP{}".to_vec()));
    worker.settle();
    assert_eq!(server.shared().engine.telemetry_frames.get(), 1);
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
