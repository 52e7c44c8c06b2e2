//! What workers have found, as JSON.
//!
//! Pure but for the counters that it reads. May not know who is answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::id::GroupKey;
use crate::mesh::Shared;
use crate::mesh::inquiries::{ClosedSocket, GroupOrder, Search, SocketLook, SocketOrder};
use crate::metrics::Closed;
use crate::shard::{GroupLook, ItemsLook};

use super::http::Answer;

/// A longer value is shown by its beginning.
const VALUE_BYTES: usize = 16 * 1024;
const VALUE_SHOWN_BYTES: usize = 1024;

/// A group of a list, as far as it was looked up.
pub(super) struct GroupRow {
    pub(super) key: GroupKey,
    pub(super) look: Option<GroupLook>,
    pub(super) subscribers: usize,
}

pub(super) fn groups(
    order: GroupOrder,
    most: usize,
    mut rows: Vec<GroupRow>,
    shared: &Shared,
) -> Value {
    let look_of = |row: &GroupRow| row.look;
    let weight = |row: &GroupRow| match order {
        GroupOrder::Events => look_of(row).map_or(0, |look| look.events) as f64,
        GroupOrder::Pace => look_of(row).map_or(0.0, |look| f64::from(look.events_a_second)),
        GroupOrder::Subscribers => row.subscribers as f64,
        GroupOrder::Bytes => look_of(row).map_or(0, |look| look.holds.bytes) as f64,
    };
    rows.sort_by(|a, b| {
        weight(b)
            .total_cmp(&weight(a))
            .then_with(|| a.key.cmp(&b.key))
    });
    rows.truncate(most);
    let total: u64 = shared
        .workers
        .iter()
        .map(|worker| worker.groups.get())
        .sum();
    let rows: Vec<Value> = rows.iter().map(|row| group_json(row, shared)).collect();
    json!({"sort": name_of_order(order), "total": total, "groups": rows})
}

fn group_json(row: &GroupRow, shared: &Shared) -> Value {
    let mut shown = look_json(row.look);
    shown["stream"] = row.key.stream().into();
    shown["group"] = row.key.group().into();
    shown["owner"] = shared.owners.owner_of(&row.key).index().into();
    shown["subscribers"] = row.subscribers.into();
    shown
}

pub(super) fn streams(search: &Search, names: BTreeMap<Box<str>, usize>) -> Value {
    let rows = names.into_iter().take(search.most);
    let rows = rows.map(|(stream, groups)| json!({"stream": stream, "groups": groups}));
    let rows: Vec<Value> = rows.collect();
    let next = next_of(search, rows.len(), rows.last().map(|row| &row["stream"]));
    json!({"next": next, "streams": rows})
}

pub(super) fn named_groups(search: &Search, rows: &[GroupRow], shared: &Shared) -> Value {
    let rows: Vec<Value> = rows.iter().map(|row| group_json(row, shared)).collect();
    let next = next_of(search, rows.len(), rows.last().map(|row| &row["group"]));
    json!({"sort": "name", "stream": search.stream, "next": next, "groups": rows})
}

/// Behind which name the next ones come, if there may be any.
fn next_of(search: &Search, len: usize, last: Option<&Value>) -> Value {
    last.filter(|_| len >= search.most).cloned().into()
}

/// What came of a call, as an SDK worker would be told it.
#[derive(Deserialize)]
struct Called<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<CallError>,
}

#[derive(Deserialize)]
struct CallError {
    code: String,
    message: String,
}

pub(super) fn called(message: &[u8]) -> Answer {
    match serde_json::from_slice::<Called<'_>>(message) {
        Ok(Called {
            error: Some(CallError { code, message }),
            ..
        }) => {
            let json = json!({"error": message, "code": code});
            Answer::json(400, json.to_string())
        }
        Ok(Called { result, .. }) => {
            let result = result.map_or("null", RawValue::get);
            Answer::json(200, format!("{{\"result\":{result}}}"))
        }
        Err(_) => Answer::error(503, "the answer cannot be read"),
    }
}

fn name_of_order(order: GroupOrder) -> &'static str {
    match order {
        GroupOrder::Events => "events",
        GroupOrder::Pace => "pace",
        GroupOrder::Subscribers => "subscribers",
        GroupOrder::Bytes => "bytes",
    }
}

fn look_json(look: Option<GroupLook>) -> Value {
    let look = look.unwrap_or(GroupLook {
        holds: Default::default(),
        events: 0,
        events_a_second: 0.0,
        waiting: 0,
        ahead_ms: 0,
    });
    json!({
        "items": look.holds.items,
        "bytes": look.holds.bytes,
        "events": look.events,
        "events_per_second": (f64::from(look.events_a_second) * 100.0).round() / 100.0,
        "waiting": look.waiting,
        "ahead_ms": look.ahead_ms,
    })
}

pub(super) fn sockets(
    order: SocketOrder,
    most: usize,
    mut rows: Vec<SocketLook>,
    len: usize,
) -> Value {
    let weight = |row: &SocketLook| match order {
        SocketOrder::Behind => (row.behind_bytes as u64, row.blocked_ms.unwrap_or(0)),
        SocketOrder::Oldest => (row.age_ms, 0),
        SocketOrder::Bytes => (row.own_bytes as u64, 0),
        SocketOrder::Subscriptions => (row.subscriptions as u64, 0),
    };
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    rows.truncate(most);
    let sort = match order {
        SocketOrder::Behind => "behind",
        SocketOrder::Oldest => "oldest",
        SocketOrder::Bytes => "bytes",
        SocketOrder::Subscriptions => "subscriptions",
    };
    let rows: Vec<Value> = rows.iter().map(socket_json).collect();
    json!({"sort": sort, "total": len, "sockets": rows})
}

fn socket_json(row: &SocketLook) -> Value {
    let groups = row
        .groups
        .iter()
        .map(|key| json!([key.stream(), key.group()]));
    let groups: Vec<Value> = groups.collect();
    let kernel = row.kernel.map(|kernel| {
        json!({
            "rtt_us": kernel.rtt_us,
            "unacked": kernel.unacked,
            "retransmits": kernel.retransmits,
            "congestion_window": kernel.congestion_window,
            "last_ack_ms": kernel.last_ack_ms,
            "last_sent_ms": kernel.last_sent_ms,
            "acked_bytes": kernel.acked_bytes,
            "unsent_bytes": kernel.unsent_bytes,
            "window_limited_us": kernel.window_limited_us,
        })
    });
    json!({
        "worker": row.worker.index(),
        "id": format!("{}.{}.{}", row.worker.index(), row.slot, row.generation),
        "peer": row.peer.map(|peer| peer.to_string()),
        "age_ms": row.age_ms,
        "subscriptions": row.subscriptions,
        "groups": groups,
        "behind_bytes": row.behind_bytes,
        "behind_events": row.behind_events,
        "own_bytes": row.own_bytes,
        "blocked_ms": row.blocked_ms,
        "closing": row.is_closing,
        "why": why(row),
        "tcp": kernel,
    })
}

/// Why that socket is where it is, in one line.
fn why(row: &SocketLook) -> String {
    let Some(blocked_ms) = row.blocked_ms else {
        return match (row.is_closing, row.is_held) {
            (true, _) => "is being closed".to_owned(),
            (false, true) => "is left unread: joins, leaves or answers of it wait".to_owned(),
            (false, false) => "takes what it is sent".to_owned(),
        };
    };
    let seconds = blocked_ms as f64 / 1000.0;
    let kernel = row.kernel.unwrap_or_default();
    let cause = match kernel {
        _ if row.kernel.is_none() => "its kernel tells nothing",
        kernel if kernel.unacked > 0 && u64::from(kernel.last_ack_ms) > 3000 => {
            "nothing is acknowledged: the network, or the machine behind it, is gone"
        }
        kernel if kernel.window_limited_us > 0 && kernel.unacked == 0 => {
            "the client does not read: its receive window is full"
        }
        kernel if kernel.retransmits > 0 => "the network loses segments",
        _ => "more is sent than the client or its network takes",
    };
    format!("has taken no byte for {seconds:.1} s: {cause}")
}

pub(super) fn closed(
    reason: Option<Closed>,
    most: usize,
    mut rows: Vec<ClosedSocket>,
    shared: &Shared,
) -> String {
    rows.sort_by_key(|row| std::cmp::Reverse(row.at_ms));
    rows.truncate(most);
    let counts = Closed::ALL.map(|reason| {
        let workers = shared.workers.iter();
        let count: u64 = workers
            .map(|worker| worker.closed.of(reason as usize).get())
            .sum();
        (reason.name().to_owned(), Value::from(count))
    });
    let counts: serde_json::Map<String, Value> = counts.into_iter().collect();
    let closed = rows.iter().map(|row| ClosedJson {
        at_ms: row.at_ms,
        peer: row.peer,
        reason: row.reason.name(),
        code: row.code,
        age_ms: row.age_ms,
        behind_bytes: row.behind_bytes,
        behind_events: row.behind_events,
        blocked_ms: row.blocked_ms,
        subscriptions: row.subscriptions,
        worker: row.worker.index(),
    });
    let closed: Vec<ClosedJson> = closed.collect();
    let closed = serde_json::to_string(&closed).unwrap_or_else(|_| "[]".to_owned());
    let (counts, reason) = (Value::from(counts), json!(reason.map(Closed::name)));
    format!("{{\"reason\":{reason},\"counts\":{counts},\"closed\":{closed}}}")
}

/// One that has ended: there may be thousands, so they are written without a tree in between.
#[derive(Serialize)]
struct ClosedJson {
    at_ms: u64,
    peer: Option<SocketAddr>,
    reason: &'static str,
    code: Option<u16>,
    age_ms: u64,
    behind_bytes: usize,
    behind_events: u64,
    blocked_ms: Option<u64>,
    subscriptions: usize,
    worker: usize,
}

/// One item of a group.
#[derive(Serialize)]
struct ItemJson<'a> {
    id: &'a str,
    bytes: usize,
    /// Its value as it was set, unless it is too long for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    /// The same as a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The beginning of a value that is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins: Option<&'a str>,
}

pub(super) fn group(
    key: &GroupKey,
    as_text: bool,
    subscribers: &[usize],
    found: Option<(GroupLook, ItemsLook)>,
    shared: &Shared,
) -> Answer {
    let total: usize = subscribers.iter().sum();
    if found.is_none() && total == 0 {
        return Answer::error(
            404,
            "no such group: nothing is in it, and nobody follows it",
        );
    }
    let mut shown = look_json(found.as_ref().map(|(look, _)| *look));
    if let Some(shown) = shown.as_object_mut()
        && let Some(len) = shown.remove("items")
    {
        shown.insert("items_len".to_owned(), len);
    }
    shown["stream"] = key.stream().into();
    shown["group"] = key.group().into();
    shown["owner"] = shared.owners.owner_of(key).index().into();
    shown["subscribers"] = total.into();
    shown["subscribers_by_worker"] = subscribers.into();
    let items = found.as_ref().map_or(&[][..], |(_, items)| &items.items);
    let items = items.iter().map(|(id, value)| {
        let is_short = value.len() <= VALUE_BYTES;
        let begin = &value[..value.floor_char_boundary(VALUE_SHOWN_BYTES)];
        ItemJson {
            id,
            bytes: value.len(),
            value: (is_short && !as_text)
                .then(|| serde_json::from_str(value).ok())
                .flatten(),
            text: (is_short && as_text).then_some(value),
            begins: (!is_short).then_some(begin),
        }
    });
    let items: Vec<ItemJson<'_>> = items.collect();
    let next = found.as_ref().and_then(|(_, items)| items.next);
    let items = serde_json::to_string(&items).unwrap_or_else(|_| "[]".to_owned());
    // Values are kept as they were written: numbers too large for a double, and the order of keys.
    let mut json = shown.to_string();
    json.pop();
    json.push_str(&format!(",\"next\":{},\"items\":{items}}}", json!(next)));
    Answer::json(200, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;
    use crate::mesh::inquiries::KernelLook;

    fn socket(blocked_ms: Option<u64>, kernel: KernelLook) -> SocketLook {
        SocketLook {
            worker: WorkerId(0),
            slot: 1,
            generation: 2,
            peer: None,
            age_ms: 3,
            subscriptions: 1,
            behind_bytes: 4,
            behind_events: 5,
            own_bytes: 0,
            blocked_ms,
            is_closing: false,
            is_held: false,
            groups: vec![GroupKey::new("s", "a\"\n{b}<img>")],
            kernel: Some(kernel),
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_is_said_to_and_why() {
        let stuck = KernelLook {
            window_limited_us: 9,
            ..KernelLook::default()
        };
        assert_eq!(
            why(&socket(Some(2500), stuck)),
            "has taken no byte for 2.5 s: the client does not read: its receive window is full"
        );
        let gone = KernelLook {
            unacked: 3,
            last_ack_ms: 9000,
            ..stuck
        };
        assert!(why(&socket(Some(1), gone)).contains("nothing is acknowledged"));
        assert_eq!(why(&socket(None, stuck)), "takes what it is sent");
        let text = socket_json(&socket(None, stuck)).to_string();
        assert!(text.contains(r#"["s","a\"\n{b}<img>"]"#), "{text}");
    }
}
