//! What holds of the server through its public face: its ports, its files, its Redis, its process.
//!
//! One topic a file, each with its own head. One binary for all, so that a change is linked once; what
//! looks at the memory or the open files of its process has a binary of its own beside this one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod attached;
mod attached_tls;
mod auth;
mod auth_function;
mod bindings;
mod command_line;
mod commands;
mod conformance;
mod costs;
mod custom_stores;
mod engine;
mod engine_own;
mod engine_rbac;
mod files;
mod frames;
mod fuzzed;
mod hooks;
mod lifetimes;
mod limits;
mod members;
mod memory;
mod namespaces;
mod pace;
mod page;
mod placement;
mod presence;
mod process;
mod proxied;
mod readme;
mod redis;
mod reload;
mod rfc6455;
mod sdks;
mod silence;
mod soak;
mod store;
mod supervised;
mod taking_over;
mod tls;
mod tls_files;
mod triggers;
mod turns;
mod update_cases;
mod upgrade;
mod writes;
