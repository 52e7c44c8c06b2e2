//! Which file counts, if any, and what kind of file it is.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::engine::{FileKind, Said};
use super::entries::{MANAGER, STREAM, has_only_others};
use super::env::{Expanded, expand};
use super::report::{Fault, Report, Setting};
use super::stored_file::StoredFile;
use super::{Config, FILE_BYTES_MAX, file, yaml};

/// Read without `--config` when it is there.
const FILE_DEFAULT: &str = "config.yaml";
/// Stand for `--config`, which wins over them. The first one counts; an engine gives the second.
const VARIABLES_CONFIG: [&str; 2] = ["III_STREAM_CONFIG", VARIABLE_OWN_CONFIG];
/// Where an engine keeps the configuration of this one worker.
const VARIABLE_OWN_CONFIG: &str = "III_CONFIG";
/// Where the engine is, unless a whole file says what to serve. The first one counts.
const VARIABLES_ENGINE: [&str; 2] = ["III_URL", "III_ENGINE_URL"];
/// By what an engine is to know this server.
const VARIABLE_NAME: &str = "III_WORKER_NAME";
const VARIABLE_NAMESPACE: &str = "III_NAMESPACE";

/// Where the settings come from.
pub struct Sources<'a> {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--engine URL`.
    pub engine: Option<String>,
    /// `--namespace NAME`.
    pub namespace: Option<String>,
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
    let here = Path::new(FILE_DEFAULT);
    let is_here = || !is_missing(&(sources.read)(here));
    if sources.default_config {
        let mut reading = Reading::of_defaults(&said);
        if is_here() {
            let line = format!("{FILE_DEFAULT} passed over: --use-default-config asks for no file");
            reading.config.notices.push(line);
        }
        return reading;
    }
    if let Some(given) = given_file(sources) {
        let is_other = given.variable.is_some() && given.path != here && is_here();
        let mut reading = read_file(&given, (sources.read)(&given.path), sources, &said);
        let notices = &mut reading.config.notices;
        notices.extend(given.passed_over(sources));
        if let (true, Some(variable)) = (is_other, given.variable) {
            notices.push(format!(
                "{FILE_DEFAULT} passed over: {variable} names {}",
                given.path.display()
            ));
        }
        return reading;
    }
    match (sources.read)(here) {
        bytes if is_missing(&bytes) => Reading::of_defaults(&said),
        bytes => read_file(&Given::found(here), bytes, sources, &said),
    }
}

fn is_missing(bytes: &io::Result<Vec<u8>>) -> bool {
    let error = bytes.as_ref().err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn said(sources: &Sources<'_>) -> Said {
    let set = |name| (sources.variable)(name).map(|url| (name, url));
    // Who starts this server sets these empty where there is nothing to say.
    let filled = |name| set(name).filter(|(_, text)| !text.is_empty());
    let namespace = sources.namespace.clone().map(|text| ("--namespace", text));
    Said {
        flag: sources.engine.clone(),
        variables: VARIABLES_ENGINE.into_iter().filter_map(set).collect(),
        name: filled(VARIABLE_NAME),
        namespace: namespace.or_else(|| filled(VARIABLE_NAMESPACE)),
    }
}

/// The file to read, and who names it.
struct Given {
    path: PathBuf,
    /// None: a flag names it, or nobody, and it lies here.
    variable: Option<&'static str>,
    /// Nobody names it.
    is_found: bool,
}

impl Given {
    fn found(path: &Path) -> Given {
        Given {
            path: path.to_owned(),
            variable: None,
            is_found: true,
        }
    }

    /// The line about variables that name another file and lose.
    fn passed_over(&self, sources: &Sources<'_>) -> Option<String> {
        let by = self.variable.unwrap_or("--config");
        let is_other = |name: &&str| {
            let path = config_variable(sources, name);
            self.variable != Some(name) && path.is_some_and(|path| path != self.path)
        };
        let others: Vec<&str> = VARIABLES_CONFIG.into_iter().filter(is_other).collect();
        let (others, path) = (others.join(" and "), self.path.display());
        (!others.is_empty()).then(|| format!("{others} passed over: {by} names {path}"))
    }
}

fn given_file(sources: &Sources<'_>) -> Option<Given> {
    let given = |path, variable| Given {
        path,
        variable,
        is_found: false,
    };
    if let Some(path) = &sources.config {
        return Some(given(path.clone(), None));
    }
    VARIABLES_CONFIG
        .into_iter()
        .find_map(|name| Some(given(config_variable(sources, name)?, Some(name))))
}

fn config_variable(sources: &Sources<'_>, name: &str) -> Option<PathBuf> {
    let path = (sources.variable)(name)?;
    (name != VARIABLE_OWN_CONFIG || !path.is_empty()).then(|| PathBuf::from(path))
}

fn read_file(
    given: &Given,
    bytes: io::Result<Vec<u8>>,
    sources: &Sources<'_>,
    said: &Said,
) -> Reading {
    let shown = given.path.display();
    let cause = match bytes {
        Ok(bytes) if bytes.len() > FILE_BYTES_MAX => {
            format!("has {} bytes, limit {FILE_BYTES_MAX}", bytes.len())
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return read_text(given, text, sources, said),
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
fn read_text(given: &Given, source: String, sources: &Sources<'_>, said: &Said) -> Reading {
    let expanded = expand(&source, sources.variable);
    let as_written = Expanded {
        text: source.clone(),
        fills: Vec::new(),
    };
    // What an engine keeps for one worker is that worker's, also where it says nothing.
    let is_own = given.variable == Some(VARIABLE_OWN_CONFIG);
    let is_bare = |text: &str| {
        let tree = yaml::parse(text, |_| {});
        tree.is_ok_and(|tree| file::is_bare_mapping(tree.as_deref(), is_own))
    };
    let is_bare = is_bare(&expanded.text) || !sources.expand_env && is_bare(&as_written.text);
    let read_as = if is_bare && !sources.expand_env {
        as_written
    } else {
        expanded
    };
    let text = read_as.text.clone();
    let mut report = Report::new(given.path.display().to_string(), source, read_as);

    let mut scalars: Vec<Range<usize>> = Vec::new();
    let tree = match yaml::parse(&text, |scalar| scalars.push(scalar)) {
        Ok(tree) => tree,
        Err(problem) => {
            report.fault_variables(&scalars);
            report.fault(problem.at, "", problem.what);
            return Reading::of(report, Config::default());
        }
    };
    let tree = tree.as_deref();
    if given.is_found && said.names_engine() && tree.is_some_and(has_only_others) {
        return Reading::beside_file_of_others(&report.file, said);
    }
    report.fault_variables(&scalars);
    if !is_bare {
        let beside =
            |worker| StoredFile::beside(&given.path, worker, sources.read, sources.variable);
        let stored = [STREAM, MANAGER].into_iter().filter_map(beside);
        report.stored = stored.map(Rc::new).collect();
    }
    let config = match is_bare {
        true => file::read_bare(&mut report, tree, said),
        false => file::read(&mut report, tree, said),
    };
    Reading::of(report, config)
}

impl Reading {
    /// Has limits lowered to what the system allows; what is in force is shown, and whence it comes.
    pub fn fit(&mut self, lower: impl FnOnce(&mut Config) -> Option<String>) {
        let warning = lower(&mut self.config);
        let limits = &self.config.limits;
        for (key, limit) in [
            ("connections", limits.connections),
            ("worker_connections", limits.worker_connections),
        ] {
            let key = format!("iii-stream.server.limits.{key}");
            for setting in self.settings.iter_mut().filter(|it| it.key == key) {
                if setting.value != limit {
                    setting.origin = format!("open files ({}: {})", setting.origin, setting.value);
                    setting.value = limit.into();
                }
            }
        }
        self.config.warnings.extend(warning);
    }

    /// Adds what is wrong with the settings on this machine alone.
    pub fn add_fault(&mut self, line: String) {
        self.faults.push(Fault::without_place(line));
    }

    fn of(mut report: Report, mut config: Config) -> Self {
        report.sort();
        config.warnings.splice(0..0, report.warnings);
        config.notices.splice(0..0, report.notices);
        config.file = Some(report.file).filter(|file| !file.is_empty());
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

    /// Started in the directory of an engine, this server finds that engine's own file.
    fn beside_file_of_others(file: &str, said: &Said) -> Self {
        let mut reading = Reading::of_defaults(said);
        let line = format!(
            "{file} passed over: it has no worker named {STREAM}, and this server attaches to an engine"
        );
        reading.config.warnings.push(line);
        reading
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
pub(super) mod tests {
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
            namespace: None,
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
        (
            config.engine.as_ref().map(|engine| &*engine.shown),
            config.stream.to_string(),
        )
    }

    fn origin_of_engine(reading: &Reading) -> &str {
        let is_engine = |setting: &&Setting| setting.key == "iii-stream.server.engine";
        let setting = reading.settings.iter().find(is_engine);
        setting.map_or("", |setting| &setting.origin)
    }

    #[test]
    fn variables_without_arguments_attach_where_no_file_is_there() {
        let file = ("other.yaml", STREAM);
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
    fn a_file_that_is_there_is_never_passed_over_in_silence() {
        for variables in [&VARIABLES[..1], &VARIABLES[1..], &VARIABLES] {
            let whole = reading(("config.yaml", STREAM), variables, |_| {});
            assert_eq!(attached(&whole), (None, "0.0.0.0:3112".to_owned()));
            let names: Vec<&str> = variables.iter().rev().map(|(name, _)| *name).collect();
            assert_eq!(
                whole.config.notices,
                [format!(
                    "{} passed over: with config.yaml this server is the engine",
                    names.join(" and ")
                )]
            );
            let bare = reading(("config.yaml", BARE), variables, |_| {});
            assert_eq!(attached(&bare).1, "0.0.0.0:5");
            assert!(bare.config.engine.is_some());
        }
        let broken = reading(("config.yaml", "no: [yaml"), &VARIABLES, |_| {});
        assert_eq!(faults(&broken).len(), 1);

        let notice = |change: &dyn Fn(&mut Sources<'_>), variables: &[(&str, &str)]| {
            let reading = reading(("config.yaml", STREAM), variables, change);
            reading.config.notices.join("; ")
        };
        assert_eq!(
            notice(&|sources| sources.default_config = true, &[]),
            "config.yaml passed over: --use-default-config asks for no file"
        );
        let other = |sources: &mut Sources<'_>| {
            sources.read = &|path| match path.starts_with("config") {
                true => Err(io::ErrorKind::NotFound.into()),
                false => Ok(STREAM.into()),
            };
        };
        assert_eq!(
            notice(&other, &[("III_CONFIG", "a.yaml")]),
            "config.yaml passed over: III_CONFIG names a.yaml"
        );
        assert_eq!(
            notice(
                &|sources| {
                    other(sources);
                    sources.config = Some("b.yaml".into());
                },
                &[("III_CONFIG", "a.yaml"), ("III_STREAM_CONFIG", "b.yaml")]
            ),
            "III_CONFIG passed over: --config names b.yaml"
        );
    }

    #[test]
    fn the_file_of_an_engine_without_streams_is_passed_over_with_a_warning() {
        let others =
            "workers: [{name: 'workers::iii_stream', config: {port: 5}}, {name: iii-http}]";
        let warned = "config.yaml passed over: it has no worker named iii-stream, and this server attaches to an engine";
        for by_flag in [false, true] {
            let variables = if by_flag { &[] } else { &VARIABLES[..] };
            let here = reading(("config.yaml", others), variables, |sources| {
                sources.engine = by_flag.then(|| "ws://first".to_owned());
            });
            let expected = (Some("ws://first"), "127.0.0.1:3112".to_owned());
            assert_eq!(attached(&here), expected);
            assert_eq!(here.config.warnings, [warned]);
        }
        // Where nobody names an engine, the file is meant; so it is where it may have meant us.
        for (text, variables) in [
            (others, &[][..]),
            ("workers: [{name: iii-streams}]", &VARIABLES),
            (
                "workers: [{class: 'modules::stream::StreamModule'}]",
                &VARIABLES,
            ),
            ("workers: [{name: iii-http}, {config: {}}]", &VARIABLES),
        ] {
            assert_eq!(faults_of(text, variables).len(), 1, "{text}");
        }
        let named = reading(("config.yaml", others), &VARIABLES, |sources| {
            sources.config = Some("config.yaml".into());
        });
        assert_eq!(
            faults(&named),
            ["no worker named iii-stream in config.yaml"]
        );
    }

    #[test]
    fn an_engine_tells_its_worker_all_by_variables() {
        let variables = [
            ("III_URL", "ws://engine:1"),
            ("III_NAMESPACE", "orders"),
            ("III_WORKER_NAME", "streams"),
            ("III_CONFIG", "own.yaml"),
        ];
        for (text, port) in [
            ("", 3112),
            ("# nothing\n", 3112),
            ("{}", 3112),
            ("port: 5\nhost: 127.0.0.1\n", 5),
            ("value: {port: 6}\nid: x\n", 6),
            ("value:\n", 3112),
        ] {
            let reading = reading(("own.yaml", text), &variables, |_| {});
            assert_eq!(attached(&reading).0, Some("ws://engine:1"), "{text}");
            assert_eq!(reading.config.stream.port, port, "{text}");
            let known_as = &reading.config.known_as;
            let both = (known_as.name.as_deref(), known_as.namespace.as_deref());
            assert_eq!(both, (Some("streams"), Some("orders")));
            let line = |key: &str| {
                let found = reading.settings.iter().find(|setting| setting.key == key);
                found.map(|setting| format!("{} # {}", setting.value, setting.origin))
            };
            for (key, expected) in [
                ("name", "\"streams\" # variable III_WORKER_NAME"),
                ("namespace", "\"orders\" # variable III_NAMESPACE"),
            ] {
                let key = format!("iii-stream.worker.{key}");
                assert_eq!(line(&key).as_deref(), Some(expected));
            }
        }
        let in_place = |text: &str| faults(&reading(("own.yaml", text), &variables, |_| {}));
        assert_eq!(
            in_place("value: {prot: 6}\n"),
            ["own.yaml:1:9: value.prot: unknown key; did you mean port?"]
        );
        assert_eq!(in_place("prot: 6\n").len(), 1);
    }

    #[test]
    fn a_flag_names_the_namespace_and_empty_variables_name_nothing() {
        let variables = [
            ("III_URL", "ws://engine:1"),
            ("III_NAMESPACE", "orders"),
            ("III_WORKER_NAME", ""),
            ("III_CONFIG", ""),
        ];
        let by_flag = reading(("", ""), &variables, |sources| {
            sources.namespace = Some("bills".to_owned());
        });
        assert_eq!(attached(&by_flag).0, Some("ws://engine:1"));
        assert_eq!(by_flag.config.known_as.namespace.as_deref(), Some("bills"));
        assert_eq!(by_flag.config.known_as.name, None);
        let long = "x".repeat(257);
        for (name, shown) in [("a\nb", "\"a\\nb\""), (&long, &*format!("{long:?}"))] {
            let variables = [("III_URL", "ws://engine:1"), ("III_WORKER_NAME", name)];
            assert_eq!(
                faults(&reading(("", ""), &variables, |_| {})),
                [format!(
                    "III_WORKER_NAME: {shown} is no name, expected 1 to 256 bytes without control characters"
                )]
            );
        }
        let nobody_asks = reading(("config.yaml", STREAM), &variables, |_| {});
        assert_eq!(
            nobody_asks.config.notices,
            [
                "III_URL passed over: with config.yaml this server is the engine",
                "III_NAMESPACE passed over: this server attaches to no engine"
            ]
        );
    }

    #[test]
    fn flag_attaches_whatever_is_served() {
        let flag = |sources: &mut Sources<'_>| sources.engine = Some("ws://flag".to_owned());
        for (file, variables, stream) in [
            (("", ""), &[][..], "127.0.0.1:3112"),
            (("config.yaml", STREAM), &[], "0.0.0.0:3112"),
            (("config.yaml", STREAM), &VARIABLES, "0.0.0.0:3112"),
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
        let expected = (Some("ws://***@file?***"), "0.0.0.0:3112".to_owned());
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
                namespace: None,
                expand_env: false,
                default_config: false,
                variable: &|_| None,
                read: read_file,
            };
            let expected = format!("Failed to read config file 'config.yaml': {cause}");
            assert_eq!(faults(&read(&sources)), [expected]);
        }
    }

    /// What comes of files that lie beside each other; the first is the one that is served.
    pub(in crate::config) fn reading_of(files: &[(&str, &str)]) -> Reading {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| path == Path::new(name));
            found
                .map(|(_, text)| text.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        super::read(&Sources {
            config: Some(files[0].0.into()),
            engine: None,
            namespace: None,
            expand_env: false,
            default_config: false,
            variable: &|name| (name == "PORT").then(|| "7".to_owned()),
            read: &read,
        })
    }

    const EMPTIED: &str =
        "workers:\n- name: iii-stream\n  # moved\n- name: iii-worker-manager\n  config:\n";

    #[test]
    fn what_an_engine_has_moved_out_of_its_file_is_read() {
        let reading = reading_of(&[
            ("d/config.yaml", EMPTIED),
            (
                "d/config/iii-stream.yaml",
                "id: iii-stream\nvalue:\n  port: ${PORT}\n  host: 127.0.0.1\n  auth_function: f\n  adapter: {name: kv, config: {store_method: file_based}}\n",
            ),
            (
                "d/config/iii-worker-manager.yaml",
                "value: {port: 8, rbac: {auth_function_id: g}}\n",
            ),
        ]);
        assert_eq!(faults(&reading), [""; 0]);
        let config = &reading.config;
        assert_eq!(config.stream.to_string(), "127.0.0.1:7");
        assert_eq!(config.auth.function.as_deref(), Some("f"));
        assert!(matches!(config.store, StoreConfig::Files(_)));
        let listener = &config.worker_listeners[0];
        let asked = listener.rbac.as_ref();
        let asked = asked.and_then(|rbac| rbac.auth_function.as_deref());
        assert_eq!((listener.endpoint.port, asked), (8, Some("g")));
        assert_eq!(config.warnings, [""; 0]);
        assert_eq!(
            config.notices,
            [
                "iii-stream: settings read from d/config/iii-stream.yaml, for d/config.yaml has no config of it",
                "iii-worker-manager: settings read from d/config/iii-worker-manager.yaml, for d/config.yaml has no config of it",
            ]
        );
        let key = "iii-stream.config.host";
        let shown = reading.settings.iter().find(|setting| setting.key == key);
        assert_eq!(
            shown.map(|shown| &*shown.origin),
            Some("d/config/iii-stream.yaml:4")
        );
    }

    #[test]
    fn what_was_moved_is_as_strict_and_never_passed_over_in_silence() {
        for (text, expected) in [
            (
                "value: {prot: 1}",
                "config/iii-stream.yaml:1:9: value.prot: unknown key; did you mean port?",
            ),
            (
                "port: 1\n",
                "config/iii-stream.yaml:1:1: has no value, expected value: with the config of iii-stream",
            ),
            (
                "",
                "config/iii-stream.yaml:1:1: has no value, expected value: with the config of iii-stream",
            ),
            (
                "value: 5\n",
                "config/iii-stream.yaml:1:8: value: 5 is an integer, expected a mapping",
            ),
            (
                "value: {host: \"${NO}\"}\n",
                "config/iii-stream.yaml:1:16: environment variable NO is not set and has no default",
            ),
        ] {
            let reading = reading_of(&[("config.yaml", EMPTIED), ("config/iii-stream.yaml", text)]);
            assert_eq!(faults(&reading), [expected], "{text}");
        }
        let both = reading_of(&[
            (
                "config.yaml",
                "workers: [{name: iii-stream, config: {port: 1}}]",
            ),
            ("config/iii-stream.yaml", "value: {port: 2}"),
        ]);
        assert_eq!(both.config.stream.port, 1);
        assert_eq!(
            both.config.warnings[0],
            "config/iii-stream.yaml passed over: workers[0].config in config.yaml has the settings of iii-stream"
        );
        // Also where the file has no entry at all: an engine adds this one by itself.
        let added = reading_of(&[
            ("config.yaml", "workers: [{name: iii-stream}]"),
            (
                "config/iii-worker-manager.yaml",
                "value: {host: 127.0.0.1, port: 6}",
            ),
        ]);
        assert_eq!(
            added.config.worker_listeners[0].endpoint.to_string(),
            "127.0.0.1:6"
        );
    }

    #[test]
    fn two_entries_on_one_port_are_at_fault_with_both_lines() {
        let file = |stream: &str, managers: &[&str]| {
            let entry =
                |config: &&str| format!("- name: iii-worker-manager\n  config: {{{config}}}\n");
            let managers: String = managers.iter().map(entry).collect();
            format!("workers:\n- name: iii-stream\n  config: {{{stream}}}\n{managers}")
        };
        for (stream, managers, expected) in [
            (
                "port: 5",
                &["port: 5"][..],
                "config.yaml:5:18: workers[1].config.port: 0.0.0.0:5 is taken by 0.0.0.0:5 (workers[0].config.port, line 3), expected another port",
            ),
            (
                "port: 1",
                &["host: 127.0.0.1", ""],
                "config.yaml:6:9: workers[2].config.port: 0.0.0.0:49134 is taken by 127.0.0.1:49134 (workers[1].config.port, line 5), expected another port",
            ),
            (
                "port: 49134",
                &[],
                "config.yaml:3:18: workers[0].config.port: 0.0.0.0:49134 is taken by 0.0.0.0:49134 (iii-worker-manager.config.port, by default), expected another port",
            ),
            (
                "port: 1",
                &["host: localhost", "host: LOCALHOST"],
                "config.yaml:7:18: workers[2].config.port: LOCALHOST:49134 is taken by localhost:49134 (workers[1].config.port, line 5), expected another port",
            ),
        ] {
            assert_eq!(faults_of(&file(stream, managers), &[]), [expected]);
        }
        for (stream, managers) in [
            ("port: 0", &["port: 0"][..]),
            ("port: 5, host: 127.0.0.1", &["port: 5, host: 127.0.0.2"]),
            ("port: 5", &["port: 6"]),
        ] {
            assert_eq!(faults_of(&file(stream, managers), &[]), [""; 0]);
        }
    }

    #[test]
    fn what_is_passed_over_in_a_file_is_told_with_its_lines() {
        let warnings = |text: &str| {
            let mut warnings = reading_of(&[("config.yaml", text)]).config.warnings;
            warnings.retain(|line| line.contains("stands") || line.contains("passed over"));
            warnings
        };
        let file = "port: 49134\nregistration_namespace_grace_ms: 500\nworkers:\n- name: iii-stream\n  port: 5\n  config:\n    port: 1\n    adapter: {name: kv, name: kv}\n    port: 2\n  threads: 2\n";
        assert_eq!(
            warnings(file),
            [
                "config.yaml:1: port at the top level passed over: SDK workers connect on iii-worker-manager.config.port",
                "config.yaml:5: workers[0].port passed over: it belongs under config",
                "config.yaml:10: workers[0].threads passed over: it belongs under server",
                "config.yaml: workers[0].config.port stands in lines 7 and 9: the last one counts",
                "config.yaml: workers[0].config.adapter.name stands twice in line 8: the last one counts",
            ]
        );
        assert_eq!(reading_of(&[("config.yaml", file)]).faults, []);
        // What aliases name again and again costs what it takes to write.
        let mut bomb = "workers: [{name: iii-stream, config: {adapter: {name: kv, config: {channel_size: &a0 {a: 1, a: 2}".to_owned();
        for level in 1..40 {
            let below = format!("*a{}", level - 1);
            bomb += &format!(", x{level}: &a{level} [{below}, {below}, {below}, {below}]");
        }
        assert_eq!(warnings(&format!("{bomb}}}}}}}}}]")).len(), 1);
        let faulty = "registration_namespace_grace_ms: soon\nworkers: [{name: iii-stream}]";
        assert_eq!(faults_of(faulty, &[]).len(), 1);
    }
}
