//! The certificates of both ports: read at the start, and looked at once a second, on a thread of their
//! own that may read files. Whoever is connected hears nothing of new ones.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::config::{Config, TlsFiles};
use crate::net::tls::{Look, Offered};

use super::StartError;

/// How soon changed files are seen.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// So long before a certificate expires that is said, and again each day.
const SAID_BEFORE: Duration = Duration::from_secs(14 * DAY.as_secs());
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Those of all ports under TLS.
#[derive(Clone, Default)]
pub struct Certificates {
    ports: Vec<Port>,
}

/// One port under TLS.
#[derive(Clone)]
struct Port {
    /// The setting.
    key: &'static str,
    offered: Arc<Offered>,
}

/// The thread that looks. It ends when this is dropped.
pub(super) struct Watch {
    _ends: Sender<()>,
    _thread: JoinHandle<()>,
}

impl Certificates {
    /// Reads them for the first time.
    pub(super) fn load(config: &Config) -> Result<Certificates, StartError> {
        let mut ports = Vec::new();
        for (key, files) in files_of(config) {
            let offered = Offered::load(files.clone()).map_err(|faulty| StartError::Tls {
                key,
                faulty: faulty.to_string(),
            })?;
            ports.push(Port {
                key,
                offered: Arc::new(offered),
            });
        }
        Ok(Certificates { ports })
    }

    /// What the port shows that this setting is for. None: it is plain.
    pub(super) fn of(&self, key: &str) -> Option<Arc<Offered>> {
        let port = self.ports.iter().find(|port| port.key == key)?;
        Some(Arc::clone(&port.offered))
    }

    /// For each port under TLS its name, and what it shows.
    pub(super) fn offered(&self) -> Vec<(&'static str, Arc<Offered>)> {
        let named = |port: &Port| {
            let name = if port.key == "tls" {
                "stream"
            } else {
                "worker"
            };
            (name, Arc::clone(&port.offered))
        };
        self.ports.iter().map(named).collect()
    }

    /// For each port under TLS the setting, and when its certificate counts no more, in seconds since
    /// 1970.
    pub fn not_after_s(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.ports
            .iter()
            .map(|port| (port.key, port.offered.not_after_s()))
    }

    /// Reads all files again, whether they have changed or not. Those that cannot be used change nothing,
    /// and are told of here and in the log.
    pub fn reload(&self) -> Vec<String> {
        let outcomes = self
            .ports
            .iter()
            .map(|port| port.say(port.offered.reload()));
        outcomes.filter_map(Result::err).collect()
    }

    /// Has a thread look at the files from now on. None: no port is under TLS.
    pub(super) fn watch(&self) -> std::io::Result<Option<Watch>> {
        if self.ports.is_empty() {
            return Ok(None);
        }
        for Port { key, offered } in &self.ports {
            tracing::info!(
                "server.{key}: the certificate counts until {}",
                offered.not_after()
            );
        }
        let (ends, ended) = crossbeam_channel::bounded(0);
        let certificates = self.clone();
        let thread = std::thread::Builder::new().name("certificates".to_owned());
        let thread = thread.spawn(move || {
            let mut said_at = None;
            while ended.recv_timeout(LOOKS_EVERY) == Err(RecvTimeoutError::Timeout) {
                certificates.look();
                if said_at.is_none_or(|at: Instant| at.elapsed() >= DAY) {
                    said_at = Some(Instant::now());
                    certificates.say_expiry();
                }
            }
        })?;
        Ok(Some(Watch {
            _ends: ends,
            _thread: thread,
        }))
    }

    fn look(&self) {
        for port in &self.ports {
            // What is wrong was said.
            let _ = port.say(port.offered.look());
        }
    }

    fn say_expiry(&self) {
        for Port { key, offered } in &self.ports {
            if offered.expires_within(SAID_BEFORE) {
                let at = offered.not_after();
                tracing::warn!("server.{key}: the certificate expires at {at}");
            }
        }
    }
}

impl Port {
    /// Err: what is wrong.
    fn say(&self, look: Look) -> Result<(), String> {
        let key = self.key;
        match look {
            Look::Same => Ok(()),
            Look::Taken(until) => {
                tracing::info!(
                    "server.{key}: the next handshake shows the new certificate, until {until}"
                );
                Ok(())
            }
            Look::Faulty(faulty) => {
                let line = format!("server.{key}: {faulty}; the certificate before is still shown");
                tracing::error!("{line}");
                Err(line)
            }
        }
    }
}

/// The files of each port, by their setting.
fn files_of(config: &Config) -> impl Iterator<Item = (&'static str, &TlsFiles)> {
    // Beside an engine there is no port for SDK workers.
    let worker = config.worker_tls.as_ref();
    let worker = worker.filter(|_| config.engine.is_none());
    let ports = [("tls", config.tls.as_ref()), ("worker_tls", worker)];
    ports
        .into_iter()
        .filter_map(|(key, files)| Some((key, files?)))
}

/// Whether the files can be used. For each port under TLS its setting, and until when its certificate
/// counts, in seconds since 1970 and for people.
pub fn check(config: &Config) -> Result<Vec<(&'static str, u64, String)>, StartError> {
    let ports = Certificates::load(config)?.ports;
    Ok(ports
        .iter()
        .map(|Port { key, offered }| (*key, offered.not_after_s(), offered.not_after()))
        .collect())
}
