//! Where to connect: `ws://host:port/path`, or `wss://`, resolved once and, unless allowed, loopback only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crate::stream::Trust;

/// One server port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As written, for the `Host` header.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) address: SocketAddr,
    pub(crate) is_tls: bool,
    /// Whom it trusts under TLS.
    pub(crate) trust: Option<Trust>,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (is_tls, rest) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err("must begin with ws:// or wss://".to_owned()),
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if path.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) {
            return Err("the path holds blanks".to_owned());
        }
        let mut addresses = host
            .to_socket_addrs()
            .map_err(|e| format!("{host:?} is no host:port: {e}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{host:?} has no address"))?;
        Ok(Self {
            host: host.to_owned(),
            path: path.to_owned(),
            address,
            is_tls,
            trust: None,
        })
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            host: address.to_string(),
            path: "/".to_owned(),
            address,
            is_tls: false,
            trust: None,
        }
    }

    /// With TLS: whom it trusts, and for which host the other side has to show a certificate.
    pub(crate) fn trusted(&self) -> Option<(&Trust, &str)> {
        let trust = self.trust.as_ref()?;
        let host = self
            .host
            .rsplit_once(':')
            .map_or(&*self.host, |(host, _)| host);
        Some((trust, host.trim_matches(['[', ']'])))
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

/// The source address of connection `index` when there are `sources` of them: 127.0.0.1, .2, …
/// Each has its own 28,000 ports. `None`: the kernel chooses, which suffices for one.
pub(crate) fn source_address(index: usize, sources: u8) -> Option<SocketAddr> {
    let last = (index % usize::from(sources)) as u8 + 1;
    (sources > 1).then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("ws://127.0.0.1:3112").unwrap();
        assert_eq!(
            (target.host.as_str(), target.path.as_str()),
            ("127.0.0.1:3112", "/")
        );
        assert!(target.is_loopback());
        assert_eq!(
            Target::parse("ws://127.0.0.1:1/a/b?c").unwrap().path,
            "/a/b?c"
        );
        assert!(!target.is_tls && Target::parse("wss://localhost:1").unwrap().is_tls);
        assert!(!Target::parse("ws://192.0.2.1:80").unwrap().is_loopback());
        for wrong in [
            "http://127.0.0.1:1",
            "ws://127.0.0.1",
            "ws://",
            "ws://127.0.0.1:1/a b",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sources_rotate() {
        assert_eq!(source_address(5, 1), None);
        let last_bytes: Vec<String> = (0..4)
            .filter_map(|i| source_address(i, 3))
            .map(|a| a.to_string())
            .collect();
        assert_eq!(
            last_bytes,
            ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0", "127.0.0.1:0"]
        );
    }
}
