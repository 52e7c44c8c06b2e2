//! Which file counts, if any, and what kind of file it is.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::engine::{FileKind, Said};
use super::env::{Expanded, expand};
use super::report::{Fault, Report, Setting};
use super::{Config, FILE_BYTES_MAX, file, yaml};

/// Read without `--config` when it is there.
const FILE_DEFAULT: &str = "config.yaml";
/// Stands for `--config`, which wins over it.
const VARIABLE_CONFIG: &str = "III_STREAM_CONFIG";
/// Where the engine is, unless a whole file says what to serve. The first one counts.
const VARIABLES_ENGINE: [&str; 2] = ["III_URL", "III_ENGINE_URL"];

/// Where the settings come from.
pub struct Sources<'a> {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--engine URL`.
    pub engine: Option<String>,
    /// `--expand-env`: variables are filled in also in what an engine hands to a worker.
    pub expand_env: bool,
    /// `--use-default-config`: no file, even if there is one.
    pub default_config: bool,
    /// An environment variable. None: not set, or not UTF-8.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file's bytes.
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// What came of all sources: `check` shows it whole, the server starts only without faults.
#[derive(Debug)]
pub struct Reading {
    /// What the server is told. Where there is a fault, a default stands.
    pub config: Config,
    /// Each effective setting and where it came from; those at fault are left out.
    pub settings: Vec<Setting>,
    /// In the order of the file.
    pub faults: Vec<Fault>,
}

/// The checked settings, or everything that is wrong with them.
pub fn load(sources: &Sources<'_>) -> Result<Config, Vec<Fault>> {
    let reading = read(sources);
    if reading.faults.is_empty() {
        Ok(reading.config)
    } else {
        Err(reading.faults)
    }
}

/// As [`load`], with all that `check` shows.
pub fn read(sources: &Sources<'_>) -> Reading {
    let said = said(sources);
    if sources.default_config {
        return Reading::of_defaults(&said);
    }
    if let Some(path) = given_file(sources) {
        return read_file(&path, (sources.read)(&path), sources, &said);
    }
    // Started by an engine without --config, `./config.yaml` would be the engine's own file.
    if !said.variables.is_empty() {
        return Reading::of_defaults(&said);
    }
    let path = Path::new(FILE_DEFAULT);
    match (sources.read)(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::of_defaults(&said),
        bytes => read_file(path, bytes, sources, &said),
    }
}

fn said(sources: &Sources<'_>) -> Said {
    let set = |name| (sources.variable)(name).map(|url| (name, url));
    Said {
        flag: sources.engine.clone(),
        variables: VARIABLES_ENGINE.into_iter().filter_map(set).collect(),
    }
}

fn given_file(sources: &Sources<'_>) -> Option<PathBuf> {
    sources
        .config
        .clone()
        .or_else(|| (sources.variable)(VARIABLE_CONFIG).map(PathBuf::from))
}

fn read_file(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    sources: &Sources<'_>,
    said: &Said,
) -> Reading {
    let shown = path.display();
    let cause = match bytes {
        Ok(bytes) if bytes.len() > FILE_BYTES_MAX => {
            format!("has {} bytes, limit {FILE_BYTES_MAX}", bytes.len())
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return read_text(&shown.to_string(), text, sources, said),
            Err(error) => format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint =
                "Hint: create a config.yaml or pass --use-default-config to run with defaults.";
            return Reading::of_fault(format!("Config file not found: '{shown}'.\n{hint}"));
        }
        Err(error) => error.to_string(),
    };
    Reading::of_fault(format!("Failed to read config file '{shown}': {cause}"))
}

/// A bare mapping is read as it stands, for the engine has filled in its variables, and their values
/// may look like variables.
fn read_text(path: &str, source: String, sources: &Sources<'_>, said: &Said) -> Reading {
    let expanded = expand(&source, sources.variable);
    let as_written = Expanded {
        text: source.clone(),
        fills: Vec::new(),
    };
    let is_bare =
        is_bare_mapping(&expanded.text) || !sources.expand_env && is_bare_mapping(&as_written.text);
    let read_as = if is_bare && !sources.expand_env {
        as_written
    } else {
        expanded
    };
    let text = read_as.text.clone();
    let mut report = Report::new(path, source, read_as);

    let mut scalars: Vec<Range<usize>> = Vec::new();
    let tree = match yaml::parse(&text, |scalar| scalars.push(scalar)) {
        Ok(tree) => tree,
        Err(problem) => {
            report.fault_variables(&scalars);
            report.fault(problem.at, "", problem.what);
            return Reading::of(report, Config::default());
        }
    };
    report.fault_variables(&scalars);
    let config = match tree.as_deref() {
        Some(tree) if is_bare => file::read_bare(&mut report, tree, said),
        tree => file::read(&mut report, tree, said),
    };
    Reading::of(report, config)
}

/// False also for what is no YAML.
fn is_bare_mapping(text: &str) -> bool {
    let tree = yaml::parse(text, |_| {});
    tree.is_ok_and(|tree| tree.is_some_and(|tree| file::is_bare_mapping(&tree)))
}

impl Reading {
    fn of(mut report: Report, config: Config) -> Self {
        report.sort();
        Reading {
            config,
            settings: report.settings,
            faults: report.faults,
        }
    }

    fn of_defaults(said: &Said) -> Self {
        let mut report = Report::of_defaults();
        let config = file::read_default(&mut report, FileKind::NoFile, said);
        Reading::of(report, config)
    }

    fn of_fault(line: String) -> Self {
        Reading {
            config: Config::default(),
            settings: Vec::new(),
            faults: vec![Fault::without_place(line)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreConfig;
    use super::*;

    const STREAM: &str = "workers:\n- name: iii-stream\n";

    /// One file that is there, and variables that are set.
    fn reading(
        file: (&str, &str),
        variables: &[(&str, &str)],
        change: impl FnOnce(&mut Sources<'_>),
    ) -> Reading {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(found, _)| *found == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let read_one = |path: &Path| match path == Path::new(file.0) {
            true => Ok(file.1.as_bytes().to_vec()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        let mut sources = Sources {
            config: None,
            engine: None,
            expand_env: false,
            default_config: false,
            variable: &variable,
            read: &read_one,
        };
        change(&mut sources);
        read(&sources)
    }

    fn faults(reading: &Reading) -> Vec<String> {
        reading.faults.iter().map(ToString::to_string).collect()
    }

    fn faults_of(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        faults(&reading(("config.yaml", text), variables, |_| {}))
    }

    #[test]
    fn without_arguments_the_file_counts_if_it_is_there() {
        let with = reading(("config.yaml", STREAM), &[], |_| {});
        assert_eq!(with.config.stream.host, "0.0.0.0");
        let without = reading(("other.yaml", STREAM), &[], |_| {});
        assert_eq!(without.config.stream.host, "127.0.0.1");
        assert!(matches!(without.config.store, StoreConfig::Files(_)));
        let refused = reading(("config.yaml", STREAM), &[], |sources| {
            sources.default_config = true
        });
        assert_eq!(refused.config.stream.host, "127.0.0.1");
    }

    #[test]
    fn a_variable_stands_for_the_flag_and_the_flag_wins() {
        let variable = [("III_STREAM_CONFIG", "a.yaml")];
        let by_variable = reading(("a.yaml", STREAM), &variable, |_| {});
        assert_eq!(faults(&by_variable), [""; 0]);
        let by_flag = reading(("b.yaml", STREAM), &variable, |sources| {
            sources.config = Some("b.yaml".into())
        });
        assert_eq!(faults(&by_flag), [""; 0]);
    }

    #[test]
    fn missing_file_is_the_two_lines_of_the_reference() {
        let reading = reading(("", ""), &[], |sources| {
            sources.config = Some("no.yaml".into())
        });
        assert_eq!(
            faults(&reading),
            [
                "Config file not found: 'no.yaml'.\nHint: create a config.yaml or pass --use-default-config to run with defaults."
            ]
        );
    }

    const BARE: &str = "port: 5\nadapter: {name: kv}\n";
    const VARIABLES: [(&str, &str); 2] =
        [("III_ENGINE_URL", "ws://second"), ("III_URL", "ws://first")];

    /// Whom a reading without faults attaches to, and where subscribers connect.
    fn attached(reading: &Reading) -> (Option<&str>, String) {
        assert_eq!(faults(reading), [""; 0]);
        let config = &reading.config;
        assert_eq!(config.engine.is_some(), config.worker_listeners.is_empty());
        (config.engine.as_deref(), config.stream.to_string())
    }

    fn origin_of_engine(reading: &Reading) -> &str {
        let is_engine = |setting: &&Setting| setting.key == "iii-stream.server.engine";
        let setting = reading.settings.iter().find(is_engine);
        setting.map_or("", |setting| &setting.origin)
    }

    #[test]
    fn variables_without_arguments_attach_and_the_file_there_is_not_read() {
        let file = ("config.yaml", "no: [yaml");
        let by_both = reading(file, &VARIABLES, |_| {});
        let expected = (Some("ws://first"), "127.0.0.1:3112".to_owned());
        assert_eq!(attached(&by_both), expected);
        assert_eq!(origin_of_engine(&by_both), "variable III_URL");
        let by_second = reading(file, &VARIABLES[..1], |_| {});
        assert_eq!(attached(&by_second).0, Some("ws://second"));
        let without_file = reading(file, &VARIABLES, |sources| sources.default_config = true);
        assert_eq!(attached(&without_file), expected);
        for reading in [by_both, without_file] {
            assert!(matches!(reading.config.store, StoreConfig::Files(_)));
            let is_manager = |setting: &Setting| setting.key.starts_with("iii-worker-manager");
            assert!(!reading.settings.iter().any(is_manager));
        }
    }

    #[test]
    fn flag_attaches_whatever_is_served() {
        let flag = |sources: &mut Sources<'_>| sources.engine = Some("ws://flag".to_owned());
        for (file, variables, stream) in [
            (("", ""), &[][..], "127.0.0.1:3112"),
            (("config.yaml", STREAM), &[], "0.0.0.0:3112"),
            (("config.yaml", STREAM), &VARIABLES, "127.0.0.1:3112"),
            (("config.yaml", BARE), &[], "0.0.0.0:5"),
            (
                ("config.yaml", "server: {engine: 'ws://file'}"),
                &[],
                "0.0.0.0:3112",
            ),
        ] {
            let by_flag = reading(file, variables, flag);
            assert_eq!(attached(&by_flag), (Some("ws://flag"), stream.to_owned()));
            assert_eq!(origin_of_engine(&by_flag), "flag");
            let told = by_flag.config.notices.contains(
                &"III_URL and III_ENGINE_URL passed over: --engine says where the engine is"
                    .to_owned(),
            );
            assert_eq!(told, !variables.is_empty());
        }
    }

    #[test]
    fn whole_file_attaches_by_its_own_word_only() {
        let file = "workers: [{name: iii-stream, config: {adapter: {name: kv}}, server: {engine: 'ws://u:p@file?token=t'}}]";
        let reading = reading(("a.yaml", file), &VARIABLES[1..], |sources| {
            sources.config = Some("a.yaml".into());
        });
        let expected = (Some("ws://u:p@file?token=t"), "0.0.0.0:3112".to_owned());
        assert_eq!(attached(&reading), expected);
        assert_eq!(
            reading.config.notices,
            ["III_URL passed over: server.engine in a.yaml says where the engine is"]
        );
        let shown = reading
            .settings
            .iter()
            .find(|setting| setting.key == "iii-stream.server.engine");
        assert_eq!(
            shown.map(|setting| (setting.value.as_str(), setting.origin.as_str())),
            Some((Some("ws://***@file?***"), "a.yaml:1"))
        );
    }

    #[test]
    fn worker_port_of_a_file_is_passed_over_beside_an_engine() {
        let file = "workers:\n- {name: iii-stream, config: {adapter: {name: kv}}}\n\
                    - {name: iii-worker-manager, config: {middleware_function_id: f}}\n- name: iii-worker-manager\n";
        let reading = reading(("config.yaml", file), &[], |sources| {
            sources.engine = Some("ws://flag".to_owned());
        });
        assert_eq!(attached(&reading).0, Some("ws://flag"));
        assert_eq!(
            reading.config.warnings,
            [
                "config.yaml: iii-worker-manager passed over: the engine that this server attaches to has the worker port"
            ]
        );
    }

    #[test]
    fn bare_mapping_attaches_to_what_it_names_else_the_variables_else_the_default() {
        let with_engine = "port: 5\nserver: {engine: 'wss://file', drain_ms: 7}\n";
        for (text, variables, engine, origin) in [
            (with_engine, &VARIABLES[..], "wss://file", "config.yaml:2"),
            (BARE, &VARIABLES, "ws://first", "variable III_URL"),
            (
                BARE,
                &VARIABLES[..1],
                "ws://second",
                "variable III_ENGINE_URL",
            ),
            (BARE, &[], "ws://localhost:49134", "default"),
        ] {
            let reading = reading(("config.yaml", text), variables, |sources| {
                sources.config = Some("config.yaml".into());
            });
            assert_eq!(
                attached(&reading),
                (Some(engine), "0.0.0.0:5".to_owned()),
                "{text}"
            );
            assert_eq!(origin_of_engine(&reading), origin);
        }
        let without_variables = reading(("config.yaml", with_engine), &[], |_| {});
        assert_eq!(without_variables.config.drain_ms, 7);
    }

    #[test]
    fn bare_mapping_is_as_strict_as_an_entry() {
        for (text, expected) in [
            (
                "prot: 1\nhost: h\n",
                "config.yaml:1:1: prot: unknown key; did you mean port?",
            ),
            (
                "port: 1\nzzzzzz: 1\n",
                "config.yaml:2:1: zzzzzz: unknown key, expected port, host, auth_function, adapter or server",
            ),
            (
                "server: {limits: {conections: 1}}\n",
                "config.yaml:1:19: server.limits.conections: unknown key; did you mean connections?",
            ),
            (
                "auth_function: ''\n",
                "config.yaml:1:16: auth_function: \"\" names no function, expected null or no such key",
            ),
            (
                "adapter: {name: bridge}\n",
                "config.yaml:1:17: adapter.name: bridge is not supported by this version of iii-stream, expected kv or redis",
            ),
        ] {
            assert_eq!(faults_of(text, &[]), [expected], "{text}");
        }
    }

    #[test]
    fn bare_mapping_is_filled_in_only_when_asked() {
        let text = "host: h # ${NO}\nauth_function: \"${F}\"\nadapter: {name: kv}\n";
        let as_written = reading(("config.yaml", text), &[("F", "f")], |_| {});
        assert_eq!(attached(&as_written).1, "h:3112");
        let function = as_written.config.auth.function.as_deref();
        assert_eq!(function, Some("${F}"));
        let filled_in = reading(("config.yaml", text), &[("F", "f")], |sources| {
            sources.expand_env = true;
        });
        assert_eq!(attached(&filled_in).1, "h:3112");
        assert_eq!(filled_in.config.auth.function.as_deref(), Some("f"));
        let lacking = reading(("config.yaml", text), &[], |sources| {
            sources.expand_env = true;
        });
        assert_eq!(
            faults(&lacking),
            ["config.yaml:2:17: environment variable F is not set and has no default"]
        );
        // What a variable would bring in cannot spoil it either.
        let quoted = reading(("config.yaml", text), &[("F", "\"")], |_| {});
        assert_eq!(attached(&quoted).1, "h:3112");
    }

    #[test]
    fn what_is_no_address_of_an_engine_is_refused_with_who_said_it() {
        let expected =
            "\"http://x\" is no address of an engine, expected ws://host:port or wss://host:port";
        let by_flag = reading(("", ""), &[("III_URL", "ftp://y")], |sources| {
            sources.engine = Some("http://x".to_owned());
        });
        assert_eq!(faults(&by_flag), [format!("--engine: {expected}")]);
        for text in [STREAM, BARE] {
            let by_variable = reading(("a.yaml", text), &[("III_ENGINE_URL", "http://x")], |_| {});
            assert_eq!(
                faults(&by_variable),
                [format!("III_ENGINE_URL: {expected}")]
            );
        }
        assert_eq!(
            faults_of("server: {engine: 'http://x'}", &[("X", "")]),
            [format!("config.yaml:1:18: server.engine: {expected}")]
        );
    }

    #[test]
    fn engine_variables_are_passed_over_when_a_file_is_given() {
        let reading = reading(("a.yaml", STREAM), &[("III_URL", "ws://x")], |sources| {
            sources.config = Some("a.yaml".into());
        });
        assert_eq!(faults(&reading), [""; 0]);
        assert_eq!(
            reading.config.notices,
            ["III_URL passed over: with a.yaml this server is the engine"]
        );
    }

    #[test]
    fn missing_variables_are_faults_where_their_value_counts() {
        let text = "workers:\n- name: iii-stream # ${IN_A_COMMENT}\n  config:\n    port: ${STREAM_PORT}\n    host: \"a${HOST}b\" # ${IN_A_COMMENT}\n";
        assert_eq!(
            faults_of(text, &[("HOST", "x")]),
            ["config.yaml:4:11: environment variable STREAM_PORT is not set and has no default",]
        );
        assert_eq!(faults_of(text, &[("STREAM_PORT", "1")]).len(), 1);
        assert_eq!(
            faults_of(
                text,
                &[
                    ("STREAM_PORT", "1\n"),
                    ("HOST", "x"),
                    ("IN_A_COMMENT", "a\rb")
                ]
            ),
            [
                "config.yaml:2:22: environment variable IN_A_COMMENT holds a line end, which would change the lines of the file",
                "config.yaml:4:11: environment variable STREAM_PORT holds a line end, which would change the lines of the file",
                "config.yaml:5:25: environment variable IN_A_COMMENT holds a line end, which would change the lines of the file",
            ]
        );
        for in_flow in [
            "workers: [{name: iii-stream, config: {port: ${P}}}]",
            "${P}: 1",
            "workers: [${P}]",
        ] {
            let faults = faults_of(in_flow, &[]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].ends_with("environment variable P is not set and has no default"));
        }
    }

    #[test]
    fn values_of_variables_become_part_of_the_yaml() {
        let file = "workers:\n- name: iii-stream\n  config: {port: ${P:3112}}\n";
        let port = |value: &str| reading(("config.yaml", file), &[("P", value)], |_| {});
        assert_eq!(port("1").config.stream.port, 1);
        assert_eq!(port("1, host: h").config.stream.host, "h");
        assert_eq!(
            faults(&port("")),
            [
                "config.yaml:3:16: workers[0].config.port: is null, expected an integer from 0 to 65535"
            ]
        );
        assert_eq!(
            faults(&port("[1")).len(),
            1,
            "what is no YAML any more is one fault"
        );
    }

    #[test]
    fn places_are_those_of_the_file_as_written() {
        let file = "\u{feff}# ${LONG:x}\r\nworkers:\r\n- {name: ${LONG:iii-stream}, cönfig: 1, config: {prot: 1}}\r\n";
        assert_eq!(
            faults_of(file, &[("LONG", "iii-stream")]),
            ["config.yaml:3:50: workers[0].config.prot: unknown key; did you mean port?"]
        );
    }

    #[test]
    fn unreadable_files_say_why() {
        let latin: &dyn Fn(&Path) -> io::Result<Vec<u8>> = &|_| Ok(vec![b'a', 0xFF]);
        let large: &dyn Fn(&Path) -> io::Result<Vec<u8>> = &|_| Ok(vec![b'#'; FILE_BYTES_MAX + 1]);
        let denied: &dyn Fn(&Path) -> io::Result<Vec<u8>> =
            &|_| Err(io::Error::other("some cause"));
        for (read_file, cause) in [
            (latin, "is not UTF-8 at byte 1"),
            (large, "has 4194305 bytes, limit 4194304"),
            (denied, "some cause"),
        ] {
            let sources = Sources {
                config: None,
                engine: None,
                expand_env: false,
                default_config: false,
                variable: &|_| None,
                read: read_file,
            };
            let expected = format!("Failed to read config file 'config.yaml': {cause}");
            assert_eq!(faults(&read(&sources)), [expected]);
        }
    }
}
