//! Ports, the queue of connections that nobody has taken yet, and what TCP may keep in memory.

use iii_stream::config::{BACKLOG_LEN, Config};

use super::finding::{Finding, State};
use super::machine::Machine;

/// A queue shorter than this is full in the moment in which all subscribers come back.
const BACKLOG_FEW: u64 = 1024;
/// A subscriber that is a little behind has about so much in the kernel.
const TCP_BYTES_A_SUBSCRIBER: u64 = 4096;

pub(super) fn look(machine: &Machine, config: &Config) -> Vec<Finding> {
    let mut findings = vec![backlog(machine, config), drops(machine)];
    findings.extend(ports(machine, config));
    findings.push(tcp_memory(machine, config));
    findings
}

fn backlog(machine: &Machine, config: &Config) -> Finding {
    const NAME: &str = "backlog";
    let Some(most) = machine.number("proc/sys/net/core/somaxconn") else {
        return Finding::unknown(NAME, "net.core.somaxconn cannot be read");
    };
    let asked = u64::from(config.backlog.unwrap_or(BACKLOG_LEN));
    let found = format!("{} (net.core.somaxconn {most})", asked.min(most));
    let is_cut = config.backlog.is_some() && asked > most;
    let state = match is_cut || asked.min(most) < BACKLOG_FEW {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(NAME, found).with(
        state,
        "when many subscribers come at once, the kernel drops what finds the queue full, and they try again after seconds",
        match asked.min(most) == most {
            true => format!("sysctl -w net.core.somaxconn={asked}, and the same in /etc/sysctl.d"),
            false => "raise server.backlog".to_owned(),
        },
    )
}

fn drops(machine: &Machine) -> Finding {
    const NAME: &str = "lost connections";
    let counter = |name| machine.counter("proc/net/netstat", "TcpExt:", name);
    let (Some(overflows), Some(drops)) = (counter("ListenOverflows"), counter("ListenDrops"))
    else {
        return Finding::unknown(NAME, "/proc/net/netstat cannot be read");
    };
    let found = format!(
        "{drops} since this machine, or container, has started; {overflows} of them found a full queue"
    );
    let state = match overflows {
        0 => State::Ok,
        _ => State::Warning,
    };
    Finding::ok(NAME, found).with(
        state,
        "some port here, not necessarily ours, did not take connections as fast as they came",
        "see whether the number grows; raise net.core.somaxconn, or give the server more cores",
    )
}

/// The ports that we listen on.
fn ports_of(config: &Config) -> Vec<u16> {
    let workers = config.worker_listeners.iter();
    let workers = workers
        .filter(|_| config.engine.is_none())
        .map(|listener| listener.endpoint.port);
    let mut ports: Vec<u16> = workers.chain([config.stream.port]).collect();
    ports.retain(|port| *port != 0);
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn ports(machine: &Machine, config: &Config) -> Vec<Finding> {
    const NAME: &str = "ports";
    let range = machine.numbers("proc/sys/net/ipv4/ip_local_port_range");
    let [first, last] = range[..] else {
        return vec![Finding::unknown(
            NAME,
            "net.ipv4.ip_local_port_range cannot be read",
        )];
    };
    let reserved = machine.text("proc/sys/net/ipv4/ip_local_reserved_ports");
    let reserved = reserved.unwrap_or_default();
    let is_free_of_others = |port: u16| {
        let port = u64::from(port);
        !(first..=last).contains(&port) || is_listed(&reserved, port)
    };
    let (safe, shared): (Vec<u16>, Vec<u16>) = ports_of(config)
        .into_iter()
        .partition(|port| is_free_of_others(*port));
    let mut findings = Vec::new();
    if safe.is_empty() && shared.is_empty() {
        findings.push(Finding::ok(NAME, "0: any that is free"));
    }
    if !safe.is_empty() {
        let found = format!("{}: no outgoing connection takes them", listed(&safe));
        findings.push(Finding::ok(NAME, found));
    }
    if !shared.is_empty() {
        let ports = listed(&shared);
        let found = format!("{ports}: among those of outgoing connections ({first} to {last})");
        let keep = match reserved.trim() {
            "" => ports.replace(", ", ","),
            reserved => format!("{reserved},{}", ports.replace(", ", ",")),
        };
        findings.push(Finding::ok(NAME, found).with(
            State::Warning,
            "a start fails now and then, when one of them has the port: \"address already in use\"",
            format!(
                "sysctl -w net.ipv4.ip_local_reserved_ports={keep}, and the same in /etc/sysctl.d; or another port"
            ),
        ));
    }
    findings
}

fn listed(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

/// `49134,50000-50010`.
fn is_listed(list: &str, port: u64) -> bool {
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

fn tcp_memory(machine: &Machine, config: &Config) -> Finding {
    const NAME: &str = "tcp memory";
    let limits = machine.numbers("proc/sys/net/ipv4/tcp_mem");
    let [_, pressure, most] = limits[..] else {
        return Finding::unknown(NAME, "net.ipv4.tcp_mem cannot be read");
    };
    let page = rustix::param::page_size() as u64;
    let used = used_pages(machine).unwrap_or(0);
    let mib = |pages: u64| pages.saturating_mul(page) >> 20;
    let found = format!("{} MiB of at most {} MiB in use", mib(used), mib(most));
    let wanted = (config.limits.connections as u64).saturating_mul(TCP_BYTES_A_SUBSCRIBER);
    let has_little = most.saturating_mul(page) < wanted;
    let state = match (used >= pressure, has_little) {
        (true, _) => State::Bad,
        (_, true) => State::Warning,
        _ => State::Ok,
    };
    let means = match used >= pressure {
        true => {
            "the kernel keeps less for each socket now, and at the limit it drops what comes in"
        }
        false => {
            "with so many subscribers, each a little behind, the kernel would drop what comes in"
        }
    };
    let pages = (wanted / page).max(most).saturating_mul(2);
    Finding::ok(NAME, found).with(
        state,
        means,
        format!(
            "sysctl -w net.ipv4.tcp_mem='{} {} {}' (pages), or lower limits.connections",
            pages / 2,
            pages * 3 / 4,
            pages
        ),
    )
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 8 mem 3`.
fn used_pages(machine: &Machine) -> Option<u64> {
    let text = machine.text("proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::machine::Tree;
    use super::*;

    #[test]
    fn a_port_among_those_of_outgoing_connections_is_told_unless_it_is_reserved() {
        let found = |reserved: &str| {
            let tree = Tree::with(&[
                ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
                ("proc/sys/net/ipv4/ip_local_reserved_ports", reserved),
            ]);
            ports(&tree.machine(), &Config::default())
        };
        let findings = found("\n");
        assert_eq!(findings[0].state, State::Ok);
        assert!(findings[0].found.starts_with("3112:"));
        assert_eq!(findings[1].state, State::Warning);
        assert!(
            findings[1].todo.contains("reserved_ports=49134,"),
            "{findings:?}"
        );
        assert!(found("80\n")[1].todo.contains("=80,49134,"));
        assert_eq!(found("80,49000-49200\n").len(), 1);
    }

    #[test]
    fn a_queue_that_is_short_or_was_full_is_told() {
        let mut config = Config::default();
        let state = |config: &Config, most: &str| {
            let tree = Tree::with(&[("proc/sys/net/core/somaxconn", most)]);
            backlog(&tree.machine(), config).state
        };
        assert_eq!(state(&config, "4096"), State::Ok);
        assert_eq!(state(&config, "128"), State::Warning);
        config.backlog = Some(8192);
        assert_eq!(state(&config, "4096"), State::Warning);
        let tree = Tree::with(&[]);
        assert_eq!(backlog(&tree.machine(), &config).state, State::Unknown);
        assert_eq!(drops(&tree.machine()).state, State::Unknown);
    }

    #[test]
    fn memory_of_tcp_is_measured_by_the_subscribers_that_may_come() {
        let mut config = Config::default();
        config.limits.connections = 100_000;
        let state = |limits: &str, used: &str| {
            let used = format!("sockets: used 1\nTCP: inuse 5 orphan 0 tw 0 alloc 8 mem {used}\n");
            let tree = Tree::with(&[
                ("proc/sys/net/ipv4/tcp_mem", limits),
                ("proc/net/sockstat", &used),
            ]);
            tcp_memory(&tree.machine(), &config).state
        };
        assert_eq!(state("200000 300000 400000", "3"), State::Ok);
        assert_eq!(state("200 300 400", "3"), State::Warning);
        assert_eq!(state("200000 300000 400000", "300000"), State::Bad);
    }
}
