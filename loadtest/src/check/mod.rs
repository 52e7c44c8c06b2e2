//! Whether what came is what had to come.
//!
//! ```text
//! checker   one subscription: its events in order, none twice, none missing, none late
//! model     what a deployed client would show
//! audit     what the server says it holds, compared with both
//! received  what one thread has counted
//! faults    what was wrong, by kind
//! ```
//! May not touch a socket or read a clock: times and bytes are handed in.

pub(crate) mod audit;
pub(crate) mod checker;
pub(crate) mod faults;
pub(crate) mod model;
pub(crate) mod received;
