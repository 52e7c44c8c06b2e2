//! The head of an upgrade: what is judged bit by bit is judged as the whole is.

use std::time::SystemTime;

use iii_stream::protocol::handshake::{Head, HeadReader, Port};

use super::Steer;

/// The first byte says which port and how the rest is cut, the second how long a head may be.
pub fn run(input: &[u8]) {
    let mut steer = Steer(input);
    let how = steer.byte();
    let (port, step) = match how & 1 {
        0 => (Port::Stream, usize::from(how >> 1).max(1)),
        _ => (Port::Worker, usize::from(how >> 1).max(1)),
    };
    let limit = usize::from(steer.byte()) * 32;
    let whole = judged(
        HeadReader::default().read(port, steer.0, limit),
        port,
        steer.0,
    );
    let mut reader = HeadReader::default();
    let mut len = 0;
    let in_steps = loop {
        len = (len + step).min(steer.0.len());
        let verdict = judged(reader.read(port, &steer.0[..len], limit), port, steer.0);
        if verdict.is_some() || len == steer.0.len() {
            break verdict;
        }
    };
    // Too long a head may be found out before it is found to be none.
    let is_upgrade = |verdict: &Option<Option<String>>| matches!(verdict, Some(Some(_)));
    assert_eq!(
        is_upgrade(&whole),
        is_upgrade(&in_steps),
        "{whole:?} {in_steps:?}"
    );
    if is_upgrade(&whole) {
        assert_eq!(whole, in_steps);
    }
}

/// None: not yet. Some(None): refused.
fn judged(head: Head, port: Port, bytes: &[u8]) -> Option<Option<String>> {
    match head {
        Head::Incomplete => None,
        Head::Refused(refusal) => {
            let answer = refusal.response(port, SystemTime::UNIX_EPOCH);
            assert!(answer.starts_with(b"HTTP/1.1 "));
            assert!(answer.windows(4).any(|end| end == b"\r\n\r\n"));
            Some(None)
        }
        Head::Upgrade(upgrade) => {
            assert!(upgrade.consumed <= bytes.len());
            let answer = upgrade.accepted(SystemTime::UNIX_EPOCH);
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
            let lines = answer.split(|byte| *byte == b'\n');
            assert_eq!(
                lines.filter(|line| *line == b"\r").count(),
                1,
                "one empty line"
            );
            Some(Some(format!("{:?} {}", upgrade.target, upgrade.consumed)))
        }
    }
}
