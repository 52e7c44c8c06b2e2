//! The process: its start, its signals, its exit codes.

mod open_files;
mod told;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;

use crate::support::clients::{Socket, error_in, join, open};
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

/// SDKs wait on for theirs over a reconnect, and nobody would answer.
#[test]
fn a_call_that_takes_longer_than_the_end_is_answered_before_its_socket_closes() {
    let mut process = start_with("too-long", "drain_ms: 100");
    let mut callee = process.sdk();
    let mut caller = process.sdk();
    callee.register("f");
    let id = caller.start("f", json!({}));
    callee.next_call();
    process.signal(Signal::TERM);
    let result = caller.result(&id);
    let (code, message) = error_in(&result);
    assert_eq!(
        (&*code, &*message),
        ("invocation_stopped", "Invocation stopped")
    );
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
