//! The binary as a shell sees it: its output, its exit code.

mod check;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use iii_stream::config::{self, Config, Endpoint, Sources, StoreConfig};
use iii_stream::server::{Options, Server, StartError};
use iii_stream::store::redis::RedisError;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::process::Directory;

fn run(directory: &Directory, arguments: &[&str]) -> (i32, String, String) {
    outcome(directory.command(arguments).output().unwrap())
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr)
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("warning: open files ")) // this system's
            .collect(),
    )
}

#[test]
fn no_output_shows_a_password_that_was_not_escaped() {
    let url = "redis://me:s3c/r3t@redis.internal:6379/0";
    let adapter = |rest: &str| {
        format!("workers:\n- name: iii-stream\n  config:\n    adapter:\n      name: redis\n{rest}")
    };
    let files = [
        adapter(&format!("      config: {{redis_url: \"{url}\"}}\n")),
        adapter(&format!("      config: {{redis_url: {url}}}\n")),
        adapter("      config: {redis_url: \"${REDIS}\"}\n"),
        adapter(&format!("      config:\n        redis_url:{url}\n")),
        adapter(&format!("      config: {url}\n")),
        adapter(&format!("      config: [{url}]\n")),
        adapter(&format!("      config: {{{url}: x}}\n")),
        adapter(&format!("      config: {{redis_url: \"{url}\n")),
        format!("workers:\n- name: iii-stream\n  config: {{adapter: {url}}}\n"),
        format!("workers:\n- name: iii-stream\n  config: {{adapter: {{name: {url}}}}}\n"),
        format!("workers:\n- name: iii-stream\n  config: {{host: {url}}}\n"),
        format!("workers:\n- name: iii-stream\n  config: {{port: {url}}}\n"),
        format!("workers:\n- name: iii-stream\n  server: {{engine: {url}}}\n"),
        format!(
            "workers:\n- name: iii-stream\n  server: {{engine: {}}}\n",
            url.replace("redis", "ws")
        ),
        format!("workers:\n- name: iii-stream\n  server: {{allowed_origins: [{url}]}}\n"),
        format!("workers:\n- {url}\n"),
        format!("{url}\n"),
        format!("{url}: 1\n"),
    ];
    for file in files {
        let directory = Directory::new("secret").with_file(&file);
        for arguments in [&[][..], &["check"], &["check", "--json"]] {
            let output = directory.command(arguments).env("REDIS", url).output();
            let (code, out, error) = outcome(output.unwrap());
            assert_eq!(code, 1, "{file}");
            let said = out + &error;
            assert!(
                !said.contains("s3c") && !said.contains("r3t"),
                "{file}: {said}"
            );
            assert!(!said.is_empty());
        }
    }
    let directory = Directory::new("secret-hint").with_file(&adapter(&format!(
        "      config: {{redis_url: \"{url}\"}}\n"
    )));
    let (_, _, error) = run(&directory, &[]);
    assert!(
        error.contains("\"redis://***@redis.internal:6379\"") && error.contains("%2F"),
        "{error}"
    );
    let engine = "wss://me:s3c/r3t@engine:1";
    let unknown = format!("--engin={engine}");
    for arguments in [
        &["--engine", engine][..],
        &["check", "--engine", engine],
        &["check", "--json", "--engine", engine],
        &[&unknown],
        &["check", engine],
        &[engine],
    ] {
        let directory = Directory::new("secret-flag");
        let (code, out, error) = run(&directory, arguments);
        assert!(code != 0, "{arguments:?}");
        let said = out + &error;
        assert!(
            !said.contains("s3c") && !said.contains("r3t"),
            "{arguments:?}: {said}"
        );
        for variable in ["III_URL", "III_ENGINE_URL"] {
            let output = directory.command(&["check"]).env(variable, engine).output();
            let (code, out, error) = outcome(output.unwrap());
            let said = out + &error;
            assert!(
                code == 1 && !said.contains("s3c") && !said.contains("r3t"),
                "{said}"
            );
        }
    }
}

#[test]
fn version_names_ours_and_the_engines() {
    let directory = Directory::new("version");
    for flag in ["--version", "-v", "-V"] {
        let expected = "iii-stream 0.1.0 (speaks iii 0.11.6-next.3)\n";
        assert_eq!(
            run(&directory, &[flag]),
            (0, expected.to_owned(), String::new())
        );
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let directory = Directory::new("gone");
    for arguments in [&["check"][..], &["check", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = directory
            .command(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(outcome(output), (0, String::new(), String::new()));
    }
}

#[test]
fn an_error_names_its_cause_once() {
    let directory = Directory::new("once");
    let (code, _, said) = run(&directory, &["inspect", "nowhere"]);
    assert_eq!(code, 1);
    assert_eq!(said, "nowhere: No such file or directory (os error 2)\n");
}

#[test]
fn help_teaches() {
    let directory = Directory::new("help");
    for flag in ["--help", "-h"] {
        let (code, out, _) = run(&directory, &[flag]);
        assert_eq!(code, 0);
        for word in [
            "Examples:",
            "3112",
            "49134",
            "check",
            "--engine",
            "Exit codes:",
            "Settings:",
            "--url",
            "--namespace",
            "III_WORKER_NAME",
        ] {
            assert!(out.contains(word), "{word} is in {out}");
        }
    }
}

#[test]
fn help_of_the_commands_about_kept_values_teaches() {
    let directory = Directory::new("help-data");
    for (command, words) in [
        ("inspect", ["Examples:", "--json", "Exit codes:"]),
        (
            "export",
            ["--reference", "./data/stream_store", "Exit codes:"],
        ),
        ("recover", ["--yes", ".damaged", "Exit codes:"]),
    ] {
        let (code, out, _) = run(&directory, &[command, "--help"]);
        assert_eq!(code, 0);
        for word in words {
            assert!(out.contains(word), "{word} is in {out}");
        }
    }
    for arguments in [&["inspect"][..], &["export"], &["recover", "--yes"]] {
        assert_eq!(run(&directory, arguments).0, 2, "{arguments:?}");
    }
    let (code, _, error) = run(&directory, &["inspect", "./none"]);
    assert_eq!((code, error.lines().count()), (1, 1), "{error}");
}

#[test]
fn wrong_arguments_exit_with_two() {
    let directory = Directory::new("wrong");
    for arguments in [
        &["--confg", "x"][..],
        &["serve", "--yaml"],
        &["--config"],
        &["check", "--yaml"],
        &["--use-default-config", "--config", "x"],
    ] {
        let (code, out, error) = run(&directory, arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!error.is_empty());
    }
}

#[test]
fn serve_is_what_is_done_without_a_command() {
    let directory = Directory::new("serve").with_file("workers: 5\n");
    let without = run(&directory, &[]);
    assert_eq!(run(&directory, &["serve"]), without);
    assert_eq!(run(&directory, &["serve", "-c", "config.yaml"]), without);
}

#[test]
fn missing_file_exits_with_one_and_a_hint() {
    let directory = Directory::new("missing");
    let lines = "Config file not found: 'no.yaml'.\n\
                 Hint: create a config.yaml or pass --use-default-config to run with defaults.\n";
    for arguments in [
        &["-c", "no.yaml"][..],
        &["--config", "no.yaml"],
        &["check", "--config", "no.yaml"],
    ] {
        assert_eq!(
            run(&directory, arguments),
            (1, String::new(), lines.to_owned())
        );
    }
}

#[test]
fn what_is_not_served_is_refused_in_one_line() {
    let stream = |rest: &str| format!("workers:\n- name: iii-stream\n  {rest}\n");
    let (file, word) = (stream("config: {adapter: {name: bridge}}"), "bridge");
    let directory = Directory::new("refused").with_file(&file);
    let (code, out, error) = run(&directory, &[]);
    assert_eq!((code, out.as_str()), (1, ""), "{word}");
    assert!(
        error.contains(word) && error.starts_with("config.yaml:"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// The line of `check` about the engine, with single spaces.
fn engine_line(command: &mut Command) -> String {
    let (code, out, error) = outcome(command.output().unwrap());
    assert_eq!(code, 0, "{error}");
    let line = out
        .lines()
        .find(|line| line.starts_with("iii-stream.server.engine "));
    line.unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn what_is_no_address_of_an_engine_is_refused_in_one_line() {
    let directory = Directory::new("address");
    for arguments in [
        &["--engine", "localhost:1"][..],
        &["check", "--engine", "localhost:1"],
    ] {
        let (code, _, error) = run(&directory, arguments);
        assert_eq!(
            (code, error.as_str()),
            (
                1,
                "--engine: \"localhost:1\" is no address of an engine, expected ws://host:port or wss://host:port\n"
            )
        );
    }
}
