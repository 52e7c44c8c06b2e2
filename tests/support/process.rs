//! Our own program in a process: its directory, its command line, its log and its end.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, SdkWorker, Subscriber, wait_until};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_iii-stream");

/// What the program reads of its environment.
const VARIABLES: [&str; 8] = [
    "III_URL",
    "III_ENGINE_URL",
    "III_STREAM_CONFIG",
    "III_CONFIG",
    "III_WORKER_NAME",
    "III_NAMESPACE",
    "RUST_LOG",
    "SSL_CERT_DIR",
];

/// A directory of its own for a test, gone with it.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(test: &str) -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("iii-stream-{}-{number}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// With a config file.
    pub(crate) fn with_file(self, text: &str) -> Directory {
        std::fs::write(self.0.join("config.yaml"), text).unwrap();
        self
    }

    /// The program's command line in it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(PROGRAM, &self.0, arguments)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A config file: free ports of loopback, and these keys under `config` and under `server`.
pub(crate) fn config(keys: &str, server: &str) -> String {
    config_of((0, 0), keys, server)
}

/// A config file with these ports of loopback.
pub(crate) fn config_at(stream: u16, worker: u16, server: &str) -> String {
    config_of((stream, worker), "", server)
}

fn config_of((stream, worker): (u16, u16), keys: &str, server: &str) -> String {
    // Many of them run at once.
    let admin = match server.contains("admin:") {
        true => "",
        false => "admin: off, ",
    };
    format!(
        "workers:\n  - name: iii-worker-manager\n    config: {{host: 127.0.0.1, port: {worker}}}\n  \
         - name: iii-stream\n    config: {{host: 127.0.0.1, port: {stream}, {keys}}}\n    \
         server: {{{admin}{server}}}\n"
    )
}

/// A command line without what the environment of the tests would set.
pub(crate) fn command(program: &str, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).args(arguments);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// The program under a limit of open files.
pub(crate) fn command_with_files(directory: &Path, files: usize) -> Command {
    let line = format!("ulimit -n {files} && exec {PROGRAM}");
    command("sh", directory, &["-c", &line])
}

/// The exit code, and what was said on both outputs.
pub(crate) fn outcome(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Waits until a process has ended. Its exit code.
pub(crate) fn exit_code(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait_until("the process has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

/// The program, which is killed when the test ends.
pub(crate) struct Process {
    child: Child,
    stderr: Receiver<String>,
    /// The lines that have been read.
    pub(crate) log: RefCell<Vec<String>>,
    /// Where it serves subscribers.
    pub(crate) stream: SocketAddr,
    /// Where it serves SDK workers.
    pub(crate) worker: SocketAddr,
    /// Its own, which goes with it.
    pub(crate) directory: Option<Directory>,
}

impl Process {
    /// One that serves already; it stands where the line says that tells so.
    pub(crate) fn start(command: Command) -> Process {
        let mut process = Process::spawn(command);
        // "… serves subscribers on A and SDK workers on B; …"
        let started = process.line_with("serves subscribers on ");
        let address = |behind: &str| {
            let rest = started.split_once(behind).unwrap().1;
            let end = rest.find([' ', ';']).unwrap();
            rest[..end].parse().unwrap()
        };
        process.stream = address("subscribers on ");
        process.worker = address("SDK workers on ");
        process
    }

    /// One that may not have begun to serve, at addresses that nobody knows yet.
    pub(crate) fn spawn(mut command: Command) -> Process {
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let stderr = child.stderr.take().unwrap();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Process::unheard(child, nowhere, nowhere);
        process.stderr = lines(stderr);
        process
    }

    /// One whose log the test reads itself, or nobody.
    pub(crate) fn unheard(child: Child, stream: SocketAddr, worker: SocketAddr) -> Process {
        Process {
            child,
            stderr: channel().1,
            log: RefCell::default(),
            stream,
            worker,
            directory: None,
        }
    }

    pub(crate) fn sdk(&self) -> SdkWorker {
        SdkWorker::to(self.worker)
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        Subscriber::to(self.stream)
    }

    /// Reads on to the next line of its log that has these words.
    pub(crate) fn line_with(&self, words: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(DEADLINE);
            let line =
                line.unwrap_or_else(|_| panic!("no line says: {words}\n{:#?}", self.log.borrow()));
            self.log.borrow_mut().push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Whether a line has these words, of all that have come so far.
    pub(crate) fn says(&self, words: &str) -> bool {
        let mut log = self.log.borrow_mut();
        log.extend(self.stderr.try_iter());
        log.iter().any(|line| line.contains(words))
    }

    /// Its log is read no more: the thread that does ends with the next line.
    pub(crate) fn unhear(&mut self) {
        self.stderr = channel().1;
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        exit_code(&mut self.child)
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a supervisor does, and waits.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.exit_code(), Some(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
