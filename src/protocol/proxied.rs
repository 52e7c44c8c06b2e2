//! Where a client is that comes through a proxy: what a header or the PROXY protocol says of it, and whose
//! word on that counts.
//!
//! Reads bytes that a peer may have made up: nobody's word counts but that of a proxy in the settings.

use core::net::{IpAddr, SocketAddr}; // an address is data
use std::fmt;
use std::str::FromStr;

use httparse::{EMPTY_HEADER, Request, Status};

use super::handshake::HEADERS_LEN_MAX;

const HEADER: &str = "x-forwarded-for";
/// What a line of the PROXY protocol begins with, in its text form and in its other one.
const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// A longer line of text is none.
const TEXT_BYTES_MAX: usize = 107;
/// Signature, version and command, family, length.
const BINARY_HEAD_BYTES: usize = 16;
/// More than addresses and what proxies add to them is none.
const BINARY_BYTES_MAX: usize = 2048;

/// Addresses whose first bits are these: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether that address is among them. One of IPv4 that is written as IPv6 is one of IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                let differs = first.to_bits() ^ ip.to_bits();
                differs.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                let differs = first.to_bits() ^ ip.to_bits();
                differs.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let expected = || "expected an address or a network, as 127.0.0.1 or 10.0.0.0/8".to_owned();
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = ip.parse().map_err(|_| expected())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let is_number =
            |bits: &&str| !bits.is_empty() && bits.bytes().all(|it| it.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => match Some(bits).filter(is_number).and_then(|it| it.parse().ok()) {
                Some(bits) if bits <= most => bits,
                _ => return Err(expected()),
            },
        };
        let network = Network { first, bits };
        // What was meant is not clear where bits are set behind those that count.
        let lowest = match first {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        match lowest.checked_shl(u32::from(bits)).unwrap_or(0) {
            0 => Ok(network),
            _ => Err(format!("has bits beyond its first {bits}")),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first.is_ipv4(), self.bits) {
            (true, 32) | (false, 128) => self.first.fmt(f),
            (_, bits) => write!(f, "{}/{bits}", self.first),
        }
    }
}

/// The proxies in the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(pub Vec<Network>);

impl Proxies {
    /// Whether the word of who is at that address counts.
    pub fn trust(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }

    /// Where the client is whose request came from `peer`: the last address of its `X-Forwarded-For` that
    /// is no proxy's, as each proxy adds the one that it has seen. Port 0: nobody has said.
    pub fn client(&self, head: &[u8], peer: SocketAddr) -> SocketAddr {
        if !self.trust(peer.ip()) {
            return peer;
        }
        let mut headers = [EMPTY_HEADER; HEADERS_LEN_MAX];
        let mut request = Request::new(&mut headers);
        if !matches!(request.parse(head), Ok(Status::Complete(_))) {
            return peer;
        }
        let lines = request.headers.iter().rev();
        let lines = lines.filter(|header| header.name.eq_ignore_ascii_case(HEADER));
        let mut client = peer;
        for said in lines.flat_map(|header| header.value.rsplit(|byte| *byte == b',')) {
            let Some(address) = address(said) else {
                break; // who has written that is no proxy that we know
            };
            client = address;
            if !self.trust(address.ip()) {
                break;
            }
        }
        client
    }
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn address(said: &[u8]) -> Option<SocketAddr> {
    let said = std::str::from_utf8(said).ok()?.trim_ascii();
    let bare = said.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = bare.unwrap_or(said).parse::<IpAddr>();
    let address = ip.map(|ip| SocketAddr::new(ip, 0)).ok();
    address.or_else(|| said.parse().ok())
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// No line of the PROXY protocol.
    Other,
    /// It may become one.
    Incomplete,
    /// One of so many bytes.
    Proxied {
        /// How long it is.
        len: usize,
        /// Where the client is. None: the proxy speaks for itself, or does not know.
        client: Option<SocketAddr>,
    },
    /// One that is broken.
    Broken,
}

impl Beginning {
    /// Of these bytes, all that have come.
    pub fn of(bytes: &[u8]) -> Beginning {
        let begins = |with: &[u8]| bytes.len() < with.len() && with.starts_with(bytes);
        if bytes.starts_with(TEXT) {
            return of_text(bytes);
        }
        if bytes.starts_with(BINARY) {
            return of_binary(bytes);
        }
        // An empty line may stand before a request, so its first bytes may be either's.
        match begins(TEXT) || begins(BINARY) {
            true => Beginning::Incomplete,
            false => Beginning::Other,
        }
    }
}

/// `PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n`
fn of_text(bytes: &[u8]) -> Beginning {
    let seen = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < TEXT_BYTES_MAX {
            true => Beginning::Incomplete,
            false => Beginning::Broken,
        };
    };
    let line = std::str::from_utf8(&seen[TEXT.len()..end]).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4" | "TCP6", ip, _, port, _] => match (ip.parse(), port.parse()) {
            (Ok(ip), Ok(port)) => Some(SocketAddr::new(ip, port)),
            _ => return Beginning::Broken,
        },
        _ => return Beginning::Broken,
    };
    Beginning::Proxied {
        len: end + 2,
        client,
    }
}

fn of_binary(bytes: &[u8]) -> Beginning {
    let Some(head) = bytes.get(..BINARY_HEAD_BYTES) else {
        return Beginning::Incomplete;
    };
    let body_len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let len = BINARY_HEAD_BYTES + body_len;
    if len > BINARY_BYTES_MAX {
        return Beginning::Broken;
    }
    let Some(body) = bytes.get(BINARY_HEAD_BYTES..len) else {
        return Beginning::Incomplete;
    };
    let port = |at: usize| {
        body.get(at..at + 2)
            .map(|it| u16::from_be_bytes([it[0], it[1]]))
    };
    let client = match (head[12], head[13]) {
        (0x20, _) => None, // the proxy itself, that looks whether somebody is here
        (0x21, 0x11) => {
            let ip = body.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
            match (ip, port(8)) {
                (Some(ip), Some(port)) => Some(SocketAddr::new(ip, port)),
                _ => return Beginning::Broken,
            }
        }
        (0x21, 0x21) => {
            let ip = body.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
            match (ip, port(32)) {
                (Some(ip), Some(port)) => Some(SocketAddr::new(ip, port)),
                _ => return Beginning::Broken,
            }
        }
        (0x21, _) => None,
        _ => return Beginning::Broken,
    };
    Beginning::Proxied { len, client }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_network_is_what_its_first_bits_say() {
        let all = proxies(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "0.0.0.0/32"]);
        for (ip, is_in) in [
            ("10.255.0.1", true),
            ("::ffff:10.1.2.3", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("fdff::1", true),
            ("fe00::1", false),
            ("::", false),
        ] {
            assert_eq!(all.trust(ip.parse().unwrap()), is_in, "{ip}");
        }
        assert!(proxies(&["0.0.0.0/0"]).trust("203.0.113.9".parse().unwrap()));
        assert!(proxies(&["::/0"]).trust("2001:db8::1".parse().unwrap()));
        for wrong in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "::1/129",
            "10.0.0.0/8/8",
            "localhost",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!(all.0[0].to_string(), "10.0.0.0/8");
        assert_eq!(all.0[1].to_string(), "192.0.2.7");
    }

    #[test]
    fn the_last_address_that_is_no_proxys_counts_and_lies_before_it_do_not() {
        let trusted = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let client = |lines: &str, peer: SocketAddr| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            trusted.client(head.as_bytes(), peer).to_string()
        };
        for (lines, expected) in [
            ("", "127.0.0.1:9"),
            ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9:0"),
            ("x-forwarded-for: 1.1.1.1, 203.0.113.9\r\n", "203.0.113.9:0"),
            (
                "X-Forwarded-For: 203.0.113.9, 10.1.1.1\r\n",
                "203.0.113.9:0",
            ),
            (
                "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.9:55\r\n",
                "203.0.113.9:55",
            ),
            (
                "X-Forwarded-For: [2001:db8::1]:5, 10.0.0.2\r\n",
                "[2001:db8::1]:5",
            ),
            ("X-Forwarded-For: 2001:db8::1\r\n", "[2001:db8::1]:0"),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3:0"),
            (
                "X-Forwarded-For: 1.1.1.1, nonsense, 10.0.0.2\r\n",
                "10.0.0.2:0",
            ),
            ("X-Forwarded-For: 1.1.1.1, unknown\r\n", "127.0.0.1:9"),
            ("X-Forwarded-For: \r\n", "127.0.0.1:9"),
        ] {
            assert_eq!(client(lines, peer), expected, "{lines}");
        }
        let stranger = "203.0.113.1:7".parse().unwrap();
        assert_eq!(
            client("X-Forwarded-For: 1.1.1.1\r\n", stranger),
            "203.0.113.1:7"
        );
    }

    #[test]
    fn a_line_of_the_proxy_protocol_is_read_in_both_forms_and_cut_anywhere() {
        let text = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 3112\r\n".to_vec();
        let mut binary = [
            BINARY,
            &[
                0x21, 0x11, 0, 12, 203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 12, 40,
            ],
        ]
        .concat();
        for line in [&text, &binary] {
            for end in 0..line.len() {
                assert_eq!(Beginning::of(&line[..end]), Beginning::Incomplete);
            }
            let whole = [line, &b"GET / HTTP/1.1\r\n"[..]].concat();
            let expected = Beginning::Proxied {
                len: line.len(),
                client: Some("203.0.113.9:4711".parse().unwrap()),
            };
            assert_eq!(Beginning::of(&whole), expected);
        }
        binary[12] = 0x20;
        assert!(matches!(
            Beginning::of(&binary),
            Beginning::Proxied { client: None, .. }
        ));
        let six = [BINARY, &[0x21, 0x21, 0, 36], &[0x20; 32], &[0, 7, 0, 8]].concat();
        let expected = "[2020:2020:2020:2020:2020:2020:2020:2020]:7"
            .parse()
            .unwrap();
        assert!(
            matches!(Beginning::of(&six), Beginning::Proxied { client: Some(at), .. } if at == expected)
        );
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXIED",
            b"POST",
            b"\r\n\r\nGET",
            b"\r\nGET",
        ] {
            assert_eq!(Beginning::of(other), Beginning::Other);
        }
        for broken in [
            &b"PROXY TCP4 x 10.0.0.1 1 2\r\n"[..],
            b"PROXY TCP4 1.2.3.4 10.0.0.1 70000 2\r\n",
            b"PROXY \r\n",
            &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
            &[BINARY, &[0x21, 0x11, 0, 3, 1, 2, 3]].concat(),
            &[BINARY, &[0x21, 0x11, 255, 255]].concat(),
            &[BINARY, &[0x11, 0x11, 0, 0]].concat(),
        ] {
            assert_eq!(Beginning::of(broken), Beginning::Broken, "{broken:?}");
        }
    }
}
