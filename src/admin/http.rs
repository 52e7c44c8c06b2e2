//! HTTP/1 as the admin port speaks it: the bytes of one request to its parts, an answer to its bytes.
//!
//! Pure. One request a connection, then it is closed: nothing is kept alive. May not know what paths there are.

use httparse::{EMPTY_HEADER, Status};

/// A longer head is answered 431.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A longer body is answered 413.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// More headers than this: 431.
const HEADERS_MAX: usize = 64;

/// What has come of a request so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// More is to be read.
    Incomplete,
    /// It is no request that can be answered otherwise: status, and a line for people.
    Refused(u16, &'static str),
    /// All of it is there.
    Request(Request),
}

/// One request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// As it was sent, up to the query.
    pub(super) path: String,
    /// Names and values, without their escapes.
    pub(super) query: Vec<(String, String)>,
    pub(super) host: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) body: Vec<u8>,
    /// HTTP/1.0, in which `Host` may be missing.
    pub(super) is_old: bool,
}

impl Request {
    /// What the query says of that name; the last one counts.
    pub(super) fn asks(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter().rev();
        let found = pairs.find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads one request. What stands behind it is passed over.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(bytes) {
        Ok(Status::Complete(len)) if len <= HEAD_BYTES_MAX => len,
        Ok(Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Parsed::Incomplete,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Refused(431, "the head of the request is too long");
        }
        Err(_) => return Parsed::Refused(400, "this is no HTTP request"),
    };
    // Who could be read in two ways is not read at all.
    let mut body_len = None;
    let (mut host, mut origin, mut authorization) = (None, None, None);
    for header in &*request.headers {
        let Ok(value) = str::from_utf8(header.value) else {
            continue;
        };
        let name = header.name.to_ascii_lowercase();
        let place = match &*name {
            "host" => &mut host,
            "origin" => &mut origin,
            "authorization" => &mut authorization,
            "content-length" => &mut body_len,
            "transfer-encoding" => return Parsed::Refused(411, "say the length of the body"),
            _ => continue,
        };
        if place.replace(value.trim().to_owned()).is_some() {
            return Parsed::Refused(400, "a header stands twice");
        }
    }
    let body_len = match body_len.as_deref().map(str::parse::<u64>) {
        None => 0,
        Some(Ok(len)) if len <= BODY_BYTES_MAX as u64 => len as usize,
        Some(Ok(_)) => return Parsed::Refused(413, "the body is longer than 1 MiB"),
        Some(Err(_)) => return Parsed::Refused(400, "the length of the body is no number"),
    };
    let Some(body) = bytes.get(head_len..head_len + body_len) else {
        return Parsed::Incomplete;
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(query) = pairs(query) else {
        return Parsed::Refused(400, "the query has an escape that is none");
    };
    Parsed::Request(Request {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query,
        host,
        origin,
        authorization,
        body: body.to_vec(),
        is_old: request.version == Some(0),
    })
}

fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let plain = |text: &str| unescaped(&text.replace('+', " "));
        Some((plain(name)?, plain(value)?))
    };
    parts.map(pair).collect()
}

/// A part of a path or a query without its percent escapes. None: it is no text.
pub(super) fn unescaped(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut text = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        text.push(u8::from_str_radix(digits, 16).ok()?);
        text.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(text).ok()
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    /// A header of this answer alone, with its end of line.
    header: &'static str,
    /// Where a page may connect to beside this port.
    connections: String,
}

impl Answer {
    pub(super) fn of(content_type: &'static str, body: Vec<u8>) -> Answer {
        Answer {
            status: 200,
            content_type,
            body,
            header: "",
            connections: String::new(),
        }
    }

    /// JSON with that status.
    pub(super) fn json(status: u16, json: String) -> Answer {
        Answer {
            status,
            ..Answer::of("application/json", json.into_bytes())
        }
    }

    /// A page, which may also connect to these places.
    pub(super) fn with_connections(self, places: &str) -> Answer {
        Answer {
            connections: format!("connect-src 'self' {places}; "),
            ..self
        }
    }

    /// `{"error": …}`.
    pub(super) fn error(status: u16, what: &str) -> Answer {
        let json = serde_json::json!({ "error": what }).to_string();
        Answer {
            header: match status {
                401 => "www-authenticate: Bearer\r\n",
                503 => "retry-after: 1\r\n",
                _ => "",
            },
            ..Answer::json(status, json)
        }
    }

    /// 405: `allow` names what may be asked, as a header.
    pub(super) fn wrong_method(allow: &'static str) -> Answer {
        Answer {
            header: allow,
            ..Answer::error(405, "this path is not asked so")
        }
    }

    /// The whole answer. `is_head`: without its body.
    pub(super) fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Answer {
            status,
            content_type,
            body,
            header,
            connections,
        } = self;
        let head = format!(
            "HTTP/1.1 {status} {}\r\n\
             content-type: {content_type}\r\n\
             content-length: {}\r\n\
             cache-control: no-store\r\n\
             content-security-policy: default-src 'self'; {connections}frame-ancestors 'none'\r\n\
             x-content-type-options: nosniff\r\n\
             referrer-policy: no-referrer\r\n\
             {header}\
             connection: close\r\n\
             \r\n",
            reason(*status),
            body.len(),
        );
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Request(request) => request,
            other => panic!("{other:?} of {text:?}"),
        }
    }

    fn refused(text: &str) -> u16 {
        match parse(text.as_bytes()) {
            Parsed::Refused(status, _) => status,
            other => panic!("{other:?} of {text:?}"),
        }
    }

    #[test]
    fn a_request_that_is_cut_anywhere_waits_for_the_rest() {
        let text = "POST /a/b?x=1%20y&z HTTP/1.1\r\nHost: h:1\r\nORIGIN: http://h:1\r\n\
            Authorization: Bearer t\r\nContent-Length: 4\r\n\r\nbody";
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), Parsed::Incomplete, "{end}");
        }
        let request = request(&format!("{text} and more"));
        assert_eq!((&*request.method, &*request.path), ("POST", "/a/b"));
        assert_eq!(
            (request.asks("x"), request.asks("z")),
            (Some("1 y"), Some(""))
        );
        assert_eq!(request.asks("y"), None);
        assert_eq!(request.host.as_deref(), Some("h:1"));
        assert_eq!(request.origin.as_deref(), Some("http://h:1"));
        assert_eq!(request.authorization.as_deref(), Some("Bearer t"));
        assert_eq!(request.body, b"body");
        assert!(!request.is_old);
    }

    #[test]
    fn what_is_too_long_or_could_be_read_in_two_ways_is_refused() {
        let with = |headers: &str| format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
        assert_eq!(refused(&with(&format!("X: {}", "x".repeat(20_000)))), 431);
        assert_eq!(refused(&format!("GET /{}", "x".repeat(20_000))), 431);
        assert_eq!(refused(&with(&"a: b\r\n".repeat(70))), 431);
        assert_eq!(refused(&with("Content-Length: 1048577")), 413);
        for headers in [
            "Content-Length: -1",
            "Host: a\r\nHost: b",
            "Content-Length: 1\r\nContent-Length: 1",
        ] {
            assert_eq!(refused(&with(headers)), 400, "{headers}");
        }
        assert_eq!(refused(&with("Transfer-Encoding: chunked")), 411);
        assert_eq!(refused("\x16\x03\x01\x02\0\x01\r\n\r\n"), 400);
        assert_eq!(refused("GET /?a=%zz HTTP/1.1\r\n\r\n"), 400);
    }

    #[test]
    fn escapes_are_read_as_bytes() {
        assert_eq!(unescaped("a%2Fb%20%C3%A9+").as_deref(), Some("a/b é+"));
        for text in ["%", "%2", "%zz", "%+1", "%ff", "%2é"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is_also_without_its_body() {
        let answer = Answer::error(401, "\"");
        let text = String::from_utf8(answer.bytes(false)).unwrap();
        assert!(text.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
        assert!(text.contains("\r\ncontent-length: 14\r\n"));
        assert!(text.contains("\r\nwww-authenticate: Bearer\r\n"));
        assert!(text.ends_with("\r\n\r\n{\"error\":\"\\\"\"}"));
        assert!(text.starts_with(&*String::from_utf8(answer.bytes(true)).unwrap()));
    }
}
