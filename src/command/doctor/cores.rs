//! Cores: which this process may use, what a quota leaves of them, and who else uses them.

use super::Start;
use super::finding::{Finding, State};
use super::machine::{Group, Machine};

/// So much of the cores' time that the host has given to others is felt.
const STOLEN_PERCENT: f64 = 2.0;

pub(super) fn look(machine: &Machine, start: &Start) -> Vec<Finding> {
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    let usable: Vec<usize> = usable.into_iter().map(|core| core.id).collect();
    vec![
        threads(machine, start, &usable),
        quota(machine, start),
        siblings(machine, &usable),
        neighbours(machine),
    ]
}

fn threads(machine: &Machine, start: &Start, usable: &[usize]) -> Finding {
    const NAME: &str = "cores";
    let online = machine.text("sys/devices/system/cpu/online");
    let online = online.map(|list| listed(&list).len());
    let of = match online {
        Some(online) if online != usable.len() => format!(" of {online} (affinity)"),
        _ => String::new(),
    };
    let cores = format!("{}{of} usable", usable.len());
    let (workers, described) = match &start.cores {
        Ok((workers, described)) => (*workers, described),
        Err(why) => {
            return Finding::ok(NAME, format!("{cores}; {why}")).with(
                State::Bad,
                "the server does not start",
                "name cores of this process, or leave server.pin out",
            );
        }
    };
    let found = format!("{cores}; {described}");
    let too_many = workers > usable.len();
    let state = match workers >= usable.len() {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(NAME, found).with(
        state,
        match too_many {
            true => "there are more threads than cores: they wait for each other",
            false => "calls, store and subscribers share their cores: each waits for the others",
        },
        match usable.len() {
            0 | 1 => "two cores at least; with one the server works, and answers later",
            _ => "leave server.threads out: it is the cores less one",
        },
    )
}

/// Of all groups above us the least counts.
fn quota(machine: &Machine, start: &Start) -> Finding {
    const NAME: &str = "quota";
    let files = machine.group_files(Group::Cpu, "cpu.max", "cpu.cfs_quota_us");
    let quotas = files.iter().filter_map(|text| cores_of_quota(text));
    let Some(cores) = quotas.reduce(f64::min) else {
        return Finding::ok(NAME, "none");
    };
    let stats = machine.group_files(Group::Cpu, "cpu.stat", "cpu.stat");
    let throttled = stats.first().and_then(|text| {
        let mut lines = text.lines();
        lines.find_map(|line| {
            line.strip_prefix("nr_throttled ")?
                .trim()
                .parse::<u64>()
                .ok()
        })
    });
    let throttled = throttled.unwrap_or(0);
    let stopped = match throttled {
        0 => String::new(),
        periods => format!("; used up in {periods} periods"),
    };
    let found = format!("{cores:.2} cores{stopped}");
    let workers = start.cores.as_ref().map_or(1, |(workers, _)| *workers);
    let means = "when the quota of a period is used up, all threads stand still until the next, up to 100 ms";
    let state = match throttled > 0 || cores < workers as f64 + 0.5 {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(NAME, found).with(
        state,
        means,
        "give whole cores in place of a quota (cpuset, --cpuset-cpus, static CPU manager), or a larger one",
    )
}

/// `150000 100000`, and the older form, whose period is nearly always the default. None: no limit.
fn cores_of_quota(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words
        .next()
        .map_or(Some(100_000.0), |word| word.parse().ok())?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Two threads of one core share what it can do.
fn siblings(machine: &Machine, usable: &[usize]) -> Finding {
    const NAME: &str = "shared cores";
    let mut pairs: Vec<Vec<usize>> = Vec::new();
    for core in usable {
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let Some(list) = machine.text(&path) else {
            return Finding::unknown(NAME, format!("/{path} cannot be read"));
        };
        let mut shared = listed(&list);
        shared.retain(|sibling| usable.contains(sibling));
        if shared.len() > 1 && !pairs.contains(&shared) {
            pairs.push(shared);
        }
    }
    match pairs.len() {
        0 => Finding::ok(NAME, "none: each is a core of its own"),
        pairs => Finding::ok(
            NAME,
            format!("{pairs} cores show as two or more (hyper-threading)"),
        )
        .with(
            State::Warning,
            "two threads on one core do the work of about 1.3",
            "for even latencies name one of each in server.pin (lscpu -e shows them)",
        ),
    }
}

/// The time that a host has taken for others, since it started.
fn neighbours(machine: &Machine) -> Finding {
    const NAME: &str = "stolen time";
    let stat = machine.text("proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let times: Vec<f64> = line
        .unwrap_or_default()
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let (Some(stolen), [user, nice, system, ..]) = (times.get(7), &times[..]) else {
        return Finding::unknown(NAME, "/proc/stat cannot be read");
    };
    let wanted = user + nice + system + stolen;
    let percent = match wanted > 0.0 {
        true => stolen / wanted * 100.0,
        false => 0.0,
    };
    let state = match percent >= STOLEN_PERCENT {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(NAME, format!("{percent:.1} % of the time that was wanted")).with(
        state,
        "other machines on this host take the cores away, for milliseconds at a time",
        "a machine with cores of its own (dedicated, not burstable)",
    )
}

/// `0-3,8`.
fn listed(list: &str) -> Vec<usize> {
    let parts = list.trim().split(',');
    parts
        .flat_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) => first..last.saturating_add(1),
                _ => 0..0,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::machine::Tree;
    use super::*;

    fn start(workers: usize) -> Start {
        Start {
            wanted: 0,
            open_files: None,
            cores: Ok((workers, "as said".to_owned())),
            certificates: Ok(Vec::new()),
            writes: Ok(String::new()),
        }
    }

    #[test]
    fn the_least_quota_counts_and_whether_it_was_used_up() {
        let found = |ours: &str, above: &str, stat: &str| {
            let tree = Tree::with(&[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/b/cpu.max", ours),
                ("sys/fs/cgroup/a/cpu.max", above),
                ("sys/fs/cgroup/a/b/cpu.stat", stat),
            ]);
            let finding = quota(&tree.machine(), &start(1));
            (finding.state, finding.found)
        };
        let ok = |text: &str| (State::Ok, text.to_owned());
        let warning = |text: &str| (State::Warning, text.to_owned());
        assert_eq!(found("max 100000", "max 100000", ""), ok("none"));
        assert_eq!(found("max 100000", "400000 100000", ""), ok("4.00 cores"));
        assert_eq!(
            found("50000 100000", "400000 100000", ""),
            warning("0.50 cores")
        );
        let stat = "usage_usec 5\nnr_throttled 7\n";
        let used_up = warning("4.00 cores; used up in 7 periods");
        assert_eq!(found("400000 100000", "max 100000", stat), used_up);
    }

    #[test]
    fn threads_that_share_cores_are_told_and_a_pin_that_fails_is_bad() {
        let tree = Tree::with(&[("sys/devices/system/cpu/online", "0-3\n")]);
        let of = |workers, usable: &[usize]| threads(&tree.machine(), &start(workers), usable);
        assert_eq!(of(3, &[0, 1, 2, 3]).state, State::Ok);
        assert_eq!(of(4, &[0, 1, 2, 3]).state, State::Warning);
        assert_eq!(of(1, &[2]).found, "1 of 4 (affinity) usable; as said");
        let failed = Start {
            cores: Err("server.pin: core 9 is not there".to_owned()),
            ..start(1)
        };
        assert_eq!(threads(&tree.machine(), &failed, &[0, 1]).state, State::Bad);
    }

    #[test]
    fn siblings_and_stolen_time_are_told() {
        let sibling = "sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
        let other = "sys/devices/system/cpu/cpu2/topology/thread_siblings_list";
        let tree = Tree::with(&[
            (sibling, "0,2\n"),
            (other, "0,2\n"),
            ("proc/stat", "cpu  50 0 40 900 0 0 0 10 0 0\n"),
        ]);
        assert_eq!(siblings(&tree.machine(), &[0, 2]).state, State::Warning);
        assert_eq!(siblings(&tree.machine(), &[0]).state, State::Ok);
        assert_eq!(siblings(&tree.machine(), &[7]).state, State::Unknown);
        let stolen = neighbours(&tree.machine());
        assert_eq!(stolen.found, "10.0 % of the time that was wanted");
        assert_eq!(stolen.state, State::Warning);
    }
}
