//! Attached mode: the server as a worker of a running engine. The conversation is held with a scripted
//! engine, word for word; what programs see of it, with a second server of ours as the engine.

mod beside;
mod configuration;
mod gates;
mod large;
mod pace;
mod programs;
mod silence;
mod waits;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Instant;

use iii_stream::config::{Config, Endpoint};
use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::clients::{item_input, set_input, wait_for_link};
use crate::support::script::{ScriptedEngine, ScriptedLink, trigger};
use crate::support::{
    ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape, raw, wait_until,
};

const ROOM: (&str, &str) = ("chat", "room");

/// A server attached to whatever is at that address.
fn attached(url: &str, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::attached(THREE_WORKERS, url, change)
}

fn attached_to(engine: &TestServer) -> TestServer {
    attached(&format!("ws://{}", engine.worker()), |_| {})
}

/// An engine, a server that is its worker by now, a program on the one and a subscriber of the other.
fn linked() -> (TestServer, TestServer, SdkWorker, Subscriber) {
    let engine = TestServer::start(ONE_WORKER);
    let server = attached_to(&engine);
    let mut sdk = SdkWorker::connect(&engine);
    let mut subscriber = Subscriber::connect(&server);
    wait_for_link(&mut sdk, &mut subscriber);
    (engine, server, sdk, subscriber)
}

#[test]
fn the_first_write_introduces_the_server_and_asks_for_the_functions() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    // Nothing has been said yet: all comes without waiting for a greeting.
    let said = link.registrations();
    let kinds: Vec<(&str, &str)> = said
        .iter()
        .map(|message| {
            let id = message.get("id").unwrap_or(&message["function_id"]);
            (message["type"].as_str().unwrap(), id.as_str().unwrap())
        })
        .collect();
    let changed = kinds[8].1;
    assert!(changed.starts_with("iii-stream::functions-changed::"));
    let (of_functions, of_workers) = (kinds[9].1, kinds[10].1);
    assert_eq!(
        kinds,
        [
            ("registerfunction", "stream::set"),
            ("registerfunction", "stream::get"),
            ("registerfunction", "stream::delete"),
            ("registerfunction", "stream::list"),
            ("registerfunction", "stream::list_groups"),
            ("registerfunction", "stream::list_all"),
            ("registerfunction", "stream::send"),
            ("registerfunction", "stream::update"),
            ("registerfunction", changed),
            ("registertrigger", of_functions),
            ("registertrigger", of_workers),
            ("registerfunction", "iii-stream::on-config-change"),
            ("invokefunction", "engine::workers::register"),
            ("invokefunction", "engine::functions::list"),
        ]
    );
    for function in &said[..8] {
        assert!(function["description"].is_string(), "{function}");
        assert!(function["request_format"].is_object(), "{function}");
        assert!(function.get("metadata").is_none(), "{function}");
        let id = function["id"].as_str().unwrap();
        let has_result = function.get("response_format").is_some();
        let has_none = ["get", "list", "list_groups", "send"].map(|name| format!("stream::{name}"));
        assert_eq!(has_result, !has_none.iter().any(|none| none == id), "{id}");
    }
    for internal in [&said[8], &said[11]] {
        assert_eq!(internal["metadata"], json!({"internal": true}));
    }
    for (said, id, of_type) in [
        (&said[9], of_functions, "engine::functions-available"),
        (&said[10], of_workers, "engine::workers-available"),
    ] {
        assert_eq!(
            *said,
            json!({"type": "registertrigger", "id": id, "trigger_type": of_type,
                "function_id": changed, "config": {}})
        );
    }
    let pid = std::process::id();
    // A process id alone is the same in every container.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = format!("iii-stream:{}:{pid}", host.trim_end());
    let system = std::env::consts::OS;
    let os = format!(
        "{system} {} ({})",
        std::env::consts::ARCH,
        std::env::consts::FAMILY
    );
    assert_eq!(said[12]["invocation_id"], Value::Null);
    assert_eq!(said[12]["action"], json!({"type": "void"}));
    assert_eq!(
        said[12]["data"],
        json!({"runtime": "rust", "version": env!("CARGO_PKG_VERSION"), "name": name,
            "os": os, "pid": pid, "telemetry": {"framework": "iii-stream"}})
    );
    assert!(said[13]["invocation_id"].is_string() && said[13]["data"] == json!({}));
    // The types follow when the engine has told that the functions are ours.
    link.answer_list(&said[13], &[]);
    for id in ["stream", "stream:join", "stream:leave"] {
        let of_type = link.next();
        assert_eq!(of_type["type"], "registertriggertype", "{of_type}");
        assert_eq!(of_type["id"], id);
        assert!(of_type["description"].is_string(), "{of_type}");
        assert!(of_type["trigger_request_format"].is_object(), "{of_type}");
        assert!(of_type["call_request_format"].is_object(), "{of_type}");
    }
    drop(server);
}

#[test]
fn it_is_listed_under_the_name_and_the_namespace_that_it_was_given() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.known_as.name = Some("streams".to_owned());
        config.known_as.namespace = Some("orders".to_owned());
    });
    let said = engine.accept().registrations();
    let described = said
        .iter()
        .find(|message| message["function_id"] == "engine::workers::register");
    let described = &described.unwrap()["data"];
    assert_eq!(
        (&described["name"], &described["namespace"]),
        (&json!("streams"), &json!("orders"))
    );
    drop(server);
}

#[test]
fn what_an_engine_sends_is_answered_as_it_expects() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let list = link.registrations().pop().unwrap();
    link.send(&json!({"type": "workerregistered", "worker_id": uuid::Uuid::new_v4().to_string()}));
    link.answer_list(&list, &[]);
    let list = link.types();
    link.answer_list(&list, &[]);

    link.send(&trigger(
        "t",
        "stream",
        "on-chat",
        json!({"stream_name": "chat"}),
    ));
    assert_eq!(
        link.next(),
        json!({"type": "triggerregistrationresult", "id": "t", "trigger_type": "stream", "function_id": "on-chat"})
    );
    link.send(&trigger("bad", "stream", "f", json!({})));
    let refused = link.next();
    assert_eq!(refused["error"]["code"], "trigger_registration_failed");
    link.send(&trigger("log", "log", "f", json!({})));
    assert_eq!(link.next()["error"]["code"], "trigger_type_not_found");

    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
    let data = json!({"_caller_worker_id": "w", "stream_name": "chat", "group_id": "room",
        "item_id": "i", "data": {"n": 1}});
    link.send(
        &json!({"type": "invokefunction", "invocation_id": "00000001-0000-4000-8000-000000000000",
        "function_id": "stream::set", "data": data, "traceparent": "tp", "baggage": "b"}),
    );
    assert_eq!(
        link.next(),
        json!({"type": "invocationresult", "invocation_id": "00000001-0000-4000-8000-000000000000",
            "function_id": "stream::set", "result": {"old_value": null, "new_value": {"n": 1}},
            "traceparent": "tp", "baggage": "b"})
    );
    let call = link.next_call("on-chat");
    assert!(call.get("action").is_none(), "{call}");
    assert_eq!(
        call["data"]["event"],
        json!({"type": "create", "data": {"n": 1}})
    );
    assert_eq!(
        subscriber.next().told(),
        ("create", Some("i"), &json!({"n": 1}))
    );
    link.answer(&call, json!({"result": null}));

    let id = link.start("unknown", json!({}));
    let answer = link.next();
    assert_eq!(answer["invocation_id"], id);
    assert_eq!(
        answer["error"],
        json!({"code": "function_not_found", "message": "Function unknown not found"})
    );

    link.send(&json!({"type": "unregistertrigger", "id": "t", "trigger_type": "stream"}));
    let id = link.start("stream::set", set_input(ROOM, "i", json!(2)));
    assert_eq!(link.next()["invocation_id"], id);
    link.settle();
    assert_eq!(subscriber.next().kind, "update");

    link.socket.send(Message::Ping("p".into())).unwrap();
    assert_eq!(link.socket.read().unwrap(), Message::Pong("p".into()));
}

#[test]
fn custom_stores_follow_the_engine_s_list_and_go_when_it_does_not_find_them() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let said = link.greet(&["stream::get(chat)", "f"]);
    let id = link.start("stream::get", item_input(ROOM, "i"));
    let call = link.next_call("stream::get(chat)");
    assert_ne!(call["invocation_id"], json!(id), "an id of our own");
    assert_eq!(
        call["data"],
        json!({"group_id": "room", "item_id": "i", "stream_name": "chat"})
    );
    link.answer(&call, json!({"result": "theirs"}));
    assert_eq!(link.next()["result"], "theirs");

    // The set of functions changes: asked again, and answered.
    let changed = said[8]["id"].as_str().unwrap().to_owned();
    let id = link.start(&changed, json!({"event": "functions_changed"}));
    let answer = link.next();
    assert_eq!(
        (&answer["invocation_id"], &answer["result"]),
        (&json!(id), &Value::Null)
    );
    let list = link.next_call("engine::functions::list");
    link.answer_list(&list, &["stream::get(chat)", "stream::list_groups(chat)"]);
    let id = link.start("stream::list_groups", json!({"stream_name": "chat"}));
    let call = link.next_call("stream::list_groups(chat)");
    assert_ne!(call["invocation_id"], json!(id), "an id of our own");
    link.answer(&call, json!({"result": ["a"]}));
    assert_eq!(link.next()["result"], json!(["a"]));

    // One that is not found is gone: that very call, and all later ones, are our own store's.
    let gone = |id: &str| {
        let message = format!("Function {id} not found");
        json!({"error": {"code": "function_not_found", "message": message}})
    };
    let id = link.start("stream::get", item_input(ROOM, "i"));
    let call = link.next_call("stream::get(chat)");
    link.answer(&call, gone("stream::get(chat)"));
    let nothing = |id: &str| json!({"type": "invocationresult", "invocation_id": id, "function_id": "stream::get"});
    assert_eq!(link.next(), nothing(&id));
    let id = link.start("stream::get", item_input(ROOM, "i"));
    assert_eq!(link.next(), nothing(&id));
    for asked_before in [true, false] {
        let id = link.start("stream::list_groups", json!({"stream_name": "chat"}));
        if asked_before {
            let call = link.next_call("stream::list_groups(chat)");
            link.answer(&call, gone("stream::list_groups(chat)"));
        }
        let answer = link.next();
        assert_eq!(
            (&answer["invocation_id"], &answer["result"]),
            (&json!(id), &json!([]))
        );
    }
    drop(server);
}

#[test]
fn an_engine_that_does_not_upgrade_is_tried_again() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut stream = engine.accept_bare();
    let head = raw::read_head(&mut stream);
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
    stream
        .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "the server ends it");
    engine.attach(&[], &[]);
    drop(server);
}

#[test]
fn a_masked_frame_of_an_engine_ends_the_link() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.attach(&[], &[]);
    let masked = raw::text(r#"{"type":"ping"}"#);
    link.socket.get_mut().write_all(&masked).unwrap();
    match link.socket.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1002),
        other => panic!("expected a close frame, got {other:?}"),
    }
    engine.attach(&[], &[]);
    drop(server);
}
