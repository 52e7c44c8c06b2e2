//! Frames on both ports: fragments, pings, the closing handshake, and what ends a connection.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use tungstenite::Message;

use crate::support::clients::join;
use crate::support::raw::{self, frame, read_close, read_frame, text};
use crate::support::{SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape};

/// A socket that sends these bytes right after its upgrade.
fn sending(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = raw::upgrade(raw::connect(address), "/");
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn a_ping_is_answered_once_and_at_once() {
    let server = TestServer::start(THREE_WORKERS);
    for payload in [&b""[..], b"x", &[0xff; 125]] {
        let mut bytes = frame(0x89, payload);
        bytes.extend(text(&join("s", ("s", "g"), None)));
        let mut stream = sending(server.stream(), &bytes);
        let mut frames = [read_frame(&mut stream), read_frame(&mut stream)];
        frames.sort();
        assert_eq!(frames[0].0, 0x81);
        assert_eq!(frames[1], (0x8a, payload.to_vec()));
    }
    let mut stream = sending(server.worker(), &frame(0x89, b"sdk"));
    read_frame(&mut stream); // workerregistered
    assert_eq!(read_frame(&mut stream), (0x8a, b"sdk".to_vec()));
}

#[test]
fn a_pong_nobody_asked_for_is_passed_over() {
    let server = TestServer::start(THREE_WORKERS);
    let mut bytes = frame(0x8a, b"here");
    bytes.extend(frame(0x89, b"there"));
    let mut stream = sending(server.stream(), &bytes);
    assert_eq!(read_frame(&mut stream), (0x8a, b"there".to_vec()));
}

#[test]
fn fragments_are_joined_and_control_frames_between_them_served() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let join = join("s", ("chat", "g"), None);
        let (begin, end) = join.as_bytes().split_at(7);
        for opcode in [1, 2] {
            let mut stream = sending(server.stream(), &frame(opcode, begin));
            stream.write_all(&frame(0, b"")).unwrap();
            stream.write_all(&frame(0x89, b"between")).unwrap();
            assert_eq!(read_frame(&mut stream), (0x8a, b"between".to_vec()));
            stream.write_all(&frame(0x80, end)).unwrap();
            assert_eq!(read_frame(&mut stream).0, 0x81, "the sync is a text frame");
        }
    });
}

#[test]
fn a_close_is_answered_with_its_code_and_no_reason() {
    let server = TestServer::start(THREE_WORKERS);
    let body = |code: u16, reason: &str| {
        let mut body = code.to_be_bytes().to_vec();
        body.extend(reason.as_bytes());
        body
    };
    let closes = [
        (Vec::new(), None),
        (body(1000, ""), Some(1000)),
        (body(1001, "going away"), Some(1001)),
        (body(3000, "own"), Some(3000)),
        (body(4999, ""), Some(4999)),
        (vec![3], Some(1002)),
        (body(1005, ""), Some(1002)),
        (body(1006, ""), Some(1002)),
        (body(999, ""), Some(1002)),
    ];
    for address in [server.stream(), server.worker()] {
        for (body, code) in &closes {
            let mut stream = sending(address, &frame(0x88, body));
            let wanted = code.map(|code| (code, String::new()));
            let close = read_close(&mut stream);
            // The reason of an error may be told.
            let close = close.map(|(code, reason)| match code {
                1002 => (code, String::new()),
                _ => (code, reason),
            });
            assert_eq!(close, wanted, "for {body:?}");
            assert_eq!(raw::read_to_end(&mut stream), b"", "then TCP ends");
        }
    }
}

#[test]
fn nothing_behind_a_close_is_read() {
    let server = TestServer::start(THREE_WORKERS);
    let mut bytes = frame(0x88, b"");
    bytes.extend(frame(0x89, b"late"));
    let mut stream = sending(server.stream(), &bytes);
    assert_eq!(read_frame(&mut stream), (0x88, vec![]));
    assert_eq!(raw::read_to_end(&mut stream), b"");
}

#[test]
fn broken_frames_are_closed_with_their_code_on_both_ports() {
    let server = TestServer::start(THREE_WORKERS);
    let mut new_inside = frame(0x01, b"{");
    new_inside.extend(frame(0x81, b"{}"));
    let broken = [
        ("no mask", raw::unmasked(0x81, b"{}"), 1002),
        ("reserved bit", frame(0xc1, b"{}"), 1002),
        ("reserved opcode", frame(0x83, b""), 1002),
        ("reserved control opcode", frame(0x8b, b""), 1002),
        ("continuation of nothing", frame(0x80, b"{}"), 1002),
        ("a message inside a fragmented one", new_inside, 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        (
            "length with the top bit set",
            [&[0x81, 0xff, 0x80][..], &[0; 11]].concat(),
            1002,
        ),
        (
            "text that is not UTF-8",
            frame(0x81, &[b'"', 0xff, b'"']),
            1007,
        ),
    ];
    for address in [server.stream(), server.worker()] {
        for (name, bytes, code) in &broken {
            let mut stream = sending(address, bytes);
            let close = read_close(&mut stream).expect("a code");
            assert_eq!(close.0, *code, "{name}");
            assert_eq!(raw::read_to_end(&mut stream), b"", "{name}: then TCP ends");
        }
    }
}

#[test]
fn a_message_is_too_big_by_its_header_over_all_its_fragments() {
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.limits.message_bytes = 1000;
        config.limits.call_bytes = 1000;
    });
    let ports = [
        (server.stream(), "limits.message_bytes"),
        (
            server.worker(),
            "limits.call_bytes: message would have 1001 bytes, limit 1000",
        ),
    ];
    for (address, reason) in ports {
        let header = raw::header(0x81, 0x80, 1001);
        let mask = [0; 4];
        let mut promised = sending(address, &[&header[..], &mask].concat());
        let close = read_close(&mut promised).unwrap();
        assert_eq!(close.0, 1009, "before any of it has come");
        assert_eq!(close.1, reason);
        let mut fragments = frame(0x01, &[b' '; 600]);
        fragments.extend(frame(0x80, &[b' '; 401]));
        let mut stream = sending(address, &fragments);
        assert_eq!(read_close(&mut stream).unwrap().0, 1009);
        let mut within = frame(0x01, &[b' '; 600]);
        within.extend(frame(0x80, &[b' '; 400]));
        within.extend(frame(0x88, b""));
        let mut stream = sending(address, &within);
        assert_eq!(read_close(&mut stream), None, "1000 bytes are served");
    }
}

#[test]
fn what_is_no_message_is_passed_over_in_silence() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut subscriber = Subscriber::connect(&server);
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let fields = r#""subscriptionId":"x","streamName":"s","groupId":"g""#;
        let nonsense = [
            "".to_owned(),
            " \r\n\t".to_owned(),
            "nonsense".to_owned(),
            "{".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            "null".to_owned(),
            format!(r#"{{"data":{{{fields}}}}}"#),
            format!(r#"{{"type":"Join","data":{{{fields}}}}}"#),
            format!(r#"{{"type":5,"data":{{{fields}}}}}"#),
            format!(r#"{{"type":"subscribe","data":{{{fields}}}}}"#),
            r#"{"type":"join"}"#.to_owned(),
            r#"{"type":"join","data":null}"#.to_owned(),
            r#"{"type":"join","data":"{}"}"#.to_owned(),
            r#"{"type":"join","data":{"streamName":"s"}}"#.to_owned(),
            r#"{"type":"join","data":{"subscription_id":"x","stream_name":"s","group_id":"g"}}"#
                .to_owned(),
            format!(r#"{{"type":"join","data":{{{fields},"id":5}}}}"#),
            format!(r#"{{"type":"join","data":{{{fields},"groupId":"h"}}}}"#),
            format!(r#"{{"type":"join","type":"join","data":{{{fields}}}}}"#),
            format!(r#"{{"type":"join","data":{{{fields}}}}} x"#),
            format!(
                r#"{{"type":"join","data":{{{fields}}}}}{{"type":"join","data":{{{fields}}}}}"#
            ),
            format!("\u{feff}{{\"type\":\"join\",\"data\":{{{fields}}}}}"),
            format!(r#"{{"type":"join","data":{{{fields},"id":"\ud800"}}}}"#),
            format!(r#"{{"type":"join","data":{{{fields}}},"more":{deep}}}"#),
            format!(r#"{{"type":"join","data":{{{fields}}},"more":1e999}}"#),
            format!(r#"["join",{{{fields}}}]"#),
            r#"{"type":"join","data":["x","s","g",null]}"#.to_owned(),
        ];
        for text in &nonsense {
            subscriber.send(text);
        }
        subscriber.send_message(Message::binary(b"{\"type\":\"join\xff\"}".to_vec()));
        assert_eq!(
            subscriber.join("s", ("s", "g")).data,
            json!([]),
            "the first answer is to the first message that is one"
        );
        let mut sdk = SdkWorker::connect(&server);
        subscriber.hears_only_the_marker(&mut sdk, ("s", "g"));
    });
}

#[test]
fn a_message_may_be_written_in_many_ways() {
    let server = TestServer::start(THREE_WORKERS);
    let mut subscriber = Subscriber::connect(&server);
    let texts = [
        r#"{"data":{"groupId":"g","id":null,"streamName":"s","subscriptionId":"a"},"type":"join"}"#,
        " \t\r\n{\"type\" : \"join\" , \"data\" : {\"subscriptionId\":\"b\",\"streamName\":\"s\",\"groupId\":\"g\"}} \n",
        r#"{"type":"join","data":{"subscription\u0049d":"c","streamName":"\u0073","groupId":"g"}}"#,
        r#"{"type":"join","x":1,"x":[{}],"data":{"y":2,"y":3,"subscriptionId":"d","streamName":"s","groupId":"g"}}"#,
    ];
    for text in texts {
        subscriber.send(text);
        assert_eq!(
            subscriber.sync().told(),
            ("sync", None, &json!([])),
            "{text}"
        );
    }
    subscriber.send_message(Message::binary(
        join("e", ("s", "g"), Some("")).into_bytes(),
    ));
    let sync = subscriber.sync();
    assert_eq!(sync.told(), ("sync", Some(""), &json!(null)));
    assert_eq!(
        subscriber.join("", ("", "")).told(),
        ("sync", None, &json!([]))
    );
    let odd = "q\"\\/\u{0}\u{1f}\u{7f}\u{2028}\u{1f600}";
    let sync = subscriber.join_item(odd, (odd, odd), odd);
    assert_eq!(
        (&*sync.stream, &*sync.group, sync.id.as_deref()),
        (odd, odd, Some(odd))
    );
}
