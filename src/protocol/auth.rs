//! What an auth function is asked about a socket, made of the head of its request, and what its
//! answer means.
//!
//! Uses `handshake`, which has judged the head before. May not call the function, nor know what the
//! settings make of its answer.

use std::collections::BTreeMap;
use std::fmt::Display;

use httparse::{EMPTY_HEADER, Request, Status};

use super::handshake::{HEADERS_LEN_MAX, path_of};
use super::json::{raw, text};
use super::members::IdPath;
use crate::id::Text;

/// Headers whose lines are joined, and by what; of all others the last line counts.
const JOINED: [(&str, &str); 2] = [("cookie", "; "), ("sec-websocket-protocol", ", ")];

/// What the auth function of the stream port is sent. `addr` is the peer's `ip:port`.
pub fn subscriber_payload(head: &[u8], addr: impl Display) -> String {
    let asked = Asked::read(head);
    object([
        ("addr", string(&addr)),
        ("headers", asked.headers()),
        ("path", string(path_of(&asked.target))),
        ("query_params", asked.query()),
    ])
}

/// What the auth function of the worker port is sent. `ip` is the peer's address without a port.
pub fn worker_payload(head: &[u8], ip: impl Display) -> String {
    let asked = Asked::read(head);
    object([
        ("headers", asked.headers()),
        ("ip_address", string(&ip)),
        ("query_params", asked.query()),
    ])
}

/// What a request says at each of these paths.
pub fn said_in<'a>(
    head: &[u8],
    paths: impl Iterator<Item = &'a IdPath>,
) -> Box<[Option<Box<str>>]> {
    let asked = Asked::read(head);
    let header = |name: &str| asked.headers.get(name).cloned();
    paths
        .map(|path| path.in_request(&asked.target, header))
        .collect()
}

/// What an auth function has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthAnswer {
    /// It lets the socket in.
    Admitted {
        /// Goes with the socket, a JSON text. None: `null`.
        context: Option<Text>,
    },
    /// It says that it does not.
    Unauthorized {
        /// What it gave all the same; counts where failures are let in.
        context: Option<Text>,
    },
    /// It says nothing that an auth function may.
    Nonsense,
}

impl AuthAnswer {
    /// Reads a result, a JSON text, if there was one.
    pub fn read(result: Option<&str>) -> AuthAnswer {
        let Some(json) = result.filter(|json| json.trim_ascii() != "null") else {
            return AuthAnswer::Admitted { context: None };
        };
        let Ok([context, unauthorized]) = raw::pick(json, ["context", "unauthorized"]) else {
            return AuthAnswer::Nonsense;
        };
        let context = context
            .map(|json| json.get())
            .filter(|&json| json != "null")
            .map(Text::from);
        match unauthorized {
            Some(verdict) if verdict.get() == "true" => AuthAnswer::Unauthorized { context },
            _ => AuthAnswer::Admitted { context },
        }
    }

    /// The context with which the socket opens where `auth_failure: allow` lets everybody in: what the
    /// function gave counts, also when it did not admit, as the reference has it.
    pub fn context_if_all_admitted(self) -> Option<Text> {
        match self {
            AuthAnswer::Admitted { context } | AuthAnswer::Unauthorized { context } => context,
            AuthAnswer::Nonsense => None,
        }
    }
}

/// A request as functions see it.
#[derive(Default)]
struct Asked {
    /// By lower-case name.
    headers: BTreeMap<String, String>,
    target: String,
}

impl Asked {
    /// Of a head that does not parse there is nothing: but then it was never kept.
    fn read(head: &[u8]) -> Asked {
        let mut headers = [EMPTY_HEADER; HEADERS_LEN_MAX];
        let mut request = Request::new(&mut headers);
        if !matches!(request.parse(head), Ok(Status::Complete(_))) {
            return Asked::default();
        }
        let mut asked = Asked {
            headers: BTreeMap::new(),
            target: request.path.unwrap_or_default().to_owned(),
        };
        for header in request.headers.iter() {
            if let Some(value) = visible(header.value) {
                insert(&mut asked.headers, header.name.to_ascii_lowercase(), value);
            }
        }
        asked
    }

    fn headers(&self) -> Vec<u8> {
        map(&self.headers, |out, value| text::write_string(out, value))
    }

    /// The values of each key of the query, as sent: nothing is decoded.
    fn query(&self) -> Vec<u8> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for piece in query.split('&') {
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            if !key.is_empty() {
                values.entry(key).or_default().push(value);
            }
        }
        map(&values, |out, values| text::write_strings(out, values))
    }
}

fn insert(values: &mut BTreeMap<String, String>, name: String, value: &str) {
    let joined_by = JOINED.iter().find(|(joined, _)| *joined == name);
    match (joined_by, values.get_mut(&name)) {
        (Some((_, by)), Some(earlier)) => {
            earlier.push_str(by);
            earlier.push_str(value);
        }
        _ => drop(values.insert(name, value.to_owned())),
    }
}

/// A header's value without the blanks around it. None: it has other bytes than visible ones.
fn visible(value: &[u8]) -> Option<&str> {
    let is_visible = |&byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e);
    let text = std::str::from_utf8(value).ok()?;
    value.iter().all(is_visible).then(|| text.trim_ascii())
}

/// One JSON object of these members, whose values are JSON already.
fn object<const N: usize>(members: [(&str, Vec<u8>); N]) -> String {
    let members = BTreeMap::from(members);
    let out = map(&members, |out, json| out.extend_from_slice(json));
    // What was written is made of texts alone.
    String::from_utf8(out).unwrap_or_default()
}

/// One JSON object, with each value as `write_value` writes it.
fn map<K: AsRef<str>, V>(map: &BTreeMap<K, V>, write_value: impl Fn(&mut Vec<u8>, &V)) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (at, (key, value)) in map.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text::write_string(&mut out, key.as_ref());
        out.push(b':');
        write_value(&mut out, value);
    }
    out.push(b'}');
    out
}

fn string(text: impl Display) -> Vec<u8> {
    let mut out = Vec::new();
    text::write_string(&mut out, &text.to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: &str) -> Vec<u8> {
        format!("{request}\r\n\r\n")
            .replace('\n', "\r\n")
            .replace("\r\r", "\r")
            .into_bytes()
    }

    fn query(target: &str) -> String {
        let payload = worker_payload(&head(&format!("GET {target} HTTP/1.1")), "::1");
        let head = r#"{"headers":{},"ip_address":"::1","query_params":"#;
        let rest = payload.strip_prefix(head).and_then(|s| s.strip_suffix('}'));
        rest.unwrap_or(&payload).to_owned()
    }

    fn headers(lines: &str) -> String {
        let payload = worker_payload(&head(&format!("GET / HTTP/1.1\n{lines}")), "::1");
        let rest = payload
            .strip_prefix(r#"{"headers":"#)
            .and_then(|s| s.strip_suffix(r#","ip_address":"::1","query_params":{}}"#));
        rest.unwrap_or(&payload).to_owned()
    }

    fn context(json: &str) -> Option<Text> {
        Some(json.into())
    }

    #[test]
    fn a_request_becomes_the_payload_of_the_reference_but_for_lines_that_are_joined() {
        let mut request = Vec::from(
            "GET /?b=2&a=1&a=%20x+y&&=q&c&d=&e=f=g&%61=1&a HTTP/1.1\r\n\
             Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             X-Empty:\r\nX-Mixed-CASE: V\r\nAuthorization: Bearer x\r\n\
             Sec-WebSocket-Protocol: Authorization,tok\r\nSec-WebSocket-Protocol: second\r\n\
             X-Dup: one\r\nX-Dup: two\r\nX-Tab: a\tb\r\nX-Space:   padded  \r\n\
             Cookie: a=1\r\nCookie: b=2\r\nX-Bin: caf",
        );
        request.extend_from_slice(b"\xc3\xa9\r\n\r\nframes");
        let wanted = r#"{"addr":"127.0.0.1:37334","headers":{"authorization":"Bearer x","connection":"Upgrade","cookie":"a=1; b=2","host":"x","sec-websocket-key":"dGhlIHNhbXBsZSBub25jZQ==","sec-websocket-protocol":"Authorization,tok, second","sec-websocket-version":"13","upgrade":"websocket","x-dup":"two","x-empty":"","x-mixed-case":"V","x-space":"padded","x-tab":"a\tb"},"path":"/","query_params":{"%61":["1"],"a":["1","%20x+y",""],"b":["2"],"c":[""],"d":[""],"e":["f=g"]}}"#;
        assert_eq!(subscriber_payload(&request, "127.0.0.1:37334"), wanted);
    }

    #[test]
    fn a_value_that_is_not_visible_leaves_the_earlier_one() {
        assert_eq!(headers("X: one\nX: caf\u{e9}"), r#"{"x":"one"}"#);
        assert_eq!(
            headers("Cookie: a\nCookie: \u{e9}\nCookie: b"),
            r#"{"cookie":"a; b"}"#
        );
        assert_eq!(
            headers("X: Authorization, tok"),
            r#"{"x":"Authorization, tok"}"#
        );
        assert_eq!(headers("X: \"q\"\\"), r#"{"x":"\"q\"\\"}"#);
    }

    #[test]
    fn the_path_is_as_sent_and_without_the_query() {
        let rows = [
            ("/", "/"),
            ("/stream/a%20b/g/?x=1", "/stream/a%20b/g/"),
            ("/streams/a/b", "/streams/a/b"),
            ("http://h:1/?x=1", "/"),
            ("http://h:1?x=/1", "/"),
            ("http://h/stream/s/g", "/stream/s/g"),
        ];
        for (target, path) in rows {
            let payload =
                subscriber_payload(&head(&format!("GET {target} HTTP/1.1")), "[::1]:1234");
            let wanted = format!(r#"{{"addr":"[::1]:1234","headers":{{}},"path":"{path}","#);
            assert!(payload.starts_with(&wanted), "{payload}");
        }
    }

    #[test]
    fn the_query_is_cut_and_not_decoded() {
        let rows = [
            ("/", "{}"),
            ("/?", "{}"),
            ("/?&&", "{}"),
            ("/?=q", "{}"),
            ("http://h:1/?x=1", r#"{"x":["1"]}"#),
            ("/?a=1&b&a=2", r#"{"a":["1","2"],"b":[""]}"#),
            ("/?a=1?b=2", r#"{"a":["1?b=2"]}"#),
            ("/?%61=+%2B", r#"{"%61":["+%2B"]}"#),
        ];
        for (target, wanted) in rows {
            assert_eq!(query(target), wanted, "{target}");
        }
    }

    #[test]
    fn what_is_no_head_gives_an_empty_payload() {
        for head in [&b""[..], b"\x00", b"GET / HTTP/1.1\r\nx"] {
            assert!(worker_payload(head, "ip").starts_with(r#"{"headers":{},"ip_address":"ip""#));
        }
    }

    #[test]
    fn answers_admit_refuse_or_mean_nothing() {
        let admitted = |context| AuthAnswer::Admitted { context };
        let rows = [
            (
                Some(r#"{"context":{"a":1.0},"x":2}"#),
                admitted(context(r#"{"a":1.0}"#)),
            ),
            (Some(r#"{"context":"X"}"#), admitted(context(r#""X""#))),
            (Some(r#"{"context":false}"#), admitted(context("false"))),
            (Some(r#"{"context":null}"#), admitted(None)),
            (Some("{}"), admitted(None)),
            (Some(r#"{"x":1}"#), admitted(None)),
            (None, admitted(None)),
            (Some("null"), admitted(None)),
            (Some(" null "), admitted(None)),
            (
                Some(r#"{"unauthorized":true}"#),
                AuthAnswer::Unauthorized { context: None },
            ),
            (
                Some(r#"{"unauthorized":true,"context":[1]}"#),
                AuthAnswer::Unauthorized {
                    context: context("[1]"),
                },
            ),
            (
                Some(r#"{"unauthorized":false,"context":1}"#),
                admitted(context("1")),
            ),
            (Some(r#"{"unauthorized":"true"}"#), admitted(None)),
            (Some(r#"{"unauthorized":1}"#), admitted(None)),
            (Some(r#"{"unauthorized":null}"#), admitted(None)),
            (Some(r#""x""#), AuthAnswer::Nonsense),
            (Some("5"), AuthAnswer::Nonsense),
            (Some("true"), AuthAnswer::Nonsense),
            (Some(r#"["x"]"#), AuthAnswer::Nonsense),
            (Some("[]"), AuthAnswer::Nonsense),
            (Some("[1,2]"), AuthAnswer::Nonsense),
        ];
        for (result, wanted) in rows {
            assert_eq!(AuthAnswer::read(result), wanted, "{result:?}");
        }
    }

    #[test]
    fn where_all_are_admitted_a_given_context_counts() {
        let opened = |result| AuthAnswer::read(Some(result)).context_if_all_admitted();
        assert_eq!(
            opened(r#"{"unauthorized":true,"context":"X"}"#),
            context(r#""X""#)
        );
        assert_eq!(opened(r#"{"unauthorized":true}"#), None);
        assert_eq!(opened(r#"{"context":1}"#), context("1"));
        for result in [r#"["x"]"#, r#""x""#, "5", "true"] {
            assert_eq!(opened(result), None, "{result}");
        }
    }
}
