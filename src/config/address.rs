//! What stands in a URL before its path: the address of an engine, the origin of a web page.
//!
//! Checks texts and changes none. Resolves no name, and knows nothing of files and their places.

use std::net::Ipv6Addr;

const SCHEMES_ENGINE: [&str; 2] = ["ws://", "wss://"];
/// Stands where something secret is left out.
const HIDDEN: &str = "***";

/// `ws://host[:port][/path]`, or the same with `wss`. Err: what is wrong, and what is expected.
pub(super) fn check_engine(url: &str) -> Result<(), String> {
    let is_engine = SCHEMES_ENGINE
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .is_some_and(|rest| {
            let authority = &rest[..authority_len(rest)];
            let host = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
            is_host_and_port(host) && !url.contains(|char: char| char.is_whitespace())
        });
    if is_engine {
        Ok(())
    } else {
        Err(format!(
            "{:?} is no address of an engine, expected ws://host:port or wss://host:port",
            without_secrets(url)
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
    Err(format!(
        "{text:?} is no origin, expected scheme://host, scheme://host:port, *.domain or \"null\"{hint}"
    ))
}

/// The URL for a log: without the user and password in it, and without the values of its query.
pub fn without_secrets(url: &str) -> String {
    let start = url.find("://").map_or(0, |found| found + "://".len());
    let end = start + authority_len(&url[start..]);
    let (scheme, authority, rest) = (&url[..start], &url[start..end], &url[end..]);
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", authority),
    };
    let (path, query) = match rest.split_once(['?', '#']) {
        Some((path, _)) => (path, format!("?{HIDDEN}")),
        None => (rest, String::new()),
    };
    format!("{scheme}{user}{host}{path}{query}")
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
        assert!(
            !check_engine("http://user:secret@host?token=secret")
                .err()
                .unwrap_or_default()
                .contains("secret")
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
            ("https://user@example.com", ""),
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
    }

    #[test]
    fn logs_show_no_secret_of_a_url() {
        for (url, shown) in [
            ("ws://localhost:49134", "ws://localhost:49134"),
            ("wss://u:p@host:1/path", "wss://***@host:1/path"),
            ("wss://u:p@q@host", "wss://***@host"),
            ("ws://host/path?token=x", "ws://host/path?***"),
            ("ws://host?a@b", "ws://host?***"),
            ("u:p@host", "***@host"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
