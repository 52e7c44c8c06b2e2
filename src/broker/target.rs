//! Which function is called: its id, where it is looked up, and what goes with each call of it.
//!
//! Pure. May not know which functions there are.

use crate::id::Text;
use crate::protocol::answer::Outgoing;

/// The namespace of our own functions, and of all that name none.
const DEFAULT: &str = "default";

/// A function as its callers name it. One id may stand in several namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct FunctionRef<'a> {
    pub(in crate::broker) id: &'a str,
    /// None: `default`.
    pub(in crate::broker) namespace: Option<&'a str>,
}

impl<'a> FunctionRef<'a> {
    pub(in crate::broker) fn new(id: &'a str, namespace: Option<&'a str>) -> FunctionRef<'a> {
        let namespace = namespace.filter(|name| is_named(name));
        FunctionRef { id, namespace }
    }

    /// Of `default`.
    pub(in crate::broker) fn plain(id: &'a str) -> FunctionRef<'a> {
        FunctionRef {
            id,
            namespace: None,
        }
    }
}

/// Whether that is a namespace beside `default`.
pub(in crate::broker) fn is_named(namespace: &str) -> bool {
    !namespace.is_empty() && namespace != DEFAULT
}

/// What a trigger calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Target {
    pub(in crate::broker) function_id: Box<str>,
    /// As it was registered; of the trigger's condition as well.
    pub(in crate::broker) namespace: Option<Text>,
    /// Goes with each call of the function, a JSON text; its condition gets none.
    pub(in crate::broker) metadata: Option<Text>,
}

impl Target {
    pub(in crate::broker) fn function(&self) -> FunctionRef<'_> {
        FunctionRef::new(&self.function_id, self.namespace.as_deref())
    }

    /// Its condition.
    pub(in crate::broker) fn beside<'a>(&'a self, condition: &'a str) -> FunctionRef<'a> {
        FunctionRef::new(condition, self.namespace.as_deref())
    }

    /// A call of it with that payload.
    pub(in crate::broker) fn call<'a>(&'a self, payload: &'a str) -> Outgoing<'a> {
        Outgoing {
            namespace: self.namespace.as_deref(),
            metadata: self.metadata.as_deref(),
            ..Outgoing::own(&self.function_id, payload)
        }
    }

    /// Bytes that are kept meanwhile, though several may share some.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let namespace = self.namespace.as_ref().map_or(0, |name| name.len());
        self.function_id.len() + namespace + self.metadata_bytes()
    }

    pub(in crate::broker) fn metadata_bytes(&self) -> usize {
        self.metadata.as_ref().map_or(0, |metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_namespace_is_of_the_default_one() {
        for namespace in [None, Some(""), Some("default")] {
            assert_eq!(FunctionRef::new("f", namespace), FunctionRef::plain("f"));
        }
        let orders = FunctionRef::new("f", Some("orders"));
        assert_eq!(orders.namespace, Some("orders"));
    }
}
