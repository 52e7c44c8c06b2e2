//! What a connection keeps of a read that ended within something.
//!
//! Uses nothing of ours. May not read frames: the assembler says what belongs where.

use super::codec::unmask;

/// Input as it came, still masked.
#[derive(Debug, Default)]
pub(super) struct Unread {
    pub(super) bytes: Vec<u8>,
    /// What stands before this was read. Always before the end, unless all is empty.
    pub(super) start: usize,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Passes over what was read. The rest moves to a place of its own size once it is the smaller
    /// part, so each byte moves a bounded number of times and little memory stands empty.
    pub(super) fn advance(&mut self, read_bytes: usize) {
        self.start += read_bytes;
        if self.len() <= self.start {
            self.bytes = self.bytes[self.start..].to_vec();
            self.start = 0;
        }
    }
}

/// A message whose frames have not all come, or not whole.
#[derive(Debug)]
pub(super) struct PartialMessage {
    pub(super) is_text: bool,
    /// Unmasked. Grows with what came, never with what was announced.
    pub(super) payload: Vec<u8>,
    /// What its last frame still owes; 0: the next byte is a header's.
    pub(super) missing_bytes: usize,
    /// That frame's mask, turned so that it fits the next byte.
    pub(super) mask: [u8; 4],
    /// Whether that frame is the message's last.
    pub(super) is_final: bool,
}

impl PartialMessage {
    /// Whether the next byte belongs to the frame that began last.
    pub(super) fn is_in_frame(&self) -> bool {
        self.missing_bytes > 0
    }

    /// Takes from `input` what its frame lacks, as far as it is there. Returns how much that was.
    pub(super) fn take(&mut self, input: &mut [u8]) -> usize {
        let taken = self.missing_bytes.min(input.len());
        let input = &mut input[..taken];
        unmask(input, self.mask);
        self.payload.extend_from_slice(input);
        self.missing_bytes -= taken;
        self.mask.rotate_left(taken % 4);
        taken
    }
}
