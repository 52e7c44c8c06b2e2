//! Questions that workers are asked, each by several: who has still to answer, and what their answers are
//! together, as JSON.
//!
//! May not know who waits for the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::id::{GroupKey, SlotId, WorkerId};
use crate::mesh::Shared;
use crate::mesh::inquiries::{
    Asker, ClosedSocket, Findings, GroupOrder, Question, SocketLook, SocketOrder,
};
use crate::metrics::Closed;
use crate::shard::{GroupLook, ItemsLook};

use super::http::Answer;
use super::routes::Route;

/// A worker that has not answered by then has more to do than to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a page of a group's items holds at most.
const ITEMS_BYTES: usize = 1024 * 1024;
/// A longer value is shown by its beginning.
const VALUE_BYTES: usize = 16 * 1024;
const VALUE_SHOWN_BYTES: usize = 1024;

/// What is asked and not answered yet.
pub(super) struct Asked {
    asker: Asker,
    /// By number, which rises.
    open: Vec<Open>,
    next_number: u64,
}

struct Open {
    number: u64,
    /// Whose connection waits.
    peer: SlotId,
    until: Instant,
    /// Answers that are still to come.
    waits: usize,
    what: What,
}

/// What is asked, and what has come so far.
enum What {
    /// The names of the first groups, of all workers.
    FirstGroups(GroupOrder, usize, Vec<GroupKey>),
    /// The same groups, looked up by all.
    Groups(GroupOrder, usize, Vec<GroupRow>),
    Sockets(SocketOrder, usize, Vec<SocketLook>, usize),
    Closed(Option<Closed>, usize, Vec<ClosedSocket>),
    /// A group: how many follow it on each worker, and what its owner says.
    Group(GroupKey, Vec<usize>, Option<(GroupLook, ItemsLook)>),
}

struct GroupRow {
    key: GroupKey,
    look: Option<GroupLook>,
    subscribers: usize,
}

impl Asked {
    pub(super) fn new(asker: Asker) -> Asked {
        Asked {
            asker,
            open: Vec::new(),
            next_number: 0,
        }
    }

    /// When the first of them is given up.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.until).min()
    }

    /// Asks the workers for what that route wants. `Some`: there is nothing to wait for.
    pub(super) fn ask(
        &mut self,
        route: Route,
        peer: SlotId,
        shared: &Shared,
        now: Instant,
    ) -> Option<Answer> {
        let workers = shared.workers.len();
        let (what, question) = match route {
            Route::Groups(order, most) => (
                What::FirstGroups(order, most, Vec::new()),
                Question::FirstGroups(order, most),
            ),
            Route::Sockets(order, most) => (
                What::Sockets(order, most, Vec::new(), 0),
                Question::Sockets(order, most),
            ),
            Route::Closed(reason, most) => (
                What::Closed(reason, most, Vec::new()),
                Question::Closed(reason, most),
            ),
            Route::Group(key, from, items) => {
                let owner = shared.owners.owner_of(&key);
                let keys: Arc<[GroupKey]> = Arc::from([key.clone()]);
                let what = What::Group(key.clone(), vec![0; workers], None);
                let number = self.begin(peer, what, now);
                let mut is_asked = self.ask_all(number, &Question::Groups(keys), shared);
                let question = Question::Items(key, from, items, ITEMS_BYTES);
                is_asked &= self.ask_one(number, owner, question, shared);
                return self.unless_asked(number, is_asked);
            }
            _ => return Some(Answer::error(404, "no such path")),
        };
        let number = self.begin(peer, what, now);
        let is_asked = self.ask_all(number, &question, shared);
        self.unless_asked(number, is_asked)
    }

    fn begin(&mut self, peer: SlotId, what: What, now: Instant) -> u64 {
        self.next_number += 1;
        self.open.push(Open {
            number: self.next_number,
            peer,
            until: now + PATIENCE,
            waits: 0,
            what,
        });
        self.next_number
    }

    fn ask_all(&mut self, number: u64, question: &Question, shared: &Shared) -> bool {
        let workers = 0..shared.workers.len() as u16;
        workers.fold(true, |all, worker| {
            all & self.ask_one(number, WorkerId(worker), question.clone(), shared)
        })
    }

    fn ask_one(
        &mut self,
        number: u64,
        worker: WorkerId,
        question: Question,
        shared: &Shared,
    ) -> bool {
        let inquiries = &shared.inquiries[worker.index()];
        let is_asked = self.asker.ask(inquiries, question, number);
        let mut open = self.open.iter_mut();
        if is_asked && let Some(open) = open.find(|open| open.number == number) {
            open.waits += 1;
            shared.wake(worker.index());
        }
        is_asked
    }

    fn unless_asked(&mut self, number: u64, is_asked: bool) -> Option<Answer> {
        if is_asked {
            return None;
        }
        self.open.retain(|open| open.number != number);
        Some(Answer::error(503, "the workers have enough to answer"))
    }

    /// Nobody waits for that answer any more.
    pub(super) fn forget(&mut self, peer: SlotId) {
        self.open.retain(|open| open.peer != peer);
    }

    /// What is answered by now, and for whom.
    pub(super) fn take(&mut self, shared: &Shared, now: Instant) -> Vec<(SlotId, Answer)> {
        let mut answered = Vec::new();
        while let Some(found) = self.asker.take() {
            let is_it = |open: &Open| open.number == found.number;
            let Some(at) = self.open.iter().position(is_it) else {
                continue; // given up
            };
            let open = &mut self.open[at];
            open.waits -= 1;
            open.what.add(found.worker, found.findings);
            if open.waits > 0 {
                continue;
            }
            let open = self.open.swap_remove(at);
            match open.what {
                // By name each worker says what it knows of them.
                What::FirstGroups(order, most, keys) => {
                    let row = |key: &GroupKey| GroupRow {
                        key: key.clone(),
                        look: None,
                        subscribers: 0,
                    };
                    let what = What::Groups(order, most, keys.iter().map(row).collect());
                    let number = self.begin(open.peer, what, now);
                    let is_asked = self.ask_all(number, &Question::Groups(keys.into()), shared);
                    let answer = self.unless_asked(number, is_asked);
                    answered.extend(answer.map(|answer| (open.peer, answer)));
                }
                what => answered.push((open.peer, what.answer(shared))),
            }
        }
        for open in self.open.extract_if(.., |open| open.until <= now) {
            let answer = Answer::error(503, "a worker has not answered in time");
            answered.push((open.peer, answer));
        }
        answered
    }
}

impl What {
    fn add(&mut self, worker: WorkerId, findings: Findings) {
        match (self, findings) {
            (What::FirstGroups(_, _, keys), Findings::FirstGroups(more)) => {
                keys.extend(more);
                keys.sort();
                keys.dedup();
            }
            (What::Groups(_, _, rows), Findings::Groups(found)) => {
                for (row, (look, subscribers)) in rows.iter_mut().zip(found) {
                    row.look = row.look.or(look);
                    row.subscribers += subscribers;
                }
            }
            (What::Sockets(_, _, rows, len), Findings::Sockets(more, more_len)) => {
                rows.extend(more);
                *len += more_len;
            }
            (What::Closed(_, _, rows), Findings::Closed(more)) => rows.extend(more),
            (What::Group(_, subscribers, _), Findings::Groups(found)) => {
                if let (Some((_, len)), Some(place)) =
                    (found.first(), subscribers.get_mut(worker.index()))
                {
                    *place = *len;
                }
            }
            (What::Group(_, _, items), Findings::Items(found)) => *items = found,
            _ => {}
        }
    }

    fn answer(self, shared: &Shared) -> Answer {
        let json = match self {
            What::FirstGroups(..) => return Answer::error(503, "not looked up"),
            What::Groups(order, most, rows) => groups(order, most, rows, shared),
            What::Sockets(order, most, rows, len) => sockets(order, most, rows, len),
            What::Closed(reason, most, rows) => closed(reason, most, rows, shared),
            What::Group(key, subscribers, found) => {
                return group(&key, &subscribers, found, shared);
            }
        };
        Answer::json(200, json.to_string())
    }
}

fn groups(order: GroupOrder, most: usize, mut rows: Vec<GroupRow>, shared: &Shared) -> Value {
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
    let rows = rows.iter().map(|row| {
        let mut shown = look_json(row.look);
        shown["stream"] = row.key.stream().into();
        shown["group"] = row.key.group().into();
        shown["owner"] = shared.owners.owner_of(&row.key).index().into();
        shown["subscribers"] = row.subscribers.into();
        shown
    });
    let rows: Vec<Value> = rows.collect();
    json!({"sort": name_of_order(order), "total": total, "groups": rows})
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

fn sockets(order: SocketOrder, most: usize, mut rows: Vec<SocketLook>, len: usize) -> Value {
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

fn closed(
    reason: Option<Closed>,
    most: usize,
    mut rows: Vec<ClosedSocket>,
    shared: &Shared,
) -> Value {
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
    let rows = rows.iter().map(|row| {
        json!({
            "at_ms": row.at_ms,
            "peer": row.peer.map(|peer| peer.to_string()),
            "reason": row.reason.name(),
            "code": row.code,
            "age_ms": row.age_ms,
            "behind_bytes": row.behind_bytes,
            "behind_events": row.behind_events,
            "blocked_ms": row.blocked_ms,
            "subscriptions": row.subscriptions,
            "worker": row.worker.index(),
        })
    });
    let rows: Vec<Value> = rows.collect();
    let reason = reason.map(Closed::name);
    json!({"reason": reason, "counts": counts, "closed": rows})
}

/// One item of a group.
#[derive(Serialize)]
struct ItemJson<'a> {
    id: &'a str,
    bytes: usize,
    /// Its value as it was set, unless it is too long for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    /// The beginning of a value that is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins: Option<&'a str>,
}

fn group(
    key: &GroupKey,
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
            value: is_short.then(|| serde_json::from_str(value).ok()).flatten(),
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
