//! Attached mode: a newer engine keeps our configuration, and says when that has changed. The auth
//! function holds at once; what is of a port or a store is read at the start only.
//!
//! A configuration that does not name the auth function changes nothing: only `null` takes it away, so
//! that no door opens because something was left out.

use super::Attached;
use crate::broker::Broker;
use crate::broker::admission::Authenticator;
use crate::broker::awaits::{Answered, Awaits};
use crate::broker::caller::Caller;
use crate::broker::calls::Calls;
use crate::broker::turn::Turn;
use crate::id::{SlotId, WorkerId};
use crate::mesh::{AuthFunction, ToWorker};
use crate::notes::Shown;
use crate::protocol::answer::{Outgoing, ResultBody};
use crate::protocol::call::ErrorBody;
use crate::protocol::configuration::{self, Configuration, GET, GET_INPUT, ON_CONFIG_CHANGE};

impl Broker {
    /// The engine calls the function that hears of it.
    pub(super) fn configuration_changed(&mut self, id: SlotId, caller: Option<Caller>, said: &str) {
        let (turn, calls) = (&mut self.turn, &mut self.calls);
        match (configuration::read(said), &mut self.attached) {
            (Ok(Some(changed)), _) => self.auth.take_configuration(turn, changed),
            (Ok(None), Some(attached)) => attached.ask_for_configuration(turn, calls, id),
            (Ok(None), None) => {}
            (Err(why), _) => {
                warn_of_configuration(turn, &why);
                let error = ErrorBody::new("deserialization_error", why);
                return calls.answer_error(turn, caller, ON_CONFIG_CHANGE, &error);
            }
        }
        calls.answer(turn, caller, ON_CONFIG_CHANGE, ResultBody::Json("null"));
    }
}

impl Attached {
    /// Never twice at a time: the answer tells of all changes before it was given.
    fn ask_for_configuration(&mut self, turn: &mut Turn, calls: &mut Calls, id: SlotId) {
        if !std::mem::replace(&mut self.asks_configuration, true) {
            let call = Outgoing::own(GET, GET_INPUT);
            calls.send_call(turn, id, &call, Awaits::Configuration, GET);
        }
    }

    /// The engine has told it, or could not.
    pub(super) fn configuration_told(
        &mut self,
        turn: &mut Turn,
        auth: &mut Authenticator,
        answered: Answered<'_>,
    ) {
        self.asks_configuration = false;
        let read = match answered {
            Answered::Gone(_) => return, // the next change asks again
            Answered::Result(told) => configuration::read(told.unwrap_or("null")),
            _ => {
                let error = answered.error(GET);
                Err(error.map_or_else(String::new, |error| error.message))
            }
        };
        match read {
            Ok(told) => auth.take_configuration(turn, told.unwrap_or_default()),
            Err(why) => warn_of_configuration(turn, &why),
        }
    }
}

impl Authenticator {
    fn take_configuration(&mut self, turn: &mut Turn, told: Configuration) {
        let now = turn.now.monotonic;
        if let Some(function_id) = told.auth_function
            && self.function_id != function_id
        {
            match &function_id {
                Some(id) => {
                    let id = Shown(id);
                    let what = format_args!(
                        "the engine's configuration puts subscribers' sockets to function {id} from now on"
                    );
                    turn.lines.warn(now, "auth_function", "", what);
                }
                None => {
                    let what = format_args!(
                        "the engine's configuration has no auth_function any more: every subscriber is let in"
                    );
                    turn.lines.warn(now, "auth_function", "", what);
                }
            }
            self.function_id = function_id;
            self.tell_workers(turn);
        }
        if !told.at_start.is_empty() {
            let keys = told.at_start.join(", ");
            let what = format_args!(
                "of the engine's configuration auth_function alone holds at once: {keys} at the next start"
            );
            turn.lines.warn(now, "configuration", "", what);
        }
    }

    /// Workers let in whom nobody has to be asked about.
    fn tell_workers(&self, turn: &mut Turn) {
        for worker in 0..turn.ports.to_open.len() {
            let function = self.function_id.as_deref();
            let told = function.map(|id| AuthFunction {
                id: id.into(),
                admits_failures: self.admits_failures,
            });
            turn.tell(WorkerId(worker as u16), ToWorker::AuthFunction(told));
        }
    }
}

fn warn_of_configuration(turn: &mut Turn, why: &str) {
    let what = format_args!(
        "the engine's configuration cannot be read, and what was set before holds: {}",
        Shown(why)
    );
    let now = turn.now.monotonic;
    turn.lines.warn(now, "configuration fault", "", what);
}
