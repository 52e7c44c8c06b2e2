//! The file store in a real process: kills, clean stops, damage, and disks that refuse.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
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
fn a_directory_that_another_process_has_is_refused() {
    let home = Home::new("locked", "");
    let process = home.start();
    let (code, said) = home.fails(&[]);
    let expected = format!(
        "./store: locked by process {}\n",
        process.pid().as_raw_nonzero()
    );
    assert_eq!(code, Some(1));
    assert!(said.ends_with(&expected), "{said}");
    for command in [
        &["recover", "--data", "./store", "--yes"][..],
        &["export", "--reference", "./out", "--data", "./store"],
    ] {
        process.sdk().set(ROOM, "i", json!(1));
        let (code, said) = home.fails(command);
        assert_eq!((code, said), (Some(1), expected.clone()));
    }
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
    let mut command = home.command(&[]);
    if rustix::process::getuid().is_root() {
        // Permissions hold for nobody, who may not be allowed to where the program stands: it is
        // handed over open.
        command = process::command("/proc/self/fd/0", home.path(), &[]);
        command.uid(65_534).stdin(File::open(PROGRAM).unwrap());
    }
    let (code, said) = outcome(command.output().unwrap());
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

/// Writes until it has looked, which it does before a write at the latest a millisecond after it was
/// changed. The number of the last that was accepted, and what was said of the next.
fn write_until_refused(sdk: &mut SdkWorker, mut n: u64) -> (u64, String) {
    loop {
        let set = sdk.start("stream::set", set_input(ROOM, "i", json!({"n": n + 1})));
        let result = sdk.result(&set);
        if result.get("error").is_some() {
            return (n, error_in(&result).1);
        }
        n += 1;
        assert!(n < 100_000, "never refused");
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

#[test]
fn nothing_is_written_to_a_directory_that_is_gone_and_all_to_one_in_its_place() {
    let home = Home::new("gone", ", save_interval_ms: 100");
    let process = home.start();
    let mut sdk = process.sdk();
    sdk.set(ROOM, "before", json!(1));
    let moved = home.path().join("moved");
    fs::rename(home.store(), &moved).unwrap();
    let (last, refused) = write_until_refused(&mut sdk, 0);
    assert!(refused.contains("./store: No such file"), "{refused}");
    process.line_with("writes are refused until that has changed");
    fs::create_dir(home.store()).unwrap();
    // What it has found last holds for a while, ten times as long as the look took.
    wait_until("writes come back", || {
        let set = sdk.start("stream::set", set_input(ROOM, "after", json!(4)));
        sdk.result(&set).get("error").is_none()
    });
    process.line_with("all is written anew");
    wait_until("all is there", || {
        home.files(".snapshot")
            .iter()
            .any(|name| name != "new.snapshot")
    });
    process.kill();
    let process = home.start();
    let mut sdk = process.sdk();
    assert_eq!(sdk.get(ROOM, "before"), Some(json!(1)));
    assert_eq!(sdk.get(ROOM, "after"), Some(json!(4)));
    let kept = sdk.get(ROOM, "i").map_or(0, |kept| number(&kept));
    assert_eq!(kept, last);
}

#[test]
fn a_server_whose_directory_was_moved_leaves_nothing_in_the_one_of_a_new_server() {
    let home = Home::new("moved", "");
    let old = home.start();
    old.sdk().set(ROOM, "i", json!({"n": 1}));
    let moved = home.path().join("moved");
    fs::rename(home.store(), &moved).unwrap();
    let new = home.start();
    new.sdk().set(ROOM, "i", json!({"n": 1000}));
    let before = content(&home.store());
    let (last, refused) = write_until_refused(&mut old.sdk(), 1);
    assert!(refused.contains("another directory is there"), "{refused}");
    old.stop();
    assert_eq!(content(&home.store()), before);
    new.stop();
    let kept = |path: &Path| {
        let (code, said) = home.fails(&["inspect", &path.display().to_string()]);
        assert_eq!(code, Some(0), "{said}");
    };
    kept(&moved);
    kept(&home.store());
    assert_eq!(home.start().sdk().get(ROOM, "i"), Some(json!({"n": 1000})));
    fs::rename(home.store(), home.path().join("of-new")).unwrap();
    fs::rename(&moved, home.store()).unwrap();
    assert_eq!(home.start().sdk().get(ROOM, "i"), Some(json!({"n": last})));
}

/// Put there as a directory of its own, as new files, or over the files.
#[test]
fn a_backup_that_is_put_in_place_while_it_runs_is_never_written_over() {
    for way in ["directory", "files", "over"] {
        let home = Home::new(&format!("backup-{way}"), ", save_interval_ms: 100");
        let process = home.start();
        let mut sdk = process.sdk();
        sdk.set(ROOM, "i", json!({"n": 1}));
        let backup = home.path().join("backup");
        copy(&home.store(), &backup);
        for n in 2..20 {
            sdk.set(ROOM, "i", json!({"n": n}));
        }
        match way {
            "directory" => fs::rename(home.store(), home.path().join("moved")).unwrap(),
            "files" => {
                for (name, _) in content(&home.store()) {
                    fs::remove_file(home.store().join(name)).unwrap();
                }
            }
            _ => {}
        }
        copy(&backup, &home.store());
        let before = content(&home.store());
        if way == "over" {
            // What it has found holds for a millisecond: until then it may write behind.
            let copied = std::time::Instant::now();
            wait_until("a look is due", || copied.elapsed().as_millis() > 5);
        }
        write_until_refused(&mut sdk, 19);
        process.line_with("writes are refused until that has changed");
        let (n, _) = write_until_refused(&mut sdk, 50);
        assert_eq!(n, 50, "{way}: all are refused");
        process.stop();
        assert_eq!(content(&home.store()), before, "{way}");
        assert_eq!(home.start().sdk().get(ROOM, "i"), Some(json!({"n": 1})));
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
fn a_directory_stays_locked_when_the_file_lock_is_removed() {
    let home = Home::new("lock", "");
    let process = home.start();
    fs::remove_file(home.store().join("lock")).unwrap();
    let (code, said) = home.fails(&[]);
    assert!(
        code == Some(1) && said.contains("./store: locked by another process"),
        "{said}"
    );
    process.stop();
    home.start();
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

/// A limit on the size of files stands for a full disk: writes end short, then fail.
#[test]
fn a_full_disk_refuses_writes_and_nothing_else_and_they_work_again_by_themselves() {
    let home = Home::new("full", "");
    let process = home.start();
    let limit = |bytes: Option<u64>| {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(process.pid()), Resource::Fsize, limit).unwrap();
    };
    let mut sdk = process.sdk();
    let mut subscriber = process.subscriber();
    subscriber.join("s", ROOM);
    sdk.set(ROOM, "i", json!({"n": 0}));
    assert_eq!(subscriber.next().kind, "create");
    limit(Some(20_000));
    let pad = "x".repeat(300);
    let calls: Vec<String> = (1..300)
        .map(|n| {
            let data = json!({"n": n, "pad": pad});
            sdk.start("stream::set", set_input(ROOM, "i", data))
        })
        .collect();
    let results: Vec<Value> = calls.iter().map(|id| sdk.result(id)).collect();
    let (refused, accepted): (Vec<_>, Vec<_>) = results
        .iter()
        .partition(|result| result.get("error").is_some());
    assert!(!refused.is_empty());
    for result in refused {
        let (code, message) = error_in(result);
        assert_eq!(code, "STREAM_SET_ERROR");
        let is_told = message.starts_with("Failed to set value: ./store/0")
            && message.contains(".log: File too large");
        assert!(is_told, "{message}");
    }
    for result in &accepted {
        assert_eq!(subscriber.next().data, result["result"]["new_value"]);
    }
    process.line_with("writes refused");
    let last = accepted.last().map_or(json!({"n": 0}), |result| {
        result["result"]["new_value"].clone()
    });
    assert_eq!(sdk.get(ROOM, "i"), Some(last.clone()), "reads go on");
    subscriber.hears_only_the_marker(&mut sdk, ROOM);

    limit(None);
    let set = sdk.set(ROOM, "i", json!({"n": 1000}));
    assert_eq!(set["new_value"], json!({"n": 1000}));
    process.line_with("writes are accepted again");
    process.kill();
    assert_eq!(home.start().sdk().get(ROOM, "i"), Some(json!({"n": 1000})));
}

/// A file system of that many KiB in memory; gone with it.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where mounting is not allowed.
    fn new(path: PathBuf, kib: usize) -> Option<Mounted> {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]);
        let status = mount.arg(&path).stderr(Stdio::null()).status();
        status
            .is_ok_and(|status| status.success())
            .then_some(Mounted(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

/// Where mounting is not allowed, the limit on the size of files above stands for it.
#[test]
fn a_disk_that_is_full_for_real_refuses_writes_until_there_is_room() {
    let home = Home::new("tmpfs", "");
    let Some(_mounted) = Mounted::new(home.store(), 512) else {
        return;
    };
    let ballast = home.store().join("ballast");
    fs::write(&ballast, vec![0; 256 * 1024]).unwrap();
    let process = home.start();
    let mut sdk = process.sdk();
    let pad = "x".repeat(1000);
    let mut last = 0;
    let refused = (1..1000).find_map(|n| {
        let set = sdk.start(
            "stream::set",
            set_input(ROOM, &format!("i{n}"), json!({"n": n, "pad": pad})),
        );
        let result = sdk.result(&set);
        let is_refused = result.get("error").is_some();
        last = if is_refused { last } else { n };
        is_refused.then(|| error_in(&result))
    });
    let (code, message) = refused.expect("512 KiB are full");
    assert_eq!(code, "STREAM_SET_ERROR");
    assert!(message.contains("No space left on device"), "{message}");
    let kept = sdk.get(ROOM, &format!("i{last}"));
    assert_eq!(kept.as_ref().map(number), Some(last), "reads go on");
    let mut subscriber = process.subscriber();
    let synced = subscriber.join("s", ROOM);
    let synced = synced.data.as_array().unwrap().last().map(number);
    assert_eq!(synced, Some(last), "joins as well");
    fs::remove_file(ballast).unwrap();
    sdk.set(ROOM, "i", json!({"n": 5000}));
    process.kill();
    let kept = home.start().sdk().get(ROOM, "i");
    assert_eq!(kept, Some(json!({"n": 5000})));
}

#[test]
fn on_a_disk_of_three_times_the_data_writes_come_back_by_themselves() {
    let home = Home::new("small", ", segment_bytes: 1MiB");
    let Some(_mounted) = Mounted::new(home.store(), 2400) else {
        return;
    };
    let process = home.start();
    let mut sdk = process.sdk();
    let pad = "x".repeat(20_000);
    for n in 0..400 {
        let item = format!("i{}", n % 40);
        let mut last = json!(null);
        wait_until("it is accepted", || {
            let data = json!({"n": n, "pad": pad});
            let set = sdk.start("stream::set", set_input(ROOM, &item, data));
            last = sdk.result(&set);
            last.get("error").is_none()
        });
    }
    process.kill();
    let process = home.start();
    let mut sdk = process.sdk();
    for item in 0..40 {
        let kept = sdk.get(ROOM, &format!("i{item}"));
        assert_eq!(kept.as_ref().map(number), Some(360 + item));
    }
}

#[test]
fn an_export_that_finds_no_room_leaves_nothing() {
    let home = Home::new("export", "");
    let Some(mounted) = Mounted::new(home.path().join("small"), 64) else {
        return;
    };
    let process = home.start();
    let mut sdk = process.sdk();
    for group in 0..10 {
        sdk.set(("kept", &group.to_string()), "i", json!("x".repeat(10_000)));
    }
    process.stop();
    for _ in 0..2 {
        let (code, said) = home.fails(&["export", "--data", "./store", "--reference", "small/out"]);
        assert!(code == Some(1) && said.contains("No space left"), "{said}");
        assert_eq!(fs::read_dir(mounted.0.join("out")).unwrap().count(), 0);
    }
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
