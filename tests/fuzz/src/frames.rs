//! The frame assembler, beside that of tungstenite: both see the same messages, however the bytes are cut.

use std::io::{self, Read, Write};

use iii_stream::protocol::connection::{Connection, Event, Flow, Payload};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::Steer;

#[derive(Debug, PartialEq, Clone)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// How long a message may be: near what small inputs have, and near where a length changes its form.
const LIMITS: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 125, 126, 510];

/// The first byte says how long a message may be, the second how the rest is cut.
pub fn run(input: &[u8]) {
    let mut steer = Steer(input);
    let limit = LIMITS[usize::from(steer.byte()) % LIMITS.len()];
    let step = usize::from(steer.byte()).max(1);
    let whole = ours(steer.0, limit, usize::MAX);
    let in_steps = ours(steer.0, limit, step);
    assert_eq!(whole, in_steps, "cut after every {step} bytes");
    let (mut seen, is_broken) = whole;
    let (theirs, broken_there) = theirs(steer.0, limit);
    if broken_there == Some(Broken::Utf8) {
        // There a part of a message is refused at once; we may see what controls the connection until the
        // message is whole, or have refused something before it.
        let controls = |seen: &Seen| matches!(seen, Seen::Ping(_) | Seen::Pong | Seen::Close);
        let agrees = match seen.strip_prefix(&*theirs) {
            Some(later) => later.iter().all(controls),
            None => is_broken && theirs.starts_with(&seen),
        };
        assert!(
            agrees,
            "{seen:?} (broken: {is_broken}), there no text after {theirs:?}"
        );
        return;
    }
    let is_broken_there = broken_there.is_some();
    // We answer a close frame that breaks the protocol; there it is an error.
    if is_broken_there && seen.last() == Some(&Seen::Close) {
        seen.pop();
    }
    // We refuse a little more, such as lengths that are not in their shortest form.
    assert!(
        theirs.starts_with(&seen) && (is_broken || seen.len() == theirs.len()),
        "{seen:?} (broken: {is_broken}), there {theirs:?} (broken: {is_broken_there})"
    );
}

/// What is seen, and whether the peer has broken the protocol.
fn ours(bytes: &[u8], limit: usize, step: usize) -> (Vec<Seen>, bool) {
    let mut connection = Connection::default();
    let mut seen = Vec::new();
    for part in bytes.chunks(step.min(bytes.len().max(1))) {
        let received = connection.receive(&mut part.to_vec(), limit, &mut |event| {
            seen.push(match event {
                Event::Message(Payload::Text(text)) => Seen::Text(text.to_owned()),
                Event::Message(Payload::Binary(bytes)) => Seen::Binary(bytes.to_owned()),
                Event::Ping(payload) => Seen::Ping(payload.to_owned()),
                Event::Pong => Seen::Pong,
                Event::Close(reply) => {
                    assert!(reply.frame().len() <= 127);
                    Seen::Close
                }
            });
            Flow::Continue
        });
        assert!(connection.kept_bytes() <= 2 * limit + 2048, "it keeps much");
        if let Err(error) = received {
            assert!((1002..1010).contains(&error.close_code()));
            return (seen, true);
        }
    }
    (seen, false)
}

#[derive(PartialEq)]
enum Broken {
    Utf8,
    Otherwise,
}

struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Nothing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(bytes: &[u8], limit: usize) -> (Vec<Seen>, Option<Broken>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit.max(125)));
    let role = Role::Server;
    let mut context = WebSocketContext::from_partially_read(bytes.to_vec(), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match context.read(&mut Nothing) {
            Ok(Message::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Seen::Pong,
            Ok(Message::Close(_)) => {
                seen.push(Seen::Close);
                return (seen, None);
            }
            Ok(Message::Frame(_)) => unreachable!("none is read"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (seen, None);
            }
            Err(Error::Utf8(_)) => return (seen, Some(Broken::Utf8)),
            Err(_) => return (seen, Some(Broken::Otherwise)),
        });
    }
}
