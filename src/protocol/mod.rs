//! What goes over the wire: bytes to messages and back, on both ports.
//!
//! Pure: no socket, file, thread, lock, clock, randomness or log line. Uses `id` alone.
//!
//! | from | to | messages |
//! |---|---|---|
//! | subscriber | stream port | [`message::ClientMessage`]: `join`, `leave` |
//! | stream port | subscriber | [`frame`]: `sync`, events, `unauthorized` |
//! | SDK worker | worker port | [`call::EngineMessage`]: registrations, calls, results |
//! | worker port | SDK worker | [`answer`]: results, calls of its functions |
//! | an attached server | the engine | [`dial`]: the upgrade; [`attached`]: registrations |

pub mod answer;
pub mod attached;
pub mod auth;
pub mod call;
pub mod configuration;
pub mod connection;
pub mod custom;
pub mod dial;
pub mod frame;
pub mod function;
pub mod groups;
pub mod handshake;
pub mod input;
pub mod json;
pub mod listing;
pub mod logs;
pub mod message;
pub mod origin;
pub mod proxied;
pub mod rbac;
pub mod streams;
pub mod trigger;
pub mod ttl;
