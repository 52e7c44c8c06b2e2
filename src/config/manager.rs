//! The entries of `iii-worker-manager`: where SDK workers connect, and what they may do there.
//!
//! What the file closes and this server cannot keep closed is refused by name, never passed over.

use serde_json::Value as Json;

use crate::protocol::rbac::{Filter, Pattern, Wanted};

use super::address::shown;
use super::entries::{Entry, MANAGER, open};
use super::keys::{endpoint, function_id};
use super::report::Report;
use super::section::Section;
use super::stored;
use super::words::mismatch;
use super::yaml::{Node, Value};
use super::{Endpoint, HOST_OF_FILE, Rbac, WORKER_PORT, WorkerListener};

const LISTENERS_MAX: usize = 8;

/// One listener for each entry. Without any entry the one listener of a file that names none.
pub(super) fn read(report: &mut Report, entries: &[&Entry<'_>]) -> Vec<WorkerListener> {
    for further in entries.iter().skip(LISTENERS_MAX) {
        further.fault_name(
            report,
            &format!("one {MANAGER} too many, expected at most {LISTENERS_MAX}"),
        );
    }
    if entries.is_empty() {
        return vec![listener(report, None, MANAGER.to_owned(), HOST_OF_FILE)];
    }
    let numbered = entries.iter().take(LISTENERS_MAX).zip(1..);
    numbered
        .map(|(entry, number)| {
            let name = match number {
                1 => MANAGER.to_owned(),
                _ => format!("{MANAGER}#{number}"),
            };
            listener(report, Some(entry), name, HOST_OF_FILE)
        })
        .collect()
}

/// The settings are shown under `name`.
pub(super) fn listener(
    report: &mut Report,
    entry: Option<&Entry<'_>>,
    name: String,
    host: &str,
) -> WorkerListener {
    let place = entry.map(|entry| entry.place(report));
    let mut section = open(report, entry, MANAGER, name);
    let mut address = Endpoint::new(host, WORKER_PORT);
    let mut middleware = None;
    let rbac = stored::config_of(&mut section, MANAGER, |keys| {
        endpoint(keys, &mut address, place);
        keys.read("middleware_function_id", &mut middleware, function_id);
        rbac(keys)
    });
    WorkerListener {
        endpoint: address,
        // What is at fault opens nothing: nobody starts with it.
        rbac: rbac.unwrap_or_default(),
        middleware,
    }
}

fn rbac(keys: &mut Section<'_, '_>) -> Option<Rbac> {
    let mut section = keys.section("rbac");
    if section.is_absent() {
        keys.show("rbac", Json::Null);
        return None;
    }
    let mut auth_function = None;
    section.read("auth_function_id", &mut auth_function, function_id);
    let expected = "a list of match(\"pattern\") and of mappings with match or metadata";
    let filters = section.items("expose_functions", expected, filter);
    if let Some(filters) = &filters {
        section.show("expose_functions", filters.iter().map(written).collect());
    }
    let (mut on_function, mut on_trigger, mut on_trigger_type) = (None, None, None);
    for (key, asked) in [
        ("on_function_registration_function_id", &mut on_function),
        ("on_trigger_registration_function_id", &mut on_trigger),
        (
            "on_trigger_type_registration_function_id",
            &mut on_trigger_type,
        ),
    ] {
        section.read(key, asked, function_id);
    }
    section.done();
    Some(Rbac {
        auth_function,
        on_function,
        on_trigger,
        on_trigger_type,
        expose_functions: filters.unwrap_or_default(),
    })
}

/// None: it is at fault, and the report says so.
fn filter(report: &mut Report, path: String, node: &Node) -> Option<Filter> {
    let what = match &node.value {
        Value::Text(text) => match pattern(text) {
            Some(pattern) => return Some(Filter::of_id(pattern)),
            None => format!("expected match(\"pattern\"), got: {}", shown(text)),
        },
        Value::Mapping(_) => return filter_of_keys(report, path, node),
        _ => mismatch(
            node,
            "match(\"pattern\") or a mapping with match or metadata",
        ),
    };
    report.fault(node.span.start, &path, what);
    None
}

/// Doubled keys are refused here, for each of them narrows what is exposed; all of them do together.
fn filter_of_keys(report: &mut Report, path: String, node: &Node) -> Option<Filter> {
    let mut section = Section::new(report, path.clone(), String::new(), Some(node));
    section.refuse_doubled();
    let id = section.value("match", None, |node| match &node.value {
        Value::Null => Ok(None),
        Value::Text(text) if pattern(text).is_some() => Err(format!(
            "{:?} stands for itself here, expected the pattern alone",
            shown(text)
        )),
        Value::Text(text) => Ok(Some(Pattern::new(text))),
        _ => Err(mismatch(node, "a pattern on the id of a function")),
    });
    let namespace = section.value("namespace", None, |node| match &node.value {
        Value::Null => Ok(None),
        Value::Text(text) if !text.is_empty() => Ok(Some(text.as_str().into())),
        _ => Err(mismatch(node, "the name of a namespace")),
    });
    let metadata = section.node("metadata");
    section.done();
    let metadata = match metadata.filter(|metadata| !matches!(metadata.value, Value::Null)) {
        Some(metadata) => conditions(report, &format!("{path}.metadata"), metadata)?,
        None => Vec::new(),
    };
    let (id, namespace) = (id?, namespace?);
    if id.is_none() && metadata.is_empty() {
        let what =
            "expected a 'match' key with a pattern, or a 'metadata' key with filter conditions";
        report.fault(node.span.start, &path, what);
        return None;
    }
    Some(Filter {
        id,
        metadata,
        namespace,
    })
}

/// What the metadata has to hold: at least one key.
fn conditions(report: &mut Report, path: &str, node: &Node) -> Option<Vec<(Box<str>, Wanted)>> {
    let pairs = match &node.value {
        Value::Mapping(pairs) if !pairs.is_empty() => pairs,
        _ => {
            let what = "expected a 'metadata' key with filter conditions";
            report.fault(node.span.start, path, what);
            return None;
        }
    };
    Section::new(report, path.to_owned(), String::new(), Some(node)).refuse_doubled();
    let expected = "a text, a number, a boolean, null or match(\"pattern\")";
    let conditions: Vec<Option<(Box<str>, Wanted)>> = pairs
        .iter()
        .map(|(key, value)| {
            let found = wanted(value);
            if found.is_none() {
                let path = format!("{path}.{}", key.text);
                report.fault(value.span.start, &path, mismatch(value, expected));
            }
            found.map(|found| (key.text.as_str().into(), found))
        })
        .collect();
    conditions.into_iter().collect()
}

/// None: nothing that JSON has, or that a filter can ask for.
fn wanted(node: &Node) -> Option<Wanted> {
    let json = match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(value), _) => value.into(),
            (_, Ok(value)) => value.into(),
            _ => return None,
        },
        Value::Decimal(text) => {
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            Json::Number(number?)
        }
        Value::Text(text) => match pattern(text) {
            Some(pattern) => return Some(Wanted::Fits(Pattern::new(pattern))),
            None => text.as_str().into(),
        },
        Value::List(_) | Value::Mapping(_) | Value::Tagged(_) => return None,
    };
    Some(Wanted::Equal(json))
}

/// `match("x::*")` → `x::*`.
fn pattern(text: &str) -> Option<&str> {
    let quoted = text.strip_prefix("match(")?.strip_suffix(')')?;
    ['"', '\''].into_iter().find_map(|quote| {
        let inside = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inside.contains(quote)).then_some(inside)
    })
}

/// As it would be written.
fn written(filter: &Filter) -> Json {
    let matching = |pattern: &Pattern| {
        let pattern = pattern.to_string();
        let quote = if pattern.contains('"') { '\'' } else { '"' };
        Json::from(format!("match({quote}{pattern}{quote})"))
    };
    if let (Some(id), true, None) = (&filter.id, filter.metadata.is_empty(), &filter.namespace) {
        return matching(id);
    }
    let mut keys = serde_json::Map::new();
    if let Some(id) = &filter.id {
        keys.insert("match".to_owned(), id.to_string().into());
    }
    if let Some(namespace) = &filter.namespace {
        keys.insert("namespace".to_owned(), (**namespace).into());
    }
    if !filter.metadata.is_empty() {
        let wanted = |wanted: &Wanted| match wanted {
            Wanted::Fits(pattern) => matching(pattern),
            Wanted::Equal(value) => value.clone(),
        };
        let metadata = filter.metadata.iter();
        let metadata = metadata.map(|(key, value)| (key.to_string(), wanted(value)));
        keys.insert("metadata".to_owned(), metadata.collect());
    }
    keys.into()
}

#[cfg(test)]
mod tests {
    use super::super::engine::Said;
    use super::super::env::expand;
    use super::super::{Config, file, yaml};
    use super::*;

    /// What the entries of a file, without `iii-stream`, come to.
    fn read_entries(entries: &str) -> (Config, Report) {
        let text = format!("workers:\n- name: iii-stream\n{entries}");
        let expanded = expand(&text, &|_| None);
        let tree = yaml::parse(&text, |_| {}).ok().expect("well formed YAML");
        let mut report = Report::new("config.yaml", text, expanded);
        let config = file::read(&mut report, tree.as_deref(), &Said::default());
        report.sort();
        (config, report)
    }

    fn rbac_of(rbac: &str) -> (Config, Report) {
        read_entries(&format!(
            "- name: iii-worker-manager\n  config: {{rbac: {{{rbac}}}}}\n"
        ))
    }

    fn checked(read: (Config, Report)) -> Vec<WorkerListener> {
        assert_eq!(read.1.faults, []);
        read.0.worker_listeners
    }

    /// From the column on, for all stands on one line.
    fn faults(report: &Report) -> Vec<String> {
        let faults = report.faults.iter().map(ToString::to_string);
        faults
            .map(|fault| {
                fault
                    .replace("config.yaml:4:", "")
                    .replace("workers[1].config.rbac", "rbac")
            })
            .collect()
    }

    #[test]
    fn each_entry_is_a_listener_with_rules_of_its_own() {
        let (config, report) = read_entries(
            "- name: iii-worker-manager\n\
             - {name: 'iii-worker-manager#7', config: {port: 5, host: localhost, rbac: {auth_function_id: f}}}\n\
             - {name: iii-worker-manager, config: {port: 6, rbac: ~}}\n",
        );
        assert_eq!(report.faults, []);
        let asked = Rbac {
            auth_function: Some("f".to_owned()),
            ..Rbac::default()
        };
        assert_eq!(
            config.worker_listeners,
            [
                Endpoint::new("0.0.0.0", 49134).into(),
                WorkerListener {
                    endpoint: Endpoint::new("localhost", 5),
                    rbac: Some(asked),
                    middleware: None,
                },
                Endpoint::new("0.0.0.0", 6).into(),
            ]
        );
        let shown = |key: &str| {
            let setting = report.settings.iter().find(|setting| setting.key == key);
            setting.map(|setting| format!("{} # {}", setting.value, setting.origin))
        };
        for (key, expected) in [
            ("iii-worker-manager.config.port", "49134 # default"),
            ("iii-worker-manager.config.rbac", "null # default"),
            ("iii-worker-manager#2.config.port", "5 # config.yaml:4"),
            (
                "iii-worker-manager#2.config.rbac.auth_function_id",
                "\"f\" # config.yaml:4",
            ),
            (
                "iii-worker-manager#2.config.rbac.expose_functions",
                "[] # default",
            ),
            ("iii-worker-manager#3.config.rbac", "null # config.yaml:5"),
        ] {
            assert_eq!(shown(key).as_deref(), Some(expected), "{key}");
        }
    }

    #[test]
    fn there_are_eight_listeners_at_most() {
        let entry =
            |number| format!("- {{name: iii-worker-manager, config: {{port: {number}}}}}\n");
        let eight: String = (1..=8).map(entry).collect();
        assert_eq!(checked(read_entries(&eight)).len(), 8);
        let (_, report) = read_entries(&format!("{eight}- name: iii-worker-manager\n"));
        assert_eq!(
            faults(&report),
            [
                "config.yaml:11:9: workers[9].name: one iii-worker-manager too many, expected at most 8"
            ]
        );
    }

    #[test]
    fn empty_rules_are_rules() {
        let listeners = checked(rbac_of(""));
        assert_eq!(listeners[0].rbac, Some(Rbac::default()));
        let listeners = checked(rbac_of(
            "auth_function_id: ~, expose_functions: ~, on_function_registration_function_id: ~",
        ));
        assert_eq!(listeners[0].rbac, Some(Rbac::default()));
    }

    #[test]
    fn a_listener_may_have_functions_asked_about_calls_and_registrations() {
        let listeners = checked(read_entries(
            "- name: iii-worker-manager\n  config: {middleware_function_id: m, rbac: {on_function_registration_function_id: f, \
             on_trigger_registration_function_id: t, on_trigger_type_registration_function_id: k}}\n",
        ));
        let asked = |id: &str| Some(id.to_owned());
        assert_eq!(listeners[0].middleware, asked("m"));
        let rbac = Rbac {
            on_function: asked("f"),
            on_trigger: asked("t"),
            on_trigger_type: asked("k"),
            ..Rbac::default()
        };
        assert_eq!(listeners[0].rbac, Some(rbac));
    }

    #[test]
    fn filters_are_patterns_on_ids_or_on_metadata() {
        let listeners = checked(rbac_of(
            r#"expose_functions: ['match("a::*")', "match('b\"c')", {metadata: {public: true, level: 3, half: .5,
               none: ~, text: "1", area: 'match("eu-*")', odd: match(x)}}]"#,
        ));
        let equal = |key: &str, json: Json| (key.into(), Wanted::Equal(json));
        let rbac = listeners[0].rbac.clone().unwrap();
        let metadata = vec![
            equal("public", true.into()),
            equal("level", 3.into()),
            equal("half", 0.5.into()),
            equal("none", Json::Null),
            equal("text", "1".into()),
            ("area".into(), Wanted::Fits(Pattern::new("eu-*"))),
            equal("odd", "match(x)".into()),
        ];
        let expected = [
            Filter::of_id("a::*"),
            Filter::of_id("b\"c"),
            Filter {
                metadata,
                ..Filter::default()
            },
        ];
        assert_eq!(rbac.expose_functions, expected);
        let shown: Json = expected.iter().map(written).collect();
        assert_eq!(
            shown,
            serde_json::json!([
                "match(\"a::*\")",
                "match('b\"c')",
                {"metadata": {"public": true, "level": 3, "half": 0.5, "none": null, "text": "1",
                    "area": "match(\"eu-*\")", "odd": "match(x)"}}
            ])
        );
    }

    #[test]
    fn filters_of_newer_engines_are_narrowed_by_each_key() {
        let listeners = checked(rbac_of(
            "expose_functions: [{match: 'link::*', namespace: browser}, {match: a, metadata: {public: true}}, \
             {namespace: ~, metadata: {public: true}}, {match: '*', metadata: ~}]",
        ));
        let public = || vec![("public".into(), Wanted::Equal(true.into()))];
        let expected = [
            Filter {
                namespace: Some("browser".into()),
                ..Filter::of_id("link::*")
            },
            Filter {
                metadata: public(),
                ..Filter::of_id("a")
            },
            Filter {
                metadata: public(),
                ..Filter::default()
            },
            Filter::of_id("*"),
        ];
        let rbac = listeners[0].rbac.clone().unwrap();
        assert_eq!(rbac.expose_functions, expected);
        assert_eq!(
            expected.iter().map(written).collect::<Json>(),
            serde_json::json!([
                {"match": "link::*", "namespace": "browser"},
                {"match": "a", "metadata": {"public": true}},
                {"metadata": {"public": true}},
                "match(\"*\")",
            ])
        );
    }

    #[test]
    fn what_cannot_be_kept_closed_is_refused() {
        for key in [
            "on_function_registration_function_id",
            "on_trigger_registration_function_id",
            "on_trigger_type_registration_function_id",
        ] {
            let (_, report) = rbac_of(&format!("{key}: 5"));
            assert!(faults(&report)[0].ends_with(&format!(
                ": rbac.{key}: 5 is an integer, expected the id of a function or null"
            )));
        }
        for (rbac, expected) in [
            (
                "auth_function_id: ''",
                "37: rbac.auth_function_id: \"\" names no function, expected null or no such key",
            ),
            (
                "auth_function_id: 5",
                "37: rbac.auth_function_id: 5 is an integer, expected the id of a function or null",
            ),
            (
                "expose_function: []",
                "19: rbac.expose_function: unknown key; did you mean expose_functions?",
            ),
            (
                "zzz: 1",
                "19: rbac.zzz: unknown key, expected auth_function_id, expose_functions, on_function_registration_function_id, on_trigger_registration_function_id or on_trigger_type_registration_function_id",
            ),
            (
                "expose_functions: x",
                "37: rbac.expose_functions: \"x\" is a text, expected a list of match(\"pattern\") and of mappings with match or metadata",
            ),
            (
                "expose_functions: [x::*]",
                "38: rbac.expose_functions[0]: expected match(\"pattern\"), got: x::*",
            ),
            (
                "expose_functions: [match(x)]",
                "38: rbac.expose_functions[0]: expected match(\"pattern\"), got: match(x)",
            ),
            (
                "expose_functions: [5]",
                "38: rbac.expose_functions[0]: 5 is an integer, expected match(\"pattern\") or a mapping with match or metadata",
            ),
            (
                "expose_functions: [{}]",
                "38: rbac.expose_functions[0]: expected a 'match' key with a pattern, or a 'metadata' key with filter conditions",
            ),
            (
                "expose_functions: [{namespace: a}]",
                "38: rbac.expose_functions[0]: expected a 'match' key with a pattern, or a 'metadata' key with filter conditions",
            ),
            (
                "expose_functions: [{match: a, namespace: 5}]",
                "60: rbac.expose_functions[0].namespace: 5 is an integer, expected the name of a namespace",
            ),
            (
                "expose_functions: [{match: a, metadata: {}}]",
                "59: rbac.expose_functions[0].metadata: expected a 'metadata' key with filter conditions",
            ),
            (
                "expose_functions: [{match: 'match(\"a\")'}]",
                "46: rbac.expose_functions[0].match: \"match(\\\"a\\\")\" stands for itself here, expected the pattern alone",
            ),
            (
                "expose_functions: [{metadata: {}}]",
                "49: rbac.expose_functions[0].metadata: expected a 'metadata' key with filter conditions",
            ),
            (
                "expose_functions: [{metadata: {a: [1]}}]",
                "53: rbac.expose_functions[0].metadata.a: is a list, expected a text, a number, a boolean, null or match(\"pattern\")",
            ),
            (
                "expose_functions: [{metadata: {a: .inf}}]",
                "53: rbac.expose_functions[0].metadata.a: .inf is a decimal number, expected a text, a number, a boolean, null or match(\"pattern\")",
            ),
            (
                "expose_functions: [{metadata: {a: 1, a: 2}}]",
                "56: rbac.expose_functions[0].metadata.a: stands here twice, expected once",
            ),
            (
                "expose_functions: [{metadata: {a: 1}, b: 2}]",
                "57: rbac.expose_functions[0].b: unknown key, expected match, namespace or metadata",
            ),
        ] {
            let (_, report) = rbac_of(rbac);
            assert_eq!(faults(&report), [expected], "{rbac}");
        }
        let (_, report) = read_entries("- {name: iii-worker-manager, config: {rbac: 5}}\n");
        assert_eq!(faults(&report).len(), 1);
    }
}
