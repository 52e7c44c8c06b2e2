//! Settings that are read again while the server runs, and what its log says and hides.

use std::io::Write;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::clients::set_input;
use crate::support::process::{Directory, Process, config, outcome};
use crate::support::{SdkWorker, Subscriber, raw};

/// The program on a config file with these keys under `server`, and some of its variables.
fn start(test: &str, server: &str, variables: &[(&str, &str)]) -> Process {
    start_with(test, "", server, variables)
}

/// `keys`: under `config`.
fn start_with(test: &str, keys: &str, server: &str, variables: &[(&str, &str)]) -> Process {
    let directory = Directory::new(test).with_file(&config(keys, &with_threads(server)));
    let mut command = directory.command(&[]);
    command.envs(variables.iter().copied());
    let mut process = Process::start(command);
    process.directory = Some(directory);
    process
}

fn with_threads(server: &str) -> String {
    format!("threads: 2, drain_ms: 500, {server}")
}

fn rewrite(process: &Process, file: &str) {
    let directory = process.directory.as_ref().unwrap();
    std::fs::write(directory.0.join("config.yaml"), file).unwrap();
}

/// The exit code, and what was said on both outputs.
fn reload(process: &Process) -> (Option<i32>, String) {
    let directory = process.directory.as_ref().unwrap();
    let pid = process.pid().as_raw_nonzero().to_string();
    let mut command = directory.command(&["reload", "--pid", &pid]);
    outcome(command.output().unwrap())
}

/// Reads these keys again.
fn reload_with(process: &Process, server: &str) -> (Option<i32>, String) {
    rewrite(process, &config("", &with_threads(server)));
    reload(process)
}

/// What an upgrade is answered with, that a page of some origin asks for.
fn status_for_page(address: std::net::SocketAddr, origin: &str) -> String {
    let mut stream = raw::connect(address);
    let request = raw::upgrade_request("/", &format!("Origin: {origin}\r\n"));
    stream.write_all(request.as_bytes()).unwrap();
    let head = raw::read_head(&mut stream);
    head.split(' ').nth(1).unwrap().to_owned()
}

const ROOM: (&str, &str) = ("reload", "room");

#[test]
fn a_reload_takes_effect_on_every_thread_and_says_what_does_not() {
    let process = start("reload", "limits: {name_bytes: 10, mailbox_len: 100}", &[]);
    let (mut sdk, mut subscriber) = (process.sdk(), process.subscriber());
    let refused = |sdk: &mut SdkWorker, value: Value| {
        let result = sdk.call("stream::set", set_input(ROOM, "0123456789a", value));
        result["error"]["message"].as_str().map(str::to_owned)
    };
    let message = "Failed to set value: limits.name_bytes exceeded: 11 > 10";
    assert_eq!(refused(&mut sdk, json!(1)).as_deref(), Some(message));
    let (code, said) = reload_with(
        &process,
        "limits: {name_bytes: 11, value_bytes: 9, subscriptions: 2, connections: 2, mailbox_len: 200}, \
         allowed_origins: [\"https://a.example\"], worker_origins: [\"https://b.example\"], backlog: 9, \
         streams: [{stream: typing, ttl_ms: 10s}]",
    );
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "in force: server.limits.name_bytes 10 → 11\n",
        "in force: server.limits.value_bytes 16777216 → 9\n",
        "in force: server.limits.connections ",
        "in force: server.allowed_origins any → [\"https://a.example\"]\n",
        "not in force: server.backlog 65535 → 9 (takes a restart)\n",
        "not in force: server.limits.mailbox_len 100 → 200 (takes a restart)\n",
        "not in force: server.streams [] → [{\"pace_ms\":0,\"stream\":\"typing\",\"ttl_ms\":10000}] (takes a restart)\n",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    process.line_with("settings read again, in force from now on: ");
    let waits = process.line_with("settings read again, not in force: ");
    for setting in [
        "server.backlog 65535 → 9",
        "server.streams [] → [{",
        "server.limits.mailbox_len 100 → 200",
    ] {
        assert!(waits.contains(setting), "{setting} in {waits}");
    }
    // The engine thread,
    assert_eq!(refused(&mut sdk, json!([1, 2])), None);
    let message = "Failed to set value: limits.value_bytes exceeded: 10 > 9";
    assert_eq!(
        refused(&mut sdk, json!("12345678")).as_deref(),
        Some(message)
    );
    assert_eq!(status_for_page(process.worker, "https://a.example"), "403");
    assert_eq!(status_for_page(process.worker, "https://b.example"), "101");
    // a shard, whose update makes the value,
    let update = json!({"stream_name": ROOM.0, "group_id": ROOM.1, "item_id": "0123456789a",
        "ops": [{"type": "set", "path": "", "value": "1234567"}]});
    assert!(sdk.call("stream::update", update).get("error").is_none());
    let update = json!({"stream_name": ROOM.0, "group_id": ROOM.1, "item_id": "0123456789a",
        "ops": [{"type": "append", "path": "", "value": "8"}]});
    let (_, message) = sdk.error_of("stream::update", update);
    assert!(
        message.contains("limits.value_bytes exceeded: 10 > 9"),
        "{message}"
    );
    // and the workers, each.
    subscriber.join("a", ROOM);
    subscriber.join("b", (ROOM.0, "0123456789a"));
    subscriber.start_join("c", ROOM, None);
    assert_eq!(subscriber.next().kind, "unauthorized");
    assert_eq!(status_for_page(process.stream, "https://b.example"), "403");
    let _second = process.subscriber();
    assert_eq!(status_for_page(process.stream, "https://a.example"), "503");
    let (code, said) = reload(&process);
    assert_eq!(code, Some(0));
    assert!(
        !said.contains("\nin force: ") && !said.starts_with("in force"),
        "{said}"
    );
    assert!(
        said.contains("not in force: server.backlog"),
        "still: {said}"
    );
}

#[test]
fn gates_of_joins_and_upgrades_are_read_again() {
    let process = start_with("gates", "auth_function: auth", "auth_failure: allow", &[]);
    let mut sdk = process.sdk();
    process.subscriber().join("a", ROOM);
    let file = |server: &str| config("auth_function: auth", &with_threads(server));
    rewrite(&process, &file("auth_failure: refuse, auth_timeout_ms: 50"));
    assert_eq!(reload(&process).0, Some(0));
    assert_eq!(status_for_page(process.stream, "https://a.example"), "503");
    sdk.register("auth");
    sdk.settle();
    let mut asked = raw::connect(process.stream);
    asked
        .write_all(raw::upgrade_request("/", "").as_bytes())
        .unwrap();
    sdk.next_call_of("auth"); // and no answer
    let head = raw::read_head(&mut asked);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    rewrite(
        &process,
        &file("auth_failure: allow, auth_timeout_ms: 50, join_required: [reload]"),
    );
    assert_eq!(reload(&process).0, Some(0));
    let mut subscriber = process.subscriber();
    subscriber.start_join("a", ROOM, None);
    assert_eq!(subscriber.next().kind, "unauthorized");
    subscriber.join("a", ("other", "room"));
}

/// Removed a moment before the next is there, or cut while a disk was full: no gate opens.
#[test]
fn a_file_that_is_gone_or_emptied_changes_nothing() {
    let closed = "allowed_origins: [\"https://a.example\"]";
    let process = start("gone", closed, &[]);
    let path = process.directory.as_ref().unwrap().0.join("config.yaml");
    for (text, fault) in [
        (None, "is not there any more"),
        (Some(""), "says nothing any more"),
        (Some("# nothing\n"), "says nothing any more"),
        (Some("workers: []\n"), "says nothing any more"),
    ] {
        match text {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => rewrite(&process, text),
        }
        let (code, said) = reload(&process);
        assert_eq!(code, Some(1), "{said}");
        let expected = format!("nothing is changed\nconfig.yaml: {fault}; put its settings back");
        assert!(said.starts_with(&expected), "{said}");
        let status = status_for_page(process.stream, "https://b.example");
        assert_eq!(status, "403", "{fault}");
    }
    let (code, said) = reload_with(&process, "");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(status_for_page(process.stream, "https://b.example"), "101");
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_is_taken_after_it() {
    let process = start("bad", "limits: {name_bytes: 10}", &[]);
    let long = ("reload", "0123456789a");
    let mut subscriber = process.subscriber();
    let is_refused = |subscriber: &mut Subscriber| {
        subscriber.start_join("s", long, None);
        subscriber.next().kind == "unauthorized"
    };
    for (server, fault) in [
        (
            "limits: {name_bytes: 20, nonsense: 1}",
            "nonsense: unknown key",
        ),
        (
            "limits: {name_bytes: 20}, log: {level: loud}",
            "expected error, warn, info, debug or trace",
        ),
        (
            "limits: {name_bytes: 20}, allowed_origins: [x]",
            "allowed_origins",
        ),
        ("limits: {name_bytes: 20}, [", "config.yaml:"),
    ] {
        let (code, said) = reload_with(&process, server);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.starts_with("nothing is changed\n") && said.contains(fault),
            "{said}"
        );
        process.line_with("ERROR settings read again, and nothing is changed: config.yaml:");
        assert!(is_refused(&mut subscriber));
    }
    let directory = process.directory.as_ref().unwrap();
    std::fs::remove_file(directory.0.join("config.yaml")).unwrap();
    std::fs::create_dir(directory.0.join("config.yaml")).unwrap();
    process.signal(Signal::HUP);
    process.line_with("nothing is changed: Failed to read config file 'config.yaml': ");
    assert!(is_refused(&mut subscriber));
    std::fs::remove_dir(directory.0.join("config.yaml")).unwrap();
    rewrite(
        &process,
        &config("", &with_threads("limits: {name_bytes: 20}")),
    );
    process.signal(Signal::HUP);
    process.line_with("in force from now on: server.limits.name_bytes 10 → 20");
    assert!(!is_refused(&mut subscriber));
}

#[test]
fn a_reload_of_nobody_says_so() {
    let directory = Directory::new("nobody");
    let output = directory
        .command(&["reload", "--pid", "1"])
        .output()
        .unwrap();
    let (code, said) = outcome(output);
    assert_eq!(code, Some(1));
    assert_eq!(said, "process 1 is no server that runs on this machine\n");
}

#[test]
fn what_the_log_says_is_read_again_unless_a_variable_says_it() {
    let process = start("level", "log: {level: warn}", &[("RUST_LOG", "info")]);
    let (code, said) = reload_with(&process, "log: {level: debug}");
    assert_eq!(code, Some(0));
    let line = "not in force: server.log.level warn → debug (RUST_LOG is set, and wins)\n";
    assert_eq!(said, line);
    let process = start("level", "log: {level: info}", &[]);
    process.subscriber().join("quiet", ROOM);
    let (code, said) = reload_with(&process, "log: {level: debug}");
    assert_eq!(
        (code, &*said),
        (Some(0), "in force: server.log.level info → debug\n")
    );
    process.subscriber().join("loud", ROOM);
    process.line_with("DEBUG");
    assert!(!process.says("quiet"), "it was not said before");
}

/// Names and secrets that a peer sends, in whatever place there is for one.
const HOSTILE: &str =
    "a\"\n2026-11-30T00:00:00Z ERROR forged\u{1b}[2J\u{9b}1m\u{202e}<img onerror=x>";

#[test]
fn names_in_the_log_are_inert_and_secrets_are_not_in_it() {
    for format in ["human", "json"] {
        let server =
            format!("log: {{format: {format}, level: trace}}, limits: {{value_bytes: 50}}");
        let process = start_with(
            "inert",
            "auth_function: auth",
            &server,
            &[("NO_COLOR", "1")],
        );
        let mut sdk = process.sdk();
        sdk.register("auth");
        sdk.register(HOSTILE);
        sdk.trigger(
            HOSTILE,
            "stream:join",
            HOSTILE,
            json!({"stream_name": HOSTILE}),
        );
        sdk.trigger("odd", HOSTILE, HOSTILE, json!({}));
        sdk.settle();
        let mut stream = raw::connect(process.stream);
        let head = raw::upgrade_request(
            "/?token=s3cret-query",
            "Authorization: Bearer s3cret-header\r\nCookie: session=s3cret-cookie\r\n\
             Sec-WebSocket-Protocol: s3cret-protocol\r\n",
        );
        stream.write_all(head.as_bytes()).unwrap();
        let asked = sdk.next_call_of("auth");
        assert!(asked.to_string().contains("s3cret-cookie"), "{asked}");
        sdk.answer(
            &asked,
            json!({"result": {"context": {"password": "s3cret-context"}}}),
        );
        assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
        let mut subscriber = Subscriber::upgraded(stream);
        subscriber.start_join(HOSTILE, (HOSTILE, HOSTILE), Some(HOSTILE));
        let asked = sdk.next_call_of(HOSTILE);
        sdk.answer(
            &asked,
            json!({"error": {"code": HOSTILE, "message": HOSTILE}}),
        );
        subscriber.next();
        let set = set_input((HOSTILE, HOSTILE), HOSTILE, json!("x".repeat(60)));
        assert!(sdk.call("stream::set", set).get("error").is_some());
        sdk.call(HOSTILE_AWAY, json!({}));
        drop(subscriber);
        sdk.set((HOSTILE, HOSTILE), "marker", json!(1));
        drop(sdk);
        process.signal(Signal::TERM);
        process.line_with("ended");
        let log = process.log.borrow();
        let mut of_peers = 0;
        for line in &*log {
            assert!(!line.contains("s3cret"), "{line}");
            assert!(!line.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{line}");
            of_peers += usize::from(line.contains("forged"));
            match format {
                "json" => {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let text = |key: &str| line[key].as_str().unwrap().to_owned();
                    assert!(text("timestamp").starts_with("20"), "{line}");
                    assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&&*text("level")));
                    assert!(!text("message").contains('\n'));
                }
                _ => assert!(!line.starts_with("2026-11-30T00:00:00Z"), "{line}"),
            }
        }
        assert!(of_peers >= 4, "{log:#?}");
    }
}

const HOSTILE_AWAY: &str = "away\n\u{1b}[2Jforged";
