//! A disk that is small for what is kept on it.

use super::*;

const VALUE_BYTES: usize = 2000;
const ITEMS: usize = 60;

fn set(world: &mut World, n: usize) -> bool {
    let value = format!("\"{n} {}\"", "x".repeat(VALUE_BYTES));
    world.change(&keys()[n % 4], &format!("i{}", n % ITEMS), Some(value));
    world.settle()
}

/// With all its items written once, on a disk of so many hundredths of them.
fn on_disk_of(percent: usize) -> World {
    let disk = TestDisk::default();
    disk.capacity(ITEMS * VALUE_BYTES * percent / 100);
    let settings = FileStore {
        segment_bytes: 1 << 14,
        ..settings(Fsync::Interval)
    };
    World::new(disk, settings, 1)
}

#[test]
fn on_a_disk_of_little_more_than_twice_the_data_writes_come_back_by_themselves() {
    for percent in [250, 280, 300, 330, 400] {
        let mut world = on_disk_of(percent);
        let mut refused_in_row = 0;
        let mut accepted = 0;
        for n in 0..ITEMS * 12 {
            refused_in_row = match set(&mut world, n) {
                true => {
                    accepted += 1;
                    0
                }
                false => refused_in_row + 1,
            };
            assert!(refused_in_row < 3, "{percent} %: {n}");
        }
        assert!(accepted > ITEMS * 9, "{percent} %: {accepted}");
        world.restart(world.disk.copy(), 1);
    }
}

#[test]
fn on_a_disk_that_is_too_small_removals_are_accepted_and_make_room() {
    let mut world = on_disk_of(170);
    let mut n = 0;
    while n < ITEMS || set(&mut world, n) {
        set(&mut world, n);
        n += 1;
        assert!(n < 1000, "it has to be full");
    }
    for item in 0..ITEMS / 2 {
        world.change(&keys()[item % 4], &format!("i{item}"), None);
        assert!(world.settle(), "a removal is accepted");
    }
    world.files.no_snapshot_before = None;
    set(&mut world, ITEMS - 1);
    world.settle();
    for n in 0..ITEMS {
        let place = ITEMS / 2 + n % (ITEMS / 2);
        let first = set(&mut world, place);
        assert!(first || set(&mut world, place), "{n}");
    }
    world.restart(world.disk.copy(), 1);
}
