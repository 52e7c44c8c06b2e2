//! Disks without room: writes are refused, nothing else is, and they come back.

use super::*;

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
