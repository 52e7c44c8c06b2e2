//! Where a running engine is: the parts of an address that the configuration has checked.
//!
//! Pure. Resolves no name.

use crate::config::{split_host, without_secrets};

/// `ws://[user:password@]host[:port][/target]`, or the same with `wss`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineAddress {
    /// The whole for people: without secrets.
    pub(super) shown: String,
    pub(super) is_tls: bool,
    /// `host[:port]` as it stands there, for the `host` header.
    pub(super) authority: String,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// `user:password`.
    pub(super) credentials: Option<String>,
    /// Path and query.
    pub(super) target: String,
}

impl EngineAddress {
    /// `None`: it is no such address.
    pub(super) fn parse(url: &str) -> Option<EngineAddress> {
        let (is_tls, rest) = match url.strip_prefix("ws://") {
            Some(rest) => (false, rest),
            None => (true, url.strip_prefix("wss://")?),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (whole, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (credentials, authority) = match whole.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials.to_owned()), authority),
            None => (None, whole),
        };
        let (host, port) = split_host(authority)?;
        let port = match port {
            Some(port) => port.parse().ok()?,
            None if is_tls => 443,
            None => 80,
        };
        Some(EngineAddress {
            shown: without_secrets(url),
            is_tls,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            credentials,
            target: match target.strip_prefix('/') {
                Some(_) => target.to_owned(),
                None => format!("/{target}"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let parse = |url| EngineAddress::parse(url).unwrap();
        let plain = parse("ws://localhost:49134");
        assert_eq!((&*plain.host, plain.port), ("localhost", 49134));
        assert_eq!(
            (&*plain.authority, &*plain.target),
            ("localhost:49134", "/")
        );
        assert!(!plain.is_tls && plain.credentials.is_none());
        let full = parse("wss://u:p@ss@[::1]:1/a/b?token=x#f");
        assert_eq!((&*full.host, full.port), ("::1", 1));
        assert_eq!(
            (&*full.authority, &*full.target),
            ("[::1]:1", "/a/b?token=x")
        );
        assert_eq!(full.credentials.as_deref(), Some("u:p@ss"));
        assert_eq!(full.shown, "wss://***@[::1]:1/a/b?***");
        assert_eq!(parse("wss://h").port, 443);
        assert_eq!(parse("ws://h").port, 80);
        assert_eq!(parse("ws://h?x=1").target, "/?x=1");
        assert_eq!(EngineAddress::parse("http://h"), None);
        assert_eq!(EngineAddress::parse("ws://h:99999"), None);
    }
}
