//! The first bytes of a log or a snapshot: what it is, whose, and where in the order.
//!
//! Pure: bytes in, values out. May not know a file, or what follows.
//!
//! ```text
//! magic 8 · version 4 · CRC32C of the rest 4 · sequence 8 · before: sequence 8, bytes 8 · store 16
//! ```
//! Integers are little-endian. A log's head names its first sequence number and says where its
//! predecessor ends; a snapshot's head names the last sequence number before it began, and the segment
//! that was there behind it. Version 1 says no store.

use super::identity::StoreId;

/// What this version writes. It reads 1 as well.
pub(super) const VERSION: u32 = 2;
pub(super) const HEAD_BYTES: usize = 56;
/// Of a head that says no store, and of every part of the other before it.
pub(super) const HEAD_BYTES_MIN: usize = HEAD_BYTES - StoreId::BYTES;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Log,
    Snapshot,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            FileKind::Log => b"iii-log\n",
            FileKind::Snapshot => b"iii-snp\n",
        }
    }
}

/// The first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Log: that of its first record. Snapshot: the log's last when the snapshot was begun.
    pub(super) sequence: u64,
    /// Log: where its predecessor ends. What stands there behind that was refused. Snapshot: the
    /// segment behind it, if there was one; its bytes are not said.
    pub(super) before: Option<Before>,
    /// Which store it is of; none in version 1.
    pub(super) store: Option<StoreId>,
}

/// Where a log file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    /// Its first sequence number.
    pub(super) sequence: u64,
    pub(super) bytes: u64,
}

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadFault {
    Damaged,
    /// A version that this one does not know.
    Newer(u32),
}

impl Head {
    pub(super) fn encode(&self, kind: FileKind) -> Vec<u8> {
        let before = self.before.unwrap_or(Before {
            sequence: 0,
            bytes: 0,
        });
        let version = if self.store.is_some() { VERSION } else { 1 };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(kind.magic());
        head.extend_from_slice(&version.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&self.sequence.to_le_bytes());
        head.extend_from_slice(&before.sequence.to_le_bytes());
        head.extend_from_slice(&before.bytes.to_le_bytes());
        head.extend(self.store.iter().flat_map(|store| *store.as_bytes()));
        let sum = sum(&head);
        head[12..16].copy_from_slice(&sum.to_le_bytes());
        head
    }

    pub(super) fn decode(kind: FileKind, bytes: &[u8]) -> Result<Head, HeadFault> {
        let head: &[u8; HEAD_BYTES_MIN] = bytes.first_chunk().ok_or(HeadFault::Damaged)?;
        if head[..8] != *kind.magic() {
            return Err(HeadFault::Damaged);
        }
        let version = u32_at(head, 8);
        // The rest of a later version's head may be anything. But if it is what a known version wrote but
        // for the number of the version, that has changed by itself.
        let is_ours = (1..=VERSION).any(|version| is_sound(bytes, version));
        if version > VERSION && !is_ours {
            return Err(HeadFault::Newer(version));
        }
        if !(1..=VERSION).contains(&version) || !is_sound(bytes, version) {
            return Err(HeadFault::Damaged);
        }
        let before = Before {
            sequence: u64_at(head, 24),
            bytes: u64_at(head, 32),
        };
        let store = bytes[HEAD_BYTES_MIN..].first_chunk();
        Ok(Head {
            sequence: u64_at(head, 16),
            before: (before.sequence != 0).then_some(before),
            store: store
                .filter(|_| version > 1)
                .map(|store| StoreId::from_bytes(*store)),
        })
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self.store {
            Some(_) => HEAD_BYTES,
            None => HEAD_BYTES_MIN,
        };
        bytes as u64
    }
}

/// Whether a head of that version begins here, whatever number of a version stands in it.
fn is_sound(bytes: &[u8], version: u32) -> bool {
    let len = if version > 1 {
        HEAD_BYTES
    } else {
        HEAD_BYTES_MIN
    };
    let Some(head) = bytes.get(..len) else {
        return false;
    };
    let mut ours = head.to_vec();
    ours[8..12].copy_from_slice(&version.to_le_bytes());
    u32_at(head, 12) == sum(&ours)
}

/// Of all but the sum itself.
fn sum(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[16..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..].first_chunk().copied();
    u32::from_le_bytes(bytes.unwrap_or_default())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk().copied();
    u64::from_le_bytes(bytes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(store: Option<StoreId>) -> Head {
        let before = Some(Before {
            sequence: 3,
            bytes: 1000,
        });
        Head {
            sequence: 7,
            before,
            store,
        }
    }

    #[test]
    fn a_head_is_read_back_and_no_changed_bit_passes() {
        for store in [Some(StoreId::new()), None] {
            let head = head(store);
            let bytes = head.encode(FileKind::Log);
            assert_eq!(bytes.len() as u64, head.bytes());
            // Whatever follows.
            for behind in [0, 1, 100] {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len() + behind, 7);
                assert_eq!(Head::decode(FileKind::Log, &bytes), Ok(head));
                let as_other = Head::decode(FileKind::Snapshot, &bytes);
                assert_eq!(as_other, Err(HeadFault::Damaged));
            }
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let read = Head::decode(FileKind::Log, &changed);
                assert_eq!(read, Err(HeadFault::Damaged), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert!(Head::decode(FileKind::Log, &bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut newer = head(Some(StoreId::new())).encode(FileKind::Log);
        newer[8] = 9;
        let version_alone = Head::decode(FileKind::Log, &newer);
        assert_eq!(version_alone, Err(HeadFault::Damaged));
        let sum = sum(&newer).to_le_bytes();
        newer[12..16].copy_from_slice(&sum);
        let read = Head::decode(FileKind::Log, &newer);
        assert_eq!(read, Err(HeadFault::Newer(9)));
    }

    /// Byte for byte what the version before has written.
    #[test]
    fn a_head_without_a_store_is_as_it_ever_was() {
        let bytes = head(None).encode(FileKind::Log);
        assert_eq!(&bytes[..12], b"iii-log\n\x01\0\0\0");
        assert_eq!(
            &bytes[16..],
            b"\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\xe8\x03\0\0\0\0\0\0"
        );
        assert_eq!(bytes.len(), 40);
    }
}
