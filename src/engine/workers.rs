//! SDK workers as people see them: what each tells about itself, and the list of all.

use std::net::IpAddr;

use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::log::Shown;
use crate::protocol::answer;
use crate::protocol::call::ErrorBody;
use crate::protocol::connection::close_frame;
use crate::protocol::listing::inputs::{self, RegisterWorker};
use crate::protocol::listing::{self, WorkerRow};
use crate::protocol::trigger::payload::{WorkerEvent, workers_available};

use super::Engine;
use super::own::Done;
use super::peers::Peer;
use super::target::FunctionRef;
use super::trigger::Called;

/// The version that listings give for the parts of this server.
pub(super) const OUR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The parts of this server that listings show as workers: a name, whether it is internal, and what
/// the ids of its functions begin with.
const PARTS: [(&str, bool, Option<&str>); 4] = [
    ("iii-engine-functions", true, Some("engine::")),
    ("iii-pubsub", false, Some(inputs::PUBLISH)),
    ("iii-stream", false, Some("stream::")),
    ("iii-worker-manager", true, None),
];

/// The longest word of a worker about itself: it is kept.
const PROFILE_BYTES_MAX: usize = 16 * 1024;

/// What an SDK worker tells about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Profile {
    runtime: Box<str>,
    version: Option<Box<str>>,
    name: Option<Box<str>>,
    os: Option<Box<str>>,
    isolation: Option<Box<str>>,
    pid: Option<u32>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            runtime: "unknown".into(),
            version: None,
            name: None,
            os: None,
            isolation: None,
            pid: None,
        }
    }
}

impl Profile {
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn runtime(&self) -> &str {
        &self.runtime
    }

    /// Runtime and version are those of the latest word, the others stay until they are given anew.
    fn update(&mut self, told: RegisterWorker<'_>) {
        self.runtime = told.runtime.as_deref().unwrap_or("unknown").into();
        self.version = told.version.as_deref().map(Box::from);
        for (kept, told) in [
            (&mut self.name, told.name),
            (&mut self.os, told.os),
            (&mut self.isolation, told.isolation),
        ] {
            if let Some(told) = told {
                *kept = Some((*told).into());
            }
        }
        self.pid = told.pid.or(self.pid);
    }
}

impl Engine {
    /// `engine::workers::register`.
    pub(super) fn register_worker(
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
        let Some(peer) = id.and_then(|id| self.peers.get_mut(id)) else {
            return Ok(done); // a trigger's call is about nobody
        };
        peer.profile.update(told);
        let worker_id = peer.worker_id;
        Ok(done.then(self.heard_by(WorkerEvent::MetadataUpdated, &worker_id)))
    }

    /// The worker may not stand where it wants to: it hears why, and its socket ends.
    fn reject(&mut self, id: SlotId, error: &ErrorBody, namespace: &str, name: Option<&str>) {
        let what = format_args!("it is not let in: {}", Shown(&error.message));
        self.warn_of(id, "namespace refused", namespace, what);
        self.peers.send(id, |out| {
            answer::registration_rejected(out, error, namespace, name.unwrap_or_default());
        });
        self.close_with(id, &close_frame(Some(1008), "namespace refused"));
    }

    /// `engine::workers::list`. `id`: the worker that asks.
    pub(super) fn list_workers(&self, id: Option<SlotId>, data: &str) -> Result<Done, ErrorBody> {
        let wanted = inputs::workers_list(data)?;
        let ids = self.peers.ids();
        let present: Vec<(SlotId, &Peer, Names)> = ids
            .into_iter()
            .filter_map(|id| Some((id, self.peers.get(id)?)))
            .filter(|(_, peer)| peer.connected_at_ms.is_some())
            .map(|(id, peer)| (id, peer, Names::of(peer)))
            .collect();
        let sdk_workers = present.iter().map(|(worker, peer, names)| {
            let is_asking = usize::from(id == Some(*worker)); // this very call
            let active_invocations = self.calls.active_of(*worker) as usize + is_asking;
            self.worker_row(*worker, peer, names, active_invocations)
        });
        let rows = sdk_workers.chain(self.parts()).collect();
        let list = listing::workers(rows, wanted.as_deref(), self.now.wall_ms);
        Ok(Done::with_result(list))
    }

    fn worker_row<'a>(
        &'a self,
        id: SlotId,
        peer: &'a Peer,
        names: &'a Names,
        active_invocations: usize,
    ) -> WorkerRow<'a> {
        let owned = peer.functions.iter().filter(|function| {
            let function = FunctionRef::new(function, peer.namespace.as_deref());
            self.functions.owner_of(function) == Some(id)
        });
        let mut functions: Vec<&str> = owned.map(|function| &**function).collect();
        functions.sort_unstable();
        let profile = &peer.profile;
        WorkerRow {
            id: &names.worker_id,
            name: profile.name.as_deref(),
            functions,
            active_invocations,
            connected_at_ms: peer.connected_at_ms.unwrap_or_default(),
            is_built_in: false,
            is_internal: false,
            ip_address: names.ip_address.as_deref(),
            isolation: profile.isolation.as_deref(),
            os: profile.os.as_deref(),
            pid: profile.pid,
            runtime: &profile.runtime,
            version: profile.version.as_deref(),
        }
    }

    fn parts(&self) -> impl Iterator<Item = WorkerRow<'_>> {
        PARTS.into_iter().map(|(name, is_internal, prefix)| {
            let functions = match prefix {
                Some(prefix) => self.functions.ours_below(prefix),
                None => Vec::new(),
            };
            WorkerRow::built_in(name, is_internal, functions, self.started_ms, OUR_VERSION)
        })
    }

    /// An SDK worker is there from now on.
    pub(super) fn worker_has_come(&mut self, id: SlotId) {
        let now_ms = self.now.wall_ms;
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.connected_at_ms = Some(now_ms);
        let worker_id = peer.worker_id;
        self.tell_of_worker(WorkerEvent::Connected, &worker_id);
    }

    /// An SDK worker has gone, its functions and triggers too. Nothing, if it had never come.
    pub(super) fn worker_has_gone(&mut self, id: SlotId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let worker_id = peer.worker_id;
        if peer.connected_at_ms.take().is_some() {
            self.tell_of_worker(WorkerEvent::Disconnected, &worker_id);
        }
    }

    /// At the end of the process nobody is told: such calls would hold it up.
    fn tell_of_worker(&mut self, event: WorkerEvent, worker_id: &Uuid) {
        if self.drain_until.is_none() {
            let heard = self.heard_by(event, worker_id);
            self.fire_all(heard.0, heard.1, None);
        }
    }

    fn heard_by(&mut self, event: WorkerEvent, worker_id: &Uuid) -> (Vec<Called>, Text) {
        let mut called = self.triggers.of_workers_available();
        self.keep_listeners(&mut called);
        (called, Text::from(workers_available(event, worker_id)))
    }
}

/// Texts that a row borrows.
struct Names {
    worker_id: String,
    ip_address: Option<String>,
}

impl Names {
    fn of(peer: &Peer) -> Names {
        Names {
            worker_id: peer.worker_id.to_string(),
            ip_address: peer.ip.as_ref().map(IpAddr::to_string),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    #[test]
    fn runtime_and_version_are_replaced_and_the_rest_stays() {
        let mut profile = Profile::default();
        let first = r#"{"runtime":"node","version":"1","name":"h:1","os":"linux","pid":7,"isolation":"vm"}"#;
        profile.update(inputs::register_worker(first).unwrap());
        profile.update(inputs::register_worker(r#"{"name":"h:2"}"#).unwrap());
        let wanted = Profile {
            runtime: "unknown".into(),
            version: None,
            name: Some("h:2".into()),
            os: Some("linux".into()),
            isolation: Some("vm".into()),
            pid: Some(7),
        };
        assert_eq!(profile, wanted);
    }
}
