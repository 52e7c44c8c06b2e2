//! `iii-stream`: real-time streams and presence for very many subscribers, without async.

pub mod cli;
pub mod collections;
pub mod config;
pub mod engine;
pub mod fanout;
pub mod id;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod protocol;
pub mod server;
pub mod shard;
pub mod store;
pub mod time;
pub mod worker;
