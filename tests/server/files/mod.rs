//! The file store in a real process: kills, clean stops, damage, and what ends or starts it.

mod moved;
mod room;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::process::{self, Directory, PROGRAM, Process, config, outcome};
use crate::support::{SdkWorker, wait_until};

const ROOM: (&str, &str) = ("kept", "room");

/// A directory of its own for each test, with a config file whose store has these keys more.
struct Home(Directory);

impl Home {
    fn new(test: &str, keys: &str) -> Home {
        let adapter = format!(
            "adapter: {{name: kv, config: {{store_method: file_based, file_path: ./store{keys}}}}}"
        );
        let file = config(&adapter, "threads: 2, drain_ms: 50");
        Home(Directory::new(test).with_file(&file))
    }

    fn path(&self) -> &Path {
        &self.0.0
    }

    fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// The names in the store that end so, in order.
    fn files(&self, end: &str) -> Vec<String> {
        let entries = fs::read_dir(self.store()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
        names.sort();
        names
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.0.command(arguments)
    }

    fn start(&self) -> Process {
        Process::start(self.command(&[]))
    }

    /// Starts in vain: the exit code and what was said.
    fn fails(&self, arguments: &[&str]) -> (Option<i32>, String) {
        outcome(self.command(arguments).output().unwrap())
    }
}

fn number(value: &Value) -> u64 {
    value["n"].as_u64().unwrap()
}

/// `FILES_KILLS=3000` kills more often.
#[test]
fn a_kill_at_any_moment_loses_nothing_that_anybody_was_told() {
    let kills = std::env::var("FILES_KILLS").map_or(300, |kills| kills.parse().unwrap());
    let home = Home::new("kill", ", segment_bytes: 1MiB");
    let mut random = SmallRng::seed_from_u64(7);
    let mut told = [0; 5];
    let mut sent = 0;
    let mut last_time = 0;
    for kill in 0..kills {
        let process = home.start();
        let mut sdk = process.sdk();
        for (item, told) in told.iter().enumerate() {
            let kept = sdk.get(ROOM, &format!("i{item}"));
            let kept = kept.as_ref().map_or(0, number);
            assert!(
                kept >= *told && kept <= sent,
                "kill {kill}, item {item}: {kept} < {told}"
            );
        }
        let mut subscriber = process.subscriber();
        let synced = subscriber.join("s", ROOM);
        assert!(synced.timestamp >= last_time, "times continue");
        let pad = "x".repeat(random.random_range(0..2000));
        // Some are answered, some are under way, when it is killed.
        let asked = random.random_range(1..400);
        let answered = random.random_range(0..asked);
        let first = sent + 1;
        for _ in 0..asked {
            sent += 1;
            let item = format!("i{}", sent % 5);
            let data = json!({"n": sent, "pad": pad});
            sdk.start("stream::set", set_input(ROOM, &item, data));
        }
        for _ in 0..answered {
            let result = sdk.next_result().expect("a result");
            let n = number(&result["result"]["new_value"]);
            assert!(n >= first);
            told[(n % 5) as usize] = n;
        }
        process.kill();
        while let Some(result) = sdk.next_result() {
            let n = number(&result["result"]["new_value"]);
            told[(n % 5) as usize] = n;
        }
        while let Some(heard) = subscriber.next_if_any() {
            let n = number(&heard.data);
            last_time = heard.timestamp;
            told[(n % 5) as usize] = told[(n % 5) as usize].max(n);
        }
    }
}

#[test]
fn a_clean_stop_keeps_everything_and_its_order() {
    for fsync in ["interval", "always", "never"] {
        let home = Home::new(&format!("stop-{fsync}"), &format!(", fsync: {fsync}"));
        let process = home.start();
        assert!(process.says("values in ./store"), "{:?}", process.log);
        let mut sdk = process.sdk();
        for n in 0..50 {
            sdk.set(ROOM, &format!("i{n}"), json!(n));
        }
        sdk.delete(ROOM, "i7");
        sdk.set(ROOM, "i3", json!("changed"));
        sdk.set(ROOM, "i7", json!("again"));
        let before = sdk.list(ROOM);
        process.stop();
        let process = home.start();
        let mut sdk = process.sdk();
        assert_eq!(sdk.list(ROOM), before);
        let all = sdk.call("stream::list_all", json!({}));
        assert_eq!(
            all["result"]["stream"],
            json!([{"groups": ["room"], "id": "kept"}])
        );
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_while_writes_go_on() {
    let home = Home::new("snapshot", ", segment_bytes: 1MiB");
    let process = home.start();
    let mut sdk = process.sdk();
    let pad = "x".repeat(1000);
    let mut written = 0;
    // Whatever is written meanwhile is found again, in its order.
    while home.files(".snapshot").len() != 1 || home.files(".log").len() > 3 {
        let calls: Vec<String> = (0..200)
            .map(|n| {
                let room = ["room", "other"][n % 2];
                let data = json!({"n": written + n, "pad": pad});
                let item = format!("i{}", (n * 7) % 150);
                match n % 9 {
                    8 => sdk.start("stream::delete", item_input(("kept", room), &item)),
                    _ => sdk.start("stream::set", set_input(("kept", room), &item, data)),
                }
            })
            .collect();
        for id in &calls {
            assert!(sdk.result(id).get("error").is_none());
        }
        written += 200;
        assert!(written < 100_000, "no snapshot after {written} writes");
    }
    let before = [ROOM, ("kept", "other")].map(|room| sdk.list(room));
    process.kill();
    let process = home.start();
    let mut sdk = process.sdk();
    let after = [ROOM, ("kept", "other")].map(|room| sdk.list(room));
    assert_eq!(before, after);
}

#[test]
fn a_torn_end_is_cut_off_and_kept_aside_with_one_warning() {
    let home = Home::new("torn", "");
    let process = home.start();
    process.sdk().set(ROOM, "i", json!(1));
    process.kill();
    let log = home.store().join(&home.files(".log")[0]);
    let mut file = OpenOptions::new().append(true).open(log).unwrap();
    file.write_all(b"half a record").unwrap();
    let process = home.start();
    let is_of_the_store = |line: &&str| line.contains("WARN") && !line.contains("open files");
    let log = process.log.borrow();
    let warnings: Vec<&str> = log
        .iter()
        .map(String::as_str)
        .filter(is_of_the_store)
        .collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("its last 13 bytes are not whole"),
        "{warnings:?}"
    );
    drop(log);
    let mut sdk = process.sdk();
    assert_eq!(sdk.get(ROOM, "i"), Some(json!(1)));
    sdk.set(ROOM, "i", json!(2));
    process.stop();
    let aside = home.store().join(
        home.files("")
            .iter()
            .find(|name| name.contains("torn"))
            .unwrap(),
    );
    assert_eq!(fs::read(aside).unwrap(), b"half a record");
    assert_eq!(home.start().sdk().get(ROOM, "i"), Some(json!(2)));
}

#[test]
fn damage_in_the_middle_stops_the_start_and_recover_goes_on() {
    let home = Home::new("damage", "");
    let process = home.start();
    let mut sdk = process.sdk();
    for n in 0..3 {
        sdk.set(ROOM, &format!("i{n}"), json!(n));
    }
    process.stop();
    let log = home.store().join(&home.files(".log")[0]);
    let mut bytes = fs::read(&log).unwrap();
    let second = bytes.windows(2).position(|two| two == b"i1").unwrap();
    bytes[second] = b'j';
    fs::write(&log, bytes).unwrap();
    let (code, said) = home.fails(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(".log: damaged at byte")
            && said.contains("iii-stream recover --data ./store"),
        "{said}"
    );
    let (code, said) = home.fails(&["inspect", "./store"]);
    assert!(code == Some(1) && said.contains("damaged "), "{said}");
    assert!(
        said.contains("missing     write ") && said.contains("are older"),
        "{said}"
    );
    let (code, said) = home.fails(&["recover", "--data", "./store"]);
    assert!(
        code == Some(1) && said.contains("nothing was changed"),
        "{said}"
    );
    let (code, said) = home.fails(&["recover", "--data", "./store", "--yes"]);
    assert!(code == Some(0) && said.contains("recovered"), "{said}");
    assert_eq!(home.start().sdk().list(ROOM), json!([0, 2]));
    assert_eq!(home.files(".damaged").len(), 1);
    let (code, said) = home.fails(&["recover", "--data", "./store"]);
    assert!(code == Some(0) && said.contains("nothing to do"), "{said}");
}

#[test]
fn what_cannot_be_a_store_is_refused() {
    let home = Home::new("no-store", "");
    fs::write(home.store(), "a file").unwrap();
    let (code, said) = home.fails(&[]);
    assert!(code == Some(1) && said.contains("./store: "), "{said}");
    fs::remove_file(home.store()).unwrap();
    fs::create_dir(home.store()).unwrap();
    let mut permissions = fs::metadata(home.store()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(home.store(), permissions).unwrap();
    let start = || {
        let mut command = home.command(&[]);
        if rustix::process::getuid().is_root() {
            // Permissions hold for nobody, who may not be allowed to where the program stands: it is
            // handed over open.
            command = process::command("/proc/self/fd/0", home.path(), &[]);
            command.uid(65_534).stdin(File::open(PROGRAM).unwrap());
        }
        outcome(command.output().unwrap())
    };
    let (code, said) = start();
    let lock = home.store().join("lock");
    let uid = match rustix::process::getuid() {
        root if root.is_root() => 65_534,
        uid => uid.as_raw(),
    };
    let expected = format!("cannot create {} as uid {uid}: ", lock.display());
    assert!(
        code == Some(1) && said.contains(&expected) && said.contains("Permission denied"),
        "{said}"
    );
    fs::set_permissions(home.store(), fs::Permissions::from_mode(0o777)).unwrap();
    let identity = home.store().join("identity");
    fs::write(&identity, "not to be read").unwrap();
    fs::set_permissions(identity, fs::Permissions::from_mode(0o0)).unwrap();
    let (code, said) = start();
    let expected =
        format!("./store/identity: Permission denied (os error 13); this process is uid {uid}");
    assert!(code == Some(1) && said.contains(&expected), "{said}");
}

#[test]
fn a_file_that_a_link_leads_to_in_vain_is_missed() {
    let home = Home::new("link", "");
    let process = home.start();
    process.sdk().set(ROOM, "i", json!(1));
    process.stop();
    let log = home.store().join(&home.files(".log")[0]);
    let elsewhere = home.path().join("elsewhere");
    fs::rename(&log, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
    let process = home.start();
    assert_eq!(process.sdk().get(ROOM, "i"), Some(json!(1)));
    process.stop();
    fs::remove_file(elsewhere).unwrap();
    for arguments in [&[][..], &["inspect", "./store"]] {
        let (code, said) = home.fails(arguments);
        assert!(
            code == Some(1) && said.contains(".log: No such file or directory"),
            "{said}"
        );
    }
}

/// Every file in a directory, but for the lock.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
    names.sort();
    let read = |name: String| (name.clone(), fs::read(directory.join(name)).unwrap());
    names.into_iter().map(read).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in content(from) {
        // As `cp` does: a file that is there stays the same file.
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// As the version before has left it: heads without a store, and no file that says one.
#[test]
fn a_store_of_the_version_before_is_gone_on_with() {
    let home = Home::new("version", "");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-1");
    copy(&sample, &home.store());
    for n in 0..2 {
        let process = home.start();
        let mut sdk = process.sdk();
        assert_eq!(sdk.get(ROOM, "i"), Some(json!({"n": 7 + n})));
        sdk.set(ROOM, "i", json!({"n": 8 + n}));
        process.kill();
        assert_eq!(home.files("identity").len(), 1);
    }
}

#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let home = Home::new("unread", "");
    let mut process = home.start();
    // The thread that reads it ends with the next line.
    process.unhear();
    let mut sdk = process.sdk();
    sdk.set(ROOM, "i", json!(1));
    for n in 0..3 {
        // Each says a line.
        drop(process.subscriber());
        sdk.set(ROOM, "i", json!(n));
    }
    process.stop();
    assert_eq!(home.start().sdk().get(ROOM, "i"), Some(json!(2)));
}

#[test]
fn commands_whose_output_cannot_be_written_say_so() {
    let home = Home::new("output", "");
    home.start().stop();
    for arguments in [&["inspect", "./store"][..], &["check"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = home.command(arguments);
        let (code, said) = outcome(command.stdout(full).output().unwrap());
        assert!(
            code == Some(1) && said.starts_with("standard output: No space left"),
            "{said}"
        );
    }
}

#[test]
fn there_is_nothing_to_inspect_in_an_empty_directory() {
    let home = Home::new("nothing", "");
    fs::create_dir(home.store()).unwrap();
    let (code, said) = home.fails(&["inspect", "./store"]);
    assert!(code == Some(1) && said.contains("holds no log"), "{said}");
    assert!(home.files("").is_empty(), "nothing was changed");
}

/// Whoever was told that it serves has been promised something.
#[test]
fn a_signal_right_behind_the_first_line_lets_it_end_in_order() {
    let home = Home::new("early", "");
    for _ in 0..50 {
        let mut process = home.start();
        process.signal(Signal::TERM);
        process.line_with(": closing ");
        assert_eq!(process.exit_code(), Some(0));
    }
}

/// A signal need not wait until a large directory has been read.
#[test]
fn a_signal_ends_a_start_at_once() {
    let home = Home::new("signal", "");
    fs::create_dir(home.store()).unwrap();
    let items: Vec<String> = (0..400_000).map(|n| format!("\"item {n}\":{n}")).collect();
    let text = format!("{{{}}}", items.join(","));
    let mut file = text.clone().into_bytes();
    file.resize(text.len().next_multiple_of(4), 0);
    let word = (text.len() & 0x3f) | 0x80 | (text.len() >> 6) << 8;
    let offset = -(file.len() as i32);
    file.extend((word as u32).to_le_bytes());
    file.extend(offset.to_le_bytes());
    fs::write(home.store().join("stream%3Akept%3Aroom.bin"), file).unwrap();
    let mut command = home.command(&[]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it has begun", || !home.files("lock").is_empty());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        said.contains("ended at once") && !said.contains("serves"),
        "{said}"
    );
    assert!(
        home.files(".snapshot")
            .iter()
            .all(|name| name == "new.snapshot")
    );
}

#[test]
fn the_files_of_an_engine_are_taken_over_and_written_back() {
    let home = Home::new("import", "");
    fs::create_dir(home.store()).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kv-basic/store");
    let names: Vec<_> = fs::read_dir(&sample)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    for name in &names {
        fs::copy(sample.join(name), home.store().join(name)).unwrap();
    }
    let (code, said) = home.fails(&["inspect", "./store"]);
    assert!(
        code == Some(0) && said.contains("files of an engine, not taken over yet"),
        "{said}"
    );
    let process = home.start();
    assert!(process.says("took over 24 groups"), "{:?}", process.log);
    let mut sdk = process.sdk();
    assert_eq!(sdk.list(("presence", "room-2")), json!([1, 2, 3, 4, 5, 6]));
    process.stop();
    let (code, said) = home.fails(&["export", "--reference", "out", "--data", "store"]);
    assert!(code == Some(0) && said.contains("24 groups"), "{said}");
    for name in &names {
        let written = fs::read(home.path().join("out").join(name)).unwrap();
        assert_eq!(written, fs::read(sample.join(name)).unwrap(), "{name:?}");
    }
}
