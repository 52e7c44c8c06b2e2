//! What stands in a URL before its path: the address of an engine, the origin of a web page.
//!
//! Takes texts apart, once. Resolves no name, and knows nothing of files and their places.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use rustls::pki_types::ServerName;

use crate::protocol::origin::OriginRule;

/// What a name, and a part of it between dots, may have (RFC 1035).
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;
/// Schemes that people write where an address is expected.
const SCHEMES: [&str; 8] = [
    "ws://",
    "wss://",
    "redis://",
    "rediss://",
    "http://",
    "https://",
    "tcp://",
    "unix://",
];
/// Stands where something secret is left out.
const HIDDEN: &str = "***";

/// `ws://[user:password@]host[:port][/target]`, or the same with `wss`: where a running engine is.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineAddress {
    /// The whole for people: without secrets.
    pub shown: String,
    /// Whose certificate the engine has to show. None: it is no `wss`.
    pub server_name: Option<ServerName<'static>>,
    /// `host[:port]` as it stands there, for the `host` header.
    pub authority: String,
    /// A name or an address, without brackets.
    pub host: String,
    /// 80 or 443 where none is named.
    pub port: u16,
    /// `user:password`, a secret.
    pub credentials: Option<String>,
    /// Path and query, in which a secret may stand.
    pub target: String,
}

impl fmt::Debug for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl FromStr for EngineAddress {
    /// What is wrong, and what is expected.
    type Err = String;

    fn from_str(url: &str) -> Result<EngineAddress, String> {
        engine_address(url).ok_or_else(|| {
            format!(
                "{:?} is no address of an engine, expected ws://host:port or wss://host:port{}",
                of_no_address(url),
                hint(url)
            )
        })
    }
}

fn engine_address(url: &str) -> Option<EngineAddress> {
    let (is_tls, rest) = match url.strip_prefix("ws://") {
        Some(rest) => (false, rest),
        None => (true, url.strip_prefix("wss://")?),
    };
    if url.contains(|char: char| char.is_whitespace() || char.is_control()) {
        return None;
    }
    let (whole, rest) = rest.split_at(authority_len(rest));
    let target = rest.split('#').next().unwrap_or_default();
    let (credentials, authority) = match whole.rsplit_once('@') {
        Some((credentials, authority)) => (Some(credentials.to_owned()), authority),
        None => (None, whole),
    };
    // It would end a password that a `/` has cut, and the host be another one.
    if target
        .split('?')
        .next()
        .is_some_and(|path| path.contains('@'))
    {
        return None;
    }
    let (host, port) = host_and_port(authority)?;
    let default = if is_tls { 443 } else { 80 };
    Some(EngineAddress {
        shown: without_secrets(url),
        server_name: match is_tls {
            true => Some(server_name(host)?),
            false => None,
        },
        authority: authority.to_owned(),
        host: host.to_owned(),
        port: port.unwrap_or(default),
        credentials,
        target: match target.strip_prefix('/') {
            Some(_) => target.to_owned(),
            None => format!("/{target}"),
        },
    })
}

/// What a certificate would have to name. None: none can.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

/// `scheme://host[:port]`, `*.domain` or `null`, as it is compared with what a browser sends.
pub(super) fn origin_rule(text: &str) -> Result<OriginRule, String> {
    let is_rule = |text: &str| text.parse::<OriginRule>().is_ok();
    text.parse().map_err(|_| {
        let shorter = text.trim_end_matches(['/', '.']);
        let hint = match text {
            "*" => " (leave the key out to allow all)",
            _ if shorter != text && is_rule(shorter) => match text.ends_with('/') {
                true => " (remove the last /)",
                false => " (remove the last dot)",
            },
            _ if !text.is_ascii() => " (write the host as browsers send it, xn--...)",
            _ => "",
        };
        // Nothing of what a browser sends has a user.
        let text = match text.contains('@') {
            true => of_no_address(text),
            false => text.to_owned(),
        };
        format!(
            "{text:?} is no origin, expected scheme://host, scheme://host:port, *.domain or \"null\"{hint}"
        )
    })
}

/// The URL for a log: without the user and password in it, and without the values of its query. An
/// `@` behind the host may be the end of a password that a `/`, `?` or `#` has cut: then it is shown
/// as what is no address.
pub fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |found| found + "://".len()));
    let (authority, behind) = rest.split_at(authority_len(rest));
    if behind.contains('@') {
        return of_no_address(url);
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", authority),
    };
    let (path, query) = match behind.split_once(['?', '#']) {
        Some((path, _)) => (path, format!("?{HIDDEN}")),
        None => (behind, String::new()),
    };
    format!("{scheme}{user}{host}{path}{query}")
}

/// A text that should be an address and is none, for a message: nobody can tell what in it is secret.
/// Shown are its scheme, the host behind the last `@`, and a host that stands alone.
pub(super) fn of_no_address(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let known = SCHEMES.iter().find(|scheme| text.starts_with(**scheme));
    let scheme = known.copied().unwrap_or_default();
    let rest = &text[scheme.len()..];
    let host_in = |text: &str| {
        let host = &text[..authority_len(text)];
        host_and_port(host).is_some().then(|| host.to_owned())
    };
    // What could be a login without a host is not shown.
    let is_plain_host = split_host(rest).is_some_and(|(host, port)| {
        (host == "localhost" || host.parse::<IpAddr>().is_ok())
            && port.is_none_or(|port| port_of(port).is_some())
    });
    if is_plain_host {
        return text.to_owned();
    }
    match rest.rsplit_once('@') {
        // It may stand in a token of the query as well.
        Some((before, _))
            if before
                .split_once('?')
                .is_some_and(|(_, query)| query.contains('=')) =>
        {
            format!("{scheme}{HIDDEN}")
        }
        Some((_, after)) => match host_in(after) {
            Some(host) => format!("{scheme}{HIDDEN}@{host}"),
            None => format!("{scheme}{HIDDEN}"),
        },
        None => match host_in(rest).filter(|_| !scheme.is_empty()) {
            Some(host) if host.len() == rest.len() => format!("{scheme}{host}"),
            Some(host) => format!("{scheme}{host}/{HIDDEN}"),
            None => format!("{scheme}{HIDDEN}"),
        },
    }
}

/// What is written otherwise inside a user name or password, where that may be what is wrong.
pub(super) fn hint(text: &str) -> &'static str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    match rest[authority_len(rest)..].contains('@') || rest.contains('%') {
        true => {
            " (in a user name or password write / as %2F, ? as %3F, # as %23, @ as %40, % as %25)"
        }
        false => "",
    }
}

/// Any text of the file, for a message: what may be an address, and hold a password, not whole.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.contains("://") || text.contains('@') {
        true => of_no_address(text).into(),
        false => text.into(),
    }
}

/// What follows `://` up to the path, query or fragment.
fn authority_len(rest: &str) -> usize {
    rest.find(['/', '?', '#']).unwrap_or(rest.len())
}

/// The parts of `host`, `host:port`, `[::1]` or `[::1]:port`, checked.
pub(super) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = split_host(text)?;
    let is_host = match text.starts_with('[') {
        true => host.parse::<Ipv6Addr>().is_ok(),
        false => is_name(host),
    };
    let port = match port {
        Some(digits) => Some(port_of(digits)?),
        None => None,
    };
    is_host.then_some((host, port))
}

/// Takes `host`, `host:port`, `[::1]` or `[::1]:port` apart, without brackets. Neither part is checked.
fn split_host(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// A name that could be looked up, or an IPv4 address. One that ends in a number is an address or nothing.
pub(super) fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label =
        |label: &str| (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_letter);
    let ends_in_number = || {
        let last = name.rsplit('.').next().unwrap_or_default();
        last.bytes().all(|byte| byte.is_ascii_digit())
    };
    name.len() <= NAME_LEN_MAX
        && name.split('.').all(is_label)
        && (!ends_in_number() || text.parse::<Ipv4Addr>().is_ok())
}

fn port_of(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        url.parse::<EngineAddress>().err().unwrap_or_default()
    }

    #[test]
    fn engines_are_reached_over_web_sockets_only() {
        for url in [
            "ws://localhost",
            "ws://localhost:49134",
            "wss://engine.example.com/",
            "ws://127.0.0.1:1/a/path?token=x",
            "ws://[::1]:49134",
            "wss://[::1]:49134",
            "wss://user:p@ss@host:1",
            "ws://host.:1",
        ] {
            assert_eq!(refusal(url), "", "{url}");
        }
        let long = format!("ws://{}", "a".repeat(64));
        for url in [
            "",
            "localhost:49134",
            "http://localhost:49134",
            "WS://localhost",
            "ws://",
            "ws:///path",
            "ws://:49134",
            "ws://host:0",
            "ws://host:65536",
            "ws://host:+1",
            "ws://host:1:2",
            "ws://::1:49134",
            "ws://[::1",
            "ws://[host]:1",
            "ws://a b",
            "ws://host/a b",
            "ws://host/a\0b",
            "ws://300.1.1.1",
            "ws://1.2.3",
            "ws://a..b",
            "ws://.",
            "wss://-host",
            &long,
        ] {
            let what = refusal(url);
            assert!(
                what.ends_with(
                    "is no address of an engine, expected ws://host:port or wss://host:port"
                ),
                "{url}: {what}"
            );
        }
        assert!(!refusal("http://user:secret@host?token=secret").contains("secret"));
    }

    /// What a person types who does not know that a password has to be escaped.
    #[test]
    fn no_message_about_an_address_shows_a_secret_of_it() {
        for secret in [
            "sec/ret",
            "sec?ret",
            "sec#ret",
            "/secret",
            "12/secret",
            "12?secret",
            "s@c/ret",
            "%zz/secret",
            "sec ret",
            "sec\\ret/",
        ] {
            for text in [
                format!("redis://:{secret}@host:6379"),
                format!("redis://me:{secret}@host:6379/0"),
                format!("rediss://{secret}@host"),
                format!("ws://me:{secret}@host:49134/path"),
                format!("wss://{secret}@host/a/b"),
                format!("http://me:{secret}@host"),
                format!("me:{secret}@host"),
                format!("redis://:{secret}"),
                format!("redis://host:6379/{secret}"),
                secret.to_owned(),
            ] {
                if secret.contains('@') && !text.contains("@host") {
                    continue; // a host and a path, for all that anybody can tell
                }
                let engine = text.parse::<EngineAddress>().err();
                let messages = [
                    Some(without_secrets(&text)).filter(|_| text.contains('@')),
                    engine,
                    Some(of_no_address(&text)),
                    Some(shown(&text).into_owned()).filter(|_| text.contains('@')),
                    origin_rule(&text).err().filter(|_| text.contains('@')),
                ];
                for message in messages.into_iter().flatten() {
                    for word in ["sec", "ret", "s@c", "zz"] {
                        assert!(
                            !message.replace("me:", "").contains(word),
                            "{text}: {message}"
                        );
                    }
                }
            }
        }
        let token = "wss://host:49134?token=x@secret";
        assert_eq!(without_secrets(token), "wss://***");
        assert_eq!(
            refusal("ws://u:a/b@h:1"),
            "\"ws://***@h:1\" is no address of an engine, expected ws://host:port or wss://host:port (in a user \
             name or password write / as %2F, ? as %3F, # as %23, @ as %40, % as %25)"
        );
    }

    #[test]
    fn an_address_of_an_engine_is_taken_apart() {
        let parse = |url: &str| url.parse::<EngineAddress>().unwrap();
        let plain = parse("ws://localhost:49134");
        assert_eq!((&*plain.host, plain.port), ("localhost", 49134));
        assert_eq!(
            (&*plain.authority, &*plain.target),
            ("localhost:49134", "/")
        );
        assert!(plain.server_name.is_none() && plain.credentials.is_none());
        let full = parse("wss://u:p@ss@[::1]:1/a/b?token=x#f");
        assert_eq!((&*full.host, full.port), ("::1", 1));
        assert_eq!(
            (&*full.authority, &*full.target),
            ("[::1]:1", "/a/b?token=x")
        );
        assert!(full.server_name.is_some());
        assert_eq!(full.credentials.as_deref(), Some("u:p@ss"));
        assert_eq!(full.shown, "wss://***@[::1]:1/a/b?***");
        assert_eq!(format!("{full:?}"), full.shown);
        assert_eq!(parse("wss://h").port, 443);
        assert_eq!(parse("ws://h").port, 80);
        assert_eq!(parse("ws://h?x=1").target, "/?x=1");
    }

    #[test]
    fn origins_are_what_a_browser_sends_or_all_below_a_domain() {
        for text in [
            "https://example.com",
            "HTTPS://Example.com",
            "http://localhost:5173",
            "http://127.0.0.1",
            "http://[::1]:80",
            "capacitor://localhost",
            "chrome-extension://abcdefgh",
            "*.example.com",
            "null",
        ] {
            let shown = origin_rule(text).map(|rule| rule.to_string());
            assert_eq!(shown.as_deref(), Ok(text));
        }
        for (text, hint) in [
            ("", ""),
            ("example.com", ""),
            ("https://", ""),
            ("://example.com", ""),
            ("1a://example.com", ""),
            ("https://example.com/", " (remove the last /)"),
            ("https://example.com.", " (remove the last dot)"),
            ("*.example.com.", " (remove the last dot)"),
            ("https://example.com/path", ""),
            ("https://example.com:", ""),
            ("https://example.com:70000", ""),
            ("https://*.example.com", ""),
            ("*", " (leave the key out to allow all)"),
            ("*.", ""),
            ("*..com", ""),
            ("*.example.com:80", ""),
            ("*example.com", ""),
            (
                "https://b\u{fc}cher.example",
                " (write the host as browsers send it, xn--...)",
            ),
            ("Null", ""),
        ] {
            let expected = format!(
                "{text:?} is no origin, expected scheme://host, scheme://host:port, *.domain or \"null\"{hint}"
            );
            assert_eq!(origin_rule(text), Err(expected));
        }
        let what = origin_rule("https://user:word@example.com").unwrap_err();
        assert!(what.starts_with("\"https://***@example.com\" is no origin"));
    }

    #[test]
    fn logs_show_no_secret_of_a_url() {
        for (url, shown) in [
            ("ws://localhost:49134", "ws://localhost:49134"),
            ("wss://u:p@host:1/path", "wss://***@host:1/path"),
            ("wss://u:p@q@host", "wss://***@host"),
            ("ws://host/path?token=x", "ws://host/path?***"),
            ("ws://host?a@b", "ws://***@b"),
            ("ws://host?a=c@b", "ws://***"),
            ("u:p@host", "***@host"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
