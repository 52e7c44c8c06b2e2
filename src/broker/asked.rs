//! The functions that a listener has asked: one in place of each call that comes through it, others
//! about each registration.
//!
//! While one is asked about a registration the worker's socket is left unread, so that what it has sent
//! behind waits for the answer.

use std::sync::Arc;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer::Outgoing;
use crate::protocol::call::{self, Action, EngineMessage, ErrorBody, Invoke};
use crate::protocol::listing::bindings::REGISTER_TRIGGER;
use crate::protocol::rbac::asked::{Registration, call_input, registration_input, replace};

use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits, function_not_found};
use crate::broker::caller::Caller;
use crate::broker::calls::Calls;
use crate::broker::calls::invoke::passed_on;
use crate::broker::ended::How;
use crate::broker::members::{AskedAbout, CameAs, Member, Members};
use crate::broker::rules::OfListeners;
use crate::broker::target::FunctionRef;
use crate::broker::turn::Turn;

/// What the refusal of a trigger is called.
const FAILED: &str = "trigger_registration_failed";

impl Broker {
    /// Puts a call to the middleware function of its listener. False: there is none, or the call is one
    /// of its own.
    pub(in crate::broker) fn invoke_middleware(&mut self, id: SlotId, invoke: &Invoke<'_>) -> bool {
        let turn = &mut self.turn;
        let Some(peer) = turn.members.get(id) else {
            return false;
        };
        let Some(middleware) = self.of_listeners.middleware_of(peer.listener) else {
            return false;
        };
        let callee = self.functions.find(FunctionRef::plain(middleware));
        if callee == Some(id) {
            return false; // else it would be asked about what it forwards, without end
        }
        // A void call is answered by nobody, whatever its id.
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller::new(id, call_id, &invoke.trace)),
        };
        let function_id = &invoke.function_id;
        let Some(callee) = callee else {
            let error = function_not_found(middleware);
            self.calls.fail(turn, Some(id), caller, function_id, &error);
            return true;
        };
        let input = call_input(invoke, peer.access.context());
        let call = passed_on(middleware, invoke, &input);
        self.calls
            .pass_on(turn, id, callee, caller, function_id, &call);
        true
    }

    /// Asks about a registration, if its listener has such asked about. False: it has none.
    pub(in crate::broker) fn ask_about_registration(
        &mut self,
        id: SlotId,
        message: &EngineMessage<'_>,
        text: &str,
    ) -> bool {
        let asked = self
            .of_listeners
            .function_asked_about(&self.turn.members, id, message);
        let Some(function_id) = asked else {
            return false;
        };
        self.ask_about(id, &function_id, message, text, CameAs::Message);
        true
    }

    /// Asks that function. `text`: the registration as a message.
    pub(in crate::broker) fn ask_about(
        &mut self,
        id: SlotId,
        function_id: &str,
        message: &EngineMessage<'_>,
        text: &str,
        came_as: CameAs,
    ) {
        let Some(peer) = self.turn.members.get_mut(id) else {
            return;
        };
        let input = registration_input(message, peer.access.context());
        peer.asked_about = Some(AskedAbout {
            text: text.into(),
            came_as,
        });
        let awaits = Awaits::Registration(id, text.len());
        match self.turn.check_passed_on(&input) {
            Ok(()) => self.ask(&Outgoing::own(function_id, &input), awaits),
            Err(why) => self
                .turn
                .end_call(awaits, function_id, How::Refused(why.into())),
        }
    }

    /// What has come of the function that was asked about a registration.
    pub(in crate::broker) fn registration_heard(
        &mut self,
        id: SlotId,
        function_id: &str,
        answered: Answered<'_>,
    ) {
        let Some(peer) = self.turn.members.get_mut(id) else {
            return; // it has given up
        };
        let Some(AskedAbout { text, came_as }) = peer.asked_about.take() else {
            return;
        };
        if !peer.is_open {
            return;
        }
        let Ok(mut message) = call::parse(&text) else {
            return;
        };
        let replaced = match answered {
            Answered::Result(result) => replace(&mut message, result),
            failed => Err(failed
                .error(function_id)
                .map(|error| error.message)
                .unwrap_or_default()),
        };
        let renamed = replaced.and_then(|()| peer.rename(&text, &message));
        // What it has registered by that id so far is replaced, wherever it stands.
        match (&renamed, &message) {
            (Ok(Some(older)), EngineMessage::RegisterFunction { .. }) => {
                self.functions.withdraw(&mut self.turn, id, older);
            }
            (Ok(Some(older)), EngineMessage::RegisterTrigger(_)) => {
                self.unregister_trigger(id, older);
            }
            _ => {}
        }
        match (renamed, came_as) {
            (Ok(_), CameAs::Message) => self.serve_message(id, message, "", false),
            (Ok(_), CameAs::Call(caller)) => self.bind(id, caller, &message),
            (Err(why), came_as) => {
                let turn = &mut self.turn;
                turn.warn_of_registration(id, function_id, &message, &why);
                refuse_registration(turn, &self.calls, id, &message, &why, came_as);
            }
        }
        self.turn.free(id);
    }
}

impl OfListeners {
    /// The function that the worker's listener has asked about such a registration. None: there is none,
    /// or the registration is not allowed and comes to nothing.
    pub(in crate::broker) fn function_asked_about(
        &self,
        members: &Members,
        id: SlotId,
        message: &EngineMessage<'_>,
    ) -> Option<Arc<str>> {
        let registration = Registration::of(message)?;
        let peer = members.get(id)?;
        let may = match (registration, message) {
            (Registration::Function, _) => peer.access.may_register_functions(),
            (Registration::TriggerType, _) => peer.access.may_register_trigger_types(),
            (_, EngineMessage::RegisterTrigger(asked)) => {
                peer.access.may_register_trigger(&asked.trigger_type)
            }
            _ => false,
        };
        let rules = self.rules_of(peer.listener).filter(|_| may)?;
        rules.asked_about(registration).cloned()
    }
}

impl Member {
    /// Remembers by which id the worker knows what is registered now, and gives the one under which it stood
    /// before, if it did. `text`: the registration as the worker sent it. Err: too much is renamed.
    fn rename(
        &mut self,
        text: &str,
        message: &EngineMessage<'_>,
    ) -> Result<Option<Box<str>>, String> {
        let Ok(sent) = call::parse(text) else {
            return Ok(None);
        };
        let names = &mut self.names;
        let (table, inner, outer) = match (&sent, message) {
            (
                EngineMessage::RegisterFunction { id: inner, .. },
                EngineMessage::RegisterFunction { id: outer, .. },
            ) => (&mut names.functions, inner, outer),
            (EngineMessage::RegisterTrigger(sent), EngineMessage::RegisterTrigger(asked)) => {
                (&mut names.triggers, &sent.id, &asked.id)
            }
            (
                EngineMessage::RegisterTriggerType { id: inner, .. },
                EngineMessage::RegisterTriggerType { id: outer, .. },
            ) => (&mut names.trigger_types, inner, outer),
            _ => return Ok(None),
        };
        if inner != outer && !table.has_room() {
            return Err("too much of the worker stands under other ids".to_owned());
        }
        let is_function = matches!(sent, EngineMessage::RegisterFunction { .. });
        let outer_of = |id: &str| -> Box<str> {
            match is_function {
                true => self.access.outer_id(id).into(),
                false => id.into(),
            }
        };
        let (plain, outer_id) = (outer_of(inner), outer_of(outer));
        let older = match table.outer(inner) {
            Some(older) => Some(older.into()),
            None => table.inner(&plain).is_none().then_some(plain),
        };
        match inner == outer {
            true => table.forget_both(inner, &outer_id),
            false => table.rename(inner, &outer_id),
        }
        Ok(older.filter(|older| *older != outer_id))
    }
}

impl Turn {
    fn warn_of_registration(
        &mut self,
        id: SlotId,
        function_id: &str,
        message: &EngineMessage<'_>,
        why: &str,
    ) {
        let (what, name) = match message {
            EngineMessage::RegisterFunction { id, .. } => ("function", id),
            EngineMessage::RegisterTrigger(asked) => ("trigger", &asked.id),
            EngineMessage::RegisterTriggerType { id, .. } => ("trigger type", id),
            _ => return,
        };
        let told = format_args!(
            "{what} {} is refused by {}: {}",
            Shown(name),
            Shown(function_id),
            Shown(why)
        );
        self.warn_of(id, "registration refused", function_id, told);
    }
}

/// The worker hears that a trigger of it comes to nothing.
fn refuse_registration(
    turn: &mut Turn,
    calls: &Calls,
    id: SlotId,
    message: &EngineMessage<'_>,
    why: &str,
    came_as: CameAs,
) {
    let error = ErrorBody::new(FAILED, why);
    match (message, came_as) {
        (_, CameAs::Call(caller)) => calls.answer_error(turn, caller, REGISTER_TRIGGER, &error),
        (EngineMessage::RegisterTrigger(asked), CameAs::Message) => {
            turn.tell_registration(id, asked, Some(&error));
        }
        _ => {}
    }
}
