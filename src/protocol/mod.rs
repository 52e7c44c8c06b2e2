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
//!
//! What a subscriber asks for, and what it hears:
//!
//! ```
//! use iii_stream::id::GroupKey;
//! use iii_stream::protocol::connection::Payload;
//! use iii_stream::protocol::frame::{Event, EventFrame, GroupNames};
//! use iii_stream::protocol::message::{self, ClientMessage};
//!
//! let text = r#"{"type":"join","data":{"subscriptionId":"me","streamName":"chat","groupId":"room-1"}}"#;
//! let Some(ClientMessage::Join(join)) = message::parse(Payload::Text(text)) else { unreachable!() };
//! assert_eq!((&*join.stream, &*join.group, join.item), ("chat", "room-1", None));
//!
//! let names = GroupNames::new(&GroupKey::new(&join.stream, &join.group));
//! let now = 1_795_474_467_867;
//! let frame = EventFrame::encode(&names, now, Some("ada"), Event::Create(r#"{"clicks":1}"#));
//! assert_eq!(frame.item(), Some("ada"));
//! assert!(frame.text().contains(r#"{"type":"create","data":{"clicks":1}}"#));
//! assert!(frame.wire().ends_with(frame.text().as_bytes()), "its header stands before it");
//! ```

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
pub mod members;
pub mod message;
pub mod origin;
pub mod pace;
pub mod proxied;
pub mod rbac;
pub mod streams;
pub mod trigger;
pub mod ttl;
