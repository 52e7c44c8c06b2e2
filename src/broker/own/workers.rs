//! SDK workers describe themselves; and who hears that they come and go.

use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::notes::Shown;
use crate::protocol::answer;
use crate::protocol::call::ErrorBody;
use crate::protocol::connection::close_frame;
use crate::protocol::listing::inputs;
use crate::protocol::trigger::payload::{WorkerEvent, workers_available};

use crate::broker::Broker;
use crate::broker::own::Done;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::firing::Firing;

/// The version that listings give for the parts of this server.
pub(in crate::broker) const OUR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest word of a worker about itself: it is kept.
const PROFILE_BYTES_MAX: usize = 16 * 1024;

impl Broker {
    /// `engine::workers::register`.
    pub(in crate::broker) fn register_worker(
        &mut self,
        id: Option<SlotId>,
        data: &str,
    ) -> Result<Done, ErrorBody> {
        if data.len() > PROFILE_BYTES_MAX {
            let why = format!(
                "what a worker tells about itself is too long: {} > {PROFILE_BYTES_MAX} bytes",
                data.len()
            );
            return Err(ErrorBody::new("invocation_error", why));
        }
        let told = inputs::register_worker(data)?;
        if let (Some(id), Some(namespace)) = (id, &told.namespace)
            && let Err(error) = self.settle_worker_in(id, namespace)
        {
            // Its functions must not answer for another namespace than the one that it means.
            self.reject(id, &error, namespace, told.name.as_deref());
            return Err(error);
        }
        let done = Done::with_result(r#"{"success":true}"#.to_owned());
        let Some(peer) = id.and_then(|id| self.members.get_mut(id)) else {
            return Ok(done); // a trigger's call is about nobody
        };
        let (worker_id, is_there) = (peer.worker_id, peer.connected_at_ms.is_some());
        let before = peer.profile.name().map(Box::<str>::from);
        peer.profile.update(told);
        if let Some(id) = id.filter(|_| is_there) {
            self.present.remove(worker_id, before.as_deref());
            self.present.enter(id, worker_id, peer.profile.name());
        }
        Ok(done.then(heard_by(WorkerEvent::MetadataUpdated, &worker_id)))
    }

    /// The worker may not stand where it wants to: it hears why, and its socket ends.
    fn reject(&mut self, id: SlotId, error: &ErrorBody, namespace: &str, name: Option<&str>) {
        let what = format_args!("it is not let in: {}", Shown(&error.message));
        self.warn_of(id, "namespace refused", namespace, what);
        self.members.send(id, |out| {
            answer::registration_rejected(out, error, namespace, name.unwrap_or_default());
        });
        self.close(id, close_frame(Some(1008), "namespace refused"));
    }

    /// An SDK worker is there from now on.
    pub(in crate::broker) fn worker_has_come(&mut self, id: SlotId) {
        let now_ms = self.now.wall_ms;
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        peer.connected_at_ms = Some(now_ms);
        let worker_id = peer.worker_id;
        self.present.enter(id, worker_id, peer.profile.name());
        self.tell_of_worker(WorkerEvent::Connected, &worker_id);
    }

    /// An SDK worker has gone, its functions and triggers too. Nothing, if it had never come.
    pub(in crate::broker) fn worker_has_gone(&mut self, id: SlotId) {
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        let worker_id = peer.worker_id;
        if peer.connected_at_ms.take().is_some() {
            self.present.remove(worker_id, peer.profile.name());
            self.tell_of_worker(WorkerEvent::Disconnected, &worker_id);
        }
    }

    /// At the end of the process nobody is told: such calls would hold it up.
    fn tell_of_worker(&mut self, event: WorkerEvent, worker_id: &Uuid) {
        if !self.is_draining {
            self.fire_all(heard_by(event, worker_id));
        }
    }
}

fn heard_by(event: WorkerEvent, worker_id: &Uuid) -> Firing {
    let payload = Text::from(workers_available(event, worker_id));
    Firing::of_server(Audience::WorkersAvailable, payload)
}
