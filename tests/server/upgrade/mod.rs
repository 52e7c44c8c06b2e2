//! HTTP on both ports: paths, the order of the checks, the answers to the byte, the 101.

mod places;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::support::raw::{self, Answer, ask, upgrade_request};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape};

const NO_UPGRADE: &str = "Connection header did not include 'upgrade'\nThis is iii-stream: subscribers \
    connect with a WebSocket, new WebSocket('ws://HOST:PORT/stream/STREAM/GROUP')";
const NO_UPGRADE_TO_WORK: &str = "Connection header did not include 'upgrade'\nThis is iii-stream: worker \
    programs connect with an iii SDK, registerWorker('ws://HOST:PORT')";
const NO_PATH: &str =
    "no such path: subscribers connect to /, /stream/STREAM/GROUP or /stream/STREAM/GROUP/ITEM";
const NO_WORKER_PATH: &str =
    "no such path: worker programs connect to /, subscribers to the stream port";
const TOO_LARGE: &str =
    "limits.handshake_bytes: the request has too many bytes, or more than 100 headers";

fn answer(status: u16, body: &str) -> Answer {
    let mut headers = match body {
        "" => vec!["content-length: 0".to_owned()],
        body => vec![
            "content-type: text/plain; charset=utf-8".to_owned(),
            format!("content-length: {}", body.len()),
        ],
    };
    headers.push("connection: close".to_owned());
    sorted(Answer {
        status,
        headers,
        body: body.to_owned(),
    })
}

/// Header lines may stand in any order.
fn sorted(mut answer: Answer) -> Answer {
    answer.headers.sort();
    answer
}

fn asked(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    sorted(ask(address, request))
}

#[test]
fn paths_that_name_nothing_serve_a_socket_without_joins() {
    let server = TestServer::start(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    for path in [
        "/",
        "/?a=b",
        "/stream",
        "/stream/",
        "/streams",
        "/streams/",
        "/stream?x",
    ] {
        let mut subscriber = Subscriber::at(&server, path);
        assert_eq!(subscriber.join("s", ("paths", path)).data, json!([]));
        subscriber.hears_only_the_marker(&mut sdk, ("paths", path));
    }
}

#[test]
fn paths_that_name_a_group_or_an_item_join_it() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let room = ("chat", "room 1/a+b");
        sdk.set(room, "u/1", json!("there"));
        for path in [
            "/stream/chat/room%201%2Fa+b",
            "/stream/chat/room%201%2fa+b/",
            "/streams/chat/room%201%2Fa+b?token=x/y",
            "/streams/%63hat/room%201%2Fa+b/",
        ] {
            let mut subscriber = Subscriber::at(&server, path);
            let sync = subscriber.sync();
            assert_eq!(
                (&*sync.stream, &*sync.group),
                room,
                "{path} is split, then decoded"
            );
            assert_eq!(sync.told(), ("sync", None, &json!(["there"])));
            subscriber.hears_only_the_marker(&mut sdk, room);
        }
        for path in [
            "/stream/chat/room%201%2Fa+b/u%2F1",
            "/streams/chat/room%201%2Fa+b/u%2f1/?x",
        ] {
            let sync = Subscriber::at(&server, path).sync();
            assert_eq!(sync.told(), ("sync", Some("u/1"), &json!("there")));
        }
    });
}

#[test]
fn a_socket_that_was_joined_by_its_path_takes_further_joins() {
    let server = TestServer::start(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::at(&server, "/stream/s/g");
    subscriber.sync();
    subscriber.join("mine", ("s", "g"));
    sdk.set(("s", "g"), "i", json!(1));
    assert_eq!(subscriber.next(), subscriber.next(), "one frame each");
    subscriber.leave("mine");
    subscriber.join("barrier", ("s", "other"));
    subscriber.hears_only_the_marker(&mut sdk, ("s", "g"));
}

#[test]
fn an_absolute_target_is_read_behind_its_authority() {
    let server = TestServer::start(ONE_WORKER);
    let stream = raw::connect(server.stream());
    let mut stream = raw::upgrade(stream, "http://somewhere:1/stream/s/g");
    let (_, frame) = raw::read_frame(&mut stream);
    assert!(
        String::from_utf8(frame)
            .unwrap()
            .contains(r#""groupId":"g""#)
    );
}

#[test]
fn unknown_paths_are_not_found_whatever_else_is_wrong() {
    let server = TestServer::start(THREE_WORKERS);
    for path in [
        "//",
        "/x",
        "/stream/s",
        "/stream/s/",
        "/stream//g",
        "/stream/s//",
        "/stream/s/g//",
        "/stream/a/b/c/d",
        "/Stream/s/g",
        "/stream/s/%zz",
        "/stream/s/%f",
        "/stream/s/%ff",
        "/streamss/s/g",
        "/metrics",
    ] {
        let request = upgrade_request(path, "");
        assert_eq!(
            asked(server.stream(), request),
            answer(404, NO_PATH),
            "{path}"
        );
        let post = format!("POST {path} HTTP/1.0\r\n\r\n");
        assert_eq!(asked(server.stream(), post), answer(404, NO_PATH), "{path}");
    }
}

#[test]
fn a_plain_get_is_told_what_it_lacks_to_the_byte() {
    let server = TestServer::start(ONE_WORKER);
    let mut stream = raw::connect(server.stream());
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let text = String::from_utf8(raw::read_to_end(&mut stream)).unwrap();
    let date = text.split_once("date: ").unwrap().1;
    let date = date.split_once("\r\n").unwrap().0;
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    assert_eq!(
        text,
        format!(
            "HTTP/1.1 400 Bad Request\r\n\
             content-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\n\
             connection: close\r\n\
             date: {date}\r\n\
             \r\n\
             {NO_UPGRADE}",
            NO_UPGRADE.len()
        )
    );
}

/// Each request has everything wrong that is checked later, so the order shows.
#[test]
fn the_first_check_that_fails_answers() {
    let server = TestServer::start(THREE_WORKERS);
    let long = "x".repeat(65_535);
    let many = "a: b\r\n".repeat(101);
    let no_websocket = "`Upgrade` header did not include 'websocket'";
    let no_key = "`Sec-WebSocket-Key` header missing";
    let bad_key = "`Sec-WebSocket-Key` header is not 16 bytes in base64";
    let no_13 = "`Sec-WebSocket-Version` header did not include '13'";
    let no_state = "WebSocket request couldn't be upgraded since no upgrade state was present";
    let lines = [
        ("GARBAGE\r\n\r\n".to_owned(), 400, ""),
        ("POST /x HTTP/1.0\r\na b\r\n\r\n".to_owned(), 400, ""),
        (format!("POST /x HTTP/1.0\r\n{many}\r\n"), 431, TOO_LARGE),
        ("POST /x HTTP/1.0\r\n\r\n".to_owned(), 404, NO_PATH),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 400, NO_UPGRADE),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\nconnection: upgrade\r\n\r\n".to_owned(),
            400,
            NO_UPGRADE,
        ),
        (
            "GET / HTTP/1.0\r\nConnection: xUPGRADEx\r\nUpgrade: h2c\r\n\r\n".to_owned(),
            400,
            no_websocket,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n".to_owned(),
            400,
            no_websocket,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n".to_owned(),
            400,
            no_key,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"
                .to_owned(),
            400,
            bad_key,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-version: 8\r\n\r\n"
                .to_owned(),
            400,
            no_13,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-version: 13\r\n\r\n"
                .to_owned(),
            426,
            no_state,
        ),
    ];
    for (request, status, body) in lines {
        assert_eq!(
            asked(server.stream(), &request),
            answer(status, body),
            "{request}"
        );
    }
    let mut not_allowed = answer(405, "");
    not_allowed.headers.push("allow: GET,HEAD".to_owned());
    assert_eq!(
        asked(server.stream(), "POST / HTTP/1.0\r\n\r\n"),
        sorted(not_allowed)
    );
    let head = asked(server.stream(), "HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!((head.status, &*head.body), (405, ""));
    assert!(head.headers.contains(&"content-length: 28".to_owned()));
    let long = format!("GET /{long} HTTP/1.1\r\n\r\n");
    let limit_lifted = TestServer::with(ONE_WORKER, |config| {
        config.limits.handshake_bytes = 200_000;
    });
    assert_eq!(
        asked(limit_lifted.stream(), &long),
        answer(414, "the path is longer than 65534 bytes")
    );
}

#[test]
fn a_head_over_its_limit_is_too_large_and_one_within_is_served() {
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.limits.handshake_bytes = 1000;
    });
    for address in [server.stream(), server.worker()] {
        let large = upgrade_request("/", &format!("a: {}\r\n", "x".repeat(1000)));
        assert_eq!(asked(address, large), answer(431, TOO_LARGE));
        let endless = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(200);
        assert_eq!(asked(address, endless), answer(431, TOO_LARGE));
        let room = 1000 - upgrade_request("/", "a: \r\n").len();
        let full = upgrade_request("/", &format!("a: {}\r\n", "x".repeat(room)));
        let mut stream = raw::connect(address);
        stream.write_all(full.as_bytes()).unwrap();
        assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn the_upgrade_is_answered_to_the_byte_on_both_ports() {
    let server = TestServer::start(THREE_WORKERS);
    for address in [server.stream(), server.worker()] {
        let mut stream = raw::connect(address);
        let offers = "sec-websocket-extensions: permessage-deflate\r\norigin: http://localhost\r\n";
        stream
            .write_all(upgrade_request("/?q", offers).as_bytes())
            .unwrap();
        let head = raw::read_head(&mut stream);
        let (fixed, date) = head.split_once("date: ").unwrap();
        assert_eq!(
            fixed,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        );
        assert!(httpdate::parse_http_date(date.trim_end()).is_ok());
    }
}

#[test]
fn a_subprotocol_is_named_when_one_was_asked_for() {
    let server = TestServer::start(THREE_WORKERS);
    for (asked_for, named) in [
        ("", None),
        ("sec-websocket-protocol: \r\n", None),
        ("sec-websocket-protocol: chat, other\r\n", Some("chat")),
        (
            "sec-websocket-protocol: token,AUTHORIZATION\r\n",
            Some("AUTHORIZATION"),
        ),
        (
            "sec-websocket-protocol: a\r\nSec-WebSocket-Protocol: , Authorization\r\n",
            Some("Authorization"),
        ),
    ] {
        let mut stream = raw::connect(server.stream());
        stream
            .write_all(upgrade_request("/", asked_for).as_bytes())
            .unwrap();
        let head = raw::read_head(&mut stream);
        let lines: Vec<&str> = head
            .lines()
            .filter_map(|line| line.strip_prefix("sec-websocket-protocol: "))
            .collect();
        assert_eq!(lines, named.into_iter().collect::<Vec<_>>(), "{asked_for}");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_served() {
    let server = TestServer::start(THREE_WORKERS);
    for address in [server.stream(), server.worker()] {
        let mut stream = raw::connect(address);
        for byte in upgrade_request("/", "").as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn frames_right_behind_the_request_are_served() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let join = raw::text(&crate::support::clients::join("s", ("chat", "g"), None));
        let mut bytes = upgrade_request("/", "").into_bytes();
        bytes.extend(&join);
        bytes.extend(raw::frame(0x89, b"ping"));
        for split in [bytes.len(), bytes.len() - 3, bytes.len() - join.len()] {
            let mut stream = raw::connect(server.stream());
            stream.write_all(&bytes[..split]).unwrap();
            let head = raw::read_head(&mut stream);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            stream.write_all(&bytes[split..]).unwrap();
            let mut frames = [raw::read_frame(&mut stream), raw::read_frame(&mut stream)];
            frames.sort();
            assert_eq!(frames[1], (0x8a, b"ping".to_vec()));
            assert_eq!(frames[0].0, 0x81);
            assert!(String::from_utf8_lossy(&frames[0].1).contains(r#""type":"sync","data":[]"#));
        }
        let mut stream = raw::connect(server.worker());
        let mut bytes = upgrade_request("/", "").into_bytes();
        bytes.extend(raw::text(r#"{"type":"ping"}"#));
        stream.write_all(&bytes).unwrap();
        raw::read_head(&mut stream);
        let (_, hello) = raw::read_frame(&mut stream);
        assert!(hello.starts_with(br#"{"type":"workerregistered","worker_id":""#));
        assert_eq!(
            raw::read_frame(&mut stream),
            (0x81, br#"{"type":"pong"}"#.to_vec())
        );
    });
}

#[test]
fn what_answers_a_frame_right_behind_the_request_comes_after_the_101() {
    let server = TestServer::start(THREE_WORKERS);
    for address in [server.stream(), server.worker()] {
        let mut stream = raw::connect(address);
        let mut bytes = upgrade_request("/", "").into_bytes();
        bytes.extend(raw::frame(0x89, b"now"));
        bytes.extend(raw::frame(0x88, &1000_u16.to_be_bytes()));
        stream.write_all(&bytes).unwrap();
        assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
        assert_eq!(raw::read_close(&mut stream), Some((1000, String::new())));
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused_on_both_ports() {
    let server = TestServer::start(ONE_WORKER);
    for address in [server.stream(), server.worker()] {
        for (lines, body) in [
            (
                "origin: http://localhost\r\nOrigin: http://evil.example\r\n",
                "`Origin` header stands twice",
            ),
            ("host: other\r\n", "`Host` header stands twice"),
            (
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                "`Sec-WebSocket-Key` header stands twice",
            ),
            (
                "Sec-WebSocket-Version: 13\r\n",
                "`Sec-WebSocket-Version` header stands twice",
            ),
            (
                "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
                "`Authorization` header stands twice",
            ),
            (
                "content-length: 0\r\ncontent-length: 5\r\n",
                "`Content-Length` header stands twice",
            ),
            ("content-length: 5\r\n", "an upgrade has no body"),
            ("transfer-encoding: chunked\r\n", "an upgrade has no body"),
        ] {
            let request = upgrade_request("/", lines);
            assert_eq!(asked(address, request), answer(400, body), "{lines}");
        }
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let no_key = upgrade_request("/", "").replace(key, "c2hvcnQ=");
        let body = "`Sec-WebSocket-Key` header is not 16 bytes in base64";
        assert_eq!(asked(address, no_key), answer(400, body));
    }
}

#[test]
fn a_body_is_not_read_and_the_connection_ends() {
    let server = TestServer::start(ONE_WORKER);
    let request = "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(asked(server.stream(), request).status, 405);
}

#[test]
fn the_worker_port_serves_its_two_paths_only() {
    let server = TestServer::start(ONE_WORKER);
    for path in ["/x", "//", "/otel/", "/stream", "/stream/s/g"] {
        let request = upgrade_request(path, "");
        assert_eq!(
            asked(server.worker(), request),
            answer(404, NO_WORKER_PATH),
            "{path}"
        );
    }
    let channel = asked(
        server.worker(),
        upgrade_request("/ws/channels/c?key=k&dir=read", ""),
    );
    assert_eq!(channel, answer(404, "Channel not found"));
    let plain = "GET /otel HTTP/1.1\r\n\r\n";
    assert_eq!(
        asked(server.worker(), plain),
        answer(400, NO_UPGRADE_TO_WORK)
    );
}

#[test]
fn telemetry_is_accepted_and_nothing_is_said() {
    let server = TestServer::start(ONE_WORKER);
    let mut stream = raw::upgrade(raw::connect(server.worker()), "/otel");
    for mark in ["OTLP", "MTRC", "LOGS", "junk"] {
        let payload = format!("{mark}{{}}");
        stream
            .write_all(&raw::frame(0x82, payload.as_bytes()))
            .unwrap();
    }
    stream.write_all(&raw::text(r#"{"type":"ping"}"#)).unwrap();
    stream.write_all(&raw::frame(0x89, b"now")).unwrap();
    assert_eq!(
        raw::read_frame(&mut stream),
        (0x8a, b"now".to_vec()),
        "the pong is the first that comes"
    );
}

#[test]
fn nothing_is_read_of_a_socket_that_was_answered() {
    let server = TestServer::start(ONE_WORKER);
    let mut stream = raw::connect(server.stream());
    let two = "GET /x HTTP/1.1\r\n\r\nGET /y HTTP/1.1\r\n\r\n";
    stream.write_all(two.as_bytes()).unwrap();
    let mut answer = String::new();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}
