//! Snapshots, and what is written anew when somebody else has taken a file away.

use super::*;

#[test]
fn what_somebody_else_takes_away_while_it_runs_is_written_anew() {
    for fault in ["none", "removed", "cut", "removed before it is closed"] {
        let (mut world, ..) = with_batches();
        world.settle();
        match fault {
            "none" => {}
            "cut" => {
                let len = world.disk.read(LOG).len() as u64;
                world.disk.reopen(LOG).unwrap().cut(len - 1).unwrap();
            }
            _ => world.disk.remove(LOG).unwrap(),
        }
        if fault.contains("closed") {
            world.files.log.roll(&mut world.files.disk).unwrap();
        }
        world.change(&keys()[2], "after", Some("1".to_owned()));
        world.settle();
        world.files.check_at = Some(Instant::now());
        world.settle_once();
        assert!(world.settle());
        let names = world.disk.names();
        let snapshots = names.iter().filter(|name| name.ends_with(".snapshot"));
        assert_eq!(
            snapshots.count(),
            usize::from(fault != "none"),
            "{fault}: {names:?}"
        );
        world.restart(world.disk.copy(), 1);
    }
}

/// With a snapshot, and something in the log behind it.
fn with_snapshot() -> World {
    let (mut world, ..) = with_batches();
    world.settle();
    make_snapshot(&mut world);
    world
}

fn make_snapshot(world: &mut World) {
    world.files.is_to_write_anew = true;
    world.settle_once();
    world.settle();
    world.change(&keys()[2], "behind", Some("1".to_owned()));
    world.settle();
}

#[test]
fn a_snapshot_that_somebody_else_takes_away_is_written_anew() {
    let mut world = with_snapshot();
    let snapshot = names_with(&world.disk, ".snapshot").remove(0);
    world.disk.remove(&snapshot).unwrap();
    world.files.check_at = Some(Instant::now());
    world.settle_once();
    world.settle();
    assert_eq!(names_with(&world.disk, ".snapshot").len(), 1);
    world.restart(world.disk.copy(), 1);
}

#[test]
fn a_log_that_stood_behind_a_snapshot_is_missed() {
    let mut world = with_snapshot();
    let log = names_with(&world.disk, ".log").remove(0);
    let mut without = world.disk.copy();
    without.remove(&log).unwrap();
    let error = start(&without, &world.settings, 1)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with(&format!("disk/{log}: missing")),
        "{error}"
    );
    // A head that a loss of power has left half written is no such case, at the first start or the next.
    let mut torn = world.disk.copy();
    torn.reopen(&log).unwrap().cut(7).unwrap();
    for _ in 0..2 {
        assert!(start(&torn, &world.settings, 1).is_ok());
    }
    world.restart(world.disk.copy(), 1);
}

/// A snapshot was made and is damaged before the segments that it stands for were removed.
#[test]
fn what_a_damaged_snapshot_has_lost_is_taken_from_the_log() {
    let (mut world, ..) = with_batches();
    world.settle();
    let earlier = world.disk.read(LOG);
    make_snapshot(&mut world);
    let snapshot = names_with(&world.disk, ".snapshot").remove(0);
    let disk = world.disk.copy();
    disk.put(LOG, earlier);
    world.restart(disk.copy(), 1);
    disk.put(&snapshot, Vec::new());
    let mut found = Values::new();
    let offline = offline::Offline::read(&disk).unwrap();
    assert!(!offline.losses.is_empty());
    let text = |(name, value): &(Box<str>, Text)| (name.to_string(), value.to_string());
    let each = offline.each_group(|key, items| {
        found.insert(key.clone(), items.iter().map(text).collect());
        Ok(())
    });
    each.unwrap();
    let mut expected = world.model.values();
    expected.retain(|_, items| !items.is_empty());
    assert_eq!(found, expected);
}

#[test]
fn old_segments_and_snapshots_go_when_a_newer_snapshot_holds_them() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 2);
    let mut random = SmallRng::seed_from_u64(1);
    for step in 0..3000 {
        random_change(&mut world, &mut random, step);
        world.settle();
    }
    let names = world.disk.names();
    let bytes: usize = names.iter().map(|name| world.disk.read(name).len()).sum();
    assert!(
        names.len() < 8 && bytes < 6000,
        "{names:?} of {bytes} bytes"
    );
}

#[test]
fn numbers_that_a_snapshot_holds_are_not_given_out_anew_when_the_end_of_the_log_is_lost() {
    for bytes_left in [head::HEAD_BYTES, 7] {
        lose_the_end_of_the_log(bytes_left);
    }
}

fn lose_the_end_of_the_log(bytes_left: usize) {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Never), 1);
    let write = |world: &mut World, value: u32| {
        for key in keys() {
            world.change(&key, "i", Some(value.to_string()));
            world.turn_of_store(1);
        }
    };
    let is_asked = |world: &World| {
        let mut queue = world.to_shards[0].iter();
        queue.any(|message| matches!(message, ToShard::Slice(_)))
    };
    for value in 0.. {
        write(&mut world, value);
        if is_asked(&world) {
            break;
        }
        world.settle();
    }
    // While the snapshot is made more is written, and each slice holds all of it.
    write(&mut world, 1_000);
    world.settle();
    let disk = world.disk.copy();
    let mut names = disk.names();
    names.retain(|name| name != identity::NAME);
    assert_eq!(names.len(), 2, "{names:?}");
    let log = names.iter().find(|name| name.ends_with(".log")).unwrap();
    disk.put(log, disk.read(log)[..bytes_left].to_vec());
    world.restart_with_less(disk, 1);
    assert!(!world.model.values().is_empty());
    write(&mut world, 2_000);
    world.settle();
    world.restart(world.disk.copy(), 1);
}

#[test]
fn a_group_that_a_snapshot_holds_in_parts_of_several_times_is_whole_after_a_loss_of_power() {
    let seldom_synced = FileStore {
        save_interval: Duration::from_secs(3600),
        ..settings(Fsync::Interval)
    };
    let mut world = World::new(TestDisk::default(), seldom_synced, 1);
    let [a, ..] = keys();
    let write = |world: &mut World, value: u32| {
        for item in 0..6 {
            world.change(&a, &format!("i{item}"), Some(value.to_string()));
        }
        world.turn_of_store(9);
    };
    let limits = SliceLimits {
        items: 1,
        bytes: 99,
        groups: 9,
    };
    for value in 0..200 {
        write(&mut world, value);
        world.turn_of_shard(0, 9, limits);
        let lost = world.disk.after_power_loss(|_| 0);
        let (_, mut shards) = start(&lost, &world.settings, 1).unwrap();
        let found = listed(&mut shards).remove(&a).unwrap_or_default();
        let states = &world.model.states[&a];
        assert!(found.is_empty() || states.contains(&found), "{found:?}");
    }
    let is_snapshot = |name: &String| name.ends_with(".snapshot") && name != snapshot::NEW;
    assert!(world.disk.names().iter().any(is_snapshot));
}
