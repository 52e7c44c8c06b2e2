//! What Redis answers: any bytes are read to values of its protocol, and those to values of ours.

use iii_stream::store::redis::fuzzed;

/// Bytes as they come from the socket.
pub fn run(input: &[u8]) {
    fuzzed::answers(input);
}
