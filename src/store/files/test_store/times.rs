//! Times over a restart, also when the clock has stepped back.

use super::*;

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
    let ask = Ask::Set {
        item,
        data,
        ttl: None,
        call,
    };
    world.shards[0].apply(Command::Group { key, ask }, 5, &mut out);
    let Some(RequestKind::Put { time, .. }) = out.requests.first().map(|request| &request.kind)
    else {
        unreachable!("a set asks for a put")
    };
    assert!(*time > 1_000_000_000_000, "above the time of the close");
}
