//! What two readers of one head could understand differently, and what is therefore refused: a line that
//! stands twice where it may stand once, a key that is none, a body.
//!
//! May not know what a port serves.

use data_encoding::BASE64;
use httparse::Header;

use super::{Refusal, all, first};

/// What a request has once at most, by RFC 9110, RFC 6455 and RFC 6454, as refusals write it. All others are
/// lists, which may stand on several lines, or nobody's but the auth function's; the lines of `Cookie` are
/// joined for that, as proxies cut them.
const ONCE: [&str; 21] = [
    "Host",
    "Origin",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Authorization",
    "Proxy-Authorization",
    "Content-Length",
    "Content-Type",
    "Content-Location",
    "Content-Range",
    "Date",
    "From",
    "If-Modified-Since",
    "If-Range",
    "If-Unmodified-Since",
    "Max-Forwards",
    "Range",
    "Referer",
    "Sec-Fetch-Site",
    "Sec-WebSocket-Accept",
    "User-Agent",
];

/// What a key is, without its base64.
const KEY_BYTES: usize = 16;

/// Whether it is 16 bytes in base64.
pub(super) fn is_key(key: &[u8]) -> bool {
    BASE64
        .decode(key)
        .is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

/// Refuses what stands twice, and a body, which nobody would read: its bytes would be taken for frames.
pub(super) fn check(headers: &[Header<'_>]) -> Result<(), Refusal> {
    for name in ONCE {
        if all(headers, name).nth(1).is_some() {
            return Err(Refusal::Twice(name));
        }
    }
    let length = first(headers, "content-length").unwrap_or(b"0");
    let is_zero = !length.is_empty() && length.iter().all(|&digit| digit == b'0');
    match is_zero && first(headers, "transfer-encoding").is_none() {
        true => Ok(()),
        false => Err(Refusal::HasBody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_bytes_in_base64_and_nothing_else() {
        for key in [
            "dGhlIHNhbXBsZSBub25jZQ==",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "+/+/+/+/+/+/+/+/+/+/+w==",
        ] {
            assert!(is_key(key.as_bytes()), "{key}");
        }
        for key in [
            "",
            "x",
            "any text",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZQAA",
            "dGhlIHNhbXBsZSBub25jZQ==, x",
            "dGhlIHNhbXBsZSBub25j ZQ==",
            "-_-_-_-_-_-_-_-_-_-_-w==",
            "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(!is_key(key.as_bytes()), "{key}");
        }
        assert!(!is_key(&[0xff; 24]));
    }
}
