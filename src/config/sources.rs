//! Which file counts, if any, and what this version refuses before it opens one.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::env::expand;
use super::report::{Fault, Report, Setting};
use super::{Config, FILE_BYTES_MAX, file, yaml};

/// Read without `--config` when it is there.
const FILE_DEFAULT: &str = "config.yaml";
/// Stands for `--config`, which wins over it.
const VARIABLE_CONFIG: &str = "III_STREAM_CONFIG";
/// Either asks to attach to the engine at its address, unless a file says what to serve.
const VARIABLES_ENGINE: [&str; 2] = ["III_URL", "III_ENGINE_URL"];

const CANNOT_ATTACH: &str = "this version of iii-stream cannot attach to a running engine";

/// Where the settings come from.
pub struct Sources<'a> {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--engine URL`.
    pub engine: Option<String>,
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
    if sources.engine.is_some() {
        return Reading::of_fault(format!(
            "--engine: {CANNOT_ATTACH}; leave it out to be the engine"
        ));
    }
    let variables: Vec<&str> = VARIABLES_ENGINE
        .into_iter()
        .filter(|name| (sources.variable)(name).is_some())
        .collect();
    let variables = variables.join(" and ");

    let given = if sources.default_config {
        None
    } else {
        given_file(sources)
    };
    let Some(path) = given else {
        if !variables.is_empty() {
            return Reading::of_fault(format!(
                "{variables}: {CANNOT_ATTACH}; unset it, or say with --config what to serve"
            ));
        }
        let path = Path::new(FILE_DEFAULT);
        return match (sources.read)(path) {
            _ if sources.default_config => Reading::of_defaults(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::of_defaults(),
            bytes => read_file(path, bytes, sources),
        };
    };
    let mut reading = read_file(&path, (sources.read)(&path), sources);
    if !variables.is_empty() {
        reading.config.notices.push(format!(
            "{variables} passed over: with {} this server is the engine",
            path.display()
        ));
    }
    reading
}

fn given_file(sources: &Sources<'_>) -> Option<PathBuf> {
    sources
        .config
        .clone()
        .or_else(|| (sources.variable)(VARIABLE_CONFIG).map(PathBuf::from))
}

fn read_file(path: &Path, bytes: io::Result<Vec<u8>>, sources: &Sources<'_>) -> Reading {
    let shown = path.display();
    let cause = match bytes {
        Ok(bytes) if bytes.len() > FILE_BYTES_MAX => {
            format!("has {} bytes, limit {FILE_BYTES_MAX}", bytes.len())
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return read_text(&shown.to_string(), text, sources),
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

fn read_text(path: &str, source: String, sources: &Sources<'_>) -> Reading {
    let expanded = expand(&source, sources.variable);
    let text = expanded.text.clone();
    let mut report = Report::new(path, source, expanded);

    let mut scalars: Vec<Range<usize>> = Vec::new();
    let tree = match yaml::parse(&text, |scalar| scalars.push(scalar)) {
        Ok(tree) => tree,
        Err(problem) => {
            report.fault_variables(&scalars);
            report.fault(problem.at, "", problem.what);
            return Reading::of(report, Config::default());
        }
    };
    if let Some(tree) = tree.as_deref().filter(|tree| file::is_bare_mapping(tree)) {
        let what = format!(
            "is what an engine hands to a worker that it starts; {CANNOT_ATTACH}, expected workers"
        );
        report.fault(tree.span.start, "", what);
        return Reading::of(report, Config::default());
    }
    report.fault_variables(&scalars);
    let config = file::read(&mut report, tree.as_deref());
    Reading::of(report, config)
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

    fn of_defaults() -> Self {
        let mut report = Report::of_defaults();
        let config = file::read(&mut report, None);
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
        assert_eq!(without.config.notices.len(), 1);
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

    #[test]
    fn every_way_to_attach_is_refused_in_one_line() {
        let by_flag = reading(("", ""), &[], |sources| {
            sources.engine = Some("ws://localhost:1".into())
        });
        assert_eq!(
            faults(&by_flag),
            [
                "--engine: this version of iii-stream cannot attach to a running engine; leave it out to be the engine"
            ]
        );
        assert_eq!(
            faults_of(
                STREAM,
                &[("III_URL", "ws://x"), ("III_ENGINE_URL", "ws://x")]
            ),
            [
                "III_URL and III_ENGINE_URL: this version of iii-stream cannot attach to a running engine; unset it, or say with --config what to serve"
            ]
        );
        for bare in [
            "port: 3112\n",
            "adapter: {name: kv}\nhost: ${NO}\n",
            "server: {}\nother: 1",
        ] {
            assert_eq!(
                faults_of(bare, &[]),
                [
                    "config.yaml:1:1: is what an engine hands to a worker that it starts; this version of iii-stream cannot attach to a running engine, expected workers"
                ]
            );
        }
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
                default_config: false,
                variable: &|_| None,
                read: read_file,
            };
            let expected = format!("Failed to read config file 'config.yaml': {cause}");
            assert_eq!(faults(&read(&sources)), [expected]);
        }
    }
}
