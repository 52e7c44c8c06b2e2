//! The README and the topics of `iii-stream help`: every block of them is run as it stands there, every
//! command that a sentence names is one, and what tables say holds.
//!
//! A stranger's ports and directories become those of the test: 3112, 49134, 9464, `/var/lib/iii-stream`,
//! `/srv/backup`, `/etc/iii-stream`. Lines that cannot run in a test stand in [`NOT_RUN`], with the reason.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use iii_stream::cli::Cli;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::sdks::SDKS;
use crate::support::browser::{self, Page};
use crate::support::process::{Directory, PROGRAM, Process, exit_code};
use crate::support::program::{Sdk, folder};
use crate::support::redis::free_port;
use crate::support::tls::Localhost;
use crate::support::{DEADLINE, Subscriber, raw, wait_until};

/// Beginnings of lines that no test runs, and why.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo install ", "builds in release mode, for minutes"),
    (
        "cargo run --release ",
        "likewise; the harness has tests of its own",
    ),
    (
        "npm init ",
        "tests/run installs the same packages, which a test here holds it to",
    ),
    (
        "apt install ",
        "needs a package that takes a release build, and changes the machine",
    ),
    (
        "tests/by_hand/",
        "needs a release build, and proxies or a Prometheus",
    ),
];

/// Where blocks are, page and section: each is run by the test of that section.
const SECTIONS: [(&str, &str); 13] = [
    ("README.md", "Start it"),
    ("README.md", "First steps without a program"),
    ("README.md", "The same as a program"),
    ("README.md", "Who is there"),
    ("README.md", "Operating"),
    ("README.md", "How it is built and tested"),
    ("config.md", ""),
    ("durability.md", ""),
    ("redis.md", ""),
    ("presence.md", "Members without code"),
    ("tls.md", ""),
    ("metrics.md", "The admin port"),
    ("metrics.md", "Prometheus and Grafana"),
];

const TOPICS: [&str; 10] = [
    "config",
    "durability",
    "redis",
    "auth",
    "triggers",
    "presence",
    "limits",
    "metrics",
    "tls",
    "engine",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where a page is, by the name of its file.
fn path_of(page: &str) -> PathBuf {
    match page {
        "README.md" => root().join(page),
        _ => root().join("src/assets/help").join(page),
    }
}

fn page(name: &str) -> String {
    std::fs::read_to_string(path_of(name)).unwrap()
}

/// All pages with their names.
fn pages() -> Vec<(String, String)> {
    let topics = TOPICS.iter().map(|topic| format!("{topic}.md"));
    let names = std::iter::once("README.md".to_owned()).chain(topics);
    names.map(|name| (name.clone(), page(&name))).collect()
}

/// A block of code: the section that it stands in, its language and its text.
#[derive(Debug, Clone)]
struct Block {
    section: String,
    language: String,
    text: String,
    /// The last line of words before it.
    before: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut section, mut before) = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut section);
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                line.clone_into(&mut before);
            }
            continue;
        };
        let inside = lines.by_ref().take_while(|line| !line.starts_with("```"));
        found.push(Block {
            section: section.clone(),
            language: language.to_owned(),
            text: inside.map(|line| format!("{line}\n")).collect(),
            before: before.clone(),
        });
    }
    found
}

/// The blocks of a section, which have to be run to the last.
struct Section {
    name: String,
    blocks: std::vec::IntoIter<Block>,
}

impl Section {
    fn of(page_name: &str, section: &str) -> Section {
        assert!(
            SECTIONS.contains(&(page_name, section)),
            "{page_name}: {section}"
        );
        let mut blocks = blocks(&page(page_name));
        blocks.retain(|block| block.section == section);
        let name = format!("{page_name}: {section}");
        Section {
            name,
            blocks: blocks.into_iter(),
        }
    }

    fn next(&mut self, language: &str) -> Block {
        let block = self
            .blocks
            .next()
            .unwrap_or_else(|| panic!("{}: no block", self.name));
        assert_eq!(block.language, language, "{}", self.name);
        block
    }

    fn end(mut self) {
        let left = self.blocks.next();
        assert!(left.is_none(), "{}: not run: {left:?}", self.name);
    }
}

/// The lines of a block of commands that are to be run.
fn commands(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", "");
    let lines = joined.lines().filter(|line| !line.is_empty());
    let is_run = |line: &&str| !NOT_RUN.iter().any(|(begin, _)| line.starts_with(begin));
    lines.filter(is_run).map(str::to_owned).collect()
}

/// Where a stranger sits: a directory, a path on which `iii-stream` is this program, and its ports.
struct Desk {
    directory: Directory,
    ports: [u16; 3],
}

impl Desk {
    fn new(test: &str) -> Desk {
        let directory = Directory::new(test);
        let bin = directory.0.join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(PROGRAM, bin.join("iii-stream")).unwrap();
        let ports = [free_port(), free_port(), free_port()];
        Desk { directory, ports }
    }

    /// With the defaults that hold without a file, but for the ports.
    fn with_defaults(test: &str) -> Desk {
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
    fn here(&self, text: &str) -> String {
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

    fn save(&self, name: &str, text: &str) {
        std::fs::write(self.directory.0.join(name), self.here(text)).unwrap();
    }

    /// A shell that runs this line.
    fn shell(&self, line: &str) -> Command {
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
    fn run(&self, line: &str) -> String {
        let output: Output = self.shell(line).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The server, started by that line.
    fn start(&self, line: &str) -> Process {
        Process::start(self.shell(&format!("exec {line}")))
    }

    /// A `watch` that goes on, once it follows.
    fn watch(&self, line: &str) -> Watching {
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
struct Watching {
    child: Child,
    out: Receiver<String>,
}

impl Watching {
    /// Its next line, without the time.
    fn line(&self) -> String {
        without_time(&self.out.recv_timeout(DEADLINE).expect("a line"))
    }

    /// Ends it as Ctrl-C does.
    fn end(mut self) {
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

fn without_time(line: &str) -> String {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    rest.to_owned()
}

#[test]
fn every_block_stands_in_a_section_that_a_test_runs() {
    for (name, text) in pages() {
        for block in blocks(&text) {
            let has_test = SECTIONS.contains(&(&name, &block.section));
            assert!(has_test, "{name}: {}: {}", block.section, block.text);
        }
    }
    for (begin, _) in NOT_RUN {
        let is_there = |(_, text): &(String, String)| text.contains(&format!("\n{begin}"));
        assert!(pages().iter().any(is_there), "{begin}: no page says so");
    }
}

#[test]
fn the_readme_is_short_and_says_things_in_lines_that_can_be_read() {
    let text = page("README.md");
    assert!(text.lines().count() <= 400, "{}", text.lines().count());
    for (name, text) in pages() {
        let prose = blocks(&text)
            .into_iter()
            .fold(text, |text, block| text.replace(&block.text, ""));
        for line in prose.lines().filter(|line| !line.starts_with('|')) {
            assert!(line.chars().count() <= 170, "{name}: {line}");
        }
    }
}

#[test]
fn a_stranger_sees_the_first_steps_as_the_readme_shows_them() {
    let desk = Desk::with_defaults("first-steps");
    let mut section = Section::of("README.md", "Start it");
    let lines = commands(&section.next("sh"));
    section.end();
    assert_eq!(lines, ["iii-stream"]);
    let server = desk.start(&lines[0]);

    let mut section = Section::of("README.md", "First steps without a program");
    let watch = commands(&section.next("sh"));
    let [watch] = &watch[..] else {
        panic!("{watch:?}")
    };
    let watching = desk.watch(watch);
    let mut seen = vec![watching.line()];
    for line in commands(&section.next("sh")) {
        desk.run(&line);
        seen.push(watching.line());
    }
    let shown: Vec<String> = section
        .next("text")
        .text
        .lines()
        .map(without_time)
        .collect();
    assert_eq!(seen, shown);
    watching.end();

    for line in commands(&section.next("sh")) {
        if line.contains("watch") && !line.contains("--count") {
            desk.watch(&line).end();
        } else {
            assert!(desk.run(&line).ends_with('\n'), "{line}");
        }
    }
    section.end();
    server.stop();
}

/// Saves a block of a program under the name that the text before it says.
fn save_program(desk: &Desk, block: &Block) -> String {
    let mut quoted = block.before.split('`');
    let name = quoted.find(|word| word.ends_with(".mjs"));
    let name = name.unwrap_or_else(|| panic!("no name for it: {}", block.before));
    desk.save(name, &block.text);
    name.to_owned()
}

/// The packages that the README has a stranger install. False: they are not there.
fn has_packages(desk: &Desk) -> bool {
    let sdk = &SDKS[0];
    if !sdk.is_installed() {
        return false;
    }
    let modules = folder().join("node-0.11.6/node_modules");
    symlink(modules, desk.directory.0.join("node_modules")).unwrap();
    true
}

#[test]
fn the_first_program_runs_and_both_subscribers_hear_everything() {
    let mut section = Section::of("README.md", "The same as a program");
    let install = section.next("sh");
    let text = std::fs::read_to_string(folder().join("node-0.11.6/package.json")).unwrap();
    let packages: Value = serde_json::from_str(&text).unwrap();
    let (_, wanted) = install.text.trim_end().split_once("npm install ").unwrap();
    for package in wanted.split(' ') {
        let (name, version) = package.split_once('@').unwrap_or((package, ""));
        let there = packages["dependencies"][name]
            .as_str()
            .expect("installed for the tests");
        assert!(version.is_empty() || version == there, "{package}");
    }
    let (program, run) = (section.next("js"), section.next("sh"));
    section.end();
    let desk = Desk::with_defaults("first-program");
    if !has_packages(&desk) {
        return;
    }
    let server = desk.start("iii-stream");
    let name = save_program(&desk, &program);
    assert_eq!(commands(&run), [format!("node {name}")]);
    let out = desk.run(&run.text);
    let of = |name: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| line.starts_with(name));
        let kinds = lines.map(|line| line.split_whitespace().nth(2).unwrap_or_default());
        kinds.map(str::to_owned).collect()
    };
    for name in ["by path", "by join"] {
        assert_eq!(
            of(name),
            ["sync", "create", "update", "event", "delete"],
            "{out}"
        );
    }
    for name in ["get", "list", "groups", "all"] {
        assert_eq!(of(name).len(), 1, "{out}");
    }
    server.stop();
}

#[test]
fn members_take_the_file_of_the_page_and_no_program() {
    let mut section = Section::of("presence.md", "Members without code");
    let (file, html) = (section.next("yaml"), section.next("html"));
    section.end();
    assert!(
        html.text
            .contains("addEventListener('pagehide', () => stream.close())")
    );
    let desk = Desk::new("members");
    desk.save("config.yaml", &file.text);
    desk.run("iii-stream check");
    let server = desk.start("iii-stream");
    let watching = desk.watch("iii-stream watch presence room-1");
    assert_eq!(watching.line(), "sync   []");
    // As the client of the page does it.
    let mut page = Subscriber::upgraded(raw::upgrade(raw::connect(server.stream), "/?user=ada"));
    page.join("s", ("presence", "room-1"));
    let line = watching.line();
    assert!(line.starts_with("create ada"), "{line}");
}

/// The published client for pages.
const PAGE_CLIENT: Sdk = Sdk {
    name: "the client for pages",
    program: "",
    arguments: &[],
    installed: "node-page/node_modules/@motiadev/stream-client-browser/package.json",
};
/// Where the page takes it from, and what it takes it from here.
const MODULES: &str = r#"<script type="importmap">{"imports": {
    "https://esm.sh/@motiadev/stream-client-browser@0.17.14-beta.196": "/@motiadev/stream-client-browser/dist/index.js",
    "@motiadev/stream-client": "/@motiadev/stream-client/dist/index.js",
    "uuid": "/uuid/dist/index.js"}}</script>"#;

/// Serves that page, and the modules that are installed.
fn serve_page(html: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let modules = folder().join("node-page/node_modules");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = raw::read_head(&mut stream);
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (kind, body) = match path.strip_suffix(".js") {
                Some(_) => ("text/javascript", std::fs::read(modules.join(&path[1..]))),
                None => ("text/html", Ok(html.clone().into_bytes())),
            };
            let body = body.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A browser that has ended reads no more.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

#[test]
fn the_page_of_members_shows_in_a_browser_who_is_there() {
    let Some(alone) = browser::alone().filter(|_| PAGE_CLIENT.is_installed()) else {
        return;
    };
    let mut section = Section::of("presence.md", "Members without code");
    let (file, html) = (section.next("yaml"), section.next("html"));
    section.end();
    assert!(html.text.lines().count() <= 20);
    let desk = Desk::new("members-page");
    let members = "members: {id: query.user";
    assert!(file.text.contains(members));
    let file = file
        .text
        .replace(members, &format!("{members}, grace_ms: 1s"));
    desk.save("config.yaml", &file);
    let _server = desk.start("iii-stream");
    let page = serve_page(desk.here(&format!("{MODULES}{}", html.text)));
    let of = |user: &str| format!("http://{page}/?user={user}");
    let mut watching = Page::open_at(alone, &of("ada"), (600, 400));
    let shows = |page: &mut Page, lines: &[&str]| {
        let there = "[...document.querySelectorAll('#who li')].map((line) => line.textContent)";
        page.wait_for(
            &format!("{lines:?} are shown"),
            &format!(
                "JSON.stringify({there}.sort()) === {:?}",
                json!(lines).to_string()
            ),
        );
    };
    shows(&mut watching, &["ada"]);
    let bob = watching.open_tab(&of("bob"));
    shows(&mut watching, &["ada", "bob"]);
    let bob_again = watching.open_tab(&of("bob"));
    shows(&mut watching, &["ada", "bob (2 tabs)"]);
    watching.close_tab(&bob);
    shows(&mut watching, &["ada", "bob"]);
    let closed = Instant::now();
    watching.close_tab(&bob_again);
    shows(&mut watching, &["ada"]);
    assert!(closed.elapsed() >= Duration::from_secs(1), "the grace");
    assert_eq!(watching.complaints, Vec::<Value>::new());
}

#[test]
fn the_list_of_who_is_there_takes_twenty_lines_and_changes_with_each_subscriber() {
    let mut section = Section::of("README.md", "Who is there");
    let (file, program) = (section.next("yaml"), section.next("js"));
    section.end();
    assert!(program.text.lines().count() <= 20);
    let desk = Desk::new("who-is-there");
    desk.save("config.yaml", &file.text);
    desk.run("iii-stream check");
    if !has_packages(&desk) {
        return;
    }
    let server = desk.start("iii-stream");
    let name = save_program(&desk, &program);
    let mut node = desk.shell(&format!("exec node {name}"));
    let mut node = Stopped(node.stdout(Stdio::null()).spawn().unwrap());
    let mut sdk = server.sdk();
    wait_until("both triggers are there", || {
        let triggers = sdk.call("engine::registered-triggers::list", json!({}));
        triggers.to_string().matches("stream:").count() >= 2
    });
    let watching = desk.watch("iii-stream watch online room-1");
    assert_eq!(watching.line(), "sync   []");
    let text = page("README.md");
    let address = text
        .split('`')
        .find(|word| word.ends_with("?user=ada"))
        .unwrap();
    let (_, path) = address.split_once("3112").unwrap();
    let subscriber = Subscriber::upgraded(raw::upgrade(raw::connect(server.stream), path));
    let came = watching.line();
    assert!(
        came.starts_with("create ") && came.ends_with(r#""user":"ada"}"#),
        "{came}"
    );
    subscriber.close();
    let left = watching.line();
    assert!(
        left.starts_with("delete ") && left.ends_with(r#""user":"ada"}"#),
        "{left}"
    );
    watching.end();
    node.0.kill().unwrap();
    server.stop();
}

/// A program that is ended with the test.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In place of the service manager of a host: it starts and stops the server in its state directory, as the
/// printed unit does.
const SYSTEMCTL: &str = r#"#!/bin/bash
cd STATE
case "$1" in
  start)
    iii-stream --config CONFIG >> log 2>&1 &
    echo $! > pid
    until iii-stream health --config CONFIG 2> /dev/null; do
      kill -0 "$(cat pid)" || exit 1
      sleep 0.02
    done ;;
  stop)
    kill -TERM "$(cat pid)"
    while kill -0 "$(cat pid)" 2> /dev/null; do sleep 0.02; done ;;
  status) kill -0 "$(cat pid)" ;;
  *) exit 2 ;;
esac
"#;

/// Ends what it has started.
struct Host<'a>(&'a Desk);

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to end.
        let _ = self.0.shell("systemctl stop iii-stream").output();
    }
}

fn host(test: &str) -> Desk {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::with_defaults(test);
    for place in ["var/lib/iii-stream", "srv/backup", "etc/iii-stream"] {
        std::fs::create_dir_all(desk.directory.0.join(place)).unwrap();
    }
    let config = desk.directory.0.join("config.yaml");
    let text = SYSTEMCTL.replace("STATE", "/var/lib/iii-stream");
    desk.save(
        "bin/systemctl",
        &text.replace("CONFIG", config.to_str().unwrap()),
    );
    let path = desk.directory.0.join("bin/systemctl");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    desk
}

#[test]
fn what_operators_run_works_and_a_restored_backup_is_what_was_backed_up() {
    let desk = host("operating");
    let get = || {
        desk.run(
            r#"iii-stream call stream::get '{"stream_name":"s","group_id":"g","item_id":"i"}'"#,
        )
    };
    let set = |value: u32| {
        let line = r#"iii-stream call stream::set '{"stream_name":"s","group_id":"g","item_id":"i","data":DATA}'"#;
        desk.run(&line.replace("DATA", &value.to_string()));
    };
    let _host = Host(&desk);
    desk.run("systemctl start iii-stream");
    let mut section = Section::of("README.md", "Operating");
    let pid = std::fs::read_to_string(desk.directory.0.join("var/lib/iii-stream/pid")).unwrap();
    for line in commands(&section.next("sh")) {
        // Other tests' servers run beside this one, and their machine need not be fit for a million sockets.
        let line = line.replacen("reload ", &format!("reload --pid {} ", pid.trim()), 1);
        match line.starts_with("iii-stream doctor") {
            true => {
                let output = desk.shell(&line).output().unwrap();
                assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
                assert!(output.stdout.starts_with(b"ok") || output.stdout.contains(&b'\n'));
            }
            false => {
                desk.run(&line);
            }
        }
    }
    checks_with(&section.next("yaml"), &[("server.tls.cert", "cert.pem")]);

    let upgrade = section.next("sh");
    let package = format!("iii-stream_{}-1_amd64.deb", env!("CARGO_PKG_VERSION"));
    assert!(
        upgrade.text.contains(&package),
        "{package}: {}",
        upgrade.text
    );
    assert!(
        page("README.md").matches(&package).count() == 2,
        "{package}"
    );
    for line in commands(&upgrade) {
        desk.run(&line);
    }
    set(1);
    for line in commands(&section.next("sh")) {
        desk.run(&line);
    }
    set(2);
    assert_eq!(get(), "2\n");
    for line in commands(&section.next("sh")) {
        desk.run(&line);
    }
    assert_eq!(get(), "1\n");
    section.end();
}

#[test]
fn what_is_run_by_hand_is_there() {
    let mut section = Section::of("README.md", "How it is built and tested");
    let block = section.next("sh");
    assert!(commands(&block).is_empty());
    section.end();
    for file in [
        "tests/by_hand/proxies.py",
        "tests/by_hand/alerts.py",
        "tests/by_hand/empty_root.sh",
        "tests/run",
        "loadtest/Cargo.toml",
    ] {
        assert!(root().join(file).exists(), "{file}");
    }
}

/// Runs `check` on a block of settings, whole or a part that is indented as it stands in a file. Each of
/// these keys has a value that ends so.
fn checks_with(block: &Block, values: &[(&str, &str)]) {
    let desk = host("settings");
    let certificates = desk.directory.0.join("etc/iii-stream");
    Localhost::make().write(&certificates);
    let entry = "workers:\n  - name: iii-stream\n";
    let text = match block.text.len() - block.text.trim_start().len() {
        0 => block.text.clone(),
        4 => format!("{entry}{}", block.text),
        6 => format!("{entry}    config:\n{}", block.text),
        indent => panic!("{indent} blanks before it: {}", block.text),
    };
    desk.save("config.yaml", &text);
    let told: Value = serde_json::from_str(&desk.run("iii-stream check --json")).unwrap();
    let settings = told["settings"].as_array().unwrap();
    for (key, value) in values {
        let is_it = |setting: &&Value| setting["key"].as_str().unwrap().ends_with(key);
        let found = settings
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{key}: {told}"));
        let shown = found["value"]
            .as_str()
            .map_or(found["value"].to_string(), str::to_owned);
        assert!(
            shown.ends_with(&desk.here(value)),
            "{key} = {shown}, expected {value}"
        );
        assert_ne!(found["origin"], "default", "{key}");
    }
}

#[test]
fn the_settings_that_pages_show_are_settings() {
    for (page, values) in [
        (
            "config.md",
            &[("config.port", "3112"), ("limits.message_bytes", "1048576")][..],
        ),
        (
            "durability.md",
            &[
                ("config.fsync", "interval"),
                ("file_path", "./data/stream_store"),
            ],
        ),
        ("redis.md", &[("redis_url", "redis.internal:6379/0")]),
        (
            "tls.md",
            &[
                ("server.worker_tls.key", "key.pem"),
                ("acme_webroot", "/web"),
            ],
        ),
    ] {
        let mut section = Section::of(page, "");
        checks_with(&section.next("yaml"), values);
        section.end();
    }
}

#[test]
fn the_admin_port_answers_as_the_page_about_metrics_says() {
    let desk = Desk::with_defaults("metrics-page");
    let server = desk.start("iii-stream");
    let mut section = Section::of("metrics.md", "The admin port");
    let lines = commands(&section.next("sh"));
    section.end();
    for line in &lines {
        let told = desk.run(&line.replace("curl -s", "curl -sSf"));
        assert!(told.len() > 2, "{line}: {told}");
    }
    // The paths of the table, with a group that is there.
    server.sdk().set(("STREAM", "GROUP"), "i", json!(1));
    let text = page("metrics.md");
    let paths = text.lines().filter_map(|line| line.strip_prefix("| `/"));
    for path in paths.map(|line| line.split('`').next().unwrap()) {
        desk.run(&format!("curl -sSf 'http://127.0.0.1:9464/{path}'"));
    }
    for path in ["health", "ready"] {
        desk.run(&format!("curl -sSf http://127.0.0.1:3112/{path}"));
    }
    // The families, neither more nor fewer.
    let told = desk.run("curl -sSf http://127.0.0.1:9464/metrics");
    let types = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE iii_stream_"));
    let mut there: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let table = text.split_once("| about | families |").unwrap().1;
    let table = table.split_once("\n\n").unwrap().0;
    let labels = ["reason", "code", "function", "outcome", "port"];
    let names = table.split('`').skip(1).step_by(2);
    let mut named: Vec<&str> = names.filter(|name| !labels.contains(name)).collect();
    there.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, there);
    server.stop();
}

/// Families that are there where a port is under TLS.
const ONLY_UNDER_TLS: [&str; 2] = ["certificate_not_after_seconds", "tls_refused_total"];

#[test]
fn the_rules_and_the_dashboard_ask_for_what_there_is() {
    let desk = Desk::with_defaults("dashboard");
    let server = desk.start("iii-stream");
    let told = desk.run("curl -sSf http://127.0.0.1:9464/metrics");
    let types = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE iii_stream_"));
    let there: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let mut section = Section::of("metrics.md", "Prometheus and Grafana");
    let scrape = section.next("yaml");
    for line in commands(&section.next("sh")) {
        desk.run(&line);
    }
    section.end();
    desk.save("prometheus.yml", &scrape.text);
    let read = |name: &str| std::fs::read_to_string(desk.directory.0.join(name)).unwrap();
    let rules = read("iii-stream.rules.yml");
    let board: Value = serde_json::from_str(&read("iii-stream.json")).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let queries: Vec<Value> = targets.map(|target| target["expr"].clone()).collect();
    assert!(queries.len() > 40 && rules.matches("- alert: ").count() > 10);
    for text in queries
        .iter()
        .map(|query| query.as_str().unwrap())
        .chain([&*rules])
    {
        for rest in text.split("iii_stream_").skip(1) {
            let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
            let name = rest.split(|char| !is_name(char)).next().unwrap();
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            let is_there = there.contains(&name) || ONLY_UNDER_TLS.contains(&name);
            assert!(is_there, "{name}: {text}");
        }
    }
    // What Prometheus says of both files, where it is there to ask.
    if desk
        .shell("command -v promtool")
        .output()
        .unwrap()
        .status
        .success()
    {
        desk.run("promtool check config prometheus.yml");
    }
    server.stop();
}

#[test]
fn help_prints_each_topic_and_says_which_there_are() {
    let desk = Desk::new("help");
    let list = desk.run("iii-stream help");
    let readme = page("README.md");
    for topic in TOPICS {
        assert!(list.contains(&format!("\n  {topic} ")), "{list}");
        assert!(
            readme.contains(&format!("[{topic}](src/assets/help/{topic}.md)")),
            "{topic}"
        );
        let told = desk.run(&format!("iii-stream help {topic}"));
        // Every word of code in the page is in what is printed.
        let text = page(&format!("{topic}.md"));
        let flat: String = told.split_whitespace().collect();
        let prose = blocks(&text)
            .into_iter()
            .fold(text, |text, block| text.replace(&block.text, ""));
        for code in prose.replace("```", "").split('`').skip(1).step_by(2) {
            let code: String = code.split_whitespace().collect();
            assert!(flat.contains(&code) || code.len() <= 4, "{topic}: {code}");
        }
    }
    let listed = std::fs::read_dir(root().join("src/assets/help"))
        .unwrap()
        .count();
    assert_eq!(listed, TOPICS.len());
    let output = desk.shell("iii-stream help 'no such'").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "\"no such\" is no topic of help, expected {}\n",
        TOPICS.join(", ")
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

/// Code within sentences and tables, of a page without its blocks.
fn spans(text: &str) -> Vec<String> {
    let prose = blocks(text)
        .into_iter()
        .fold(text.to_owned(), |text, block| text.replace(&block.text, ""));
    let prose = prose.replace("```", "").replace('\n', " ");
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_that_a_sentence_names_is_one() {
    let mut count = 0;
    for (name, text) in pages() {
        for span in spans(&text) {
            if !span.starts_with("iii-stream ") && span != "iii-stream" {
                continue;
            }
            let words = span.split_whitespace().map(|word| match word {
                "TOPIC" => "limits",
                "WHAT" => "systemd",
                "COMMAND" => "top",
                other => other,
            });
            if let Err(error) = Cli::try_parse_from(words) {
                use clap::error::ErrorKind::{DisplayHelp, MissingRequiredArgument};
                // A command may be named without what it needs.
                let is_named =
                    error.kind() == MissingRequiredArgument && span.split(' ').count() == 2;
                assert!(
                    is_named || error.kind() == DisplayHelp,
                    "{name}: {span}: {error}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// A default as a table says it, as `check` shows it. None: it is told in words.
fn default_of(text: &str) -> Option<String> {
    let text = text.trim().trim_matches('`').trim();
    let text = text.strip_suffix(" MiB").map_or(text.to_owned(), |mib| {
        (mib.parse::<u64>().unwrap() * 1024 * 1024).to_string()
    });
    let text = text.strip_suffix(" KiB").map_or(text.clone(), |kib| {
        (kib.parse::<u64>().unwrap() * 1024).to_string()
    });
    let is_value = !text.contains(' ') && !text.contains('{');
    is_value.then_some(text)
}

#[test]
fn tables_name_every_setting_and_its_default() {
    let desk = Desk::new("defaults");
    let told: Value = serde_json::from_str(&desk.run("iii-stream check --json")).unwrap();
    let settings = told["settings"].as_array().unwrap();
    let mut named = Vec::new();
    for (page, text) in pages() {
        let mut is_settings = false;
        for line in text.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, names, defaults, ..] = cells[..] else {
                is_settings = false;
                continue;
            };
            if defaults == "default" {
                is_settings = true;
                continue;
            }
            if !is_settings || names.starts_with("---") {
                continue;
            }
            let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
            let each: Vec<&str> = defaults.split(", ").collect();
            for (index, name) in names.iter().enumerate() {
                let ends = format!(".{name}");
                let is_it = |setting: &&Value| setting["key"].as_str().unwrap().ends_with(&ends);
                let Some(setting) = settings.iter().find(is_it) else {
                    let is_part = |setting: &Value| {
                        setting["key"]
                            .as_str()
                            .unwrap()
                            .contains(&format!("{ends}."))
                    };
                    assert!(settings.iter().any(is_part), "{page}: {name} is no setting");
                    named.push((*name).to_owned());
                    continue;
                };
                named.push((*name).to_owned());
                let shown = match each.len() == names.len() {
                    true => each[index],
                    false => each[0],
                };
                let value = &setting["value"];
                let value = value.as_str().map_or(value.to_string(), str::to_owned);
                let is_from_here = setting["origin"] != "default";
                let holds = match default_of(shown) {
                    None => true,
                    Some(none) if none == "none" || none == "none:" => {
                        matches!(&*value, "none" | "null" | "[]")
                    }
                    Some(default) => default == value,
                };
                assert!(
                    holds || is_from_here,
                    "{page}: {name} = {value}, the page says {shown}"
                );
            }
        }
    }
    // What a file shows in its `config:` is the engine's; all else is told.
    for setting in settings {
        let key = setting["key"].as_str().unwrap();
        let Some((_, key)) = key.split_once(".server.") else {
            continue;
        };
        let is_named = |name: &String| key == *name || key.starts_with(&format!("{name}."));
        assert!(named.iter().any(is_named), "no page has a row for {key}");
    }
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in pages() {
        let folder = path_of(&name);
        let folder = folder.parent().unwrap();
        let headings: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| {
                line.trim_start_matches('#')
                    .trim()
                    .to_lowercase()
                    .replace(' ', "-")
            })
            .collect();
        for after in text.split("](").skip(1) {
            let target = after.split(')').next().unwrap();
            match target.strip_prefix('#') {
                Some(anchor) => assert!(headings.iter().any(|it| it == anchor), "{name}: {target}"),
                None => assert!(folder.join(target).exists(), "{name}: {target}"),
            }
        }
    }
}
