//! Log entries on their way to `log` triggers. None is kept.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::ENGINE_VERSION;
use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::logs::{LogEntry, Severity, otlp};

use crate::broker::Broker;
use crate::broker::own::Done;
use crate::broker::triggers::firing::Firing;

impl Broker {
    /// `engine::log::*`.
    pub(in crate::broker) fn log(&self, severity: Severity, data: &str) -> Result<Done, ErrorBody> {
        let now_ns = nanoseconds(self.now.wall);
        let entry = LogEntry::from_call(severity, data, now_ns, ENGINE_VERSION)?;
        Ok(Done::telling(Firing::of_log(entry)))
    }

    /// A frame of telemetry. It is looked at only if it bears logs and somebody follows them.
    pub fn telemetry(&mut self, id: SlotId, frame: &[u8]) {
        self.metrics().telemetry_frames.increment();
        if !self.triggers.has_logs() {
            return;
        }
        let Some(content) = otlp::content(frame) else {
            return;
        };
        match otlp::Frame::read(content) {
            Ok(frame) => self.keep_logs(id, frame),
            Err(error) => {
                let what = format_args!("a frame of logs is dropped: {error}");
                self.warn_of(id, "frame of logs", "", what);
            }
        }
    }
}

fn nanoseconds(wall: SystemTime) -> u64 {
    let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
