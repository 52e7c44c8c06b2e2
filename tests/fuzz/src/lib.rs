//! What is fuzzed: one function a target, which takes any bytes and panics where a promise is broken. The
//! targets of libFuzzer call them, and so does a test with the inputs that are kept.

pub mod call;
pub mod channel;
pub mod config;
mod disk;
pub mod frames;
pub mod head;
pub mod join;
pub mod json;
pub mod log;
pub mod redis;
pub mod snapshot;
pub mod update;

/// Bytes of the input that steer, and what is left.
pub(crate) struct Steer<'a>(&'a [u8]);

impl Steer<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }
}
