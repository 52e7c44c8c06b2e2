//! What the program does beside serving: one file a command.
//!
//! ```text
//! main → command    data     inspect, export, recover: a directory of kept values
//!                   call     one call through the worker port     ┐ place   where they look
//!                   watch    frames, a line each                  ├ client  one WebSocket, blocking
//!                   health   whether the stream port answers      ┘
//!                   top      what a server does, from its admin port
//!                   reload   has a server here read its settings again
//!                   doctor   whether this machine suits the settings; changes nothing
//!                   print    completions and manual pages, for packages
//!                   help     pages by topic, the same that the README links to
//! ```
//! May not serve, and may not name `server`: what it finds out about this machine for its own start is
//! handed in by main. Whatever comes from elsewhere is printed by [`output`], which escapes it.

pub(crate) mod call;
mod client;
pub(crate) mod data;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod help;
mod output;
mod place;
pub(crate) mod print;
pub(crate) mod reload;
pub(crate) mod top;
pub(crate) mod watch;

pub(crate) use output::{complain, say};
pub(crate) use place::Looks;
