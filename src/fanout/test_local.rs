//! A fan-out and its sockets, for tests: who follows what, what comes, and what each socket has taken.

use std::io::IoSlice;
use std::sync::Arc;

use serde_json::Value;

use crate::collections::Named;
use crate::id::{GroupKey, LocalGroupId, SlotId};
use crate::protocol::frame::{Event, EventFrame, GroupNames, SyncFrame};
use crate::protocol::pace::Pace;

use super::{Bounds, Budget, Connections, Entry, Fanout, Reader, Socket, Written};

/// A socket that takes so many bytes and then blocks.
pub(super) struct Fake {
    pub(super) room: usize,
    pub(super) taken: Vec<u8>,
    pub(super) writes: usize,
    /// The most that it was given at once.
    pub(super) longest: usize,
}

impl Socket for Fake {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        self.writes += 1;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.longest = self.longest.max(bytes.len());
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.taken.extend_from_slice(&bytes[..taken]);
        if taken == bytes.len() {
            Written::All
        } else {
            Written::Part(taken)
        }
    }
}

#[derive(Default)]
pub(super) struct Sockets {
    pub(super) slots: Named<(Reader, Fake)>,
    /// How often one was asked for.
    pub(super) visits: usize,
}

impl Connections for Sockets {
    type Socket = Fake;

    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut Fake)> {
        self.visits += 1;
        let (reader, socket) = self.slots.get_mut(id)?;
        Some((reader, socket))
    }
}

/// A fan-out with its sockets. What is sent is told by its timestamp, which each frame has alone.
pub(super) struct Local {
    pub(super) fanout: Fanout,
    pub(super) sockets: Sockets,
    /// Of the joins from here on.
    pub(super) pace: Pace,
    pub(super) time: u64,
}

impl Local {
    pub(super) fn new() -> Local {
        Local::with_bound(1 << 20)
    }

    pub(super) fn with_bound(behind_bytes_max: usize) -> Local {
        Local {
            fanout: Fanout::new(Bounds {
                reader: behind_bytes_max,
                worker: usize::MAX,
                custom_events: 1000,
            }),
            sockets: Sockets::default(),
            pace: Pace::NONE,
            time: 0,
        }
    }

    pub(super) fn socket(&mut self) -> SlotId {
        let socket = Fake {
            room: usize::MAX,
            taken: Vec::new(),
            writes: 0,
            longest: 0,
        };
        self.sockets.slots.insert((Reader::default(), socket))
    }

    /// All subscriptions of a socket leave.
    pub(super) fn end(&mut self, at: SlotId) {
        if let Some(mut ending) = self.fanout.begin_end(at, &mut self.sockets) {
            let mut units = usize::MAX;
            let (fanout, sockets) = (&mut self.fanout, &mut self.sockets);
            assert!(fanout.go_on_ending(&mut ending, sockets, &mut units, |_, _, _| ()));
        }
    }

    /// Joins, is let in at once, and gets its `sync` if it takes any.
    pub(super) fn join(
        &mut self,
        at: SlotId,
        id: &str,
        group: &str,
        item: Option<&str>,
    ) -> LocalGroupId {
        self.time += 1;
        let key = GroupKey::new("s", group);
        let names = GroupNames::new(&key);
        let sync = match item {
            Some(item) => SyncFrame::of_item(&names, self.time, item, None),
            None => SyncFrame::of_group(&names, self.time, vec![",1".into(), ",2".into()]),
        };
        let local = self.fanout.begin_join(&key);
        let entry = Entry {
            id: id.into(),
            item: item.map(Into::into),
            sync: Some(Arc::new(sync)),
            pace: self.pace,
        };
        self.fanout.enter(at, local, entry, &mut self.sockets);
        let mut budget = Budget::of_writes(1000);
        self.fanout.drain(at, &mut self.sockets, &mut budget);
        local
    }

    pub(super) fn leave(&mut self, at: SlotId, id: &str) {
        assert!(self.fanout.leave(at, id, &mut self.sockets));
    }

    /// A custom event of the group comes; gives its frame's length.
    pub(super) fn event(&mut self, local: LocalGroupId, item: Option<&str>) -> usize {
        let event = Event::Custom {
            kind: "k",
            data: "0",
        };
        self.tell(local, item, event)
    }

    /// The same of any event.
    pub(super) fn tell(
        &mut self,
        local: LocalGroupId,
        item: Option<&str>,
        event: Event<'_>,
    ) -> usize {
        self.time += 1;
        let names = GroupNames::new(&GroupKey::new("s", "g"));
        let frame = EventFrame::encode(&names, self.time, item, event);
        let len = frame.wire().len();
        self.fanout.append(local, Arc::new(frame));
        len
    }

    pub(super) fn sweep(&mut self, writes: usize) {
        let mut budget = Budget::of_writes(writes);
        self.fanout.sweep(&mut self.sockets, &mut budget);
        self.fanout.check_invariants(&mut self.sockets);
    }

    pub(super) fn block(&mut self, at: SlotId, room: usize) {
        self.fake(at).room = room;
    }

    pub(super) fn unblock(&mut self, at: SlotId) {
        self.unblock_for(at, usize::MAX);
    }

    pub(super) fn unblock_for(&mut self, at: SlotId, room: usize) {
        self.drain_for(at, room);
        self.sweep(1000);
    }

    /// The socket takes so many bytes of what it lacks, and no sweep is made.
    pub(super) fn drain_for(&mut self, at: SlotId, room: usize) {
        self.fake(at).room = room;
        self.sockets.slots.get_mut(at).unwrap().0.unblock();
        let mut budget = Budget::of_writes(1000);
        self.fanout.drain(at, &mut self.sockets, &mut budget);
    }

    pub(super) fn fake(&mut self, at: SlotId) -> &mut Fake {
        &mut self.sockets.slots.get_mut(at).unwrap().1
    }

    /// The timestamps of the frames that the socket took since this was last asked.
    pub(super) fn heard(&mut self, at: SlotId) -> Vec<u64> {
        let frames = self.frames(at).into_iter();
        let times = frames.map(|frame| frame["timestamp"].as_u64().unwrap());
        times.collect()
    }

    /// The same as `item kind`.
    pub(super) fn heard_kinds(&mut self, at: SlotId) -> Vec<String> {
        let kind_of = |frame: Value| {
            let item = frame["id"].as_str().unwrap_or("-");
            format!("{item} {}", frame["event"]["type"].as_str().unwrap())
        };
        self.frames(at).into_iter().map(kind_of).collect()
    }

    fn frames(&mut self, at: SlotId) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.fake(at).taken);
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            assert_eq!(rest[0], 0x81, "a frame was torn");
            let (header_len, len) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                len => (2, usize::from(len)),
            };
            let (frame, behind) = rest.split_at(header_len + len);
            frames.push(serde_json::from_slice(&frame[header_len..]).unwrap());
            rest = behind;
        }
        frames
    }
}
