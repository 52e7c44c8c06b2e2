//! Log entries on their way to `log` triggers. None is kept.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::ENGINE_VERSION;
use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;
use crate::protocol::logs::{LogEntry, Severity, otlp};

use super::Engine;
use super::calls::Handler;
use super::own::{Done, handlers};

impl Engine {
    /// `engine::log::*`.
    pub(super) fn log(&self, severity: Severity, data: &str) -> Result<Done, ErrorBody> {
        let now_ns = nanoseconds(self.now.wall);
        let entry = LogEntry::from_call(severity, data, now_ns, ENGINE_VERSION)?;
        Ok(Done::calling(self.followers(&entry)))
    }

    /// A frame of telemetry. It is looked at only if it bears logs and somebody follows them.
    pub(super) fn telemetry(&mut self, id: SlotId, frame: &[u8]) {
        self.metrics().telemetry_frames.increment();
        if !self.triggers.has_logs() {
            return;
        }
        let Some(content) = otlp::content(frame) else {
            return;
        };
        match otlp::parse(content) {
            Ok(entries) => {
                for entry in &entries {
                    let followers = self.followers(entry);
                    self.fire_all(followers);
                }
            }
            Err(error) => self.warn(id, &format!("a frame of logs is dropped: {error}")),
        }
    }

    fn followers(&self, entry: &LogEntry) -> Vec<Handler> {
        let functions = self.triggers.of_log(&entry.severity_text);
        if functions.is_empty() {
            return Vec::new();
        }
        let mut payload = Vec::new();
        entry.write(&mut payload);
        let payload = String::from_utf8(payload).unwrap_or_default();
        handlers(functions, &Text::from(payload))
    }
}

fn nanoseconds(wall: SystemTime) -> u64 {
    let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
