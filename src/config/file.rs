//! A whole file: the streams worker's entry, and what is made of it.
//!
//! The reference's own keys are as strict as there; keys of ours are checked further. What a later
//! version brings is refused here by name: passing over it could open what the file closes.

use super::address::shown;
use super::engine::{FileKind, Said};
use super::entries::{Entry, MANAGER, STREAM, entries, is_old_name, old_name, only, open, skipped};
use super::keys::{endpoint, function_id};
use super::manager;
use super::ports;
use super::report::{Place, Report};
use super::section::Section;
use super::server;
use super::store::{self, FileStore, Lasting, StoreConfig};
use super::stored::{self, VALUE};
use super::words::{mismatch, nearest};
use super::yaml::{Node, Value};
use super::{AuthFailure, Config, HOST_EMBEDDED, HOST_OF_FILE, ip_address};

const NOT_YET: &str = "is not supported by this version of iii-stream";

/// The keys by which the config of one worker is known.
const KEYS_BARE: [&str; 5] = ["port", "host", "auth_function", "adapter", "server"];
/// All that the adapter may be.
const ADAPTERS: &str = "kv or redis";

/// A whole file. Without workers in it: the embedded default.
pub(super) fn read(report: &mut Report, tree: Option<&Node>, said: &Said) -> Config {
    let entries = tree.map(|tree| entries(report, tree)).unwrap_or_default();
    if entries.is_empty() {
        return read_default(report, FileKind::Whole, said);
    }
    let mut config = Config::default();
    HOST_OF_FILE.clone_into(&mut config.stream.host);
    let stream = only(report, &entries, STREAM);
    if stream.is_none() && report.faults.is_empty() {
        report.fault_without_place(without_stream(&report.file, &entries));
    }
    stream_entry(report, &mut config, stream, FileKind::Whole, said);

    let managers: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.is(MANAGER)).collect();
    match &config.engine {
        None => config.worker_listeners = manager::read(report, &managers),
        Some(_) => {
            config.worker_listeners.clear();
            if !managers.is_empty() {
                config.warnings.push(format!(
                    "{}: {MANAGER} passed over: the engine that this server attaches to has the worker port",
                    report.file
                ));
            }
        }
    }
    if report.faults.is_empty() {
        ports::check(report);
    }
    warn_of_open_ports(report, &mut config);
    let skipped = skipped(&entries);
    if !skipped.is_empty() {
        config.warnings.push(format!(
            "{}: passed over workers that this server does not run: {}",
            report.file,
            skipped.join(", ")
        ));
    }
    config
}

/// Whoever reaches a worker port without rules sets values, and serves functions that others rely on.
fn warn_of_open_ports(report: &Report, config: &mut Config) {
    for listener in &config.worker_listeners {
        let address = ip_address(&listener.endpoint.host);
        if listener.rbac.is_none() && address.is_some_and(|address| address.is_unspecified()) {
            config.warnings.push(format!(
                "{}: SDK workers may connect on all addresses ({}) and there is no rbac: whoever reaches it sets \
                 values and serves functions, auth_function among them; {MANAGER} takes host: 127.0.0.1, or rbac",
                report.file, listener.endpoint
            ));
        }
    }
}

/// No entry is ours; perhaps one was meant to be.
fn without_stream(file: &str, entries: &[Entry<'_>]) -> String {
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let hint = nearest(STREAM, &names).map(|name| format!("; did you mean it by {name}?"));
    let hint = hint.unwrap_or_default();
    format!("no worker named {STREAM} in {file}{hint}")
}

/// What runs when no file says what to serve.
pub(super) fn read_default(report: &mut Report, kind: FileKind, said: &Said) -> Config {
    let mut config = Config {
        store: StoreConfig::Files(FileStore::at(store::FILE_PATH_EMBEDDED)),
        ..Config::default()
    };
    stream_entry(report, &mut config, None, kind, said);
    if config.engine.is_some() {
        config.worker_listeners.clear();
    } else {
        let listener = manager::listener(report, None, MANAGER.to_owned(), HOST_EMBEDDED);
        config.worker_listeners = vec![listener];
    }
    config
}

/// The mapping that an engine hands to a worker that it starts: an entry's `config`, with `server`
/// in it.
pub(super) fn read_bare(report: &mut Report, tree: Option<&Node>, said: &Said) -> Config {
    let mut config = Config::default();
    HOST_OF_FILE.clone_into(&mut config.stream.host);
    config.worker_listeners.clear();
    let (path, tree) = match tree.and_then(stored) {
        Some(value) => (VALUE.to_owned(), Some(value)),
        None => (String::new(), tree),
    };
    let name = format!("{STREAM}.config");
    let mut keys = Section::new(report, path, name, tree);
    let lasting = stream_keys(&mut keys, &mut config, None);
    let server_node = keys.node("server");
    let path = keys.path_of("server");
    keys.done();
    let name = format!("{STREAM}.server");
    let section = Section::new(report, path, name, server_node);
    server::read(section, &mut config, FileKind::Bare, said);
    warn(report, &mut config, lasting);
    config
}

/// Whether this is the mapping that an engine hands to a worker that it starts. `is_own`: what an engine
/// keeps for one worker, which may hold nothing.
pub(super) fn is_bare_mapping(tree: Option<&Node>, is_own: bool) -> bool {
    let has = |keys: &[&str]| tree.is_some_and(|tree| has_any(tree, keys));
    !has(&["workers", "modules"]) && (is_own || has(&KEYS_BARE) || tree.and_then(stored).is_some())
}

/// What newer engines keep in a file for each worker: its config under a key of its own.
fn stored(tree: &Node) -> Option<&Node> {
    let Value::Mapping(pairs) = &tree.value else {
        return None;
    };
    let (_, value) = pairs.iter().rev().find(|(key, _)| key.text == VALUE)?;
    let is_config = matches!(value.value, Value::Mapping(_) | Value::Null);
    (is_config && !has_any(tree, &KEYS_BARE)).then_some(&**value)
}

fn has_any(tree: &Node, keys: &[&str]) -> bool {
    let Value::Mapping(pairs) = &tree.value else {
        return false;
    };
    pairs
        .iter()
        .any(|(key, _)| keys.contains(&key.text.as_str()))
}

fn stream_entry(
    report: &mut Report,
    config: &mut Config,
    entry: Option<&Entry<'_>>,
    kind: FileKind,
    said: &Said,
) {
    let place = entry.map(|entry| entry.place(report));
    let has_notices = report.notices.len();
    let mut section = open(report, entry, STREAM, STREAM.to_owned());
    let lasting = stored::config_of(&mut section, STREAM, |keys| {
        stream_keys(keys, config, place)
    });
    let lasting = lasting.unwrap_or(Lasting::AsSaid);
    let config_node = section.node("config");
    let is_silent = config_node.is_none_or(|node| matches!(node.value, Value::Null));
    server::read(section.section("server"), config, kind, said);
    warn(report, config, entry.map_or(Lasting::AsSaid, |_| lasting));
    // Newer engines leave such an entry behind, and keep elsewhere who may subscribe.
    if entry.is_some() && is_silent && report.notices.len() == has_notices {
        report.warnings.push(format!(
            "{}: {STREAM} has no config: whoever reaches {} may subscribe",
            report.file, config.stream
        ));
    }
}

/// The keys of `config`.
fn stream_keys(keys: &mut Section<'_, '_>, config: &mut Config, entry: Option<Place>) -> Lasting {
    endpoint(keys, &mut config.stream, entry);
    keys.read("auth_function", &mut config.auth.function, function_id);
    adapter(keys, &mut config.store)
}

/// What an operator should know of settings that are no fault.
fn warn(report: &Report, config: &mut Config, lasting: Lasting) {
    if let (Some(function), AuthFailure::Allow) = (&config.auth.function, config.auth.failure) {
        config.warnings.push(format!(
            "{}: server.auth_failure is allow: everybody is let in when {function} refuses or fails",
            report.file
        ));
    }
    let why = match lasting {
        Lasting::AsSaid => return,
        Lasting::NoAdapter => "no adapter in it",
        Lasting::PathUnused => "file_path without store_method: file_based",
    };
    config.warnings.push(format!(
        "{}: {why}: values live in memory and end with the process",
        report.file
    ));
}

/// All that passes is `kv` and `redis`.
fn adapter(keys: &mut Section<'_, '_>, store: &mut StoreConfig) -> Lasting {
    let mut adapter = keys.section("adapter");
    let is_there = !adapter.is_absent();
    let class = adapter.other_node("class");
    let mut name = "kv".to_owned();
    adapter.read("name", &mut name, |node| match &node.value {
        Value::Text(text) => match text.as_str() {
            "kv" | "redis" => Ok(text.clone()),
            "bridge" => Err(format!("{text} {NOT_YET}, expected {ADAPTERS}")),
            _ if is_old_name(text) => Err(old_name(node, "")),
            _ => Err(format!("{} is not known, expected {ADAPTERS}", shown(text))),
        },
        _ => Err(mismatch(node, ADAPTERS)),
    });
    if let Some(class) = class {
        adapter.fault_at_key("class", old_name(class, ADAPTERS));
    }
    let named = adapter.node("name");
    if is_there && class.is_none() && named.is_none() {
        adapter.fault_missing(&format!("has no name, expected name: {ADAPTERS}"));
    }
    let is_kv = named.is_none_or(|node| matches!(&node.value, Value::Text(text) if text == "kv"));
    let keys = adapter.section("config");
    let mut lasting = Lasting::AsSaid;
    if is_kv && class.is_none() {
        lasting = store::read(keys, store);
    } else if name == "redis"
        && let Some(redis) = store::read_redis(keys)
    {
        *store = StoreConfig::Redis(redis);
    }
    adapter.done();
    match is_there {
        true => lasting,
        false => Lasting::NoAdapter,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value as Json;

    use crate::protocol::origin::OriginRule;

    use super::super::env::expand;
    use super::super::{AuthSettings, Factor, Fsync, Io, Limits, Pin, RedisStore, Threads, yaml};
    use super::*;
    use crate::config::{Acme, Endpoint, MinVersion, TlsFiles};

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("4000".to_owned()),
            "WORD" => Some("abc".to_owned()),
            _ => None,
        }
    }

    fn read_file(text: &str) -> (Config, Report) {
        let expanded = expand(text, &environment);
        let tree = yaml::parse(&expanded.text.clone(), |_| {})
            .ok()
            .expect("the YAML of a test is well formed");
        let mut report = Report::new("config.yaml", text.to_owned(), expanded);
        let config = read(&mut report, tree.as_deref(), &Said::default());
        report.sort();
        (config, report)
    }

    fn faults(text: &str) -> Vec<String> {
        read_file(text)
            .1
            .faults
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn config(text: &str) -> Config {
        let (mut config, report) = read_file(text);
        assert_eq!(report.faults, [], "{text}");
        config.warnings.splice(0..0, report.warnings);
        config
    }

    /// Faults of what stands in an `iii-stream` entry, without the place in the file.
    fn stream_faults(entry: &str) -> Vec<String> {
        let text = format!("workers: [{{name: iii-stream, {entry}}}]");
        let pathless = |line: String| {
            line.split_once(": workers[0].")
                .expect("a path")
                .1
                .to_owned()
        };
        faults(&text).into_iter().map(pathless).collect()
    }

    fn stream_config(entry: &str) -> Config {
        let manager = "{name: iii-worker-manager, config: {host: 127.0.0.1}}";
        config(&format!(
            "workers: [{{name: iii-stream, {entry}}}, {manager}]"
        ))
    }

    #[test]
    fn files_without_workers_are_the_embedded_default() {
        for text in [
            "",
            "# a comment\n",
            "{}",
            "workers:",
            "workers: []",
            "modules: ~",
            "null",
        ] {
            let config = config(text);
            let expected = Config {
                store: StoreConfig::Files(FileStore::at("./data/stream_store")),
                admin: Some(Default::default()),
                ..Config::default()
            };
            assert_eq!(config, expected, "{text}");
        }
    }

    #[test]
    fn file_without_a_key_has_the_defaults_of_the_reference() {
        let config = config("workers:\n- name: iii-stream\n");
        assert_eq!(config.stream, Endpoint::new("0.0.0.0", 3112));
        assert_eq!(
            config.worker_listeners,
            [Endpoint::new("0.0.0.0", 49134).into()]
        );
        assert_eq!(
            config.warnings,
            [
                "config.yaml: iii-stream has no config: whoever reaches 0.0.0.0:3112 may subscribe",
                "config.yaml: no adapter in it: values live in memory and end with the process",
                "config.yaml: SDK workers may connect on all addresses (0.0.0.0:49134) and there is no rbac: whoever reaches it sets values and serves functions, auth_function among them; iii-worker-manager takes host: 127.0.0.1, or rbac",
            ]
        );
        assert_eq!(config.notices, [""; 0]);
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn both_lists_form_one_and_other_workers_are_passed_over_in_one_line() {
        let config = config(
            "modules:\n- name: iii-stream#7\n  config: {adapter: {name: kv}}\n\
             workers:\n- name: iii-http\n  anything: 1\n- {name: iii-state, config: 5}\n- name: iii-observability\n\
             - name: iii-http\n- name: 7\n- {name: iii-worker-manager, config: {port: 5, host: \"::1\"}}\n",
        );
        assert_eq!(
            config.warnings,
            [
                "config.yaml: passed over workers that this server does not run: iii-http, iii-state, 7"
            ]
        );
        assert_eq!(config.worker_listeners, [Endpoint::new("::1", 5).into()]);
    }

    #[test]
    fn faults_have_the_form_that_the_specification_shows() {
        let file = "\
workers:
  - name: iii-http
  - name: iii-stream
    config:
      port: \"3112\"
      adapter:
        name: rocksdb
    server:
      limits:
        conections: 5
";
        assert_eq!(
            faults(file),
            [
                "config.yaml:5:13: workers[1].config.port: \"3112\" is a text, expected an integer from 0 to 65535 (remove the quotes)",
                "config.yaml:7:15: workers[1].config.adapter.name: rocksdb is not known, expected kv or redis",
                "config.yaml:10:9: workers[1].server.limits.conections: unknown key; did you mean connections?",
            ]
        );
        for (text, expected) in [
            (
                "workers:\n\n  - class: modules::stream::StreamModule\n",
                "config.yaml:3:5: workers[0].class: is from version 0.10; write name: iii-stream",
            ),
            (
                "host: 1\nworkers: [{name: iii-stream}]\n",
                "config.yaml:1:1: host: unknown key at the top level, expected workers (a worker's settings belong under workers[].config)",
            ),
            (
                "worker: []\n",
                "config.yaml:1:1: worker: unknown key at the top level, expected workers (a worker's settings belong under workers[].config); did you mean workers?",
            ),
            (
                "workers: [{name: iii-http}]\n",
                "no worker named iii-stream in config.yaml",
            ),
            (
                "workers: [{name: iii-http}, {name: iii_streams}]\n",
                "no worker named iii-stream in config.yaml; did you mean it by iii_streams?",
            ),
            (
                "[]",
                "config.yaml:1:1: is a list, expected a mapping with workers",
            ),
            (
                "workers: {}",
                "config.yaml:1:10: workers: is a mapping, expected a list",
            ),
            (
                "workers: []\nworkers: []",
                "config.yaml:2:1: workers: stands here twice, expected once",
            ),
            (
                "workers: [iii-stream]",
                "config.yaml:1:11: workers[0]: \"iii-stream\" is a text, expected a mapping with name",
            ),
            (
                "workers:\n- config: {}\n",
                "config.yaml:2:3: workers[0]: has no name, expected name: iii-stream or another worker",
            ),
            (
                "workers: [{name: true}]",
                "config.yaml:1:18: workers[0].name: true is a boolean, expected the name of a worker",
            ),
            (
                "workers: [{name: 'modules::worker::WorkerModule'}]",
                "config.yaml:1:18: workers[0].name: is from version 0.10; write name: iii-worker-manager",
            ),
            (
                "modules: [{class: other}]",
                "config.yaml:1:12: modules[0].class: is from version 0.10; write name: the worker's new name",
            ),
            (
                "workers: [{name: iii-stream}, {name: 'iii-stream#2'}]",
                "config.yaml:1:38: workers[1].name: a second iii-stream, expected one",
            ),
            (
                "workers: [{name: iii-stream}, {name: iii-worker-manager, config: {prot: 1}}]",
                "config.yaml:1:67: workers[1].config.prot: unknown key; did you mean port?",
            ),
        ] {
            assert_eq!(faults(text), [expected], "{text}");
        }
    }

    #[test]
    fn every_key_of_the_reference_is_as_strict_as_there() {
        for (entry, expected) in [
            (
                "image: x",
                "image: iii-stream is built in, expected no image",
            ),
            ("config: []", "config: is a list, expected a mapping"),
            (
                "config: {port: 70000}",
                "config.port: 70000 is too large, expected an integer from 0 to 65535",
            ),
            (
                "config: {port: -1}",
                "config.port: -1 is too small, expected an integer from 0 to 65535",
            ),
            (
                "config: {port: 3112.0}",
                "config.port: 3112.0 is a decimal number, expected an integer from 0 to 65535",
            ),
            (
                "config: {port: ~}",
                "config.port: is null, expected an integer from 0 to 65535",
            ),
            (
                "config: {port: \"${PORT}\"}",
                "config.port: \"4000\" is a text, expected an integer from 0 to 65535 (remove the quotes)",
            ),
            (
                "config: {port: !x 1}",
                "config.port: has the tag !x, expected an integer from 0 to 65535",
            ),
            (
                "config: {host: 5}",
                "config.host: 5 is an integer, expected an IP address or a name",
            ),
            (
                "config: {host: \"\"}",
                "config.host: \"\" is no host, expected an IP address or a name, without port",
            ),
            (
                "config: {host: \"a:1\"}",
                "config.host: \"a:1\" is no host, expected an IP address or a name, without port",
            ),
            (
                "config: {host: \"fe80::1\"}",
                "config.host: \"fe80::1\" cannot be listened on, expected an address that is no multicast or fe80::, or :: for all",
            ),
            (
                "config: {host: \"[ff02::1]\"}",
                "config.host: \"[ff02::1]\" cannot be listened on, expected an address that is no multicast or fe80::, or :: for all",
            ),
            (
                "config: {auth_function: \"\"}",
                "config.auth_function: \"\" names no function, expected null or no such key",
            ),
            (
                "config: {auth_function: 5}",
                "config.auth_function: 5 is an integer, expected the id of a function or null",
            ),
            (
                "config: {threads: 2}",
                "config.threads: unknown key here; it belongs under server",
            ),
            (
                "config: {<<: {port: 1}}",
                "config.<<: unknown key, expected port, host, auth_function or adapter",
            ),
            (
                "config: {adapter: kv}",
                "config.adapter: \"kv\" is a text, expected a mapping",
            ),
            (
                "config: {adapter: {}}",
                "config.adapter: has no name, expected name: kv or redis",
            ),
            (
                "config: {adapter: {name: KV}}",
                "config.adapter.name: KV is not known, expected kv or redis",
            ),
            (
                "config: {adapter: {name: 5}}",
                "config.adapter.name: 5 is an integer, expected kv or redis",
            ),
            (
                "config: {adapter: {name: redis, config: {redis_url: 'http://u:secret@h'}}}",
                "config.adapter.config.redis_url: \"http://***@h\" is no address of a Redis, expected redis://[user:password@]host[:port][/db] or rediss://",
            ),
            (
                "config: {adapter: {name: bridge}}",
                "config.adapter.name: bridge is not supported by this version of iii-stream, expected kv or redis",
            ),
            (
                "config: {adapter: {name: 'modules::stream::adapters::KvStore'}}",
                "config.adapter.name: is from version 0.10; write name: kv",
            ),
            (
                "config: {adapter: {class: 'modules::stream::adapters::RedisAdapter', config: {x: 1}}}",
                "config.adapter.class: is from version 0.10; write name: redis",
            ),
            (
                "config: {adapter: {name: kv, confg: 1}}",
                "config.adapter.confg: unknown key; did you mean config?",
            ),
            (
                "config: {adapter: {name: kv, config: x}}",
                "config.adapter.config: \"x\" is a text, expected a mapping",
            ),
            (
                "config: {adapter: {name: kv, config: {store_method: file_based, fsync: x}}}",
                "config.adapter.config.fsync: x is not known, expected interval, always or never",
            ),
            (
                "config: {adapter: {name: kv, config: {store_method: file_based, snapshot_factor: 1.1}}}",
                "config.adapter.config.snapshot_factor: is too small, expected a number from 1.2 to 100",
            ),
            (
                "config: {adapter: {name: kv, config: {store_method: file_based, segment_bytes: 1KiB}}}",
                "config.adapter.config.segment_bytes: 1KiB is too small, expected bytes from 1MiB to 1GiB, as 65536 or 64KiB",
            ),
            (
                "config: {adapter: {name: kv, config: {store_method: file_based, file_path: ''}}}",
                "config.adapter.config.file_path: is empty, expected a directory",
            ),
            (
                "config: {adapter: {name: kv, config: {store_method: memory}}}",
                "config.adapter.config.store_method: memory is not known, expected in_memory or file_based",
            ),
            (
                "config: {adapter: {name: kv, config: {store_method: 1}}}",
                "config.adapter.config.store_method: 1 is an integer, expected in_memory or file_based",
            ),
            (
                "config: {adapter: {name: kv, config: {save_interval_ms: 0}}}",
                "config.adapter.config.save_interval_ms: 0 is too small, expected an integer from 1 to 86400000",
            ),
            (
                "config: {adapter: {name: kv, config: {save_interval_ms: 5s}}}",
                "config.adapter.config.save_interval_ms: \"5s\" is a text, expected an integer from 1 to 86400000, without a unit",
            ),
            (
                "config: {adapter: {name: kv, config: {file_path: 1}}}",
                "config.adapter.config.file_path: 1 is an integer, expected a directory",
            ),
            (
                "config: {adapter: {name: kv, config: {file_pat: x}}}",
                "config.adapter.config.file_pat: unknown key; did you mean file_path?",
            ),
        ] {
            assert_eq!(stream_faults(entry), [expected], "{entry}");
        }
    }

    #[test]
    fn every_key_of_the_reference_takes_what_it_takes_there() {
        assert_eq!(
            stream_config("config: {port: 0x1F, host: '[::1]'}").stream,
            Endpoint::new("[::1]", 31)
        );
        assert_eq!(
            stream_config("config: {port: 1, port: 2}").stream.port,
            2,
            "the last one counts"
        );
        assert_eq!(
            stream_config("config: {port: ${PORT:1}, host: ${NO:localhost}}").stream,
            Endpoint::new("localhost", 4000)
        );
        for entry in [
            "config: ~, server: ~",
            "config: {auth_function: ~, adapter: ~}, server: {engine: ~, allowed_origins: ~}",
            "image: ~",
            "config: {adapter: {name: kv, config: ~}}",
            "config: {adapter: {name: kv, config: {store_method: in_memory, file_path: ./x, save_interval_ms: 1, channel_size: 0}}}",
        ] {
            stream_config(entry);
        }
        assert_eq!(
            stream_config("config: {adapter: {name: kv}}").warnings,
            [""; 0]
        );
        assert_eq!(stream_config("config: {adapter: ~}").warnings.len(), 1);
        assert_eq!(
            stream_config("config: {adapter: {name: kv, config: {file_path: ./x}}}").warnings,
            [
                "config.yaml: file_path without store_method: file_based: values live in memory and end with the process"
            ]
        );
    }

    #[test]
    fn every_key_of_the_redis_store_is_read() {
        let store = |entry: &str| match stream_config(entry).store {
            StoreConfig::Redis(redis) => redis,
            other => unreachable!("the file asks for Redis, not {other:?}"),
        };
        for keys in ["", ", config: {redis_url: 5, channel_size: 1}"] {
            let redis = store(&format!("config: {{adapter: {{name: redis{keys}}}}}"));
            assert_eq!(Some(redis), RedisStore::at("redis://localhost:6379"));
        }
        let expected = RedisStore {
            connect_timeout: Duration::from_millis(7),
            in_flight: 9,
            lease: Duration::from_millis(1001),
            call_timeout: Duration::from_millis(11),
            ..RedisStore::at("redis://:p@h:1/2").unwrap()
        };
        let keys = "config: {adapter: {name: redis, config: {redis_url: 'redis://:p@h:1/2'}}}, \
                    server: {redis: {connect_timeout_ms: 7, in_flight: 9, lease_ms: 1001}, call_timeout_ms: 11}";
        assert_eq!(store(keys), expected);
        let (_, report) = read_file(&format!("workers: [{{name: iii-stream, {keys}}}]"));
        let shown = |setting: &&super::super::Setting| setting.key.ends_with("redis_url");
        let setting = report.settings.iter().find(shown).unwrap();
        assert_eq!(setting.value, Json::from("redis://***@h:1/2"));
    }

    #[test]
    fn every_key_of_the_file_store_is_read() {
        let store = |keys: &str| {
            let adapter = format!("{{name: kv, config: {{store_method: file_based{keys}}}}}");
            match stream_config(&format!("config: {{adapter: {adapter}}}")).store {
                StoreConfig::Files(files) => files,
                other => unreachable!("the file asks for files, not {other:?}"),
            }
        };
        assert_eq!(store(""), FileStore::at("kv_store_data.db"));
        let expected = FileStore {
            path: "/d".into(),
            fsync: Fsync::Always,
            save_interval: Duration::from_millis(7),
            segment_bytes: 2 << 20,
            snapshot_factor: Factor { percent: 150 },
        };
        let keys = ", file_path: /d, fsync: always, save_interval_ms: 7, segment_bytes: 2MiB, \
                    snapshot_factor: 1.5, channel_size: 256";
        assert_eq!(store(keys), expected);
        assert_eq!(store(", snapshot_factor: 3").snapshot_factor.percent, 300);
    }

    #[test]
    fn every_key_of_ours_is_read() {
        let config = stream_config(
            "server: {threads: 2, pin: [0, 3, 5], place_below: 32, io: uring, backlog: 128, call_timeout_ms: 1, drain_ms: 2, ping_interval_ms: 31s, pong_timeout_ms: 32, stall_timeout_ms: 33, limits: {\
             connections: 1, worker_connections: 16, handshake_ms: 2, handshake_bytes: 3, handshakes: 17, handshakes_bytes: 18, message_bytes: 64KiB, call_bytes: 1MiB, partial_call_bytes: 22, \
             name_bytes: 6, json_depth: 7, value_bytes: 1GiB, update_ops: 9, subscriptions: 10, equal_subscriptions: 19, members_per_group: 20, \
             behind_bytes: 11, custom_events_behind: 31, behind_bytes_worker: 20, mailbox_len: 12, mailbox_bytes: 13B, calls_in_flight: 14, joins_in_flight: 21, call_queue_bytes: 15, \
             early_triggers: 22, early_triggers_bytes: 23, connections_per_address: 24, accepts_per_s: 25, \
             joins_per_s: none, read_bytes_per_s: 27KiB, calls_per_s: 28k, worker_read_bytes_per_s: 0, memory_bytes: 30MiB}}",
        );
        assert_eq!(config.threads, Threads::Count(2));
        assert_eq!(config.pin, Pin::Cores(vec![0, 3, 5]));
        assert_eq!((config.place_below, config.io), (32, Io::Uring));
        let io = |value: &str| stream_config(&format!("server: {{io: {value}}}")).io;
        assert_eq!([io("auto"), io("epoll")], [Io::Auto, Io::Epoll]);
        let placed = |value: &str| {
            let config = stream_config(&format!("server: {{place_below: {value}}}"));
            config.place_below
        };
        assert_eq!([placed("none"), placed("1k")], [0, 1000]);
        assert_eq!(
            (config.backlog, config.call_timeout_ms, config.drain_ms),
            (Some(128), 1, 2)
        );
        let expected = Limits {
            ping_interval_ms: 31_000,
            pong_timeout_ms: 32,
            stall_timeout_ms: 33,
            connections: 1,
            worker_connections: 16,
            handshake_ms: 2,
            handshake_bytes: 3,
            handshakes: 17,
            handshakes_bytes: 18,
            message_bytes: 65_536,
            call_bytes: 1 << 20,
            partial_call_bytes: 22,
            name_bytes: 6,
            json_depth: 7,
            value_bytes: 1 << 30,
            update_ops: 9,
            subscriptions: 10,
            equal_subscriptions: 19,
            members_per_group: 20,
            behind_bytes: 11,
            custom_events_behind: 31,
            behind_bytes_worker: 20,
            mailbox_len: 12,
            mailbox_bytes: 13,
            calls_in_flight: 14,
            joins_in_flight: 21,
            call_queue_bytes: 15,
            early_triggers: 22,
            early_triggers_bytes: 23,
            connections_per_address: 24,
            accepts_per_s: 25,
            joins_per_s: 0,
            read_bytes_per_s: 27 << 10,
            calls_per_s: 28_000,
            worker_read_bytes_per_s: 0,
            memory_bytes: Some(30 << 20),
        };
        assert_eq!(config.limits, expected);
        let never = stream_config("server: {ping_interval_ms: 0}");
        assert_eq!(never.limits.ping_interval_ms, 0);
        let memory = |value: &str| {
            let config = stream_config(&format!("server: {{limits: {{memory_bytes: {value}}}}}"));
            config.limits.memory_bytes
        };
        assert_eq!(
            [memory("auto"), memory("none"), memory("0")],
            [None, Some(0), Some(0)]
        );
        assert_eq!(
            stream_config("server: {threads: auto, pin: auto}").threads,
            Threads::Auto
        );
        assert_eq!(stream_config("server: {pin: none}").pin, Pin::None);
        assert_eq!(
            stream_config("server: {pin: [1]}").pin,
            Pin::Cores(vec![1]),
            "threads may come to one"
        );
    }

    #[test]
    fn subscribers_are_let_in_as_the_file_says() {
        let config = stream_config(
            "config: {auth_function: onAuth, adapter: {name: kv}}, server: {auth_timeout_ms: 7, \
             allowed_origins: ['https://example.com', '*.example.org', 'null'], worker_origins: ['http://localhost:1']}",
        );
        let expected = AuthSettings {
            function: Some("onAuth".to_owned()),
            failure: AuthFailure::Refuse,
            timeout_ms: 7,
        };
        assert_eq!(config.auth, expected);
        let rules = |texts: &[&str]| -> Vec<OriginRule> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(
            config.allowed_origins,
            rules(&["https://example.com", "*.example.org", "null"])
        );
        assert_eq!(config.worker_origins, rules(&["http://localhost:1"]));
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn letting_all_in_on_failure_is_warned_of_where_somebody_is_asked() {
        let allow = "server: {auth_failure: allow}";
        let nobody_asked = stream_config(&format!("config: {{adapter: {{name: kv}}}}, {allow}"));
        assert_eq!(nobody_asked.auth.failure, AuthFailure::Allow);
        assert_eq!(nobody_asked.warnings, [""; 0]);
        let asked = stream_config(&format!(
            "config: {{auth_function: f, adapter: {{name: kv}}}}, {allow}"
        ));
        assert_eq!(
            asked.warnings,
            [
                "config.yaml: server.auth_failure is allow: everybody is let in when f refuses or fails"
            ]
        );
    }

    #[test]
    fn the_files_of_each_port_are_named() {
        let of_keys = |keys: &str| {
            stream_config(&format!(
                "config: {{host: 127.0.0.1, adapter: {{name: kv}}}}, server: {{{keys}}}"
            ))
        };
        let config = of_keys(
            "tls: {cert: a.pem, key: a.key, client_ca: ca.pem, min_version: 1.3}, \
             worker_tls: {cert: b.pem, key: b.key, min_version: '1.2'}, acme_webroot: /srv, acme_port: 8080",
        );
        let files = |name: &str, client_ca: Option<&str>, min_version| TlsFiles {
            cert: format!("{name}.pem").into(),
            key: format!("{name}.key").into(),
            client_ca: client_ca.map(Into::into),
            min_version,
        };
        assert_eq!(
            config.tls,
            Some(files("a", Some("ca.pem"), MinVersion::Tls13))
        );
        assert_eq!(config.worker_tls, Some(files("b", None, MinVersion::Tls12)));
        let acme = Acme {
            webroot: "/srv".into(),
            endpoint: Endpoint::new("127.0.0.1", 8080),
        };
        assert_eq!(config.acme, Some(acme));
        let config = of_keys("tls: ~, acme_webroot: ~, acme_port: 7");
        assert_eq!((config.tls, config.acme), (None, None));
    }

    #[test]
    fn files_of_a_port_come_in_pairs() {
        for (server, expected) in [
            ("tls: {cert: a}", "tls: expected cert and key, both"),
            (
                "worker_tls: {key: a}",
                "worker_tls: expected cert and key, both",
            ),
            ("tls: {}", "tls: expected cert and key, both"),
            ("tls: on", "tls: \"on\" is a text, expected a mapping"),
            (
                "tls: {cert: a, key: ''}",
                "tls.key: \"\" is a text, expected the path of a file",
            ),
            (
                "tls: {cert: a, key: b, min_version: 1.1}",
                "tls.min_version: 1.1 is a decimal number, expected 1.2 or 1.3",
            ),
            (
                "tls: {cert: a, key: b, ca: c}",
                "tls.ca: unknown key, expected cert, key, client_ca or min_version",
            ),
            (
                "cert: a",
                "cert: unknown key here; it belongs under server.tls or server.worker_tls",
            ),
            (
                "acme_webroot: 5",
                "acme_webroot: 5 is an integer, expected the path of a directory",
            ),
        ] {
            let faults = stream_faults(&format!("server: {{{server}}}"));
            assert_eq!(faults, [format!("server.{expected}")]);
        }
    }

    #[test]
    fn origins_at_fault_are_each_shown_in_their_place() {
        assert_eq!(
            faults(
                "workers:\n- name: iii-stream\n  server:\n    allowed_origins:\n    - https://a\n    - https://a/\n    - b\n"
            ),
            [
                "config.yaml:6:7: workers[0].server.allowed_origins[1]: \"https://a/\" is no origin, expected scheme://host, scheme://host:port, *.domain or \"null\" (remove the last /)",
                "config.yaml:7:7: workers[0].server.allowed_origins[2]: \"b\" is no origin, expected scheme://host, scheme://host:port, *.domain or \"null\"",
            ]
        );
    }

    #[test]
    fn every_key_of_ours_is_checked() {
        for (server, expected) in [
            (
                "threads: 0",
                "threads: 0 is too small, expected auto or an integer from 1 to 256",
            ),
            (
                "threads: 257",
                "threads: 257 is too large, expected auto or an integer from 1 to 256",
            ),
            (
                "threads: all",
                "threads: \"all\" is a text, expected auto or an integer from 1 to 256",
            ),
            (
                "pin: 3",
                "pin: 3 is an integer, expected auto, none or a list of core numbers",
            ),
            (
                "pin: []",
                "pin: is an empty list, expected one core for each thread",
            ),
            (
                "pin: [x]",
                "pin: \"x\" is a text, expected a core number from 0 to 4095",
            ),
            (
                "threads: 4, pin: [0, 1]",
                "pin: has 2 for 4 threads, expected at least 4",
            ),
            (
                "backlog: 0",
                "backlog: 0 is too small, expected an integer from 1 to 2147483647",
            ),
            (
                "drain_ms: 0",
                "drain_ms: 0 is too small, expected milliseconds from 1 to 86400000, as 5000 or 5s",
            ),
            (
                "drain_ms: 5 s",
                "drain_ms: \"5 s\" is a text, expected milliseconds from 1 to 86400000, as 5000 or 5s",
            ),
            (
                "ping_interval_ms: 999",
                "ping_interval_ms: 999 is too small, expected 0 or milliseconds from 1000 to 600000, as 25000 or 25s",
            ),
            (
                "pong_timeout_ms: 0",
                "pong_timeout_ms: 0 is too small, expected milliseconds from 1 to 600000, as 5000 or 5s",
            ),
            (
                "drain_ms: 25h",
                "drain_ms: 25h is too large, expected milliseconds from 1 to 86400000, as 5000 or 5s",
            ),
            (
                "limits: {connections: 1G}",
                "limits.connections: \"1G\" is a text, expected an integer from 1 to 1000000000, as 100000 or 100k",
            ),
            (
                "backlog: 1k",
                "backlog: \"1k\" is a text, expected an integer from 1 to 2147483647, without a unit",
            ),
            (
                "host: ::1",
                "host: unknown key here; it belongs under config",
            ),
            (
                "message_bytes: 1",
                "message_bytes: unknown key here; it belongs under server.limits",
            ),
            (
                "engine: 'http://x'",
                "engine: \"http://x\" is no address of an engine, expected ws://host:port or wss://host:port",
            ),
            (
                "engine: 49134",
                "engine: 49134 is an integer, expected ws://host:port or wss://host:port",
            ),
            (
                "io: kqueue",
                "io: \"kqueue\" is a text, expected auto, epoll or uring",
            ),
            (
                "auth_failure: deny",
                "auth_failure: \"deny\" is a text, expected refuse or allow",
            ),
            (
                "auth_timeout_ms: 0",
                "auth_timeout_ms: 0 is too small, expected milliseconds from 1 to 86400000, as 5000 or 5s",
            ),
            (
                "join_required: chat",
                "join_required: \"chat\" is a text, expected a list of names of streams",
            ),
            (
                "join_required: [chat, '']",
                "join_required[1]: \"\" is a text, expected the name of a stream",
            ),
            (
                "streams: {stream: chat}",
                "streams: is a mapping, expected a list of mappings, as [{stream: chat, ttl_ms: 1h}]",
            ),
            (
                "streams: [chat]",
                "streams[0]: \"chat\" is a text, expected a mapping, as {stream: chat, ttl_ms: 1h}",
            ),
            (
                "streams: [{ttl_ms: 1s}]",
                "streams[0]: has no stream, expected the name of a stream, or the beginning of some with a *",
            ),
            (
                "streams: [{stream: a*b}]",
                "streams[0].stream: \"a*b\" is a text, expected the name of a stream, or the beginning of some with a * behind it",
            ),
            (
                "streams: [{stream: a, ttl: 1s}]",
                "streams[0].ttl: unknown key, expected stream, ttl_ms, pace_ms or members",
            ),
            (
                "streams: [{stream: a, ttl_ms: 1s, ttl_ms: 2s}]",
                "streams[0].ttl_ms: stands here twice, expected once",
            ),
            (
                "streams: [{stream: a, ttl_ms: soon}]",
                "streams[0].ttl_ms: \"soon\" is a text, expected milliseconds from 0 to 536870911000, as 60000 or 1min",
            ),
            (
                "streams: [{stream: a, members: yes}]",
                "streams[0].members: \"yes\" is a text, expected a mapping",
            ),
            (
                "streams: [{stream: a, members: {data: context.user}}]",
                "streams[0].members: has no id, expected context.<path>, query.<name> or header.<name>",
            ),
            (
                "streams: [{stream: a, members: {id: user.id}}]",
                "streams[0].members.id: \"user.id\" is a text, expected context.<path>, query.<name> or header.<name>",
            ),
            (
                "streams: [{stream: a, members: {id: query.u, data: query.u}}]",
                "streams[0].members.data: \"query.u\" is a text, expected context or context.<path>",
            ),
            (
                "streams: [{stream: a, members: {id: query.u, grace: 1s}}]",
                "streams[0].members.grace: unknown key, expected id, data, grace_ms or restart_grace_ms",
            ),
            (
                "streams: [{stream: a, pace_ms: soon}]",
                "streams[0].pace_ms: \"soon\" is a text, expected milliseconds from 0 to 60000, as 50 or 1s",
            ),
            (
                "streams: [{stream: a*, ttl_ms: 1s}, {stream: ab}]",
                "streams[1]: ab never counts, for a* in line 1 comes before it",
            ),
            (
                "allowed_origins: none",
                "allowed_origins: \"none\" is a text, expected a list of origins, as https://example.com",
            ),
            (
                "allowed_origins: []",
                "allowed_origins: is an empty list, expected an origin or no such key (any)",
            ),
            (
                "worker_origins: []",
                "worker_origins: is an empty list, expected an origin or no such key (loopback)",
            ),
            (
                "worker_origins: ['null', null]",
                "worker_origins[1]: is null, expected an origin (\"null\" in quotes is one)",
            ),
            (
                "allowed_origins: ['https://a', 5]",
                "allowed_origins[1]: 5 is an integer, expected an origin, as https://example.com",
            ),
            (
                "operators: none",
                "operators: unknown key, expected engine, threads, pin, place_below, io, backlog, auth_failure, auth_timeout_ms, join_required, join_failure, streams, allowed_origins, worker_origins, trusted_proxies, tls, worker_tls, acme_webroot, acme_port, call_timeout_ms, drain_ms, ping_interval_ms, pong_timeout_ms, stall_timeout_ms, log, admin, redis or limits",
            ),
            ("limits: 5", "limits: 5 is an integer, expected a mapping"),
            (
                "limits: {connections: 1, connections: 2}",
                "limits.connections: stands here twice, expected once",
            ),
            (
                "limits: {mailbox_len: 7}",
                "limits.mailbox_len: 7 is too small, expected an integer from 8 to 1048576, as 100000 or 100k",
            ),
            (
                "limits: {json_depth: 126}",
                "limits.json_depth: 126 is too large, expected an integer from 1 to 125",
            ),
            (
                "limits: {message_bytes: 0}",
                "limits.message_bytes: 0 is too small, expected bytes from 1 to 1GiB, as 65536 or 64KiB",
            ),
            (
                "limits: {message_bytes: 2GiB}",
                "limits.message_bytes: 2GiB is too large, expected bytes from 1 to 1GiB, as 65536 or 64KiB",
            ),
            (
                "limits: {message_bytes: 1MB}",
                "limits.message_bytes: \"1MB\" is a text, expected bytes from 1 to 1GiB, as 65536 or 64KiB",
            ),
            (
                "limits: {message_bytes: \"5\"}",
                "limits.message_bytes: \"5\" is a text, expected bytes from 1 to 1GiB, as 65536 or 64KiB (remove the quotes)",
            ),
        ] {
            let expected = format!("server.{expected}");
            assert_eq!(
                stream_faults(&format!("server: {{{server}}}")),
                [expected],
                "{server}"
            );
        }
    }

    #[test]
    fn settings_say_where_they_came_from_and_those_at_fault_are_silent() {
        let (_, report) = read_file(
            "workers:\n- name: iii-stream\n  config:\n    port: ${PORT:1}\n    host: \"${NO:h}\"\n  server:\n    threads: x\n    drain_ms: 7\n",
        );
        let origin = |key: &str| {
            let setting = report.settings.iter().find(|setting| setting.key == key);
            setting.map(|setting| format!("{} # {}", setting.value, setting.origin))
        };
        assert_eq!(
            origin("iii-stream.config.port").unwrap(),
            "4000 # variable PORT"
        );
        assert_eq!(
            origin("iii-stream.config.host").unwrap(),
            "\"h\" # config.yaml:5"
        );
        assert_eq!(
            origin("iii-stream.server.drain_ms").unwrap(),
            "7 # config.yaml:8"
        );
        assert_eq!(
            origin("iii-stream.server.backlog").unwrap(),
            "65535 # default"
        );
        assert_eq!(origin("iii-stream.server.threads"), None);
        assert_eq!(
            origin("iii-worker-manager.config.port").unwrap(),
            "49134 # default"
        );
        assert_eq!(
            origin("iii-stream.config.adapter.config.file_path"),
            None,
            "it has no effect"
        );
        assert_eq!(
            origin("iii-stream.config.auth_function").unwrap(),
            "null # default"
        );
        assert_eq!(
            origin("iii-stream.server.engine").unwrap(),
            "null # default"
        );
        assert_eq!(
            origin("iii-stream.server.auth_failure").unwrap(),
            "\"refuse\" # default"
        );
        assert_eq!(
            origin("iii-stream.server.allowed_origins").unwrap(),
            "\"any\" # default"
        );
        assert_eq!(
            origin("iii-stream.server.worker_origins").unwrap(),
            "\"loopback\" # default"
        );
        assert_eq!(
            origin("iii-stream.server.join_required").unwrap(),
            "[] # default"
        );
        let mut keys: Vec<&str> = report.settings.iter().map(|one| one.key.as_str()).collect();
        keys.sort_unstable();
        let repeated = keys.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(repeated, None, "each setting stands once");
    }
}
