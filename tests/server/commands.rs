//! `call`, `watch`, `health`, `doctor` and `print`: what a person sees of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::process::{Directory, PROGRAM, Process, config, config_at, exit_code};
use crate::support::redis::{RedisServer, free_port};

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

/// A `watch` that goes on, its lines as they come.
struct Watching {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Watching {
    fn start(mut command: Command) -> Watching {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Watching { child, out, err }
    }

    fn line(&self) -> String {
        self.out.recv_timeout(DEADLINE).expect("a line")
    }

    /// Reads on to the line of stderr with these words.
    fn says(&self, words: &str) -> String {
        loop {
            let line = self.err.recv_timeout(DEADLINE).expect(words);
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        exit_code(&mut self.child)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // A test that is over listens no more.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Without its time, which stands first.
fn without_time(line: &str) -> String {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    rest.split_whitespace().collect::<Vec<_>>().join(" ")
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
fn watch_prints_what_a_subscriber_is_told_a_line_each() {
    let (directory, server) = server("watch", "");
    let group = ("chat", "a\"\n{b}");
    let mut sdk = server.sdk();
    sdk.set(group, "there", json!(1));
    let mut watching = Watching::start(directory.command(&["watch", group.0, group.1]));
    let mut item = Watching::start(directory.command(&["watch", group.0, group.1, "there"]));
    let mut whole = Watching::start(directory.command(&["watch", group.0, "--json"]));
    let greeting = watching.says("watching");
    assert_eq!(
        greeting,
        format!("watching chat \"a\\\"\\n{{b}}\" at ws://{}", server.stream)
    );
    whole.says("watching stream chat at ");
    assert_eq!(without_time(&watching.line()), "sync [1]");
    assert_eq!(without_time(&item.line()), "sync there 1");
    sdk.set(group, "\u{1b}[2J", json!({"x": "\u{9b}\u{202e}"}));
    sdk.send_event(group, None, "ty ping", json!([1]));
    sdk.delete(group, "there");
    let told: Vec<String> = (0..3).map(|_| without_time(&watching.line())).collect();
    assert_eq!(
        told,
        [
            r#"create "\u001b[2J" {"x":"\u009b\u202e"}"#,
            r#"event "ty ping" [1]"#,
            "delete there 1",
        ]
    );
    assert_eq!(without_time(&item.line()), "delete there 1");
    // Another group of the stream, which only the third follows.
    sdk.set(("chat", "room-2"), "i", json!(2));
    let frames: Vec<Value> = (0..4)
        .map(|_| serde_json::from_str(&whole.line()).unwrap())
        .collect();
    assert_eq!(frames[0]["groupId"], group.1);
    assert_eq!(frames[1]["event"]["event"]["type"], "ty ping");
    assert_eq!(frames[3]["groupId"], "room-2");
    assert_eq!(frames[3]["event"], json!({"type": "create", "data": 2}));
    watching.signal(Signal::INT);
    whole.signal(Signal::TERM);
    assert_eq!(
        (watching.exit_code(), whole.exit_code()),
        (Some(0), Some(0))
    );
    item.signal(Signal::INT);
    assert_eq!(item.exit_code(), Some(0));
    drop(server);
}

#[test]
fn watch_survives_a_restart_and_says_so() {
    let (directory, server) = server("watch-restart", "drain_ms: 100");
    let mut watching = Watching::start(directory.command(&["watch", "s", "g"]));
    let mut whole = Watching::start(directory.command(&["watch", "s"]));
    assert_eq!(without_time(&watching.line()), "sync []");
    whole.says("watching");
    server.stop();
    for one in [&watching, &whole] {
        one.says("has closed the connection: 1012");
        one.says("nothing listens at");
    }
    let server = Process::start(directory.command(&[]));
    watching.says("watching s g at");
    whole.says("watching stream s at");
    assert_eq!(without_time(&watching.line()), "sync []");
    server.sdk().set(("s", "g"), "i", json!(7));
    assert_eq!(without_time(&watching.line()), "create i 7");
    assert_eq!(without_time(&whole.line()), "create g i 7");
    // Also one that is killed.
    server.kill();
    watching.says("trying again");
    let server = Process::start(directory.command(&[]));
    assert_eq!(
        without_time(&watching.line()).split(' ').next(),
        Some("sync")
    );
    watching.signal(Signal::INT);
    whole.signal(Signal::INT);
    assert_eq!(
        (watching.exit_code(), whole.exit_code()),
        (Some(0), Some(0))
    );
    drop(server);
}

#[test]
fn watch_ends_when_it_has_enough_or_nobody_reads_or_it_is_refused() {
    let (directory, server) = server("watch-ends", "join_required: [closed]");
    let mut sdk = server.sdk();
    sdk.set(("s", "g"), "i", json!(1));
    let (code, out, _) = run(&mut directory.command(&["watch", "s", "g", "-n", "1"]));
    assert_eq!(
        (code, without_time(out.trim_end())),
        (0, "sync [1]".to_owned())
    );

    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = directory.command(&["watch", "s", "g"]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    drop(command);
    let mut first = String::new();
    BufReader::new(reader).read_line(&mut first).unwrap();
    assert!(first.contains("sync"));
    sdk.set(("s", "g"), "i", json!(2));
    assert_eq!(exit_code(&mut child), Some(0));

    let (code, out, error) = run(&mut directory.command(&["watch", "closed", "g"]));
    assert_eq!((code, &*out), (1, ""));
    assert!(error.contains("unauthorized: "), "{error}");
}

#[test]
fn headers_go_with_the_upgrade_and_a_refusal_is_shown_in_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "ws://me:word@{}/?token=s3cret",
        listener.local_addr().unwrap()
    );
    let directory = Directory::new("headers");
    for command in ["call", "watch", "health"] {
        let flag = if command == "call" {
            "--engine"
        } else {
            "--stream"
        };
        let more: &[&str] = if command == "health" {
            &[]
        } else {
            &["s", "{}"]
        };
        let asked = directory
            .command(&[command, flag, &url, "-H", "X-Token: t1"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = crate::support::raw::read_head(&mut stream).to_lowercase();
        assert!(head.contains("x-token: t1\r\n"), "{head}");
        assert!(
            head.contains("authorization: basic bwu6d29yza==\r\n"),
            "{head}"
        );
        let path = if command == "health" {
            "get /health "
        } else {
            "get /?token=s3cret "
        };
        assert!(head.starts_with(path), "{head}");
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\nconnection: close\r\n\r\n\u{1b}[2J no\nx";
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        let (code, _, error) = parts(asked.wait_with_output().unwrap());
        assert_eq!((code, error.lines().count()), (1, 1), "{error}");
        assert!(error.contains("401 Unauthorized"), "{error}");
        for secret in ["word", "s3cret", "\u{1b}"] {
            assert!(!error.contains(secret), "{error}");
        }
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
fn doctor_says_what_is_bad_and_changes_nothing() {
    let file = config(
        "adapter: {name: kv, config: {store_method: file_based, file_path: ./data}}",
        "",
    );
    let directory = Directory::new("doctor").with_file(&file);
    let doctor = |directory: &Directory, ulimit: &str| {
        let line = format!("{ulimit} exec {PROGRAM} doctor --json");
        let mut command = directory.command(&[]);
        command = {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &line])
                .current_dir(command.get_current_dir().unwrap());
            shell.env_remove("III_URL");
            shell
        };
        let (code, out, error) = run(&mut command);
        assert_eq!((&*error, out.lines().count()), ("", 1));
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let states = |found: &Value, name: &str| -> Vec<String> {
        let checks = found["checks"].as_array().unwrap().iter();
        let named = checks.filter(|check| check["name"] == name);
        named
            .map(|check| check["state"].as_str().unwrap().to_owned())
            .collect()
    };
    let (code, found) = doctor(&directory, "");
    assert_eq!(found["ok"], code == 0);
    for name in [
        "settings",
        "open files",
        "writes",
        "backlog",
        "lost connections",
        "ports",
        "tcp memory",
        "cores",
        "quota",
        "shared cores",
        "stolen time",
        "memory",
        "killed for memory",
        "disk",
        "disk room",
        "fsync",
        "clock source",
        "clock steps",
    ] {
        assert!(!states(&found, name).is_empty(), "{name} is in {found}");
    }
    for check in found["checks"].as_array().unwrap() {
        let is_wrong = check["state"] == "warning" || check["state"] == "bad";
        for key in ["means", "do"] {
            assert_eq!(check[key] != "", is_wrong, "{check}");
        }
    }
    let (code, found) = doctor(&directory, "ulimit -n 256 &&");
    assert_eq!(
        (code, states(&found, "open files")),
        (1, vec!["bad".to_owned()])
    );
    let left: Vec<_> = std::fs::read_dir(&directory.0).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let faulty = Directory::new("doctor-faulty")
        .with_file("workers:\n- {name: iii-stream, config: {prot: 1}}\n");
    let (code, found) = doctor(&faulty, "");
    assert_eq!((code, &found["ok"]), (1, &json!(false)));
    assert!(
        states(&found, "settings").contains(&"bad".to_owned()),
        "{found}"
    );
    let (code, out, error) = run(&mut faulty.command(&["doctor"]));
    assert_eq!((code, &*error), (1, ""));
    assert!(
        out.starts_with("bad      settings") && out.contains(" ok\n"),
        "{out}"
    );
}

#[test]
fn doctor_asks_redis_and_shows_no_login() {
    let redis = RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]);
    redis.ask::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let file = |url: &str| {
        config(
            &format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}"),
            "",
        )
    };
    let look = |url: &str| {
        let directory = Directory::new("doctor-redis").with_file(&file(url));
        let (code, out, error) = run(&mut directory.command(&["doctor", "--json"]));
        assert!(!out.contains("s3cret") && error.is_empty(), "{out}{error}");
        let found: Value = serde_json::from_str(&out).unwrap();
        let checks = found["checks"].as_array().unwrap().iter();
        let redis = checks.filter(|check| check["name"].as_str().unwrap().starts_with("redis"));
        (code, redis.cloned().collect::<Vec<_>>())
    };
    let url = redis.url().replace("redis://", "redis://:s3cret@");
    let (_, checks) = look(&url);
    let state = |name: &str| {
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("redis"), "ok");
    assert_eq!(state("redis memory"), "warning");
    assert_eq!(state("redis channel"), "ok");
    assert_eq!(state("redis clock"), "ok");
    for url in [
        url.replace("s3cret@", "s3cret-not@"),
        "redis://:s3cret@127.0.0.1:1".to_owned(),
    ] {
        let (code, checks) = look(&url);
        assert_eq!(
            (code, &checks[0]["state"]),
            (1, &json!("bad")),
            "{checks:?}"
        );
    }
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
