//! All hosts of a run: one, or several that share a store. Each has a clock of its own, dies by itself and
//! comes back.

use crate::pace::Pace;
use crate::peer::Peer;
use crate::{Behind, Kind, OneDouble, STEPS, Simulation};

/// Rounds in which everything that waits is served before it counts as standing still.
const ROUNDS_MAX: usize = 10_000;
/// How far the clocks of hosts may be apart, in ms.
const APART_MS: usize = 100_000;

pub(crate) struct Hosts {
    pace: Pace,
    hosts: Vec<Simulation>,
    pub(crate) steps: usize,
}

impl Hosts {
    pub(crate) fn of_seed(seed: u64, behind: Behind) -> Hosts {
        let mut pace = Pace::of_seed(seed ^ 0x5EED);
        let kinds = [
            Kind::Memory,
            Kind::Log,
            Kind::Log,
            Kind::Shared,
            Kind::Shared,
        ];
        let kind = *pace.pick(&kinds);
        let len = match kind {
            Kind::Shared => 1 + pace.below(3),
            Kind::Memory | Kind::Log => 1,
        };
        let store = OneDouble::new(kind);
        let mut hosts = Vec::new();
        for host in 0..len {
            if host > 0 {
                store.double.borrow_mut().add_host();
            }
            let seed = seed + host as u64 * 1_000_003;
            let mut simulation = Simulation::of_seed((kind, behind), seed, (&store, host));
            if len > 1 {
                simulation.now += pace.below(APART_MS) as u64;
                simulation.values_made = host as u32 * 10_000_000;
            }
            hosts.push(simulation);
        }
        let steps = 0;
        Hosts { pace, hosts, steps }
    }

    /// What a failed run was about.
    pub(crate) fn tell_kinds(&self) {
        for host in &self.hosts {
            let units = host.settings.bounds.shard_units;
            let (kind, behind) = (host.kind, host.behind);
            eprintln!("{kind:?} and {behind:?}, {units} units a turn");
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..4 {
            for _ in 0..self.hosts.len() * STEPS / 4 {
                self.steps += 1;
                let host = self.pace.below(self.hosts.len());
                self.hosts[host].steps += 1;
                self.hosts[host].step();
                self.hosts[host].check();
            }
            settle(&mut self.hosts);
        }
        let behind = self.pace.below(self.hosts.len() * 2);
        if let Some(host) = self.hosts.get_mut(behind) {
            host.fall_behind();
            settle(&mut self.hosts);
        }
        let silent = self.pace.below(self.hosts.len() * 3);
        if let Some(host) = self.hosts.get_mut(silent) {
            host.fall_silent();
            settle(&mut self.hosts);
        }
        let drains = self.pace.below(2) == 0;
        for host in &mut self.hosts {
            match drains {
                true => host.drain(),
                false => host.peers().for_each(Peer::ends),
            }
        }
        settle(&mut self.hosts);
        for host in &mut self.hosts {
            if drains {
                host.end_drain();
            }
            host.check_end();
        }
    }
}

/// Everything is delivered: then nothing is left, and what everybody knows is what is.
pub(crate) fn settle(hosts: &mut [Simulation]) {
    let mut rounds = 0;
    while rounds == 0 || !hosts.iter().all(Simulation::is_quiet) {
        for host in &mut *hosts {
            host.settle_round(rounds == 0);
        }
        rounds += 1;
        assert!(
            rounds < ROUNDS_MAX,
            "it stands still: {:?}",
            hosts.iter().map(Simulation::not_quiet).collect::<Vec<_>>()
        );
    }
    hosts.iter_mut().for_each(Simulation::check_settled);
}
