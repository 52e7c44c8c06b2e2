//! One life of a socket, for both ports: its request, its frames, its turn to be read, its end. What stands
//! behind it, a subscriber's joins or an SDK worker's calls, is [`Sockets`]' to say.
//!
//! ```text
//! Head ──► Waits ──► Open ──► Closing      Head: the request is not whole
//!   │        │         ▲         ▲         Waits: somebody's word on it is waited for
//!   ├────────┼─────────┘         │         Open: frames come and go
//!   └────────┴───────────────────┘
//! ```
//! A request that nobody is asked about leads from Head to Open.
//!
//! No socket, poll or clock: bytes are handed in as they stand between the socket, or what lies over it,
//! and the frames. May not know what a message says.

mod pacing;
mod phase;
mod silence;
mod stalls;
mod turn;
mod words;

pub use pacing::{Rates, UNITS_A_MESSAGE};
pub use phase::{Head, Phase, Proxied};
pub use silence::{Due, Silence};
pub use stalls::Stalls;
pub use turn::{Schedule, Turn};
pub use words::Because;

use crate::config::Limits;
use crate::id::SlotId;
use crate::protocol::connection::{ConnectionError, Event, Flow, Payload, Sender, pong_frame};
use crate::protocol::handshake::{self, Port, Refusal, Upgrade};
use crate::protocol::proxied::Beginning;
use crate::reading::Received;
use crate::time::{LINGER, Now};

/// What of a socket is its life.
pub struct Life<'a, S, W> {
    /// The socket, or what lies over it: what it gives is plain.
    pub socket: &'a mut S,
    /// How far it is.
    pub phase: &'a mut Phase<W>,
    /// Whether it is to be read.
    pub turn: &'a mut Turn,
}

/// So many sockets are looked at in a turn, at most, whether they are still there.
const LOOKS_A_TURN: usize = 64;

/// What there is to read for a socket whose turn it is.
pub enum Reading<'a, S> {
    /// What it has kept since a pause: [`Sockets::received`] goes on with it.
    Kept,
    /// What stands in the socket.
    Socket(&'a mut S),
    /// Nothing.
    Nothing,
}

/// The sockets of one port, and what stands behind them. The methods with a body are the life that all
/// sockets share; the others say what it means here.
pub trait Sockets {
    /// What bytes are read from.
    type Socket;
    /// What is kept of a request while somebody's word on it is waited for.
    type Waits;
    /// Which port it is.
    const PORT: Port;

    /// The socket of that name, while it is there.
    fn life(&mut self, id: SlotId) -> Option<Life<'_, Self::Socket, Self::Waits>>;
    /// Whose turn it is, and who has had its time.
    fn schedule(&mut self) -> &mut Schedule;
    /// The turn's one look at the clocks.
    fn clocks(&self) -> Now;
    /// Whether the socket is to be left unread for now.
    fn is_held(&mut self, id: SlotId) -> bool;
    /// How much it may bring about in a second.
    fn rates(&self, id: SlotId) -> Rates;
    /// How long a head may be.
    fn head_bytes_max(&self) -> usize;
    /// Whose frames come from it, and how long a message may be.
    fn message_limit(&mut self, id: SlotId) -> (Sender, usize);

    /// Whether a line of the PROXY protocol from it counts.
    fn is_proxy(&mut self, id: SlotId) -> bool;
    /// More of the head has come, and it is not whole.
    fn on_head_part(&mut self, id: SlotId);
    /// The head is refused; the answer follows.
    fn on_head_refused(&mut self, id: SlotId, head: &[u8], refusal: Refusal);
    /// The head is in order. `early`: what has come behind it.
    fn on_upgrade(&mut self, id: SlotId, upgrade: Upgrade, head: &[u8], early: &mut [u8]);
    /// Something has come while a word is waited for.
    fn on_waiting_part(&mut self, _id: SlotId, _input: &mut [u8]) {}
    /// The end has come while a word is waited for. True: nobody is there for it any more.
    fn ends_waiting(&self) -> bool;
    /// A whole message.
    fn on_payload(&mut self, id: SlotId, payload: Payload<'_>);
    /// What came is too much, or no WebSocket: it is to be closed.
    fn on_broken(&mut self, id: SlotId, error: &ConnectionError);
    /// Frames were read. `is_whole`: a message among them was.
    fn have_read(&mut self, _id: SlotId, _is_whole: bool) {}
    /// The answer to a ping is to be sent, before anything else that may wait.
    fn send_pong(&mut self, id: SlotId, pong: Vec<u8>);
    /// Nothing is heard any more: what stands behind it ends, and `last` is sent.
    fn begin_close(&mut self, id: SlotId, last: Vec<u8>);
    /// The socket has ended, or is to end without a word.
    fn end(&mut self, id: SlotId);
    /// No whole head, or no word on it, has come in its time.
    fn on_overdue(&mut self, id: SlotId);
    /// The socket that has that slot.
    fn id_at(&self, slot: u32) -> Option<SlotId>;
    /// The server's own ping is to be sent, before anything else that may wait.
    fn send_ping(&mut self, id: SlotId);
    /// Writes what waits for a socket that is blocked: whether it takes any of it. None: it is not
    /// blocked, or nothing waits.
    fn try_write(&mut self, id: SlotId) -> Option<bool>;
    /// Nothing has come from it, nor after a ping: it is to end without a word.
    fn on_silent(&mut self, id: SlotId);
    /// It takes nothing of what waits for it: it is to be closed with 1013.
    fn on_stalled(&mut self, id: SlotId);

    /// The poll says that bytes, or the end, are there.
    fn has_bytes(&mut self, id: SlotId, ends: bool) {
        let given_up = ends && self.ends_waiting();
        if let Some(life) = self.life(id) {
            life.turn.unread.is_told(ends);
            match life.phase {
                Phase::Waits(_) if given_up => self.end(id),
                _ => self.queue(id),
            }
        }
    }

    /// Whether the socket is left unread: it is held, or has brought about all that it may for now.
    fn must_wait(&mut self, id: SlotId) -> bool {
        let now = self.clocks().monotonic;
        self.is_held(id) || self.schedule().pacing.holds(id, now)
    }

    /// It has brought about so many units: see [`UNITS_A_MESSAGE`].
    fn charge(&mut self, id: SlotId, units: usize) {
        let (rates, now) = (self.rates(id), self.clocks().monotonic);
        self.schedule()
            .pacing
            .charge_units(id, units, rates.messages, now);
    }

    /// How much is to be read of it at once.
    fn read_bytes_max(&mut self, id: SlotId) -> usize {
        let (rates, now) = (self.rates(id), self.clocks().monotonic);
        let pacing = &self.schedule().pacing;
        pacing.read_bytes_max(id, rates.bytes, now)
    }

    /// Queues the socket to be read in its turn, unless it has to wait.
    fn queue(&mut self, id: SlotId) {
        if self.must_wait(id) {
            return;
        }
        if let Some(Life { phase, turn, .. }) = self.life(id)
            && turn.may_be_queued(phase.is_paused())
        {
            self.schedule().readable.push_back(id);
        }
    }

    /// The next socket to be read, of the first `left` in the queue; one that has to wait comes later.
    fn next_readable(&mut self, left: &mut usize) -> Option<SlotId> {
        while *left > 0
            && let Some(id) = self.schedule().readable.pop_front()
        {
            *left -= 1;
            if let Some(life) = self.life(id) {
                life.turn.is_queued = false;
                if !self.must_wait(id) {
                    return Some(id);
                }
            }
        }
        None
    }

    /// What is to be done for a socket whose turn it is to be read.
    fn reading_of(&mut self, id: SlotId) -> Reading<'_, Self::Socket> {
        match self.life(id) {
            // What the connection has kept since a pause comes first.
            Some(Life { phase, .. }) if phase.is_paused() => Reading::Kept,
            Some(Life { turn, socket, .. }) if turn.unread.is_there() => Reading::Socket(socket),
            _ => Reading::Nothing,
        }
    }

    /// What a read of the socket gave.
    fn was_read(&mut self, id: SlotId, received: &Received) {
        if let Some(life) = self.life(id) {
            life.turn.unread.was_read(received);
            if let Received::Bytes { .. } = received {
                self.schedule().silence.hear(id.slot);
            }
        }
        if let Received::Bytes { len, .. } = received {
            let (rates, now) = (self.rates(id), self.clocks().monotonic);
            self.schedule()
                .pacing
                .charge_bytes(id, *len, rates.bytes, now);
        }
    }

    /// These bytes came from that socket; they are unmasked where they lie. Without any the socket goes on
    /// with what it has kept since a pause.
    fn received(&mut self, id: SlotId, input: &mut [u8]) {
        match self.life(id).map(|life| life.phase) {
            Some(Phase::Head(_)) => self.received_head(id, input),
            Some(Phase::Open(_)) => self.received_frames(id, input),
            Some(Phase::Waits(_)) => self.on_waiting_part(id, input),
            Some(Phase::Closing) | None => {}
        }
    }

    /// A part of the request.
    fn received_head(&mut self, id: SlotId, input: &mut [u8]) {
        let limit = self.head_bytes_max();
        let Some(input) = self.behind_proxy_line(id, input) else {
            return;
        };
        let Some(Life { phase, .. }) = self.life(id) else {
            return;
        };
        let Phase::Head(head) = phase else {
            return;
        };
        // Nearly always the head comes whole, and is read where it lies.
        let in_pieces = !head.bytes.is_empty();
        if in_pieces {
            head.bytes.extend_from_slice(input);
        }
        let bytes = if in_pieces { &head.bytes } else { &*input };
        match head.reader.read(Self::PORT, bytes, limit) {
            handshake::Head::Incomplete => {
                if !in_pieces {
                    head.bytes.extend_from_slice(input);
                }
                self.on_head_part(id);
            }
            handshake::Head::Refused(refusal) => {
                let kept = std::mem::take(&mut head.bytes);
                let head = if in_pieces { &kept } else { &*input };
                self.on_head_refused(id, head, refusal);
                self.refuse(id, refusal);
            }
            handshake::Head::Upgrade(upgrade) => {
                let mut kept = std::mem::take(&mut head.bytes);
                let bytes = if in_pieces { &mut kept } else { input };
                let (head, early) = bytes.split_at_mut(upgrade.consumed);
                self.on_upgrade(id, upgrade, head, early);
            }
        }
    }

    /// What of these bytes is the request's: a proxy's line before it is read here, if it counts. `None`:
    /// nothing of it has come.
    fn behind_proxy_line<'a>(&mut self, id: SlotId, input: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let is_over = |phase: &Phase<Self::Waits>| match phase {
            Phase::Head(head) => head.proxied != Proxied::Unknown,
            _ => true,
        };
        if is_over(self.life(id)?.phase) {
            return Some(input);
        }
        let is_proxy = self.is_proxy(id);
        let Phase::Head(head) = self.life(id)?.phase else {
            return None;
        };
        if !is_proxy {
            head.proxied = Proxied::Over(None);
            return Some(input);
        }
        let before = head.bytes.len();
        let beginning = match before {
            0 => Beginning::of(input),
            _ => {
                head.bytes.extend_from_slice(input);
                Beginning::of(&head.bytes)
            }
        };
        match beginning {
            Beginning::Incomplete => {
                if before == 0 {
                    head.bytes.extend_from_slice(input);
                }
                self.on_head_part(id);
                None
            }
            Beginning::Proxied { len, client } => {
                head.proxied = Proxied::Over(client);
                head.bytes.clear();
                Some(&mut input[len - before..])
            }
            Beginning::Other | Beginning::Broken => {
                // As a request a broken line is refused.
                head.proxied = Proxied::Over(None);
                head.bytes.truncate(before);
                Some(input)
            }
        }
    }

    /// Answers the request, and ends.
    fn refuse(&mut self, id: SlotId, refusal: Refusal) {
        let answer = refusal.response(Self::PORT, self.clocks().wall);
        self.close_with(id, answer);
    }

    /// Frames, or parts of such.
    fn received_frames(&mut self, id: SlotId, input: &mut [u8]) {
        let (sender, limit) = self.message_limit(id);
        let Some(Life { phase, .. }) = self.life(id) else {
            return;
        };
        let Phase::Open(open) = phase else {
            return;
        };
        // Taken out while its messages are served: they may close it.
        let mut open = std::mem::take(open);
        let mut is_whole = false;
        let received = open.receive_from(sender, input, limit, &mut |event| {
            is_whole |= matches!(event, Event::Message(_));
            self.on_event(id, event)
        });
        if let Err(error) = received {
            self.on_broken(id, &error);
        }
        if let Some(Life { phase, .. }) = self.life(id)
            && let Phase::Open(place) = phase
        {
            *place = open;
        }
        self.have_read(id, is_whole);
    }

    /// What one frame means for the connection.
    fn on_event(&mut self, id: SlotId, event: Event<'_>) -> Flow {
        self.charge(id, 1);
        match event {
            Event::Message(payload) => self.on_payload(id, payload),
            Event::Ping(payload) => self.send_pong(id, pong_frame(payload)),
            Event::Pong => {}
            Event::Close(reply) => self.close_with(id, reply.frame()),
        }
        match self.must_wait(id) {
            true => Flow::Pause,
            false => Flow::Continue,
        }
    }

    /// Sends `last` and ends the connection: once it is sent, or a while later.
    fn close_with(&mut self, id: SlotId, last: Vec<u8>) {
        let until = self.clocks().monotonic + LINGER;
        let life = self.life(id);
        if life.is_none_or(|life| matches!(life.phase, Phase::Closing)) {
            return;
        }
        self.begin_close(id, last);
        self.schedule().closing.push(until, id);
    }

    /// Ends what has had its time: sockets without a head or a word on it, and closing ones. Those that
    /// have waited for long enough are read again.
    fn end_overdue_sockets(&mut self) {
        let now = self.clocks().monotonic;
        while let Some(id) = self.schedule().pacing.pop_freed(now) {
            self.queue(id);
        }
        self.schedule().pacing.forget_some(now);
        while let Some(id) = self.schedule().handshakes.pop_due(now) {
            self.on_overdue(id);
        }
        while let Some(id) = self.schedule().closing.pop_due(now) {
            self.end(id);
        }
        self.look_for_silence();
        while let Some(id) = self.schedule().stalls.pop_due(now) {
            let life = self.life(id);
            let is_open = life.is_some_and(|life| matches!(life.phase, Phase::Open(_)));
            if is_open && self.try_write(id) == Some(false) {
                self.on_stalled(id);
            }
        }
    }

    /// From here on these limits hold for those who are there, too. `all`: these.
    fn set_times(&mut self, limits: &Limits, all: Vec<SlotId>) {
        let now = self.clocks().monotonic;
        if !self.schedule().set_limits(limits, now) {
            return;
        }
        for id in all {
            let life = self.life(id);
            if life.is_some_and(|life| matches!(life.phase, Phase::Open(_))) {
                self.schedule().silence.enter(id.slot);
            }
        }
    }

    /// Pings those from whom nothing has come for long, and ends those who do not answer.
    fn look_for_silence(&mut self) {
        for _ in 0..LOOKS_A_TURN {
            let Some(slot) = self.schedule().silence.pop_due() else {
                return;
            };
            let Some(id) = self.id_at(slot) else {
                continue;
            };
            let Some(Life { phase, turn, .. }) = self.life(id) else {
                continue;
            };
            if !matches!(phase, Phase::Open(_)) {
                continue;
            }
            // Of one that is left unread nobody knows what it says.
            let is_heard = turn.unread.is_there() || phase.is_paused();
            match self.schedule().silence.look(slot, is_heard) {
                Due::Nothing => {}
                Due::Ping => self.send_ping(id),
                Due::Dead => {
                    self.schedule().stalls.unblock(id);
                    // The ping may be behind what a slow one has still to take.
                    match self.try_write(id) {
                        Some(true) => self.schedule().silence.keep(slot),
                        _ => self.on_silent(id),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::protocol::connection::{Connection, push_masked_text};

    /// One socket, and what it has brought about.
    struct One {
        phase: Phase<()>,
        turn: Turn,
        schedule: Schedule,
        socket: (),
        is_held: bool,
        is_proxy: bool,
        heard: Vec<String>,
        last: Vec<u8>,
    }

    impl Default for One {
        fn default() -> One {
            One {
                phase: Phase::default(),
                turn: Turn::default(),
                schedule: Schedule::new(&Limits::default(), Instant::now()),
                socket: (),
                is_held: false,
                is_proxy: false,
                heard: Vec::new(),
                last: Vec::new(),
            }
        }
    }

    const ID: SlotId = SlotId {
        slot: 0,
        generation: 0,
    };

    impl Sockets for One {
        type Socket = ();
        type Waits = ();
        const PORT: Port = Port::Stream;

        fn life(&mut self, _: SlotId) -> Option<Life<'_, (), ()>> {
            Some(Life {
                socket: &mut self.socket,
                phase: &mut self.phase,
                turn: &mut self.turn,
            })
        }
        fn schedule(&mut self) -> &mut Schedule {
            &mut self.schedule
        }
        fn clocks(&self) -> Now {
            Now::read()
        }
        fn is_held(&mut self, _: SlotId) -> bool {
            self.is_held
        }
        fn rates(&self, _: SlotId) -> Rates {
            Rates {
                messages: 1000,
                bytes: 1000,
            }
        }
        fn head_bytes_max(&self) -> usize {
            1000
        }
        fn message_limit(&mut self, _: SlotId) -> (Sender, usize) {
            (Sender::Client, 10)
        }
        fn is_proxy(&mut self, _: SlotId) -> bool {
            self.is_proxy
        }
        fn on_head_part(&mut self, _: SlotId) {
            self.heard.push("a part".to_owned());
        }
        fn on_head_refused(&mut self, _: SlotId, head: &[u8], refusal: Refusal) {
            self.heard.push(Because::Asked(head, refusal).to_string());
        }
        fn on_upgrade(&mut self, id: SlotId, _: Upgrade, _: &[u8], early: &mut [u8]) {
            self.phase = Phase::Open(Connection::default());
            self.received(id, early);
        }
        fn ends_waiting(&self) -> bool {
            true
        }
        fn on_payload(&mut self, _: SlotId, payload: Payload<'_>) {
            if let Payload::Text(text) = payload {
                self.heard.push(text.to_owned());
                self.is_held = text == "hold";
            }
        }
        fn on_broken(&mut self, id: SlotId, error: &ConnectionError) {
            let because = Because::Broken(error, "the limit").to_string();
            self.close_with(id, because.into_bytes());
        }
        fn send_pong(&mut self, _: SlotId, pong: Vec<u8>) {
            self.last = pong;
        }
        fn begin_close(&mut self, _: SlotId, last: Vec<u8>) {
            self.phase = Phase::Closing;
            self.last = last;
        }
        fn end(&mut self, _: SlotId) {
            self.heard.push("the end".to_owned());
        }
        fn on_overdue(&mut self, _: SlotId) {}
        fn id_at(&self, _: u32) -> Option<SlotId> {
            Some(ID)
        }
        fn send_ping(&mut self, _: SlotId) {
            self.heard.push("a ping".to_owned());
        }
        fn try_write(&mut self, _: SlotId) -> Option<bool> {
            None
        }
        fn on_silent(&mut self, _: SlotId) {}
        fn on_stalled(&mut self, _: SlotId) {}
    }

    fn text(text: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        push_masked_text(&mut frame, text.as_bytes(), [1, 2, 3, 4], true, true);
        frame
    }

    const HEAD: &[u8] =
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn a_request_that_is_cut_anywhere_opens_and_what_comes_behind_it_is_heard() {
        for cut in 0..HEAD.len() {
            let mut one = One::default();
            let mut rest = [&HEAD[cut..], &text("behind")].concat();
            one.received(ID, &mut HEAD[..cut].to_vec());
            one.received(ID, &mut rest);
            assert_eq!(one.heard.last().unwrap(), "behind", "{cut}");
        }
    }

    #[test]
    fn a_proxys_line_before_the_request_counts_where_it_may_wherever_it_is_cut() {
        let line = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 3112\r\n";
        let whole = [line, HEAD, &text("behind")].concat();
        for cut in 0..line.len() + HEAD.len() {
            let mut one = One {
                is_proxy: true,
                ..One::default()
            };
            one.received(ID, &mut whole[..cut].to_vec());
            if cut >= line.len() {
                let client = one.phase.client().map(|client| client.to_string());
                assert_eq!(client.as_deref(), Some("203.0.113.9:4711"), "{cut}");
            }
            one.received(ID, &mut whole[cut..].to_vec());
            assert_eq!(one.heard.last().unwrap(), "behind", "{cut}");
        }
        // A second one, one that is broken, and one from nobody who may: no request.
        let twice = [line, &whole[..]].concat();
        let broken = [&b"PROXY TCP4 x\r\n"[..], HEAD].concat();
        for (is_proxy, mut bytes) in [(true, twice), (true, broken), (false, whole)] {
            let mut one = One {
                is_proxy,
                ..One::default()
            };
            one.received(ID, &mut bytes);
            assert!(one.last.starts_with(b"HTTP/1.1 400 "));
        }
    }

    #[test]
    fn who_is_held_keeps_what_came_and_is_queued_once_when_it_is_not() {
        let mut one = One::default();
        one.received(ID, &mut HEAD.to_vec());
        one.received(ID, &mut [text("hold"), text("later")].concat());
        one.has_bytes(ID, false);
        assert_eq!((&*one.heard[0], one.schedule.readable.len()), ("hold", 0));
        one.is_held = false;
        one.queue(ID);
        one.queue(ID);
        assert_eq!(one.next_readable(&mut 2), Some(ID));
        assert!(one.next_readable(&mut 2).is_none(), "it stood there once");
        assert!(matches!(one.reading_of(ID), Reading::Kept));
        one.received(ID, &mut []);
        assert_eq!(one.heard[1], "later");
        assert!(matches!(one.reading_of(ID), Reading::Socket(_)));
    }

    #[test]
    fn what_is_too_long_closes_once_and_nothing_is_heard_after() {
        let mut one = One::default();
        one.received(ID, &mut HEAD.to_vec());
        one.received(ID, &mut [text("more than ten"), text("x")].concat());
        let why = String::from_utf8(std::mem::take(&mut one.last)).unwrap();
        assert!(why.starts_with("is closed with 1009") && why.ends_with("(the limit)"));
        one.close_with(ID, b"again".to_vec());
        one.received(ID, &mut text("x"));
        assert!(one.last.is_empty() && one.heard.is_empty());
        assert_eq!(one.schedule.closing.len(), 1);
    }

    #[test]
    fn who_goes_while_a_word_on_it_is_waited_for_has_gone() {
        let mut one = One {
            phase: Phase::Waits(Box::new(())),
            ..One::default()
        };
        one.has_bytes(ID, false);
        assert!(one.heard.is_empty());
        one.has_bytes(ID, true);
        assert_eq!(one.heard, ["the end"]);
    }
}
