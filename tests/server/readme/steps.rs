//! The first steps of the README, without a program and with one, and the list of who is there.

use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::desk::{Desk, without_time};
use super::{Block, Section, commands, page};
use crate::sdks::SDKS;
use crate::support::program::folder;
use crate::support::{Subscriber, raw, wait_until};

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
