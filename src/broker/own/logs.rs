//! Log entries on their way to `log` triggers. None is kept.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::ENGINE_VERSION;
use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::logs::{LogEntry, Severity, otlp};

use crate::broker::Broker;
use crate::broker::own::Done;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::firing::Firing;
use crate::broker::turn::Turn;

/// What frames of logs may hold that wait for their turn. Others are dropped, as telemetry may be.
const LOGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Frames of logs whose records have still to be told.
#[derive(Default)]
pub(in crate::broker) struct Logs {
    frames: VecDeque<(SlotId, otlp::Frame)>,
    bytes: usize,
}

impl Logs {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// A frame that some trigger may hear of.
    fn keep(&mut self, turn: &mut Turn, id: SlotId, frame: otlp::Frame) {
        if self.bytes + frame.held_bytes() > LOGS_BYTES_MAX {
            return turn.warn(id, "a frame of logs is dropped: too many wait to be told");
        }
        self.bytes += frame.held_bytes();
        turn.hold_for_work(Some(id));
        self.frames.push_back((id, frame));
    }

    /// Tells the next record of the next frame. False when there is none.
    pub(in crate::broker) fn tell_next(
        &mut self,
        turn: &mut Turn,
        triggers: &mut Triggers,
    ) -> bool {
        let Some((id, mut frame)) = self.frames.pop_front() else {
            return false;
        };
        match frame.next() {
            Some(Ok(entry)) => {
                let bytes = entry.body.len() + entry.attributes.len();
                turn.steps.take(1);
                turn.steps.take_bytes(bytes);
                self.frames.push_front((id, frame));
                triggers.fire_all(turn, Firing::of_log(entry));
            }
            Some(Err(_)) => self.frames.push_front((id, frame)), // it was read before
            None => {
                self.bytes -= frame.held_bytes();
                turn.release_after_work(Some(id));
            }
        }
        true
    }
}

impl Broker {
    /// A frame of telemetry. It is looked at only if it bears logs and somebody follows them.
    pub fn telemetry(&mut self, id: SlotId, frame: &[u8]) {
        let turn = &mut self.turn;
        turn.metrics().telemetry_frames.increment();
        if !self.triggers.has_logs() {
            return;
        }
        let Some(content) = otlp::content(frame) else {
            return;
        };
        match otlp::Frame::read(content) {
            Ok(frame) => self.logs.keep(turn, id, frame),
            Err(error) => {
                let what = format_args!("a frame of logs is dropped: {error}");
                turn.warn_of(id, "frame of logs", "", what);
            }
        }
    }
}

/// `engine::log::*`.
pub(super) fn log(wall: SystemTime, severity: Severity, data: &str) -> Result<Done, ErrorBody> {
    let entry = LogEntry::from_call(severity, data, nanoseconds(wall), ENGINE_VERSION)?;
    Ok(Done::telling(Firing::of_log(entry)))
}

fn nanoseconds(wall: SystemTime) -> u64 {
    let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
