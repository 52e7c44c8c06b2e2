//! A snapshot as it is read back, with the log behind it.

use super::Steer;
use super::disk::InMemory;
use super::log::{file, start_twice};

/// The snapshot's number, the log's beyond it, and the pieces of both as those of a log.
pub fn run(input: &[u8]) {
    let disk = InMemory::default();
    let mut steer = Steer(input);
    let sequence = 1 + u64::from(steer.byte() % 4);
    let behind = sequence + u64::from(steer.byte() % 3);
    let before = if steer.byte() & 1 == 0 {
        (0, 0)
    } else {
        (behind, 0)
    };
    let snapshot = file(b"iii-snp\n", sequence, before, &mut steer);
    disk.put(&format!("{sequence:020}.snapshot"), snapshot);
    if !steer.0.is_empty() {
        let log = file(b"iii-log\n", behind, (0, 0), &mut steer);
        disk.put(&format!("{behind:020}.log"), log);
    }
    start_twice(&disk);
}
