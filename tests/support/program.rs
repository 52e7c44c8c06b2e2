//! A worker program in a process of its own, on a published SDK: it registers, calls and logs as it is
//! told, and tells what its functions were called with. The programs are in `tests/sdk`.
//!
//! An order is one line of JSON, and so is what the program saw: `{"called": function, "data": …}`, or
//! `{"answered": true, "result" or "error": …}` for a call of its own.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::{DEADLINE, TestServer};

/// One published SDK and how its program is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sdk {
    pub(crate) name: &'static str,
    /// In `tests/sdk`, as everything here; `PATH` is searched for a name without a slash.
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// Is there when the packages are installed.
    pub(crate) installed: &'static str,
}

/// Where the programs are, and their packages once `tests/run` has installed them.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

impl Sdk {
    /// False, with a line that says so, when its packages are missing. `SDK_TESTS=required` makes that
    /// a failure.
    pub(crate) fn is_installed(&self) -> bool {
        let installed = folder().join(self.installed).exists();
        if !installed {
            let line = format!(
                "SKIPPED: {} is not installed in tests/sdk: run tests/run",
                self.name
            );
            let required = std::env::var("SDK_TESTS").is_ok_and(|value| value == "required");
            assert!(!required, "{line}");
            // Not by a macro, whose lines a passed test keeps to itself.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        installed
    }

    /// Its program's command line, without the address.
    fn command(&self) -> Command {
        let program = match self.program.contains('/') {
            true => folder().join(self.program).into_os_string(),
            false => self.program.into(),
        };
        let mut command = Command::new(program);
        command.args(self.arguments).current_dir(folder());
        command
    }
}

/// Ended when it is dropped, like a worker that is killed.
pub(crate) struct Program {
    child: Child,
    orders: ChildStdin,
    saw: Receiver<Value>,
    /// Came while something else was waited for.
    came: VecDeque<Value>,
    errors: Arc<Mutex<String>>,
}

impl Program {
    pub(crate) fn start(sdk: &Sdk, server: &TestServer) -> Program {
        Program::start_at(sdk, &format!("ws://{}", server.worker()), None)
    }

    /// At an address of its own, and trusting an authority of certificates in that file.
    pub(crate) fn start_at(sdk: &Sdk, address: &str, trusts: Option<&Path>) -> Program {
        let trusts = trusts.map(|file| ("NODE_EXTRA_CA_CERTS", file));
        let mut child = sdk
            .command()
            .arg(address)
            .envs(trusts)
            .env("III_URL", address) // telemetry of Python 0.11.6 goes there and nowhere else
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {}: {error}", sdk.name, sdk.program));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, saw) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Other lines are the SDK's own log.
                if let Ok(line @ Value::Object(_)) = serde_json::from_str(&line) {
                    let _ = tell.send(line);
                }
            }
        });
        Program {
            orders: child.stdin.take().unwrap(),
            saw,
            came: VecDeque::new(),
            errors: collect(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Tells it to do something; `order` names what.
    pub(crate) fn order(&mut self, order: Value) {
        let written = writeln!(self.orders, "{order}");
        written.unwrap_or_else(|error| panic!("{order}: {error}\n{}", self.errors()));
    }

    /// Registers a function that always gives this answer.
    pub(crate) fn function(&mut self, id: &str, answer: Value) {
        self.order(json!({"order": "function", "id": id, "answer": answer}));
    }

    pub(crate) fn failing_function(&mut self, id: &str, message: &str) {
        self.order(json!({"order": "function", "id": id, "fails": message}));
    }

    pub(crate) fn unregister_function(&mut self, id: &str) {
        self.order(json!({"order": "unregister_function", "id": id}));
    }

    /// Registers a trigger, whose name is for [`Program::unregister_trigger`].
    pub(crate) fn trigger(&mut self, name: &str, kind: &str, function: &str, config: Value) {
        self.order(json!({
            "order": "trigger", "name": name, "type": kind, "function_id": function, "config": config,
        }));
    }

    pub(crate) fn unregister_trigger(&mut self, name: &str) {
        self.order(json!({"order": "unregister_trigger", "name": name}));
    }

    /// Calls without waiting for an answer.
    pub(crate) fn void(&mut self, function: &str, payload: Value) {
        self.order(json!({"order": "tell", "function_id": function, "payload": payload}));
    }

    /// Calls and waits: the result, null for none, or the code and the message of the error.
    pub(crate) fn call(
        &mut self,
        function: &str,
        payload: Value,
    ) -> Result<Value, (String, String)> {
        self.order(json!({"order": "call", "function_id": function, "payload": payload}));
        let mut answer = self.next_with(function, |line| line["answered"] == true);
        let error = answer["error"].take();
        if error.is_null() {
            return Ok(answer["result"].take());
        }
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        Err((text("code"), text("message")))
    }

    /// The result of a call that succeeds.
    pub(crate) fn result(&mut self, function: &str, payload: Value) -> Value {
        self.call(function, payload)
            .unwrap_or_else(|error| panic!("{function}: {error:?}"))
    }

    /// Everything that it was told so far has taken effect, and what it was sent has been told.
    pub(crate) fn settle(&mut self) {
        // All workers answer this one, of the server that has the streams.
        self.result("stream::list_groups", json!({"stream_name": "none"}));
    }

    /// What that function of its is called with next.
    pub(crate) fn called(&mut self, function: &str) -> Value {
        self.next_with(function, |line| line["called"] == function)["data"].take()
    }

    /// The same, of the calls with such data.
    pub(crate) fn called_with(
        &mut self,
        function: &str,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.next_with(function, |line| {
            line["called"] == function && is_wanted(&line["data"])
        })["data"]
            .take()
    }

    /// That function has not been called but for what was asked for.
    pub(crate) fn was_not_called(&mut self, function: &str) {
        self.settle();
        let call = self.came.iter().find(|line| line["called"] == function);
        assert_eq!(call, None);
    }

    fn next_with(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.came.iter().position(&is_wanted) {
            return self.came.remove(found).unwrap();
        }
        loop {
            let Ok(line) = self.saw.recv_timeout(DEADLINE) else {
                panic!("not in time: {what}; {:?}\n{}", self.came, self.errors());
            };
            if is_wanted(&line) {
                return line;
            }
            self.came.push_back(line);
        }
    }

    fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is written there, for the output of a failed test.
fn collect(mut from: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&text);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let read = String::from_utf8_lossy(&buffer[..len]);
            kept.lock().unwrap().push_str(&read);
        }
    });
    text
}
