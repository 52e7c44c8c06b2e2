//! What a trigger calls, as far as it may be called, or hears anything.

use crate::protocol::call::ErrorBody;

use crate::broker::members::Members;
use crate::broker::registry::callee::Callee;
use crate::broker::registry::{Functions, is_own};
use crate::broker::triggers::trigger::Called;
use crate::broker::turn::Turn;

impl Called {
    /// Whether a trigger may call its function, and its condition as well.
    pub(in crate::broker) fn may_be_called(
        &self,
        members: &Members,
        functions: &Functions,
    ) -> bool {
        let condition = self.condition.as_deref();
        let condition = condition.map(|condition| self.target.beside(condition));
        let named = [condition, Some(self.target.function())];
        let mut named = named.into_iter().flatten();
        named.all(|function| functions.may_fire(members, self.on_behalf, function))
    }

    /// Whether it makes sense to tell it what the server itself says: functions of ours do nothing on it,
    /// and some workers read nothing.
    pub(in crate::broker) fn listens(&self, turn: &mut Turn, functions: &Functions) -> bool {
        let function_id = &*self.target.function_id;
        match functions.callee_of(turn, self.target.function()) {
            Callee::Peer(callee) => {
                let is_full = turn.no_room_at(callee).is_some();
                if is_full {
                    turn.drop_handler_call(callee, function_id);
                }
                !is_full
            }
            Callee::Nobody if is_own(function_id) => {
                let error =
                    ErrorBody::new("deserialization_error", "it cannot read what it is told");
                turn.warn_of_handler(function_id, &error);
                false
            }
            Callee::Nobody | Callee::Away => false,
        }
    }
}
