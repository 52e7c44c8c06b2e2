//! Who may do what on a worker port with rules: what the auth function grants, and what the
//! listener exposes ([`Filter`]).
//!
//! May not know the settings, nor which functions exist.

pub mod asked;
mod filter;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

pub use self::filter::{Filter, NAMESPACE_DEFAULT, Pattern, Wanted};
use super::call::ErrorBody;
use super::json::{phrase, raw, text};

/// What the failure of an auth function is called.
const AUTH_ERROR: &str = "AUTH_ERROR";

/// What every SDK worker may call, unless it is forbidden by name.
const ALWAYS_EXPOSED: [&str; 10] = [
    "engine::baggage::get",
    "engine::baggage::get_all",
    "engine::baggage::set",
    "engine::channels::create",
    "engine::log::debug",
    "engine::log::error",
    "engine::log::info",
    "engine::log::trace",
    "engine::log::warn",
    "engine::workers::register",
];

/// What the auth function of a listener grants one SDK worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Functions that it may call, whatever is exposed.
    pub allowed_functions: Vec<Box<str>>,
    /// Functions that it may not call, whatever is exposed.
    pub forbidden_functions: Vec<Box<str>>,
    /// Types whose triggers it may register. None: all.
    pub allowed_trigger_types: Option<Vec<Box<str>>>,
    /// Whether it may serve a trigger type.
    pub allow_trigger_type_registration: bool,
    /// Whether it may serve a function.
    pub allow_function_registration: bool,
    /// A JSON text.
    pub context: Box<str>,
    /// Its functions stand under this name.
    pub function_registration_prefix: Option<Box<str>>,
    /// Namespaces that it may settle in, and what it may call in each.
    pub namespaces: Vec<Namespace>,
}

/// One namespace of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// None: `default`.
    name: Option<Box<str>>,
    may_call: Vec<Pattern>,
}

impl Namespace {
    fn read_all(json: Option<&RawValue>) -> Result<Vec<Namespace>, String> {
        let Some(json) = json.filter(|json| json.get() != "null") else {
            return Ok(Vec::new());
        };
        let (mut namespaces, mut fault) = (Vec::new(), None);
        let is_object = raw::members(json.get(), |name, patterns| {
            let name = text::read_string(name).unwrap_or_default();
            match phrase::read_strings(patterns) {
                Ok(patterns) => namespaces.push(Namespace {
                    name: named(&name).map(Box::from),
                    may_call: patterns
                        .iter()
                        .map(|pattern| Pattern::new(pattern))
                        .collect(),
                }),
                Err(phrase) => fault = fault.take().or(Some(phrase)),
            }
        });
        match (is_object, fault) {
            (Err(_), _) => Err(phrase::invalid_type(json.get(), "a map")),
            (_, Some(phrase)) => Err(phrase),
            (Ok(()), None) => Ok(namespaces),
        }
    }
}

/// A namespace beside `default`, which is what names none.
fn named(namespace: &str) -> Option<&str> {
    Some(namespace).filter(|name| !name.is_empty() && *name != NAMESPACE_DEFAULT)
}

impl Grant {
    /// Where nobody is asked: no lists, and everything may be registered.
    pub fn unasked() -> Grant {
        Grant {
            allow_trigger_type_registration: true,
            ..Grant::default()
        }
    }

    /// Reads a result, a JSON text, if there was one. Err: what the SDK worker is to be told.
    pub fn read(result: Option<&str>) -> Result<Grant, String> {
        const KEYS: [&str; 8] = [
            "allow_function_registration",
            "allow_trigger_type_registration",
            "allowed_functions",
            "allowed_trigger_types",
            "context",
            "forbidden_functions",
            "function_registration_prefix",
            "namespaces",
        ];
        let Some(json) = result.filter(|json| json.trim_ascii() != "null") else {
            return Err("auth function returned no result".to_owned());
        };
        let [
            functions,
            trigger_types,
            allowed,
            allowed_trigger_types,
            context,
            forbidden,
            prefix,
            namespaces,
        ] = phrase::members(json, "AuthResult", KEYS)?;
        let strings = |json: Option<&RawValue>| json.map_or(Ok(Vec::new()), phrase::read_strings);
        let default = Grant::default();
        // In the order of the keys: of several wrong ones the first is told.
        Ok(Grant {
            allow_function_registration: functions.map_or(
                Ok(default.allow_function_registration),
                phrase::read_boolean,
            )?,
            allow_trigger_type_registration: trigger_types.map_or(
                Ok(default.allow_trigger_type_registration),
                phrase::read_boolean,
            )?,
            allowed_functions: strings(allowed)?,
            allowed_trigger_types: allowed_trigger_types
                .filter(|json| json.get() != "null")
                .map(phrase::read_strings)
                .transpose()?,
            context: context.map_or(default.context, |json| json.get().into()),
            forbidden_functions: strings(forbidden)?,
            function_registration_prefix: phrase::optional_string(prefix)?.map(Box::from),
            namespaces: Namespace::read_all(namespaces)?,
        })
    }
}

/// What an answer without any key grants.
impl Default for Grant {
    fn default() -> Grant {
        Grant {
            allowed_functions: Vec::new(),
            forbidden_functions: Vec::new(),
            allowed_trigger_types: None,
            allow_trigger_type_registration: false,
            allow_function_registration: true,
            context: "{}".into(),
            function_registration_prefix: None,
            namespaces: Vec::new(),
        }
    }
}

/// What one SDK worker may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// None: the listener has no rules.
    rules: Option<Rules>,
}

#[derive(Debug, Clone)]
struct Rules {
    grant: Grant,
    exposed: Arc<[Filter]>,
}

impl Access {
    /// Everything: the listener has no rules.
    pub fn unlimited() -> Access {
        Access { rules: None }
    }

    /// Whether both may do the same, on the same listener.
    pub fn is_same_as(&self, other: &Access) -> bool {
        match (&self.rules, &other.rules) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                one.grant == other.grant && Arc::ptr_eq(&one.exposed, &other.exposed)
            }
            _ => false,
        }
    }

    /// What is granted to this worker, and what the listener exposes to all.
    pub fn limited(grant: Grant, exposed: Arc<[Filter]>) -> Access {
        Access {
            rules: Some(Rules { grant, exposed }),
        }
    }

    /// Whether the listener has rules: who comes to it is not trusted with what others have.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether it may call a function, which stands in that namespace; None: in `default`.
    /// `metadata`: the function's, a JSON text, if it has some.
    ///
    /// Err: what the caller is to be told.
    pub fn may_call(
        &self,
        namespace: Option<&str>,
        id: &str,
        metadata: Option<&str>,
    ) -> Result<(), ErrorBody> {
        let Some(Rules { grant, exposed }) = &self.rules else {
            return Ok(());
        };
        if lists(&grant.forbidden_functions, id) {
            return Err(forbidden(id, "remove from rbac.forbidden_functions"));
        }
        let name = namespace.unwrap_or(NAMESPACE_DEFAULT);
        let is_listed = lists(&grant.allowed_functions, id) || ALWAYS_EXPOSED.contains(&id);
        let mut granted = grant.namespaces.iter();
        let may = (namespace.is_none() && is_listed)
            || granted.any(|granted| {
                granted.name.as_deref() == namespace
                    && granted.may_call.iter().any(|pattern| pattern.fits(id))
            })
            || exposed
                .iter()
                .any(|filter| filter.matches(name, id, metadata));
        match may {
            true => Ok(()),
            false => Err(forbidden(id, "add to rbac.expose_functions")),
        }
    }

    /// Whether its functions may stand in that namespace, which is not `default`.
    ///
    /// Err: what it is to be told.
    pub fn may_settle_in(&self, namespace: &str) -> Result<(), ErrorBody> {
        let may = self.grant().is_none_or(|grant| {
            let mut granted = grant.namespaces.iter();
            granted.any(|granted| granted.name.as_deref() == Some(namespace))
        });
        let message = || format!("namespace '{namespace}' not allowed (add to namespaces)");
        match may {
            true => Ok(()),
            false => Err(ErrorBody::new("FORBIDDEN", message())),
        }
    }

    /// What the auth function gave for it, a JSON text.
    pub fn context(&self) -> &str {
        self.grant().map_or("{}", |grant| &grant.context)
    }

    /// Whether it may serve a function.
    pub fn may_register_functions(&self) -> bool {
        self.grant()
            .is_none_or(|grant| grant.allow_function_registration)
    }

    /// Whether it may serve a trigger type.
    pub fn may_register_trigger_types(&self) -> bool {
        self.grant()
            .is_none_or(|grant| grant.allow_trigger_type_registration)
    }

    /// Whether it may register a trigger of that type.
    pub fn may_register_trigger(&self, trigger_type: &str) -> bool {
        let allowed = self
            .grant()
            .and_then(|grant| grant.allowed_trigger_types.as_deref());
        allowed.is_none_or(|allowed| lists(allowed, trigger_type))
    }

    /// The id under which all others know a function of this worker: also that of a trigger of its.
    pub fn outer_id<'a>(&self, id: &'a str) -> Cow<'a, str> {
        match self.prefix() {
            Some(prefix) => Cow::Owned(format!("{prefix}::{id}")),
            None => Cow::Borrowed(id),
        }
    }

    /// The id under which this worker knows a function that it is called for.
    pub fn inner_id<'a>(&self, id: &'a str) -> &'a str {
        let rest = self
            .prefix()
            .and_then(|prefix| id.strip_prefix(prefix)?.strip_prefix("::"));
        rest.unwrap_or(id)
    }

    fn grant(&self) -> Option<&Grant> {
        self.rules.as_ref().map(|rules| &rules.grant)
    }

    fn prefix(&self) -> Option<&str> {
        self.grant()?.function_registration_prefix.as_deref()
    }
}

fn lists(ids: &[Box<str>], id: &str) -> bool {
    ids.iter().any(|listed| **listed == *id)
}

fn forbidden(id: &str, advice: &str) -> ErrorBody {
    let message = format!("function '{id}' not allowed ({advice})");
    ErrorBody::new("FORBIDDEN", message)
}

/// Appends the message to a worker that is not let in. It is the last one.
pub fn write_auth_error(out: &mut Vec<u8>, message: &str) {
    out.extend_from_slice(br#"{"error":{"code":"#);
    text::write_string(out, AUTH_ERROR);
    out.extend_from_slice(br#","message":"#);
    text::write_string(out, message);
    out.extend_from_slice(br#"},"type":"error"}"#);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(grant: &str, filters: &[Filter]) -> Access {
        Access::limited(Grant::read(Some(grant)).unwrap(), filters.into())
    }

    fn refusal(access: &Access, id: &str) -> String {
        let error = access.may_call(None, id, None).unwrap_err();
        assert_eq!((&*error.code, error.stacktrace), ("FORBIDDEN", None));
        error.message
    }

    #[test]
    fn an_empty_answer_grants_the_defaults() {
        let grant = Grant::read(Some(r#" {"unknown":5} "#)).unwrap();
        assert_eq!(grant, Grant::default());
        assert!(grant.allow_function_registration && !grant.allow_trigger_type_registration);
        assert_eq!((&*grant.context, grant.allowed_trigger_types), ("{}", None));
        let unasked = Access::limited(Grant::unasked(), [].into());
        assert!(unasked.may_register_functions() && unasked.may_register_trigger_types());
        assert!(unasked.may_register_trigger("stream"));
    }

    #[test]
    fn all_keys_are_read() {
        let grant = Grant::read(Some(
            r#"{"allowed_functions":["a"],"forbidden_functions":["b","c"],"allowed_trigger_types":["stream"],"allow_trigger_type_registration":true,"allow_function_registration":false,"context":{"n":1.0},"function_registration_prefix":"p"}"#,
        ));
        let wanted = Grant {
            allowed_functions: vec!["a".into()],
            forbidden_functions: vec!["b".into(), "c".into()],
            allowed_trigger_types: Some(vec!["stream".into()]),
            allow_trigger_type_registration: true,
            allow_function_registration: false,
            context: r#"{"n":1.0}"#.into(),
            function_registration_prefix: Some("p".into()),
            namespaces: Vec::new(),
        };
        assert_eq!(grant, Ok(wanted));
        let nulls = r#"{"allowed_trigger_types":null,"function_registration_prefix":null}"#;
        assert_eq!(Grant::read(Some(nulls)), Ok(Grant::default()));
    }

    #[test]
    fn answers_of_the_wrong_shape_are_told_so() {
        let rows = [
            (None, "auth function returned no result"),
            (Some("null"), "auth function returned no result"),
            (
                Some(r#""x""#),
                r#"invalid type: string "x", expected struct AuthResult"#,
            ),
            (
                Some("[]"),
                "invalid type: sequence, expected struct AuthResult",
            ),
            (
                Some(r#"{"allowed_functions":5}"#),
                "invalid type: integer `5`, expected a sequence",
            ),
            (
                Some(r#"{"forbidden_functions":null}"#),
                "invalid type: null, expected a sequence",
            ),
            (
                Some(r#"{"allowed_trigger_types":[5]}"#),
                "invalid type: integer `5`, expected a string",
            ),
            (
                Some(r#"{"allow_function_registration":null}"#),
                "invalid type: null, expected a boolean",
            ),
            (
                Some(r#"{"function_registration_prefix":5,"allow_trigger_type_registration":"x"}"#),
                r#"invalid type: string "x", expected a boolean"#,
            ),
            (
                Some(r#"{"namespaces":[]}"#),
                "invalid type: sequence, expected a map",
            ),
            (
                Some(r#"{"namespaces":{"a":"*"}}"#),
                r#"invalid type: string "*", expected a sequence"#,
            ),
            (
                Some(r#"{"function_registration_prefix":{}}"#),
                "invalid type: map, expected a string",
            ),
        ];
        for (result, message) in rows {
            assert_eq!(Grant::read(result), Err(message.to_owned()), "{result:?}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_over_a_call() {
        let access = limited(
            r#"{"allowed_functions":["a","both"],"forbidden_functions":["both","stream::set","engine::log::info"]}"#,
            &[
                Filter::of_id("stream::*"),
                Filter {
                    metadata: vec![("public".into(), Wanted::Equal(true.into()))],
                    ..Filter::default()
                },
            ],
        );
        for id in [
            "a",
            "stream::get",
            "engine::channels::create",
            "engine::workers::register",
            "engine::log::warn",
            "engine::log::error",
            "engine::log::debug",
            "engine::log::trace",
            "engine::baggage::get",
            "engine::baggage::set",
            "engine::baggage::get_all",
        ] {
            assert_eq!(access.may_call(None, id, None), Ok(()), "{id}");
        }
        for id in ["both", "stream::set", "engine::log::info"] {
            assert_eq!(
                refusal(&access, id),
                format!("function '{id}' not allowed (remove from rbac.forbidden_functions)")
            );
        }
        assert_eq!(
            refusal(&access, "other::x"),
            "function 'other::x' not allowed (add to rbac.expose_functions)"
        );
        assert!(
            access
                .may_call(None, "engine::functions::list", None)
                .is_err()
        );
        assert_eq!(
            access.may_call(None, "other::x", Some(r#"{"public":true}"#)),
            Ok(())
        );
        assert_eq!(Access::unlimited().may_call(None, "anything", None), Ok(()));
    }

    #[test]
    fn registrations_are_granted_by_kind() {
        let access = limited(
            r#"{"allowed_trigger_types":["stream"],"allow_function_registration":false}"#,
            &[],
        );
        assert!(!access.may_register_functions() && !access.may_register_trigger_types());
        assert!(access.may_register_trigger("stream") && !access.may_register_trigger("log"));
        let all = Access::unlimited();
        assert!(all.may_register_functions() && all.may_register_trigger_types());
        assert!(all.may_register_trigger("log"));
    }

    #[test]
    fn a_prefix_is_put_on_and_taken_off() {
        let access = limited(r#"{"function_registration_prefix":"p"}"#, &[]);
        assert_eq!(access.outer_id("f::g"), "p::f::g");
        assert_eq!(access.inner_id("p::f::g"), "f::g");
        assert_eq!(access.inner_id("pf"), "pf");
        assert_eq!(access.inner_id("q::f"), "q::f");
        let plain = Access::unlimited();
        assert_eq!(
            (&*plain.outer_id("f"), plain.inner_id("p::f")),
            ("f", "p::f")
        );
    }

    #[test]
    fn who_is_not_let_in_is_told_why() {
        let mut out = Vec::new();
        write_auth_error(&mut out, "Function \"x\" not found");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"error":{"code":"AUTH_ERROR","message":"Function \"x\" not found"},"type":"error"}"#
        );
    }

    #[test]
    fn a_grant_of_namespaces_says_what_may_be_called_in_each_and_where_to_settle() {
        let access = limited(
            r#"{"namespaces":{"orders":["svc::*"],"empty":[],"default":["own::f"]},
                "allowed_functions":["a"],"forbidden_functions":["svc::no"]}"#,
            &[
                Filter::of_id("open"),
                Filter {
                    namespace: Some("browser".into()),
                    ..Filter::of_id("link")
                },
            ],
        );
        let may = |namespace, id| access.may_call(namespace, id, None).is_ok();
        assert!(may(Some("orders"), "svc::a") && !may(None, "svc::a"));
        assert!(!may(Some("orders"), "svc::no") && !may(Some("orders"), "other"));
        assert!(!may(Some("empty"), "svc::a") && !may(Some("else"), "svc::a"));
        assert!(may(None, "own::f") && may(None, "a") && may(None, "open"));
        assert!(!may(Some("orders"), "a") && !may(Some("orders"), "open"));
        assert!(may(Some("browser"), "link") && !may(None, "link"));
        assert!(access.may_settle_in("orders").is_ok() && access.may_settle_in("empty").is_ok());
        let refused = access.may_settle_in("browser").unwrap_err();
        assert_eq!(refused.code, "FORBIDDEN");
        assert!(limited("{}", &[]).may_settle_in("orders").is_err());
        assert!(Access::unlimited().may_settle_in("orders").is_ok());
    }
}
