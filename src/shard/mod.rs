//! (being written)
pub mod update;
