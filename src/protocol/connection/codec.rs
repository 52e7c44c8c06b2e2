//! One frame: its header checked, its payload unmasked; and the frames that both sides write.
//!
//! Uses nothing of ours. May not know what came before a frame: that is the assembler's.
//!
//! tungstenite reads and writes the header's fields. What it lets pass is refused here: reserved bits,
//! missing masks, lengths that are too long or not written in the shortest form, and control frames
//! that are fragmented or larger than control frames may be.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::ConnectionError;

/// The longest header without a mask: what the server writes.
const SERVER_HEADER_BYTES_MAX: usize = 10;
/// The longest header of a client, its mask included.
const CLIENT_HEADER_BYTES_MAX: usize = 14;
/// In a header's second byte: a mask follows the length.
const MASK_BIT: u8 = 0x80;
/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: usize = 125;

/// Which side's frames are read: only a client's are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// We are the server.
    Client,
    /// We are the client.
    Server,
}

/// What a frame is, of the opcodes that have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Data(DataKind),
    Control(ControlKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKind {
    Text,
    Binary,
    Continuation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlKind {
    Ping,
    Pong,
    Close,
}

/// The header of a peer's frame, all of it that one frame can show to be right.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) is_final: bool,
    /// All zero in a server's frame, which has none.
    pub(super) mask: [u8; 4],
    /// Length of the header itself.
    pub(super) header_bytes: usize,
    /// Length that it promises.
    pub(super) payload_bytes: u64,
}

const RESERVED_OPCODE: ConnectionError = ConnectionError::Protocol("reserved opcode");

impl FrameKind {
    fn of(opcode: OpCode) -> Result<FrameKind, ConnectionError> {
        Ok(match opcode {
            OpCode::Data(Data::Text) => FrameKind::Data(DataKind::Text),
            OpCode::Data(Data::Binary) => FrameKind::Data(DataKind::Binary),
            OpCode::Data(Data::Continue) => FrameKind::Data(DataKind::Continuation),
            OpCode::Control(Control::Ping) => FrameKind::Control(ControlKind::Ping),
            OpCode::Control(Control::Pong) => FrameKind::Control(ControlKind::Pong),
            OpCode::Control(Control::Close) => FrameKind::Control(ControlKind::Close),
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
                return Err(RESERVED_OPCODE);
            }
        })
    }
}

impl Header {
    /// None: the header is not whole yet.
    pub(super) fn parse(bytes: &[u8], sender: Sender) -> Result<Option<Header>, ConnectionError> {
        let mut cursor = Cursor::new(bytes);
        let Some((header, payload_bytes)) =
            FrameHeader::parse(&mut cursor).map_err(|_| RESERVED_OPCODE)?
        else {
            return Ok(None);
        };
        let header_bytes = cursor.position();
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(ConnectionError::Protocol("reserved bit set"));
        }
        let mask = match (sender, header.mask) {
            (Sender::Client, Some(mask)) => mask,
            (Sender::Server, None) => [0; 4],
            (Sender::Client, None) => {
                return Err(ConnectionError::Protocol("frame without a mask"));
            }
            (Sender::Server, Some(_)) => {
                return Err(ConnectionError::Protocol("masked frame of a server"));
            }
        };
        if payload_bytes > i64::MAX as u64 {
            return Err(ConnectionError::Protocol("length with the top bit set"));
        }
        if header_bytes != header.len(payload_bytes) as u64 {
            return Err(ConnectionError::Protocol("length not in its shortest form"));
        }
        let kind = FrameKind::of(header.opcode)?;
        if matches!(kind, FrameKind::Control(_)) {
            if !header.is_final {
                return Err(ConnectionError::Protocol("fragmented control frame"));
            }
            if payload_bytes > CONTROL_BYTES_MAX as u64 {
                return Err(ConnectionError::Protocol("control frame over 125 bytes"));
            }
        }
        Ok(Some(Header {
            kind,
            is_final: header.is_final,
            mask,
            header_bytes: header_bytes as usize,
            payload_bytes,
        }))
    }
}

/// Takes the mask off (or puts it on), eight bytes at a time: most of what reading a large message costs.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Header of one unfragmented text frame of the server, and how many of the bytes it takes.
pub fn text_header(payload_bytes: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    server_header(OpCode::Data(Data::Text), payload_bytes)
}

/// Appends one frame of a client's text message: the first one of it or a later one, the last one or
/// not.
pub fn push_masked_text(
    out: &mut Vec<u8>,
    payload: &[u8],
    mask: [u8; 4],
    is_first: bool,
    is_last: bool,
) {
    let header = FrameHeader {
        is_final: is_last,
        opcode: OpCode::Data(match is_first {
            true => Data::Text,
            false => Data::Continue,
        }),
        mask: Some(mask),
        ..FrameHeader::default()
    };
    out.reserve(CLIENT_HEADER_BYTES_MAX + payload.len());
    let written = header.format(payload.len() as u64, out);
    debug_assert!(written.is_ok(), "a Vec takes what it is given");
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask);
}

/// A client's control frame, made of the server's.
pub fn masked_control(frame: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let [first, len, payload @ ..] = frame else {
        return Vec::new();
    };
    debug_assert!(payload.len() == usize::from(*len), "a control frame");
    let mut masked = vec![*first, *len | MASK_BIT];
    masked.extend_from_slice(&mask);
    masked.extend_from_slice(payload);
    unmask(&mut masked[2 + mask.len()..], mask);
    masked
}

/// A close frame. Without a code it is empty; a reason that is too long is cut between two characters.
pub fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code else {
        return control_frame(Control::Close, &[]);
    };
    let code = code.to_be_bytes();
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - code.len())];
    control_frame(Control::Close, &[&code[..], reason.as_bytes()].concat())
}

/// The code of such a frame of ours, if it has one.
pub fn code_of_close(frame: &[u8]) -> Option<u16> {
    match frame {
        [_, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// The server's own ping. Its payload is empty: any sign of life will do as an answer.
pub const PING_FRAME: [u8; 2] = [0x89, 0];

/// The answer to a ping: its payload again.
pub fn pong_frame(payload: &[u8]) -> Vec<u8> {
    control_frame(Control::Pong, payload)
}

fn control_frame(control: Control, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
    let (header, header_bytes) = server_header(OpCode::Control(control), payload.len());
    [&header[..header_bytes], payload].concat()
}

fn server_header(opcode: OpCode, payload_bytes: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
    let written = header.format(payload_bytes as u64, &mut &mut bytes[..]);
    debug_assert!(
        written.is_ok(),
        "ten bytes hold every header without a mask"
    );
    (bytes, header.len(payload_bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_is_the_same_at_every_length() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        for length in 0..40_u8 {
            let plain: Vec<u8> = (0..length).collect();
            let mut masked = plain.clone();
            unmask(&mut masked, mask);
            let by_byte = plain
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ mask[at % 4]);
            assert_eq!(masked, by_byte.collect::<Vec<u8>>());
            unmask(&mut masked, mask);
            assert_eq!(masked, plain);
        }
    }

    #[test]
    fn server_frames_are_final_and_unmasked() {
        assert_eq!(PING_FRAME[..], control_frame(Control::Ping, b""));
        assert_eq!(pong_frame(b"ab"), [0x8a, 2, b'a', b'b']);
        assert_eq!(close_frame(None, "unheard"), [0x88, 0]);
        assert_eq!(close_frame(Some(1012), "x"), [0x88, 3, 0x03, 0xf4, b'x']);
        let header = |payload_bytes| {
            let (bytes, length) = text_header(payload_bytes);
            bytes[..length].to_vec()
        };
        assert_eq!(header(0), [0x81, 0]);
        assert_eq!(header(125), [0x81, 125]);
        assert_eq!(header(126), [0x81, 126, 0, 126]);
        assert_eq!(header(65_535), [0x81, 126, 0xff, 0xff]);
        assert_eq!(header(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_client_s_frames_are_masked() {
        let mask = [1, 2, 3, 4];
        let mut out = vec![9];
        push_masked_text(&mut out, b"abcde", mask, true, true);
        let masked = [b'a' ^ 1, b'b' ^ 2, b'c' ^ 3, b'd' ^ 4, b'e' ^ 1];
        assert_eq!(out[..7], [9, 0x81, 0x85, 1, 2, 3, 4]);
        assert_eq!(out[7..], masked);
        let pong = masked_control(&pong_frame(b"ab"), mask);
        assert_eq!(pong, [0x8a, 0x82, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2]);
        let close = masked_control(&close_frame(None, ""), mask);
        assert_eq!(close, [0x88, 0x80, 1, 2, 3, 4]);
    }

    #[test]
    fn each_side_s_frames_are_told_by_their_masks() {
        let of_server = Header::parse(&[0x81, 1], Sender::Server).unwrap().unwrap();
        assert_eq!((of_server.mask, of_server.payload_bytes), ([0; 4], 1));
        assert!(Header::parse(&[0x81, 1], Sender::Client).is_err());
        let masked = [0x81, 0x81, 1, 2, 3, 4];
        assert!(Header::parse(&masked, Sender::Server).is_err());
        assert!(Header::parse(&masked, Sender::Client).is_ok());
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let frame = close_frame(Some(1009), &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert_eq!(str::from_utf8(&frame[4..]), Ok("é".repeat(61).as_str()));
        assert_eq!(
            close_frame(Some(1009), &"x".repeat(200)).len(),
            2 + CONTROL_BYTES_MAX
        );
    }
}
