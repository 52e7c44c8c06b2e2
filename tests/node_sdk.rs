//! The published Node SDK and the `ws` package against this server. `tests/run` installs both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{DEADLINE, TestServer, on_each_shape};

#[test]
fn the_published_sdk_and_a_plain_client_work_unchanged() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    assert!(
        directory.join("node_modules/iii-sdk").is_dir(),
        "the packages of tests/sdk are not installed: run tests/run, or npm ci in tests/sdk"
    );
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut program = Command::new("node")
            .arg("main.mjs")
            .arg(server.stream().to_string())
            .arg(server.worker().to_string())
            .current_dir(&directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let until = Instant::now() + DEADLINE;
        while program.try_wait().unwrap().is_none() {
            if Instant::now() > until {
                program.kill().unwrap();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{wrong}");
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with('[')) // the SDK's own log
            .collect();
        assert_eq!(
            lines,
            [
                "a path and a join are answered with a sync",
                "the eight functions answer and are heard",
                "void calls are made and errors have their codes",
                "one SDK calls the function of another",
                "a close is answered",
                "done",
            ]
        );
    });
}
