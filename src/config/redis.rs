//! The Redis store: where it is, and how long it may take.
//!
//! Reads addresses and resolves none.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::address::{host_and_port, server_name, without_secrets};

/// Where the reference looks when nothing else is said.
pub(super) const REDIS_URL: &str = "redis://localhost:6379";
/// At start; later attempts back off.
pub(super) const CONNECT_TIMEOUT_MS: u64 = 5000;
/// Scripts under way on one connection; above: calls wait.
pub(super) const IN_FLIGHT: usize = 1024;
/// After so long a host that says nothing counts as dead to the others.
pub(super) const LEASE_MS: u64 = 15_000;

const HOST: &str = "localhost";
const PORT: u16 = 6379;

/// The Redis store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStore {
    /// Where.
    pub address: RedisAddress,
    /// A start that takes longer fails.
    pub connect_timeout: Duration,
    /// Calls under way; more wait.
    pub in_flight: usize,
    /// Members of a host that says nothing for so long go.
    pub lease: Duration,
    /// Calls that take longer fail.
    pub call_timeout: Duration,
}

impl RedisStore {
    /// With the defaults. `None`: it is no such address.
    pub fn at(url: &str) -> Option<RedisStore> {
        Some(RedisStore {
            address: RedisAddress::parse(url)?,
            connect_timeout: Duration::from_millis(CONNECT_TIMEOUT_MS),
            in_flight: IN_FLIGHT,
            lease: Duration::from_millis(LEASE_MS),
            call_timeout: Duration::from_millis(super::CALL_TIMEOUT_MS),
        })
    }
}

/// `redis://[user][:password@]host[:port][/db]`, or the same with `rediss`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    url: String,
    /// Whose certificate it has to show. None: it is no `rediss`.
    pub server_name: Option<ServerName<'static>>,
    /// A name, or an address without brackets.
    pub host: String,
    /// 6379 unless it is written.
    pub port: u16,
    /// Who we are there; none: the default user.
    pub user: Option<String>,
    /// A secret.
    pub password: Option<String>,
    /// Which database.
    pub database: u32,
}

impl RedisAddress {
    /// `None`: it is no such address.
    pub fn parse(url: &str) -> Option<RedisAddress> {
        let (is_tls, rest) = match url.strip_prefix("rediss://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("redis://")?),
        };
        // It would end a password that a `/`, `?` or `#` has cut, and the host be another one.
        let behind = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if rest[behind..].contains('@') {
            return None;
        }
        let rest = rest.split(['?', '#']).next()?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (String::new(), String::new()),
        };
        let (host, port) = match host.strip_prefix(':') {
            Some(_) => host_and_port(&format!("{HOST}{host}")).map(|(_, port)| (HOST, port))?,
            None if host.is_empty() => (HOST, None),
            None => host_and_port(host)?,
        };
        Some(RedisAddress {
            url: url.to_owned(),
            server_name: match is_tls {
                true => Some(server_name(host)?),
                false => None,
            },
            host: host.to_owned(),
            port: port.unwrap_or(PORT),
            user: Some(user).filter(|user| !user.is_empty()),
            password: Some(password).filter(|password| !password.is_empty()),
            database: if path.is_empty() {
                0
            } else {
                path.parse().ok()?
            },
        })
    }

    /// For messages: without user and password.
    pub fn shown(&self) -> String {
        without_secrets(&self.url)
    }

    /// What Redis says, without the login that it may repeat: a server that does not know a command
    /// quotes what came with it.
    pub fn without_login(&self, said: &str) -> String {
        let said = said
            .find(", with args beginning with")
            .map_or(said, |cut| &said[..cut]);
        match &self.password {
            Some(password) => said.replace(password.as_str(), "***"),
            None => said.to_owned(),
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// With `%40` and the like as what they stand for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_whole() {
        let parts = |url| {
            let read = RedisAddress::parse(url)?;
            let login = (read.user, read.password);
            Some((
                read.server_name.is_some(),
                read.host,
                read.port,
                login,
                read.database,
            ))
        };
        let host = |is_tls, host: &str, port| {
            let login = (None, None);
            Some((is_tls, host.to_owned(), port, login, 0))
        };
        assert_eq!(parts("redis://localhost"), host(false, "localhost", 6379));
        assert_eq!(parts("rediss://r.example:1/"), host(true, "r.example", 1));
        assert_eq!(parts("redis://[::1]:7/"), host(false, "::1", 7));
        assert_eq!(parts("redis://"), host(false, "localhost", 6379));
        let (user, password) = (Some("me".to_owned()), Some("p@:/".to_owned()));
        assert_eq!(
            parts("redis://me:p%40:%2F@h:1/3?protocol=resp2"),
            Some((false, "h".to_owned(), 1, (user, password.clone()), 3))
        );
        assert_eq!(
            parts("redis://:p%40:%2F@h"),
            Some((false, "h".to_owned(), 6379, (None, password), 0))
        );
        for url in [
            "",
            "http://h",
            "redis:h",
            "redis://h:0",
            "redis://h:x",
            "redis://h/x",
            "redis://[::1",
            "redis://a b",
            "redis://[host]",
            "redis://300.1.1.1",
            "redis://h\u{fc}",
            "rediss://-h",
            "redis://%zz@h",
            "redis://:a/b@h",
            "redis://:12?b@h",
            "redis://:12#b@h",
            "redis://h/1?x=@",
        ] {
            assert_eq!(parts(url), None, "{url}");
        }
    }

    #[test]
    fn no_message_shows_a_password() {
        let store = RedisStore::at("redis://me:secret@host:1/2").unwrap();
        let shown = format!("{store:?}");
        assert!(shown.contains("redis://***@host:1/2") && !shown.contains("secret"));
        let said = "ERR unknown command `AUTH`, with args beginning with: `me`, `secret`, ";
        assert_eq!(
            store.address.without_login(said),
            "ERR unknown command `AUTH`"
        );
        let said = "ERR 'secret' is wrong";
        assert_eq!(store.address.without_login(said), "ERR '***' is wrong");
    }
}
