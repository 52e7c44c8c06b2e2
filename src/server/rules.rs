//! The rules of a listener for SDK workers, from the settings to what the engine goes by.
//!
//! The settings are checked when they are read. What is no filter all the same exposes nothing.

use crate::config::{FunctionFilter, MetadataMatch, Rbac};
use crate::engine::Rules;
use crate::protocol::rbac::Filter;
use crate::protocol::text::write_string;

/// The rules of one listener.
pub(super) fn of_listener(rbac: &Rbac) -> Rules {
    let filters = rbac.expose_functions.iter();
    Rules {
        auth_function: rbac.auth_function.clone(),
        exposed: filters
            .filter_map(|filter| Filter::read(&json(filter)).ok())
            .collect(),
    }
}

/// A filter as files write it.
fn json(filter: &FunctionFilter) -> String {
    match filter {
        FunctionFilter::Id(pattern) => quoted(&matching(pattern)),
        FunctionFilter::Metadata(conditions) => {
            let members: Vec<String> = conditions
                .iter()
                .map(|(key, wanted)| {
                    let wanted = match wanted {
                        MetadataMatch::Equal(json) => json.clone(),
                        MetadataMatch::Pattern(pattern) => quoted(&matching(pattern)),
                    };
                    format!("{}:{wanted}", quoted(key))
                })
                .collect();
            format!(r#"{{"metadata":{{{}}}}}"#, members.join(","))
        }
    }
}

fn matching(pattern: &str) -> String {
    format!(r#"match("{pattern}")"#)
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_string(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_what_the_settings_say() {
        let rbac = Rbac {
            auth_function: Some("auth".to_owned()),
            expose_functions: vec![
                FunctionFilter::Id("a\"b::*".to_owned()),
                FunctionFilter::Metadata(vec![
                    ("public".to_owned(), MetadataMatch::Equal("true".to_owned())),
                    ("area".to_owned(), MetadataMatch::Pattern("eu-*".to_owned())),
                ]),
            ],
        };
        let rules = of_listener(&rbac);
        assert_eq!(rules.auth_function.as_deref(), Some("auth"));
        assert_eq!(rules.exposed.len(), 2);
        let rows = [
            ("a\"b::c", None, true),
            ("a::c", None, false),
            ("f", Some(r#"{"public":true,"area":"eu-1"}"#), true),
            ("f", Some(r#"{"public":true,"area":"us-1"}"#), false),
            ("f", Some(r#"{"area":"eu-1"}"#), false),
        ];
        for (id, metadata, fits) in rows {
            let found = rules
                .exposed
                .iter()
                .any(|filter| filter.matches(id, metadata));
            assert_eq!(found, fits, "{id} {metadata:?}");
        }
    }
}
