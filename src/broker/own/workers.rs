//! SDK workers describe themselves.

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer;
use crate::protocol::call::ErrorBody;
use crate::protocol::connection::close_frame;
use crate::protocol::listing::inputs;

use crate::broker::Broker;
use crate::broker::own::Done;
use crate::broker::turn::Turn;

/// The version that listings give for the parts of this server.
pub(in crate::broker) const OUR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest word of a worker about itself: it is kept.
const PROFILE_BYTES_MAX: usize = 16 * 1024;

impl Broker {
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
        let done = Done::with_result(r#"{"success":true}"#.to_owned());
        let Some(id) = id else {
            return Ok(done); // a trigger's call is about nobody
        };
        let turn = &mut self.turn;
        if let Some(namespace) = &told.namespace {
            match turn.members.settle_in(id, namespace) {
                Ok(None) => {}
                Ok(Some(name)) => self.endings.begin_settling(turn, id, name),
                // Its functions must not answer for another namespace than the one that it means.
                Err(error) => {
                    reject(turn, id, &error, namespace, told.name.as_deref());
                    return Err(error);
                }
            }
        }
        let told = self.present.describe(turn, id, told);
        Ok(match told {
            Some(firing) => done.then(firing),
            None => done,
        })
    }
}

/// The worker may not stand where it wants to: it hears why, and its socket ends.
fn reject(turn: &mut Turn, id: SlotId, error: &ErrorBody, namespace: &str, name: Option<&str>) {
    let what = format_args!("it is not let in: {}", Shown(&error.message));
    turn.warn_of(id, "namespace refused", namespace, what);
    turn.members.send(id, |out| {
        answer::registration_rejected(out, error, namespace, name.unwrap_or_default());
    });
    turn.close(id, close_frame(Some(1008), "namespace refused"));
}
