//! One WebSocket without its socket: bytes in, messages out. Mostly the server's side; the client's
//! where we are a worker of a running engine.
//!
//! Uses nothing of ours. May not read a clock, touch a socket, or know what a message means; what is to
//! be sent in answer is for the caller, who finds the frames for it here too.
//!
//! The bytes come in a buffer that is lent for one call, for a worker has one for all its sockets. A
//! message that lies in it whole is unmasked and handed on where it lies. Copied is only what is cut:
//! the payload of a data frame goes to its message at once, each byte one time; of anything else that is
//! not whole (a header, a control frame: 131 bytes at most) the raw bytes wait for the rest. An idle
//! connection keeps nothing.

mod codec;
mod kept;

use std::mem;

use codec::{ControlKind, DataKind, FrameKind, Header, unmask};
pub use codec::{
    PING_FRAME, Sender, close_frame, code_of_close, masked_control, pong_frame, push_masked_text,
    text_header,
};
use kept::{PartialMessage, Unread};

/// What one WebSocket keeps between two reads: while it is idle, one pointer.
#[derive(Debug, Default)]
pub struct Connection {
    /// None: the last read ended where a message ended.
    rest: Option<Box<Rest>>,
}

/// The content of one message, whole and unmasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Of a text message.
    Text(&'a str),
    /// Of a binary message.
    Binary(&'a [u8]),
}

/// What has come from the client. Payloads are lent for the call of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message.
    Message(Payload<'a>),
    /// To be answered by [`pong_frame`] with this payload.
    Ping(&'a [u8]),
    /// A sign of life.
    Pong,
    /// The client's last word: the answer is to be sent, then TCP is to be closed.
    Close(CloseReply),
}

/// What to answer to a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseReply {
    /// The client's own code, or what was wrong with its frame. None: the frame was empty.
    pub code: Option<u16>,
}

/// The sink's word on whether it takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Keep what follows until the next call.
    Pause,
}

/// Why a connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// What came is not WebSocket.
    #[error("peer broke the WebSocket protocol: {0}")]
    Protocol(&'static str),
    /// A text message is not UTF-8.
    #[error("text message is not UTF-8")]
    NotUtf8,
    /// A header announced more than may come.
    #[error("message would have {message_bytes} bytes, limit {limit}")]
    TooBig {
        /// All fragments so far, with the one that was announced.
        message_bytes: u64,
        /// The limit given to [`Connection::receive`].
        limit: usize,
    },
}

impl ConnectionError {
    /// The code for [`close_frame`].
    pub fn close_code(&self) -> u16 {
        match self {
            ConnectionError::Protocol(_) => 1002,
            ConnectionError::NotUtf8 => 1007,
            ConnectionError::TooBig { .. } => 1009,
        }
    }
}

#[derive(Debug, Default)]
struct Rest {
    /// A header or control frame that is not whole, or what came behind a pause. Empty while a data
    /// frame is under way and nothing is paused: then every byte goes to `message`.
    unread: Unread,
    /// Whether the sink asked to wait before `unread`.
    is_paused: bool,
    /// After a close frame or an error: nothing is read any more.
    has_ended: bool,
    /// The message that has begun and has not ended.
    message: Option<PartialMessage>,
}

/// How far one frame, or a part of one, has brought a run through some input.
#[derive(Debug, Clone, Copy)]
struct Step {
    read_bytes: usize,
    /// None: the next frame may follow.
    stop: Option<Stop>,
}

/// What ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The rest is not enough for anything.
    Dry,
    /// The sink asked for it.
    Paused,
    /// A close frame has come.
    Closed,
}

impl Connection {
    /// A connection that has these bytes to go on with before any others: what came with the head of
    /// an upgrade that had to wait.
    pub fn before(input: Vec<u8>) -> Connection {
        let unread = Unread {
            bytes: input,
            start: 0,
        };
        let mut connection = Connection::default();
        connection.keep(unread, true);
        connection
    }

    /// Reads what has come and hands it to `sink`, frame by frame in their order. Of `input`, whose
    /// content is used up, whatever was not handed over is kept. After a [`Flow::Pause`] a call with
    /// nothing, or with more, goes on with what was kept.
    ///
    /// `limit` is for one message over all its fragments and judged by their headers.
    ///
    /// After an error, which is returned once, and after [`Event::Close`] all further input is dropped
    /// unread.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        limit: usize,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<(), ConnectionError> {
        self.receive_from(Sender::Client, input, limit, sink)
    }

    /// The same with the other side named.
    pub fn receive_from(
        &mut self,
        sender: Sender,
        input: &mut [u8],
        limit: usize,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<(), ConnectionError> {
        let mut unread = match &mut self.rest {
            Some(rest) if rest.has_ended => return Ok(()),
            Some(rest) => mem::take(&mut rest.unread),
            None => Unread::default(),
        };
        let outcome = if unread.len() == 0 {
            let outcome = self.read(sender, input, limit, sink);
            outcome.map(|(at, stop)| {
                unread.bytes.extend_from_slice(&input[at..]);
                stop
            })
        } else {
            unread.bytes.extend_from_slice(input);
            let outcome = self.read(sender, &mut unread.bytes[unread.start..], limit, sink);
            outcome.map(|(at, stop)| {
                unread.advance(at);
                stop
            })
        };
        match outcome {
            Ok(Stop::Closed) | Err(_) => {
                self.rest = Some(Box::new(Rest {
                    has_ended: true,
                    ..Rest::default()
                }));
            }
            Ok(stop) => self.keep(unread, stop == Stop::Paused),
        }
        self.check_invariants();
        outcome.map(drop)
    }

    /// Bytes that wait: of a message that is not whole, and input that was not read.
    pub fn kept_bytes(&self) -> usize {
        let Some(rest) = &self.rest else { return 0 };
        let message_bytes = rest
            .message
            .as_ref()
            .map_or(0, |message| message.payload.len());
        rest.unread.len() + message_bytes
    }

    /// Whether the sink asked to wait and there is something to go on with. Whole frames may be in it,
    /// so call [`Connection::receive`] before waiting for the socket again.
    pub fn is_paused(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.is_paused)
    }

    /// Reads frames until something ends the run. Returns how much was read, and what it was.
    fn read(
        &mut self,
        sender: Sender,
        input: &mut [u8],
        limit: usize,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<(usize, Stop), ConnectionError> {
        let mut at = 0;
        loop {
            let input = &mut input[at..];
            let step = if let Some(under_way) = self.message_in_frame() {
                go_on(under_way, input, sink)?
            } else if let Some(header) = Header::parse(input, sender)? {
                match header.kind {
                    FrameKind::Control(kind) => read_control(kind, &header, input, sink),
                    FrameKind::Data(kind) => self.read_data(kind, &header, input, limit, sink)?,
                }
            } else {
                Step::DRY
            };
            at += step.read_bytes;
            if let Some(stop) = step.stop {
                return Ok((at, stop));
            }
        }
    }

    /// A data frame from its header on.
    fn read_data(
        &mut self,
        kind: DataKind,
        header: &Header,
        input: &mut [u8],
        limit: usize,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Step, ConnectionError> {
        let payload_bytes = self.admit(kind, header.payload_bytes, limit)?;
        let input = &mut input[header.header_bytes..];
        let is_whole_message = header.is_final && kind != DataKind::Continuation;
        let step = match input.get_mut(..payload_bytes) {
            Some(payload) if is_whole_message => {
                unmask(payload, header.mask);
                let flow = deliver(kind == DataKind::Text, payload, sink)?;
                Step::new(payload_bytes, flow)
            }
            _ => {
                let under_way = self.begin_frame(kind, header, payload_bytes);
                go_on(under_way, input, sink)?
            }
        };
        Ok(step.after(header.header_bytes))
    }

    fn message(&self) -> Option<&PartialMessage> {
        self.rest.as_ref()?.message.as_ref()
    }

    /// The message under way, if the next byte belongs to a frame of it.
    fn message_in_frame(&mut self) -> Option<&mut Option<PartialMessage>> {
        let message = &mut self.rest.as_mut()?.message;
        message
            .as_ref()
            .is_some_and(PartialMessage::is_in_frame)
            .then_some(message)
    }

    /// Whether a data frame may stand here and be so long. Its length, then, fits memory.
    fn admit(
        &self,
        kind: DataKind,
        payload_bytes: u64,
        limit: usize,
    ) -> Result<usize, ConnectionError> {
        let so_far = match (kind, self.message()) {
            (DataKind::Continuation, Some(message)) => message.payload.len(),
            (DataKind::Continuation, None) => {
                return Err(ConnectionError::Protocol("continuation without a start"));
            }
            (_, Some(_)) => {
                return Err(ConnectionError::Protocol(
                    "new message inside a fragmented one",
                ));
            }
            (_, None) => 0,
        };
        let message_bytes = payload_bytes.saturating_add(so_far as u64);
        if message_bytes > limit as u64 {
            return Err(ConnectionError::TooBig {
                message_bytes,
                limit,
            });
        }
        Ok(payload_bytes as usize)
    }

    fn begin_frame(
        &mut self,
        kind: DataKind,
        header: &Header,
        payload_bytes: usize,
    ) -> &mut Option<PartialMessage> {
        let under_way = &mut self.rest.get_or_insert_default().message;
        let message = under_way.get_or_insert_with(|| PartialMessage {
            is_text: kind == DataKind::Text,
            payload: Vec::new(),
            missing_bytes: 0,
            mask: header.mask,
            is_final: false,
        });
        message.missing_bytes = payload_bytes;
        message.mask = header.mask;
        message.is_final = header.is_final;
        under_way
    }

    /// Keeps what a run has left over, and gives all memory back if that is nothing.
    fn keep(&mut self, unread: Unread, is_paused: bool) {
        if unread.len() > 0 {
            let rest = self.rest.get_or_insert_default();
            rest.unread = unread;
            rest.is_paused = is_paused;
        } else if let Some(rest) = &mut self.rest {
            rest.is_paused = false;
            if rest.message.is_none() {
                self.rest = None;
            }
        }
    }

    fn check_invariants(&self) {
        let Some(rest) = &self.rest else { return };
        let is_in_frame = self.message().is_some_and(PartialMessage::is_in_frame);
        debug_assert!(
            !is_in_frame || rest.unread.len() == 0,
            "payload was left unread"
        );
        debug_assert!(
            !rest.is_paused || rest.unread.len() > 0,
            "paused before nothing"
        );
        debug_assert!(
            !rest.has_ended || self.kept_bytes() == 0,
            "kept after the end"
        );
        debug_assert!(
            rest.has_ended || rest.message.is_some() || rest.unread.len() > 0,
            "memory kept for nothing"
        );
    }
}

impl Step {
    const DRY: Step = Step {
        read_bytes: 0,
        stop: Some(Stop::Dry),
    };

    fn new(read_bytes: usize, flow: Flow) -> Step {
        let stop = match flow {
            Flow::Continue => None,
            Flow::Pause => Some(Stop::Paused),
        };
        Step { read_bytes, stop }
    }

    /// The same step, reckoned from so many bytes before it.
    fn after(self, bytes: usize) -> Step {
        Step {
            read_bytes: bytes + self.read_bytes,
            ..self
        }
    }
}

impl CloseReply {
    /// The frame to send.
    pub fn frame(self) -> Vec<u8> {
        close_frame(self.code, "")
    }

    fn to(payload: &[u8]) -> CloseReply {
        let code = match payload {
            [] => None,
            &[high, low, ref reason @ ..] => {
                let code = u16::from_be_bytes([high, low]);
                match str::from_utf8(reason) {
                    _ if !may_be_sent(code) => Some(1002),
                    Err(_) => Some(1007),
                    Ok(_) => Some(code),
                }
            }
            [_] => Some(1002),
        };
        CloseReply { code }
    }
}

/// RFC 6455 §7.4 and the codes that were registered since. 1005, 1006 and 1015 are only ever reported.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A control frame, which is served once it is whole.
fn read_control(
    kind: ControlKind,
    header: &Header,
    input: &mut [u8],
    sink: &mut impl FnMut(Event<'_>) -> Flow,
) -> Step {
    let payload_bytes = header.payload_bytes as usize; // at most 125: the header was checked
    let Some(payload) = input[header.header_bytes..].get_mut(..payload_bytes) else {
        return Step::DRY;
    };
    unmask(payload, header.mask);
    let read_bytes = header.header_bytes + payload_bytes;
    match kind {
        ControlKind::Ping => Step::new(read_bytes, sink(Event::Ping(payload))),
        ControlKind::Pong => Step::new(read_bytes, sink(Event::Pong)),
        ControlKind::Close => {
            sink(Event::Close(CloseReply::to(payload)));
            let stop = Some(Stop::Closed);
            Step { read_bytes, stop }
        }
    }
}

/// Takes what there is of the frame under way, and hands its message over if that was the last of it.
fn go_on(
    under_way: &mut Option<PartialMessage>,
    input: &mut [u8],
    sink: &mut impl FnMut(Event<'_>) -> Flow,
) -> Result<Step, ConnectionError> {
    let Some(message) = under_way else {
        return Ok(Step::DRY);
    };
    let taken = message.take(input);
    if message.is_in_frame() {
        return Ok(Step::DRY.after(taken));
    }
    let flow = match under_way.take_if(|message| message.is_final) {
        Some(message) => deliver(message.is_text, &message.payload, sink)?,
        None => Flow::Continue,
    };
    Ok(Step::new(taken, flow))
}

fn deliver(
    is_text: bool,
    payload: &[u8],
    sink: &mut impl FnMut(Event<'_>) -> Flow,
) -> Result<Flow, ConnectionError> {
    let payload = if is_text {
        Payload::Text(str::from_utf8(payload).map_err(|_| ConnectionError::NotUtf8)?)
    } else {
        Payload::Binary(payload)
    };
    Ok(sink(Event::Message(payload)))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    use super::*;

    const LIMIT: usize = 1 << 20;
    const TEXT: OpCode = OpCode::Data(Data::Text);
    const BINARY: OpCode = OpCode::Data(Data::Binary);
    const CONTINUE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);
    const PONG: OpCode = OpCode::Control(Control::Pong);
    const CLOSE: OpCode = OpCode::Control(Control::Close);

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Heard {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong,
        Close(Option<u16>),
    }

    fn heard(event: Event<'_>) -> Heard {
        match event {
            Event::Message(Payload::Text(text)) => Heard::Text(text.to_owned()),
            Event::Message(Payload::Binary(bytes)) => Heard::Binary(bytes.to_vec()),
            Event::Ping(payload) => Heard::Ping(payload.to_vec()),
            Event::Pong => Heard::Pong,
            Event::Close(reply) => Heard::Close(reply.code),
        }
    }

    fn text(text: &str) -> Heard {
        Heard::Text(text.to_owned())
    }

    /// A client's frame as tungstenite's codec writes it.
    fn frame(is_final: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
        let mask = [0x5a, 0xc3, 0x0f, 0x99];
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }

    /// The header alone of a final frame that promises so much.
    fn promise(opcode: OpCode, payload_bytes: u64) -> Vec<u8> {
        let header = FrameHeader {
            opcode,
            mask: Some([0; 4]),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header.format(payload_bytes, &mut bytes).unwrap();
        bytes
    }

    /// Feeds a copy, for reading uses the input up.
    fn feed(
        connection: &mut Connection,
        input: &[u8],
        log: &mut Vec<Heard>,
    ) -> Result<(), ConnectionError> {
        connection.receive(&mut input.to_vec(), LIMIT, &mut |event| {
            log.push(heard(event));
            Flow::Continue
        })
    }

    fn read_all(input: &[u8]) -> (Vec<Heard>, Result<(), ConnectionError>) {
        let mut log = Vec::new();
        let outcome = feed(&mut Connection::default(), input, &mut log);
        (log, outcome)
    }

    #[track_caller]
    fn served(input: &[u8]) -> Vec<Heard> {
        let (log, outcome) = read_all(input);
        assert_eq!(outcome, Ok(()));
        log
    }

    #[track_caller]
    fn close_code(input: &[u8]) -> u16 {
        let (_, outcome) = read_all(input);
        outcome.unwrap_err().close_code()
    }

    /// A bit of everything that is allowed.
    fn conversation() -> (Vec<u8>, Vec<Heard>) {
        let long = "long é ".repeat(40);
        let bytes = [
            frame(true, TEXT, b"first"),
            frame(true, TEXT, b""),
            frame(true, BINARY, &[0, 255, 128]),
            frame(true, PING, b"are you there"),
            frame(false, TEXT, &"é".as_bytes()[..1]),
            frame(true, PONG, b""),
            frame(false, CONTINUE, b""),
            frame(true, PING, &[b'p'; 125]),
            frame(true, CONTINUE, &"é".as_bytes()[1..]),
            frame(true, TEXT, long.as_bytes()),
            frame(false, BINARY, b""),
            frame(true, CONTINUE, b""),
            frame(true, CLOSE, &[0x03, 0xe8, b'b', b'y', b'e']),
        ];
        let heard = vec![
            text("first"),
            text(""),
            Heard::Binary(vec![0, 255, 128]),
            Heard::Ping(b"are you there".to_vec()),
            Heard::Pong,
            Heard::Ping(vec![b'p'; 125]),
            text("é"),
            text(&long),
            Heard::Binary(Vec::new()),
            Heard::Close(Some(1000)),
        ];
        (bytes.concat(), heard)
    }

    #[test]
    fn what_came_before_it_was_open_comes_first() {
        let first = frame(true, TEXT, b"first");
        let second = frame(true, TEXT, b"second");
        let (begun, rest) = second.split_at(4);
        let mut connection = Connection::before([&first, begun].concat());
        assert!(connection.is_paused());
        let mut log = Vec::new();
        assert_eq!(feed(&mut connection, &[], &mut log), Ok(()));
        assert_eq!(log, [text("first")]);
        assert_eq!(feed(&mut connection, rest, &mut log), Ok(()));
        assert_eq!(log, [text("first"), text("second")]);
        assert!(!Connection::before(Vec::new()).is_paused());
    }

    #[test]
    fn whole_messages_are_handed_on_where_they_lie() {
        let mut input = [frame(true, TEXT, b"hello"), frame(true, BINARY, &[7; 1000])].concat();
        let lent = input.as_ptr_range();
        let mut connection = Connection::default();
        let mut count = 0;
        let outcome = connection.receive(&mut input, LIMIT, &mut |event| {
            let bytes = match event {
                Event::Message(Payload::Text(text)) => text.as_bytes(),
                Event::Message(Payload::Binary(bytes)) => bytes,
                other => panic!("{other:?}"),
            };
            assert!(lent.contains(&bytes.as_ptr()));
            count += 1;
            Flow::Continue
        });
        assert_eq!((outcome, count), (Ok(()), 2));
        assert!(connection.rest.is_none());
    }

    #[test]
    fn an_idle_connection_is_one_pointer() {
        assert_eq!(size_of::<Connection>(), size_of::<usize>());
    }

    #[test]
    fn message_split_at_every_byte_arrives_whole() {
        let (bytes, wanted) = conversation();
        assert_eq!(served(&bytes), wanted);
        for cut in 0..=bytes.len() {
            let (mut connection, mut log) = (Connection::default(), Vec::new());
            feed(&mut connection, &bytes[..cut], &mut log).unwrap();
            feed(&mut connection, &bytes[cut..], &mut log).unwrap();
            assert_eq!(log, wanted, "cut at {cut}");
        }
        let (mut connection, mut log) = (Connection::default(), Vec::new());
        for byte in &bytes {
            feed(&mut connection, &[*byte], &mut log).unwrap();
        }
        assert_eq!(log, wanted);
    }

    #[test]
    fn memory_is_given_back_once_a_message_is_whole() {
        let mut connection = Connection::default();
        let mut log = Vec::new();
        let bytes = frame(true, TEXT, &[b'x'; 1000]);
        feed(&mut connection, &bytes[..5], &mut log).unwrap();
        assert_eq!(connection.kept_bytes(), 5);
        feed(&mut connection, &bytes[5..500], &mut log).unwrap();
        assert_eq!(connection.kept_bytes(), 500 - 8);
        feed(&mut connection, &bytes[500..], &mut log).unwrap();
        assert_eq!((connection.kept_bytes(), log.len()), (0, 1));
        assert!(connection.rest.is_none());
        // Of much input behind a split header only the end is kept, and no room for the rest.
        let many = frame(true, TEXT, b"0123456789").repeat(1000);
        feed(&mut connection, &many[..1], &mut log).unwrap();
        feed(&mut connection, &many[1..many.len() - 14], &mut log).unwrap();
        let kept = &connection.rest.as_ref().unwrap().unread;
        assert_eq!((kept.len(), kept.bytes.capacity()), (2, 2));
        feed(&mut connection, &many[many.len() - 14..], &mut log).unwrap();
        assert_eq!(log.len(), 1001);
        assert!(connection.rest.is_none());
    }

    #[test]
    fn a_promised_length_reserves_nothing() {
        let mut connection = Connection::default();
        let mut log = Vec::new();
        feed(&mut connection, &promise(BINARY, LIMIT as u64), &mut log).unwrap();
        let capacity = |connection: &Connection| connection.message().unwrap().payload.capacity();
        assert_eq!((connection.kept_bytes(), capacity(&connection)), (0, 0));
        let mut came = 0;
        while came < LIMIT - 1000 {
            feed(&mut connection, &[0; 1000], &mut log).unwrap();
            came += 1000;
            assert_eq!(connection.kept_bytes(), came);
            assert!(capacity(&connection) <= came * 2);
        }
        feed(&mut connection, &vec![0; LIMIT - came], &mut log).unwrap();
        assert!(matches!(&log[..], [Heard::Binary(bytes)] if bytes.len() == LIMIT));
    }

    #[test]
    fn a_large_message_in_one_byte_fragments_takes_linear_time() {
        // Were it quadratic, this test would not end.
        let mut bytes = frame(false, BINARY, b"");
        bytes.extend(frame(false, CONTINUE, b"x").repeat(LIMIT));
        bytes.extend(frame(true, CONTINUE, b""));
        let (mut connection, mut log) = (Connection::default(), Vec::new());
        for piece in bytes.chunks(1 << 16) {
            feed(&mut connection, piece, &mut log).unwrap();
        }
        assert!(matches!(&log[..], [Heard::Binary(bytes)] if bytes.len() == LIMIT));
    }

    #[test]
    fn a_large_message_byte_by_byte_takes_linear_time() {
        let bytes = frame(true, TEXT, &vec![b'x'; LIMIT]);
        let (mut connection, mut log) = (Connection::default(), Vec::new());
        for byte in &bytes {
            feed(&mut connection, &[*byte], &mut log).unwrap();
        }
        assert!(matches!(&log[..], [Heard::Text(text)] if text.len() == LIMIT));
    }

    #[test]
    fn text_that_is_not_utf8_ends_with_1007() {
        assert_eq!(close_code(&frame(true, TEXT, b"a\xff")), 1007);
        assert_eq!(close_code(&frame(true, TEXT, b"\xed\xa0\x80")), 1007);
        let split = [frame(false, TEXT, b"\xc3"), frame(true, CONTINUE, b"\xc3")].concat();
        assert_eq!(close_code(&split), 1007);
        let cut_short = [frame(false, TEXT, b"a\xc3"), frame(true, CONTINUE, b"")].concat();
        assert_eq!(close_code(&cut_short), 1007);
        let binary = served(&frame(true, BINARY, b"\xff"));
        assert_eq!(binary, [Heard::Binary(b"\xff".to_vec())]);
    }

    #[test]
    fn broken_frames_end_with_1002() {
        let masked = |first: u8, length: &[u8]| [&[first], length, &[0; 4 + 200]].concat();
        for (name, bytes) in [
            ("no mask", vec![0x81, 0x01, b'a']),
            ("no mask, empty", vec![0x81, 0x00]),
            ("first reserved bit", masked(0xc1, &[0x80])),
            ("second reserved bit", masked(0xa1, &[0x80])),
            ("third reserved bit", masked(0x91, &[0x80])),
            ("reserved data opcode", masked(0x83, &[0x80])),
            ("reserved control opcode", masked(0x8b, &[0x80])),
            ("continuation without a start", frame(true, CONTINUE, b"a")),
            (
                "message inside a message",
                [frame(false, TEXT, b""), frame(true, TEXT, b"")].concat(),
            ),
            (
                "start inside a message",
                [frame(false, TEXT, b""), frame(false, BINARY, b"")].concat(),
            ),
            ("fragmented ping", frame(false, PING, b"")),
            ("fragmented close", frame(false, CLOSE, b"")),
            ("ping of 126 bytes", frame(true, PING, &[0; 126])),
            ("pong of 126 bytes", frame(true, PONG, &[0; 126])),
            ("close of 126 bytes", frame(true, CLOSE, &[3; 126])),
            (
                "two bytes for a length of 125",
                masked(0x82, &[0x80 | 126, 0, 125]),
            ),
            (
                "eight bytes for a length of 65535",
                masked(0x82, &[0x80 | 127, 0, 0, 0, 0, 0, 0, 255, 255]),
            ),
            (
                "two bytes for a control length",
                masked(0x89, &[0x80 | 126, 0, 1]),
            ),
            (
                "top bit of the length",
                masked(0x82, &[0x80 | 127, 128, 0, 0, 0, 0, 0, 0, 0]),
            ),
        ] {
            let (_, outcome) = read_all(&bytes);
            assert!(
                matches!(outcome, Err(ConnectionError::Protocol(_))),
                "{name}: {outcome:?}"
            );
            assert_eq!(close_code(&bytes), 1002);
        }
    }

    #[test]
    fn too_long_messages_are_refused_by_their_header() {
        let over = |message_bytes| {
            Err(ConnectionError::TooBig {
                message_bytes,
                limit: LIMIT,
            })
        };
        assert_eq!(read_all(&promise(TEXT, LIMIT as u64)).1, Ok(()));
        assert_eq!(
            read_all(&promise(TEXT, LIMIT as u64 + 1)).1,
            over(LIMIT as u64 + 1)
        );
        assert_eq!(
            read_all(&promise(TEXT, i64::MAX as u64)).1,
            over(i64::MAX as u64)
        );
        assert_eq!(close_code(&promise(BINARY, 1 << 40)), 1009);
        // Over all fragments; control frames do not count.
        let mut bytes = frame(false, BINARY, &vec![0; LIMIT - 1]);
        bytes.extend(frame(true, PING, &[0; 100]));
        let fits = [bytes.clone(), frame(true, CONTINUE, b"x")].concat();
        assert_eq!(served(&fits).len(), 2);
        let too_long = [bytes, promise(CONTINUE, 2)].concat();
        assert_eq!(read_all(&too_long).1, over(LIMIT as u64 + 1));
        // A limit that fell meanwhile holds for what comes.
        let mut connection = Connection::default();
        feed(
            &mut connection,
            &frame(false, BINARY, &[0; 10]),
            &mut Vec::new(),
        )
        .unwrap();
        let outcome = connection.receive(&mut promise(CONTINUE, 0), 9, &mut |_| Flow::Continue);
        assert_eq!(
            outcome,
            Err(ConnectionError::TooBig {
                message_bytes: 10,
                limit: 9
            })
        );
    }

    #[test]
    fn close_frames_are_answered_by_what_they_hold() {
        let reply = |payload: &[u8]| match served(&frame(true, CLOSE, payload))[..] {
            [Heard::Close(code)] => code,
            ref other => panic!("{other:?}"),
        };
        let with_code = |code: u16, reason: &[u8]| [&code.to_be_bytes(), reason].concat();
        assert_eq!(reply(b""), None);
        assert_eq!(reply(&[3]), Some(1002));
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            assert_eq!(reply(&with_code(code, b"why")), Some(code));
        }
        for code in [
            0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
        ] {
            assert_eq!(reply(&with_code(code, b"")), Some(1002), "{code}");
        }
        assert_eq!(reply(&with_code(1000, b"\xff")), Some(1007));
        assert_eq!(reply(&with_code(1005, b"\xff")), Some(1002));
        assert_eq!(
            CloseReply { code: Some(1000) }.frame(),
            [0x88, 2, 0x03, 0xe8]
        );
        assert_eq!(CloseReply { code: None }.frame(), [0x88, 0]);
    }

    #[test]
    fn nothing_is_read_after_a_close_frame() {
        let close = frame(true, CLOSE, b"");
        let bytes = [
            frame(false, TEXT, b"half"),
            close,
            frame(true, TEXT, b"late"),
        ]
        .concat();
        let (mut connection, mut log) = (Connection::default(), Vec::new());
        feed(&mut connection, &bytes, &mut log).unwrap();
        feed(&mut connection, b"\xff\xff\xff", &mut log).unwrap();
        assert_eq!(log, [Heard::Close(None)]);
        assert_eq!(
            (connection.kept_bytes(), connection.is_paused()),
            (0, false)
        );
    }

    #[test]
    fn nothing_is_read_after_an_error() {
        let (mut connection, mut log) = (Connection::default(), Vec::new());
        let bytes = [
            frame(true, TEXT, b"good"),
            vec![0x81, 0],
            frame(true, TEXT, b"late"),
        ]
        .concat();
        assert!(feed(&mut connection, &bytes, &mut log).is_err());
        assert_eq!(
            feed(&mut connection, &frame(true, TEXT, b"later"), &mut log),
            Ok(())
        );
        assert_eq!(log, [text("good")]);
        assert_eq!(connection.kept_bytes(), 0);
    }

    #[test]
    fn a_pause_keeps_what_follows_in_order() {
        let (bytes, wanted) = conversation();
        let (mut connection, mut log) = (Connection::default(), Vec::new());
        let mut input = bytes.clone();
        let mut rounds = 0;
        loop {
            let outcome = connection.receive(&mut input, LIMIT, &mut |event| {
                log.push(heard(event));
                Flow::Pause
            });
            outcome.unwrap();
            input.clear();
            rounds += 1;
            assert_eq!(log.len(), rounds);
            if !connection.is_paused() {
                break;
            }
            assert!(connection.kept_bytes() > 0);
        }
        assert_eq!(log, wanted);
    }

    #[test]
    fn a_pause_before_nothing_is_none() {
        let mut connection = Connection::default();
        let mut input = frame(true, TEXT, b"a");
        connection
            .receive(&mut input, LIMIT, &mut |_| Flow::Pause)
            .unwrap();
        assert!(!connection.is_paused());
        assert!(connection.rest.is_none());
    }

    #[test]
    fn a_split_header_is_no_pause() {
        let mut connection = Connection::default();
        let mut input = [frame(true, TEXT, b"a"), vec![0x81]].concat();
        connection
            .receive(&mut input, LIMIT, &mut |_| Flow::Continue)
            .unwrap();
        assert_eq!(connection.kept_bytes(), 1);
        assert!(!connection.is_paused());
    }

    #[test]
    fn many_paused_messages_take_linear_time() {
        let one = frame(true, TEXT, b"x");
        let (mut connection, mut count) = (Connection::default(), 0);
        let mut input = one.repeat(200_000);
        loop {
            let outcome = connection.receive(&mut input, LIMIT, &mut |_| {
                count += 1;
                Flow::Pause
            });
            outcome.unwrap();
            input.clear();
            if !connection.is_paused() {
                break;
            }
        }
        assert_eq!(count, 200_000);
        // Fed while it is paused it does not keep what was read.
        let mut input = one.repeat(100);
        connection
            .receive(&mut input, LIMIT, &mut |_| Flow::Pause)
            .unwrap();
        for _ in 0..10_000 {
            connection
                .receive(&mut one.clone(), LIMIT, &mut |_| Flow::Pause)
                .unwrap();
            assert_eq!(connection.kept_bytes(), one.len() * 99);
            assert!(connection.rest.as_ref().unwrap().unread.bytes.capacity() < 10_000);
        }
    }

    /// Random frames of a client, and what is to be heard of them.
    fn random_conversation(rng: &mut SmallRng) -> (Vec<u8>, VecDeque<Heard>) {
        let (mut bytes, mut wanted) = (Vec::new(), VecDeque::new());
        let control = |rng: &mut SmallRng, bytes: &mut Vec<u8>, wanted: &mut VecDeque<Heard>| {
            let payload: Vec<u8> = (0..rng.random_range(0..=125))
                .map(|_| rng.random())
                .collect();
            if rng.random() {
                bytes.extend(frame(true, PING, &payload));
                wanted.push_back(Heard::Ping(payload));
            } else {
                bytes.extend(frame(true, PONG, &payload));
                wanted.push_back(Heard::Pong);
            }
        };
        for _ in 0..rng.random_range(1..8) {
            let length = match rng.random_range(0..4) {
                0 => rng.random_range(0..3),
                1 => rng.random_range(120..130),
                2 => rng.random_range(0..1000),
                _ => rng.random_range(65_530..65_540),
            };
            let is_text = rng.random();
            let payload: Vec<u8> = if is_text {
                let text: String = (0..length / 4).map(|_| rng.random::<char>()).collect();
                text.into_bytes()
            } else {
                (0..length).map(|_| rng.random()).collect()
            };
            let mut opcode = if is_text { TEXT } else { BINARY };
            let mut rest = &payload[..];
            for _ in 0..rng.random_range(0..4) {
                let (fragment, after) = rest.split_at(rng.random_range(0..=rest.len()));
                bytes.extend(frame(false, opcode, fragment));
                (opcode, rest) = (CONTINUE, after);
                if rng.random() {
                    control(rng, &mut bytes, &mut wanted);
                }
            }
            bytes.extend(frame(true, opcode, rest));
            wanted.push_back(match is_text {
                true => Heard::Text(String::from_utf8(payload).unwrap()),
                false => Heard::Binary(payload),
            });
            if rng.random() {
                control(rng, &mut bytes, &mut wanted);
            }
        }
        (bytes, wanted)
    }

    #[test]
    fn random_frames_in_random_cuts_arrive_as_they_were_sent() {
        for seed in 0..400 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (bytes, mut wanted) = random_conversation(&mut rng);
            let mut connection = Connection::default();
            let mut unsent = &bytes[..];
            while !unsent.is_empty() || connection.is_paused() {
                let longest = [1, 20, 70_000][rng.random_range(0..3)].min(unsent.len());
                // A reader that is told to wait mostly does, and need not.
                let holds_back = connection.is_paused() && rng.random_ratio(3, 4);
                let length = if holds_back {
                    0
                } else {
                    rng.random_range(0..=longest)
                };
                let (piece, after) = unsent.split_at(length);
                unsent = after;
                let mut has_paused = false;
                let outcome = connection.receive(&mut piece.to_vec(), LIMIT, &mut |event| {
                    assert!(!has_paused, "seed {seed}: an event after a pause");
                    assert_eq!(Some(heard(event)), wanted.pop_front(), "seed {seed}");
                    has_paused = rng.random_ratio(1, 4);
                    if has_paused {
                        Flow::Pause
                    } else {
                        Flow::Continue
                    }
                });
                assert_eq!(outcome, Ok(()), "seed {seed}");
            }
            assert!(wanted.is_empty(), "seed {seed}: {wanted:?}");
            assert!(connection.rest.is_none(), "seed {seed}");
        }
    }

    #[test]
    fn mutated_bytes_do_not_panic() {
        let mut rng = SmallRng::seed_from_u64(2);
        let (seed, _) = conversation();
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            let mut connection = Connection::default();
            let mut came = 0;
            for piece in bytes.chunks(rng.random_range(1..bytes.len())) {
                came += piece.len();
                let outcome = connection.receive(&mut piece.to_vec(), 400, &mut |_| {
                    if rng.random() {
                        Flow::Pause
                    } else {
                        Flow::Continue
                    }
                });
                assert!(connection.kept_bytes() <= came);
                if outcome.is_err() {
                    assert_eq!(connection.kept_bytes(), 0);
                    break;
                }
            }
        }
    }
}
