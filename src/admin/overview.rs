//! What runs: one JSON object for the head of the page and of `top`.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::config::ENGINE_VERSION;
use crate::mesh::Shared;

use super::About;
use super::beats::Beats;
use super::figures::SERIES;
use super::history::History;

/// See the shapes in `admin`.
pub(super) fn json(
    about: &About,
    shared: &Shared,
    history: &History,
    beats: &Beats,
    now: (Instant, u64),
) -> String {
    let (now, now_ms) = now;
    let mut figures = Map::new();
    if let Some(latest) = history.latest() {
        for ((name, _), value) in SERIES.iter().zip(latest.values) {
            figures.insert((*name).to_owned(), value.into());
        }
    }
    let threads = about.threads.iter().map(|thread| {
        let mut cpus = history.cpu().iter();
        let cpu = cpus.find(|(name, _)| *name == thread.name);
        let turns = beats.turns_of(&thread.name);
        let worker = thread
            .name
            .strip_prefix("worker-")
            .and_then(|number| number.parse().ok());
        let metrics = worker.and_then(|number: usize| shared.workers.get(number));
        json!({
            "name": thread.name,
            "core": thread.core,
            "cpu": cpu.map(|(_, share)| (f64::from(*share) * 1000.0).round() / 1000.0),
            "turns": turns,
            "turned_ms_ago": beats.turned_ms_ago(&thread.name, now),
            "groups": metrics.map(|metrics| metrics.groups.get()),
            "subscriptions": metrics.map(|metrics| metrics.subscriptions.get()),
            "connections": worker.and_then(|number| {
                let count = shared.connections.get(number)?;
                Some(count.load(std::sync::atomic::Ordering::Relaxed))
            }),
        })
    });
    let threads: Vec<Value> = threads.collect();
    let not_ready = shared.not_ready(now_ms);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "speaks": ENGINE_VERSION,
        "host": about.host,
        "pid": std::process::id(),
        "now_ms": now_ms,
        "uptime_ms": now.saturating_duration_since(about.began).as_millis() as u64,
        "file": about.file,
        "stream": about.stream,
        "stream_tls": about.certificates.iter().any(|(port, _)| *port == "stream"),
        "workers": about.workers,
        "engine": about.engine,
        "admin": about.admin,
        "page": about.has_page,
        "cores": about.cores,
        "store": {
            "kind": about.store_kind,
            "described": about.store,
            "up": !shared.store.is_down.is_set(),
            "lag_ms": shared.store.lag_ms.get(),
        },
        "limits": {
            "connections": about.connections_max,
            "sockets": shared.room.all,
            "behind_bytes": about.behind_bytes_max,
        },
        "ready": not_ready.is_none(),
        "not_ready_because": not_ready.map(|why| why.name()),
        "healthy": beats.silent(now).is_none(),
        "threads": threads,
        "figures": figures,
        "rates": history.rates(),
        "times": history.times(),
    })
    .to_string()
}
