//! The clock: what it is read from, how long that takes, and whether it steps.

use std::time::{Duration, Instant, SystemTime};

use super::finding::{Finding, State};
use super::machine::Machine;

/// Sources that a read reaches without the kernel.
const FAST: [&str; 7] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "xen",
    "arch_sys_counter",
    "riscv_clocksource",
    "stp",
];
/// A read that takes longer goes through the kernel, or a device.
const READ_SLOW: Duration = Duration::from_nanos(300);
const READS: u32 = 20_000;
/// How long it is watched at least.
const WATCHED: Duration = Duration::from_millis(300);
/// Both clocks drift apart by less, where nobody sets one.
const STEP: Duration = Duration::from_millis(5);

/// Both clocks as they were when it began.
pub(super) struct Clock {
    monotonic: Instant,
    wall: SystemTime,
}

impl Clock {
    pub(super) fn begin() -> Clock {
        Clock {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    pub(super) fn look(&self, machine: &Machine) -> Vec<Finding> {
        let began = Instant::now();
        for _ in 0..READS {
            std::hint::black_box(Instant::now());
        }
        let read = began.elapsed() / READS;
        std::thread::sleep(WATCHED.saturating_sub(self.monotonic.elapsed()));
        let by_monotonic = self.monotonic.elapsed();
        let by_wall = self.wall.elapsed().map_err(|error| error.duration());
        vec![source(machine, read), steps(machine, by_monotonic, by_wall)]
    }
}

fn source(machine: &Machine, read: Duration) -> Finding {
    const NAME: &str = "clock source";
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = machine.text(path);
    let source = source.as_deref().map_or("not told", str::trim);
    let found = format!("{source}, {} ns a read", read.as_nanos());
    let state = match FAST.contains(&source) || read < READ_SLOW {
        true => State::Ok,
        false => State::Warning,
    };
    Finding::ok(NAME, found).with(
        state,
        "each turn of each thread reads it: a slow one costs throughput",
        "where the machine has it: echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
    )
}

/// `by_wall` is an error where the clock has gone back, by so much.
fn steps(
    machine: &Machine,
    by_monotonic: Duration,
    by_wall: Result<Duration, Duration>,
) -> Finding {
    const NAME: &str = "clock steps";
    let step = match by_wall {
        Ok(by_wall) => by_wall.abs_diff(by_monotonic),
        Err(back) => back + by_monotonic,
    };
    let watched = format!("watched for {} ms", by_monotonic.as_millis());
    if step >= STEP {
        return Finding::ok(NAME, format!("{} ms, {watched}", step.as_millis())).with(
            State::Warning,
            "timestamps are never told back, but they run ahead of a clock that has gone back",
            "one time service that slews (chrony, systemd-timesyncd), and none that sets the clock by hand",
        );
    }
    // By systemd; others keep no such file.
    let is_kept = machine.text("run/systemd/timesync/synchronized").is_some();
    let kept = match is_kept {
        true => "; kept right by systemd-timesyncd",
        false => "",
    };
    Finding::ok(NAME, format!("none, {watched}{kept}"))
}

#[cfg(test)]
mod tests {
    use super::super::machine::Tree;
    use super::*;

    #[test]
    fn a_slow_source_and_a_step_in_either_direction_are_told() {
        let tree = Tree::with(&[(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
        )]);
        let slow = source(&tree.machine(), Duration::from_nanos(900));
        assert_eq!(
            (slow.state, &*slow.found),
            (State::Warning, "hpet, 900 ns a read")
        );
        let quick = source(&tree.machine(), Duration::from_nanos(40));
        assert_eq!(quick.state, State::Ok);
        let ms = Duration::from_millis;
        let state = |wall| steps(&tree.machine(), ms(100), wall).state;
        assert_eq!(state(Ok(ms(101))), State::Ok);
        assert_eq!(state(Ok(ms(2000))), State::Warning);
        assert_eq!(state(Ok(ms(1))), State::Warning);
        assert_eq!(state(Err(ms(50))), State::Warning);
    }
}
