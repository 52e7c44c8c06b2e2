//! The settings themselves, and the limit of open files that they have to fit into.

use iii_stream::config::Reading;

use super::Start;
use super::finding::{Finding, State};

/// Fewer subscribers than this are few for any machine.
const SUBSCRIBERS_FEW: usize = 4096;

pub(super) fn look(reading: &Reading) -> Vec<Finding> {
    let faults = reading.faults.iter().map(|fault| {
        let text = fault.to_string();
        let (line, hint) = text.split_once('\n').unwrap_or((&text, ""));
        let hint = match hint.trim_start_matches("Hint: ") {
            "" => "mend the file; iii-stream check shows all of it",
            hint => hint,
        };
        Finding::ok("settings", line).with(State::Bad, "the server does not start", hint)
    });
    let warnings = reading.config.warnings.iter().map(|warning| {
        Finding::ok("settings", warning).with(
            State::Warning,
            "the server starts, and says so too",
            "iii-stream check shows which setting it is",
        )
    });
    let mut findings: Vec<Finding> = faults.chain(warnings).collect();
    if findings.is_empty() {
        let from = reading.config.file.as_deref();
        let from = from.map_or("defaults, no file".to_owned(), str::to_owned);
        findings.push(Finding::ok("settings", from));
    }
    findings
}

/// A number that somebody has asked for and cannot have is worse than a default that is lowered.
pub(super) fn open_files(reading: &Reading, start: &Start) -> Finding {
    let limits = &reading.config.limits;
    let Some(line) = &start.open_files else {
        let most = limits.connections;
        return Finding::ok("open files", format!("enough for {most} subscribers"));
    };
    let line = line.trim_start_matches("open files ");
    let (found, todo) = line.split_once("; LimitNOFILE").unwrap_or((line, ""));
    let key = "iii-stream.server.limits.connections";
    let setting = reading.settings.iter().find(|setting| setting.key == key);
    let is_asked_for = setting.is_some_and(|setting| setting.origin != "default");
    let has_less = limits.connections < start.wanted;
    let state = match has_less && (is_asked_for || limits.connections < SUBSCRIBERS_FEW) {
        true => State::Bad,
        false => State::Warning,
    };
    let means = match has_less {
        true => format!(
            "subscriber {} is answered 503",
            limits.connections.saturating_add(1)
        ),
        false => "worker programs beyond that are answered 503".to_owned(),
    };
    Finding::ok("open files", format!("limit {found}")).with(
        state,
        means,
        format!("LimitNOFILE{todo}; or set the limit that you need"),
    )
}

/// How subscribers are written to.
pub(super) fn writes(start: &Start) -> Finding {
    const NAME: &str = "writes";
    match &start.writes {
        Ok(described) => Finding::ok(NAME, described),
        Err(why) => Finding::ok(NAME, why).with(
            State::Bad,
            "the server does not start",
            "leave server.io out: the server goes on without io_uring then",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use iii_stream::config::{self, Sources};

    use super::*;

    fn reading(file: &str) -> Reading {
        config::read(&Sources {
            config: Some(PathBuf::from("config.yaml")),
            engine: None,
            namespace: None,
            expand_env: false,
            default_config: false,
            variable: &|_| None,
            read: &|_| Ok(file.as_bytes().to_vec()),
        })
    }

    #[test]
    fn open_files_are_bad_where_somebody_has_asked_for_more_or_few_are_left() {
        let line = "open files 1024: 903 subscribers at most, limits.connections is 5000; LimitNOFILE= (systemd) raises it";
        let state = |file: &str, left: usize| {
            let mut reading = reading(file);
            let wanted = reading.config.limits.connections;
            reading.config.limits.connections = left;
            let start = Start {
                wanted,
                open_files: (left < wanted).then(|| line.to_owned()),
                cores: Ok((1, String::new())),
                certificates: Ok(Vec::new()),
                writes: Ok(String::new()),
            };
            open_files(&reading, &start)
        };
        let plain = "workers:\n- {name: iii-stream, config: {host: 127.0.0.1}}\n- {name: iii-worker-manager, config: {host: 127.0.0.1}}\n";
        let asked = plain.replace(
            "}}\n- {name: iii-w",
            "}, server: {limits: {connections: 5000}}}\n- {name: iii-w",
        );
        assert_eq!(state(plain, 1_000_000).state, State::Ok);
        assert_eq!(state(plain, 19_000).state, State::Warning);
        assert_eq!(state(plain, 903).state, State::Bad);
        let bad = state(&asked, 4999);
        assert_eq!(bad.state, State::Bad);
        assert_eq!(
            bad.found,
            "limit 1024: 903 subscribers at most, limits.connections is 5000"
        );
        assert_eq!(bad.means, "subscriber 5000 is answered 503");
        assert!(
            bad.todo.starts_with("LimitNOFILE= (systemd)"),
            "{}",
            bad.todo
        );
    }

    #[test]
    fn each_fault_is_bad_and_each_warning_a_warning() {
        let faults = look(&reading("workers: 5\n"));
        assert_eq!(faults[0].state, State::Bad);
        let open = look(&reading("workers:\n- {name: iii-stream}\n"));
        assert!(open.iter().any(|it| it.state == State::Warning), "{open:?}");
    }
}
