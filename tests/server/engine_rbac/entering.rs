//! Who may connect to which listener: pages, the auth function, and those who wait for its word.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use iii_stream::config::{Config, Endpoint};
use iii_stream::server::{Options, Server, StartError};
use serde_json::json;
use tungstenite::Message;

use super::{admitted, exposed, forbidden, rules, with_rules};
use crate::support::{ONE_WORKER, SdkWorker, TestServer, raw};

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
