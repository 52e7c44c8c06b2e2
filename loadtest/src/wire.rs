//! The bytes of a client's WebSocket: the opening, whole frames in, masked frames out.
//!
//! Pure: bytes and values only. May not hold a socket, read a clock, or know what a message means.

use std::io::Cursor;

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longer frames end the connection: one `sync` of a test group is far below.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// RFC 6455 section 5.5.
const CONTROL_BYTES_MAX: u64 = 125;
/// A server that answers the opening with more than this is not one of ours.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// A fixed mask is a mask: servers must undo it, and ours costs no random numbers.
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x2e];
/// `loadtest client!`. The key only has to be 16 bytes; it proves nothing.
const KEY: &str = "bG9hZHRlc3QgY2xpZW50IQ==";

/// What a server sends after the opening.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// One text, and the frame that it came in.
    Message(Message<'a>),
    Ping(&'a [u8]),
    Pong,
    Close(Option<u16>),
}

/// One text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) text: &'a [u8],
    /// The text with the frame header before it.
    pub(crate) frame: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the server refused the upgrade: {status_line}")]
    Refused { status_line: String },
    #[error("the server's answer to the upgrade is not a WebSocket handshake: {why}")]
    NotAHandshake { why: &'static str },
    #[error("the server sent a broken frame header: {0}")]
    Header(#[source] Box<tungstenite::Error>),
    #[error("the server broke the WebSocket protocol: {0}")]
    Protocol(&'static str),
    #[error("the server sent a frame of {bytes} bytes, limit {MESSAGE_BYTES_MAX}")]
    TooBig { bytes: u64 },
}

/// The request that opens a WebSocket on `path`.
pub(crate) fn opening(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Judges the server's answer to `opening`. `None` while it is not whole, else its length.
pub(crate) fn read_answer(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(WireError::NotAHandshake {
                why: "its head does not end",
            });
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status_line = head.split("\r\n").next().unwrap_or_default();
    if !status_line.starts_with("HTTP/1.1 101") {
        return Err(WireError::Refused {
            status_line: status_line.to_owned(),
        });
    }
    let value_of = |wanted: &str| {
        head.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    for (name, wanted, why) in [
        ("upgrade", "websocket", "upgrade is not websocket"),
        ("connection", "upgrade", "connection is not upgrade"),
    ] {
        if !value_of(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted)) {
            return Err(WireError::NotAHandshake { why });
        }
    }
    match value_of("sec-websocket-accept") {
        Some(value) if value == derive_accept_key(KEY.as_bytes()) => Ok(Some(end + 4)),
        Some(_) => Err(WireError::NotAHandshake {
            why: "sec-websocket-accept is wrong",
        }),
        None => Err(WireError::NotAHandshake {
            why: "sec-websocket-accept is missing",
        }),
    }
}

/// Hands each whole frame to `sink` where it lies and returns how many bytes those took:
/// the caller keeps the rest and puts it in front of what comes next.
pub(crate) fn split<'a>(
    bytes: &'a [u8],
    mut sink: impl FnMut(Frame<'a>),
) -> Result<usize, WireError> {
    let mut at = 0;
    loop {
        let mut cursor = Cursor::new(&bytes[at..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|e| WireError::Header(Box::new(e)))?;
        let Some((header, payload_bytes)) = parsed else {
            return Ok(at);
        };
        check(&header, payload_bytes)?;
        let start = at + cursor.position() as usize;
        let end = start + payload_bytes as usize; // no overflow: `check` bounds it
        let Some(payload) = bytes.get(start..end) else {
            return Ok(at);
        };
        sink(match header.opcode {
            OpCode::Data(_) => Frame::Message(Message {
                text: payload,
                frame: &bytes[at..end],
            }),
            OpCode::Control(Control::Ping) => Frame::Ping(payload),
            OpCode::Control(Control::Close) => {
                Frame::Close(payload.first_chunk().copied().map(u16::from_be_bytes))
            }
            OpCode::Control(_) => Frame::Pong,
        });
        at = end;
    }
}

/// What the header codec lets pass and the protocols of these servers rule out.
fn check(header: &FrameHeader, payload_bytes: u64) -> Result<(), WireError> {
    if header.mask.is_some() {
        return Err(WireError::Protocol("a masked frame"));
    }
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(WireError::Protocol("a reserved bit is set"));
    }
    if !header.is_final || header.opcode == OpCode::Data(Data::Continue) {
        return Err(WireError::Protocol("a fragmented message"));
    }
    match header.opcode {
        OpCode::Data(Data::Text) => {}
        OpCode::Data(_) => return Err(WireError::Protocol("a message that is not text")),
        OpCode::Control(Control::Reserved(_)) => {
            return Err(WireError::Protocol("a control frame of no known kind"));
        }
        OpCode::Control(_) if payload_bytes > CONTROL_BYTES_MAX => {
            return Err(WireError::Protocol("a control frame that is too long"));
        }
        OpCode::Control(_) => {}
    }
    if payload_bytes > MESSAGE_BYTES_MAX as u64 {
        return Err(WireError::TooBig {
            bytes: payload_bytes,
        });
    }
    Ok(())
}

/// Appends `text` as one masked text frame.
pub(crate) fn write_message(text: &[u8], out: &mut Vec<u8>) {
    write_frame(OpCode::Data(Data::Text), text, out);
}

/// Appends the answer to a ping.
pub(crate) fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write_frame(OpCode::Control(Control::Pong), payload, out);
}

/// Appends a close frame: 1000, going on purpose.
pub(crate) fn write_close(out: &mut Vec<u8>) {
    write_frame(OpCode::Control(Control::Close), &1000u16.to_be_bytes(), out);
}

fn write_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        mask: Some(MASK),
        ..FrameHeader::default()
    };
    header
        .format(payload.len() as u64, out)
        .expect("a Vec takes every write");
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    /// A server's frame: as a client's, without the mask.
    fn server_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        header.format(payload.len() as u64, out).unwrap();
        out.extend(payload);
    }

    fn conversation() -> Vec<u8> {
        let mut bytes = Vec::new();
        server_frame(OpCode::Data(Data::Text), b"short", &mut bytes);
        server_frame(OpCode::Control(Control::Ping), b"?", &mut bytes);
        server_frame(OpCode::Data(Data::Text), &[b'm'; 300], &mut bytes);
        server_frame(OpCode::Data(Data::Text), &[b'l'; 70_000], &mut bytes);
        server_frame(
            OpCode::Control(Control::Close),
            &1012u16.to_be_bytes(),
            &mut bytes,
        );
        bytes
    }

    fn frames_of(pieces: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut buffer = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let used = split(&buffer, |frame| seen.push(format!("{frame:?}"))).unwrap();
            buffer.drain(..used);
        }
        assert!(buffer.is_empty(), "{} bytes left", buffer.len());
        seen
    }

    #[test]
    fn frames_split_at_every_byte_arrive_whole() {
        let bytes = conversation();
        let whole = frames_of(&[&bytes]);
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[4], "Close(Some(1012))");
        // The inside of the long payload is all alike: its first and last bytes are enough.
        let cuts = (0..400).chain(bytes.len() - 100..bytes.len());
        for cut in cuts {
            assert_eq!(
                frames_of(&[&bytes[..cut], &bytes[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        let mut masked = Vec::new();
        write_message(b"x", &mut masked);
        let continuation = [0x80, 1, b'x'];
        let fragment = [0x01, 1, b'x'];
        let reserved_bit = [0xc1, 1, b'x'];
        let binary = [0x82, 1, b'x'];
        let reserved = [0x83, 1, b'x'];
        let reserved_control = [0x8b, 1, b'x'];
        let long_ping = [0x89, 126, 0, 126];
        let too_big = [0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
        for bytes in [
            &masked[..],
            &continuation,
            &fragment,
            &reserved_bit,
            &binary,
            &reserved,
            &reserved_control,
            &long_ping,
            &too_big,
        ] {
            assert!(split(bytes, |_| ()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn client_frames_are_masked() {
        let mut bytes = Vec::new();
        write_message(b"hello", &mut bytes);
        assert_eq!(bytes[..2], [0x81, 0x80 | 5]);
        assert_eq!(bytes[2..6], MASK);
        let unmasked: Vec<u8> = bytes[6..]
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        assert_eq!(unmasked, b"hello");
    }

    #[test]
    fn answer_is_judged_once_it_is_whole() {
        let accept = derive_accept_key(KEY.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        for cut in 0..answer.len() {
            assert!(
                matches!(read_answer(&answer.as_bytes()[..cut]), Ok(None)),
                "cut at {cut}"
            );
        }
        assert_eq!(
            read_answer(format!("{answer}\u{1}").as_bytes()).unwrap(),
            Some(answer.len())
        );
        let refused = read_answer(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        assert!(
            matches!(refused, Err(WireError::Refused { status_line }) if status_line.contains("404"))
        );
        for (from, to) in [
            ("websocket", "websockes"),
            ("Upgrade\r", "Upgrad\r"),
            (&accept, "wrong"),
        ] {
            let altered = answer.replacen(from, to, 1);
            assert!(read_answer(altered.as_bytes()).is_err(), "{altered}");
        }
    }
}
