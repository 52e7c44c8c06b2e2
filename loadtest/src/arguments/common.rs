//! What every scenario can be told: targets, times, the second server, where the report goes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::scenario::{Order, Pace, Setup, new_run};
use crate::stamp::VALUE_BYTES_MIN;
use crate::stream::Trust;
use crate::target::Target;

/// One source address has about 28,000 ports, and connecting looks for a free one: the more are taken,
/// the longer. With 19,000 connections from one address 1,100 a second were made, from ten 17,000.
const CONNECTIONS_PER_SOURCE: usize = 2_000;
const SOURCES_MAX: usize = 200;
const CONNECTIONS_MAX: usize = 4_000_000;
/// Of a closed loop, where nothing else is said.
const IN_FLIGHT: u64 = 8;

/// What every scenario can be told.
#[derive(Clone, Args)]
pub(crate) struct Common {
    /// The worker port, where the publisher connects.
    #[arg(long, value_name = "URL", value_parser = Target::parse, default_value = "ws://127.0.0.1:49134")]
    engine: Target,
    /// The stream port, where subscribers connect.
    #[arg(long, value_name = "URL", value_parser = Target::parse, default_value = "ws://127.0.0.1:3112")]
    stream: Target,
    /// Authorities of certificates, as PEM, that targets of wss:// are trusted by.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The measured window.
    #[arg(long, value_name = "S", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Seconds of load before the window: checked, not measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    warmup: Duration,
    /// The server's process: its CPU time, context switches and memory are measured.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// The server's admin port, whose counters say how much crosses its threads.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    /// Write the report here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw plots into this folder, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// A second server, engine and stream port: both get the same load in turn, A B A B.
    #[arg(long, value_names = ["ENGINE", "STREAM"], num_args = 2, value_parser = Target::parse)]
    against: Option<Vec<Target>>,
    /// The second server's process.
    #[arg(long, value_name = "PID", requires = "against", value_parser = clap::value_parser!(u32).range(1..))]
    against_pid: Option<u32>,
    /// How often each of the two has its turn.
    #[arg(long, value_name = "N", default_value = "5", requires = "against", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// What the two are called in table and plots.
    #[arg(long, value_names = ["FIRST", "SECOND"], num_args = 2, requires = "against")]
    names: Option<Vec<String>>,
    /// Bytes of each published value; the event around it adds 129, so 283 in all.
    #[arg(long, visible_alias = "bytes", value_name = "BYTES", default_value = "154", value_parser = parse_value_bytes)]
    pub(super) value_bytes: usize,
    /// SDK sockets; the calls of one group keep to one of them.
    #[arg(long, value_name = "P", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) publishers: u32,
    /// Client threads, each pinned to a core of this process's mask, the last one first.
    #[arg(long, visible_alias = "client-threads", value_name = "T", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: u32,
    /// Source addresses 127.0.0.1, .2, …, each good for some 28,000 ports [default: as needed].
    #[arg(long, value_name = "A", value_parser = clap::value_parser!(u8).range(1..=SOURCES_MAX as i64))]
    sources: Option<u8>,
    /// Connections that may be between connect and sync at a time.
    #[arg(long, value_name = "H", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    handshakes: u32,
    /// Give up when no join was answered for so many seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    join_timeout: Duration,
    /// How long after the window outstanding deliveries and answers are awaited, in seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    pub(super) drain_timeout: Duration,
    /// The stream to publish to.
    #[arg(long, value_name = "NAME", default_value = "load", value_parser = parse_stream_name)]
    stream_name: String,
    /// Which order of events is a fault when it is not kept: that of the calls as sent, or that in
    /// which the server applied them (for an engine that may swap calls).
    #[arg(long, value_name = "ORDER", default_value = "sent")]
    order: Order,
    /// A delivery that takes longer, in seconds, is a fault.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    late: Duration,
    /// Do not compare clients with `stream::list` and `stream::get` at the end.
    #[arg(long)]
    no_audit: bool,
    /// Accept targets that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
}

/// Closed loop or fixed rate: one of them.
#[derive(Clone, Args)]
#[group(multiple = false)]
pub(super) struct PaceFlags {
    /// Closed loop: so many under way at a time [default: 8].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    in_flight: Option<u64>,
    /// Fixed rate: so many a second, at times fixed beforehand.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
}

impl PaceFlags {
    pub(super) fn pace(&self) -> Pace {
        match (self.in_flight, self.rate) {
            (_, Some(rate)) => Pace::Rate(rate),
            (in_flight, None) => Pace::InFlight(in_flight.unwrap_or(IN_FLIGHT)),
        }
    }
}

pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.01..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be 0.01 to 1000000".to_owned())
    }
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.0..=3_600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be 0 to 3600".to_owned())
    }
}

pub(super) fn parse_value_bytes(text: &str) -> Result<usize, String> {
    let allowed = VALUE_BYTES_MIN..=512 * 1024;
    let bytes = text.parse().map_err(|_| "not a number")?;
    if allowed.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("must be {} to {}", allowed.start(), allowed.end()))
    }
}

/// Written into JSON texts as it is.
pub(super) fn parse_stream_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits and -_.: only".to_owned())
    }
}

/// A target under TLS has to know whom it trusts.
fn trusting(target: &Target, trust: Option<&Trust>) -> Result<Target, String> {
    let mut target = target.clone();
    if target.is_tls {
        let trust = trust.ok_or("wss:// needs --ca FILE, whose authorities are trusted")?;
        target.trust = Some(trust.clone());
    }
    Ok(target)
}

/// The second server, and how the two take turns.
#[derive(Clone, Debug)]
pub(crate) struct Against {
    pub(super) engine: Target,
    pub(super) stream: Target,
    pub(super) pid: Option<u32>,
    pub(crate) rounds: u32,
    pub(crate) names: [String; 2],
}

/// What becomes of the report.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) json: Option<PathBuf>,
    pub(crate) plots: Option<PathBuf>,
}

impl Common {
    pub(crate) fn output(&self) -> Output {
        Output {
            json: self.json.clone(),
            plots: self.plots.clone(),
        }
    }

    pub(crate) fn against(&self) -> Result<Option<Against>, String> {
        let Some([engine, stream]) = self.against.as_deref() else {
            return Ok(None); // clap takes two
        };
        let trust = self.trust()?;
        let names = match self.names.as_deref() {
            Some([first, second]) => [first.clone(), second.clone()],
            _ => [self.stream.host.clone(), stream.host.clone()],
        };
        Ok(Some(Against {
            engine: trusting(engine, trust.as_ref())?,
            stream: trusting(stream, trust.as_ref())?,
            pid: self.against_pid,
            rounds: self.rounds,
            names,
        }))
    }

    fn trust(&self) -> Result<Option<Trust>, String> {
        let trust = self.ca.as_deref().map(Trust::read).transpose();
        trust.map_err(|why| format!("--ca: {why}"))
    }

    /// The checks that need more than one flag. `connections` are open at a time; `churn` more come
    /// and go, and each holds its port for a minute.
    pub(super) fn setup(&self, connections: usize, churn: bool) -> Result<Setup, String> {
        if connections > CONNECTIONS_MAX {
            return Err(format!(
                "{connections} subscribers are more than {CONNECTIONS_MAX}"
            ));
        }
        let against = self.against.as_deref().unwrap_or_default();
        let targets = [&self.engine, &self.stream].into_iter().chain(against);
        let is_local = targets.clone().all(Target::is_loopback);
        if !is_local && !self.allow_remote {
            return Err(
                "only loopback targets are loaded, unless --allow-remote is given".to_owned(),
            );
        }
        let can_rotate = is_local && targets.clone().all(|target| target.address.is_ipv4());

        let needed = connections
            .div_ceil(CONNECTIONS_PER_SOURCE)
            .clamp(1, SOURCES_MAX);
        let needed = if churn { SOURCES_MAX } else { needed } as u8;
        let sources = self.sources.unwrap_or(if can_rotate { needed } else { 1 });
        if sources > 1 && !can_rotate {
            return Err(
                "--sources are 127.0.0.x: they reach only a loopback IPv4 target".to_owned(),
            );
        }
        let trust = self.trust()?;
        Ok(Setup {
            engine: trusting(&self.engine, trust.as_ref())?,
            stream: trusting(&self.stream, trust.as_ref())?,
            warmup: self.warmup,
            seconds: self.seconds,
            value_bytes: self.value_bytes,
            publishers: self.publishers as usize,
            threads: self.threads as usize,
            sources,
            handshakes: self.handshakes as usize,
            join_timeout: self.join_timeout,
            drain_timeout: self.drain_timeout,
            stream_name: self.stream_name.clone(),
            order: self.order,
            late: self.late,
            audits: !self.no_audit,
            pid: self.pid,
            admin: self.admin,
            run: new_run(),
        })
    }
}
