//! What stands under `server.log`.

use serde_json::Value as Json;

use super::section::Section;
use super::words::{one_of, word_of};

/// What the log is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// What is said at all, where `RUST_LOG` does not say so.
    pub level: LogLevel,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is said: this, and what is graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What went wrong for good.
    Error,
    /// What somebody should look at.
    Warn,
    /// What the server does.
    #[default]
    Info,
    /// Who comes and goes.
    Debug,
    /// Everything.
    Trace,
}

const FORMATS: [(&str, LogFormat); 2] = [("human", LogFormat::Human), ("json", LogFormat::Json)];
const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl LogLevel {
    /// The word for it.
    pub fn word(self) -> &'static str {
        word_of(&LEVELS, self)
    }
}

pub(super) fn read(mut keys: Section<'_, '_>, log: &mut Log) {
    keys.refuse_doubled();
    keys.read("format", &mut log.format, |node| {
        one_of(&FORMATS, node, "human or json")
    });
    keys.read("level", &mut log.level, |node| {
        one_of(&LEVELS, node, "error, warn, info, debug or trace")
    });
    keys.done();
}

impl From<LogFormat> for Json {
    fn from(format: LogFormat) -> Json {
        word_of(&FORMATS, format).into()
    }
}

impl From<LogLevel> for Json {
    fn from(level: LogLevel) -> Json {
        level.word().into()
    }
}
