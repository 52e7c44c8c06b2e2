//! What each listener for SDK workers lets them do, and whom it has asked.

use std::sync::Arc;

use crate::protocol::rbac::Filter;
use crate::protocol::rbac::asked::Registration;

/// The rules of one listener.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The function that is asked about each socket.
    pub auth_function: Option<String>,
    /// The functions that are asked about each registration, by its kind.
    pub on_function: Option<Arc<str>>,
    /// The same of triggers.
    pub on_trigger: Option<Arc<str>>,
    /// The same of trigger types.
    pub on_trigger_type: Option<Arc<str>>,
    /// What all may call that are let in.
    pub exposed: Arc<[Filter]>,
}

impl Rules {
    /// The function that is asked about a registration of that kind.
    pub(in crate::broker) fn asked_about(&self, registration: Registration) -> Option<&Arc<str>> {
        match registration {
            Registration::Function => self.on_function.as_ref(),
            Registration::Trigger => self.on_trigger.as_ref(),
            Registration::TriggerType => self.on_trigger_type.as_ref(),
        }
    }

    fn ask(&self, function_id: &str) -> bool {
        let of_registrations = [&self.on_function, &self.on_trigger, &self.on_trigger_type];
        let mut named = of_registrations.into_iter().flatten().map(|named| &**named);
        self.auth_function.as_deref() == Some(function_id)
            || named.any(|named| named == function_id)
    }
}

/// What holds on one listener.
#[derive(Debug, Clone, Default)]
pub struct OfListener {
    /// None: everything may be done.
    pub rules: Option<Arc<Rules>>,
    /// The function that is called in place of each that is called through it.
    pub middleware: Option<Arc<str>>,
}

/// The same of all of them, by number: the first one has number 0.
pub(in crate::broker) struct OfListeners(pub(in crate::broker) Box<[OfListener]>);

impl OfListeners {
    /// Whether some listener has that function asked: about sockets, registrations or calls.
    pub(in crate::broker) fn ask(&self, function_id: &str) -> bool {
        self.0.iter().any(|one| {
            let is_in_rules = one
                .rules
                .as_ref()
                .is_some_and(|rules| rules.ask(function_id));
            is_in_rules || one.middleware.as_deref() == Some(function_id)
        })
    }

    /// The function that is called in place of each that is called through that listener.
    pub(in crate::broker) fn middleware_of(&self, number: usize) -> Option<&Arc<str>> {
        self.0.get(number)?.middleware.as_ref()
    }

    /// The rules of that listener, if it has any.
    pub(in crate::broker) fn rules_of(&self, number: usize) -> Option<&Arc<Rules>> {
        self.0.get(number)?.rules.as_ref()
    }
}
