//! The store with real shards on a disk that fails: what was accepted is found again, nothing that
//! was refused is, and order within a group holds, whatever happens when.

use std::collections::{BTreeMap, VecDeque};

mod damage;
mod model;
mod ours;
mod power;
mod small;
mod world;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::test_disk::TestDisk;
use super::*;
use crate::config::FileStore;
use crate::id::{CallId, GroupKey, Text};
use crate::protocol::answer::Outcome;
use crate::shard::{
    Ask, Command, Delivered, Effects, Join, Restored, Shard, SliceLimits, ValueLimits,
};

use model::{Model, Values};
use world::*;

/// The end of a snapshot: it is synced, the log is, it is named, its name is synced.
const TURNS_OF_AN_END: usize = 5;

fn random_change(world: &mut World, random: &mut SmallRng, step: usize) {
    let key = keys()[random.random_range(0..4)].clone();
    let item = format!("i{}", random.random_range(0..6));
    let value = random
        .random_bool(0.65)
        .then(|| format!("\"{step} {}\"", "x".repeat(random.random_range(0..30))));
    world.change(&key, &item, value);
}

/// Whatever a disk does, and however the process or the machine ends.
fn run(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let fsync = [Fsync::Always, Fsync::Interval, Fsync::Never][random.random_range(0..3)];
    let workers = random.random_range(1..4);
    let hours = random.random_range(0..2);
    let settings = FileStore {
        save_interval: Duration::from_secs(3600 * hours),
        ..settings(fsync)
    };
    let mut world = World::new(TestDisk::default(), settings, workers);
    let (fails, syncs_wait) = (random.random_bool(0.5), random.random_bool(0.5));
    for step in 0..400 {
        world.disk.syncs_wait(syncs_wait);
        if random.random_bool(0.05) {
            world.disk.end_syncs();
        }
        world.now = world
            .now
            .saturating_add_signed(random.random_range(-20..40));
        match random.random_range(0..100) {
            0..34 => random_change(&mut world, &mut random, step),
            34..40 => {
                let key = keys()[random.random_range(0..4)].clone();
                world.stamp(&key, random.random_bool(0.6));
            }
            40..65 => {
                let messages = random.random_range(1..6);
                world.turn_of_store(messages);
            }
            65..90 => {
                let limits = SliceLimits {
                    items: random.random_range(1..4),
                    bytes: random.random_range(1..60),
                    groups: random.random_range(1..4),
                };
                let shard = random.random_range(0..world.shards.len());
                let messages = random.random_range(1..8);
                world.turn_of_shard(shard, messages, limits);
            }
            90..94 if fails => {
                world.disk.syncs_work();
                let room = random.random_bool(0.5);
                world.disk.room(room.then(|| random.random_range(0..300)));
                world.disk.cuts_fail(random.random_bool(0.2));
                world.disk.creations_fail(random.random_bool(0.2));
            }
            94..96 if fails && fsync != Fsync::Never => {
                world.disk.fail_sync_after(random.random_range(0..3));
            }
            96..98 => {
                let workers = random.random_range(1..4);
                if fsync == Fsync::Interval && !fails && random.random_bool(0.5) {
                    let lost = match random.random_bool(0.5) {
                        true => world
                            .disk
                            .after_power_loss(|more| random.random_range(0..=more)),
                        false => world.disk.after_blocks_lost(|| random.random_bool(0.5)),
                    };
                    world.restart_with_less(lost, workers);
                    continue;
                }
                let disk = match fsync {
                    Fsync::Always if random.random_bool(0.5) => {
                        world.disk.after_blocks_lost(|| random.random_bool(0.5))
                    }
                    _ => world.disk.copy(),
                };
                if fails {
                    // A disk that refuses times holds no joins up.
                    world.model.heard.clear();
                }
                world.restart(disk, workers);
            }
            98 => {
                world.disk.room(None);
                world.disk.cuts_fail(false);
                world.disk.creations_fail(false);
                world.settle();
                world.disk.syncs_wait(false);
                world.disk.end_syncs();
                world.files.close();
                // What a failed sync has left in doubt may be lost with the power, until it is
                // written anew.
                let disk = match fails {
                    true => world.disk.copy(),
                    false => world.disk.after_power_loss(|_| 0),
                };
                if fails {
                    world.model.heard.clear();
                }
                world.restart(disk, workers);
            }
            _ => {}
        }
    }
    world.disk.room(None);
    world.disk.cuts_fail(false);
    world.disk.creations_fail(false);
    world.settle_once();
    assert_eq!(listed(&mut world.shards), world.model.values());
    world.restart(world.disk.copy(), workers);
}

#[test]
fn what_was_accepted_is_found_again_and_nothing_that_was_refused() {
    let one = std::env::var("STORE_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..400,
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("STORE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A store with some batches; the last one alone is in the last part of its log.
fn with_batches() -> (World, Values, usize) {
    let quiet = FileStore {
        segment_bytes: 1 << 20,
        ..settings(Fsync::Interval)
    };
    let mut world = World::new(TestDisk::default(), quiet, 2);
    let [a, b, ..] = keys();
    for n in 0..3 {
        world.change(&a, &format!("i{n}"), Some(format!("{n}")));
        world.change(&b, "i", Some(format!("\"{n}\"")));
        world.settle();
    }
    let before = world.model.values();
    let whole = world.disk.read(LOG).len();
    world.change(&a, "i0", None);
    world.change(&a, "i1", Some("[1]".to_owned()));
    world.change(&b, "new", Some("{}".to_owned()));
    world.turn_of_store(9);
    (world, before, whole)
}

const LOG: &str = "00000000000000000001.log";

#[test]
fn a_batch_that_was_cut_off_at_any_byte_is_gone_whole_and_kept_aside() {
    let (world, before, whole) = with_batches();
    let bytes = world.disk.read(LOG);
    for len in whole..=bytes.len() {
        let disk = TestDisk::default();
        disk.put(LOG, bytes[..len].to_vec());
        let (_, mut shards) = start(&disk, &world.settings, 3).unwrap();
        if len == bytes.len() {
            assert_eq!(listed(&mut shards), world.model.values());
            continue;
        }
        assert_eq!(listed(&mut shards), before, "cut to {len}");
        assert_eq!(disk.read(LOG), &bytes[..whole]);
        if len > whole {
            let aside = format!("{LOG}.torn-at-{whole}");
            assert_eq!(disk.read(&aside), &bytes[whole..len]);
            // It happens again at the same place.
            disk.put(LOG, bytes[..len].to_vec());
            start(&disk, &world.settings, 3).unwrap();
            assert_eq!(disk.read(&format!("{aside}-2")), &bytes[whole..len]);
        }
    }
}

#[test]
fn a_changed_bit_is_never_taken_for_a_value() {
    let (world, ..) = with_batches();
    let bytes = world.disk.read(LOG);
    let mut prefixes = Vec::new();
    for len in 0..=bytes.len() {
        let disk = TestDisk::default();
        disk.put(LOG, bytes[..len].to_vec());
        if let Ok((_, mut shards)) = start(&disk, &world.settings, 1) {
            prefixes.push(listed(&mut shards));
        }
    }
    let mut refused = 0;
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let disk = TestDisk::default();
        disk.put(LOG, changed.clone());
        match start(&disk, &world.settings, 1) {
            Ok((_, mut shards)) => assert!(prefixes.contains(&listed(&mut shards)), "bit {bit}"),
            Err(error) => {
                refused += 1;
                assert_eq!(disk.read(LOG), changed, "a refusal changes nothing");
                let error = error.to_string();
                let names = error.contains(LOG) && error.contains("iii-stream recover --data disk");
                assert!(names || error.contains("newer version"), "{error}");
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_write_refused_at_any_byte_leaves_nothing_and_the_next_one_works() {
    for room in 0.. {
        let (mut world, ..) = with_batches();
        let [a, ..] = keys();
        world.settle();
        let before = world.model.values();
        world.disk.room(Some(room));
        world.change(&a, "i1", Some("\"refused\"".to_owned()));
        world.change(&a, "i9", Some("\"refused\"".to_owned()));
        let fits = world.settle();
        if fits {
            assert!(room > 100);
            return;
        }
        assert_eq!(listed(&mut world.shards), before);
        let (_, mut shards) = start(&world.disk.copy(), &world.settings, 2).unwrap();
        assert_eq!(listed(&mut shards), before, "room for {room}");
        world.disk.room(None);
        world.change(&a, "i1", Some("\"good\"".to_owned()));
        assert!(world.settle());
        assert_eq!(listed(&mut world.shards), world.model.values());
        world.restart(world.disk.copy(), 1);
    }
}

#[test]
fn a_segment_that_cannot_be_cut_back_is_closed_where_the_batch_began() {
    let (mut world, ..) = with_batches();
    let [a, ..] = keys();
    world.settle();
    world.disk.cuts_fail(true);
    world.disk.room(Some(20));
    world.change(&a, "i1", Some("\"refused\"".to_owned()));
    assert!(!world.settle());
    world.disk.room(None);
    world.change(&a, "i1", Some("\"good\"".to_owned()));
    assert!(world.settle());
    let logs = names_with(&world.disk, ".log");
    assert_eq!(logs.len(), 2, "{logs:?}");
    world.restart(world.disk.copy(), 1);
}

#[test]
fn after_a_sync_that_failed_all_is_written_anew() {
    let always = FileStore {
        segment_bytes: 1 << 20,
        ..settings(Fsync::Always)
    };
    let mut world = World::new(TestDisk::default(), always, 1);
    let [a, b, ..] = keys();
    world.change(&a, "kept", Some("1".to_owned()));
    assert!(world.settle());
    world.disk.fail_sync_after(0);
    world.change(&a, "lost", Some("2".to_owned()));
    assert!(!world.settle(), "the batch is refused");
    world.change(&b, "more", Some("3".to_owned()));
    assert!(world.settle());
    let names = world.disk.names();
    assert!(
        names.iter().any(|name| name.ends_with(".snapshot")) && !names.contains(&LOG.to_owned()),
        "{names:?}"
    );
    world.restart(world.disk.after_power_loss(|_| 0), 1);
}

#[test]
fn what_a_dead_disk_may_still_hold_is_not_refused_before_the_log_says_so() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Always), 1);
    let [a, b, ..] = keys();
    world.change(&a, "kept", Some("1".to_owned()));
    assert!(world.settle());
    world.disk.fail_sync_after(0);
    world.disk.cuts_fail(true);
    world.disk.creations_fail(true);
    world.change(&a, "doubtful", Some("2".to_owned()));
    assert!(!world.settle());
    world.change(&b, "behind", Some("3".to_owned()));
    assert!(!world.settle());
    assert_eq!(world.asked.len(), 2, "nobody is told anything");
    assert!(world.files.is_stuck(), "nothing more is handed to it");
    // Killed now, whole batch and all: it is there, and nobody was told that it is not.
    let (_, mut shards) = start(&world.disk.copy(), &world.settings, 1).unwrap();
    assert_eq!(listed(&mut shards)[&a].len(), 2);
    world.disk.creations_fail(false);
    assert!(!world.settle_once(), "both are refused");
    assert!(world.asked.is_empty() && !world.files.is_stuck());
    world.change(&a, "good", Some("4".to_owned()));
    assert!(world.settle());
    world.restart(world.disk.copy(), 1);
    world.restart(world.disk.after_power_loss(|more| more), 1);
}

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

fn names_with(disk: &TestDisk, end: &str) -> Vec<String> {
    let mut names = disk.names();
    names.retain(|name| name.ends_with(end));
    names
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
fn numbers_that_are_never_reached_are_nobodys() {
    let (mut world, ..) = with_batches();
    world.settle();
    let disk = world.disk.copy();
    for name in ["18446744073709551615.log", "18446744073709551615.snapshot"] {
        disk.put(name, world.disk.read(LOG));
    }
    world.restart(disk, 1);
}

#[test]
fn the_end_is_synced_also_where_nothing_more_can_be_written() {
    let (mut world, ..) = with_batches();
    world.settle();
    world.disk.room(Some(0));
    world.files.close();
    world.restart(world.disk.after_power_loss(|_| 0), 1);
}

#[test]
fn a_turn_is_one_write_whatever_it_holds() {
    let (mut world, ..) = with_batches();
    world.settle();
    let before = world.disk.writes();
    for n in 0..50 {
        world.change(&keys()[n % 4], &format!("i{n}"), Some("1".to_owned()));
    }
    world.turn_of_store(50);
    assert_eq!(world.disk.writes(), before + 1);
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
fn times_without_a_write_rise_over_a_kill_when_the_clock_has_stepped_back() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 2);
    let [a, b, ..] = keys();
    for round in 0..20_u64 {
        world.now = 1_000_000 + round * 7;
        for _ in 0..5 {
            world.stamp(&a, true);
            world.stamp(&a, false);
            world.stamp(&b, true);
            world.settle();
        }
        let told = world.model.last_time();
        world.now = 5;
        world.restart(world.disk.copy(), 1 + round as usize % 3);
        world.stamp(&a, true); // the model checks each time
        world.settle();
        let next = world.model.last_time();
        assert!(
            next > told && next <= told + 1000,
            "{next} is far beyond {told}"
        );
    }
}

#[test]
fn an_idle_store_keeps_no_more_times() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 1);
    let [a, ..] = keys();
    world.stamp(&a, true);
    world.settle();
    let writes = world.disk.writes();
    for _ in 0..100 {
        world.now += 1;
        world.stamp(&a, true);
        world.settle();
    }
    assert_eq!(world.disk.writes(), writes, "what was kept lasts");
    for _ in 0..100 {
        world.settle();
    }
    assert_eq!(world.disk.writes(), writes);
}

#[test]
fn times_rise_over_a_restart_when_the_clock_has_stepped_back() {
    let (mut world, ..) = with_batches();
    let [a, ..] = keys();
    world.settle();
    for item in ["i0", "i1", "i2"] {
        world.change(&a, item, None);
    }
    world.settle();
    world.now = 5; // the model checks each accepted time
    world.restart(world.disk.copy(), 1);
    world.change(&a, "i", Some("1".to_owned()));
    world.settle();
    world.files.close();
    world.restart(world.disk.copy(), 2);
    world.now = 5;
    let mut out = Effects::default();
    let (key, call) = (GroupKey::new("s", "another"), Some(CALL));
    let (item, data) = ("i".into(), "1".into());
    let ask = Ask::Set { item, data, call };
    world.shards[0].apply(Command::Group { key, ask }, 5, &mut out);
    let Some(RequestKind::Put { time, .. }) = out.requests.first().map(|request| &request.kind)
    else {
        unreachable!("a set asks for a put")
    };
    assert!(*time > 1_000_000_000_000, "above the time of the close");
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
