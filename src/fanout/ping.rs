//! Pings of sockets from which nothing has come for long. Nearly all of them have nothing to be sent: a ping
//! costs those a write, and no memory.

use std::io::IoSlice;

use crate::id::SlotId;
use crate::protocol::connection::PING_FRAME;

use super::Fanout;
use super::reader::Connections;
use super::socket::{Socket as _, Written};

impl Fanout {
    /// Sends a ping: at once where nothing goes before it. True: it waits for the socket to be drained.
    pub fn ping<C: Connections>(&mut self, id: SlotId, connections: &mut C) -> bool {
        let Some((reader, socket)) = connections.parts(id) else {
            return false;
        };
        if reader.blocked || !reader.queue_is_empty() {
            reader.push_ping(0);
            return true;
        }
        match socket.write(&[IoSlice::new(&PING_FRAME)]) {
            Written::All => {}
            Written::Part(taken) => {
                reader.push_ping(taken);
                reader.block();
                self.blocked.push((id, taken > 0));
            }
            Written::Gone => {
                reader.block();
                self.outcome.gone.push(id);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;

    fn taken(local: &Local, at: SlotId) -> &[u8] {
        &local.sockets.slots.get(at).unwrap().1.taken
    }

    fn drain(local: &mut Local, at: SlotId) {
        local.unblock(at);
        let mut budget = crate::fanout::Budget::of_writes(100);
        local.fanout.drain(at, &mut local.sockets, &mut budget);
    }

    #[test]
    fn who_has_nothing_to_be_sent_is_pinged_at_once_and_holds_no_more_for_it() {
        let mut local = Local::new();
        let at = local.socket();
        assert!(!local.fanout.ping(at, &mut local.sockets));
        assert_eq!(taken(&local, at), PING_FRAME);
        let (reader, _) = local.sockets.slots.get(at).unwrap();
        assert!(reader.queue_is_empty() && reader.queue_bytes() == 0 && !reader.is_blocked());
    }

    #[test]
    fn a_ping_goes_between_frames_wherever_the_socket_blocks_and_once_until_it_is_taken() {
        for room in 0..400 {
            let mut local = Local::new();
            let at = local.socket();
            let group = local.join(at, "a", "one", None);
            drain(&mut local, at);
            let before = taken(&local, at).len();
            local.block(at, room);
            local.event(group, Some("u"));
            local.event(group, Some("v"));
            local.sweep(100);
            let is_blocked = local.sockets.slots.get(at).unwrap().0.is_blocked();
            for _ in 0..3 {
                let waits = local.fanout.ping(at, &mut local.sockets);
                assert!(waits || !is_blocked);
            }
            let blocked = local.fanout.take_blocked();
            assert!(blocked.iter().all(|(id, _)| *id == at));
            local.fanout.check_invariants(&mut local.sockets);
            drain(&mut local, at);
            let sent = &taken(&local, at)[before..];
            let pings = frames(sent).filter(|frame| *frame == PING_FRAME);
            let wanted = if is_blocked { 1 } else { 3 };
            assert!((1..=wanted).contains(&pings.count()), "room for {room}");
            assert_eq!(frames(sent).filter(|frame| frame[0] == 0x81).count(), 2);
        }
    }

    /// Whole frames, unmasked.
    fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            let len = match bytes {
                [] => return None,
                [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
                [_, len, ..] => 2 + usize::from(*len),
                [_] => 1,
            };
            let (frame, rest) = bytes.split_at(len);
            bytes = rest;
            Some(frame)
        })
    }
}
