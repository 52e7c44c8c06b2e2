//! `call`, `watch`, `health`, `doctor` and `print`: what a person sees of them. Here: calls, health and what
//! packages ship.

mod doctor;
mod watch;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::process::{Directory, Process, config_at};
use crate::support::redis::free_port;

/// The exit code, and both outputs.
fn run(command: &mut Command) -> (i32, String, String) {
    parts(command.output().unwrap())
}

fn parts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// A server that serves, in a directory whose file names its ports.
fn server(test: &str, server: &str) -> (Directory, Process) {
    let file = config_at(free_port(), free_port(), server);
    let directory = Directory::new(test).with_file(&file);
    let process = Process::start(directory.command(&[]));
    (directory, process)
}

#[test]
fn a_call_prints_its_result_and_an_error_is_exit_code_one() {
    let (directory, server) = server("call", "");
    let call = |arguments: &[&str]| run(directory.command(&["call"]).args(arguments));
    let input = r#"{"stream_name":"s","group_id":"g","item_id":"i","data":{ "b": 1.50, "a": 1 }}"#;
    let (code, out, error) = call(&["stream::set", input]);
    assert_eq!((code, &*error), (0, ""));
    assert_eq!(
        out,
        "{\"new_value\":{\"b\":1.50,\"a\":1},\"old_value\":null}\n"
    );
    let get = r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#;
    assert_eq!(call(&["stream::get", get]).1, "{\"b\":1.50,\"a\":1}\n");

    let (code, out, error) = call(&["no::such", "null"]);
    let line = "function_not_found: Function no::such not found\n";
    assert_eq!((code, &*out, &*error), (1, "", line));
    // Of a worker program, which says what would clear a terminal.
    let mut sdk = server.sdk();
    sdk.register("worker::f");
    let asked = directory
        .command(&["call", "worker::f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = sdk.next_call();
    assert!(heard["data"].is_object(), "{heard}");
    let error = json!({"code": "c", "message": "bad\nthing \u{1b}[2J"});
    sdk.answer(&heard, json!({"error": error}));
    let (code, out, error) = parts(asked.wait_with_output().unwrap());
    assert_eq!(
        (code, &*out, &*error),
        (1, "", "c: bad\\nthing \\u{1b}[2J\n")
    );

    // A function that says nothing.
    let arguments = ["worker::f", "{}", "--timeout", "300ms"];
    let (code, _, error) = call(&arguments);
    let line = "worker::f has not answered within 300ms: whether it was done is not known\n";
    assert_eq!((code, &*error), (1, line));
}

#[test]
fn a_call_takes_its_input_from_standard_input_and_json_only() {
    let (directory, _server) = server("call-input", "");
    let from_stdin = |text: &str| {
        let mut command = directory.command(&["call", "stream::send", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        parts(child.wait_with_output().unwrap())
    };
    let whole =
        "{\n \"stream_name\": \"s\", \"group_id\": \"g\",\n \"type\": \"t\", \"data\": 1 }\n";
    assert_eq!(from_stdin(whole), (0, "null\n".to_owned(), String::new()));
    for text in ["", "{a:1}", "{} {}"] {
        let (code, out, error) = from_stdin(text);
        assert_eq!((code, &*out), (2, ""), "{text}");
        assert!(
            error.starts_with("what the function is to get is no JSON: "),
            "{error}"
        );
    }
    for arguments in [
        &["call"][..],
        &["call", "f", "{}", "--timeout", "5"],
        &["call", "f", "{}", "more"],
        &["watch"],
        &["watch", "s", "--stream", "ws://127.0.0.1:1"],
        &["watch", "s", "g", "--engine", "ws://127.0.0.1:1"],
        &["health", "--timeout", "0s"],
        &["print", "completions", "no-shell"],
    ] {
        let (code, _, error) = run(&mut directory.command(arguments));
        assert_eq!(code, 2, "{arguments:?}: {error}");
    }
}

#[test]
fn where_nothing_listens_one_line_says_where_it_looked_and_what_to_start() {
    let directory = Directory::new("nobody").with_file(&config_at(1, 2, ""));
    let hint = |port: u16, line: u16, flag: &str| {
        format!(
            "nothing listens at ws://127.0.0.1:{port} (config.yaml:{line}): start a server there (iii-stream), or \
             name another place with {flag} ws://HOST:PORT\n"
        )
    };
    for (arguments, line) in [
        (&["call", "f"][..], hint(2, 3, "--engine")),
        (&["watch", "s"], hint(2, 3, "--engine")),
        (&["watch", "s", "g"], hint(1, 5, "--stream")),
        (&["health"], hint(1, 5, "--stream")),
    ] {
        let said = run(&mut directory.command(arguments));
        assert_eq!(said, (1, String::new(), line), "{arguments:?}");
    }
    let (_, _, error) =
        run(&mut directory.command(&["call", "f", "--engine", "ws://me:s3cret@127.0.0.1:3"]));
    assert_eq!(
        error,
        "nothing listens at ws://***@127.0.0.1:3 (--engine): start a server there (iii-stream)\n"
    );
    let mut command = directory.command(&["call", "f", "-c", "none.yaml"]);
    let (code, _, error) = run(&mut command);
    assert_eq!((code, error.lines().count()), (1, 1), "{error}");
    for wrong in ["localhost:1", "http://h", "ws://u:s3c/ret@h"] {
        let (code, _, error) = run(&mut directory.command(&["health", "--stream", wrong]));
        assert_eq!(code, 1);
        assert!(
            error.starts_with("--stream: ") && !error.contains("s3c"),
            "{error}"
        );
    }
    let broken = Directory::new("nobody-broken").with_file("workers: 5\n");
    let (code, _, error) = run(&mut broken.command(&["health"]));
    let line = "config.yaml:1:10: workers: 5 is an integer, expected a list; --stream ws://HOST:PORT does without the file\n";
    assert_eq!((code, &*error), (1, line));
    let attached = Directory::new("nobody-engine");
    let mut command = attached.command(&["call", "f"]);
    let (_, _, error) = run(command.env("III_URL", "ws://127.0.0.1:4"));
    assert!(
        error.starts_with(
            "nothing listens at ws://127.0.0.1:4 (variable III_URL): start the engine there"
        ),
        "{error}"
    );
}

#[test]
fn one_port_taken_for_the_other_is_told() {
    let (directory, server) = server("other-port", "");
    let stream = format!("ws://{}", server.stream);
    let worker = format!("ws://{}", server.worker);
    for (arguments, words) in [
        (
            ["call", "f", "--engine", &stream, "--timeout", "1s"],
            "is it the stream port?",
        ),
        (
            ["watch", "s", "g", "--stream", &worker, "--json"],
            "this is a worker port",
        ),
        (
            ["health", "--stream", &worker, "--timeout", "9s", "-Hx: y"],
            "404 Not Found: no such path: worker",
        ),
    ] {
        let (code, out, error) = run(&mut directory.command(&arguments));
        assert_eq!((code, &*out), (1, ""));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn health_is_one_line_and_a_server_that_stands_still_is_not_well() {
    let (directory, server) = server("health", "");
    let line = format!("ok: ws://{} answers\n", server.stream);
    let health = || run(&mut directory.command(&["health", "--timeout", "1s"]));
    let well = (0, line, String::new());
    assert_eq!(health(), well);
    server.signal(Signal::STOP);
    let (code, out, error) = health();
    assert_eq!((code, &*out), (1, ""));
    let line = format!("no answer from ws://{} within 1s\n", server.stream);
    assert_eq!(error, line);
    server.signal(Signal::CONT);
    assert_eq!(health(), well);
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let directory = Directory::new("print");
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, error) = run(&mut directory.command(&["print", "completions", shell]));
        assert_eq!((code, &*error), (0, ""));
        for command in ["watch", "call", "doctor", "health", "recover", "timeout"] {
            assert!(out.contains(command), "{shell}: {command}");
        }
    }
    for command in [
        "call", "watch", "health", "doctor", "check", "inspect", "export", "recover",
    ] {
        let (code, out, _) = run(&mut directory.command(&["print", "man", command]));
        assert_eq!(code, 0);
        assert!(out.contains(&format!("iii\\-stream\\-{command} ")), "{out}");
        let (code, help, _) = run(&mut directory.command(&[command, "--help"]));
        assert_eq!(code, 0);
        for words in ["Exit codes:", "Examples:"] {
            assert!(
                command == "check" || help.contains(words),
                "{command}: {help}"
            );
            assert!(
                command == "check" || out.contains(words),
                "{command}: {out}"
            );
        }
    }
    let (_, out, _) = run(&mut directory.command(&["print", "man"]));
    for words in [
        "SH SUBCOMMANDS",
        "iii\\-stream\\-watch",
        "III_STREAM_CONFIG",
    ] {
        assert!(out.contains(words), "{words} is in {out}");
    }
    assert_eq!(
        run(&mut directory.command(&["print", "man", "nothing"])).0,
        1
    );
}
