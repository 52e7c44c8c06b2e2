//! The records of a file one after another, and those of a batch whose last has not come.
//!
//! May not know what a record says, or which may follow which.

use std::io::{self, BufReader, Read};

use super::record::Frame;

/// Records of one batch whose last has not been read.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    pub(super) fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let spans = starts.zip(&self.ends);
        spans.map(|(start, end)| &self.bytes[*start..*end])
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The records of one file, one after another.
pub(super) struct Records {
    input: BufReader<Box<dyn Read>>,
    /// Where the next record begins.
    pub(super) at: u64,
    /// Where the records end.
    pub(super) end: u64,
    /// The payload of the record that was read last.
    pub(super) payload: Vec<u8>,
}

pub(super) enum Step {
    Record,
    /// What stands here is no whole record.
    Fault,
    End,
}

impl Records {
    pub(super) fn new(input: BufReader<Box<dyn Read>>, at: u64, end: u64) -> Records {
        Records {
            input,
            at,
            end,
            payload: Vec::new(),
        }
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        let left = self.end.saturating_sub(self.at);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < Frame::BYTES as u64 {
            return Ok(Step::Fault);
        }
        let mut frame = [0; Frame::BYTES];
        self.input.read_exact(&mut frame)?;
        let frame = Frame::decode(frame);
        let Some(bytes) = frame.payload_bytes(left - Frame::BYTES as u64) else {
            return Ok(Step::Fault);
        };
        self.payload.resize(bytes, 0);
        self.input.read_exact(&mut self.payload)?;
        if !frame.is_of(&self.payload) {
            return Ok(Step::Fault);
        }
        self.at += (Frame::BYTES + bytes) as u64;
        Ok(Step::Record)
    }
}
