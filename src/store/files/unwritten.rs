//! What a loss of power leaves of the end of a log: blocks that never reached the disk, and others
//! behind them that did.
//!
//! A kernel writes the blocks of a file in any order until it is told to sync. One that was not written
//! reads as zeros, from where the file ended when it was last written. No record has so many zeros, so
//! this is no flipped bit; the machine has to have started anew since, so nobody has cleared a part of the
//! file; and the log says how far it was synced, so it is no disk that has lost what it had confirmed. Pure.

use super::record::{self, Content};

/// Disks write no less at a time.
const SECTOR_BYTES: u64 = 512;
/// More zeros in a row than any record has.
const ZEROS: u64 = 16;

/// Bytes of a file, looked through for a block that was not written.
pub(super) struct Search {
    /// Where the record begins that is not whole.
    from: u64,
    /// The offset of the next byte.
    at: u64,
    /// Zeros right before it, none of them before `from`.
    zeros: u64,
    is_found: bool,
}

impl Search {
    pub(super) fn new(from: u64) -> Search {
        Search {
            from,
            at: from,
            zeros: 0,
            is_found: false,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.zeros = if *byte == 0 { self.zeros + 1 } else { 0 };
            self.at += 1;
            let is_enough = self.zeros >= ZEROS.min(self.at - self.from);
            self.is_found |= is_enough && self.at.is_multiple_of(SECTOR_BYTES);
        }
    }

    /// Whether a sector ends in zeros that were there before it was written.
    pub(super) fn is_found(&self) -> bool {
        self.is_found
    }
}

/// The number up to which the log was synced, if this record says so.
pub(super) fn synced_to(payload: &[u8]) -> Option<u64> {
    match record::decode(payload)? {
        Content::Synced(sequence) => Some(sequence),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(from: u64, bytes: &[u8]) -> bool {
        let mut search = Search::new(from);
        for part in bytes.chunks(100) {
            search.take(part);
        }
        search.is_found()
    }

    #[test]
    fn a_sector_that_ends_in_zeros_was_not_written() {
        let mut bytes = vec![7; 2000];
        assert!(!is_found(300, &bytes), "from 300 to 2300, without any");
        bytes[212 + 512 - 16..212 + 512].fill(0);
        assert!(is_found(300, &bytes), "16 at the end of the third sector");
        assert!(!is_found(301, &bytes), "not at its end");
        bytes[212 + 512 - 16] = 7;
        assert!(!is_found(300, &bytes), "records have 15");
    }

    #[test]
    fn what_begins_right_before_the_end_of_a_sector_may_have_fewer() {
        assert!(is_found(510, &[0, 0, 7, 7]));
        assert!(!is_found(510, &[7, 0, 7, 7]));
        assert!(!is_found(512, &[0; 511]) && is_found(512, &[0; 512]));
    }
}
