//! What can be asked of the admin port: paths and queries to plain data, within limits.
//!
//! Pure. May not know who asks, or what is answered.

use crate::id::GroupKey;
use crate::mesh::inquiries::{GroupOrder, Search, SocketOrder};
use crate::metrics::Closed;
use crate::protocol::function::StreamFunction;

use super::http::{Request, unescaped};

/// Rows that are shown unless the query says another number, and at most.
const ROWS: usize = 50;
pub(super) const ROWS_MAX: usize = 200;
/// The same of closed sockets.
pub(super) const CLOSED_MAX: usize = 4096;
/// The same of the items of a group.
const ITEMS: usize = 100;
const ITEMS_MAX: usize = 1000;

const SORTS: &str = "events, pace, subscribers, bytes or name";

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Route {
    /// Whether the process turns.
    Health,
    /// Whether somebody new may be sent here.
    Ready,
    Metrics,
    Overview,
    /// So many of the last seconds, of these series; empty: of all.
    History(usize, Vec<String>),
    Groups(GroupOrder, usize),
    /// Streams, or groups of one, by their names.
    Names(Search),
    Sockets(SocketOrder, usize),
    Closed(Option<Closed>, usize),
    /// A group and its items: from there on, so many; as texts, or else as JSON within JSON.
    Group(GroupKey, u64, usize, bool),
    /// A call of a function of streams; its input is the body.
    Call(StreamFunction),
    /// A file of the page.
    Page(String),
}

/// Why nothing is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unasked {
    /// There is no such path.
    NoPath,
    /// The query says what cannot be.
    Query(String),
}

impl Route {
    /// What is told there is nothing but whether the server is there.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Route::Health | Route::Ready | Route::Page(_))
    }

    /// Whether it is asked by that method.
    pub(super) fn takes(&self, method: &str) -> bool {
        match self {
            Route::Call(_) => method == "POST",
            _ => matches!(method, "GET" | "HEAD"),
        }
    }

    /// By what it is asked, as a header.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Route::Call(_) => "allow: POST\r\n",
            _ => "allow: GET, HEAD\r\n",
        }
    }
}

/// What a request asks for. `has_page`: the page is there.
pub(super) fn route(request: &Request, has_page: bool) -> Result<Route, Unasked> {
    let path = request.path.as_str();
    Ok(match path {
        "/health" => Route::Health,
        "/ready" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/admin/overview" => Route::Overview,
        "/admin/history" => {
            let seconds = number(request, "seconds", 600, 600)?;
            let series = request.asks("series").unwrap_or_default();
            let series = series.split(',').filter(|name| !name.is_empty());
            Route::History(seconds, series.map(str::to_owned).collect())
        }
        "/admin/set" => Route::Call(StreamFunction::Set),
        "/admin/delete" => Route::Call(StreamFunction::Delete),
        "/admin/streams" => Route::Names(search(request, None)?),
        "/admin/groups" if request.asks("sort") == Some("name") => {
            let stream = request.asks("stream");
            let stream = stream.ok_or_else(|| wrong("stream", "", "the stream of the groups"))?;
            Route::Names(search(request, Some(stream))?)
        }
        "/admin/groups" => {
            let order = match request.asks("sort").unwrap_or("events") {
                "events" => GroupOrder::Events,
                "pace" => GroupOrder::Pace,
                "subscribers" => GroupOrder::Subscribers,
                "bytes" => GroupOrder::Bytes,
                other => return Err(wrong("sort", other, SORTS)),
            };
            Route::Groups(order, number(request, "limit", ROWS, ROWS_MAX)?)
        }
        "/admin/sockets" => {
            let order = match request.asks("sort").unwrap_or("behind") {
                "behind" => SocketOrder::Behind,
                "oldest" => SocketOrder::Oldest,
                "bytes" => SocketOrder::Bytes,
                "subscriptions" => SocketOrder::Subscriptions,
                other => {
                    return Err(wrong(
                        "sort",
                        other,
                        "behind, oldest, bytes or subscriptions",
                    ));
                }
            };
            Route::Sockets(order, number(request, "limit", ROWS, ROWS_MAX)?)
        }
        "/admin/closed" => {
            let reason = match request.asks("reason") {
                None | Some("") => None,
                Some(name) => Some(reason(name)?),
            };
            Route::Closed(reason, number(request, "limit", ROWS, CLOSED_MAX)?)
        }
        // A browser takes a name of dots for a way up.
        "/admin/group" => match (request.asks("stream"), request.asks("group")) {
            (Some(stream), Some(name)) => group(request, GroupKey::new(stream, name))?,
            _ => return Err(wrong("stream and group", "", "both names")),
        },
        _ => match path.strip_prefix("/admin/group/") {
            Some(names) => group(request, key_of(names).ok_or(Unasked::NoPath)?)?,
            None if has_page && !path.starts_with("/admin/") => Route::Page(path.to_owned()),
            None => return Err(Unasked::NoPath),
        },
    })
}

fn group(request: &Request, key: GroupKey) -> Result<Route, Unasked> {
    let from = request.asks("from").unwrap_or("0");
    let from = from
        .parse()
        .map_err(|_| wrong("from", from, "what `next` said"))?;
    let as_text = match request.asks("as") {
        None | Some("json") => false,
        Some("text") => true,
        Some(other) => return Err(wrong("as", other, "json or text")),
    };
    let limit = number(request, "limit", ITEMS, ITEMS_MAX)?;
    Ok(Route::Group(key, from, limit, as_text))
}

/// Split first, unescaped then: `%2F` is a slash inside a name.
fn key_of(names: &str) -> Option<GroupKey> {
    let (stream, group) = names.split_once('/')?;
    let (stream, group) = (unescaped(stream)?, unescaped(group)?);
    let is_name = !stream.is_empty() && !group.is_empty() && !names.ends_with('/');
    let has_two = names.matches('/').count() == 1;
    (is_name && has_two).then(|| GroupKey::new(&stream, &group))
}

fn reason(name: &str) -> Result<Closed, Unasked> {
    let mut reasons = Closed::ALL.into_iter();
    let found = reasons.find(|reason| reason.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Closed::ALL.iter().map(|reason| reason.name()).collect();
        wrong("reason", name, &names.join(", "))
    })
}

fn search(request: &Request, stream: Option<&str>) -> Result<Search, Unasked> {
    Ok(Search {
        stream: stream.map(Box::from),
        contains: request.asks("contains").unwrap_or_default().into(),
        after: request.asks("after").map(Box::from),
        most: number(request, "limit", ROWS, ROWS_MAX)?,
    })
}

/// More than there may be is as many as there may be.
fn number(request: &Request, name: &str, default: usize, most: usize) -> Result<usize, Unasked> {
    match request.asks(name) {
        None => Ok(default),
        Some(text) => match text.parse::<u64>() {
            Ok(number) if number > 0 => Ok(usize::try_from(number).unwrap_or(most).min(most)),
            _ => Err(wrong(name, text, &format!("a number from 1 to {most}"))),
        },
    }
}

fn wrong(name: &str, found: &str, expected: &str) -> Unasked {
    Unasked::Query(format!("{name} is {found:?}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::super::http::{Parsed, parse};
    use super::*;

    fn asked(target: &str) -> Result<Route, Unasked> {
        match parse(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()) {
            Parsed::Request(request) => route(&request, true),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_hold_and_what_cannot_be_is_named() {
        let all = asked("/admin/groups?sort=bytes&limit=99999999999999");
        assert_eq!(all, Ok(Route::Groups(GroupOrder::Bytes, ROWS_MAX)));
        assert_eq!(
            asked("/admin/sockets"),
            Ok(Route::Sockets(SocketOrder::Behind, ROWS))
        );
        let closed = asked("/admin/closed?reason=behind&limit=4096");
        assert_eq!(closed, Ok(Route::Closed(Some(Closed::Behind), 4096)));
        for target in [
            "/admin/groups?limit=0",
            "/admin/groups?limit=-1",
            "/admin/groups?sort=x",
            "/admin/groups?sort=name",
            "/admin/streams?limit=x",
            "/admin/closed?reason=x",
            "/admin/group/s/g?from=x",
        ] {
            assert!(matches!(asked(target), Err(Unasked::Query(_))), "{target}");
        }
    }

    #[test]
    fn a_group_is_named_by_its_two_names_escaped() {
        let key = |target: &str| match asked(target) {
            Ok(Route::Group(key, ..)) => Some((key.stream().to_owned(), key.group().to_owned())),
            _ => None,
        };
        let odd = key("/admin/group/a%2Fb/%22%0A%7Bb%7D%3Cimg%3E?from=3&limit=2");
        assert_eq!(odd, Some(("a/b".to_owned(), "\"\n{b}<img>".to_owned())));
        for target in [
            "/admin/group/s",
            "/admin/group/s/",
            "/admin/group//g",
            "/admin/group/s/g/i",
            "/admin/group/s/%ff",
        ] {
            assert_eq!(asked(target), Err(Unasked::NoPath), "{target}");
        }
        assert_eq!(asked("/admin/other"), Err(Unasked::NoPath));
        assert_eq!(asked("/"), Ok(Route::Page("/".to_owned())));
    }
}
