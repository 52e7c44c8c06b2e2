//! Whose a directory and its files are: moved directories, a second server, backups put in their place.

use super::head::{FileKind, Head};
use super::test_disk::TestPath;
use super::*;

/// Everything in a directory.
pub(super) fn content(disk: &TestDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.names().into_iter();
    names.map(|name| (name.clone(), disk.read(&name))).collect()
}

/// A server on a directory to which a path leads, with something in it.
fn at_path(segment_bytes: usize) -> (TestPath, World) {
    let settings = FileStore {
        segment_bytes,
        ..settings(Fsync::Interval)
    };
    let (path, mut disk) = (TestPath::default(), TestDisk::default());
    path.leads_to(&disk);
    disk.lock().unwrap();
    let owner = disk.clone();
    let mut world = World::new_locked(disk, owner, settings);
    write(&mut world, 0..3);
    (path, world)
}

fn write(world: &mut World, values: std::ops::Range<u32>) -> bool {
    let mut all_accepted = true;
    for value in values {
        for key in keys() {
            world.change(&key, "i", Some(value.to_string()));
            all_accepted &= world.settle();
        }
    }
    all_accepted
}

/// A server writes only after it has looked.
fn looks(world: &mut World) {
    world.files.watch = Watch::default();
}

#[test]
fn a_server_whose_directory_was_moved_makes_nothing_in_the_one_of_another_server() {
    let (path, mut first) = at_path(700);
    let mut other = TestDisk::default();
    path.leads_to(&other);
    other.lock().unwrap();
    let second = other.clone();
    let mut second = World::new_locked(other, second, settings(Fsync::Interval));
    write(&mut second, 0..40);
    // What it has not noticed yet goes to its own directory, segments and snapshots included.
    let before = content(&second.disk);
    first.files.looks_no_more();
    first.files.no_snapshot_before = Some(Instant::now() + Duration::from_secs(3600));
    assert!(write(&mut first, 3..30));
    first.files.log.roll(&mut first.files.disk).unwrap();
    looks(&mut first);
    assert!(!write(&mut first, 3..4), "refused");
    looks(&mut first);
    let refused = first.files.hold().unwrap_err().to_string();
    assert!(refused.contains("another directory is there"), "{refused}");
    first.files.is_to_write_anew = true;
    first.settle();
    first.files.close();
    assert_eq!(content(&second.disk), before);
    // Both have what they accepted.
    let disk = first.disk.copy();
    first.restart(disk, 1);
    let disk = second.disk.copy();
    second.restart(disk, 1);
}

#[test]
fn a_directory_that_is_moved_back_is_gone_on_with() {
    let (path, mut world) = at_path(700);
    let disk = world.disk.clone();
    path.leads_nowhere();
    looks(&mut world);
    assert!(!write(&mut world, 3..4));
    path.leads_to(&disk);
    looks(&mut world);
    assert!(write(&mut world, 4..50));
    world.files.close();
    world.restart(world.disk.copy(), 1);
}

#[test]
fn an_empty_directory_in_its_place_is_taken_and_all_is_written_to_it() {
    let (path, mut world) = at_path(700);
    let other = TestDisk::default();
    path.leads_to(&other);
    looks(&mut world);
    write(&mut world, 3..5);
    world.settle_once();
    assert!(world.settle());
    let store = world.files.store;
    assert_eq!(identity::read(&other).unwrap(), Some(store));
    other.clone().lock().unwrap_err();
    world.restart(other.copy(), 1);
}

/// By any way that people restore backups.
#[test]
fn a_backup_in_its_place_is_never_touched_and_writes_wait_for_somebody_to_decide() {
    let ways = [
        "directory",
        "files",
        "in place",
        "another store",
        "files of another user",
    ];
    for way in ways {
        let (path, mut world) = at_path(1 << 20);
        let backup = world.disk.copy();
        let backup = match way {
            "another store" => {
                let (_, other) = at_path(1 << 20);
                other.disk.copy()
            }
            _ => backup,
        };
        write(&mut world, 3..9);
        let disk = world.disk.clone();
        let own = content(&disk);
        let place = match way {
            "directory" => {
                path.leads_to(&backup);
                backup.clone()
            }
            "in place" => {
                for name in names_with(&disk, ".log").iter().skip(1) {
                    disk.unlocked(|disk| disk.remove(name)).unwrap();
                }
                let len = backup.read(LOG).len() as u64;
                disk.clone().reopen(LOG).unwrap().cut(len).unwrap();
                disk.clone()
            }
            _ => {
                for name in own.keys() {
                    disk.unlocked(|disk| disk.remove(name)).unwrap();
                }
                for (name, bytes) in content(&backup) {
                    disk.put(&name, bytes);
                }
                disk.clone()
            }
        };
        if way == "files of another user" {
            place.unreadable(place.names());
        }
        let before = content(&place);
        looks(&mut world);
        for _ in 0..3 {
            assert!(!write(&mut world, 9..10), "{way}: refused");
            looks(&mut world);
        }
        world.files.is_to_write_anew = true;
        world.files.check_at = Some(Instant::now());
        world.settle();
        world.files.close();
        assert_eq!(content(&place), before, "{way}");
        place.unreadable(Vec::new());
        let (_, shards) = start(&place.copy(), &world.settings, 1).unwrap();
        assert!(!shards.is_empty());
        // Somebody decides for what the server has.
        match way {
            "directory" => path.leads_to(&disk),
            _ => {
                for name in disk.names() {
                    disk.unlocked(|disk| disk.remove(&name)).unwrap();
                }
            }
        }
        looks(&mut world);
        world.files.check_at = Some(Instant::now());
        write(&mut world, 10..11);
        world.settle_once();
        world.settle();
        assert!(write(&mut world, 11..12), "{way}: accepted again");
        world.settle();
        world.restart(world.disk.copy(), 1);
    }
}

/// As the version before has written it: no file says a store.
pub(super) fn without_store(disk: &TestDisk) -> TestDisk {
    let old = TestDisk::default();
    for (name, bytes) in content(disk) {
        let kind = match &name {
            name if name.ends_with(".log") => FileKind::Log,
            name if name.ends_with(".snapshot") => FileKind::Snapshot,
            _ => continue,
        };
        let Ok(head) = Head::decode(kind, &bytes) else {
            continue;
        };
        let mut before = head.before;
        if let Some(before) = before.as_mut().filter(|before| before.bytes > 0) {
            before.bytes -= identity::StoreId::BYTES as u64;
        }
        let without = Head {
            before,
            store: None,
            ..head
        };
        let rest = bytes[head.bytes() as usize..].to_vec();
        old.put(&name, [without.encode(kind), rest].concat());
    }
    old
}

#[test]
fn a_directory_of_the_version_before_is_gone_on_with_as_a_store_from_now_on() {
    for with_snapshot in [false, true] {
        let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 1);
        write(&mut world, 0..if with_snapshot { 30 } else { 3 });
        world.restart(without_store(&world.disk), 1);
        let store = world.files.store;
        assert_eq!(identity::read(&world.disk).unwrap(), Some(store));
        write(&mut world, 30..33);
        world.restart(world.disk.copy(), 1);
        assert_eq!(world.files.store, store);
        write(&mut world, 33..66);
        // The file alone is missing.
        world.disk.remove(identity::NAME).unwrap();
        world.restart(world.disk.copy(), 1);
        assert_eq!(world.files.store, store);
        // While it serves as well.
        world.disk.remove(identity::NAME).unwrap();
        world.files.check_at = Some(Instant::now());
        world.settle();
        assert_eq!(identity::read(&world.disk).unwrap(), Some(store));
    }
}

#[test]
fn a_start_touches_no_file_of_another_store() {
    let mut own = World::new(TestDisk::default(), settings(Fsync::Interval), 1);
    write(&mut own, 0..30);
    let mut other = World::new(TestDisk::default(), settings(Fsync::Interval), 1);
    write(&mut other, 0..70);
    let mut expected = own.model.values();
    let foreign = names_with(&other.disk, ".log").pop().unwrap();
    for is_identity_there in [true, false] {
        let mut disk = own.disk.copy();
        disk.put(&foreign, other.disk.read(&foreign));
        if !is_identity_there {
            disk.remove(identity::NAME).unwrap();
        }
        let before = content(&disk);
        let refused = start(&disk, &own.settings, 1).err().unwrap();
        assert!(matches!(refused, StoreError::Stranger { .. }), "{refused}");
        assert_eq!(content(&disk), before);
        let report = recover::recover_on(&mut disk, true).unwrap();
        assert_eq!(report.strangers, std::slice::from_ref(&foreign));
        assert_eq!(disk.read(&format!("{foreign}.other")), before[&foreign]);
        let (_, mut shards) = start(&disk, &own.settings, 1).unwrap();
        expected.retain(|_, items| !items.is_empty());
        assert_eq!(listed(&mut shards), expected);
    }
    // All files of another, where the directory says that it is this one's.
    let mut disk = other.disk.copy();
    disk.put(identity::NAME, own.disk.read(identity::NAME));
    let before = content(&disk);
    assert!(start(&disk, &own.settings, 1).is_err());
    assert_eq!(content(&disk), before);
    disk.remove(identity::NAME).unwrap();
    other.restart(disk, 1);
}
