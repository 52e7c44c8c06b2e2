//! A client's frames as bytes, right and wrong ones. Also for `benches` and `simulation`.

/// Every test's mask, so that a server that does not unmask shows it.
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A client's frame: its first byte as given, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// A whole text message of a client.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// The header of a frame up to its mask, with a length that need not be true.
pub(crate) fn header(first: u8, mask: u8, len: usize) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..126 => header.push(mask | len as u8),
        126..0x1_0000 => {
            header.push(mask | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header
}
