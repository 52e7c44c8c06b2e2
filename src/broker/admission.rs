//! Whom auth functions let in: subscribers on the stream port, SDK workers on a listener with rules.
//!
//! May not touch the sockets that wait for a function's word.

use std::sync::Arc;

use uuid::Uuid;

use crate::broker::Broker;
use crate::broker::calls::ended::How;
use crate::broker::calls::{Answered, Awaits};
use crate::broker::effects::Effect;
use crate::broker::reattach::new_token;
use crate::id::SlotId;
use crate::mesh::{AuthRequest, AuthVerdict};
use crate::notes::Shown;
use crate::protocol::answer::{self, Outgoing};
use crate::protocol::auth::{AuthAnswer, worker_payload};
use crate::protocol::connection::{close_frame, text_header};
use crate::protocol::rbac::{Access, Grant, write_auth_error};

impl Broker {
    /// Asks the auth function about a subscriber's upgrade.
    pub(in crate::broker) fn authenticate(&mut self, request: AuthRequest) {
        let awaits = Awaits::Auth {
            worker: request.worker,
            connection: request.connection,
        };
        match self.auth.function_id.clone() {
            Some(function_id) => {
                let namespace = self.own_namespace();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(&function_id, &request.input)
                };
                self.ask(&asked, awaits);
            }
            None => self.end_call(awaits, "", How::NotFound),
        }
    }

    /// What its answer means: 401 where the function was asked and does not admit, 503 where nobody
    /// answered (spec: auth §3).
    pub(in crate::broker) fn auth_verdict(&self, answered: Answered<'_>) -> AuthVerdict {
        let admits_failures = self.auth.admits_failures;
        match answered {
            Answered::Result(result) => match AuthAnswer::read(result) {
                AuthAnswer::Admitted { context } => AuthVerdict::Admitted(context),
                answer if admits_failures => {
                    AuthVerdict::Admitted(answer.context_if_all_admitted())
                }
                AuthAnswer::Unauthorized { .. } => AuthVerdict::Unauthorized("it says no".into()),
                AuthAnswer::Nonsense => {
                    AuthVerdict::Unauthorized("it answers neither an object nor null".into())
                }
            },
            _ if admits_failures => AuthVerdict::Admitted(None),
            Answered::Failed(error) => {
                let (code, message) = (Shown(&error.code), Shown(&error.message));
                AuthVerdict::Unauthorized(format!("it throws: {code}: {message}").into())
            }
            Answered::NotFound => AuthVerdict::Unavailable("nobody has registered it".into()),
            Answered::Gone(_) => {
                AuthVerdict::Unavailable("its worker has gone while it was asked".into())
            }
            Answered::TimedOut(_) => {
                AuthVerdict::Unavailable("it has not answered within server.auth_timeout_ms".into())
            }
            Answered::Refused(cause) => {
                AuthVerdict::Unavailable(format!("it could not be asked: {cause}").into())
            }
        }
    }

    /// Asks the auth function of a listener about an SDK worker's socket with that request.
    pub fn ask_for_admission(&mut self, id: SlotId, function_id: &str, head: &[u8]) {
        let ip = self.members.get(id).and_then(|member| member.ip);
        let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
        let payload = worker_payload(head, ip);
        self.ask(&Outgoing::own(function_id, &payload), Awaits::Admission(id));
    }

    /// The auth function of a listener has answered about that socket, or could not.
    pub(in crate::broker) fn admission_heard(
        &mut self,
        id: SlotId,
        function_id: &str,
        answered: Answered<'_>,
    ) {
        let grant = match answered {
            Answered::Result(result) => Grant::read(result),
            failed => Err(failed
                .error(function_id)
                .map(|error| error.message)
                .unwrap_or_default()),
        };
        let member = self.members.get(id).filter(|member| !member.has_ended);
        let Some(listener) = member.map(|member| member.listener) else {
            return; // it has given up
        };
        match grant {
            Ok(grant) => {
                let rules = self.rules_of(listener);
                let exposed = rules.map(|rules| Arc::clone(&rules.exposed));
                let access = Access::limited(grant, exposed.unwrap_or_default());
                self.effects.push(Effect::Admit(id, access));
            }
            Err(message) => {
                let what =
                    format_args!("is refused by {}: {}", Shown(function_id), Shown(&message));
                self.warn_of(id, "auth_function_id", function_id, what);
                self.close(id, refused(&message));
            }
        }
    }

    /// From here on the member is served.
    pub fn open(&mut self, id: SlotId, is_telemetry: bool, access: Access) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let worker_id = Uuid::new_v4();
        member.worker_id = worker_id;
        member.access = Arc::new(access);
        if is_telemetry {
            return;
        }
        let token = new_token();
        member.reattach_token = Some(token.as_str().into());
        member.is_open = true;
        self.members.send(id, |out| {
            answer::worker_registered(out, &worker_id, &token);
        });
        self.debug(id, || "is let in".to_owned());
        self.worker_has_come(id);
    }
}

/// The last words to a worker that is not let in: a message, and a close frame without a code.
fn refused(message: &str) -> Vec<u8> {
    let mut text = Vec::new();
    write_auth_error(&mut text, message);
    let (header, header_len) = text_header(text.len());
    let close = close_frame(None, "");
    [&header[..header_len], &text, &close].concat()
}
