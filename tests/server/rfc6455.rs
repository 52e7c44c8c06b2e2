//! What RFC 6455 asks of frames, messages and the closing handshake, case by case, numbered as the Autobahn
//! test suite numbers them: its categories 1 to 7, 9 and 10, written from the RFC into
//! `tests/data/rfc6455.json`. What an echo server would echo is what the assembler gives.
//!
//! Left out are categories 12 and 13: no compression is negotiated. 6.4 asks to fail fast and takes it when
//! a peer fails at the end of the message, as here. Of 9.7 and 9.8 the time that they take is not measured.
//! Over sockets only what is short is sent: messages have a limit there.

use std::io::Write;

use iii_stream::protocol::connection::{Connection, Event, Flow, Payload};
use serde_json::Value;

use crate::support::raw::{self, frame, read_close, read_frame};
use crate::support::{THREE_WORKERS, TestServer};

/// Longer cases are not sent over sockets.
const SENT_BYTES_MAX: usize = 200_000;

struct Case {
    id: String,
    /// What the client sends, in pieces of so many bytes.
    bytes: Vec<u8>,
    chop: usize,
    expect: Vec<Told>,
}

#[derive(Debug, PartialEq, Clone)]
enum Told {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn cases() -> Vec<Case> {
    let data = include_str!("../data/rfc6455.json");
    let cases: Vec<Value> = serde_json::from_str(data).unwrap();
    cases.iter().map(Case::of).collect()
}

impl Case {
    fn of(case: &Value) -> Case {
        let times = case["times"].as_u64().unwrap_or(1);
        let mut once = Vec::new();
        for sent in case["send"].as_array().unwrap() {
            let first = u8::from_str_radix(sent[0].as_str().unwrap(), 16).unwrap();
            let payload = payload(&sent[1]);
            match case["fragment"].as_u64() {
                Some(most) => once.extend(fragments(first, &payload, most as usize)),
                None => once.extend(frame(first, &payload)),
            }
        }
        let expect = case["expect"].as_array().unwrap().iter().map(told);
        let expect: Vec<Told> = expect.collect();
        let chop = case["chop"]
            .as_u64()
            .map_or(usize::MAX, |chop| chop as usize);
        Case {
            id: case["id"].as_str().unwrap().to_owned(),
            bytes: once.repeat(times as usize),
            chop,
            expect: vec![expect; times as usize].concat(),
        }
    }
}

/// A text, bytes in hexadecimal digits, or either so many times.
fn payload(data: &Value) -> Vec<u8> {
    let times = data["times"].as_u64().unwrap_or(1) as usize;
    if let Some(digits) = data["hex"].as_str() {
        let pairs = digits.as_bytes().chunks(2);
        let bytes =
            pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
        return bytes.collect::<Vec<u8>>().repeat(times);
    }
    let text = data["repeat"].as_str().or(data.as_str()).unwrap();
    text.as_bytes().repeat(times)
}

/// `first` is the first byte of the first frame, whose FIN is not set.
fn fragments(first: u8, payload: &[u8], most: usize) -> Vec<u8> {
    let parts = payload.chunks(most).enumerate();
    let last = payload.len().div_ceil(most) - 1;
    let framed = parts.map(|(n, part)| {
        let opcode = if n == 0 { first } else { 0 };
        frame(opcode | if n == last { 0x80 } else { 0 }, part)
    });
    framed.flatten().collect()
}

fn told(expected: &Value) -> Told {
    match expected[0].as_str().unwrap() {
        "text" => Told::Text(payload(&expected[1])),
        "binary" => Told::Binary(payload(&expected[1])),
        "pong" => Told::Pong(payload(&expected[1])),
        "close" => Told::Close(expected[1].as_u64().map(|code| code as u16)),
        other => panic!("{other}"),
    }
}

/// What the assembler makes of it.
fn assembled(case: &Case, chop: usize) -> Vec<Told> {
    let mut connection = Connection::default();
    let mut seen = Vec::new();
    for part in case.bytes.chunks(chop.min(case.bytes.len())) {
        let received = connection.receive(&mut part.to_vec(), usize::MAX, &mut |event| {
            match event {
                Event::Message(Payload::Text(text)) => seen.push(Told::Text(text.into())),
                Event::Message(Payload::Binary(bytes)) => seen.push(Told::Binary(bytes.to_vec())),
                Event::Ping(payload) => seen.push(Told::Pong(payload.to_vec())),
                Event::Pong => {}
                Event::Close(reply) => {
                    let frame = reply.frame();
                    let code = frame
                        .get(2..4)
                        .map(|code| u16::from_be_bytes([code[0], code[1]]));
                    seen.push(Told::Close(code));
                }
            }
            Flow::Continue
        });
        if let Err(error) = received {
            seen.push(Told::Close(Some(error.close_code())));
            break;
        }
    }
    seen
}

#[test]
fn every_case_gives_what_an_echo_server_would_echo() {
    let cases = cases();
    assert_eq!(cases.len(), 300);
    for case in &cases {
        assert!(assembled(case, case.chop) == case.expect, "{}", case.id);
        if case.bytes.len() < 2000 {
            for chop in [1, 2, 3, 7] {
                assert!(
                    assembled(case, chop) == case.expect,
                    "{} cut at {chop}",
                    case.id
                );
            }
        }
    }
}

#[test]
fn both_ports_answer_pings_and_close_as_every_short_case_asks() {
    let server = TestServer::start(THREE_WORKERS);
    for address in [server.stream(), server.worker()] {
        for case in cases()
            .iter()
            .filter(|case| case.bytes.len() < SENT_BYTES_MAX)
        {
            let mut stream = raw::upgrade(raw::connect(address), "/");
            if address == server.worker() {
                read_frame(&mut stream); // workerregistered
            }
            let chop = case.chop.max(64); // a write for each byte would only take long
            for part in case.bytes.chunks(chop.min(case.bytes.len())) {
                // It may have closed the connection already.
                let _ = stream.write_all(part);
            }
            // Messages that are no requests are passed over.
            let pongs = case.expect.iter().filter_map(|told| match told {
                Told::Pong(payload) => Some(payload),
                _ => None,
            });
            let close = case.expect.iter().find_map(|told| match told {
                Told::Close(code) => Some(*code),
                _ => None,
            });
            // Of several pings the last may be answered alone, and none behind which a close has come.
            let mut pongs: Vec<&Vec<u8>> = pongs.collect();
            while close.is_none() && !pongs.is_empty() {
                let (first, payload) = read_frame(&mut stream);
                assert_eq!(first, 0x8a, "{}", case.id);
                let at = pongs.iter().position(|pong| **pong == payload);
                pongs.drain(..=at.expect("of a ping that was sent"));
            }
            if close.is_none() {
                stream.write_all(&frame(0x88, b"")).unwrap();
            }
            let told = read_close(&mut stream).map(|(code, _)| code);
            assert_eq!(told, close.flatten(), "{}", case.id);
        }
    }
}
