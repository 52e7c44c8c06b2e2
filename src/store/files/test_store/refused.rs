//! Batches that a disk cuts off, damages or refuses: nothing of them is there, and the next one works.

use super::*;

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
