//! `watch`: what a subscriber is told, a line each, through restarts and refusals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{parts, run, server};
use crate::support::DEADLINE;
use crate::support::process::{Directory, Process, exit_code};

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
