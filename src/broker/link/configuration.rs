//! Attached mode: a newer engine keeps our configuration, and says when that has changed. The auth
//! function holds at once; what is of a port or a store is read at the start only.
//!
//! A configuration that does not name the auth function changes nothing: only `null` takes it away, so
//! that no door opens because something was left out.

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::{Answered, Awaits};
use crate::id::{SlotId, WorkerId};
use crate::mesh::{AuthFunction, ToWorker};
use crate::notes::Shown;
use crate::protocol::answer::{Outgoing, ResultBody};
use crate::protocol::call::ErrorBody;
use crate::protocol::configuration::{self, Configuration, GET, GET_INPUT, ON_CONFIG_CHANGE};

impl Broker {
    /// The engine calls the function that hears of it.
    pub(in crate::broker) fn configuration_changed(
        &mut self,
        id: SlotId,
        caller: Option<Caller>,
        said: &str,
    ) {
        match configuration::read(said) {
            Ok(Some(changed)) => self.take_configuration(changed),
            Ok(None) => self.ask_for_configuration(id),
            Err(why) => {
                self.warn_of_configuration(&why);
                let error = ErrorBody::new("deserialization_error", why);
                return self.answer_error(caller, ON_CONFIG_CHANGE, &error);
            }
        }
        self.answer(caller, ON_CONFIG_CHANGE, ResultBody::Json("null"));
    }

    /// Never twice at a time: the answer tells of all changes before it was given.
    fn ask_for_configuration(&mut self, id: SlotId) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if !std::mem::replace(&mut attached.asks_configuration, true) {
            let call = Outgoing::own(GET, GET_INPUT);
            self.send_call(id, &call, Awaits::Configuration, GET);
        }
    }

    /// The engine has told it, or could not.
    pub(in crate::broker) fn configuration_told(&mut self, answered: Answered<'_>) {
        if let Some(attached) = &mut self.attached {
            attached.asks_configuration = false;
        }
        let read = match answered {
            Answered::Gone(_) => return, // the next change asks again
            Answered::Result(told) => configuration::read(told.unwrap_or("null")),
            _ => {
                let error = answered.error(GET);
                Err(error.map_or_else(String::new, |error| error.message))
            }
        };
        match read {
            Ok(told) => self.take_configuration(told.unwrap_or_default()),
            Err(why) => self.warn_of_configuration(&why),
        }
    }

    fn take_configuration(&mut self, told: Configuration) {
        let now = self.now.monotonic;
        if let Some(function_id) = told.auth_function
            && self.auth.function_id != function_id
        {
            match &function_id {
                Some(id) => {
                    let id = Shown(id);
                    let what = format_args!(
                        "the engine's configuration puts subscribers' sockets to function {id} from now on"
                    );
                    self.lines.warn(now, "auth_function", "", what);
                }
                None => {
                    let what = format_args!(
                        "the engine's configuration has no auth_function any more: every subscriber is let in"
                    );
                    self.lines.warn(now, "auth_function", "", what);
                }
            }
            self.auth.function_id = function_id;
            self.tell_auth_function();
        }
        if !told.at_start.is_empty() {
            let keys = told.at_start.join(", ");
            let what = format_args!(
                "of the engine's configuration auth_function alone holds at once: {keys} at the next start"
            );
            self.lines.warn(now, "configuration", "", what);
        }
    }

    /// Workers let in whom nobody has to be asked about.
    fn tell_auth_function(&mut self) {
        for worker in 0..self.ports.to_open.len() {
            let function = self.auth.function_id.as_deref();
            let told = function.map(|id| AuthFunction {
                id: id.into(),
                admits_failures: self.auth.admits_failures,
            });
            self.tell(WorkerId(worker as u16), ToWorker::AuthFunction(told));
        }
    }

    fn warn_of_configuration(&mut self, why: &str) {
        let what = format_args!(
            "the engine's configuration cannot be read, and what was set before holds: {}",
            Shown(why)
        );
        let now = self.now.monotonic;
        self.lines.warn(now, "configuration fault", "", what);
    }
}
