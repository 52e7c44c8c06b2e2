//! The upgrade, on both ports: the bytes of a request to the bytes of its answer.
//!
//! Uses nothing of ours. May not read a clock, touch a socket, or ask the auth function: what that is
//! sent is made of the bytes of the head, for the few who have one (`auth`). Every answer but the 101 ends the
//! connection, and a request body is never read.
//!
//! httparse reads the head; all that is judged beyond its grammar is judged here, in the order in which
//! deployed clients know the answers.

mod refusal;
mod strict;

use std::time::SystemTime;

use httparse::{EMPTY_HEADER, Header, Request, Status};
use tungstenite::handshake::derive_accept_key;

use super::pace::Pace;

use refusal::http_date;
pub use refusal::{NotReady, Refusal};

/// More headers than this: 431.
pub(super) const HEADERS_LEN_MAX: usize = 100;
/// A longer request target: 414.
const TARGET_BYTES_MAX: usize = 65_534;

/// Which port a request came to: it decides what paths there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Subscribers.
    Stream,
    /// SDK workers.
    Worker,
}

/// Reads one request head that arrives in pieces.
///
/// Remembers how far it has looked, so a head sent byte by byte is not parsed anew for each byte.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Bytes that were searched for the empty line.
    searched_bytes: usize,
    /// Where the line that has not ended yet begins.
    line_start: usize,
    /// Whether a line with anything in it has ended: empty ones before the request line count nothing.
    has_request_line: bool,
    /// From this length on an unfinished head is parsed once more, only to refuse it early.
    next_try_bytes: usize,
}

/// What has come of a request so far.
#[derive(Debug)]
pub enum Head {
    /// No answer yet: more bytes are to be read.
    Incomplete,
    /// All checks passed.
    Upgrade(Upgrade),
    /// Answer with [`Refusal::response`] and close.
    Refused(Refusal),
}

/// A request that may become a WebSocket.
#[derive(Debug)]
pub struct Upgrade {
    /// What the path asked for.
    pub target: Target,
    /// With a group or an item: the pace that its query asks for. None: what stands there is none.
    pub pace: Option<Pace>,
    /// Length of the head, its empty line included. The bytes behind it are the first frames.
    pub consumed: usize,
    /// Its `Origin`. None: there is none, so that it is no browser's.
    pub origin: Option<String>,
    accept_key: String,
    subprotocol: Option<String>,
}

/// What a known path stands for, its names decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Stream port: no subscription until the client joins.
    Root,
    /// Stream port: the server joins this group for the client.
    Group {
        /// Name of the stream.
        stream: String,
        /// Name of the group.
        group: String,
    },
    /// Stream port: the server joins this item for the client.
    Item {
        /// Name of the stream.
        stream: String,
        /// Name of the group.
        group: String,
        /// Name of the item.
        item: String,
    },
    /// Worker port: an SDK worker.
    Worker,
    /// Worker port: a sender of traces, metrics and logs.
    Telemetry,
}

impl HeadReader {
    /// Judges the request that `bytes` begins with, all that has come of it and what stands behind it.
    /// `limit` is `limits.handshake_bytes` and holds for the head alone.
    pub fn read(&mut self, port: Port, bytes: &[u8], limit: usize) -> Head {
        let is_over_limit = bytes.len() > limit;
        if !self.finds_empty_line(bytes) && !is_over_limit && bytes.len() < self.next_try_bytes {
            return Head::Incomplete;
        }
        let mut headers = [EMPTY_HEADER; HEADERS_LEN_MAX];
        let mut request = Request::new(&mut headers);
        let checked = match request.parse(bytes) {
            Ok(Status::Complete(consumed)) if consumed <= limit => check(port, &request, consumed),
            Ok(Status::Partial) if !is_over_limit => {
                // Twice as far before the next try: all tries together read each byte about twice.
                self.next_try_bytes = bytes.len() * 2;
                return Head::Incomplete;
            }
            Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLarge),
            Err(_) => Err(Refusal::BadRequest),
        };
        match checked {
            Ok(upgrade) => Head::Upgrade(upgrade),
            Err(refusal) => Head::Refused(refusal),
        }
    }

    /// Looks through what has come since the last call. Lines may end with LF alone, as httparse has it.
    fn finds_empty_line(&mut self, bytes: &[u8]) -> bool {
        while let Some(unsearched) = bytes.get(self.searched_bytes..) {
            let Some(length) = unsearched.iter().position(|&byte| byte == b'\n') else {
                self.searched_bytes = bytes.len();
                return false;
            };
            let line_end = self.searched_bytes + length;
            let is_empty = matches!(&bytes[self.line_start..line_end], [] | [b'\r']);
            self.searched_bytes = line_end + 1;
            self.line_start = line_end + 1;
            if is_empty && self.has_request_line {
                return true;
            }
            self.has_request_line |= !is_empty;
        }
        false
    }
}

impl Upgrade {
    /// The 101. Extensions are declined by silence.
    pub fn accepted(&self, date: SystemTime) -> Vec<u8> {
        let subprotocol = match &self.subprotocol {
            Some(token) => format!("sec-websocket-protocol: {token}\r\n"),
            None => String::new(),
        };
        format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             connection: upgrade\r\n\
             upgrade: websocket\r\n\
             sec-websocket-accept: {}\r\n\
             {subprotocol}\
             date: {}\r\n\
             \r\n",
            self.accept_key,
            http_date(date),
        )
        .into_bytes()
    }
}

/// The checks of a head that parses. The first that fails answers.
fn check(port: Port, request: &Request<'_, '_>, consumed: usize) -> Result<Upgrade, Refusal> {
    let asked = request.path.unwrap_or_default();
    if asked.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    let path = path_of(asked);
    match (port, path, request.method) {
        (Port::Stream, "/health", Some("GET")) => return Err(Refusal::Health),
        (Port::Stream, "/health", Some("HEAD")) => return Err(Refusal::HealthOfHead),
        (Port::Stream, "/ready", Some("GET")) => return Err(Refusal::Ready(None)),
        _ => {}
    }
    let target = match port {
        Port::Stream => stream_target(path).ok_or(Refusal::NotFound),
        Port::Worker => worker_target(path),
    };
    let target = target.map_err(|refusal| match (refusal, request.method) {
        (Refusal::NotFound, Some("HEAD")) => Refusal::NotFoundOfHead,
        (refusal, _) => refusal,
    })?;
    match request.method {
        Some("GET") => {}
        Some("HEAD") => return Err(Refusal::HeadMethod),
        _ => return Err(Refusal::MethodNotAllowed),
    }
    let headers = &*request.headers;
    if !first(headers, "connection").is_some_and(speaks_of_upgrade) {
        return Err(Refusal::NoConnectionUpgrade);
    }
    if !first(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(Refusal::NoWebSocketUpgrade);
    }
    let key = first(headers, "sec-websocket-key").ok_or(Refusal::NoKey)?;
    if !strict::is_key(key) {
        return Err(Refusal::BadKey);
    }
    if first(headers, "sec-websocket-version") != Some(b"13") {
        return Err(Refusal::NoVersion13);
    }
    strict::check(headers)?;
    if request.version != Some(1) {
        return Err(Refusal::Http10);
    }
    Ok(Upgrade {
        target,
        pace: pace_of(asked),
        consumed,
        origin: first(headers, "origin").map(|origin| String::from_utf8_lossy(origin).into_owned()),
        accept_key: derive_accept_key(key),
        subprotocol: match port {
            Port::Stream => chosen_subprotocol(headers),
            Port::Worker => None,
        },
    })
}

/// The request target up to its query; of an absolute one, what follows the authority.
pub(super) fn path_of(target: &str) -> &str {
    let target = target.split('?').next().unwrap_or_default();
    if target.starts_with('/') {
        return target;
    }
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    }
}

/// The pace that the query of a target asks for, if any. None: what stands there is none.
fn pace_of(target: &str) -> Option<Pace> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut paces = query
        .split('&')
        .filter_map(|part| part.strip_prefix("pace_ms="));
    match (paces.next(), paces.next()) {
        (None, _) => Some(Pace::NONE),
        (Some(pace), None) => Pace::read(pace),
        (Some(_), Some(_)) => None,
    }
}

/// The path that a head asks for, as it stands there and without its query, which may hold a token.
/// Empty: there is none.
pub fn path_of_head(head: &[u8]) -> String {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    path_of(&String::from_utf8_lossy(target)).to_owned()
}

fn stream_target(path: &str) -> Option<Target> {
    if matches!(
        path,
        "/" | "/stream" | "/stream/" | "/streams" | "/streams/"
    ) {
        return Some(Target::Root);
    }
    let names = path
        .strip_prefix("/stream/")
        .or_else(|| path.strip_prefix("/streams/"))?;
    let names = names.strip_suffix('/').unwrap_or(names);
    // Split first, decode then: `%2F` is a slash inside a name.
    let mut names = names.split('/').map(decoded_name);
    let (stream, group) = (names.next()??, names.next()??);
    let item = names.next();
    if names.next().is_some() {
        return None;
    }
    Some(match item {
        Some(item) => Target::Item {
            stream,
            group,
            item: item?,
        },
        None => Target::Group { stream, group },
    })
}

/// A proxy may keep the prefix `/ws` by which it knows this port.
fn worker_target(path: &str) -> Result<Target, Refusal> {
    match path {
        "/ws" | "/ws/" => Ok(Target::Worker),
        "/ws/otel" => Ok(Target::Telemetry),
        "/" => Ok(Target::Worker),
        "/otel" => Ok(Target::Telemetry),
        _ if path.starts_with("/ws/channels/") => Err(Refusal::ChannelNotFound),
        _ => Err(Refusal::NotFound),
    }
}

/// One part of a path without its percent escapes; `+` stays `+`. None: it is no name.
fn decoded_name(part: &str) -> Option<String> {
    if part.is_empty() {
        return None;
    }
    let mut pieces = part.split('%');
    let mut name = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.as_bytes().split_at_checked(2)?;
        name.push(hex_digit(digits[0])? << 4 | hex_digit(digits[1])?);
        name.extend_from_slice(rest);
    }
    String::from_utf8(name).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn first<'b>(headers: &[Header<'b>], name: &str) -> Option<&'b [u8]> {
    all(headers, name).next()
}

fn all<'h, 'b>(headers: &'h [Header<'b>], name: &'h str) -> impl Iterator<Item = &'b [u8]> + 'h {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// The letters anywhere in the value, as the reference has it: it is not split into a list.
fn speaks_of_upgrade(value: &[u8]) -> bool {
    const UPGRADE: &[u8] = b"upgrade";
    value
        .windows(UPGRADE.len())
        .any(|letters| letters.eq_ignore_ascii_case(UPGRADE))
}

/// `Authorization`, which announces that a token follows it, or else the first that was offered.
/// What could not stand in our answer as it came is passed over.
fn chosen_subprotocol(headers: &[Header<'_>]) -> Option<String> {
    let tokens = || {
        all(headers, "sec-websocket-protocol")
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|token| !token.is_empty() && token.iter().all(u8::is_ascii_graphic))
    };
    let authorization = tokens().find(|token| token.eq_ignore_ascii_case(b"authorization"));
    let token = authorization.or_else(|| tokens().next())?;
    Some(String::from_utf8_lossy(token).into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const LIMIT: usize = 65_536;
    const FIELDS: &str = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    fn date() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_474_326)
    }

    fn read(port: Port, bytes: &[u8]) -> Head {
        HeadReader::default().read(port, bytes, LIMIT)
    }

    #[track_caller]
    fn upgrade(port: Port, request: &str) -> Upgrade {
        match read(port, request.as_bytes()) {
            Head::Upgrade(upgrade) => upgrade,
            other => panic!("{other:?} for {request:?}"),
        }
    }

    #[track_caller]
    fn refused(port: Port, request: &[u8]) -> Refusal {
        match read(port, request) {
            Head::Refused(refusal) => refusal,
            other => panic!("{other:?} for {:?}", String::from_utf8_lossy(request)),
        }
    }

    fn get(target: &str) -> String {
        format!("GET {target} HTTP/1.1\r\n{FIELDS}\r\n")
    }

    fn with_fields(fields: &str) -> String {
        format!("GET / HTTP/1.1\r\n{fields}\r\n")
    }

    /// None: 404.
    #[track_caller]
    fn target(port: Port, target: &str) -> Option<Target> {
        match read(port, get(target).as_bytes()) {
            Head::Upgrade(upgrade) => Some(upgrade.target),
            Head::Refused(Refusal::NotFound) => None,
            other => panic!("{other:?} for {target}"),
        }
    }

    #[test]
    fn the_origin_of_a_request_is_kept() {
        let origin = |lines: &str| {
            let request = with_fields(&format!("{FIELDS}{lines}"));
            upgrade(Port::Stream, &request).origin
        };
        let one = origin("ORIGIN:  https://a.example \r\n");
        assert_eq!(one.as_deref(), Some("https://a.example"));
        assert_eq!(origin("Origin:\r\n").as_deref(), Some(""));
        assert_eq!(origin(""), None);
    }

    fn group(stream: &str, group: &str) -> Option<Target> {
        let (stream, group) = (stream.to_owned(), group.to_owned());
        Some(Target::Group { stream, group })
    }

    fn item(stream: &str, group: &str, item: &str) -> Option<Target> {
        let [stream, group, item] = [stream, group, item].map(str::to_owned);
        Some(Target::Item {
            stream,
            group,
            item,
        })
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_101_is_as_the_reference_writes_it() {
        let wanted = "HTTP/1.1 101 Switching Protocols\r\n\
            connection: upgrade\r\n\
            upgrade: websocket\r\n\
            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            date: Mon, 23 Nov 2026 22:52:06 GMT\r\n\
            \r\n";
        for port in [Port::Stream, Port::Worker] {
            assert_eq!(text(upgrade(port, &get("/")).accepted(date())), wanted);
        }
    }

    #[test]
    fn the_query_of_a_path_may_ask_for_a_pace() {
        let paces = [
            ("", Some(0)),
            ("?", Some(0)),
            ("?token=pace_ms=7", Some(0)),
            ("?pace_ms=50", Some(50)),
            ("?a=b&pace_ms=60000&c", Some(60_000)),
            ("?pace_ms=60001", None),
            ("?pace_ms=", None),
            ("?pace_ms=5&pace_ms=5", None),
            ("?pace_ms=-5", None),
        ];
        for (query, pace) in paces {
            let asked = upgrade(Port::Stream, &get(&format!("/stream/a/b{query}")));
            assert_eq!(asked.pace.map(Pace::ms), pace, "{query}");
        }
    }

    #[test]
    fn a_head_split_at_every_byte_is_read_the_same() {
        let request = get("/stream/a/b?x=1");
        let mut reader = HeadReader::default();
        for end in 0..request.len() {
            let head = reader.read(Port::Stream, &request.as_bytes()[..end], LIMIT);
            assert!(matches!(head, Head::Incomplete), "{end}: {head:?}");
        }
        match reader.read(Port::Stream, request.as_bytes(), LIMIT) {
            Head::Upgrade(upgrade) => {
                assert_eq!(Some(upgrade.target), group("a", "b"));
                assert_eq!(upgrade.consumed, request.len());
            }
            other => panic!("{other:?}"),
        }
        for cut in 0..request.len() {
            let mut reader = HeadReader::default();
            reader.read(Port::Stream, &request.as_bytes()[..cut], LIMIT);
            let head = reader.read(Port::Stream, request.as_bytes(), LIMIT);
            assert!(matches!(head, Head::Upgrade(_)), "{cut}");
        }
    }

    #[test]
    fn bytes_behind_the_head_belong_to_the_connection() {
        let head = get("/");
        let mut bytes = head.clone().into_bytes();
        bytes.extend_from_slice(&[0x81, 0x80, 1, 2, 3, 4]);
        bytes.resize(LIMIT * 2, b'\n');
        match read(Port::Stream, &bytes) {
            Head::Upgrade(upgrade) => assert_eq!(upgrade.consumed, head.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn empty_lines_before_the_request_and_bare_line_feeds_are_taken() {
        let request = format!("\r\n\n\r\n{}", get("/"));
        assert_eq!(upgrade(Port::Stream, &request).consumed, request.len());
        let request = get("/").replace("\r\n", "\n");
        assert_eq!(upgrade(Port::Stream, &request).consumed, request.len());
        assert!(matches!(
            read(Port::Stream, b"\r\n\r\n\r\n"),
            Head::Incomplete
        ));
    }

    #[test]
    fn paths_of_the_stream_port_become_names() {
        let stream = |path| target(Port::Stream, path);
        for path in [
            "/",
            "/?a=/stream/x/y",
            "/stream",
            "/stream/",
            "/streams",
            "/streams/",
            "/stream?x",
        ] {
            assert_eq!(stream(path), Some(Target::Root), "{path}");
        }
        for path in [
            "/stream/s/g",
            "/stream/s/g/",
            "/streams/s/g",
            "/streams/s/g/?q=1/2",
        ] {
            assert_eq!(stream(path), group("s", "g"), "{path}");
        }
        for path in [
            "/stream/s/g/i",
            "/stream/s/g/i/",
            "/streams/s/g/i",
            "/streams/s/g/i/",
        ] {
            assert_eq!(stream(path), item("s", "g", "i"), "{path}");
        }
        assert_eq!(
            stream("/stream/presence/room-1/"),
            group("presence", "room-1")
        );
        for path in [
            "//",
            "/x",
            "/stream/s",
            "/stream/s/",
            "/stream//g",
            "/stream/s//",
            "/stream/s//i",
            "/stream//",
            "/stream/s/g//",
            "/stream/s/g/i//",
            "/stream/a/b/c/d",
            "/stream/a/b/c/d/",
            "/Stream/s/g",
            "/STREAM",
            "/streamss/s/g",
            "/healthz",
            "*",
            "stream/s/g",
            "/x/stream/s/g",
        ] {
            assert_eq!(stream(path), None, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_after_the_split() {
        let stream = |path| target(Port::Stream, path);
        assert_eq!(stream("/stream/a%2Fb/c%2fd"), group("a/b", "c/d"));
        assert_eq!(
            stream("/stream/a+b/%C3%A9%25/%3F%00"),
            item("a+b", "é%", "?\0")
        );
        assert_eq!(stream("/stream/é/g"), group("é", "g"));
        assert_eq!(stream("/stream/a/%2F/"), group("a", "/"));
        for path in [
            "/stream/a/%",
            "/stream/a/%2",
            "/stream/%zz/g",
            "/stream/a/%2é",
            "/stream/a/%+1",
        ] {
            assert_eq!(stream(path), None, "{path}");
        }
        for path in ["/stream/%ff/g", "/stream/a/%C3", "/stream/a/b/%ed%a0%80"] {
            assert_eq!(stream(path), None, "{path}");
        }
        assert_eq!(stream("/%73tream/s/g"), None);
    }

    #[test]
    fn absolute_targets_lose_their_authority() {
        let stream = |path| target(Port::Stream, path);
        assert_eq!(stream("http://h:3112/stream/s/g?x"), group("s", "g"));
        assert_eq!(stream("ws://h"), Some(Target::Root));
        assert_eq!(stream("http://h?a=/b"), Some(Target::Root));
        assert_eq!(stream("http://h/x"), None);
        assert_eq!(
            target(Port::Worker, "http://h/otel"),
            Some(Target::Telemetry)
        );
    }

    #[test]
    fn the_worker_port_has_paths_of_its_own() {
        assert_eq!(target(Port::Worker, "/?x=y"), Some(Target::Worker));
        assert_eq!(target(Port::Worker, "/otel?x"), Some(Target::Telemetry));
        for path in ["/ws", "/ws/", "/ws?token=x", "http://h/ws"] {
            assert_eq!(target(Port::Worker, path), Some(Target::Worker), "{path}");
        }
        assert_eq!(target(Port::Worker, "/ws/otel"), Some(Target::Telemetry));
        for path in ["/wsx", "/ws/x", "/ws//"] {
            assert_eq!(target(Port::Worker, path), None, "{path}");
        }
        for path in ["/x", "//", "/otel/", "/stream/s/g", "/ws/channels"] {
            assert_eq!(target(Port::Worker, path), None, "{path}");
        }
        let channel = "/ws/channels/c1?key=k&dir=read";
        assert_eq!(
            refused(Port::Worker, get(channel).as_bytes()),
            Refusal::ChannelNotFound
        );
        let plain = b"GET /ws/channels/c1 HTTP/1.1\r\n\r\n";
        assert_eq!(refused(Port::Worker, plain), Refusal::ChannelNotFound);
        assert_eq!(target(Port::Stream, channel), None);
    }

    #[test]
    fn health_is_asked_for_without_an_upgrade_and_on_the_stream_port_only() {
        let is = |port, head: &str| refused(port, format!("{head}\r\n\r\n").as_bytes());
        for path in ["/health", "/health?from=lb", "http://host/health"] {
            let get = format!("GET {path} HTTP/1.0");
            assert_eq!(is(Port::Stream, &get), Refusal::Health);
            assert_eq!(is(Port::Worker, &get), Refusal::NotFound);
        }
        let head = "HEAD /health HTTP/1.1";
        assert_eq!(is(Port::Stream, head), Refusal::HealthOfHead);
        for other in [
            "POST /health",
            "GET /health/",
            "GET /healthz",
            "GET /Health",
        ] {
            assert_eq!(
                is(Port::Stream, &format!("{other} HTTP/1.1")),
                Refusal::NotFound
            );
        }
        let date = UNIX_EPOCH + Duration::from_secs(1_795_474_326);
        let answer =
            |refusal: Refusal| String::from_utf8(refusal.response(Port::Stream, date)).unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 2\r\n\
            cache-control: no-store\r\nconnection: close\r\ndate: Mon, 23 Nov 2026 22:52:06 GMT\r\n\r\n";
        assert_eq!(answer(Refusal::Health), format!("{head}ok"));
        assert_eq!(answer(Refusal::HealthOfHead), head);
    }

    #[test]
    fn the_first_check_that_fails_answers() {
        let fields: Vec<&str> = FIELDS.split_inclusive("\r\n").collect();
        let [host, connection, upgrade_field, key, version] = fields[..] else {
            panic!("five fields");
        };
        for port in [Port::Stream, Port::Worker] {
            let is = |request: String| refused(port, request.as_bytes());
            assert_eq!(is("POST /x HTTP/1.0\r\n\r\n".into()), Refusal::NotFound);
            assert_eq!(
                is(format!("POST / HTTP/1.1\r\n{FIELDS}\r\n")),
                Refusal::MethodNotAllowed
            );
            assert_eq!(
                is("get / HTTP/1.1\r\n\r\n".into()),
                Refusal::MethodNotAllowed
            );
            assert_eq!(is("HEAD / HTTP/1.0\r\n\r\n".into()), Refusal::HeadMethod);
            assert_eq!(
                is(format!("HEAD /x HTTP/1.1\r\n{FIELDS}\r\n")),
                Refusal::NotFoundOfHead
            );
            assert_eq!(is(with_fields("")), Refusal::NoConnectionUpgrade);
            let most = [host, upgrade_field, key, version].concat();
            assert_eq!(is(with_fields(&most)), Refusal::NoConnectionUpgrade);
            assert_eq!(
                is(with_fields(&[connection, key].concat())),
                Refusal::NoWebSocketUpgrade
            );
            let most = [connection, upgrade_field, version].concat();
            assert_eq!(is(with_fields(&most)), Refusal::NoKey);
            let most = [connection, upgrade_field, key].concat();
            assert_eq!(is(with_fields(&most)), Refusal::NoVersion13);
            assert_eq!(
                is(get("/").replace("HTTP/1.1", "HTTP/1.0")),
                Refusal::Http10
            );
            assert_eq!(
                is("GET / HTTP/1.0\r\n\r\n".into()),
                Refusal::NoConnectionUpgrade
            );
            // Neither Host nor extensions are looked at.
            let enough = [connection, upgrade_field, key, version].concat();
            upgrade(
                port,
                &with_fields(&format!("{enough}Sec-WebSocket-Extensions: nonsense;;\r\n")),
            );
        }
    }

    #[test]
    fn header_values_are_read_as_leniently_as_the_reference_reads_them() {
        let replaced = |from: &str, to: &str| with_fields(&FIELDS.replace(from, to));
        for connection in [
            "keep-alive, Upgrade",
            "UPGRADE",
            "x-upgraded",
            "no upgrades",
        ] {
            upgrade(
                Port::Stream,
                &replaced("Connection: Upgrade", &format!("cOnnection: {connection}")),
            );
        }
        for (from, to, refusal) in [
            (
                "Connection: Upgrade",
                "Connection: keep-alive",
                Refusal::NoConnectionUpgrade,
            ),
            (
                "Connection:",
                "Connection: close\r\nConnection:",
                Refusal::NoConnectionUpgrade,
            ),
            (
                "Upgrade: websocket",
                "Upgrade: websocket, h2c",
                Refusal::NoWebSocketUpgrade,
            ),
            (
                "Upgrade: websocket",
                "Upgrade: h2c\r\nUpgrade: websocket",
                Refusal::NoWebSocketUpgrade,
            ),
            ("Version: 13", "Version: 8", Refusal::NoVersion13),
            ("Version: 13", "Version: 13, 8", Refusal::NoVersion13),
        ] {
            assert_eq!(
                refused(Port::Stream, replaced(from, to).as_bytes()),
                refusal,
                "{to}"
            );
        }
        upgrade(
            Port::Stream,
            &replaced("Upgrade: websocket", "Upgrade:  WebSocket \t"),
        );
    }

    #[test]
    fn what_may_stand_once_stands_once_and_lists_stand_as_often_as_they_like() {
        let with = |line: &str| with_fields(&format!("{FIELDS}{line}\r\n"));
        for port in [Port::Stream, Port::Worker] {
            for (line, name) in [
                ("hOST: other", "Host"),
                (
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                    "Sec-WebSocket-Key",
                ),
                ("sec-websocket-version: 13", "Sec-WebSocket-Version"),
                ("Sec-WebSocket-Version: 8", "Sec-WebSocket-Version"),
                ("Origin: a\r\nOrigin: a", "Origin"),
                (
                    "Authorization: x\r\nX: y\r\nAUTHORIZATION:",
                    "Authorization",
                ),
                ("Content-Length: 0\r\nContent-Length: 0", "Content-Length"),
                ("User-Agent: x\r\nUser-Agent: y", "User-Agent"),
            ] {
                let answer = refused(port, with(line).as_bytes());
                assert_eq!(answer, Refusal::Twice(name), "{line}");
                assert_eq!(answer.status(), 400);
            }
            for line in [
                "Connection: keep-alive",
                "Upgrade: h2c",
                "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b",
                "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: a",
                "Cookie: a=1\r\nCookie: b=2",
                "X-Forwarded-For: ::1\r\nX-Forwarded-For: ::2",
                "Content-Length: 0",
            ] {
                upgrade(port, &with(line));
            }
            for line in [
                "Content-Length: 1",
                "Content-Length:",
                "Content-Length: 0, 0",
                "Content-Length: +0",
                "Transfer-Encoding: chunked",
                "Content-Length: 0\r\nTransfer-Encoding: identity",
            ] {
                assert_eq!(refused(port, with(line).as_bytes()), Refusal::HasBody);
            }
            for key in ["", "any text", "dGhlIHNhbXBsZSBub25jZQ", "c2hvcnQ="] {
                let request = with_fields(&FIELDS.replace("dGhlIHNhbXBsZSBub25jZQ==", key));
                assert_eq!(refused(port, request.as_bytes()), Refusal::BadKey, "{key}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_as_soon_as_it_can_be_told() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01"[..],
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET /a b HTTP/1.1\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\na: b\x00c\r\n\r\n",
            b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
        ] {
            assert_eq!(refused(Port::Stream, bytes), Refusal::BadRequest);
        }
    }

    #[test]
    fn an_unfinished_head_is_tried_again_at_twice_its_length() {
        let mut reader = HeadReader::default();
        let bytes = [b"GET / HTTP/1.1\r\na: b\r\n".to_vec(), vec![b'\0'; 100]].concat();
        let head = reader.read(Port::Stream, &bytes[..22], LIMIT);
        assert!(matches!(head, Head::Incomplete));
        let head = reader.read(Port::Stream, &bytes[..43], LIMIT);
        assert!(matches!(head, Head::Incomplete));
        let head = reader.read(Port::Stream, &bytes[..44], LIMIT);
        assert!(matches!(head, Head::Refused(Refusal::BadRequest)));
        // Empty lines before the request line are no reason to try.
        let mut reader = HeadReader::default();
        let lines = [b'\n'; 1000];
        for length in 1..=lines.len() {
            let tried_at = reader.next_try_bytes;
            reader.read(Port::Stream, &lines[..length], LIMIT);
            assert_eq!(reader.next_try_bytes > tried_at, length.is_power_of_two());
        }
    }

    #[test]
    fn heads_beyond_a_limit_are_refused() {
        let headers = |len: usize| {
            let more = len - FIELDS.lines().count();
            with_fields(&format!("{FIELDS}{}", "x: y\r\n".repeat(more)))
        };
        upgrade(Port::Stream, &headers(100));
        assert_eq!(
            refused(Port::Stream, headers(101).as_bytes()),
            Refusal::HeadTooLarge
        );

        let padded = |bytes: usize| {
            let padding = bytes - get("/").len() - "x: \r\n".len();
            with_fields(&format!("{FIELDS}x: {}\r\n", "y".repeat(padding)))
        };
        assert_eq!(upgrade(Port::Stream, &padded(LIMIT)).consumed, LIMIT);
        assert_eq!(
            refused(Port::Stream, padded(LIMIT + 1).as_bytes()),
            Refusal::HeadTooLarge
        );

        let endless = &padded(LIMIT + 9).into_bytes()[..LIMIT + 1];
        assert!(matches!(
            read(Port::Stream, &endless[..LIMIT]),
            Head::Incomplete
        ));
        assert_eq!(refused(Port::Stream, endless), Refusal::HeadTooLarge);

        let long = get(&format!("/?{}", "x".repeat(TARGET_BYTES_MAX - 1)));
        assert_eq!(
            refused(Port::Stream, long.as_bytes()),
            Refusal::HeadTooLarge
        );
        match HeadReader::default().read(Port::Stream, long.as_bytes(), LIMIT * 2) {
            Head::Refused(refusal) => assert_eq!(refusal, Refusal::TargetTooLong),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_subprotocol_is_echoed_on_the_stream_port() {
        let answered = |port, fields: &str| {
            let request = with_fields(&format!("{FIELDS}{fields}"));
            let answer = text(upgrade(port, &request).accepted(date()));
            let mut lines = answer
                .lines()
                .filter_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            let token = lines.next().map(str::to_owned);
            assert_eq!(lines.next(), None);
            token
        };
        let stream = |fields: &str| answered(Port::Stream, fields);
        assert_eq!(stream(""), None);
        assert_eq!(stream("Sec-WebSocket-Protocol: \r\n"), None);
        assert_eq!(stream("Sec-WebSocket-Protocol: , ,\r\n").as_deref(), None);
        assert_eq!(
            stream("Sec-WebSocket-Protocol: ,a , b\r\n").as_deref(),
            Some("a")
        );
        let recipe =
            "Sec-WebSocket-Protocol: x\r\nsec-websocket-protocol: token, AuthoriZation\r\n";
        assert_eq!(stream(recipe).as_deref(), Some("AuthoriZation"));
        assert_eq!(answered(Port::Worker, recipe), None);
        // What cannot stand in an answer is passed over.
        assert_eq!(
            stream("Sec-WebSocket-Protocol: é, a b, ok\r\n").as_deref(),
            Some("ok")
        );
        assert_eq!(stream("Sec-WebSocket-Protocol: \u{e9}\r\n"), None);
    }

    #[test]
    fn every_refusal_says_why_and_closes_with_a_date() {
        let dated = "connection: close\r\ndate: Mon, 23 Nov 2026 22:52:06 GMT\r\n\r\n";
        let undated = "connection: close\r\n\r\n";
        let retry = "retry-after: 1\r\n";
        let rows = [
            (Refusal::BadRequest, "400 Bad Request", "", "", dated),
            (
                Refusal::HeadTooLarge,
                "431 Request Header Fields Too Large",
                "",
                "limits.handshake_bytes: ",
                dated,
            ),
            (
                Refusal::TargetTooLong,
                "414 URI Too Long",
                "",
                "the path is longer",
                dated,
            ),
            (
                Refusal::NotFound,
                "404 Not Found",
                "",
                "no such path: ",
                dated,
            ),
            (Refusal::NotFoundOfHead, "404 Not Found", "", "", dated),
            (
                Refusal::ChannelNotFound,
                "404 Not Found",
                "",
                "Channel not found",
                dated,
            ),
            (
                Refusal::MethodNotAllowed,
                "405 Method Not Allowed",
                "allow: GET,HEAD\r\n",
                "",
                dated,
            ),
            (
                Refusal::NoConnectionUpgrade,
                "400 Bad Request",
                "",
                "Connection header did not include 'upgrade'\nThis is iii-stream: ",
                dated,
            ),
            (
                Refusal::NoWebSocketUpgrade,
                "400 Bad Request",
                "",
                "`Upgrade` header did not include 'websocket'",
                dated,
            ),
            (
                Refusal::NoKey,
                "400 Bad Request",
                "",
                "`Sec-WebSocket-Key` header missing",
                dated,
            ),
            (
                Refusal::BadKey,
                "400 Bad Request",
                "",
                "`Sec-WebSocket-Key` header is not 16 bytes in base64",
                dated,
            ),
            (
                Refusal::NoVersion13,
                "400 Bad Request",
                "",
                "`Sec-WebSocket-Version` header did not include '13'",
                dated,
            ),
            (
                Refusal::Twice("Origin"),
                "400 Bad Request",
                "",
                "`Origin` header stands twice",
                dated,
            ),
            (
                Refusal::HasBody,
                "400 Bad Request",
                "",
                "an upgrade has no body",
                dated,
            ),
            (
                Refusal::Http10,
                "426 Upgrade Required",
                "",
                "WebSocket request couldn't be upgraded since no upgrade state was present",
                dated,
            ),
            (
                Refusal::Busy,
                "503 Service Unavailable",
                retry,
                "limits.",
                dated,
            ),
            (
                Refusal::AddressBusy,
                "503 Service Unavailable",
                retry,
                "limits.connections_per_address",
                dated,
            ),
            (
                Refusal::OutOfMemory,
                "503 Service Unavailable",
                retry,
                "server is out of memory",
                dated,
            ),
            (
                Refusal::AuthBusy,
                "503 Service Unavailable",
                retry,
                "limits.handshakes sockets wait",
                dated,
            ),
            (
                Refusal::Forbidden,
                "403 Forbidden",
                "",
                "pages of this origin may not ",
                dated,
            ),
            (
                Refusal::Unauthorized,
                "401 Unauthorized",
                "",
                "the auth function does not admit",
                undated,
            ),
            (
                Refusal::AuthUnavailable,
                "503 Service Unavailable",
                retry,
                "the auth function was not asked",
                undated,
            ),
        ];
        for port in [Port::Stream, Port::Worker] {
            for (refusal, status, header, begins, end) in rows {
                let answer = text(refusal.response(port, date()));
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                let content_type = match body {
                    "" => "",
                    _ => "content-type: text/plain; charset=utf-8\r\n",
                };
                let length = body.len();
                let wanted = format!(
                    "HTTP/1.1 {status}\r\n{content_type}content-length: {length}\r\n{header}{end}"
                );
                assert_eq!(format!("{head}\r\n\r\n"), wanted);
                assert!(
                    body.starts_with(begins) && body.is_empty() == begins.is_empty(),
                    "{body}"
                );
                assert!(wanted.contains(&refusal.status().to_string()));
            }
        }
        let busy = |port| text(Refusal::Busy.response(port, date()));
        assert!(busy(Port::Stream).contains("limits.connections"));
        assert!(busy(Port::Worker).contains("limits.worker_connections"));
        // The answer to a HEAD has the length of a body, and none.
        let head = text(Refusal::HeadMethod.response(Port::Stream, date()));
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(head.contains("\r\ncontent-length: 28\r\n") && head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_path_is_shown_without_what_may_be_secret() {
        for (head, path) in [
            ("GET /stream/s/g?token=x HTTP/1.1\r\n", "/stream/s/g"),
            ("\r\nGET http://u:p@h/x?y HTTP/1.1\r\n", "/x"),
            ("GARBAGE\r\n\r\n", ""),
            ("", ""),
        ] {
            assert_eq!(path_of_head(head.as_bytes()), path);
        }
    }

    #[test]
    fn a_clock_that_is_far_off_still_answers() {
        for date in [
            UNIX_EPOCH - Duration::from_secs(1),
            UNIX_EPOCH + Duration::from_secs(1 << 40),
        ] {
            assert!(text(Refusal::NotFound.response(Port::Stream, date)).contains("GMT"));
        }
    }

    #[test]
    fn mutated_heads_do_not_panic() {
        use rand::rngs::SmallRng;
        use rand::{RngExt, SeedableRng};

        let mut rng = SmallRng::seed_from_u64(1);
        let seed = get("http://h/streams/a%2F/b%C3%A9/c/?x").into_bytes();
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..rng.random_range(1..5) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = match rng.random_range(0..3) {
                    0 => rng.random(),
                    _ => b"\r\n %/:?,Gw"[rng.random_range(0..10)],
                };
            }
            let mut reader = HeadReader::default();
            for end in [rng.random_range(0..bytes.len()), bytes.len()] {
                match reader.read(Port::Stream, &bytes[..end], LIMIT) {
                    Head::Incomplete => {}
                    Head::Upgrade(upgrade) => {
                        assert!(upgrade.consumed <= end);
                        upgrade.accepted(date());
                        break;
                    }
                    Head::Refused(_) => break,
                }
            }
        }
    }
}
