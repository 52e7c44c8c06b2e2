//! Damaged and mangled directories: nothing stands still, and nothing is deleted.

use super::head::{Before, FileKind, Head};
use super::ours::{content, without_store};
use super::*;

fn grown(values: std::ops::Range<u32>, segment_bytes: usize) -> World {
    let settings = FileStore {
        segment_bytes,
        ..settings(Fsync::Interval)
    };
    let mut world = World::new(TestDisk::default(), settings, 1);
    for value in values {
        for (n, key) in keys().iter().enumerate() {
            world.change(key, &format!("i{n}"), Some(value.to_string()));
        }
        world.settle();
    }
    world
}

fn found(disk: &TestDisk) -> (usize, Values) {
    let (_, mut shards) = start(&disk.copy(), &settings(Fsync::Interval), 1).unwrap();
    let values = listed(&mut shards);
    (values.values().map(Vec::len).sum(), values)
}

/// What a server has left that wrote to the directory of another.
#[test]
fn a_segment_that_states_an_end_inside_a_record_of_another_log_is_left_out() {
    for says_store in [true, false] {
        let world = grown(0..20, 1 << 20);
        let whole = world.disk.read(LOG);
        for bytes in (100..whole.len() as u64 + 200).step_by(7) {
            let disk = match says_store {
                true => world.disk.copy(),
                false => without_store(&world.disk),
            };
            let (sequence, store) = (20, says_store.then(identity::StoreId::new));
            let before = Some(Before { sequence: 1, bytes });
            let head = Head {
                sequence,
                before,
                store,
            };
            let mut stray = head.encode(FileKind::Log);
            record::time(&mut stray, sequence, 1, true);
            let name = log::name_of(sequence);
            disk.put(&name, stray.clone());
            let mut disk = disk;
            let before = content(&disk);
            let refused = start(&disk, &world.settings, 1).err();
            assert!(refused.is_some(), "{bytes}");
            assert_eq!(content(&disk), before);
            let report = recover::recover_on(&mut disk, true).unwrap();
            let is_end = !report.strangers.contains(&name);
            assert!(!is_end || !says_store, "{bytes}: {:?}", report.losses);
            assert!(content(&disk).values().any(|kept| *kept == stray));
            let (_, values) = found(&disk);
            if !is_end {
                assert_eq!(values, world.model.values(), "{bytes}");
            }
        }
    }
}

fn mangle(disk: &mut TestDisk, random: &mut SmallRng, other: &TestDisk) {
    let names = disk.names();
    let name = names[random.random_range(0..names.len())].clone();
    let mut bytes = disk.read(&name);
    let at = random.random_range(0..bytes.len().max(1));
    match random.random_range(0..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes.truncate(at),
        2 => {
            let end = (at + random.random_range(0..200)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            let again = bytes[at..].to_vec();
            bytes.splice(at..at, again);
        }
        4 => return disk.remove(&name).unwrap(),
        5 => {
            let names = other.names();
            let name = names[random.random_range(0..names.len())].clone();
            return disk.put(&name, other.read(&name));
        }
        6 => {
            let names = other.names();
            let from = &names[random.random_range(0..names.len())];
            return disk.put(&name, other.read(from));
        }
        _ => {
            // A head that is whole, and says what is not so.
            for kind in [FileKind::Log, FileKind::Snapshot] {
                if let Ok(mut head) = Head::decode(kind, &bytes) {
                    let behind = bytes.split_off(head.bytes() as usize);
                    match (&mut head.before, random.random_bool(0.5)) {
                        (Some(before), true) => before.bytes = random.random_range(0..2000),
                        (before, _) => {
                            *before = Some(Before {
                                sequence: random.random_range(1..90),
                                bytes: random.random_range(0..2000),
                            });
                        }
                    }
                    bytes = [head.encode(kind), behind].concat();
                    break;
                }
            }
        }
    }
    disk.put(&name, bytes);
}

#[test]
fn whatever_stands_in_a_directory_inspect_and_recover_end_and_a_server_starts_then() {
    let (own, other) = (grown(0..40, 700), grown(0..90, 700));
    let old = [without_store(&own.disk), without_store(&other.disk)];
    for seed in 0..1500 {
        let mut random = SmallRng::seed_from_u64(seed);
        let is_old = random.random_bool(0.4);
        let mut disk = match is_old {
            true => old[0].copy(),
            false => own.disk.copy(),
        };
        let other = if is_old { &old[1] } else { &other.disk };
        for _ in 0..random.random_range(1..5) {
            mangle(&mut disk, &mut random, other);
            if disk.names().is_empty() {
                break;
            }
        }
        if random.random_bool(0.3) {
            disk.has_lost_power();
        }
        let before = content(&disk);
        let report = match recover::recover_on(&mut disk, false) {
            Ok(report) => report,
            Err(StoreError::Nothing { .. } | StoreError::Newer { .. }) => continue,
            Err(error) => unreachable!("seed {seed}: {error}"),
        };
        assert_eq!(content(&disk), before, "seed {seed}");
        let starts = start(&disk.copy(), &own.settings, 1);
        assert_eq!(
            starts.is_ok(),
            report.is_healthy(),
            "seed {seed}: {report:?}"
        );
        recover::recover_on(&mut disk, true).unwrap();
        let after = content(&disk);
        for (name, bytes) in before.iter().filter(|(name, _)| *name != identity::NAME) {
            let is_kept = after.values().any(|kept| kept == bytes);
            assert!(is_kept, "seed {seed}: {name} is gone");
        }
        let again = recover::recover_on(&mut disk, false).unwrap();
        assert!(again.is_healthy(), "seed {seed}: {again:?}");
        assert_eq!(again.items, report.items, "seed {seed}");
        let (items, _) = found(&disk);
        assert_eq!(items, report.items, "seed {seed}");
    }
}

/// Killed after any change, and started then, with power lost or not.
#[test]
fn a_recovery_that_is_interrupted_anywhere_deletes_nothing() {
    let mut world = grown(0..40, 700);
    // Many segments behind the snapshot.
    world.files.no_snapshot_before = Some(Instant::now() + Duration::from_secs(3600));
    for value in 100..130 {
        world.change(&keys()[0], "i", Some(value.to_string()));
        world.settle();
    }
    let damaged = |end: &str| {
        let disk = world.disk.copy();
        let name = names_with(&disk, end).remove(0);
        let mut bytes = disk.read(&name);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        disk.put(&name, bytes);
        disk
    };
    let closed = damaged(".log");
    for disk in [damaged(".snapshot"), closed.copy(), without_store(&closed)] {
        let before = content(&disk);
        let mut whole = disk.copy();
        let saved = recover::recover_on(&mut whole, true).unwrap();
        assert!(!saved.is_healthy() && saved.items > 0);
        let mut was_killed = true;
        let mut changes = 1;
        while was_killed {
            let mut killed = disk.copy();
            killed.kill_after(Some(changes));
            let outcome = recover::recover_on(&mut killed, true);
            was_killed = killed.is_killed();
            assert!(was_killed || outcome.is_ok());
            killed.kill_after(None);
            let lost = killed.after_power_loss(|_| 0);
            for mut left in [killed.copy(), lost] {
                for _ in 0..2 {
                    // Whether it starts or not.
                    let _ = start(&left, &world.settings, 1);
                    let after = content(&left);
                    for (name, bytes) in &before {
                        let is_kept = after.values().any(|kept| kept == bytes);
                        assert!(is_kept, "after {changes} changes {name} is gone");
                    }
                    recover::recover_on(&mut left, true).unwrap();
                }
                let (items, _) = found(&left);
                assert_eq!(items, saved.items, "after {changes} changes");
            }
            changes += 1;
        }
        assert!(changes > 10);
    }
}

#[test]
fn what_is_missing_is_said_by_its_numbers() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 1);
    world.files.no_snapshot_before = Some(Instant::now() + Duration::from_secs(3600));
    for value in 0..60 {
        world.change(&keys()[0], "i", Some(value.to_string()));
        world.settle();
    }
    let logs = names_with(&world.disk, ".log");
    let number = |at: usize| logs[at].trim_end_matches(".log").parse::<u64>().unwrap();
    assert!(logs.len() > 3, "{logs:?}");
    let mut disk = world.disk.copy();
    disk.remove(&logs[1]).unwrap();
    let report = recover::recover_on(&mut disk, false).unwrap();
    let lack = Lack {
        from: number(1),
        to: Some(number(2) - 1),
    };
    assert_eq!(report.lacking, [lack]);
    assert_eq!(report.items, 1);
}
