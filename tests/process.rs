//! The process: its first lines, its signals, its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod support;

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tungstenite::Message;

use support::clients::{Socket, join, open};
use support::{DEADLINE, raw, wait_until};

/// The binary on free ports, in a directory of its own. It is killed when the test ends.
struct Process {
    child: Child,
    stderr: Receiver<String>,
    /// The lines that have been read.
    log: RefCell<Vec<String>>,
    directory: std::path::PathBuf,
    stream: SocketAddr,
    worker: SocketAddr,
}

impl Process {
    fn start(test: &str) -> Process {
        Process::with(test, "drain_ms: 500")
    }

    fn with(test: &str, server: &str) -> Process {
        let directory =
            std::env::temp_dir().join(format!("iii-stream-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let config = format!(
            "workers:\n  - name: iii-worker-manager\n    config: {{host: 127.0.0.1, port: 0}}\n  \
             - name: iii-stream\n    config: {{host: 127.0.0.1, port: 0}}\n    server: {{threads: 2, {server}}}\n"
        );
        std::fs::write(directory.join("config.yaml"), config).unwrap();
        let mut child = command(&directory).spawn().unwrap();
        let stderr = lines(child.stderr.take().unwrap());
        let mut process = Process {
            child,
            stderr,
            log: RefCell::default(),
            directory,
            stream: "0.0.0.0:0".parse().unwrap(),
            worker: "0.0.0.0:0".parse().unwrap(),
        };
        // "… serves subscribers on A and SDK workers on B; …"
        let started = process.line_with("serves subscribers on");
        let address = |behind: &str| {
            let rest = started.split_once(behind).unwrap().1;
            let end = rest.find([' ', ';']).unwrap();
            rest[..end].parse().unwrap()
        };
        process.stream = address("subscribers on ");
        process.worker = address("SDK workers on ");
        process
    }

    /// Reads on to the next line of its log that has these words.
    fn line_with(&self, words: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no line says: {words}"));
            self.log.borrow_mut().push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the process has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    fn subscriber(&self) -> Socket {
        let mut socket = open(raw::connect(self.stream), self.stream, "/");
        socket
            .send(Message::text(join("s", ("s", "g"), None)))
            .unwrap();
        socket.read().unwrap();
        socket
    }

    fn sdk(&self) -> Socket {
        let mut socket = open(raw::connect(self.worker), self.worker, "/");
        socket.read().unwrap();
        socket
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and its directory may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn command(directory: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iii-stream"));
    command.current_dir(directory).stderr(Stdio::piped());
    for variable in ["III_URL", "III_ENGINE_URL", "III_STREAM_CONFIG", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command
}

/// Its lines as they come, read to the end so that it never waits for us.
fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // A test that is over listens no more.
            let _ = sender.send(line);
        }
    });
    receiver
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
    let first = Process::start("first");
    let directory = first.directory.join("second");
    std::fs::create_dir_all(&directory).unwrap();
    let stream = first.stream.port();
    let worker = first.worker.port();
    let lines = [
        (
            stream,
            0,
            format!(
                "address 127.0.0.1:{stream} is already in use; another iii-stream or an iii engine \
                 may be running (ss -ltnp 'sport = :{stream}')\n"
            ),
        ),
        (
            0,
            worker,
            format!(
                "address 127.0.0.1:{worker} is already in use; an iii engine may be running, which \
                 --engine ws://127.0.0.1:{worker} would attach to (ss -ltnp 'sport = :{worker}')\n"
            ),
        ),
    ];
    for (stream, worker, line) in lines {
        let config = format!(
            "workers:\n  - name: iii-worker-manager\n    config: {{host: 127.0.0.1, port: {worker}}}\n  \
             - name: iii-stream\n    config: {{host: 127.0.0.1, port: {stream}}}\n"
        );
        std::fs::write(directory.join("config.yaml"), config).unwrap();
        let output = command(&directory).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.ends_with(&line), "{said}");
    }
    first.subscriber(); // the first one serves on
}

#[test]
fn a_port_is_free_again_as_soon_as_the_process_has_ended() {
    let mut first = Process::start("restart");
    let mut held = first.subscriber();
    first.signal(Signal::TERM);
    close_code(&mut held);
    assert_eq!(first.exit_code(), Some(0));
    let port = first.stream.port();
    let config = format!(
        "workers:\n  - name: iii-worker-manager\n    config: {{host: 127.0.0.1, port: 0}}\n  \
         - name: iii-stream\n    config: {{host: 127.0.0.1, port: {port}}}\n"
    );
    std::fs::write(first.directory.join("config.yaml"), config).unwrap();
    let mut child = command(&first.directory).spawn().unwrap();
    let stderr = lines(child.stderr.take().unwrap());
    let started = stderr
        .iter()
        .find(|line| line.contains("serves subscribers"));
    let _ = child.kill();
    let _ = child.wait();
    assert!(started.is_some(), "sockets of the last run hold the port");
}

#[test]
fn sigterm_closes_every_socket_with_1012_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start(&format!("signal-{}", signal.as_raw()));
        let mut subscribers = [
            process.subscriber(),
            process.subscriber(),
            process.subscriber(),
        ];
        let mut sdk = process.sdk();
        process.signal(signal);
        for subscriber in &mut subscribers {
            assert_eq!(close_code(subscriber), Some(1012));
        }
        assert_eq!(close_code(&mut sdk), Some(1012));
        process.line_with("ending");
        assert_eq!(process.exit_code(), Some(0));
        process.line_with("ended");
    }
}

#[test]
fn a_call_in_flight_is_answered_before_the_end() {
    let mut process = Process::with("in-flight", "drain_ms: 30000");
    let mut callee = process.sdk();
    let mut caller = process.sdk();
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
    process.line_with("ending");
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
    let process = Process::with("no-more", "drain_ms: 30000");
    let mut held = [
        process.subscriber(),
        process.subscriber(),
        process.subscriber(),
        process.subscriber(),
    ];
    process.signal(Signal::TERM);
    process.line_with("ending");
    wait_until("the listeners are closed", || {
        std::net::TcpStream::connect(process.stream).map_or(true, |mut socket| {
            let mut byte = [0];
            matches!(socket.read(&mut byte), Ok(0) | Err(_))
        })
    });
    // The spread of 30 s is far from over: some still hear what happens.
    let hears = |socket: &mut Socket| {
        let joined = socket.send(Message::text(join("again", ("s", "g"), None)));
        joined.is_ok() && matches!(socket.read(), Ok(Message::Text(_)))
    };
    assert!(held.iter_mut().any(hears));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut process = Process::with("twice", "drain_ms: 600000");
    let _held = [
        process.subscriber(),
        process.subscriber(),
        process.subscriber(),
    ];
    let _sdk = process.sdk();
    process.signal(Signal::TERM);
    process.line_with("ending");
    let began = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), Some(0));
    assert!(began.elapsed() < DEADLINE);
}

#[test]
fn the_first_lines_say_what_is_served_where() {
    let process = Process::start("first-lines");
    let stream = process.stream;
    let worker = process.worker;
    assert!(stream.port() != 0 && worker.port() != 0 && stream.ip().is_loopback());
    let log = process.log.borrow();
    assert_eq!(log.len(), 2, "{log:?}");
    let warning =
        "WARN config.yaml: no adapter in it: values live in memory and end with the process";
    assert!(log[0].ends_with(warning), "{log:?}");
    let started = format!(
        "INFO iii-stream {} serves subscribers on {stream} and SDK workers on {worker}; 2 workers",
        env!("CARGO_PKG_VERSION")
    );
    assert!(log[1].contains(&started), "{log:?}");
    assert!(log[1].ends_with("; values in memory"), "{log:?}");
}

#[test]
fn a_call_that_fails_and_that_nobody_waits_for_leaves_a_line_in_the_log() {
    let process = Process::start("void");
    let mut sdk = process.sdk();
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
    process.line_with("ending");
    let log = process.log.borrow();
    let warnings = log.iter().filter(|line| line.contains("stream::send"));
    assert_eq!(warnings.count(), 1, "{log:?}");
}
