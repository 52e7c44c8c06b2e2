//! The upgrade from the client's side, where our server is a worker of a running engine: the bytes of
//! our request, and what the bytes of its answer mean.
//!
//! Uses nothing of ours. May not open a socket or make a key: chance is for the caller.

use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Header, Response, Status};
use tungstenite::handshake::derive_accept_key;

use super::handshake::HEADERS_LEN_MAX;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `host` or `host:port`, as the engine's address names it.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// `user:password`, if the address has them.
    pub credentials: Option<&'a str>,
    /// Sixteen bytes of chance, in base64.
    pub key: &'a str,
}

impl Request<'_> {
    /// The request's head.
    pub fn bytes(&self) -> Vec<u8> {
        let Request {
            host, target, key, ..
        } = self;
        let authorization = self.credentials.map_or(String::new(), |credentials| {
            let encoded = BASE64.encode(credentials.as_bytes());
            format!("authorization: Basic {encoded}\r\n")
        });
        format!(
            "GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n{authorization}\r\n"
        )
        .into_bytes()
    }
}

/// What has come of an answer so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// More bytes are to be read.
    Incomplete,
    /// A WebSocket. What stands behind so many bytes are its first frames.
    Upgraded {
        /// Length of the head, its empty line included.
        consumed: usize,
    },
    /// No WebSocket, and why, for a log line.
    Refused(String),
}

/// Reads the answer to a request with that key.
pub fn read_answer(bytes: &[u8], limit: usize, key: &str) -> Answer {
    let mut headers = [EMPTY_HEADER; HEADERS_LEN_MAX];
    let mut response = Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(Status::Complete(consumed)) => match refusal(&response, key) {
            Some(why) => Answer::Refused(why),
            None => Answer::Upgraded { consumed },
        },
        Ok(Status::Partial) if bytes.len() <= limit => Answer::Incomplete,
        Ok(Status::Partial) => Answer::Refused(format!("its answer is over {limit} bytes long")),
        Err(error) => Answer::Refused(format!("its answer is no HTTP: {error}")),
    }
}

/// Why an answer is no consent, if it is none.
fn refusal(response: &Response<'_, '_>, key: &str) -> Option<String> {
    let (status, reason) = (
        response.code.unwrap_or(0),
        response.reason.unwrap_or_default(),
    );
    if status != 101 {
        let answer = format!("{status} {reason}");
        return Some(format!("it answers {}", answer.trim_end()));
    }
    let header = |name: &str| value_of(response.headers, name);
    let is_websocket =
        header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let is_upgrade = header("connection").is_some_and(|value| {
        let mut words = value.split(',');
        words.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
    });
    let is_our_key = header("sec-websocket-accept") == Some(&derive_accept_key(key.as_bytes()));
    let is_unasked =
        header("sec-websocket-extensions").is_some() || header("sec-websocket-protocol").is_some();
    let what = match () {
        () if !is_websocket || !is_upgrade => "it upgrades to something else than a WebSocket",
        () if !is_our_key => "its accept key does not fit ours",
        () if is_unasked => "it chooses a subprotocol or an extension that was not offered",
        () => return None,
    };
    Some(what.to_owned())
}

fn value_of<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a str> {
    let header = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn read(answer: &str) -> Answer {
        read_answer(answer.as_bytes(), 1000, KEY)
    }

    fn refused(answer: &str) -> String {
        match read(answer) {
            Answer::Refused(why) => why,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_request_holds_what_an_upgrade_needs() {
        let request = Request {
            host: "h:1",
            target: "/x?y",
            credentials: Some("u:p"),
            key: KEY,
        };
        assert_eq!(
            String::from_utf8(request.bytes()).unwrap(),
            "GET /x?y HTTP/1.1\r\nhost: h:1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             authorization: Basic dTpw\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        for end in 0..ACCEPTED.len() {
            assert_eq!(read(&ACCEPTED[..end]), Answer::Incomplete);
        }
        let consumed = ACCEPTED.len();
        assert_eq!(
            read(&format!("{ACCEPTED}\u{1}x")),
            Answer::Upgraded { consumed }
        );
        let long = read_answer(&ACCEPTED.as_bytes()[..20], 10, KEY);
        assert_eq!(
            long,
            Answer::Refused("its answer is over 10 bytes long".into())
        );
    }

    #[test]
    fn what_is_no_consent_is_told() {
        let other_key = ACCEPTED.replace("s3pP", "S3pP");
        let other = ACCEPTED.replace("websocket\r", "h2c\r");
        let extended = ACCEPTED.replace("\r\n\r\n", "\r\nsec-websocket-extensions: x\r\n\r\n");
        let rows = [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "it answers 404 Not Found"),
            ("HTTP/1.1 503 \r\n\r\n", "it answers 503"),
            (
                "SSH-2.0-x\r\n",
                "its answer is no HTTP: invalid HTTP version",
            ),
            (&other_key, "its accept key does not fit ours"),
            (&other, "it upgrades to something else than a WebSocket"),
            (
                &extended,
                "it chooses a subprotocol or an extension that was not offered",
            ),
        ];
        for (answer, why) in rows {
            assert_eq!(refused(answer), why);
        }
    }
}
