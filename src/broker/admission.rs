//! Whom auth functions let in: subscribers on the stream port, SDK workers on a listener with rules.
//!
//! May not touch the sockets that wait for a function's word.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits};
use crate::broker::effects::Effect;
use crate::broker::ended::How;
use crate::broker::reattach::new_token;
use crate::broker::rules::OfListeners;
use crate::broker::turn::Turn;
use crate::id::SlotId;
use crate::mesh::{AuthRequest, AuthVerdict};
use crate::notes::Shown;
use crate::protocol::answer::{self, Outgoing};
use crate::protocol::auth::{AuthAnswer, worker_payload};
use crate::protocol::connection::{close_frame, text_header};
use crate::protocol::rbac::{Access, Grant, write_auth_error};

/// Who decides whether a subscriber's socket may open.
#[derive(Debug, Clone)]
pub struct Authenticator {
    /// The function that is asked, if one is.
    pub function_id: Option<String>,
    /// How long its answer is awaited.
    pub timeout: Duration,
    /// A function that is missing, fails or refuses lets everybody in.
    pub admits_failures: bool,
}

impl Authenticator {
    /// Whether that function is asked.
    pub(in crate::broker) fn asks(&self, function_id: &str) -> bool {
        self.function_id.as_deref() == Some(function_id)
    }

    /// What its answer means: 401 where the function was asked and does not admit, 503 where nobody
    /// answered (spec: auth §3).
    pub(in crate::broker) fn verdict(&self, answered: Answered<'_>) -> AuthVerdict {
        let admits_failures = self.admits_failures;
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
}

impl OfListeners {
    /// The auth function of a listener has answered about that socket, or could not.
    pub(in crate::broker) fn admission_heard(
        &self,
        turn: &mut Turn,
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
        let member = turn.members.get(id).filter(|member| !member.has_ended);
        let Some(listener) = member.map(|member| member.listener) else {
            return; // it has given up
        };
        match grant {
            Ok(grant) => {
                let rules = self.rules_of(listener);
                let exposed = rules.map(|rules| Arc::clone(&rules.exposed));
                let access = Access::limited(grant, exposed.unwrap_or_default());
                turn.effects.push(Effect::Admit(id, access));
            }
            Err(message) => {
                let what =
                    format_args!("is refused by {}: {}", Shown(function_id), Shown(&message));
                turn.warn_of(id, "auth_function_id", function_id, what);
                turn.close(id, refused(&message));
            }
        }
    }
}

impl Broker {
    /// Asks the auth function about a subscriber's upgrade.
    pub(in crate::broker) fn authenticate(&mut self, request: AuthRequest) {
        let awaits = Awaits::Auth {
            worker: request.worker,
            connection: request.connection,
            timeout: self.auth.timeout,
        };
        match self.auth.function_id.clone() {
            Some(function_id) => {
                let namespace = self.turn.own_namespace();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(&function_id, &request.input)
                };
                self.ask(&asked, awaits);
            }
            None => self.turn.end_call(awaits, "", How::NotFound),
        }
    }

    /// Asks the auth function of a listener about an SDK worker's socket with that request.
    pub fn ask_for_admission(&mut self, id: SlotId, function_id: &str, head: &[u8]) {
        let ip = self.turn.members.get(id).and_then(|member| member.ip);
        let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
        let payload = worker_payload(head, ip);
        self.ask(&Outgoing::own(function_id, &payload), Awaits::Admission(id));
    }

    /// From here on the member is served.
    pub fn open(&mut self, id: SlotId, is_telemetry: bool, access: Access) {
        let Some(member) = self.turn.members.get_mut(id) else {
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
        self.turn.members.send(id, |out| {
            answer::worker_registered(out, &worker_id, &token);
        });
        self.turn.debug(id, || "is let in".to_owned());
        let (turn, triggers) = (&mut self.turn, &mut self.triggers);
        self.present.worker_has_come(turn, triggers, id);
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
