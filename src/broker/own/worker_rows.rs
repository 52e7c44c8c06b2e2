//! The list of SDK workers, row by row: a worker's functions are gone through in turns as well.

use core::net::IpAddr; // an address is data
use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;
use uuid::Uuid;

use crate::id::SlotId;
use crate::protocol::json::text;
use crate::protocol::listing::{WorkerRow, inputs};

use crate::broker::Broker;
use crate::broker::members::Member;
use crate::broker::own::part::Part;
use crate::broker::own::workers::OUR_VERSION;
use crate::broker::target::FunctionRef;

/// The parts of this server that listings show as workers, by name: whether each is internal, and what
/// the ids of its functions begin with.
const PARTS: [(&str, bool, Option<&str>); 4] = [
    ("iii-engine-functions", true, Some("engine::")),
    ("iii-pubsub", false, Some(inputs::PUBLISH)),
    ("iii-stream", false, Some("stream::")),
    ("iii-worker-manager", true, None),
];

/// A worker's place in the list: its name, or its id where it has none, and its id.
type Place = (Box<str>, Box<str>);

/// The SDK workers that are there, in the order of the list.
#[derive(Default)]
pub(in crate::broker) struct Present {
    by_place: BTreeMap<Place, SlotId>,
    by_id: HashMap<Uuid, SlotId>,
}

impl Present {
    /// It is there, or has another name than before.
    pub(in crate::broker) fn enter(&mut self, id: SlotId, worker_id: Uuid, name: Option<&str>) {
        self.by_id.insert(worker_id, id);
        self.by_place.insert(place_of(worker_id, name), id);
    }

    /// It is there no longer, or not under that name.
    pub(in crate::broker) fn remove(&mut self, worker_id: Uuid, name: Option<&str>) {
        self.by_id.remove(&worker_id);
        self.by_place.remove(&place_of(worker_id, name));
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.by_place.is_empty() && self.by_id.is_empty()
    }

    pub(in crate::broker) fn find(&self, worker_id: Uuid) -> Option<SlotId> {
        self.by_id.get(&worker_id).copied()
    }

    fn next(&self, after: Option<&Place>) -> Option<(&Place, SlotId)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.by_place.range((from, Bound::Unbounded)).next();
        next.map(|(place, id)| (place, *id))
    }
}

fn place_of(worker_id: Uuid, name: Option<&str>) -> Place {
    let id = worker_id.to_string();
    (name.unwrap_or(&id).into(), id.into())
}

/// How far the list is.
pub(in crate::broker) struct WorkerRows {
    /// The one that is asked for, by id; none: all.
    wanted: Option<Box<str>>,
    /// Who asks, in a call that is under way.
    asks: SlotId,
    /// The last one that was looked at.
    after: Option<Place>,
    /// The functions of the one after it, as far as they have been gone through.
    functions: Option<Functions>,
}

struct Functions {
    of: SlotId,
    after: Option<Box<str>>,
    count: usize,
    /// A JSON array that is not closed.
    ids: Vec<u8>,
}

impl WorkerRows {
    pub(in crate::broker) fn new(wanted: Option<&str>, asks: SlotId) -> WorkerRows {
        WorkerRows {
            wanted: wanted.map(Box::from),
            asks,
            after: None,
            functions: None,
        }
    }
}

impl Broker {
    /// Goes on with the list. True when it is whole.
    pub(in crate::broker) fn list_workers(
        &self,
        part: &mut Part<'_>,
        rows: &mut WorkerRows,
    ) -> bool {
        while part.goes_on() {
            if let Some(functions) = &mut rows.functions {
                match self.one_more_function(functions) {
                    true => part.looked_at += 1,
                    false => {
                        self.finish_row(part, rows);
                        if rows.wanted.is_some() {
                            return true;
                        }
                    }
                }
            } else if !self.begin_row(part, rows) {
                return true;
            }
        }
        false
    }

    /// Begins the next row, or writes it where it is one of ours. False when there are no more.
    fn begin_row(&self, part: &mut Part<'_>, rows: &mut WorkerRows) -> bool {
        let wanted = rows.wanted.as_deref();
        let after = rows.after.as_ref().map(|(name, id)| (&**name, &**id));
        let mut ours = PARTS.iter().filter(|(name, ..)| match wanted {
            Some(wanted) => *name == wanted && after.is_none(),
            None => after.is_none_or(|after| (*name, *name) > after),
        });
        let ours = ours.next();
        let theirs = match wanted {
            Some(wanted) => self.wanted_worker(wanted),
            None => self.present.next(rows.after.as_ref()),
        };
        match (ours, theirs) {
            (Some((name, ..)), Some(((theirs, id), _))) if (*name, *name) > (theirs, id) => {}
            (Some(ours), _) => {
                self.write_part(part, ours);
                rows.after = Some((ours.0.into(), ours.0.into()));
                return true;
            }
            (None, None) => return false,
            (None, Some(_)) => {}
        }
        let Some((place, id)) = theirs else {
            return false;
        };
        rows.after = Some(place.clone());
        part.looked_at += 1;
        let peer = self.members.get(id);
        // Those that never described themselves are told only to who asks for them.
        if wanted.is_some() || peer.is_some_and(|peer| peer.profile.has_pid()) {
            rows.functions = Some(Functions {
                of: id,
                after: None,
                count: 0,
                ids: b"[".to_vec(),
            });
        }
        true
    }

    fn wanted_worker(&self, wanted: &str) -> Option<(&Place, SlotId)> {
        let worker_id = Uuid::parse_str(wanted).ok()?;
        let id = self.present.find(worker_id)?;
        let name = self.members.get(id)?.profile.name();
        let place = place_of(worker_id, name);
        let (place, id) = self.present.by_place.get_key_value(&place)?;
        (*place.1 == *wanted).then_some((place, *id))
    }

    /// Goes through one function more of the worker. False when there are no more.
    fn one_more_function(&self, functions: &mut Functions) -> bool {
        let Some(function_id) = self.function_behind(functions.of, functions.after.as_deref())
        else {
            return false;
        };
        let namespace = self.members.get(functions.of);
        let namespace = namespace.and_then(|peer| peer.namespace.as_deref());
        let function = FunctionRef::new(&function_id, namespace);
        if self.functions.owner_of(function) == Some(functions.of) {
            if functions.count > 0 {
                functions.ids.push(b',');
            }
            functions.count += 1;
            text::write_string(&mut functions.ids, &function_id);
        }
        functions.after = Some(function_id);
        true
    }

    fn finish_row(&self, part: &mut Part<'_>, rows: &mut WorkerRows) {
        let Some(mut functions) = rows.functions.take() else {
            return;
        };
        functions.ids.push(b']');
        let ids = String::from_utf8(functions.ids).unwrap_or_default();
        let Some(peer) = self.members.get(functions.of) else {
            return; // it has gone meanwhile
        };
        let is_asking = usize::from(rows.asks == functions.of); // this very call
        let active_invocations = self.calls.active_of(functions.of) as usize + is_asking;
        let worker_id = peer.worker_id.to_string();
        let ip_address = peer.ip.as_ref().map(IpAddr::to_string);
        let row = worker_row(peer, &worker_id, ip_address.as_deref());
        let row = WorkerRow {
            active_invocations,
            function_count: functions.count,
            functions: &ids,
            ..row
        };
        part.look_at(row.is_listed(rows.wanted.as_deref()), |out| row.write(out));
    }

    fn write_part(
        &self,
        part: &mut Part<'_>,
        (name, is_internal, prefix): &(&str, bool, Option<&str>),
    ) {
        let functions = match prefix {
            Some(prefix) => self.functions.ours_below(prefix),
            None => Vec::new(),
        };
        let mut ids = Vec::new();
        text::write_strings(&mut ids, &functions);
        let ids = String::from_utf8(ids).unwrap_or_default();
        let functions = (functions.len(), &*ids);
        let row = WorkerRow::built_in(name, *is_internal, functions, self.started_ms, OUR_VERSION);
        part.look_at(true, |out| row.write(out));
    }
}

fn worker_row<'a>(peer: &'a Member, id: &'a str, ip_address: Option<&'a str>) -> WorkerRow<'a> {
    WorkerRow {
        id,
        connected_at_ms: peer.connected_at_ms.unwrap_or_default(),
        ip_address,
        ..peer.profile.row()
    }
}
