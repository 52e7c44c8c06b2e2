//! Sockets that take as many bytes as they have room for.

use std::io::IoSlice;

use crate::collections::Named;
use crate::id::SlotId;

use super::super::{Connections, Reader, Socket, Written};

#[derive(Default)]
pub(super) struct Line {
    pub(super) room: usize,
    pub(super) taken: Vec<u8>,
}

impl Socket for Line {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.taken.extend_from_slice(&bytes[..taken]);
        match taken == bytes.len() {
            true => Written::All,
            false => Written::Part(taken),
        }
    }
}

#[derive(Default)]
pub(super) struct Lines(pub(super) Named<(Reader, Line)>);

impl Connections for Lines {
    type Socket = Line;

    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut Line)> {
        let (reader, line) = self.0.get_mut(id)?;
        Some((reader, line))
    }
}
