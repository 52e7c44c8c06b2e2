//! What this machine allows, looked at before a run: open files, ports, the listen backlog, cores.
//!
//! What makes a run impossible is an error; what only spoils its figures is a line of the report.

use std::collections::BTreeSet;
use std::fs;
use std::str::FromStr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::RunError;
use crate::proc::Process;

/// Descriptors besides the sockets: standard streams, polls, wakers, timers, `/proc`.
const OTHER_FILES: u64 = 64;

/// What a run needs.
pub(crate) struct Needs {
    /// Sockets open at a time, on either port.
    pub(crate) connections: usize,
    /// Source addresses that they are spread over.
    pub(crate) sources: u8,
    /// Connections between connect and accept at a time.
    pub(crate) handshakes: usize,
    pub(crate) threads: usize,
    pub(crate) is_local: bool,
}

/// What the machine gives.
pub(crate) struct Machine {
    open_files: u64,
    /// Of one source address.
    ports: u64,
    somaxconn: Option<u64>,
    own_cores: BTreeSet<u32>,
    server: Option<Server>,
}

/// The same of the server's process, where it is known.
struct Server {
    open_files: Option<u64>,
    cores: BTreeSet<u32>,
}

impl Machine {
    /// Raises our own limit of open files as far as it goes, and looks around.
    pub(crate) fn look(pid: Option<u32>) -> Self {
        let server = pid.map(Process::new).map(|process| Server {
            open_files: process.open_files_limit(),
            cores: process.cores().unwrap_or_default(),
        });
        Self {
            open_files: raise_open_files(),
            ports: ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            own_cores: Process::own().cores().unwrap_or_default(),
            server,
        }
    }

    /// Whether the run can be done at all.
    pub(crate) fn allow(&self, needs: &Needs) -> Result<(), RunError> {
        let needed = needs.connections as u64 + OTHER_FILES;
        if needed > self.open_files {
            let limit = self.open_files;
            return Err(RunError::OpenFiles { needed, limit });
        }
        let ports = self.ports * u64::from(needs.sources);
        if needs.is_local && needs.connections as u64 > ports {
            let (needed, sources) = (needs.connections as u64, needs.sources);
            return Err(RunError::Ports {
                needed,
                ports,
                sources,
            });
        }
        Ok(())
    }

    /// One line of what there is, then what may spoil the figures.
    pub(crate) fn notes(&self, needs: &Needs) -> Vec<String> {
        let mut notes = vec![self.summary(needs)];
        if let Some(somaxconn) = self.somaxconn
            && needs.handshakes as u64 > somaxconn
        {
            notes.push(format!(
                "up to {} connections at a time are begun, but the kernel holds {somaxconn} a \
                 listener (somaxconn): some connects wait 1 s for a second try",
                needs.handshakes
            ));
        }
        if needs.threads > self.own_cores.len() {
            notes.push(format!(
                "{} client threads share {} cores",
                needs.threads,
                self.own_cores.len()
            ));
        }
        if let Some(server) = &self.server {
            notes.extend(self.notes_on_server(server, needs));
        }
        notes
    }

    fn summary(&self, needs: &Needs) -> String {
        let somaxconn = self
            .somaxconn
            .map_or("?".to_owned(), |length| length.to_string());
        let used: Vec<String> = self.used(needs).map(|core| core.to_string()).collect();
        format!(
            "{} cores for this program, client threads on core {}, {} open files, {} ports an address, \
             somaxconn {somaxconn}",
            self.own_cores.len(),
            used.join(", "),
            self.open_files,
            self.ports
        )
    }

    /// The cores of the client threads, that of the first one first.
    fn used(&self, needs: &Needs) -> impl Iterator<Item = u32> {
        self.own_cores.iter().rev().take(needs.threads).copied()
    }

    fn notes_on_server(&self, server: &Server, needs: &Needs) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(limit) = server.open_files
            && needs.connections as u64 + OTHER_FILES > limit
        {
            notes.push(format!(
                "the server may open {limit} files, {} connections come",
                needs.connections
            ));
        }
        let used: BTreeSet<u32> = self.used(needs).collect();
        let shared: Vec<String> = used
            .intersection(&server.cores)
            .map(u32::to_string)
            .collect();
        if !shared.is_empty() {
            notes.push(format!(
                "server and client share core {}: each waits for the other (taskset -c parts them)",
                shared.join(", ")
            ));
        }
        notes
    }
}

/// Raises the limit on open files as far as it goes and returns it.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() {
        raised
    } else {
        limit
    };
    now.current.unwrap_or(u64::MAX)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    u64::from_str(read(path).trim()).ok()
}

/// `32768 60999`; where that cannot be read, what Linux has by default.
fn ports(range: &str) -> u64 {
    let mut ends = range
        .split_ascii_whitespace()
        .map_while(|word| word.parse::<u64>().ok());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => 28_232,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            open_files: 1_000,
            ports: 500,
            somaxconn: Some(128),
            own_cores: BTreeSet::from([0, 1]),
            server: Some(Server {
                open_files: Some(400),
                cores: BTreeSet::from([0, 1]),
            }),
        }
    }

    fn needs(connections: usize, sources: u8) -> Needs {
        Needs {
            connections,
            sources,
            handshakes: 100,
            threads: 1,
            is_local: true,
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let machine = machine();
        assert!(machine.allow(&needs(300, 1)).is_ok());
        assert!(machine.allow(&needs(900, 2)).is_ok());
        assert!(matches!(
            machine.allow(&needs(900, 1)),
            Err(RunError::Ports { .. })
        ));
        assert!(matches!(
            machine.allow(&needs(990, 2)),
            Err(RunError::OpenFiles { .. })
        ));
    }

    #[test]
    fn what_spoils_figures_is_said() {
        let told = machine()
            .notes(&Needs {
                handshakes: 200,
                threads: 3,
                ..needs(500, 1)
            })
            .join("\n");
        for part in [
            "client threads on core 1, 0, 1000 open files",
            "somaxconn",
            "3 client threads share 2 cores",
            "may open 400 files",
            "share core 0, 1",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn port_range_is_counted() {
        assert_eq!(ports("32768\t60999\n"), 28_232);
        assert_eq!(ports("1 10"), 10);
        assert_eq!(ports("nonsense"), 28_232);
    }
}
