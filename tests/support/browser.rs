//! A page in a headless Chromium, driven by its DevTools protocol.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tungstenite::Message;

use super::clients::{Socket, open};
use super::process::Directory;
use super::{raw, wait_until};

/// Debian's.
const PROGRAM: &str = "chromium";

/// The right to a browser, or none and a line that says so. `SDK_TESTS=required` makes that a failure. A test
/// takes it before all else: what it has opened would time out while it waits for its turn.
pub(crate) fn alone() -> Option<Alone> {
    // One that has failed leaves nothing that another would find.
    is_installed().then(|| Alone(ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// No other test has a browser.
pub(crate) struct Alone(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

fn is_installed() -> bool {
    let is_installed = is_there(PROGRAM);
    if !is_installed {
        let line = format!("SKIPPED: {PROGRAM} is not installed: run tests/run");
        let required = std::env::var("SDK_TESTS").is_ok_and(|value| value == "required");
        assert!(!required, "{line}");
        // Not by a macro, whose lines a passed test keeps to itself.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    is_installed
}

/// Whether that program can be run.
pub(crate) fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).exists())
}

/// One page, and the browser that shows it.
pub(crate) struct Page {
    browser: Child,
    /// Where it takes what it is asked.
    devtools: SocketAddr,
    socket: Socket,
    number: u64,
    /// What the page has complained of, as the browser tells it.
    pub(crate) complaints: Vec<Value>,
    _directory: Directory,
    _alone: Alone,
}

/// A browser takes a core or two: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

impl Page {
    /// A page of that size that shows that address.
    pub(crate) fn open_at(alone: Alone, address: &str, (width, height): (u32, u32)) -> Page {
        let directory = Directory::new("browser");
        let mut command = Command::new(PROGRAM);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--window-size={width},{height}"));
        command.arg(format!("--user-data-dir={}", directory.0.display()));
        command.arg("about:blank");
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut browser = spawned.unwrap();
        let mut lines = BufReader::new(browser.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| {
            let line = line.ok()?;
            Some(line.split_once("DevTools listening on ws://")?.1.to_owned())
        });
        let line = line.expect("where the browser listens");
        // What else it says is nobody's, but it may not find the pipe full.
        std::thread::spawn(move || lines.for_each(drop));
        let devtools: SocketAddr = line.split('/').next().unwrap().parse().unwrap();
        let path = page_of(devtools);
        let socket = open(raw::connect(devtools), devtools, &path);
        let mut page = Page {
            browser,
            devtools,
            socket,
            number: 0,
            complaints: Vec::new(),
            _directory: directory,
            _alone: alone,
        };
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", size);
        page.call("Page.navigate", json!({"url": address}));
        let is_there = "location.protocol === 'http:' && document.readyState === 'complete'";
        page.wait_for("the page is there", is_there);
        page
    }

    /// Opens a tab beside it that shows that address. Gives its name.
    pub(crate) fn open_tab(&self, address: &str) -> String {
        let told = ask(self.devtools, &format!("PUT /json/new?{address}"));
        let tab: Value = serde_json::from_slice(&told).unwrap();
        tab["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn close_tab(&self, name: &str) {
        ask(self.devtools, &format!("GET /json/close/{name}"));
    }

    /// Has the browser do something.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let message = json!({"id": self.number, "method": method, "params": params});
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
        loop {
            let Message::Text(text) = self.socket.read().expect("an answer in time") else {
                continue;
            };
            let mut told: Value = serde_json::from_str(&text).unwrap();
            if told["id"] == self.number {
                assert!(told.get("error").is_none(), "{method}: {told}");
                return told["result"].take();
            }
            if is_complaint(&told) {
                self.complaints.push(told);
            }
        }
    }

    /// What a script in the page makes of it.
    pub(crate) fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut told = self.call("Runtime.evaluate", params);
        assert!(told.get("exceptionDetails").is_none(), "{script}: {told}");
        told["result"]["value"].take()
    }

    /// Looks again and again until the script says `true`.
    pub(crate) fn wait_for(&mut self, what: &str, script: &str) {
        wait_until(what, || self.eval(script) == true);
    }

    /// Presses a key and lets go of it.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" { "\r" } else { "" };
            let params = json!({"type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", params);
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}

/// The path of its page, which may not be there at once.
fn page_of(devtools: SocketAddr) -> String {
    let mut path = String::new();
    wait_until("the browser has a page", || {
        let told = ask(devtools, "GET /json/list");
        let targets: Vec<Value> = serde_json::from_slice(&told).unwrap_or_default();
        let page = targets.iter().find(|target| target["type"] == "page");
        let url = page.and_then(|page| page["webSocketDebuggerUrl"].as_str());
        let found = url.and_then(|url| url.split_once("/devtools/"));
        path = found.map_or(String::new(), |(_, rest)| format!("/devtools/{rest}"));
        !path.is_empty()
    });
    path
}

/// What the browser answers, asked by HTTP.
fn ask(devtools: SocketAddr, what: &str) -> Vec<u8> {
    let mut stream = raw::connect(devtools);
    let request = format!("{what} HTTP/1.1\r\nhost: {devtools}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let head = raw::read_head(&mut stream).to_ascii_lowercase();
    let len = head.split("content-length:").nth(1);
    let len = len.and_then(|rest| rest.lines().next()?.trim().parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    std::io::Read::read_exact(&mut stream, &mut body).unwrap();
    body
}

/// An error in its console, an exception that nobody has caught, a dialog.
fn is_complaint(told: &Value) -> bool {
    match told["method"].as_str() {
        Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => true,
        Some("Runtime.consoleAPICalled") => {
            matches!(told["params"]["type"].as_str(), Some("error" | "assert"))
        }
        Some("Log.entryAdded") => told["params"]["entry"]["level"] == "error",
        _ => false,
    }
}
