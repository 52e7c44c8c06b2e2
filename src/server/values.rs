//! What keeps the values, opened before anybody is served, and the shards with what it has kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mio::Poll;

use crate::config::{Config, FileStore, Fsync, StoreConfig};
use crate::id::WorkerId;
use crate::mesh::{Owners, value_limits};
use crate::notes::counted;
use crate::shard::{Decides, Shard, Store};
use crate::store::files::Files;
use crate::store::redis::Redis;
use crate::time::Now;

use super::{Options, StartError};

pub(super) struct Values {
    /// One for each worker.
    pub(super) shards: Vec<Shard>,
    /// What has a thread of its own. `None`: the owner accepts in the same turn.
    pub(super) store: Option<Box<dyn Store>>,
    /// For the first line.
    pub(super) described: String,
    /// The same as one word.
    pub(super) kind: &'static str,
}

impl Values {
    /// A store of the options is in place of the configured one. The poll is for its thread.
    pub(super) fn open(
        config: &Config,
        owners: Owners,
        workers: usize,
        options: &mut Options,
        poll: &mut Poll,
    ) -> Result<Values, StartError> {
        let given = options.store.take();
        let decides = match (&given, &config.store) {
            (Some(store), _) => store.decides(),
            (None, StoreConfig::Redis(_)) => Decides::Shared,
            (None, _) => Decides::Owner,
        };
        let limits = value_limits(&config.limits);
        let (rules, now) = (Arc::new(config.streams.clone()), Now::read());
        let shard = |worker| {
            let mut shard = Shard::new(WorkerId(worker as u16), decides, limits);
            shard.set_stream_rules(Arc::clone(&rules));
            shard.begin_at(now.wall_ms);
            shard
        };
        let mut values = Values {
            shards: (0..workers).map(shard).collect(),
            store: given,
            described: "values in memory".to_owned(),
            kind: match &config.store {
                StoreConfig::Memory => "in_memory",
                StoreConfig::Files(_) => "file_based",
                StoreConfig::Redis(_) => "redis",
            },
        };
        match &config.store {
            StoreConfig::Files(settings) if values.store.is_none() => {
                values.read_files(settings, owners, &options.read)?;
            }
            StoreConfig::Redis(settings) if values.store.is_none() => {
                let name_bytes = config.limits.name_bytes;
                let redis =
                    Redis::start(settings, limits, name_bytes, &rules, place(config), poll)?;
                values.described = redis.described();
                values.store = Some(Box::new(redis));
            }
            _ => {}
        }
        Ok(values)
    }

    fn read_files(
        &mut self,
        settings: &FileStore,
        owners: Owners,
        read: &AtomicU64,
    ) -> Result<(), StartError> {
        let began = Instant::now();
        let shards = &mut self.shards;
        let mut records = 0_u64;
        let started = Files::start(settings, shards.len(), &mut |restored| {
            records += 1;
            read.store(records, Ordering::Relaxed);
            let owner = owners.owner_of(restored.key());
            shards[owner.index()].restore(restored);
        })?;
        for shard in shards.iter_mut() {
            shard.restored(started.time);
            shard.keep_times_from(started.time);
        }
        let groups: usize = shards.iter().map(Shard::groups_len).sum();
        let path = settings.path.display();
        if records > 0 {
            let took_ms = began.elapsed().as_millis();
            let groups = counted(groups, "group");
            tracing::info!("{path}: {groups} read in {took_ms} ms");
        }
        self.described = format!("values in {path}, {}", described(settings));
        self.store = Some(Box::new(started.files));
        Ok(())
    }
}

/// The machine and its port: who starts there again is the same host.
fn place(config: &Config) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match config.stream.port {
        0 => String::new(),
        port => format!("{}:{port}", name.trim()),
    }
}

fn described(settings: &FileStore) -> String {
    match settings.fsync {
        Fsync::Interval => format!("synced every {} ms", settings.save_interval.as_millis()),
        Fsync::Always => "each write synced".to_owned(),
        Fsync::Never => "never synced".to_owned(),
    }
}
