//! What SDK workers register as functions and unregister, and in which namespace those stand.

use crate::id::{SlotId, Text};
use crate::notes::Shown;
use crate::protocol::call::ErrorBody;

use crate::broker::Broker;
use crate::broker::holdings::{ID_BYTES_MAX, REGISTERED_BYTES_MAX};
use crate::broker::registry::Description;
use crate::broker::target::{FunctionRef, is_named};

impl Broker {
    pub(in crate::broker) fn register_function(
        &mut self,
        id: SlotId,
        function_id: &str,
        mut description: Description,
    ) {
        let texts = [
            &description.request_format,
            &description.response_format,
            &description.metadata,
        ];
        let texts = texts.into_iter().filter_map(|text| text.as_deref());
        if let Err(why) = self.check_all_passed_on(texts) {
            let what = format_args!(
                "function {} is registered without what describes it: {why}",
                Shown(function_id)
            );
            self.warn_of(id, "description", function_id, what);
            description = Description::default();
        }
        let namespace = self.namespace_of(id, None);
        let function = FunctionRef::new(function_id, namespace.as_deref());
        if function_id.len() > ID_BYTES_MAX
            || !self.functions.has_room(function_id, id, &description)
        {
            let what = format_args!(
                "function {} is not registered: its id is longer than {ID_BYTES_MAX} bytes, or all functions \
                 of the worker hold more than {REGISTERED_BYTES_MAX}",
                Shown(function_id)
            );
            return self.warn_of(id, "function beyond its bounds", "", what);
        }
        if let Some(why) = self.why_not_registered(id, function) {
            let what = format_args!("function {} is refused: {why}", Shown(function_id));
            return self.warn_of(id, "function refused", function_id, what);
        }
        if self.has_own(function_id)
            && namespace.is_none()
            && self.functions.owner_of(function).is_none()
        {
            let what = format_args!(
                "it has registered {}, which is called in place of ours while it is there",
                Shown(function_id)
            );
            self.warn_of(id, "function of ours", function_id, what);
        }
        self.debug(id, || format!("registers function {}", Shown(function_id)));
        let guard = self.guard_of(id);
        let change = self.functions.register(function, id, guard, description);
        if let Some(peer) = self.members.get_mut(id) {
            peer.functions.insert(function_id.into());
        }
        if let Some(before) = change.in_place_of {
            self.tell_of_second(function_id, id, before);
        }
        self.functions_changed(change.is_hook);
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

    /// A worker says where its functions stand, and may say so once: those that it has registered
    /// already go there, and its triggers look there. Err: why it may not.
    pub(in crate::broker) fn settle_worker_in(
        &mut self,
        id: SlotId,
        namespace: &str,
    ) -> Result<(), ErrorBody> {
        let Some(peer) = self.members.get_mut(id).filter(|_| is_named(namespace)) else {
            return Ok(());
        };
        match &peer.namespace {
            Some(has) if **has == *namespace => return Ok(()),
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
        self.begin_settling(id, name);
        Ok(())
    }

    /// One of its functions goes there. True: workers have to know of it.
    pub(in crate::broker) fn settle_function_in(
        &mut self,
        id: SlotId,
        function_id: &str,
        name: &str,
    ) -> bool {
        let function = FunctionRef::new(function_id, Some(name));
        let Some(why) = self.why_not_registered(id, function) else {
            let guard = self.guard_of(id);
            return self.functions.settle_in(function, id, guard);
        };
        let plain = FunctionRef::plain(function_id);
        let is_hook = self.functions.unregister(plain, id);
        if let Some(peer) = self.members.get_mut(id) {
            peer.functions.remove(function_id);
        }
        let (shown, name) = (Shown(function_id), Shown(name));
        let what = format_args!("function {shown} is refused in {name}: {why}");
        self.warn_of(id, "function refused", function_id, what);
        is_hook
    }

    pub(in crate::broker) fn unregister_function(&mut self, id: SlotId, function_id: &str) {
        self.debug(id, || {
            format!("unregisters function {}", Shown(function_id))
        });
        let namespace = self.namespace_of(id, None);
        let function = FunctionRef::new(function_id, namespace.as_deref());
        let is_hook = self.functions.unregister(function, id);
        if let Some(peer) = self.members.get_mut(id) {
            peer.functions.remove(function_id);
        }
        self.functions_changed(is_hook);
    }

    pub(in crate::broker) fn functions_changed(&mut self, is_hook: bool) {
        if is_hook {
            self.hooks.change();
        }
        self.expect_to_tell_functions();
    }
}
