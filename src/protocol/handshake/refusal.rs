//! The answers to requests that do not become a WebSocket: status, headers, and a line for people.
//!
//! May not know how a head is judged.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Port;

const NO_WEBSOCKET_UPGRADE: &str = "`Upgrade` header did not include 'websocket'";
const NO_KEY: &str = "`Sec-WebSocket-Key` header missing";
const BAD_KEY: &str = "`Sec-WebSocket-Key` header is not 16 bytes in base64";
const NO_VERSION_13: &str = "`Sec-WebSocket-Version` header did not include '13'";
const NO_UPGRADE_STATE: &str =
    "WebSocket request couldn't be upgraded since no upgrade state was present";
/// What a GET would be told in place of a HEAD; only its length is ever sent.
const HEAD_METHOD: &str = "Request method must be `GET`";
const CHANNEL_NOT_FOUND: &str = "Channel not found";
const TOO_LARGE: &str =
    "limits.handshake_bytes: the request has too many bytes, or more than 100 headers";
const NO_STREAM_PATH: &str =
    "no such path: subscribers connect to /, /stream/STREAM/GROUP or /stream/STREAM/GROUP/ITEM";
const NO_WORKER_PATH: &str =
    "no such path: worker programs connect to /, subscribers to the stream port";

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Request line or headers do not parse.
    BadRequest,
    /// Too many headers, or too many bytes.
    HeadTooLarge,
    /// The request target alone is too long.
    TargetTooLong,
    /// `/health` of the stream port, which is there for load balancers: all is well.
    Health,
    /// The same, asked for without a body.
    HealthOfHead,
    /// `/ready` of the stream port: whether somebody new may be sent here, and if not why. The caller's to
    /// find.
    Ready(Option<NotReady>),
    /// No such path.
    NotFound,
    /// The same, asked for without a body.
    NotFoundOfHead,
    /// A path of the engine's channels, which we do not serve.
    ChannelNotFound,
    /// Neither GET nor HEAD.
    MethodNotAllowed,
    /// HEAD, which cannot be upgraded.
    HeadMethod,
    /// `Connection` does not speak of an upgrade.
    NoConnectionUpgrade,
    /// `Upgrade` is not `websocket`.
    NoWebSocketUpgrade,
    /// `Sec-WebSocket-Key` is missing.
    NoKey,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64.
    BadKey,
    /// `Sec-WebSocket-Version` is not 13.
    NoVersion13,
    /// That header stands twice and may stand once: each reader would choose for itself.
    Twice(&'static str),
    /// The head announces a body, which nobody reads.
    HasBody,
    /// HTTP/1.0 has no upgrades.
    Http10,
    /// As many sockets are open as may be. The caller's to find: no head says so.
    Busy,
    /// As many sockets are open from that address as may be. The caller's to find, too.
    AddressBusy,
    /// The process has as much memory as it may. The caller's to find, too.
    OutOfMemory,
    /// As many sockets wait for the auth function as may. The caller's to find, too.
    AuthBusy,
    /// `Origin` names a page of elsewhere. The caller's to find, like those below.
    Forbidden,
    /// The auth function was asked, and what came back does not admit.
    Unauthorized,
    /// The auth function could not be asked, or did not answer.
    AuthUnavailable,
}

/// Why nobody new should be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// The process ends.
    Draining,
    /// The store cannot be reached, or takes no writes.
    StoreDown,
    /// The store has just refused a write.
    StoreRefuses,
}

impl NotReady {
    /// As JSON names it.
    pub fn name(self) -> &'static str {
        match self {
            NotReady::Draining => "draining",
            NotReady::StoreDown => "store is down",
            NotReady::StoreRefuses => "store refuses writes",
        }
    }
}

impl Refusal {
    /// Status code of the answer.
    pub fn status(self) -> u16 {
        self.answer().0
    }

    /// The whole answer on that port, after which the connection ends.
    pub fn response(self, port: Port, date: SystemTime) -> Vec<u8> {
        let (status, reason, header) = self.answer();
        let body = match self {
            Refusal::Twice(name) => Cow::Owned(format!("`{name}` header stands twice")),
            _ => Cow::Borrowed(self.body(port)),
        };
        let content_type = match &*body {
            "" => "",
            _ if matches!(self, Refusal::Ready(_)) => "content-type: application/json\r\n",
            _ => "content-type: text/plain; charset=utf-8\r\n",
        };
        let sent_body = match self {
            Refusal::HeadMethod | Refusal::HealthOfHead => "",
            _ => &*body,
        };
        let date = match self {
            Refusal::Unauthorized | Refusal::AuthUnavailable => String::new(),
            _ => format!("date: {}\r\n", http_date(date)),
        };
        format!(
            "HTTP/1.1 {status} {reason}\r\n\
             {content_type}\
             content-length: {}\r\n\
             {header}\
             connection: close\r\n\
             {date}\
             \r\n\
             {sent_body}",
            body.len(),
        )
        .into_bytes()
    }

    /// Status, reason, a header of this answer alone.
    fn answer(self) -> (u16, &'static str, &'static str) {
        match self {
            Refusal::BadRequest
            | Refusal::NoConnectionUpgrade
            | Refusal::NoWebSocketUpgrade
            | Refusal::NoKey
            | Refusal::BadKey
            | Refusal::NoVersion13
            | Refusal::Twice(_)
            | Refusal::HasBody => (400, "Bad Request", ""),
            Refusal::HeadTooLarge => (431, "Request Header Fields Too Large", ""),
            Refusal::TargetTooLong => (414, "URI Too Long", ""),
            Refusal::Health | Refusal::HealthOfHead | Refusal::Ready(None) => {
                (200, "OK", "cache-control: no-store\r\n")
            }
            Refusal::Ready(Some(_)) => (503, "Service Unavailable", "cache-control: no-store\r\n"),
            Refusal::NotFound | Refusal::NotFoundOfHead | Refusal::ChannelNotFound => {
                (404, "Not Found", "")
            }
            Refusal::MethodNotAllowed => (405, "Method Not Allowed", "allow: GET,HEAD\r\n"),
            Refusal::HeadMethod => (405, "Method Not Allowed", ""),
            Refusal::Http10 => (426, "Upgrade Required", ""),
            Refusal::Busy
            | Refusal::AddressBusy
            | Refusal::OutOfMemory
            | Refusal::AuthBusy
            | Refusal::AuthUnavailable => (503, "Service Unavailable", "retry-after: 1\r\n"),
            Refusal::Forbidden => (403, "Forbidden", ""),
            Refusal::Unauthorized => (401, "Unauthorized", ""),
        }
    }

    /// For people: what is wrong, or what to do.
    fn body(self, port: Port) -> &'static str {
        match (self, port) {
            (Refusal::BadRequest | Refusal::NotFoundOfHead | Refusal::MethodNotAllowed, _) => "",
            (Refusal::HeadTooLarge, _) => TOO_LARGE,
            (Refusal::Health | Refusal::HealthOfHead, _) => "ok",
            (Refusal::Ready(None), _) => r#"{"ready":true,"reason":null}"#,
            (Refusal::Ready(Some(why)), _) => match why {
                NotReady::Draining => r#"{"ready":false,"reason":"draining"}"#,
                NotReady::StoreDown => r#"{"ready":false,"reason":"store is down"}"#,
                NotReady::StoreRefuses => r#"{"ready":false,"reason":"store refuses writes"}"#,
            },
            (Refusal::TargetTooLong, _) => "the path is longer than 65534 bytes",
            (Refusal::NotFound, Port::Stream) => NO_STREAM_PATH,
            (Refusal::NotFound, Port::Worker) => NO_WORKER_PATH,
            (Refusal::ChannelNotFound, _) => CHANNEL_NOT_FOUND,
            (Refusal::HeadMethod, _) => HEAD_METHOD,
            (Refusal::NoConnectionUpgrade, Port::Stream) => {
                concat!(
                    "Connection header did not include 'upgrade'\n",
                    "This is iii-stream: subscribers connect with a WebSocket, ",
                    "new WebSocket('ws://HOST:PORT/stream/STREAM/GROUP')"
                )
            }
            (Refusal::NoConnectionUpgrade, Port::Worker) => {
                concat!(
                    "Connection header did not include 'upgrade'\n",
                    "This is iii-stream: worker programs connect with an iii SDK, ",
                    "registerWorker('ws://HOST:PORT')"
                )
            }
            (Refusal::NoWebSocketUpgrade, _) => NO_WEBSOCKET_UPGRADE,
            (Refusal::NoKey, _) => NO_KEY,
            (Refusal::BadKey, _) => BAD_KEY,
            (Refusal::Twice(name), _) => name, // and what of it, in the answer
            (Refusal::HasBody, _) => "an upgrade has no body",
            (Refusal::NoVersion13, _) => NO_VERSION_13,
            (Refusal::Http10, _) => NO_UPGRADE_STATE,
            (Refusal::Busy, Port::Stream) => "limits.connections are there: come again",
            (Refusal::Busy, Port::Worker) => "limits.worker_connections are there: come again",
            (Refusal::AddressBusy, _) => {
                "limits.connections_per_address are there from this address: come again"
            }
            (Refusal::OutOfMemory, _) => {
                "server is out of memory (limits.memory_bytes): come again"
            }
            (Refusal::AuthBusy, _) => {
                "limits.handshakes sockets wait for the auth function: come again"
            }
            (Refusal::Forbidden, Port::Stream) => {
                "pages of this origin may not subscribe (server.allowed_origins)"
            }
            (Refusal::Forbidden, Port::Worker) => {
                "pages of this origin may not connect (server.worker_origins)"
            }
            (Refusal::Unauthorized, _) => "the auth function does not admit",
            (Refusal::AuthUnavailable, _) => {
                "the auth function was not asked or has not answered: come again"
            }
        }
    }
}

/// A clock that is set outside the years which the format knows shows the nearest that it does.
pub(super) fn http_date(date: SystemTime) -> httpdate::HttpDate {
    let year_9999_end = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    httpdate::HttpDate::from(date.clamp(UNIX_EPOCH, year_9999_end))
}
