//! The process: its first lines, its signals, its exit codes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;

use crate::support::clients::{Socket, join, open};
use crate::support::process::{
    Directory, Process, command_with_files, config, config_at, exit_code,
};
use crate::support::{raw, wait_until};

/// The program in a directory of its own, with two threads.
fn start(test: &str) -> Process {
    start_with(test, "drain_ms: 500")
}

/// `server`: keys under `server`.
fn start_with(test: &str, server: &str) -> Process {
    let server = format!("threads: 2, {server}");
    start_as(test, &server, "", |directory| directory.command(&[]))
}

/// `keys`: keys under `config`.
fn start_as(
    test: &str,
    server: &str,
    keys: &str,
    command: impl FnOnce(&Directory) -> Command,
) -> Process {
    let directory = Directory::new(test).with_file(&config(keys, server));
    let mut process = Process::start(command(&directory));
    process.directory = Some(directory);
    process
}

/// A socket that has joined a group.
fn subscriber(process: &Process) -> Socket {
    let mut socket = open(raw::connect(process.stream), process.stream, "/");
    socket
        .send(Message::text(join("s", ("s", "g"), None)))
        .unwrap();
    socket.read().unwrap();
    socket
}

/// A socket on the worker port that has its greeting.
fn sdk(process: &Process) -> Socket {
    let mut socket = open(raw::connect(process.worker), process.worker, "/");
    socket.read().unwrap();
    socket
}

fn close_code(socket: &mut Socket) -> Option<u16> {
    loop {
        match socket.read().expect("a close frame") {
            Message::Close(frame) => return frame.map(|frame| frame.code.into()),
            _ => continue,
        }
    }
}

#[test]
fn a_port_in_use_ends_the_start_and_says_by_whom_it_may_be() {
    let first = start("first");
    let stream = first.stream.port();
    let worker = first.worker.port();
    let or_outgoing = |port: u16| {
        format!(
            ", or an outgoing connection holds it (ss -tanp 'sport = :{port}'; \
             sysctl net.ipv4.ip_local_reserved_ports={port} keeps it free)\n"
        )
    };
    // Ports that the kernel has picked are of those that it gives to outgoing connections.
    let lines = [
        (
            stream,
            0,
            format!(
                "address 127.0.0.1:{stream} is already in use; another iii-stream or an iii engine \
                 may be running (ss -ltnp 'sport = :{stream}'){}",
                or_outgoing(stream)
            ),
        ),
        (
            0,
            worker,
            format!(
                "address 127.0.0.1:{worker} is already in use; an iii engine may be running, which \
                 --engine ws://127.0.0.1:{worker} would attach to (ss -ltnp 'sport = :{worker}'){}",
                or_outgoing(worker)
            ),
        ),
    ];
    for (stream, worker, line) in lines {
        let directory =
            Directory::new("second").with_file(&config_at(stream, worker, "drain_ms: 500"));
        let output = directory.command(&[]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.ends_with(&line), "{said}");
    }
    subscriber(&first); // the first one serves on
}

#[test]
fn a_port_is_free_again_as_soon_as_the_process_has_ended() {
    let mut first = start("restart");
    let mut held = subscriber(&first);
    first.signal(Signal::TERM);
    close_code(&mut held);
    assert_eq!(first.exit_code(), Some(0));
    let port = first.stream.port();
    let directory = Directory::new("again").with_file(&config_at(port, 0, "drain_ms: 500"));
    let again = Process::start(directory.command(&[]));
    assert_eq!(
        again.stream.port(),
        port,
        "no socket of the last run holds it"
    );
}

#[test]
fn sigterm_closes_every_socket_with_1012_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = start(&format!("signal-{}", signal.as_raw()));
        let mut subscribers = [
            subscriber(&process),
            subscriber(&process),
            subscriber(&process),
        ];
        let mut sdk = sdk(&process);
        process.signal(signal);
        for subscriber in &mut subscribers {
            assert_eq!(close_code(subscriber), Some(1012));
        }
        assert_eq!(close_code(&mut sdk), Some(1012));
        process.line_with(": closing ");
        assert_eq!(process.exit_code(), Some(0));
        process.line_with("ended");
    }
}

#[test]
fn a_call_in_flight_is_answered_before_the_end() {
    let mut process = start_with("in-flight", "drain_ms: 30000");
    let mut callee = sdk(&process);
    let mut caller = sdk(&process);
    let send = |socket: &mut Socket, message: serde_json::Value| {
        socket.send(Message::text(message.to_string())).unwrap();
    };
    let id = "00000000-0000-4000-8000-000000000001";
    send(&mut callee, json!({"type": "registerfunction", "id": "f"}));
    send(&mut callee, json!({"type": "ping"}));
    callee.read().unwrap();
    send(
        &mut caller,
        json!({"type": "invokefunction", "invocation_id": id, "function_id": "f", "data": {}}),
    );
    callee.read().unwrap();
    process.signal(Signal::TERM);
    process.line_with(": closing ");
    send(
        &mut callee,
        json!({"type": "invocationresult", "invocation_id": id, "function_id": "f", "result": "in time"}),
    );
    let answer = caller.read().unwrap().into_text().unwrap();
    assert!(answer.as_str().contains("in time"), "{answer}");
    assert_eq!(close_code(&mut caller), Some(1012));
    assert_eq!(close_code(&mut callee), Some(1012));
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn nobody_new_is_served_while_the_process_ends() {
    let process = start_with("no-more", "drain_ms: 30000");
    // 2 ms for each, so that the spread lasts.
    let mut held: Vec<Socket> = (0..1000).map(|_| subscriber(&process)).collect();
    process.signal(Signal::TERM);
    process.line_with(": closing 1000 sockets within 2s, ");
    wait_until("the listeners are closed", || {
        raw::reach(process.stream).map_or(true, |mut socket| {
            let mut byte = [0];
            matches!(socket.read(&mut byte), Ok(0) | Err(_))
        })
    });
    // The spread is not over: some still hear what happens.
    let hears = |socket: &mut Socket| {
        let joined = socket.send(Message::text(join("again", ("s", "g"), None)));
        joined.is_ok() && matches!(socket.read(), Ok(Message::Text(_)))
    };
    assert!(held.iter_mut().any(hears));
}

#[test]
fn few_sockets_do_not_hold_the_end_up() {
    let mut process = start_with("few", "drain_ms: 600000");
    let mut subscribers: Vec<Socket> = (0..20).map(|_| subscriber(&process)).collect();
    process.signal(Signal::TERM);
    process
        .line_with("SIGTERM: closing 20 sockets within 40ms, calls under way have 600s; a second");
    for subscriber in &mut subscribers {
        assert_eq!(close_code(subscriber), Some(1012));
    }
    assert_eq!(process.exit_code(), Some(0));
}

/// A call that nobody answers holds the end up for as long as it may.
fn call_for_good(process: &Process) -> [Socket; 2] {
    let mut callee = sdk(process);
    let mut caller = sdk(process);
    let send = |socket: &mut Socket, message: serde_json::Value| {
        socket.send(Message::text(message.to_string())).unwrap();
    };
    send(&mut callee, json!({"type": "registerfunction", "id": "f"}));
    send(&mut callee, json!({"type": "ping"}));
    callee.read().unwrap();
    let id = "00000000-0000-4000-8000-000000000001";
    send(
        &mut caller,
        json!({"type": "invokefunction", "invocation_id": id, "function_id": "f", "data": {}}),
    );
    callee.read().unwrap();
    [callee, caller]
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut process = start_with("twice", "drain_ms: 600000");
    let _sdk = call_for_good(&process);
    process.signal(Signal::TERM);
    process.line_with("SIGTERM: closing 2 sockets");
    process.signal(Signal::INT);
    assert_eq!(process.exit_code(), Some(0));
    process.line_with("SIGINT: ended at once");
}

#[test]
fn signals_that_ask_for_something_else_end_nothing() {
    let mut process = start("others");
    for signal in [Signal::USR1, Signal::USR2, Signal::XFSZ, Signal::PIPE] {
        process.signal(signal);
    }
    for _ in 0..2 {
        process.signal(Signal::HUP);
        process.line_with("settings read again: nothing else is in force");
    }
    subscriber(&process);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), Some(0));
}

/// A pipe that nobody reads and that holds nothing more.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = 65_536; // a pipe's, unless it is changed
    writer.write_all(&vec![b'.'; size]).unwrap();
    (reader, writer)
}

#[test]
fn a_log_reader_that_has_stopped_holds_nothing_up() {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (stream, worker) = (free(), free());
    let file = config_at(stream.port(), worker.port(), "threads: 2, drain_ms: 600000");
    let directory = Directory::new("stopped-log").with_file(&file);
    for signals in [1, 2] {
        let (reader, writer) = full_pipe();
        let child = directory.command(&[]).stderr(writer).spawn().unwrap();
        let mut process = Process::unheard(child, stream, worker);
        wait_until("it serves", || raw::reach(worker).is_ok());
        let mut subscriber = subscriber(&process);
        let sdk = call_for_good(&process);
        // Each is a line.
        for _ in 0..20 {
            process.signal(Signal::HUP);
        }
        process.signal(Signal::TERM);
        assert_eq!(close_code(&mut subscriber), Some(1012));
        match signals {
            1 => drop(sdk),
            _ => process.signal(Signal::TERM),
        }
        assert_eq!(process.exit_code(), Some(0));
        drop(reader);
    }
}

#[test]
fn a_start_that_fails_ends_also_where_nobody_reads_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = config_at(port, 0, "drain_ms: 500");
    let directory = Directory::new("unread-why").with_file(&file);
    let (_reader, writer) = full_pipe();
    let mut child = directory.command(&[]).stderr(writer).spawn().unwrap();
    assert_eq!(exit_code(&mut child), Some(1));
}

#[test]
fn small_limits_of_open_files_are_used_and_said() {
    let process = start_as("few-files", "threads: 2, drain_ms: 500", "", |directory| {
        command_with_files(&directory.0, 256)
    });
    let said = process.log.borrow().join("\n");
    let line = "WARN open files 256: 183 subscribers at most, limits.connections is 1000000; 97 sockets on the \
                worker port at most, limits.worker_connections is 10000; LimitNOFILE=";
    assert!(said.contains(line), "{said}");
    let mut held: Vec<Socket> = (0..183).map(|_| subscriber(&process)).collect();
    let mut one_more = raw::connect(process.stream);
    one_more
        .write_all(raw::upgrade_request("/", "").as_bytes())
        .unwrap();
    assert!(raw::read_head(&mut one_more).starts_with("HTTP/1.1 503 "));
    assert!(held.pop().unwrap().send(Message::Ping("".into())).is_ok());
}

/// Sockets that say nothing take no file that the store needs.
#[test]
fn idle_connections_leave_the_store_its_files() {
    let adapter = "adapter: {name: kv, config: {store_method: file_based, file_path: ./store, segment_bytes: 1MiB}}";
    let process = start_as(
        "idle-files",
        "threads: 2, drain_ms: 500",
        adapter,
        |directory| command_with_files(&directory.0, 256),
    );
    let mut sdk = sdk(&process);
    let silent: Vec<_> = (0..300)
        .map(|n| match n % 2 {
            0 => raw::connect(process.stream),
            _ => raw::connect(process.worker),
        })
        .collect();
    process.line_with("sockets are open, and the last files are kept");
    let value = "x".repeat(64 * 1024);
    for n in 0..100 {
        let id = format!("00000000-0000-4000-8000-{n:012}");
        let input =
            json!({"stream_name": "s", "group_id": "g", "item_id": n.to_string(), "data": value});
        let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set", "data": input});
        sdk.send(Message::text(call.to_string())).unwrap();
        let answer = sdk.read().unwrap().into_text().unwrap();
        assert!(answer.as_str().contains("new_value"), "{answer}");
    }
    let segments = std::fs::read_dir(process.directory.as_ref().unwrap().0.join("store")).unwrap();
    assert!(segments.count() > 5, "many were opened meanwhile");
    drop(silent);
}

/// The time that the process has had of the cores, in ms.
fn cpu_ms(process: &Process) -> u64 {
    let path = format!("/proc/{}/stat", process.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

#[test]
fn without_a_file_for_a_socket_those_inside_go_on_and_others_come_in_once_there_is_room() {
    let process = start_as("no-files", "threads: 2, drain_ms: 500", "", |directory| {
        command_with_files(&directory.0, 128)
    });
    let mut sdk = sdk(&process);
    let mut inside: Vec<Socket> = (0..20).map(|_| subscriber(&process)).collect();
    for _ in 0..2 {
        // Silent ones take what is left, and more wait.
        let silent: Vec<_> = (0..200).map(|_| raw::connect(process.stream)).collect();
        let waiting: Vec<_> = (0..20).map(|_| raw::connect(process.worker)).collect();
        wait_until("it is said", || process.says("cannot accept"));
        let (before, since) = (cpu_ms(&process), std::time::Instant::now());
        while since.elapsed() < std::time::Duration::from_secs(1) {
            for socket in &mut inside {
                socket.send(Message::Ping("p".into())).unwrap();
                assert_eq!(socket.read().unwrap(), Message::Pong("p".into()));
            }
            sdk.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
            sdk.read().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let spent = cpu_ms(&process) - before;
        assert!(spent < 300, "{spent} ms of a second: it spins");
        // All leave at once.
        drop((silent, waiting));
        inside.clear();
        let since = std::time::Instant::now();
        inside.extend((0..20).map(|_| subscriber(&process)));
        let took = since.elapsed();
        assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    }
    process.says("");
    let log = process.log.borrow();
    let said = log.iter().filter(|line| line.contains("cannot accept"));
    assert_eq!(said.count(), 1, "{log:#?}");
}

#[test]
fn the_first_lines_say_what_is_served_where() {
    let process = start("first-lines");
    let stream = process.stream;
    let worker = process.worker;
    assert!(stream.port() != 0 && worker.port() != 0 && stream.ip().is_loopback());
    let log = process.log.borrow();
    let starts = format!(
        "INFO iii-stream {} starts with config.yaml",
        env!("CARGO_PKG_VERSION")
    );
    assert!(log[0].ends_with(&starts), "{log:?}");
    let warning =
        "WARN config.yaml: no adapter in it: values live in memory and end with the process";
    assert!(log[1].ends_with(warning), "{log:?}");
    let more = &log[2..log.len() - 1];
    assert!(
        more.iter().all(|line| line.contains("WARN open files ")),
        "{log:?}"
    );
    let last = log.last().unwrap();
    let started =
        format!("INFO serves subscribers on {stream} and SDK workers on {worker}; 2 threads");
    assert!(last.contains(&started), "{log:?}");
    assert!(last.ends_with("; values in memory"), "{log:?}");
}

#[test]
fn without_a_file_the_first_line_says_so() {
    let directory = Directory::new("no-file");
    let process = Process::spawn(directory.command(&["--use-default-config"]));
    process.line_with("");
    assert!(process.log.borrow()[0].ends_with(" starts with no config file"));
}

#[test]
fn a_call_that_fails_and_that_nobody_waits_for_leaves_a_line_in_the_log() {
    let process = start("void");
    let mut sdk = sdk(&process);
    let void = json!({
        "type": "invokefunction", "function_id": "stream::send", "action": {"type": "void"},
        "data": {"stream_name": "s", "group_id": "g", "kind": "typing", "data": 1},
    });
    for _ in 0..3 {
        sdk.send(Message::text(void.to_string())).unwrap();
    }
    let line = process.line_with("stream::send");
    assert!(
        line.contains("WARN") && line.contains("missing field `type`"),
        "{line}"
    );
    assert!(line.contains("waits for no answer"), "{line}");
    sdk.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
    assert_eq!(sdk.read().unwrap().to_text().unwrap(), r#"{"type":"pong"}"#);
    process.signal(Signal::TERM);
    process.line_with("ended");
    let log = process.log.borrow();
    let warnings = log.iter().filter(|line| line.contains("stream::send"));
    let warnings: Vec<&String> = warnings.collect();
    assert_eq!(warnings.len(), 2, "{log:?}");
    assert!(warnings[1].ends_with("(and 1 more like it)"), "{log:?}");
}

/// Reads lines until all of these words were in one, in any order.
fn hears_of(process: &Process, words: &[&str]) {
    let is_said = |word: &&str| {
        let log = process.log.borrow();
        log.iter().any(|line| line.contains(*word))
    };
    while let Some(missing) = words.iter().find(|word| !is_said(word)) {
        process.line_with(missing);
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = raw::connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    raw::read_head(&mut stream)
}

#[test]
fn every_refusal_by_a_limit_is_told_by_its_name_and_once_a_second() {
    let limits = "limits: {connections: 2, worker_connections: 3, message_bytes: 1000, subscriptions: 1, \
                  name_bytes: 20, handshake_bytes: 1000, handshake_ms: 1000, call_bytes: 2000, value_bytes: 100}";
    let process = start_as(
        "refusals",
        &format!("threads: 1, drain_ms: 500, {limits}"),
        "",
        |directory| directory.command(&[]),
    );
    let silent = [raw::connect(process.stream), raw::connect(process.worker)];
    let large = raw::upgrade_request("/", &format!("a: {}\r\n", "x".repeat(1000)));
    for address in [process.stream, process.worker] {
        assert!(ask(address, &large).starts_with("HTTP/1.1 431 "));
    }
    let mut held = [subscriber(&process), subscriber(&process)];
    for _ in 0..10 {
        assert!(ask(process.stream, &raw::upgrade_request("/", "")).starts_with("HTTP/1.1 503 "));
    }
    let long = "x".repeat(21);
    for (id, group) in [("second", "g"), ("s", &*long)] {
        held[0]
            .send(Message::text(join(id, ("s", group), None)))
            .unwrap();
        let answer = held[0].read().unwrap();
        assert!(answer.to_text().unwrap().contains("unauthorized"));
    }
    held[0].send(Message::text(" ".repeat(1001))).unwrap();
    assert_eq!(close_code(&mut held[0]), Some(1009));
    let mut sdks = [sdk(&process), sdk(&process), sdk(&process)];
    assert!(ask(process.worker, &raw::upgrade_request("/", "")).starts_with("HTTP/1.1 503 "));
    let id = "00000000-0000-4000-8000-000000000001";
    let input =
        json!({"stream_name": "s", "group_id": "g", "item_id": "i", "data": "x".repeat(200)});
    let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set", "data": input});
    sdks[0].send(Message::text(call.to_string())).unwrap();
    sdks[0].read().unwrap();
    sdks[1].send(Message::text(" ".repeat(2001))).unwrap();
    assert_eq!(close_code(&mut sdks[1]), Some(1009));
    hears_of(
        &process,
        &[
            " is answered 503: limits.connections (2) are there",
            " is answered 503: limits.worker_connections (3) are there",
            "`unauthorized`: limits.subscriptions (1)",
            "`unauthorized`: limits.name_bytes (20)",
            "1009: message would have 1001 bytes, limit 1000 (limits.message_bytes)",
            "1009: message would have 2001 bytes, limit 2000 (limits.call_bytes)",
            "its call of stream::set is refused: Failed to set value: limits.value_bytes exceeded: 202 > 100",
            "limits.handshake_ms (1000)",
            "a socket from 127.0.0.1: is answered 431: its request has more than limits.handshake_bytes (1000)",
        ],
    );
    // The nine that were held back are a line of their own.
    hears_of(&process, &["(and 8 more like it)"]);
    process.signal(Signal::TERM);
    process.line_with("ended");
    let log = process.log.borrow();
    let busy = log
        .iter()
        .filter(|line| line.contains("limits.connections (2)"));
    assert_eq!(busy.count(), 2, "{log:?}");
    let all_warn = log
        .iter()
        .filter(|line| line.contains("limits."))
        .all(|line| line.contains("WARN"));
    assert!(all_warn, "{log:?}");
    drop(silent);
}

#[test]
fn failures_of_one_function_hide_none_of_another() {
    let process = start("failures");
    let mut sdk = sdk(&process);
    let send = |sdk: &mut Socket, message: serde_json::Value| {
        sdk.send(Message::text(message.to_string())).unwrap();
    };
    send(
        &mut sdk,
        json!({"type": "invokefunction", "function_id": "engine::workers::register", "action": {"type": "void"},
            "data": {"name": "my-app", "runtime": "node"}}),
    );
    for (function, of_type) in [
        ("onSet", "stream"),
        ("onJoin", "stream:join"),
        ("onTick", "cron"),
        ("onGet", "http"),
    ] {
        send(
            &mut sdk,
            json!({"type": "registerfunction", "id": function}),
        );
        send(
            &mut sdk,
            json!({"type": "registertrigger", "id": format!("trigger-{function}"), "trigger_type": of_type,
                "function_id": function, "config": {"stream_name": "s"}}),
        );
    }
    send(&mut sdk, json!({"type": "ping"}));
    while !sdk.read().unwrap().to_text().unwrap().contains("pong") {}
    let set = json!({"type": "invokefunction", "function_id": "stream::set", "action": {"type": "void"},
        "data": {"stream_name": "s", "group_id": "g", "item_id": "i", "data": 1}});
    for _ in 0..3 {
        send(&mut sdk, set.clone());
    }
    let mut subscriber = open(raw::connect(process.stream), process.stream, "/stream/s/g/");
    for _ in 0..4 {
        let call: serde_json::Value =
            serde_json::from_str(sdk.read().unwrap().to_text().unwrap()).unwrap();
        send(
            &mut sdk,
            json!({"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": call["function_id"],
                "error": {"code": "oops", "message": "thrown"}}),
        );
    }
    subscriber.read().unwrap();
    process.signal(Signal::TERM);
    process.line_with("ended");
    let log = process.log.borrow();
    let said = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!(said("function onJoin failed: oops: thrown"), 1, "{log:?}");
    assert_eq!(said("function onSet failed: oops: thrown"), 2, "{log:?}");
    assert_eq!(
        said("function onSet failed: oops: thrown (and 1 more like it)"),
        1,
        "{log:?}"
    );
    for (part, function) in [("cron", "onTick"), ("http", "onGet")] {
        let line = format!(
            "SDK worker my-app (node, 127.0.0.1): its trigger of type {part} for function {function} waits until \
             a worker serves that type; the {part} worker is not part of this server: run it beside an engine (--engine) \
             (trigger trigger-{function})"
        );
        assert_eq!(said(&line), 1, "{line} in {log:?}");
    }
}

#[test]
fn whom_a_function_or_an_origin_keeps_out_is_told_with_its_cause() {
    let keys = "auth_function: letIn";
    let server = "threads: 1, drain_ms: 500, auth_timeout_ms: 300, allowed_origins: ['https://a.example', '*.b.example']";
    let process = start_as("kept-out", server, keys, |directory| directory.command(&[]));
    let ask = |more: &str| {
        let mut stream = raw::connect(process.stream);
        let request = raw::upgrade_request("/?token=secret", more);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    raw::read_head(&mut ask("origin: https://evil.example\r\n"));
    raw::read_head(&mut ask(""));
    let mut sdk = sdk(&process);
    sdk.send(Message::text(
        json!({"type": "registerfunction", "id": "letIn"}).to_string(),
    ))
    .unwrap();
    // Another thread asks for the function: it is there once what was said behind it is answered.
    sdk.send(Message::text(json!({"type": "ping"}).to_string()))
        .unwrap();
    assert!(sdk.read().unwrap().to_text().unwrap().contains("pong"));
    for word in [
        json!({"result": {"unauthorized": true}}),
        json!({"result": 5}),
        json!({"error": {"code": "oops", "message": "token table is down"}}),
        json!(null),
    ] {
        let mut stream = ask("authorization: Bearer secret\r\n");
        let call: serde_json::Value =
            serde_json::from_str(sdk.read().unwrap().to_text().unwrap()).unwrap();
        if let serde_json::Value::Object(mut word) = word {
            word.insert("type".to_owned(), json!("invocationresult"));
            word.insert("invocation_id".to_owned(), call["invocation_id"].clone());
            word.insert("function_id".to_owned(), json!("letIn"));
            sdk.send(Message::text(serde_json::Value::Object(word).to_string()))
                .unwrap();
        }
        assert!(!raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    }
    hears_of(
        &process,
        &[
            "its page is of https://evil.example, server.allowed_origins has https://a.example, *.b.example",
            "is refused by letIn: nobody has registered it",
            "is refused by letIn: it says no",
            "is refused by letIn: it answers neither an object nor null",
            "is refused by letIn: it throws: oops: token table is down",
            "is refused by letIn: it has not answered within server.auth_timeout_ms",
        ],
    );
    let log = process.log.borrow().join("\n");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn who_asks_for_it_sees_who_comes_and_goes() {
    let process = start_as("debug", "threads: 1, drain_ms: 500", "", |directory| {
        let mut command = directory.command(&[]);
        command.env("RUST_LOG", "debug");
        command
    });
    let mut sdk = sdk(&process);
    for message in [
        json!({"type": "registerfunction", "id": "onSet"}),
        json!({"type": "registertrigger", "id": "t", "trigger_type": "stream", "function_id": "onSet", "config": {"stream_name": "s"}}),
        json!({"type": "registertriggertype", "id": "mine", "description": ""}),
    ] {
        sdk.send(Message::text(message.to_string())).unwrap();
    }
    let path = "/stream/chat/room%201/?token=secret";
    let mut subscriber = open(raw::connect(process.stream), process.stream, path);
    subscriber.read().unwrap();
    subscriber
        .send(Message::text(join("mine", ("s", "g"), Some("i"))))
        .unwrap();
    subscriber.read().unwrap();
    let leave = json!({"type": "leave", "data": {"subscriptionId": "mine", "streamName": "s", "groupId": "g"}});
    subscriber.send(Message::text(leave.to_string())).unwrap();
    assert!(
        ask(
            process.stream,
            &raw::upgrade_request("/nowhere?token=secret", "")
        )
        .starts_with("HTTP/1.1 404 ")
    );
    drop(subscriber);
    hears_of(
        &process,
        &[
            " connects to the worker port",
            " asks for / and is upgraded",
            " is let in",
            " registers function onSet",
            " registers trigger t of type stream for onSet",
            " serves trigger type mine",
            " connects",
            " asks for /stream/chat/room%201/ and is let in",
            " joins chat > room 1",
            " joins s > g > i",
            " has joined as mine",
            " leaves s > g",
            " asks for /nowhere and is answered 404",
            " is gone",
        ],
    );
    let log = process.log.borrow().join("\n");
    assert!(!log.contains("secret"), "{log}");
}
