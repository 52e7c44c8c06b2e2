//! The log of the process: where its lines go, how they are written, and what is said.

use std::io::{self, IsTerminal};

use iii_stream::config::{Log, LogFormat, LogLevel};
use iii_stream::log::{JsonLines, Lines, escaped_fields};
use iii_stream::notes::counted;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is said can be set anew.
pub(crate) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` says what is said, whatever the settings say.
    is_by_variable: bool,
}

impl Logging {
    /// Lines on stderr, from now on. Nobody waits for whoever reads them.
    pub(crate) fn start(settings: Log) -> io::Result<Logging> {
        let by_variable = EnvFilter::try_from_default_env();
        let is_by_variable = by_variable.is_ok();
        let filter = by_variable.unwrap_or_else(|_| filter_of(settings.level));
        let lines = Lines::start(io::stderr(), |lost| {
            tracing::warn!(
                "{} of the log were lost: nobody read them in time",
                counted(lost as usize, "line")
            );
        })?;
        lines.install();
        let (filter, handle) = reload::Layer::new(filter);
        let registry = tracing_subscriber::registry().with(filter);
        let layer = fmt::layer()
            .with_writer(move || lines.clone())
            .log_internal_errors(false);
        match settings.format {
            LogFormat::Human => {
                let is_asked_for = std::env::var_os("NO_COLOR").is_none();
                let layer = layer
                    .fmt_fields(escaped_fields())
                    .with_target(false)
                    .with_ansi(is_asked_for && io::stderr().is_terminal());
                registry.with(layer).init();
            }
            LogFormat::Json => registry.with(layer.event_format(JsonLines)).init(),
        }
        Ok(Logging {
            filter: handle,
            is_by_variable,
        })
    }

    /// From now on that much is said. False: `RUST_LOG` says how much, and wins.
    pub(crate) fn set_level(&self, level: LogLevel) -> bool {
        !self.is_by_variable && self.filter.reload(filter_of(level)).is_ok()
    }
}

fn filter_of(level: LogLevel) -> EnvFilter {
    EnvFilter::new(level.word())
}
