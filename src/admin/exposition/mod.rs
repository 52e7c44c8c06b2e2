//! `GET /metrics`: the counters as Prometheus reads them, text 0.0.4.
//!
//! Every family is there from the start, and labels never name a stream, a group, an item or a client: the
//! number of series depends on the number of workers alone.
//!
//! ```text
//! families      how a family is written
//! process       the process, its certificates, its threads
//! subscribers   sockets of subscribers, what they join and what they get
//! groups        what shards hold
//! calls         calls of SDK workers, and what is called for them
//! store         the store, the disk, Redis
//! ```

mod calls;
mod families;
mod groups;
mod process;
mod store;
mod subscribers;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use crate::mesh::Shared;
use crate::metrics::WorkerMetrics;

use super::About;
use super::figures::{Figures, SERIES};
use families::{Families, Label};

/// What the answer's content type is.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What one worker has counted.
type Count = fn(&WorkerMetrics) -> u64;

/// The process as one scrape sees it.
struct Scrape {
    shared: Arc<Shared>,
    began: Instant,
    figures: Figures,
    now_ms: u64,
    /// For each port under TLS its name, and until when its certificate counts, in seconds since 1970.
    certificates: Vec<(&'static str, u64)>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Scrape")
    }
}

/// The text of all families.
pub(super) fn text(shared: &Arc<Shared>, about: &About, figures: Figures, now_ms: u64) -> String {
    let certificates = about.certificates.iter();
    let certificates = certificates.map(|(port, offered)| (*port, offered.not_after_s()));
    let mut registry = Registry::with_prefix("iii_stream");
    registry.register_collector(Box::new(Scrape {
        shared: Arc::clone(shared),
        began: about.began,
        figures,
        now_ms,
        certificates: certificates.collect(),
    }));
    let mut out = String::with_capacity(64 * 1024);
    // A String takes everything.
    let _ = prometheus_text::encode(&mut out, &registry);
    out
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families(encoder);
        self.process(&mut families)?;
        self.tls(&mut families)?;
        self.sockets(&mut families)?;
        self.deliveries(&mut families)?;
        self.groups(&mut families)?;
        self.calls(&mut families)?;
        self.store(&mut families)?;
        self.threads(&mut families)
    }
}

impl Scrape {
    fn value(&self, name: &str) -> u64 {
        let mut series = SERIES.iter().zip(self.figures.values);
        series
            .find(|((found, _), _)| *found == name)
            .map_or(0, |(_, value)| value)
    }

    /// The sum over all workers.
    fn sum(&self, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.shared.workers.iter().map(of).sum()
    }

    fn by_worker(&self, of: impl Fn(&WorkerMetrics) -> u64) -> Vec<(Vec<Label>, u64)> {
        let workers = self.shared.workers.iter().enumerate();
        workers
            .map(|(worker, metrics)| (vec![("worker", worker.to_string())], of(metrics)))
            .collect()
    }
}
