//! Losses of power, and what only looks like one.

use super::head::HEAD_BYTES;
use super::*;

/// A log of which 3 writes are synced and 40 are not, in a file of many blocks. The last is of a batch
/// of its own.
fn with_unsynced(fsync: Fsync) -> World {
    let settings = FileStore {
        save_interval: Duration::from_secs(3600),
        segment_bytes: 1 << 20,
        ..settings(fsync)
    };
    let mut world = World::new(TestDisk::default(), settings, 1);
    let [a, ..] = keys();
    let change = |world: &mut World, n: usize| {
        let value = format!("\"{}\"", "x".repeat(60 + n));
        world.change(&a, &format!("i{n}"), Some(value));
    };
    for n in 0..3 {
        change(&mut world, n);
    }
    world.settle();
    world.files.log.sync(&world.disk).unwrap();
    for n in 3..43 {
        change(&mut world, n);
        if n % 8 == 0 || n > 40 {
            world.turn_of_store(99);
        }
    }
    world
}

fn items_of(shards: &mut [Shard]) -> usize {
    listed(shards).values().map(Vec::len).sum()
}

#[test]
fn a_log_whose_last_blocks_were_written_in_another_order_is_cut_where_the_first_is_missing() {
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let world = with_unsynced(Fsync::Interval);
        let lost = world.disk.after_blocks_lost(|| random.random_bool(0.7));
        let (_, mut shards) = start(&lost, &world.settings, 1).unwrap();
        let items = listed(&mut shards);
        let [a, ..] = keys();
        assert!(items[&a].len() >= 3, "what was synced is there");
        assert!(world.model.states[&a].contains(&items[&a]));
    }
}

#[test]
fn a_block_that_was_synced_and_is_gone_is_damage() {
    let mut world = with_unsynced(Fsync::Interval);
    let [a, ..] = keys();
    world.files.log.sync(&world.disk).unwrap();
    let name = names_with(&world.disk, ".log").pop().unwrap();
    let mut bytes = world.disk.read(&name);
    bytes[1024..1536].fill(0);
    // Nothing says yet that it was synced.
    let unsaid = TestDisk::default();
    unsaid.has_lost_power();
    unsaid.put(&name, bytes.clone());
    let (_, mut shards) = start(&unsaid, &world.settings, 1).unwrap();
    assert!(items_of(&mut shards) < 43);
    world.change(&a, "i", Some("1".to_owned()));
    world.turn_of_store(9);
    let behind = world.disk.read(&name).split_off(bytes.len());
    bytes.extend(behind);
    let said = TestDisk::default();
    said.has_lost_power();
    said.put(&name, bytes.clone());
    let refused = start(&said, &world.settings, 1).err().unwrap();
    assert!(
        matches!(&refused, StoreError::Damaged { offset, .. } if *offset < 1536),
        "{refused}"
    );
    // A block that is there and wrong is no block that was not written.
    let wrong = TestDisk::default();
    wrong.has_lost_power();
    bytes[1024..1536].fill(b'x');
    wrong.put(&name, bytes);
    let refused = start(&wrong, &world.settings, 1).err().unwrap();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

/// Starts on a disk with just that file, after a loss of power or not.
fn start_on(
    name: &str,
    bytes: Vec<u8>,
    world: &World,
    has_lost_power: bool,
) -> Result<usize, StoreError> {
    let disk = TestDisk::default();
    disk.put(name, bytes);
    if has_lost_power {
        disk.has_lost_power();
    }
    start(&disk, &world.settings, 1).map(|(_, mut shards)| items_of(&mut shards))
}

#[test]
fn a_block_of_zeros_is_damage_where_the_machine_has_been_up_all_the_time() {
    let world = with_unsynced(Fsync::Interval);
    let name = names_with(&world.disk, ".log").pop().unwrap();
    let mut bytes = world.disk.read(&name);
    bytes[1024..1536].fill(0);
    let refused = start_on(&name, bytes.clone(), &world, false).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(start_on(&name, bytes, &world, true).unwrap() < 43);
}

#[test]
fn after_a_clean_stop_a_block_of_zeros_is_damage_whatever_came_between() {
    for fsync in [Fsync::Always, Fsync::Interval, Fsync::Never] {
        let mut world = with_unsynced(fsync);
        world.files.close();
        let name = names_with(&world.disk, ".log").pop().unwrap();
        let bytes = world.disk.read(&name);
        for sector in 1..bytes.len() / 512 {
            let mut bytes = bytes.clone();
            bytes[sector * 512..(sector + 1) * 512].fill(0);
            let refused = start_on(&name, bytes, &world, true).unwrap_err();
            assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        }
    }
}

#[test]
fn names_of_zeros_are_no_blocks_that_were_not_written() {
    let mut world = with_unsynced(Fsync::Interval);
    let [_, b, ..] = keys();
    let name = |n: usize| format!("{n}{}", "\0".repeat(600));
    for n in 0..20 {
        world.change(&b, &name(n), Some(n.to_string()));
        world.turn_of_store(9);
    }
    let file = names_with(&world.disk, ".log").pop().unwrap();
    let mut bytes = world.disk.read(&file);
    let (_, mut shards) = start(&world.disk, &world.settings, 1).unwrap();
    let found = &listed(&mut shards)[&b];
    assert!((0..20).all(|n| found[n] == (name(n), n.to_string())));
    bytes[HEAD_BYTES + 30] ^= 1;
    let refused = start_on(&file, bytes, &world, true).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

/// A whole record in bytes that are UTF-8 as well.
fn record_as_name() -> String {
    let as_text = |n: u64| {
        let mut out = Vec::new();
        let low = std::array::from_fn(|at| 0x20 + ((n >> (6 * at)) & 63) as u8);
        record::synced(
            &mut out,
            0x20_2020_2020_2020,
            u64::from_le_bytes(low),
            false,
        );
        String::from_utf8(out).ok()
    };
    (0..1 << 24).find_map(as_text).unwrap()
}

#[test]
fn a_name_that_holds_a_record_is_a_name() {
    let mut world = with_unsynced(Fsync::Interval);
    world.files.log.sync(&world.disk).unwrap();
    let [_, b, ..] = keys();
    let name = format!("{}{}", "x".repeat(600), record_as_name());
    for n in 0..3 {
        world.change(&b, &format!("{name}{n}"), Some("1".to_owned()));
        world.turn_of_store(9);
    }
    let mut blocks = 0;
    let lost = world.disk.after_blocks_lost(|| {
        blocks += 1;
        blocks != 1
    });
    let (_, mut shards) = start(&lost, &world.settings, 1).unwrap();
    assert_eq!(
        items_of(&mut shards),
        43,
        "what was synced, and nothing else"
    );
}

#[test]
fn with_other_damage_beside_it_everything_whole_is_salvaged() {
    let world = with_unsynced(Fsync::Never);
    let name = names_with(&world.disk, ".log").pop().unwrap();
    let mut bytes = world.disk.read(&name);
    bytes[HEAD_BYTES + 60] ^= 1;
    bytes[1024..1536].fill(0);
    let disk = TestDisk::default();
    disk.put(&name, bytes);
    disk.has_lost_power();
    let (mut losses, mut restored) = (Vec::new(), 0);
    let damage = load::Damage::IsNoted(&mut losses);
    let loaded = load::load(&disk, &mut |_| restored += 1, damage).unwrap();
    assert!(loaded.torn.is_none() && losses.len() == 2, "{losses:?}");
    assert!(restored > 30, "{restored}");
}

/// Accepts so many large writes, syncs nothing, and is killed.
fn killed_with(fsync: Fsync, writes: usize) -> World {
    let mut world = World::new(TestDisk::default(), settings(fsync), 1);
    let [a, ..] = keys();
    for n in 0..writes {
        let value = format!("\"{}\"", "x".repeat(200));
        world.change(&a, &format!("i{n}"), Some(value));
        let Some(ToStore::Requests(requests)) = world.to_store.pop_front() else {
            unreachable!("a change is asked of the store");
        };
        let mut learned = Vec::new();
        world.files.serve(requests, &mut learned);
        assert_eq!(learned.len(), 1, "accepted");
    }
    // As if the kernel had written the directory already.
    world.disk.names_syncer()().unwrap();
    world
}

#[test]
fn what_a_killed_process_had_not_synced_is_synced_by_the_next_start() {
    let rows = [
        (Fsync::Interval, Fsync::Interval),
        (Fsync::Interval, Fsync::Always),
        (Fsync::Never, Fsync::Always),
    ];
    for (before, after) in rows {
        let mut world = killed_with(before, 10);
        world.settings = settings(after);
        let (files, shards) = start(&world.disk, &world.settings, 1).unwrap();
        world.go_on(world.disk.clone(), files, shards);
        let lost = world.disk.after_power_loss(|_| 0);
        let (_, mut shards) = start(&lost, &world.settings, 1).unwrap();
        assert_eq!(items_of(&mut shards), 10, "{before:?} {after:?}");
    }
}
