//! Where a stranger sits: a directory, a shell on whose path `iii-stream` is this program, and ports of its
//! own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::DEADLINE;
use crate::support::process::{Directory, PROGRAM, Process, exit_code};
use crate::support::redis::free_port;

/// Where a stranger sits: a directory, a path on which `iii-stream` is this program, and its ports.
pub(super) struct Desk {
    pub(super) directory: Directory,
    ports: [u16; 3],
}

impl Desk {
    pub(super) fn new(test: &str) -> Desk {
        let directory = Directory::new(test);
        let bin = directory.0.join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(PROGRAM, bin.join("iii-stream")).unwrap();
        let ports = [free_port(), free_port(), free_port()];
        Desk { directory, ports }
    }

    /// With the defaults that hold without a file, but for the ports.
    pub(super) fn with_defaults(test: &str) -> Desk {
        let desk = Desk::new(test);
        desk.save(
            "config.yaml",
            "workers:\n- name: iii-stream\n  config: {host: 127.0.0.1, port: 3112, adapter: {name: kv, config: \
             {store_method: file_based, file_path: ./data/stream_store}}}\n  server: {admin: {port: 9464}}\n- name: \
             iii-worker-manager\n  config: {host: 127.0.0.1, port: 49134}\n",
        );
        desk
    }

    /// What a page says, with this test's ports and directories.
    pub(super) fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (theirs, ours) in ["3112", "49134", "9464"].iter().zip(self.ports) {
            text = text.replace(theirs, &ours.to_string());
        }
        for place in ["/var/lib/iii-stream", "/srv/backup", "/etc/iii-stream"] {
            let path = self.directory.0.join(&place[1..]);
            text = text.replace(place, path.to_str().unwrap());
        }
        text
    }

    pub(super) fn save(&self, name: &str, text: &str) {
        std::fs::write(self.directory.0.join(name), self.here(text)).unwrap();
    }

    /// A shell that runs this line.
    pub(super) fn shell(&self, line: &str) -> Command {
        let bin = self.directory.0.join("bin");
        let path = std::env::var("PATH").unwrap();
        let mut command = crate::support::process::command(
            "bash",
            &self.directory.0,
            &[
                "-e",
                "-o",
                "pipefail",
                "-c",
                &format!("{}\n", self.here(line)),
            ],
        );
        command.env("PATH", format!("{}:{path}", bin.display()));
        command
    }

    /// Runs a line that has to succeed. What it prints.
    pub(super) fn run(&self, line: &str) -> String {
        let output: Output = self.shell(line).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The server, started by that line.
    pub(super) fn start(&self, line: &str) -> Process {
        Process::start(self.shell(&format!("exec {line}")))
    }

    /// A `watch` that goes on, once it follows.
    pub(super) fn watch(&self, line: &str) -> Watching {
        let mut command = self.shell(&format!("exec {line}"));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let greets = said.any(|line| line.unwrap().starts_with("watching "));
        assert!(greets, "{line}");
        let (sender, out) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A test that is over listens no more.
                let _ = sender.send(line);
            }
        });
        Watching { child, out }
    }
}

/// A `watch` and its lines.
pub(super) struct Watching {
    child: Child,
    out: Receiver<String>,
}

impl Watching {
    /// Its next line, without the time.
    pub(super) fn line(&self) -> String {
        without_time(&self.out.recv_timeout(DEADLINE).expect("a line"))
    }

    /// Ends it as Ctrl-C does.
    pub(super) fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(exit_code(&mut self.child), Some(0));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn without_time(line: &str) -> String {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    rest.to_owned()
}
