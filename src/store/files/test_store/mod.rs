//! The store with real shards on a disk that fails: what was accepted is found again, nothing that
//! was refused is, and order within a group holds, whatever happens when.

use std::collections::{BTreeMap, VecDeque};

mod anew;
mod damage;
mod model;
mod ours;
mod power;
mod refused;
mod small;
mod times;
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

fn names_with(disk: &TestDisk, end: &str) -> Vec<String> {
    let mut names = disk.names();
    names.retain(|name| name.ends_with(end));
    names
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
