//! What one socket is to be sent, in order: frames, answers that are written out only as it takes
//! them, and its last bytes.
//!
//! Pure: time is handed in. May not know the socket.

use std::collections::VecDeque;
use std::time::Instant;

use crate::broker::caller::Caller;
use crate::chance::Chance;
use crate::id::Text;
use crate::protocol::answer::{Outcome, Outgoing, ResultBody, Sink};
use crate::protocol::call::ErrorBody;
use crate::protocol::connection::{masked_control, push_masked_text, text_header};
use crate::protocol::input::{StreamFunction, failed};

/// Answers are written out while less than this waits unsent; the others stay what they are, shared
/// with the shards that gave them, and what is sent after them waits behind them.
const OUT_BYTES: usize = 256 * 1024;

/// A longer answer is written out bit by bit.
const LONG_BYTES: usize = 64 * 1024;
/// A shorter text of it is copied at once.
const SHARED_BYTES_MIN: usize = 1024;

/// A longer message goes to an engine in fragments: it takes no frame of 16 MiB or more.
const WHOLE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// So long are they.
const FRAGMENT_BYTES: usize = 1024 * 1024;
/// The longest message that an engine takes, over all its fragments. A longer one would cost it the
/// link.
pub(in crate::broker) const SENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a call holds at most beside its data and the id of its function.
const CALL_OVERHEAD_BYTES: usize = 64 * 1024;

/// What waits for one socket.
#[derive(Default)]
pub(in crate::broker) struct Unsent {
    /// Of the link alone: there we are the client, whose frames are masked.
    masks: Option<Masks>,
    /// Frames to be sent; the first `sent` bytes have been.
    out: Vec<u8>,
    sent: usize,
    /// What follows.
    behind: VecDeque<Behind>,
    /// What it holds, together with `held`: frames, and answers that are not written out.
    frames_bytes: usize,
    answers_bytes: usize,
    /// Answers that may not leave before their time, and what was sent after them.
    held: VecDeque<(Instant, Behind)>,
    /// What is sent after all else: a close frame, or an HTTP answer that refuses.
    last: Vec<u8>,
}

/// The answer to a stream call, not written out yet.
pub(in crate::broker) struct Answer {
    pub(in crate::broker) caller: Caller,
    pub(in crate::broker) function: StreamFunction,
    pub(in crate::broker) outcome: Outcome,
}

impl Answer {
    /// What it holds, its own place and its caller's texts included.
    fn held_bytes(&self) -> usize {
        size_of::<Behind>() + self.caller.held_bytes() + self.outcome.held_bytes()
    }
}

/// A long answer on its way out: its values stay shared with the shards until the socket takes them.
struct Long {
    parts: VecDeque<Part>,
    /// How much of the first part is written out.
    written: usize,
    /// What it has still to write.
    left: usize,
    /// Control frames that came meanwhile: they may not stand within its frame.
    behind: Vec<u8>,
}

enum Part {
    Own(Vec<u8>),
    Shared(Text),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Own(bytes) => bytes,
            Part::Shared(text) => text.as_bytes(),
        }
    }
}

/// What waits behind `out`, in order.
enum Behind {
    /// One whose first bytes are written out.
    Long(Long),
    /// An answer whose values are still shared with the shard that gave it.
    Answer(Answer),
    /// Frames that were sent after such answers.
    Frames(Vec<u8>),
}

impl Unsent {
    /// Of the link to an engine, whose first bytes ask for an upgrade.
    pub(in crate::broker) fn of_link(request: Vec<u8>) -> Unsent {
        Unsent {
            masks: Some(Masks::default()),
            out: request,
            ..Unsent::default()
        }
    }

    /// Whether we are the client of this connection.
    pub(in crate::broker) fn is_of_client(&self) -> bool {
        self.masks.is_some()
    }

    pub(in crate::broker) fn bytes(&self) -> usize {
        self.written_bytes() + self.answers_bytes
    }

    /// The same without what is still shared with the shards.
    pub(in crate::broker) fn written_bytes(&self) -> usize {
        self.out.len() - self.sent + self.frames_bytes
    }

    /// When the first of the answers that are held may leave.
    pub(in crate::broker) fn held_until(&self) -> Option<Instant> {
        self.held.front().map(|(until, _)| *until)
    }

    /// Appends one message: behind answers that are held, or not written out yet.
    pub(in crate::broker) fn push(&mut self, text: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some((until, _)) = self.held.back() {
            return self.push_held(*until, text, write);
        }
        self.write_out(text); // what was answered before goes before
        if self.behind.is_empty() {
            return push_message(&mut self.out, self.masks.as_mut(), text, write);
        }
        let mut frames = match self.behind.pop_back() {
            Some(Behind::Frames(frames)) => frames,
            last => {
                self.behind.extend(last);
                Vec::new()
            }
        };
        let before = frames.len();
        push_message(&mut frames, self.masks.as_mut(), text, write);
        self.frames_bytes += frames.len() - before;
        self.behind.push_back(Behind::Frames(frames));
    }

    /// Appends an answer that is written out later.
    pub(in crate::broker) fn push_answer(&mut self, answer: Answer) {
        self.answers_bytes += answer.held_bytes();
        match answer.caller.held_until {
            Some(until) => self.held.push_back((until, Behind::Answer(answer))),
            None => self.behind.push_back(Behind::Answer(answer)),
        }
    }

    /// Appends an answer whose text is there already.
    pub(in crate::broker) fn push_result(
        &mut self,
        text: &mut Vec<u8>,
        caller: &Caller,
        function_id: &str,
        body: ResultBody<'_>,
    ) {
        let Some(until) = caller.held_until else {
            return self.push(text, |out| caller.write_answer(out, function_id, body));
        };
        let is_to_engine = self.masks.is_some();
        self.push_held(until, text, |out| {
            write_answer(out, caller, function_id, body, is_to_engine);
        });
    }

    fn push_held(&mut self, until: Instant, text: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = Vec::new();
        push_message(&mut frames, self.masks.as_mut(), text, write);
        self.frames_bytes += frames.len();
        self.held.push_back((until, Behind::Frames(frames)));
    }

    /// Lets the answers go whose time has come. True when there were any.
    pub(in crate::broker) fn release(&mut self, now: Instant) -> bool {
        let before = self.behind.len();
        while let Some((_, behind)) = self.held.pop_front_if(|(until, _)| *until <= now) {
            self.behind.push_back(behind);
        }
        self.behind.len() > before
    }

    /// Appends control frames as they are, before answers that are not written out yet.
    pub(in crate::broker) fn push_raw(&mut self, bytes: &[u8]) {
        match self.behind.front_mut() {
            Some(Behind::Long(long)) => {
                long.behind.extend_from_slice(bytes);
                self.frames_bytes += bytes.len();
            }
            _ => self.out.extend_from_slice(bytes),
        }
    }

    /// Appends what ends the connection, behind all else. Nothing is held any longer.
    pub(in crate::broker) fn push_last(&mut self, frame: &[u8]) {
        let held = std::mem::take(&mut self.held);
        self.behind
            .extend(held.into_iter().map(|(_, behind)| behind));
        self.last = self.control(frame); // an HTTP answer never goes to an engine
    }

    /// A control frame as this side of the connection sends it.
    pub(in crate::broker) fn control(&mut self, frame: &[u8]) -> Vec<u8> {
        match &mut self.masks {
            Some(masks) => masked_control(frame, masks.next()),
            None => frame.to_vec(),
        }
    }

    /// What is to be sent next; empty when nothing is left. Of a long answer only a part.
    pub(in crate::broker) fn next(&mut self, text: &mut Vec<u8>) -> &[u8] {
        self.write_out(text);
        if self.behind.is_empty() && self.held.is_empty() {
            self.out.append(&mut self.last);
        }
        &self.out[self.sent..]
    }

    /// So much of it has been sent.
    pub(in crate::broker) fn advance(&mut self, len: usize) {
        self.sent += len;
        // Moved to the front only when that is less than what has gone.
        if self.sent >= self.out.len() - self.sent {
            self.out.drain(..self.sent);
            self.out.shrink_to(OUT_BYTES);
            self.sent = 0;
        }
    }

    /// An engine gets what is long in fragments, all of them at once.
    fn is_long(&self, answer: &Answer) -> bool {
        self.masks.is_none() && answer.outcome.held_bytes() > LONG_BYTES
    }

    /// Writes out what is behind until so many bytes wait unsent.
    fn write_out(&mut self, text: &mut Vec<u8>) {
        while self.out.len() - self.sent < OUT_BYTES
            && let Some(next) = self.behind.pop_front()
        {
            let answer = match next {
                Behind::Long(mut long) => {
                    let room = OUT_BYTES - (self.out.len() - self.sent);
                    self.answers_bytes -= long.write_some(&mut self.out, room);
                    if long.left > 0 {
                        return self.behind.push_front(Behind::Long(long));
                    }
                    self.frames_bytes -= long.behind.len();
                    self.out.append(&mut long.behind);
                    continue;
                }
                Behind::Answer(answer) if self.is_long(&answer) => {
                    self.answers_bytes -= answer.held_bytes();
                    let long = Long::new(&answer, &mut self.out);
                    self.answers_bytes += long.left;
                    self.behind.push_front(Behind::Long(long));
                    continue;
                }
                Behind::Answer(answer) => answer,
                Behind::Frames(mut frames) => {
                    self.frames_bytes -= frames.len();
                    self.out.append(&mut frames);
                    continue;
                }
            };
            self.answers_bytes -= answer.held_bytes();
            let Answer {
                caller,
                function,
                outcome,
            } = answer;
            let body = ResultBody::Outcome(&outcome);
            let is_to_engine = self.masks.is_some();
            push_message(&mut self.out, self.masks.as_mut(), text, |out| {
                write_answer(out, &caller, function.id(), body, is_to_engine);
            });
        }
    }
}

impl Long {
    /// Begins the answer's frame.
    fn new(answer: &Answer, out: &mut Vec<u8>) -> Long {
        let mut parts = Parts::default();
        let body = ResultBody::Outcome(&answer.outcome);
        let function_id = answer.function.id();
        answer.caller.write_answer(&mut parts, function_id, body);
        let mut parts = parts.0;
        let left = parts.iter().map(|part| part.bytes().len()).sum();
        parts.retain(|part| !part.bytes().is_empty());
        let (header, header_len) = text_header(left);
        out.extend_from_slice(&header[..header_len]);
        Long {
            parts,
            written: 0,
            left,
            behind: Vec::new(),
        }
    }

    /// Appends at most so many bytes, and says how many.
    fn write_some(&mut self, out: &mut Vec<u8>, most: usize) -> usize {
        let before = self.left;
        let mut room = most;
        while room > 0
            && let Some(part) = self.parts.front()
        {
            let rest = &part.bytes()[self.written..];
            let some = &rest[..rest.len().min(room)];
            out.extend_from_slice(some);
            room -= some.len();
            self.left -= some.len();
            self.written += some.len();
            if some.len() == rest.len() {
                self.parts.pop_front();
                self.written = 0;
            }
        }
        before - self.left
    }
}

/// Collects an answer without copying what it shares.
#[derive(Default)]
struct Parts(VecDeque<Part>);

impl Sink for Parts {
    fn own(&mut self) -> &mut Vec<u8> {
        if !matches!(self.0.back(), Some(Part::Own(_))) {
            self.0.push_back(Part::Own(Vec::new()));
        }
        match self.0.back_mut() {
            Some(Part::Own(own)) => own,
            _ => unreachable!("one was made just now"),
        }
    }

    fn push_text(&mut self, text: &Text) {
        match text.len() < SHARED_BYTES_MIN {
            true => self.own().extend_from_slice(text.as_bytes()),
            false => self.0.push_back(Part::Shared(Text::clone(text))),
        }
    }
}

/// Writes an answer; one that an engine does not take becomes the function's own error.
fn write_answer(
    out: &mut Vec<u8>,
    caller: &Caller,
    function_id: &str,
    body: ResultBody<'_>,
    is_to_engine: bool,
) {
    caller.write_answer(out, function_id, body);
    if !is_to_engine || out.len() <= SENT_BYTES_MAX {
        return;
    }
    let mut cause = too_long("the answer", out.len());
    let has_changed = matches!(
        body,
        ResultBody::Outcome(
            Outcome::Set { .. } | Outcome::Updated { .. } | Outcome::Deleted { .. }
        )
    );
    if has_changed {
        cause.push_str("; the change has been made");
    }
    let error = match StreamFunction::from_id(function_id) {
        Some(function) => failed(function, &cause),
        None => ErrorBody::new("invocation_error", cause),
    };
    *out = Vec::new(); // so long a buffer is of no more use
    caller.write_answer(out, function_id, ResultBody::Error(&error));
}

/// Why a call with that input cannot go to an engine, if it cannot.
pub(in crate::broker) fn refused_as_too_long(call: &Outgoing<'_>) -> Option<String> {
    let metadata = call.metadata.map_or(0, str::len);
    let len = call.data.len() + metadata + call.function_id.len();
    (len + CALL_OVERHEAD_BYTES > SENT_BYTES_MAX).then(|| too_long("the call", len))
}

fn too_long(what: &str, len: usize) -> String {
    format!("{what} has {len} bytes, and the engine takes messages of {SENT_BYTES_MAX} at most")
}

/// Appends to `out` what `write` makes, as one message.
fn push_message(
    out: &mut Vec<u8>,
    masks: Option<&mut Masks>,
    text: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    text.clear();
    write(text);
    match masks {
        Some(masks) if text.len() > WHOLE_BYTES_MAX => {
            let last = (text.len() - 1) / FRAGMENT_BYTES;
            for (n, part) in text.chunks(FRAGMENT_BYTES).enumerate() {
                push_masked_text(out, part, masks.next(), n == 0, n == last);
            }
        }
        Some(masks) => push_masked_text(out, text, masks.next(), true, true),
        None => {
            let (header, header_len) = text_header(text.len());
            out.extend_from_slice(&header[..header_len]);
            out.extend_from_slice(text);
        }
    }
    text.shrink_to(OUT_BYTES);
}

/// The masks of a client's frames. The peer cannot tell the next one from those before.
#[derive(Default)]
pub(in crate::broker) struct Masks(Chance);

impl Masks {
    pub(in crate::broker) fn next(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0.draw().to_ne_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::id::SlotId;
    use crate::protocol::call::Trace;
    use crate::protocol::connection::{Connection, Event, Flow, Payload, Sender};

    fn caller(held_until: Option<Instant>) -> Caller {
        let peer = SlotId::first(0);
        Caller {
            held_until,
            ..Caller::new(peer, Uuid::nil(), &Trace::default())
        }
    }

    fn got(len: usize, held_until: Option<Instant>) -> Answer {
        Answer {
            caller: caller(held_until),
            function: StreamFunction::Get,
            outcome: Outcome::Got(Some(Text::from(format!("\"{}\"", "x".repeat(len - 2))))),
        }
    }

    /// What is unsent, as messages.
    fn messages(unsent: &mut Unsent) -> Vec<String> {
        let sender = match unsent.is_of_client() {
            true => Sender::Client,
            false => Sender::Server,
        };
        let mut text = Vec::new();
        let mut bytes = Vec::new();
        loop {
            let next = unsent.next(&mut text).to_vec();
            if next.is_empty() {
                break;
            }
            unsent.advance(next.len());
            bytes.extend(next);
        }
        let mut messages = Vec::new();
        let mut connection = Connection::default();
        let read = connection.receive_from(sender, &mut bytes, usize::MAX, &mut |event| {
            if let Event::Message(Payload::Text(text)) = event {
                messages.push(text.to_owned());
            }
            Flow::Continue
        });
        assert!(read.is_ok());
        messages
    }

    #[test]
    fn a_long_message_to_an_engine_has_no_frame_of_more_than_a_mebibyte() {
        for len in [WHOLE_BYTES_MAX, 2 * WHOLE_BYTES_MAX] {
            let mut unsent = Unsent::of_link(Vec::new());
            unsent.push_answer(got(len, None));
            let mut text = Vec::new();
            let bytes = unsent.next(&mut text);
            let frames = bytes.len().div_ceil(FRAGMENT_BYTES + 14);
            assert!(bytes.len() > len && frames > 8);
            // FIN is not set, the opcode is that of text, and the length says a fragment.
            assert_eq!(bytes[..2], [0x01, 0x80 | 127]);
            assert_eq!(bytes[2..10], (FRAGMENT_BYTES as u64).to_be_bytes());
            let messages = messages(&mut unsent);
            assert!(messages.len() == 1 && messages[0].len() > len);
        }
        let mut unsent = Unsent::of_link(Vec::new());
        unsent.push_answer(got(WHOLE_BYTES_MAX / 2, None));
        assert_eq!(unsent.next(&mut Vec::new())[0], 0x81, "whole");
    }

    #[test]
    fn an_answer_that_no_engine_takes_is_the_function_s_error() {
        let mut unsent = Unsent::of_link(Vec::new());
        unsent.push_answer(got(SENT_BYTES_MAX, None));
        let messages = messages(&mut unsent);
        assert!(messages[0].len() < 1000);
        assert!(messages[0].contains("STREAM_GET_ERROR"), "{}", messages[0]);
        assert!(!messages[0].contains("the change has been made"));
        assert_eq!(unsent.bytes(), 0);
    }

    #[test]
    fn a_change_that_was_made_is_said_though_its_answer_is_too_long() {
        let mut unsent = Unsent::of_link(Vec::new());
        let new = Text::from(format!("\"{}\"", "x".repeat(SENT_BYTES_MAX)));
        unsent.push_answer(Answer {
            outcome: Outcome::Set { new, old: None },
            function: StreamFunction::Set,
            caller: caller(None),
        });
        let messages = messages(&mut unsent);
        assert!(messages[0].contains("STREAM_SET_ERROR"), "{}", messages[0]);
        assert!(messages[0].contains("the change has been made"));
    }

    #[test]
    fn an_sdk_worker_s_answers_are_whole_however_long() {
        let mut unsent = Unsent::default();
        unsent.push_answer(got(SENT_BYTES_MAX + 1, None));
        assert!(messages(&mut unsent)[0].len() > SENT_BYTES_MAX);
    }

    #[test]
    fn a_long_answer_is_written_bit_by_bit_and_nothing_stands_within_its_frame() {
        let value = |byte: &str, len: usize| Text::from(format!("\"{}\"", byte.repeat(len)));
        let (new, old) = (value("n", 5 * OUT_BYTES), value("o", 3 * OUT_BYTES));
        let long = |outcome| Answer {
            caller: caller(None),
            function: StreamFunction::Set,
            outcome,
        };
        let mut unsent = Unsent::default();
        let mut text = Vec::new();
        unsent.push_answer(long(Outcome::Set {
            new: new.clone(),
            old: Some(old.clone()),
        }));
        unsent.push_answer(long(Outcome::Listed(vec![
            "[".into(),
            new.clone(),
            "]".into(),
        ])));
        unsent.push(&mut text, |out| out.extend_from_slice(b"{}"));
        let (mut bytes, mut steps) = (Vec::new(), 0);
        loop {
            let next = unsent.next(&mut text);
            assert!(next.len() <= OUT_BYTES + 64, "{}", next.len());
            let next = next[..next.len().min(100_000)].to_vec();
            if next.is_empty() {
                break;
            }
            unsent.advance(next.len());
            bytes.extend(next);
            if steps == 3 {
                unsent.push_raw(&[0x8a, 0]); // a pong
            }
            steps += 1;
        }
        assert_eq!(unsent.bytes(), 0);
        let (mut read, mut connection) = (Vec::new(), Connection::default());
        let mut hear = |event: Event<'_>| {
            read.push(match event {
                Event::Message(Payload::Text(text)) => text.to_owned(),
                Event::Pong => "pong".to_owned(),
                _ => "?".to_owned(),
            });
            Flow::Continue
        };
        let received = connection.receive_from(Sender::Server, &mut bytes, usize::MAX, &mut hear);
        assert!(received.is_ok() && read.len() == 4);
        let set = format!(r#""result":{{"new_value":{new},"old_value":{old}}}}}"#);
        assert!(read[0].ends_with(&set));
        assert_eq!((&*read[1], &*read[3]), ("pong", "{}"));
        assert!(read[2].ends_with(&format!(r#""result":[{new}]}}"#)));
    }

    #[test]
    fn held_answers_leave_in_their_order_and_count_until_then() {
        let now = Instant::now();
        let later = now + Duration::from_micros(500);
        let mut unsent = Unsent::of_link(Vec::new());
        let mut text = Vec::new();
        unsent.push_answer(got(10, Some(later)));
        unsent.push_result(&mut text, &caller(Some(now)), "f", ResultBody::Nothing);
        unsent.push(&mut text, |out| {
            out.extend_from_slice(b"{\"type\":\"pong\"}")
        });
        assert_eq!(unsent.held_until(), Some(later));
        assert!(!unsent.release(now));
        assert!(messages(&mut unsent).is_empty());
        assert!(unsent.bytes() > 0, "they hold bytes");
        assert!(unsent.release(later));
        let messages = messages(&mut unsent);
        assert!(messages[0].contains("stream::get") && messages[1].contains("\"f\""));
        assert_eq!(messages[2], "{\"type\":\"pong\"}");
        assert_eq!((unsent.bytes(), unsent.held_until()), (0, None));
    }

    #[test]
    fn the_last_bytes_come_after_what_was_held() {
        let later = Instant::now() + Duration::from_secs(9);
        let mut unsent = Unsent::of_link(Vec::new());
        unsent.push_answer(got(10, Some(later)));
        unsent.push_last(&[0x88, 0]);
        let bytes = unsent.next(&mut Vec::new());
        assert!(
            bytes.len() > 100 && bytes[bytes.len() - 6] == 0x88,
            "{bytes:?}"
        );
    }

    #[test]
    fn masks_differ() {
        let mut masks = Masks::default();
        let drawn: std::collections::HashSet<[u8; 4]> = (0..100).map(|_| masks.next()).collect();
        assert!(drawn.len() > 90);
    }
}
