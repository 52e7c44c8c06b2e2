//! What the README has operators run, on a host with a service manager of the test's own, and the settings
//! that pages show.

use serde_json::Value;

use super::desk::Desk;
use super::{Block, Section, commands, page, root};
use crate::support::tls::Localhost;

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
