//! The SDK workers that are there, in the order of the list; and who hears that they come and go.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;
use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::protocol::listing::inputs::RegisterWorker;
use crate::protocol::trigger::payload::{WorkerEvent, workers_available};

use crate::broker::members::Members;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::firing::Firing;
use crate::broker::turn::Turn;

/// A worker's place in the list: its name, or its id where it has none, and its id.
pub(super) type Place = (Box<str>, Box<str>);

/// The SDK workers that are there, in the order of the list.
#[derive(Default)]
pub(in crate::broker) struct Present {
    by_place: BTreeMap<Place, SlotId>,
    by_id: HashMap<Uuid, SlotId>,
}

impl Present {
    /// It is there, or has another name than before.
    fn enter(&mut self, id: SlotId, worker_id: Uuid, name: Option<&str>) {
        self.by_id.insert(worker_id, id);
        self.by_place.insert(place_of(worker_id, name), id);
    }

    /// It is there no longer, or not under that name.
    fn remove(&mut self, worker_id: Uuid, name: Option<&str>) {
        self.by_id.remove(&worker_id);
        self.by_place.remove(&place_of(worker_id, name));
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.by_place.is_empty() && self.by_id.is_empty()
    }

    pub(in crate::broker) fn find(&self, worker_id: Uuid) -> Option<SlotId> {
        self.by_id.get(&worker_id).copied()
    }

    /// The first one after that place.
    pub(super) fn next(&self, after: Option<&Place>) -> Option<(&Place, SlotId)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.by_place.range((from, Bound::Unbounded)).next();
        next.map(|(place, id)| (place, *id))
    }

    /// The one with that id, if it stands in the list.
    pub(super) fn wanted(&self, members: &Members, wanted: &str) -> Option<(&Place, SlotId)> {
        let worker_id = Uuid::parse_str(wanted).ok()?;
        let id = self.find(worker_id)?;
        let name = members.get(id)?.profile.name();
        let place = place_of(worker_id, name);
        let (place, id) = self.by_place.get_key_value(&place)?;
        (*place.1 == *wanted).then_some((place, *id))
    }

    /// An SDK worker is there from now on.
    pub(in crate::broker) fn worker_has_come(
        &mut self,
        turn: &mut Turn,
        triggers: &mut Triggers,
        id: SlotId,
    ) {
        let now_ms = turn.now.wall_ms;
        let Some(peer) = turn.members.get_mut(id) else {
            return;
        };
        peer.connected_at_ms = Some(now_ms);
        let worker_id = peer.worker_id;
        self.enter(id, worker_id, peer.profile.name());
        tell(turn, triggers, WorkerEvent::Connected, &worker_id);
    }

    /// An SDK worker has gone, its functions and triggers too. Nothing, if it had never come.
    pub(in crate::broker) fn worker_has_gone(
        &mut self,
        turn: &mut Turn,
        triggers: &mut Triggers,
        id: SlotId,
    ) {
        let Some(peer) = turn.members.get_mut(id) else {
            return;
        };
        let worker_id = peer.worker_id;
        if peer.connected_at_ms.take().is_some() {
            self.remove(worker_id, peer.profile.name());
            tell(turn, triggers, WorkerEvent::Disconnected, &worker_id);
        }
    }

    /// An SDK worker describes itself. Gives what is told of that, if it is about anybody.
    pub(super) fn describe(
        &mut self,
        turn: &mut Turn,
        id: SlotId,
        told: RegisterWorker<'_>,
    ) -> Option<Firing> {
        let peer = turn.members.get_mut(id)?;
        let (worker_id, is_there) = (peer.worker_id, peer.connected_at_ms.is_some());
        let before = peer.profile.name().map(Box::<str>::from);
        peer.profile.update(told);
        if is_there {
            self.remove(worker_id, before.as_deref());
            self.enter(id, worker_id, peer.profile.name());
        }
        Some(heard_by(WorkerEvent::MetadataUpdated, &worker_id))
    }
}

/// At the end of the process nobody is told: such calls would hold it up.
fn tell(turn: &mut Turn, triggers: &mut Triggers, event: WorkerEvent, worker_id: &Uuid) {
    if !turn.is_draining {
        triggers.fire_all(turn, heard_by(event, worker_id));
    }
}

fn heard_by(event: WorkerEvent, worker_id: &Uuid) -> Firing {
    let payload = Text::from(workers_available(event, worker_id));
    Firing::of_server(Audience::WorkersAvailable, payload)
}

fn place_of(worker_id: Uuid, name: Option<&str>) -> Place {
    let id = worker_id.to_string();
    (name.unwrap_or(&id).into(), id.into())
}
