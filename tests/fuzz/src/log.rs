//! The log as it is read back: whatever its files hold, a start ends, and what it has put in order the next
//! one finds in order.

use iii_stream::config::{FileStore, Fsync};
use iii_stream::store::files::Files;

use super::Steer;
use super::disk::InMemory;

const STORE: [u8; 16] = *b"store of the fuz";

/// Pieces: what a piece is, and its bytes.
pub fn run(input: &[u8]) {
    let disk = InMemory::default();
    let mut steer = Steer(input);
    let mut before = (0, 0);
    for first in 1..4 {
        let sequence = 1 + (first - 1) * u64::from(steer.byte() % 8);
        let file = file(b"iii-log\n", sequence, before, &mut steer);
        before = (sequence, file.len() as u64);
        disk.put(&format!("{sequence:020}.log"), file);
        if steer.0.is_empty() {
            break;
        }
    }
    start_twice(&disk);
}

/// A file with a right head, and records whose checksums are right, up to where the input says otherwise.
pub(crate) fn file(
    magic: &[u8; 8],
    sequence: u64,
    before: (u64, u64),
    steer: &mut Steer<'_>,
) -> Vec<u8> {
    let mut file = magic.to_vec();
    file.extend_from_slice(&2_u32.to_le_bytes());
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(&sequence.to_le_bytes());
    file.extend_from_slice(&before.0.to_le_bytes());
    file.extend_from_slice(&before.1.to_le_bytes());
    file.extend_from_slice(&STORE);
    let mut sum = crc32c::crc32c(&file[..12]);
    sum = crc32c::crc32c_append(sum, &file[16..]);
    file[12..16].copy_from_slice(&sum.to_le_bytes());
    let mut number = sequence;
    while !steer.0.is_empty() {
        let kind = steer.byte();
        let len = usize::from(steer.byte()).min(steer.0.len());
        let (bytes, rest) = steer.0.split_at(len);
        steer.0 = rest;
        match kind {
            0 => file.extend_from_slice(bytes), // no record
            1 => return file,
            // A record of the next number, or of any.
            _ => {
                let mut payload = Vec::new();
                if kind & 0x40 == 0 {
                    payload.extend_from_slice(&number.to_le_bytes());
                    number += 1;
                    payload.push(kind & 0x87);
                }
                payload.extend_from_slice(bytes);
                let len = (payload.len() as u32).to_le_bytes();
                let sum = crc32c::crc32c_append(crc32c::crc32c(&len), &payload);
                file.extend_from_slice(&len);
                file.extend_from_slice(&sum.to_le_bytes());
                file.extend_from_slice(&payload);
            }
        }
    }
    file
}

/// What a start finds, and whether it is the same for the next one.
pub(crate) fn start_twice(disk: &InMemory) {
    let Some(first) = start(disk) else {
        return; // it says why
    };
    let second = start(disk).expect("what was put in order is in order");
    assert_eq!(first, second);
}

fn start(disk: &InMemory) -> Option<(Vec<String>, u64)> {
    let settings = FileStore {
        fsync: Fsync::Never,
        ..FileStore::at("in memory")
    };
    let mut restored = Vec::new();
    let mut restore = |read| restored.push(format!("{read:?}"));
    match Files::on(Box::new(disk.clone()), &settings, 1, &mut restore) {
        Ok(started) => Some((restored, started.time)),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}
