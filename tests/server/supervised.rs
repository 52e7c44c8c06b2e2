//! What a supervisor hears of the process, and the files that hosts are set up with.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::process::{Directory, Process, config, outcome};

/// The supervisor's end of the socket.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn in_directory(directory: &Directory) -> Supervisor {
        let socket = UnixDatagram::bind(directory.0.join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Supervisor(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let len = self.0.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    /// Reads on to the next message with these words.
    fn hears(&self, words: &str) -> String {
        loop {
            let message = self.next();
            if message.contains(words) {
                return message;
            }
        }
    }

    /// Whether there is a message with these words, of those that are there.
    fn has_heard(&self, words: &str) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let mut heard = false;
        while let Ok(len) = self.0.recv(&mut bytes) {
            heard |= String::from_utf8_lossy(&bytes[..len]).contains(words);
        }
        self.0.set_nonblocking(false).unwrap();
        heard
    }
}

/// The program with a supervisor, and these variables of it.
fn start(test: &str, server: &str, variables: &[(&str, &str)]) -> (Process, Supervisor) {
    let directory = Directory::new(test).with_file(&config("", server));
    let supervisor = Supervisor::in_directory(&directory);
    let mut command = directory.command(&[]);
    command.env("NOTIFY_SOCKET", directory.0.join("notify"));
    command.envs(variables.iter().copied());
    let mut process = Process::start(command);
    process.directory = Some(directory);
    (process, supervisor)
}

#[test]
fn a_supervisor_hears_of_ready_after_the_ports_and_of_the_end_before_any_close() {
    let (mut process, supervisor) = start("ready", "threads: 2, drain_ms: 300", &[]);
    let ready = supervisor.hears("READY=1");
    let status = format!("STATUS=serves subscribers on {}", process.stream);
    assert!(ready.contains(&status), "{ready}");
    let mut subscriber = process.subscriber();
    subscriber.join("a", ("s", "g"));
    process.signal(Signal::HUP);
    let reloads = supervisor.hears("RELOADING=1");
    assert!(reloads.contains("MONOTONIC_USEC="), "{reloads}");
    supervisor.hears("READY=1");
    process.signal(Signal::TERM);
    assert_eq!(subscriber.close_code(), Some(1012));
    // What was sent before the close is there by now, and nothing is waited for.
    assert!(supervisor.has_heard("STOPPING=1\nSTATUS=closes 1 socket"));
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn a_sign_of_life_is_given_while_every_thread_turns_also_where_all_sleep() {
    let variables = [("WATCHDOG_USEC", "400000")];
    let (process, supervisor) = start("alive", "threads: 2, drain_ms: 300", &variables);
    for _ in 0..3 {
        supervisor.hears("WATCHDOG=1");
    }
    process.stop();
}

#[test]
fn nobody_hears_signs_of_life_that_are_meant_for_another_process() {
    let variables = [("WATCHDOG_USEC", "40000"), ("WATCHDOG_PID", "1")];
    let (process, supervisor) = start("other", "threads: 1, drain_ms: 300", &variables);
    supervisor.hears("READY=1");
    for _ in 0..10 {
        process.subscriber().join("a", ("s", "g"));
    }
    process.signal(Signal::HUP);
    assert!(
        supervisor.next().contains("RELOADING=1"),
        "and nothing before it"
    );
    process.stop();
}

fn print(directory: &Directory, what: &str) -> String {
    let (code, text) = outcome(directory.command(&["print", what]).output().unwrap());
    assert_eq!(code, Some(0), "{what}");
    text
}

#[test]
fn the_printed_settings_are_every_setting_and_are_what_holds_without_them() {
    let directory = Directory::new("settings");
    let check = |directory: &Directory| -> Value {
        let output = directory.command(&["check", "--json"]).output().unwrap();
        let (code, text) = outcome(output);
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let text = print(&directory, "config");
    let bare = check(&directory);
    let directory = directory.with_file(&text);
    let whole = check(&directory);
    for setting in whole["settings"].as_array().unwrap() {
        let key = setting["key"].as_str().unwrap();
        let last = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{last}:")), "{key} is not in it");
        let default = bare["settings"].as_array().unwrap();
        let default = default.iter().find(|other| other["key"] == key);
        if let Some(default) = default {
            assert_eq!(setting["value"], default["value"], "{key}");
        }
    }
}

#[test]
fn each_printed_file_says_where_it_goes_and_names_what_there_is() {
    let directory = Directory::new("printed");
    for what in [
        "systemd", "docker", "compose", "nginx", "caddy", "haproxy", "config", "sysctl", "alerts",
    ] {
        let text = print(&directory, what);
        let first = text.lines().next().unwrap();
        assert!(
            first.contains(&format!("iii-stream print {what}")),
            "{first}"
        );
        assert!(text.ends_with('\n') && !text.contains('\r'));
    }
    // The settings that stand in the compose file are settings.
    let compose = print(&directory, "compose");
    let inner = compose.split_once("content: |\n").unwrap().1;
    let inner: String = inner
        .lines()
        .map_while(|line| line.strip_prefix("      "))
        .map(|line| format!("{line}\n"))
        .collect();
    let directory = directory.with_file(&inner);
    let checked = outcome(directory.command(&["check", "--json"]).output().unwrap());
    assert_eq!(checked.0, Some(0), "{}", checked.1);
    let checked: Value = serde_json::from_str(&checked.1).unwrap();
    assert_eq!(checked["errors"], json!([]));
    // What systemd itself says of the unit, where it is there to ask.
    std::fs::create_dir(directory.0.join("bin")).unwrap();
    let unit = print(&directory, "systemd")
        .replace("/usr/bin/iii-stream", crate::support::process::PROGRAM);
    let path = directory.0.join("iii-stream.service");
    std::fs::write(&path, unit).unwrap();
    for (arguments, is_good) in [
        (&["verify", "--man=no"][..], ""),
        (
            &["security", "--offline=true", "--threshold=25", "--no-pager"][..],
            "OK",
        ),
    ] {
        let asked = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&path)
            .output();
        let Ok(asked) = asked else {
            return; // it is not installed
        };
        let (code, said) = outcome(asked);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(is_good), "{said}");
        assert!(!is_good.is_empty() || said.is_empty(), "{said}");
    }
}
