//! A directory that somebody else has, that is moved away, or in whose place another one is put.

use super::*;

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
