//! Attached mode: the server as a worker of a running engine. The conversation is held with a scripted
//! engine, word for word; what programs see of it, with a second server of ours as the engine.

mod beside;
mod configuration;
mod gates;
mod large;
mod pace;
mod silence;

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
fn a_join_asked_while_the_link_is_down_waits_for_it_and_its_triggers() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let gate = trigger("j", "stream:join", "gate", json!({"stream_name": "chat"}));
    engine.attach(std::slice::from_ref(&gate), &[]).end();
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    subscriber.join("other", ("free", "g"));
    let mut link = engine.accept();
    let list = link.registrations().pop().unwrap();
    link.answer_list(&list, &[]);
    let list = link.types();
    link.send(&gate);
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    link.answer_list(&list, &[]);
    let call = link.next_call("gate");
    assert_eq!(call["data"]["subscription_id"], "s");
    link.answer(&call, json!({"result": {"unauthorized": true}}));
    assert_eq!(subscriber.next().kind, "unauthorized");
}

#[test]
fn a_join_that_has_waited_long_enough_is_admitted_as_when_its_function_fails() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.call_timeout_ms = 200);
    let gate = trigger("j", "stream:join", "gate", json!({}));
    engine.attach(&[gate], &[]).end();
    let mut subscriber = Subscriber::connect(&server);
    let since = Instant::now();
    subscriber.join("s", ROOM);
    assert!(since.elapsed().as_millis() >= 200);
}

#[test]
fn a_required_join_that_has_waited_long_enough_for_its_engine_is_refused() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.call_timeout_ms = 200;
        config.join_required = vec![ROOM.0.to_owned()];
    });
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    assert_eq!(
        subscriber.next().kind,
        "unauthorized",
        "the engine is silent"
    );
    engine.attach(&[], &[]).end();
    subscriber.start_join("s", ROOM, None);
    assert_eq!(subscriber.next().kind, "unauthorized", "the engine is gone");
    subscriber.join("s", ("free", "g"));
}

#[test]
fn leaves_are_owed_until_the_link_is_back_and_their_trigger_known() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let bye = trigger("l", "stream:leave", "bye", json!({}));
    let link = engine.attach(std::slice::from_ref(&bye), &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
    link.end();
    subscriber.leave("s");
    // It is answered by a join behind it: the leave has been served.
    subscriber.join("t", ("other", "g"));
    subscriber.close();
    let mut link = engine.attach(&[], &[]);
    // Its functions are listed, but no worker has registered the trigger again yet.
    link.send(&bye);
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    for subscription in ["s", "t"] {
        let call = link.next_call("bye");
        assert_eq!(call["data"]["subscription_id"], subscription);
        link.answer(&call, json!({}));
    }
}

#[test]
fn leaves_wait_no_longer_than_a_call_once_the_link_is_back() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.call_timeout_ms = 200);
    let bye = trigger("l", "stream:leave", "bye", json!({}));
    let link = engine.attach(&[bye], &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
    link.end();
    subscriber.close();
    let mut link = engine.attach(&[], &[]);
    wait_until("nothing is owed any more", || {
        server.shared().owed.load(Ordering::Relaxed) == 0
    });
    link.settle();
}

#[test]
fn calls_of_custom_functions_wait_for_the_link_and_those_under_way_end() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let functions = ["stream::list(chat)"];
    let mut link = engine.attach(&[], &functions);
    let mut first = Subscriber::connect(&server);
    first.start_join("s", ROOM, None);
    link.next_call("stream::list(chat)");
    link.end();
    // What was under way has failed: no `sync`, but the subscription stands. The next one waits.
    let mut second = Subscriber::connect(&server);
    second.start_join("s", ROOM, None);
    let mut link = engine.accept();
    let list = link.registrations().pop().unwrap();
    let call = link.next_call("stream::list(chat)");
    link.answer(&call, json!({"result": [1]}));
    link.answer_list(&list, &functions);
    let list = link.types();
    link.answer_list(&list, &functions);
    assert_eq!(second.sync().data, json!([1]));
    link.start(
        "stream::send",
        json!({"stream_name": "chat", "group_id": "room", "type": "x", "data": 1}),
    );
    assert_eq!(link.next()["function_id"], "stream::send");
    for subscriber in [&mut first, &mut second] {
        assert_eq!(subscriber.next().kind, "event");
    }
}

#[test]
fn a_socket_that_needs_the_auth_function_is_refused_while_nobody_can_be_asked() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.auth.function = Some("login".to_owned());
    });
    let status = || {
        let mut stream = raw::connect(server.stream());
        let request = raw::upgrade_request("/", "");
        stream.write_all(request.as_bytes()).unwrap();
        let head = raw::read_head(&mut stream);
        head[9..12].parse::<u16>().unwrap()
    };
    assert_eq!(status(), 503, "the engine was never there");
    let mut link = engine.attach(&[], &[]);
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(status);
        let call = link.next_call("login");
        let gone = json!({"code": "function_not_found", "message": "Function login not found"});
        link.answer(&call, json!({"error": gone}));
        asked.join().unwrap()
    });
    assert_eq!(asked, 503, "nobody has the function");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(status);
        let call = link.next_call("login");
        link.answer(&call, json!({"error": {"code": "no", "message": "no"}}));
        asked.join().unwrap()
    });
    assert_eq!(asked, 401, "it was asked, and failed");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(status);
        link.next_call("login");
        link.end();
        asked.join().unwrap()
    });
    assert_eq!(asked, 503, "the link was lost while it was asked");
    assert_eq!(status(), 503);
}

#[test]
fn calls_beyond_what_may_wait_are_refused_and_the_link_is_read_on() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.limits.calls_in_flight = 1);
    let mut link = engine.attach(&[], &["stream::get(chat)"]);
    link.start("stream::get", item_input(ROOM, "i"));
    let call = link.next_call("stream::get(chat)");
    let id = link.start("stream::get", item_input(ROOM, "j"));
    assert_eq!(
        link.next(),
        json!({"type": "invocationresult", "invocation_id": id, "function_id": "stream::get",
            "error": {"code": "STREAM_GET_ERROR", "message": "Failed to get value: server is overloaded"}})
    );
    assert_eq!(server.shared().engine.calls_refused.get(), 1);
    link.answer(&call, json!({"result": 5}));
    assert_eq!(link.next()["result"], 5);
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

#[test]
fn programs_of_an_engine_use_the_attached_server_s_streams() {
    on_each_shape(|shape| {
        let engine = TestServer::start(shape);
        let server = attached_to(&engine);
        let mut sdk = SdkWorker::connect(&engine);
        let mut subscriber = Subscriber::connect(&server);
        wait_for_link(&mut sdk, &mut subscriber);
        subscriber.join("s", ROOM);
        sdk.register("on-chat");
        sdk.send(&trigger(
            "t",
            "stream",
            "on-chat",
            json!({"stream_name": "chat"}),
        ));
        sdk.settle();
        // The engine hands the trigger over before the call that comes after it.
        assert_eq!(
            sdk.set(ROOM, "i", json!({"z": 1, "a": 2})),
            json!({"old_value": null, "new_value": {"z": 1, "a": 2}})
        );
        let heard = subscriber.next();
        assert_eq!(
            heard.told(),
            ("create", Some("i"), &json!({"z": 1, "a": 2}))
        );
        let call = sdk.next_call();
        assert_eq!(call["function_id"], "on-chat");
        assert_eq!(call["data"]["event"]["type"], "create");
        assert!(
            call["data"]["_caller_worker_id"].is_string(),
            "the engine adds it"
        );
        sdk.answer(&call, json!({}));
        let many: Vec<String> = (0..200)
            .map(|n| sdk.start("stream::set", set_input(ROOM, &format!("i{n}"), json!(n))))
            .collect();
        for id in &many {
            assert!(sdk.result(id).get("error").is_none());
        }
        let heard = subscriber.take(200);
        assert!(
            heard
                .iter()
                .enumerate()
                .all(|(n, (_, _, data))| *data == json!(n))
        );
        assert_eq!(sdk.get(ROOM, "i199"), Some(json!(199)));
        assert_eq!(sdk.list(ROOM).as_array().unwrap().len(), 201);
    });
}

#[test]
fn join_and_leave_functions_of_an_engine_s_programs_are_called() {
    let (_engine, _server, mut sdk, mut subscriber) = linked();
    for (id, kind) in [("gate", "stream:join"), ("bye", "stream:leave")] {
        sdk.register(id);
        sdk.send(&trigger(id, kind, id, json!({"stream_name": "chat"})));
    }
    sdk.settle();
    sdk.set(("other", "g"), "i", json!(1)); // behind the triggers on the link
    subscriber.start_join("s", ROOM, None);
    let call = sdk.next_call();
    assert_eq!(call["function_id"], "gate");
    sdk.answer(&call, json!({"result": {"unauthorized": false}}));
    subscriber.sync();
    subscriber.close();
    let call = sdk.next_call();
    assert_eq!(
        (&call["function_id"], &call["data"]["subscription_id"]),
        (&json!("bye"), &json!("s"))
    );
}

#[test]
fn a_custom_store_of_an_engine_s_program_is_asked_once_the_engine_has_told_of_it() {
    let (engine, _server, mut sdk, _subscriber) = linked();
    sdk.register("stream::get(chat)");
    let mut caller = SdkWorker::connect(&engine);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let call = sdk.next_call();
            assert_eq!(call["function_id"], "stream::get(chat)");
            sdk.answer(&call, json!({"result": "theirs"}));
        });
        wait_until("the custom store is asked", || {
            caller.get(ROOM, "i") == Some(json!("theirs"))
        });
    });
}

#[test]
fn the_engine_lists_our_functions_as_it_lists_its_own() {
    let engine = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&engine);
    let list = |sdk: &mut SdkWorker| -> Vec<Value> {
        let result = sdk.call("engine::functions::list", json!({}));
        let functions = result["result"]["functions"].as_array().unwrap();
        let of_streams = |entry: &&Value| {
            entry["function_id"]
                .as_str()
                .unwrap()
                .starts_with("stream::")
        };
        functions.iter().filter(of_streams).cloned().collect()
    };
    let before = list(&mut sdk);
    let server = attached_to(&engine);
    let mut subscriber = Subscriber::connect(&server);
    wait_for_link(&mut sdk, &mut subscriber);
    assert_eq!(list(&mut sdk), before);
}

#[test]
fn subscribers_stay_when_the_engine_is_started_again() {
    let engine = TestServer::start(ONE_WORKER);
    let port = engine.worker().port();
    let server = attached_to(&engine);
    let mut sdk = SdkWorker::connect(&engine);
    let mut subscriber = Subscriber::connect(&server);
    wait_for_link(&mut sdk, &mut subscriber);
    subscriber.join("s", ROOM);
    sdk.set(ROOM, "i", json!(1));
    subscriber.next();
    drop(sdk);
    drop(engine);
    // State and `sync` are ours.
    assert_eq!(subscriber.join("t", ROOM).data, json!([1]));
    subscriber.leave("t");
    let engine = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners = vec![Endpoint::new("127.0.0.1", port).into()];
    });
    let mut sdk = SdkWorker::connect(&engine);
    sdk.register("on-chat");
    sdk.send(&trigger(
        "t",
        "stream",
        "on-chat",
        json!({"stream_name": "chat"}),
    ));
    let mut probe = Subscriber::connect(&server);
    wait_until("the server is attached again", || {
        sdk.get(ROOM, "i") == Some(json!(1))
    });
    sdk.set(ROOM, "i", json!(2));
    assert_eq!(subscriber.next().told(), ("update", Some("i"), &json!(2)));
    let call = sdk.next_call();
    assert_eq!(call["data"]["event"], json!({"type": "update", "data": 2}));
    assert_eq!(probe.join("s", ROOM).data, json!([2]));
}

#[test]
fn a_server_starts_before_its_engine_does() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = attached(&format!("ws://localhost:{port}"), |_| {});
    let mut subscriber = Subscriber::connect(&server);
    // Nothing is known of gates yet.
    subscriber.start_join("s", ROOM, None);
    let engine = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners = vec![Endpoint::new("127.0.0.1", port).into()];
    });
    let mut sdk = SdkWorker::connect(&engine);
    assert_eq!(subscriber.sync().data, json!([]));
    wait_for_link(&mut sdk, &mut subscriber);
    sdk.set(ROOM, "i", json!(1));
    assert_eq!(subscriber.next().told(), ("create", Some("i"), &json!(1)));
}
