//! What SDK workers register as functions and unregister, and in which namespace those stand.

use crate::id::{SlotId, Text};
use crate::notes::Shown;
use crate::protocol::call::ErrorBody;

use crate::broker::Broker;
use crate::broker::holdings::{ID_BYTES_MAX, REGISTERED_BYTES_MAX};
use crate::broker::members::Members;
use crate::broker::registry::{Description, Functions, is_own};
use crate::broker::target::{FunctionRef, is_named};
use crate::broker::turn::Turn;

impl Broker {
    /// The worker `id` serves that function from now on, if it may.
    pub(in crate::broker) fn register_function(
        &mut self,
        id: SlotId,
        function_id: &str,
        description: Description,
    ) {
        let shown = Shown(function_id);
        let description = self.turn.checked_description(id, function_id, description);
        let namespace = self.turn.members.namespace_of(id, None);
        let function = FunctionRef::new(function_id, namespace.as_deref());
        if function_id.len() > ID_BYTES_MAX
            || !self.functions.has_room(function_id, id, &description)
        {
            let what = format_args!(
                "function {shown} is not registered: its id is longer than {ID_BYTES_MAX} bytes, or all \
                 functions of the worker hold more than {REGISTERED_BYTES_MAX}",
            );
            return self
                .turn
                .warn_of(id, "function beyond its bounds", "", what);
        }
        if let Some(why) = self.why_not_registered(id, function) {
            let what = format_args!("function {shown} is refused: {why}");
            return self.turn.warn_of(id, "function refused", function_id, what);
        }
        let turn = &mut self.turn;
        if is_own(function_id) && namespace.is_none() && self.functions.owner_of(function).is_none()
        {
            let what = format_args!(
                "it has registered {shown}, which is called in place of ours while it is there"
            );
            turn.warn_of(id, "function of ours", function_id, what);
        }
        turn.debug(id, || format!("registers function {shown}"));
        let guard = turn.members.guard_of(id);
        let change = self.functions.register(function, id, guard, description);
        if let Some(peer) = turn.members.get_mut(id) {
            peer.functions.insert(function_id.into());
        }
        if let Some(before) = change.in_place_of {
            turn.tell_of_second(function_id, id, before);
        }
        self.functions.note_changes(turn, change.is_hook);
    }

    /// One of its functions goes to the namespace of its worker. True: workers have to know of it.
    pub(in crate::broker) fn settle_function_in(
        &mut self,
        id: SlotId,
        function_id: &str,
        name: &str,
    ) -> bool {
        let function = FunctionRef::new(function_id, Some(name));
        let Some(why) = self.why_not_registered(id, function) else {
            let guard = self.turn.members.guard_of(id);
            return self.functions.settle_in(function, id, guard);
        };
        let plain = FunctionRef::plain(function_id);
        let is_hook = self.functions.unregister(plain, id);
        if let Some(peer) = self.turn.members.get_mut(id) {
            peer.functions.remove(function_id);
        }
        let (shown, name) = (Shown(function_id), Shown(name));
        let what = format_args!("function {shown} is refused in {name}: {why}");
        self.turn.warn_of(id, "function refused", function_id, what);
        is_hook
    }
}

impl Functions {
    /// The worker wants that function of it to end.
    pub(in crate::broker) fn withdraw(&mut self, turn: &mut Turn, id: SlotId, function_id: &str) {
        turn.debug(id, || {
            format!("unregisters function {}", Shown(function_id))
        });
        let namespace = turn.members.namespace_of(id, None);
        let function = FunctionRef::new(function_id, namespace.as_deref());
        let is_hook = self.unregister(function, id);
        if let Some(peer) = turn.members.get_mut(id) {
            peer.functions.remove(function_id);
        }
        self.note_changes(turn, is_hook);
    }

    /// The set of functions may have changed: that will have to be told. `is_hook`: to workers as well.
    pub(in crate::broker) fn note_changes(&mut self, turn: &mut Turn, is_hook: bool) {
        if is_hook {
            turn.hooks.change();
        }
        self.expect_to_be_told(turn.now.monotonic);
    }
}

impl Turn {
    /// What describes a function, if other workers can read it.
    fn checked_description(
        &mut self,
        id: SlotId,
        function_id: &str,
        said: Description,
    ) -> Description {
        let texts = [&said.request_format, &said.response_format, &said.metadata];
        let texts = texts.into_iter().filter_map(|text| text.as_deref());
        let Err(why) = self.check_all_passed_on(texts) else {
            return said;
        };
        let what = format_args!(
            "function {} is registered without what describes it: {why}",
            Shown(function_id)
        );
        self.warn_of(id, "description", function_id, what);
        Description::default()
    }

    /// Two workers that do not know of each other may have the same function: once the log says so.
    /// One that has connected again stands in its own place.
    fn tell_of_second(&mut self, function_id: &str, id: SlotId, before: SlotId) {
        let before = self.members.get(before);
        let Some(before) = before.filter(|before| before.reattach_token.is_some()) else {
            return;
        };
        let before = before.worker_id;
        let newest = self.name_of(id);
        let shown = Shown(function_id);
        let what = format_args!("function {shown}: {newest} in place of SDK worker {before}");
        self.warn_of(id, "function of two workers", function_id, what);
    }
}

impl Members {
    /// A worker says where its functions stand, and may say so once. Gives the namespace, if it is news: those
    /// that it has registered already go there, and its triggers look there. Err: why it may not.
    pub(in crate::broker) fn settle_in(
        &mut self,
        id: SlotId,
        namespace: &str,
    ) -> Result<Option<Text>, ErrorBody> {
        let Some(peer) = self.get_mut(id).filter(|_| is_named(namespace)) else {
            return Ok(None);
        };
        match &peer.namespace {
            Some(has) if **has == *namespace => return Ok(None),
            Some(has) => {
                let message = format!("the worker is in namespace {has} and stays there");
                return Err(ErrorBody::new("namespace_refused", message));
            }
            None if namespace.len() > ID_BYTES_MAX => {
                let message = format!("a namespace has no more than {ID_BYTES_MAX} bytes");
                return Err(ErrorBody::new("namespace_refused", message));
            }
            None => peer.access.may_settle_in(namespace)?,
        }
        let name = Text::from(namespace);
        peer.namespace = Some(Text::clone(&name));
        Ok(Some(name))
    }
}
