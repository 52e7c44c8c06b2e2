//! The list of SDK workers, row by row: a worker's functions are gone through in turns as well.

use core::net::IpAddr; // an address is data

use crate::id::SlotId;
use crate::protocol::json::text;
use crate::protocol::listing::{WorkerRow, inputs};

use crate::broker::members::Member;
use crate::broker::own::part::Part;
use crate::broker::own::present::Place;
use crate::broker::own::sources::Sources;
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

/// How far the list is.
pub(super) struct WorkerRows {
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
    pub(super) fn new(wanted: Option<&str>, asks: SlotId) -> WorkerRows {
        WorkerRows {
            wanted: wanted.map(Box::from),
            asks,
            after: None,
            functions: None,
        }
    }

    /// Goes on with the list. True when it is whole.
    pub(super) fn go_on(&mut self, sources: &Sources<'_>, part: &mut Part<'_>) -> bool {
        while part.goes_on() {
            if let Some(functions) = &mut self.functions {
                match functions.look_at_one(sources) {
                    true => part.looked_at += 1,
                    false => {
                        self.finish_row(sources, part);
                        if self.wanted.is_some() {
                            return true;
                        }
                    }
                }
            } else if !self.begin_row(sources, part) {
                return true;
            }
        }
        false
    }

    /// Begins the next row, or writes it where it is one of ours. False when there are no more.
    fn begin_row(&mut self, sources: &Sources<'_>, part: &mut Part<'_>) -> bool {
        let wanted = self.wanted.as_deref();
        let after = self.after.as_ref().map(|(name, id)| (&**name, &**id));
        let mut ours = PARTS.iter().filter(|(name, ..)| match wanted {
            Some(wanted) => *name == wanted && after.is_none(),
            None => after.is_none_or(|after| (*name, *name) > after),
        });
        let ours = ours.next();
        let theirs = match wanted {
            Some(wanted) => sources.present.wanted(&sources.turn.members, wanted),
            None => sources.present.next(self.after.as_ref()),
        };
        match (ours, theirs) {
            (Some((name, ..)), Some(((theirs, id), _))) if (*name, *name) > (theirs, id) => {}
            (Some(ours), _) => {
                write_part(sources, part, ours);
                self.after = Some((ours.0.into(), ours.0.into()));
                return true;
            }
            (None, None) => return false,
            (None, Some(_)) => {}
        }
        let Some((place, id)) = theirs else {
            return false;
        };
        self.after = Some(place.clone());
        part.looked_at += 1;
        let peer = sources.turn.members.get(id);
        // Those that never described themselves are told only to who asks for them.
        if wanted.is_some() || peer.is_some_and(|peer| peer.profile.has_pid()) {
            self.functions = Some(Functions {
                of: id,
                after: None,
                count: 0,
                ids: b"[".to_vec(),
            });
        }
        true
    }

    fn finish_row(&mut self, sources: &Sources<'_>, part: &mut Part<'_>) {
        let Some(mut functions) = self.functions.take() else {
            return;
        };
        functions.ids.push(b']');
        let ids = String::from_utf8(functions.ids).unwrap_or_default();
        let Some(peer) = sources.turn.members.get(functions.of) else {
            return; // it has gone meanwhile
        };
        let is_asking = usize::from(self.asks == functions.of); // this very call
        let active_invocations = sources.calls.active_of(functions.of) as usize + is_asking;
        let worker_id = peer.worker_id.to_string();
        let ip_address = peer.ip.as_ref().map(IpAddr::to_string);
        let row = worker_row(peer, &worker_id, ip_address.as_deref());
        let row = WorkerRow {
            active_invocations,
            function_count: functions.count,
            functions: &ids,
            ..row
        };
        part.look_at(row.is_listed(self.wanted.as_deref()), |out| row.write(out));
    }
}

impl Functions {
    /// Goes through one function more of the worker. False when there are no more.
    fn look_at_one(&mut self, sources: &Sources<'_>) -> bool {
        let members = &sources.turn.members;
        let Some(function_id) = members.function_behind(self.of, self.after.as_deref()) else {
            return false;
        };
        let namespace = members.get(self.of);
        let namespace = namespace.and_then(|peer| peer.namespace.as_deref());
        let function = FunctionRef::new(&function_id, namespace);
        if sources.functions.owner_of(function) == Some(self.of) {
            if self.count > 0 {
                self.ids.push(b',');
            }
            self.count += 1;
            text::write_string(&mut self.ids, &function_id);
        }
        self.after = Some(function_id);
        true
    }
}

fn write_part(
    sources: &Sources<'_>,
    part: &mut Part<'_>,
    (name, is_internal, prefix): &(&str, bool, Option<&str>),
) {
    let functions = match prefix {
        Some(prefix) => sources.functions.ours_below(prefix),
        None => Vec::new(),
    };
    let mut ids = Vec::new();
    text::write_strings(&mut ids, &functions);
    let ids = String::from_utf8(ids).unwrap_or_default();
    let functions = (functions.len(), &*ids);
    let started_ms = sources.started_ms;
    let row = WorkerRow::built_in(name, *is_internal, functions, started_ms, OUR_VERSION);
    part.look_at(true, |out| row.write(out));
}

fn worker_row<'a>(peer: &'a Member, id: &'a str, ip_address: Option<&'a str>) -> WorkerRow<'a> {
    WorkerRow {
        id,
        connected_at_ms: peer.connected_at_ms.unwrap_or_default(),
        ip_address,
        ..peer.profile.row()
    }
}
