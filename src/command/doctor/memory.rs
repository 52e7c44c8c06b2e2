//! Memory: what this process may have, and what the limits allow to be held.

use iii_stream::config::Config;

use super::finding::{Finding, State};
use super::machine::{Group, Machine};

/// How much what waits for all SDK workers together may exceed `limits.call_queue_bytes`.
const CALL_QUEUES: u64 = 8;

pub(super) fn look(machine: &Machine, config: &Config, workers: usize) -> Vec<Finding> {
    vec![room(machine, config, workers), killed(machine)]
}

fn room(machine: &Machine, config: &Config, workers: usize) -> Finding {
    const NAME: &str = "memory";
    let all = machine.meminfo("MemTotal:");
    let free = machine.meminfo("MemAvailable:");
    let (Some(all), Some(free)) = (all, free) else {
        return Finding::unknown(NAME, "/proc/meminfo cannot be read");
    };
    // A group without a limit has one beyond all that there is, in the first version.
    let limit = machine.memory_of_group().filter(|limit| *limit < all);
    let most = limit.unwrap_or(all);
    let allowed = allowed(config, workers);
    let mib = |bytes: u64| bytes >> 20;
    let found = match limit {
        Some(limit) => format!("{} MiB (control group)", mib(limit)),
        None => format!("{} MiB, {} MiB of it available", mib(all), mib(free)),
    };
    let found = format!(
        "{found}; beside the values the limits allow {} MiB",
        mib(allowed)
    );
    let state = match allowed > most / 4 * 3 {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(NAME, found).with(
        state,
        "many slow readers, or one flood of calls, could end the process: the kernel kills what needs too much",
        "lower limits.behind_bytes_worker and limits.call_queue_bytes, or give it more memory",
    )
}

/// What peers can make the server hold, of what has a bound.
fn allowed(config: &Config, workers: usize) -> u64 {
    let limits = &config.limits;
    let behind = (limits.behind_bytes_worker as u64).saturating_mul(workers as u64);
    let calls = (limits.call_queue_bytes as u64).saturating_mul(CALL_QUEUES);
    let handshakes = limits.handshakes_bytes as u64 * 2;
    behind.saturating_add(calls).saturating_add(handshakes)
}

/// Of our control group, for no other's counts are ours to read.
fn killed(machine: &Machine) -> Finding {
    const NAME: &str = "killed for memory";
    let files = machine.group_files(Group::Memory, "memory.events", "memory.oom_control");
    let Some(text) = files.first() else {
        return Finding::unknown(NAME, "no control group counts it");
    };
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
    match count.unwrap_or(0) {
        0 => Finding::ok(NAME, "never in this control group"),
        count => Finding::ok(NAME, format!("{count} times in this control group")).with(
            State::Warning,
            "something here, not necessarily the server, was killed because memory ran out",
            "dmesg says which; raise the limit of the group",
        ),
    }
}

/// In bytes.
#[cfg(test)]
mod tests {
    use super::super::machine::Tree;
    use super::*;

    #[test]
    fn the_limit_of_the_group_counts_and_not_that_of_the_machine() {
        let found = |limit: &str| {
            let tree = Tree::with(&[
                ("proc/self/cgroup", "0::/a\n"),
                (
                    "proc/meminfo",
                    "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n",
                ),
                ("sys/fs/cgroup/a/memory.max", limit),
                ("sys/fs/cgroup/a/memory.events", "oom 1\noom_kill 2\n"),
            ]);
            let findings = look(&tree.machine(), &Config::default(), 1);
            assert_eq!(findings[1].state, State::Warning);
            findings[0].clone()
        };
        let free = found("max\n");
        assert_eq!(free.state, State::Ok);
        assert!(
            free.found
                .starts_with("16384 MiB, 8192 MiB of it available;"),
            "{free:?}"
        );
        let small = found("536870912\n");
        assert_eq!(small.state, State::Warning);
        assert!(
            small.found.starts_with("512 MiB (control group);"),
            "{small:?}"
        );
    }
}
