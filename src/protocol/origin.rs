//! The `Origin` of a browser's page, and the rules that say which pages may connect.
//!
//! May not know the settings that hold the rules, nor which of them a port goes by.

use std::fmt;
use std::str::FromStr;

/// The origin of pages that have none, such as files.
const NONE: &str = "null";

/// Whether a page comes from this very machine.
pub fn is_loopback(origin: &str) -> bool {
    let Some(Parts { host, .. }) = Parts::of(origin) else {
        return false;
    };
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || is_127(&host)
}

/// One entry of a list of allowed origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRule(Rule);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// This origin, compared whole and without case.
    Whole(Box<str>),
    /// Every host that ends so, with its dot; any scheme and port. In lower case.
    Below(Box<str>),
}

/// A text that is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `scheme://host[:port]`, `*.domain` or `null`")]
pub struct NoOriginRule;

impl FromStr for OriginRule {
    type Err = NoOriginRule;

    fn from_str(text: &str) -> Result<OriginRule, NoOriginRule> {
        if let Some(domain) = text.strip_prefix("*.") {
            return match is_host(domain) {
                true => Ok(OriginRule(Rule::Below(
                    format!(".{}", domain.to_ascii_lowercase()).into(),
                ))),
                false => Err(NoOriginRule),
            };
        }
        match text == NONE || Parts::of(text).is_some() {
            true => Ok(OriginRule(Rule::Whole(text.into()))),
            false => Err(NoOriginRule),
        }
    }
}

impl OriginRule {
    /// Whether a page of that origin may connect.
    pub fn matches(&self, origin: &str) -> bool {
        match &self.0 {
            Rule::Whole(whole) => whole.eq_ignore_ascii_case(origin),
            Rule::Below(suffix) => Parts::of(origin).is_some_and(|Parts { host, .. }| {
                host.len() > suffix.len() && host.to_ascii_lowercase().ends_with(&**suffix)
            }),
        }
    }
}

/// As it would be written.
impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Whole(whole) => f.write_str(whole),
            Rule::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// `scheme://host[:port]`, and nothing behind it.
struct Parts<'a> {
    host: &'a str,
}

impl Parts<'_> {
    fn of(origin: &str) -> Option<Parts<'_>> {
        let (scheme, authority) = origin.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let host_len = match authority.starts_with('[') {
            true => authority.find(']')? + 1,
            false => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_len);
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port_number);
        (is_scheme && is_port && (is_host(host) || is_ipv6(host))).then_some(Parts { host })
    }
}

fn is_port_number(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

/// Names, as browsers write them: labels with dots between.
fn is_host(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    })
}

fn is_ipv6(host: &str) -> bool {
    let content = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    content.is_some_and(|content| {
        content.contains(':')
            && content
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
    })
}

/// Addresses from 127.0.0.0 to 127.255.255.255.
fn is_127(host: &str) -> bool {
    let mut parts = host.split('.').map(str::parse::<u8>);
    parts.next() == Some(Ok(127)) && parts.clone().count() == 3 && parts.all(|part| part.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(rule: &str, origin: &str) -> bool {
        rule.parse::<OriginRule>().unwrap().matches(origin)
    }

    #[test]
    fn a_whole_origin_is_compared_without_case() {
        let rule = "https://App.example:8443";
        for origin in ["https://app.example:8443", "HTTPS://APP.EXAMPLE:8443"] {
            assert!(matches(rule, origin), "{origin}");
        }
        for origin in [
            "https://app.example",
            "http://app.example:8443",
            "https://app.example:8444",
            "https://x.app.example:8443",
            "https://app.example:8443/",
            "null",
            "",
        ] {
            assert!(!matches(rule, origin), "{origin}");
        }
        assert!(matches("http://[::1]:80", "http://[::1]:80"));
    }

    #[test]
    fn a_domain_covers_all_hosts_below_it() {
        for origin in [
            "https://a.example.com",
            "http://B.A.EXAMPLE.com:1",
            "app+x://a.example.com",
        ] {
            assert!(matches("*.Example.com", origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://badexample.com",
            "https://a.example.com.evil.org",
            "https://evil.org/a.example.com",
            "https://evil.org:80.example.com",
            "https://.example.com",
            "a.example.com",
            "null",
            "",
        ] {
            assert!(!matches("*.example.com", origin), "{origin}");
        }
    }

    #[test]
    fn null_is_itself() {
        assert!(matches("null", "null"));
        assert!(!matches("null", "https://null") && !matches("null", ""));
    }

    #[test]
    fn what_is_no_rule_is_told_so() {
        for text in [
            "",
            "*",
            "*.",
            "*.a..b",
            "*.a/b",
            "a.example",
            "https://",
            "https://*.example",
            "https://a.example/",
            "https://a.example/x",
            "https://a b",
            "https://a:",
            "https://a:65536",
            "https://a:+1",
            "https://user@a",
            "1s://a",
            "://a",
            "https://[::1",
            "https://[]",
            "https://é",
            "Null",
        ] {
            assert_eq!(text.parse::<OriginRule>(), Err(NoOriginRule), "{text}");
        }
        assert_eq!(
            NoOriginRule.to_string(),
            "expected `scheme://host[:port]`, `*.domain` or `null`"
        );
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for origin in [
            "http://localhost",
            "https://LOCALHOST:3000",
            "http://app.localhost:1",
            "http://127.0.0.1:5173",
            "http://127.255.0.9",
            "http://[::1]:80",
        ] {
            assert!(is_loopback(origin), "{origin}");
        }
        for origin in [
            "http://localhost.example",
            "http://notlocalhost",
            "http://128.0.0.1",
            "http://127.0.0.1.example",
            "http://127.0.0",
            "http://127.0.0.1.1",
            "http://127.0.0.256",
            "http://[::2]",
            "http://localhost/",
            "localhost",
            "null",
            "",
        ] {
            assert!(!is_loopback(origin), "{origin}");
        }
    }
}
