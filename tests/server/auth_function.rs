//! The auth function over real sockets: what it is asked, what its answers mean under both values of
//! `auth_failure`, and where the context goes.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use iii_stream::config::{AuthFailure, Config};
use serde_json::{Value, json};

use crate::support::{
    ONE_WORKER, SdkWorker, Shape, Subscriber, TestServer, on_each_shape, raw, wait_until,
};

const AUTH: &str = "onAuth";

fn asking(shape: Shape, failure: AuthFailure, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(shape, |config| {
        config.auth.function = Some(AUTH.to_owned());
        config.auth.failure = failure;
        change(config);
    })
}

/// An upgrade that nothing has answered yet.
fn request(server: &TestServer, target: &str, more: &str) -> TcpStream {
    let mut stream = raw::connect(server.stream());
    let request = raw::upgrade_request(target, more);
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The status, and for refusals the header lines besides `date`.
fn answer(stream: &mut TcpStream) -> (u16, Vec<String>) {
    let head = raw::read_head(stream);
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let lines = lines.filter(|line| !line.starts_with("date: "));
    (status.parse().unwrap(), lines.map(str::to_owned).collect())
}

fn is_refused(stream: &mut TcpStream, status: u16) {
    let (given, mut headers) = answer(stream);
    assert_eq!(given, status);
    headers.sort();
    let body = match status {
        503 => "the auth function was not asked or has not answered: come again",
        403 => "pages of this origin may not subscribe (server.allowed_origins)",
        _ => "the auth function does not admit",
    };
    let length = format!("content-length: {}", body.len());
    let mut wanted = vec!["connection: close", &length];
    wanted.push("content-type: text/plain; charset=utf-8");
    if status == 503 {
        wanted.push("retry-after: 1");
    }
    assert_eq!(headers, wanted);
    assert_eq!(raw::read_to_end(stream), body.as_bytes(), "no word more");
}

fn is_open(stream: &mut TcpStream) {
    assert_eq!(answer(stream).0, 101);
}

/// What functions are told as the context of a socket that is open.
fn context(sdk: &mut SdkWorker, stream: TcpStream) -> Value {
    let mut client = Subscriber::upgraded(stream);
    client.start_join("s", ("chat", "room"), None);
    let asked = sdk.next_call_of("joins");
    sdk.answer(&asked, json!({}));
    client.sync();
    drop(client);
    let told = sdk.next_call_of("leaves");
    assert_eq!(told["data"], asked["data"]);
    asked["data"]["context"].clone()
}

/// A worker with the auth function, and functions that are told the context.
fn with_functions(server: &TestServer) -> SdkWorker {
    let mut sdk = SdkWorker::connect(server);
    for function in [AUTH, "joins", "leaves"] {
        sdk.register(function);
    }
    sdk.trigger("j", "stream:join", "joins", json!({}));
    sdk.trigger("l", "stream:leave", "leaves", json!({}));
    sdk
}

#[test]
fn the_function_is_sent_the_request_as_it_came() {
    let server = asking(ONE_WORKER, AuthFailure::Refuse, |_| {});
    let mut sdk = with_functions(&server);
    let mut stream = raw::connect(server.stream());
    let head = b"GET /?b=2&a=1&a=%20x+y&&=q&c&d=&e=f=g&%61=1&a HTTP/1.1\r\nHost: x\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Empty:\r\nX-Mixed-CASE: V\r\n\
        Authorization: Bearer x\r\nSec-WebSocket-Protocol: Authorization,tok\r\n\
        Sec-WebSocket-Protocol: second\r\nX-Dup: one\r\nX-Dup: two\r\nX-Bin: caf\xc3\xa9\r\n\
        X-Tab: a\tb\r\nX-Space:   padded  \r\nCookie: a=1\r\nCookie: b=2\r\n\r\n";
    stream.write_all(head).unwrap();
    let call = sdk.next_call_of(AUTH);
    let mut keys: Vec<&String> = call.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["data", "function_id", "invocation_id", "type"]);
    let addr = stream.local_addr().unwrap().to_string();
    assert_eq!(
        call["data"],
        json!({
            "addr": addr,
            "headers": {
                "authorization": "Bearer x", "connection": "Upgrade", "cookie": "a=1; b=2",
                "host": "x", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-protocol": "Authorization,tok, second",
                "sec-websocket-version": "13", "upgrade": "websocket", "x-dup": "two",
                "x-empty": "", "x-mixed-case": "V", "x-space": "padded", "x-tab": "a\tb",
            },
            "path": "/",
            "query_params": {
                "%61": ["1"], "a": ["1", "%20x+y", ""], "b": ["2"], "c": [""], "d": [""],
                "e": ["f=g"],
            },
        })
    );
    sdk.answer(&call, json!({}));
    let (status, headers) = answer(&mut stream);
    assert_eq!(status, 101);
    let protocol = "sec-websocket-protocol: Authorization".to_owned();
    assert!(headers.contains(&protocol), "{headers:?}");
}

#[test]
fn paths_are_told_as_sent_and_without_their_query() {
    let server = asking(ONE_WORKER, AuthFailure::Refuse, |_| {});
    let mut sdk = with_functions(&server);
    let rows = [
        ("/", "/", json!({})),
        ("/?", "/", json!({})),
        (
            "/stream/chat/room%201/i?t=1?2",
            "/stream/chat/room%201/i",
            json!({"t": ["1?2"]}),
        ),
        ("/streams/", "/streams/", json!({})),
        ("http://h:1/?x=1", "/", json!({"x": ["1"]})),
    ];
    for (target, path, query) in rows {
        let mut stream = request(&server, target, "");
        let call = sdk.next_call_of(AUTH);
        assert_eq!(call["data"]["path"], path, "{target}");
        assert_eq!(call["data"]["query_params"], query, "{target}");
        sdk.answer(&call, json!({"result": {"unauthorized": true}}));
        is_refused(&mut stream, 401);
    }
}

#[test]
fn nobody_is_asked_about_what_is_no_upgrade_or_comes_from_elsewhere() {
    let server = asking(ONE_WORKER, AuthFailure::Refuse, |config| {
        config.allowed_origins = vec!["https://app.example".parse().unwrap()];
    });
    let mut sdk = with_functions(&server);
    let plain = raw::ask(
        server.stream(),
        "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    );
    assert_ne!(plain.status, 101);
    for (target, more, status) in [
        ("/nowhere", "", 404),
        ("/", "origin: https://evil.example\r\n", 403),
        ("/", "origin: null\r\n", 403),
    ] {
        let mut stream = request(&server, target, more);
        assert_eq!(answer(&mut stream).0, status, "{target} {more}");
    }
    for more in ["", "origin: https://APP.example\r\n"] {
        let mut stream = request(&server, "/", more);
        // The next call is about this one: about those before nobody was asked.
        let call = sdk.next_call();
        let addr = stream.local_addr().unwrap().to_string();
        assert_eq!(call["data"]["addr"], addr);
        sdk.answer(&call, json!({}));
        is_open(&mut stream);
    }
}

/// What an answer leads to: a status where failures refuse, and the context where they let in.
struct Row {
    fields: Value,
    /// `None`: it opens, with the context beside it.
    refused: Option<u16>,
    context: Value,
}

fn rows() -> Vec<Row> {
    let opens = |fields, context| Row {
        fields,
        refused: None,
        context,
    };
    let is_401 = |fields, context| Row {
        fields,
        refused: Some(401),
        context,
    };
    let null = || Value::Null;
    vec![
        opens(
            json!({"result": {"context": {"b": 1, "a": [2]}, "other": 3}}),
            json!({"b": 1, "a": [2]}),
        ),
        opens(json!({"result": {"context": "text"}}), json!("text")),
        opens(json!({"result": {"context": false}}), json!(false)),
        opens(json!({"result": {"context": null}}), null()),
        opens(json!({"result": {}}), null()),
        opens(json!({"result": {"any": 1}}), null()),
        opens(json!({}), null()),
        opens(json!({"result": null}), null()),
        opens(
            json!({"result": {"unauthorized": false, "context": 7}}),
            json!(7),
        ),
        opens(json!({"result": {"unauthorized": "true"}}), null()),
        opens(
            json!({"result": {"unauthorized": 1, "context": 7}}),
            json!(7),
        ),
        is_401(json!({"result": {"unauthorized": true}}), null()),
        is_401(
            json!({"result": {"unauthorized": true, "context": {"u": 1}}}),
            json!({"u": 1}),
        ),
        is_401(json!({"result": "text"}), null()),
        is_401(json!({"result": 5}), null()),
        is_401(json!({"result": true}), null()),
        is_401(json!({"result": [1]}), null()),
        is_401(json!({"result": [{"context": 1}]}), null()),
        is_401(json!({"result": []}), null()),
        is_401(json!({"error": {"code": "x", "message": "boom"}}), null()),
    ]
}

#[test]
fn each_answer_means_what_it_should_under_both_values_of_auth_failure() {
    on_each_shape(|shape| {
        for failure in [AuthFailure::Refuse, AuthFailure::Allow] {
            let server = asking(shape, failure, |_| {});
            let mut sdk = with_functions(&server);
            for row in rows() {
                let mut stream = request(&server, "/", "");
                let call = sdk.next_call_of(AUTH);
                sdk.answer(&call, row.fields.clone());
                match row.refused {
                    Some(status) if failure == AuthFailure::Refuse => {
                        is_refused(&mut stream, status);
                    }
                    _ => {
                        is_open(&mut stream);
                        let context = context(&mut sdk, stream);
                        assert_eq!(context, row.context, "{}", row.fields);
                    }
                }
            }
        }
    });
}

#[test]
fn where_nobody_answers_it_is_503_or_opens_without_a_context() {
    for failure in [AuthFailure::Refuse, AuthFailure::Allow] {
        let server = asking(ONE_WORKER, failure, |config| config.auth.timeout_ms = 300);
        let mut sdk = SdkWorker::connect(&server);
        sdk.register("joins");
        sdk.register("leaves");
        sdk.trigger("j", "stream:join", "joins", json!({}));
        sdk.trigger("l", "stream:leave", "leaves", json!({}));
        let mut ends = |mut stream: TcpStream| match failure {
            AuthFailure::Refuse => is_refused(&mut stream, 503),
            AuthFailure::Allow => {
                is_open(&mut stream);
                assert_eq!(context(&mut sdk, stream), Value::Null);
            }
        };
        // Nobody serves it yet; its worker goes while it is asked; its worker has gone.
        ends(request(&server, "/", ""));
        let mut other = SdkWorker::connect(&server);
        other.register(AUTH);
        let stream = request(&server, "/", "");
        other.next_call_of(AUTH);
        drop(other);
        ends(stream);
        ends(request(&server, "/", ""));
        // It never answers: its own time, neither more nor that of the handshake.
        let mut other = SdkWorker::connect(&server);
        other.register(AUTH);
        let began = Instant::now();
        let stream = request(&server, "/", "");
        let silent = other.next_call_of(AUTH);
        ends(stream);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5));
        other.answer(&silent, json!({"result": {"context": 1}})); // finds nobody
        let mut stream = request(&server, "/", "");
        let call = other.next_call_of(AUTH);
        other.answer(&call, json!({}));
        is_open(&mut stream);
    }
}

#[test]
fn the_handshake_s_time_is_over_whatever_the_function_is_allowed() {
    for (failure, status) in [(AuthFailure::Refuse, 503), (AuthFailure::Allow, 101)] {
        let server = asking(ONE_WORKER, failure, |config| {
            config.limits.handshake_ms = 300;
        });
        let mut sdk = SdkWorker::connect(&server);
        sdk.register(AUTH);
        let mut stream = request(&server, "/", "");
        sdk.next_call_of(AUTH);
        assert_eq!(answer(&mut stream).0, status);
    }
}

#[test]
fn too_many_calls_in_flight_are_503() {
    let server = asking(ONE_WORKER, AuthFailure::Refuse, |config| {
        config.limits.calls_in_flight = 2;
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.register(AUTH);
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| request(&server, "/", "")).collect();
    let calls = [(); 2].map(|()| sdk.next_call_of(AUTH));
    is_refused(&mut request(&server, "/", ""), 503);
    for (call, stream) in calls.iter().zip(&mut waiting) {
        sdk.answer(call, json!({}));
        is_open(stream);
    }
}

#[test]
fn too_many_sockets_that_wait_for_the_function_are_503() {
    let server = asking(ONE_WORKER, AuthFailure::Refuse, |config| {
        config.limits.handshakes = 2;
    });
    let refused = || server.shared().workers[0].connections_refused.get();
    let mut sdk = SdkWorker::connect(&server);
    sdk.register(AUTH);
    let mut first = request(&server, "/", "");
    let first_call = sdk.next_call_of(AUTH);
    let mut second = request(&server, "/", "");
    let second_call = sdk.next_call_of(AUTH);
    for n in 1..=3 {
        assert_eq!(answer(&mut request(&server, "/", "")).0, 503);
        assert_eq!(refused(), n);
    }
    sdk.answer(&first_call, json!({}));
    is_open(&mut first);
    // There is room for one more, and the function is asked of nobody else.
    let mut third = request(&server, "/", "");
    let third_call = sdk.next_call_of(AUTH);
    assert_eq!(answer(&mut request(&server, "/", "")).0, 503);
    for (call, stream) in [(&second_call, &mut second), (&third_call, &mut third)] {
        sdk.answer(call, json!({}));
        is_open(stream);
    }
    assert_eq!(refused(), 4);
}

#[test]
fn the_function_is_looked_up_and_asked_for_each_socket() {
    on_each_shape(|shape| {
        let server = asking(shape, AuthFailure::Refuse, |_| {});
        let mut first = with_functions(&server);
        let mut second = SdkWorker::connect(&server);
        second.register(AUTH); // taken over
        for n in 0..3 {
            let mut stream = request(&server, "/", "");
            let call = second.next_call_of(AUTH);
            second.answer(&call, json!({"result": {"context": n}}));
            is_open(&mut stream);
            assert_eq!(context(&mut first, stream), n);
        }
        let unregister = json!({"type": "unregisterfunction", "id": AUTH});
        second.send(&unregister);
        second.settle();
        // The one before it serves again, and so does whoever comes after that.
        for _ in 0..2 {
            let mut stream = request(&server, "/", "");
            let call = first.next_call_of(AUTH);
            first.answer(&call, json!({}));
            is_open(&mut stream);
            first.send(&unregister);
            first.register(AUTH);
        }
    });
}

#[test]
fn one_slow_answer_holds_up_nobody_else() {
    on_each_shape(|shape| {
        let server = asking(shape, AuthFailure::Refuse, |_| {});
        let mut sdk = with_functions(&server);
        let mut slow = request(&server, "/?slow", "");
        let late = sdk.next_call_of(AUTH);
        for _ in 0..50 {
            let mut stream = request(&server, "/", "");
            let call = sdk.next_call_of(AUTH);
            sdk.answer(&call, json!({}));
            is_open(&mut stream);
        }
        sdk.answer(&late, json!({"result": {"context": "late"}}));
        is_open(&mut slow);
        assert_eq!(context(&mut sdk, slow), "late");
    });
}

#[test]
fn a_client_that_goes_while_it_is_asked_about_leaves_nothing() {
    on_each_shape(|shape| {
        let server = asking(shape, AuthFailure::Refuse, |_| {});
        let mut sdk = with_functions(&server);
        let gone: Vec<Value> = (0..20)
            .map(|_| {
                drop(request(&server, "/stream/chat/room", ""));
                sdk.next_call_of(AUTH)
            })
            .collect();
        let began = Instant::now();
        wait_until("the sockets end", || server.shared().connections_len() == 0);
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(5), "only their time was up");
        for call in &gone {
            sdk.answer(call, json!({"result": {"context": 1}}));
        }
        // The next join and the next leave are of this socket.
        let mut stream = request(&server, "/", "");
        let call = sdk.next_call_of(AUTH);
        sdk.answer(&call, json!({"result": {"context": "stays"}}));
        is_open(&mut stream);
        assert_eq!(context(&mut sdk, stream), "stays");
    });
}

#[test]
fn conditions_of_joins_and_leaves_are_told_the_context_and_streams_are_not() {
    let server = asking(ONE_WORKER, AuthFailure::Refuse, |_| {});
    let mut sdk = with_functions(&server);
    sdk.register("ask");
    sdk.register("events");
    let config = json!({"condition_function_id": "ask"});
    sdk.trigger("j", "stream:join", "joins", config.clone());
    sdk.trigger("l", "stream:leave", "leaves", config);
    sdk.trigger("e", "stream", "events", json!({"stream_name": "chat"}));
    let mut stream = request(&server, "/stream/chat/room", "");
    let call = sdk.next_call_of(AUTH);
    sdk.answer(&call, json!({"result": {"context": {"u": 7}}}));
    is_open(&mut stream);
    let asked = sdk.next_call_of("ask");
    assert_eq!(asked["data"]["context"], json!({"u": 7}));
    sdk.answer(&asked, json!({"result": true}));
    let asked = sdk.next_call_of("joins");
    assert_eq!(asked["data"]["context"], json!({"u": 7}), "a path's join");
    sdk.answer(&asked, json!({}));
    let mut client = Subscriber::upgraded(stream);
    client.sync();
    sdk.set(("chat", "room"), "a", json!(1));
    let told = sdk.next_call_of("events");
    assert!(!told.to_string().contains("context"), "{told}");
    assert!(!client.next_text().contains("context"));
    drop(client);
    let asked = sdk.next_call_of("ask");
    assert_eq!(asked["data"]["context"], json!({"u": 7}));
    sdk.answer(&asked, json!({"result": true}));
    let told = sdk.next_call_of("leaves");
    assert_eq!(told["data"]["context"], json!({"u": 7}));
}
