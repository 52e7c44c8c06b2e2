//! What a part of a run cost: the server's and our own CPU time and context switches, and how much
//! of the machine others took meanwhile.

use crate::proc::{Process, Usage, Used, machine_cpu_ns};
use crate::report::{Better, Figure};

/// A thread that was busy for so much of its time has hardly any left.
const BUSY: f64 = 0.95;

/// Looks at the processes concerned.
pub(crate) struct Meter {
    server: Option<Process>,
    own: Process,
}

/// What had been used at some moment.
pub(crate) struct Sample {
    server: Option<Usage>,
    own: Option<Usage>,
    machine_ns: Option<u64>,
}

impl Meter {
    pub(crate) fn new(pid: Option<u32>) -> Self {
        Self {
            server: pid.map(Process::new),
            own: Process::own(),
        }
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample {
            server: self.server.as_ref().and_then(Process::usage),
            own: self.own.usage(),
            machine_ns: machine_cpu_ns(),
        }
    }

    /// The server's resident memory.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        self.server.as_ref().and_then(Process::rss_bytes)
    }
}

/// The server's resident memory: before anybody came, and when all have joined.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) before: Option<u64>,
    pub(crate) joined: Option<u64>,
}

impl Memory {
    /// `labels`: of one among `count`, and of all. Nothing is said of one where others go as
    /// they come.
    pub(crate) fn figures(&self, labels: [&'static str; 2], count: Option<usize>) -> [Figure; 2] {
        let grown = self.before.zip(self.joined).zip(count);
        let of_one =
            grown.map(|((before, joined), count)| (joined as f64 - before as f64) / count as f64);
        [
            Figure::new(
                "server_rss_bytes_per_subscriber",
                labels[0],
                "bytes",
                of_one,
                Better::Less,
            ),
            Figure::new(
                "server_rss_bytes_joined",
                labels[1],
                "bytes",
                self.joined.map(|bytes| bytes as f64),
                Better::Neither,
            ),
        ]
    }
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    server: Option<Used>,
    own: Option<Used>,
    /// Of our threads, that which was busy longest.
    busiest_ns: Option<u64>,
    machine_ns: Option<u64>,
    seconds: f64,
}

impl Cost {
    pub(crate) fn between(start: &Sample, end: &Sample, seconds: f64) -> Self {
        let used =
            |end: &Option<Usage>, start: &Option<Usage>| Some(end.as_ref()?.since(start.as_ref()?));
        Self {
            server: used(&end.server, &start.server),
            own: used(&end.own, &start.own),
            busiest_ns: end
                .own
                .as_ref()
                .zip(start.own.as_ref())
                .and_then(|(end, start)| end.busiest_ns_since(start)),
            machine_ns: end
                .machine_ns
                .zip(start.machine_ns)
                .map(|(end, start)| end.saturating_sub(start)),
            seconds,
        }
    }

    /// What may spoil the figures.
    pub(crate) fn notes(&self) -> Option<String> {
        let share = self.busiest_ns? as f64 / 1e9 / self.seconds;
        (share >= BUSY).then(|| {
            format!(
                "a client thread was busy for {:.0} % of the window: rates may end with it and not with the \
                 server (--client-threads)",
                100.0 * share
            )
        })
    }

    /// `count` of what the load consists of, named by `keys`: the server's and our own.
    pub(crate) fn figures(
        &self,
        keys: [&'static str; 2],
        labels: [&'static str; 2],
        count: u64,
    ) -> Vec<Figure> {
        let each = |used: Option<Used>| {
            used.filter(|_| count > 0)
                .map(|used| used.cpu_ns as f64 / 1e3 / count as f64)
        };
        let share = |ns: u64| ns as f64 / 1e9 / self.seconds;
        let rate = |switches: u64| switches as f64 / self.seconds;
        let server = self.server;
        let others_ns =
            self.machine_ns
                .zip(server)
                .zip(self.own)
                .map(|((machine_ns, server), own)| {
                    machine_ns.saturating_sub(server.cpu_ns + own.cpu_ns)
                });
        let server_share = server.map(|used| share(used.cpu_ns));
        let voluntary = server.map(|used| rate(used.voluntary));
        let involuntary = server.map(|used| rate(used.involuntary));
        let own_share = self.own.map(|used| share(used.cpu_ns));
        vec![
            Figure::new(keys[0], labels[0], "us", each(server), Better::Less),
            Figure::new(
                "server_cpu_share",
                "server CPU",
                "cores",
                server_share,
                Better::Neither,
            ),
            Figure::new(
                "server_sleeps_per_second",
                "server sleeps",
                "/s",
                voluntary,
                Better::Neither,
            ),
            Figure::new(
                "server_preempted_per_second",
                "server put off its core",
                "/s",
                involuntary,
                Better::Neither,
            ),
            Figure::new(keys[1], labels[1], "us", each(self.own), Better::Neither),
            Figure::new(
                "client_cpu_share",
                "client CPU",
                "cores",
                own_share,
                Better::Neither,
            ),
            Figure::new(
                "client_cpu_share_busiest",
                "busiest client thread",
                "cores",
                self.busiest_ns.map(share),
                Better::Neither,
            ),
            Figure::new(
                "others_cpu_share",
                "CPU of all others",
                "cores",
                others_ns.map(share),
                Better::Neither,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_thread_without_time_left_is_said() {
        let cost = |busiest_ns| Cost {
            busiest_ns,
            seconds: 2.0,
            ..Cost::default()
        };
        assert_eq!(cost(Some(1_890_000_000)).notes(), None);
        assert_eq!(cost(None).notes(), None);
        let told = cost(Some(1_960_000_000)).notes();
        assert!(told.is_some_and(|told| told.contains("busy for 98 % of the window")));
    }
}
