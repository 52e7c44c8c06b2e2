//! A host and a port to listen on, and how both are shown.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A host and a port to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As written, for messages: an address, an IPv6 address with or without brackets, or a name.
    pub host: String,
    /// 0: the kernel picks a free one.
    pub port: u16,
}

impl Endpoint {
    /// Takes both as they are.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Endpoint {
            host: host.into(),
            port,
        }
    }

    /// The addresses to try, in order. A name is looked up, so this may wait: ask once, at start.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = ip_address(&self.host) {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

/// `host:port`, with the brackets that an IPv6 address needs there.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ip_address(&self.host) {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// None: a name, or nothing sensible.
pub(super) fn ip_address(host: &str) -> Option<IpAddr> {
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_takes_addresses_with_and_without_brackets_and_shows_them_with() {
        for (host, shown) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("localhost", "localhost:80"),
        ] {
            let endpoint = Endpoint::new(host, 80);
            assert_eq!(endpoint.to_string(), shown);
            let addresses = endpoint.addresses().unwrap();
            assert!(
                addresses
                    .iter()
                    .all(|address| address.ip().is_loopback() && address.port() == 80)
            );
            assert!(!addresses.is_empty());
        }
        assert!(Endpoint::new("[127.0.0.1]", 80).addresses().is_err());
    }
}
