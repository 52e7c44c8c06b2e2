//! What stands in a URL before its path: the address of an engine, the origin of a web page.
//!
//! Checks texts and changes none. Resolves no name, and knows nothing of files and their places.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

const SCHEMES_ENGINE: [&str; 2] = ["ws://", "wss://"];
/// Those that people write where an address is expected.
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

/// `ws://host[:port][/path]`, or the same with `wss`. Err: what is wrong, and what is expected.
pub(super) fn check_engine(url: &str) -> Result<(), String> {
    let is_engine = SCHEMES_ENGINE
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .is_some_and(|rest| {
            let (authority, behind) = rest.split_at(authority_len(rest));
            let host = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
            let path = &behind[..behind.find(['?', '#']).unwrap_or(behind.len())];
            is_host_and_port(host)
                && !path.contains('@')
                && !url.contains(|char: char| char.is_whitespace())
        });
    if is_engine {
        Ok(())
    } else {
        Err(format!(
            "{:?} is no address of an engine, expected ws://host:port or wss://host:port{}",
            of_no_address(url),
            hint(url)
        ))
    }
}

/// `scheme://host[:port]`, `*.domain` or `null`, as it is compared with what a browser sends.
pub(super) fn check_origin(text: &str) -> Result<(), String> {
    let is_origin = match (text, text.strip_prefix("*."), text.split_once("://")) {
        ("null", ..) => true,
        (_, Some(domain), _) => is_name(domain),
        (_, _, Some((scheme, host))) => is_scheme(scheme) && is_host_and_port(host),
        _ => false,
    };
    if is_origin {
        return Ok(());
    }
    let hint = match text.trim_end_matches('/') {
        "*" => " (leave the key out to allow all)",
        shorter if shorter != text && check_origin(shorter).is_ok() => " (remove the last /)",
        _ if !text.is_ascii() => " (write the host as browsers send it, xn--...)",
        _ => "",
    };
    // Nothing of what a browser sends has a user.
    let text = match text.contains('@') {
        true => of_no_address(text),
        false => text.to_owned(),
    };
    Err(format!(
        "{text:?} is no origin, expected scheme://host, scheme://host:port, *.domain or \"null\"{hint}"
    ))
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
        is_host_and_port(host).then(|| host.to_owned())
    };
    // What could be a login without a host is not shown.
    let is_plain_host = split_host(rest).is_some_and(|(host, port)| {
        (host == "localhost" || host.parse::<IpAddr>().is_ok()) && port.is_none_or(is_port)
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

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = split_host(text) else {
        return false;
    };
    let is_host = match text.starts_with('[') {
        true => host.parse::<Ipv6Addr>().is_ok(),
        false => is_name(host),
    };
    is_host && port.is_none_or(is_port)
}

/// Takes `host`, `host:port`, `[::1]` or `[::1]:port` apart, without brackets. Neither part is checked.
pub fn split_host(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// Also an IPv4 address. A dot stands between two letters or at the end.
fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty()
        && text.bytes().all(is_letter)
        && !text.starts_with('.')
        && !text.contains("..")
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_reached_over_web_sockets_only() {
        for url in [
            "ws://localhost",
            "ws://localhost:49134",
            "wss://engine.example.com/",
            "ws://127.0.0.1:1/a/path?token=x",
            "ws://[::1]:49134",
            "wss://user:p@ss@host:1",
        ] {
            assert_eq!(check_engine(url), Ok(()), "{url}");
        }
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
        ] {
            let what = check_engine(url).err().unwrap_or_default();
            assert!(
                what.ends_with(
                    "is no address of an engine, expected ws://host:port or wss://host:port"
                ),
                "{url}: {what}"
            );
        }
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
                let engine = check_engine(&text).err();
                let messages = [
                    Some(without_secrets(&text)).filter(|_| text.contains('@')),
                    engine,
                    Some(of_no_address(&text)),
                    Some(shown(&text).into_owned()).filter(|_| text.contains('@')),
                    check_origin(&text).err().filter(|_| text.contains('@')),
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
            check_engine("ws://u:a/b@h:1").err().unwrap(),
            "\"ws://***@h:1\" is no address of an engine, expected ws://host:port or wss://host:port (in a user \
             name or password write / as %2F, ? as %3F, # as %23, @ as %40, % as %25)"
        );
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
            assert_eq!(check_origin(text), Ok(()), "{text}");
        }
        for (text, hint) in [
            ("", ""),
            ("example.com", ""),
            ("https://", ""),
            ("://example.com", ""),
            ("1a://example.com", ""),
            ("https://example.com/", " (remove the last /)"),
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
            assert_eq!(check_origin(text), Err(expected));
        }
        let what = check_origin("https://user:word@example.com").unwrap_err();
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
