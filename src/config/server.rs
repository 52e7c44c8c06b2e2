//! What stands under `server:`: the keys of ours.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value as Json;

use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::{Network, Proxies};

use super::address::origin_rule;
use super::engine::{self, FileKind, Said};
use super::quantity::{TIMES_MS, UNITS_TIME, integer, quantity};
use super::redis::{CONNECT_TIMEOUT_MS, IN_FLIGHT, LEASE_MS};
use super::report::Report;
use super::section::Section;
use super::store::StoreConfig;
use super::tls;
use super::words::{mismatch, one_of, word_of};
use super::yaml::{Node, Value};
use super::{
    AuthFailure, BACKLOG_LEN, Config, Io, Limits, MAILBOX_LEN_MIN, Pin, THREADS_MAX, Threads,
};

const COUNTS: RangeInclusive<u64> = 1..=1_000_000_000;
const THREADS: RangeInclusive<u64> = 1..=THREADS_MAX as u64;
const CORES: RangeInclusive<u64> = 0..=4095;
const IO_WORDS: [(&str, Io); 3] = [
    ("auto", Io::Auto),
    ("epoll", Io::Epoll),
    ("uring", Io::Uring),
];
/// What one message or value may take at most.
const MESSAGE_BYTES: RangeInclusive<u64> = 1..=1 << 30;
/// What may wait in one place at most.
const WAITING_BYTES: RangeInclusive<u64> = 1..=64 << 30;
/// What may come in a second: a read of one buffer at least.
const RATES: RangeInclusive<u64> = 1024..=64 << 30;
/// What the process may have at most.
const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// How long nothing has come from who is pinged.
const PINGS_MS: RangeInclusive<u64> = 1000..=600_000;
/// After how long a host that says nothing counts as dead.
const LEASES_MS: RangeInclusive<u64> = 1000..=600_000;
/// How long the answer may take.
const PONGS_MS: RangeInclusive<u64> = 1..=600_000;

/// The keys of ours.
pub(super) fn read(mut server: Section<'_, '_>, config: &mut Config, kind: FileKind, said: &Said) {
    server.refuse_doubled();
    engine::read(&mut server, config, kind, said);
    server.read("threads", &mut config.threads, threads);
    let threads = config.threads;
    server.read("pin", &mut config.pin, |node| pin(node, threads));
    server.count_or_none("place_below", &mut config.place_below, COUNTS);
    server.read("io", &mut config.io, |node| {
        one_of(&IO_WORDS, node, "auto, epoll or uring")
    });
    let mut backlog = BACKLOG_LEN;
    server.integer("backlog", &mut backlog, 1..=i32::MAX as u64);
    config.backlog = server.node("backlog").map(|_| backlog);
    server.read("auth_failure", &mut config.auth.failure, auth_failure);
    server.time_ms("auth_timeout_ms", &mut config.auth.timeout_ms, TIMES_MS);
    join_required(&mut server, config);
    server.read("join_failure", &mut config.join_failure, auth_failure);
    config.streams = super::streams::read(&mut server);
    origins(
        &mut server,
        "allowed_origins",
        &mut config.allowed_origins,
        "any",
    );
    let worker_origins = &mut config.worker_origins;
    origins(&mut server, "worker_origins", worker_origins, "loopback");
    trusted_proxies(&mut server, config);
    config.tls = tls::read(&mut server, "tls");
    config.worker_tls = tls::read(&mut server, "worker_tls");
    config.acme = tls::acme(&mut server, &config.stream);
    server.time_ms("call_timeout_ms", &mut config.call_timeout_ms, TIMES_MS);
    server.time_ms("drain_ms", &mut config.drain_ms, TIMES_MS);
    let limits = &mut config.limits;
    server.read(
        "ping_interval_ms",
        &mut limits.ping_interval_ms,
        ping_interval,
    );
    server.time_ms("pong_timeout_ms", &mut limits.pong_timeout_ms, PONGS_MS);
    server.time_ms("stall_timeout_ms", &mut limits.stall_timeout_ms, TIMES_MS);

    super::log::read(server.section("log"), &mut config.log);
    config.admin = super::admin::read(&mut server);
    redis(server.section("redis"), config);
    let limits = &mut config.limits;
    let mut keys = server.section("limits");
    keys.refuse_doubled();
    keys.count("connections", &mut limits.connections, COUNTS);
    keys.count("worker_connections", &mut limits.worker_connections, COUNTS);
    costs(&mut keys, limits);
    keys.time_ms("handshake_ms", &mut limits.handshake_ms, TIMES_MS);
    keys.bytes(
        "handshake_bytes",
        &mut limits.handshake_bytes,
        MESSAGE_BYTES,
    );
    keys.count("handshakes", &mut limits.handshakes, COUNTS);
    keys.bytes(
        "handshakes_bytes",
        &mut limits.handshakes_bytes,
        WAITING_BYTES,
    );
    keys.bytes("message_bytes", &mut limits.message_bytes, MESSAGE_BYTES);
    keys.bytes("call_bytes", &mut limits.call_bytes, MESSAGE_BYTES);
    keys.bytes(
        "partial_call_bytes",
        &mut limits.partial_call_bytes,
        WAITING_BYTES,
    );
    keys.bytes("name_bytes", &mut limits.name_bytes, MESSAGE_BYTES);
    keys.integer(
        "json_depth",
        &mut limits.json_depth,
        1..=super::JSON_DEPTH_MAX as u64,
    );
    keys.bytes("value_bytes", &mut limits.value_bytes, MESSAGE_BYTES);
    keys.count("update_ops", &mut limits.update_ops, COUNTS);
    keys.count("subscriptions", &mut limits.subscriptions, COUNTS);
    keys.count(
        "equal_subscriptions",
        &mut limits.equal_subscriptions,
        COUNTS,
    );
    keys.count("members_per_group", &mut limits.members_per_group, COUNTS);
    keys.bytes("behind_bytes", &mut limits.behind_bytes, WAITING_BYTES);
    keys.count(
        "custom_events_behind",
        &mut limits.custom_events_behind,
        COUNTS,
    );
    keys.bytes(
        "behind_bytes_worker",
        &mut limits.behind_bytes_worker,
        WAITING_BYTES,
    );
    keys.count(
        "mailbox_len",
        &mut limits.mailbox_len,
        MAILBOX_LEN_MIN as u64..=1 << 20,
    );
    keys.bytes("mailbox_bytes", &mut limits.mailbox_bytes, WAITING_BYTES);
    keys.count("calls_in_flight", &mut limits.calls_in_flight, COUNTS);
    keys.count("joins_in_flight", &mut limits.joins_in_flight, COUNTS);
    keys.bytes(
        "call_queue_bytes",
        &mut limits.call_queue_bytes,
        WAITING_BYTES,
    );
    keys.count("early_triggers", &mut limits.early_triggers, COUNTS);
    keys.bytes(
        "early_triggers_bytes",
        &mut limits.early_triggers_bytes,
        WAITING_BYTES,
    );
    keys.done();
    server.done();
}

/// What one peer may cost in a second, and what all may together.
fn costs(keys: &mut Section<'_, '_>, limits: &mut Limits) {
    keys.count_or_none(
        "connections_per_address",
        &mut limits.connections_per_address,
        COUNTS,
    );
    keys.count_or_none("accepts_per_s", &mut limits.accepts_per_s, COUNTS);
    keys.count_or_none("joins_per_s", &mut limits.joins_per_s, COUNTS);
    keys.bytes_or_none("read_bytes_per_s", &mut limits.read_bytes_per_s, RATES);
    keys.count_or_none("calls_per_s", &mut limits.calls_per_s, COUNTS);
    keys.bytes_or_none(
        "worker_read_bytes_per_s",
        &mut limits.worker_read_bytes_per_s,
        RATES,
    );
    let mut memory_bytes = 0;
    match keys.node("memory_bytes").map(|node| &node.value) {
        None => keys.show("memory_bytes", "auto".into()),
        Some(Value::Text(text)) if text == "auto" => keys.show("memory_bytes", "auto".into()),
        Some(_) => {
            keys.bytes_or_none("memory_bytes", &mut memory_bytes, MEMORY);
            limits.memory_bytes = Some(memory_bytes);
        }
    }
}

/// How long Redis may take, and how much is asked of it at once.
fn redis(mut keys: Section<'_, '_>, config: &mut Config) {
    keys.refuse_doubled();
    let mut connect_timeout_ms = CONNECT_TIMEOUT_MS;
    let mut in_flight = IN_FLIGHT;
    let mut lease_ms = LEASE_MS;
    keys.time_ms("connect_timeout_ms", &mut connect_timeout_ms, TIMES_MS);
    keys.count("in_flight", &mut in_flight, COUNTS);
    keys.time_ms("lease_ms", &mut lease_ms, LEASES_MS);
    keys.done();
    if let StoreConfig::Redis(store) = &mut config.store {
        store.connect_timeout = Duration::from_millis(connect_timeout_ms);
        store.in_flight = in_flight;
        store.lease = Duration::from_millis(lease_ms);
        store.call_timeout = Duration::from_millis(config.call_timeout_ms);
    }
}

/// In milliseconds; 0: never.
fn ping_interval(node: &Node) -> Result<u64, String> {
    let (min, max) = (PINGS_MS.start(), PINGS_MS.end());
    let expected = format!("0 or milliseconds from {min} to {max}, as 25000 or 25s");
    match node.value {
        Value::Integer(0) => Ok(0),
        _ => quantity(node, &UNITS_TIME, &PINGS_MS, &expected),
    }
}

fn auth_failure(node: &Node) -> Result<AuthFailure, String> {
    match &node.value {
        Value::Text(text) if text == "refuse" => Ok(AuthFailure::Refuse),
        Value::Text(text) if text == "allow" => Ok(AuthFailure::Allow),
        _ => Err(mismatch(node, "refuse or allow")),
    }
}

/// A list of names of streams. An empty name would guard none.
fn join_required(server: &mut Section<'_, '_>, config: &mut Config) {
    let expected = "a list of names of streams";
    let streams = server.items("join_required", expected, |report, path, node| {
        let checked = match &node.value {
            Value::Text(text) if !text.is_empty() => Ok(text.clone()),
            _ => Err(mismatch(node, "the name of a stream")),
        };
        checked
            .map_err(|what| report.fault(node.span.start, &path, what))
            .ok()
    });
    if let Some(streams) = streams {
        server.show("join_required", streams.clone().into());
        config.join_required = streams;
    }
}

/// A list of origins. `default` is what its absence is shown as; an empty one could mean that or
/// nobody.
fn origins(
    server: &mut Section<'_, '_>,
    key: &'static str,
    target: &mut Vec<OriginRule>,
    default: &str,
) {
    let expected = "a list of origins, as https://example.com";
    let Some(origins) = server.items(key, expected, origin) else {
        return;
    };
    match server.node(key).map(|node| &node.value) {
        Some(Value::List(items)) if items.is_empty() => server.fault(
            key,
            format_args!("is an empty list, expected an origin or no such key ({default})"),
        ),
        Some(Value::List(_)) => {
            let shown: Vec<String> = origins.iter().map(OriginRule::to_string).collect();
            server.show(key, shown.into());
        }
        _ => server.show(key, default.into()),
    }
    *target = origins;
}

/// A list of addresses and networks.
fn trusted_proxies(server: &mut Section<'_, '_>, config: &mut Config) {
    let expected = "a list of addresses and networks, as 127.0.0.1 or 10.0.0.0/8";
    let proxies = server.items("trusted_proxies", expected, |report, path, node| {
        let checked = match &node.value {
            Value::Text(text) => {
                let network = text.parse::<Network>();
                network.map_err(|what| format!("{text:?}: {what}"))
            }
            _ => Err(mismatch(node, "an address or a network, as 10.0.0.0/8")),
        };
        checked
            .map_err(|what| report.fault(node.span.start, &path, what))
            .ok()
    });
    if let Some(proxies) = proxies {
        let shown: Vec<String> = proxies.iter().map(Network::to_string).collect();
        server.show("trusted_proxies", shown.into());
        config.trusted_proxies = Proxies(proxies);
    }
}

/// None: it is at fault, and the report says so.
fn origin(report: &mut Report, path: String, node: &Node) -> Option<OriginRule> {
    let checked = match &node.value {
        Value::Text(text) => origin_rule(text),
        Value::Null => Err("is null, expected an origin (\"null\" in quotes is one)".to_owned()),
        _ => Err(mismatch(node, "an origin, as https://example.com")),
    };
    checked
        .map_err(|what| report.fault(node.span.start, &path, what))
        .ok()
}

fn threads(node: &Node) -> Result<Threads, String> {
    match &node.value {
        Value::Text(text) if text == "auto" => Ok(Threads::Auto),
        _ => integer(node, &THREADS, "auto or an integer from 1 to 256").map(Threads::Count),
    }
}

fn pin(node: &Node, threads: Threads) -> Result<Pin, String> {
    let expected = "auto, none or a list of core numbers";
    let cores: Vec<usize> = match &node.value {
        Value::Text(text) if text == "auto" => return Ok(Pin::Auto),
        Value::Text(text) if text == "none" => return Ok(Pin::None),
        Value::List(items) => {
            let core =
                |item: &std::rc::Rc<Node>| integer(item, &CORES, "a core number from 0 to 4095");
            items.iter().map(core).collect::<Result<_, _>>()?
        }
        _ => return Err(mismatch(node, expected)),
    };
    match threads {
        _ if cores.is_empty() => {
            Err("is an empty list, expected one core for each thread".to_owned())
        }
        Threads::Count(threads) if cores.len() < threads => Err(format!(
            "has {} for {threads} threads, expected at least {threads}",
            cores.len()
        )),
        _ => Ok(Pin::Cores(cores)),
    }
}

impl From<Threads> for Json {
    fn from(threads: Threads) -> Json {
        match threads {
            Threads::Auto => "auto".into(),
            Threads::Count(count) => count.into(),
        }
    }
}

impl From<Io> for Json {
    fn from(io: Io) -> Json {
        word_of(&IO_WORDS, io).into()
    }
}

impl From<AuthFailure> for Json {
    fn from(failure: AuthFailure) -> Json {
        match failure {
            AuthFailure::Refuse => "refuse".into(),
            AuthFailure::Allow => "allow".into(),
        }
    }
}

impl From<Pin> for Json {
    fn from(pin: Pin) -> Json {
        match pin {
            Pin::Auto => "auto".into(),
            Pin::None => "none".into(),
            Pin::Cores(cores) => cores.into(),
        }
    }
}
