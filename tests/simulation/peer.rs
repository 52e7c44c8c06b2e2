//! Who is at the other end of one socket: what it sends, in bytes, and what the server is to make of
//! that, by the promises alone. Messages of one subscription id take effect in the order sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iii_stream::config::Limits;
use iii_stream::id::{GroupKey, ItemId};
use iii_stream::mesh::{AuthVerdict, Presence, Shared};
use iii_stream::protocol::connection::{
    PING_FRAME, close_frame, masked_control, pong_frame, push_masked_text,
};
use iii_stream::protocol::frame::SyncFrame;
use iii_stream::shard::Snapshot;
use iii_stream::subscribers::{Asked, Limit, Named, State, What};
use iii_stream::time::Now;
use serde_json::json;

use crate::client::Client;
use crate::line::BothEnds;
use crate::model::{Entered, Model};
use crate::settings::Settings;
use crate::shared::Afresh;
use crate::wire::Message;

pub(crate) struct Peer {
    /// Tells this socket from all others; its subscription ids begin with it.
    pub(crate) number: u32,
    pub(crate) line: BothEnds,
    pub(crate) client: Client,
    /// Of all its joins, in ms; `None`: they ask for none.
    pace_ms: Option<u64>,
    /// It has begun to send its request.
    pub(crate) has_asked: bool,
    /// What the client has not put on the line yet.
    unsent: VecDeque<u8>,
    /// What the server has not taken up, by subscription id.
    sent: BTreeMap<Box<str>, VecDeque<Sent>>,
    /// Joins without an answer, in their order.
    pending: Vec<Pending>,
    /// What its path joins, until that is taken up.
    path: Option<(GroupKey, Option<ItemId>)>,
    /// The answer to the upgrade, as far as it has come; `None`: it was a 101.
    head: Option<Vec<u8>>,
    context: Option<Arc<str>>,
    connected_at: Now,
    state: State,
    /// It may become a WebSocket.
    may_open: bool,
    pub(crate) is_closing: bool,
    /// There is a reason for its end.
    pub(crate) may_close: bool,
    /// It answers no ping.
    pub(crate) is_mute: bool,
    /// When the server has read something of it last.
    pub(crate) heard_at: Now,
    /// When it has taken something last, and how often it had by then.
    took: (Now, usize),
    /// When it has heard the last ping.
    pinged_at: Option<Now>,
}

/// A message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    Join(GroupKey, Option<ItemId>),
    Leave(GroupKey, Option<ItemId>),
}

struct Pending {
    named: Named,
    /// Functions have let it in, or none are asked.
    is_admitted: bool,
}

impl Peer {
    pub(crate) fn new(number: u32, line: BothEnds, connected_at: Now) -> Peer {
        let pace_ms = [None, Some(5), None, Some(50), Some(0)][number as usize % 5];
        Peer {
            number,
            line,
            client: Client::new(pace_ms > Some(0)),
            pace_ms,
            has_asked: false,
            unsent: VecDeque::new(),
            sent: BTreeMap::new(),
            pending: Vec::new(),
            path: None,
            head: Some(Vec::new()),
            context: None,
            connected_at,
            state: State::Handshake,
            may_open: false,
            is_closing: false,
            may_close: false,
            is_mute: false,
            heard_at: connected_at,
            took: (connected_at, 0),
            pinged_at: None,
        }
    }

    /// Sends the request, of which so many bytes come at once.
    pub(crate) fn upgrades(&mut self, path: Option<(GroupKey, Option<ItemId>)>, len: usize) {
        let target = match &path {
            None => "/".to_owned(),
            Some((key, None)) => format!("/stream/{}/{}", key.stream(), key.group()),
            Some((key, Some(item))) => format!("/stream/{}/{}/{item}", key.stream(), key.group()),
        };
        let query = self.pace_ms.map(|ms| format!("?token=1&pace_ms={ms}"));
        let query = query.unwrap_or_default();
        let request = format!(
            "GET {target}{query} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        (self.path, self.has_asked) = (path, true);
        self.unsent.extend(request.bytes());
        self.goes_on_sending(len);
    }

    /// So many bytes of what it has to send go on the line.
    pub(crate) fn goes_on_sending(&mut self, len: usize) {
        let mut line = self.line.borrow();
        let len = len.min(self.unsent.len());
        line.sent.extend(self.unsent.drain(..len));
        line.has_news = true;
    }

    /// The client is gone.
    pub(crate) fn ends(&mut self) {
        self.may_close = true;
        let mut line = self.line.borrow();
        (line.has_ended, line.has_news) = (true, true);
    }

    /// The client is gone, and only a write finds that out.
    pub(crate) fn dies(&mut self) {
        (self.line.borrow().is_dead, self.may_close) = (true, true);
    }

    pub(crate) fn joins(&mut self, id: &str, key: &GroupKey, item: Option<&ItemId>) {
        let id = self.name_of(id);
        self.client.asks(&id, key, item);
        self.says("join", id, Sent::Join(key.clone(), item.cloned()));
    }

    /// Its names need not be those of the join.
    pub(crate) fn leaves(&mut self, id: &str, key: &GroupKey, item: Option<&ItemId>) {
        let id = self.name_of(id);
        self.client.forgets(&id);
        self.says("leave", id, Sent::Leave(key.clone(), item.cloned()));
    }

    pub(crate) fn pings(&mut self) {
        self.client.pinged();
        let frame = masked_control(&PING_FRAME, [7; 4]);
        self.unsent.extend(frame);
        self.goes_on_sending(usize::MAX);
    }

    pub(crate) fn closes(&mut self) {
        self.may_close = true;
        self.unsent
            .extend(masked_control(&close_frame(None, ""), [7; 4]));
        self.goes_on_sending(usize::MAX);
    }

    /// A whole header that is none.
    pub(crate) fn breaks_the_protocol(&mut self) {
        self.may_close = true;
        self.unsent.extend([0xFF; 16]);
        self.goes_on_sending(usize::MAX);
    }

    /// It has not sent anything, or has more to say after what is on the line.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn name_of(&self, id: &str) -> Box<str> {
        format!("{}.{id}", self.number).into()
    }

    fn says(&mut self, kind: &str, id: Box<str>, sent: Sent) {
        let (Sent::Join(key, item) | Sent::Leave(key, item)) = &sent;
        let mut data = json!({
            "subscriptionId": &*id, "streamName": key.stream(), "groupId": key.group(),
        });
        if let Some(item) = item {
            data["id"] = (**item).into();
        }
        if let Some(pace_ms) = self.pace_ms {
            data["paceMs"] = pace_ms.into();
        }
        let text = json!({"type": kind, "data": data}).to_string();
        let mut frame = Vec::new();
        push_masked_text(&mut frame, text.as_bytes(), [1, 2, 3, 4], true, true);
        self.unsent.extend(frame);
        self.sent.entry(id).or_default().push_back(sent);
        self.goes_on_sending(usize::MAX);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open && !self.is_closing
    }

    /// Groups that it follows.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.client
            .subscriptions()
            .map(|(_, entered)| &entered.group)
    }

    /// The least time between what it is sent, if it has asked for one.
    pub(crate) fn pace_ms(&self) -> Option<u64> {
        self.pace_ms.filter(|ms| *ms > 0)
    }

    /// Functions have still to say something on a join of it.
    pub(crate) fn awaits_functions(&self) -> bool {
        self.state == State::Open && self.pending.iter().any(|pending| !pending.is_admitted)
    }

    /// Nothing of it waits anywhere; one that sends no request may be there as well.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.state {
            State::Handshake => self.line.borrow().sent.is_empty() && self.unsent.is_empty(),
            State::Open => {
                let line = self.line.borrow();
                line.sent.is_empty() && line.room == usize::MAX && !line.is_dead && !line.has_ended
            }
            State::Asking | State::Closing => false,
        }
    }

    pub(crate) fn check_quiet(&self, settings: &Settings, now: Now, model: &Model) {
        if self.state == State::Handshake {
            let had = now.monotonic.duration_since(self.connected_at.monotonic);
            assert!(had < handshake_time(settings), "its time is over");
        }
        if self.state == State::Open {
            assert!(self.head.is_none(), "it was never answered");
            let are_taken = self.sent.values().all(VecDeque::is_empty);
            assert!(are_taken, "messages that nobody took up: {:?}", self.sent);
            assert!(self.pending.is_empty(), "joins without an answer");
            self.client.check_quiet(model);
        }
    }

    /// The auth function's word is about to be heard.
    pub(crate) fn is_judged(&mut self, verdict: &AuthVerdict) {
        if self.state == State::Asking
            && let AuthVerdict::Admitted(context) = verdict
        {
            self.may_open = true;
            self.context.clone_from(context);
        }
    }

    /// The functions' word on a join is about to be heard.
    pub(crate) fn hears_of(&mut self, presence: &Presence, is_admitted: bool) {
        let is_it = |pending: &&mut Pending| pending.named.subscription == presence.subscription;
        let mut pending = self.pending.iter_mut();
        let pending = pending.find(is_it).expect("an open socket's own join");
        assert!(
            !pending.is_admitted,
            "it was let in before its functions had a say"
        );
        assert_eq!(self.context, presence.context);
        pending.is_admitted = is_admitted;
    }

    /// A join that the owner has let in stands from here on.
    pub(crate) fn enters(&mut self, subscription: &str, entered: Entered, model: &Model) {
        let Pending { named, is_admitted } = self.answered(subscription);
        assert!(is_admitted, "it was let in before its functions had a say");
        assert_eq!((&named.key, &named.item), (&entered.group, &entered.item));
        self.client.enters(subscription, entered, model);
    }

    /// All of that group begin anew, each with a `sync` of what the owner has read.
    pub(crate) fn begins_afresh(&mut self, of: &Snapshot, afresh: &Afresh, model: &Model) {
        let sync_of = |item: Option<&ItemId>| {
            let sync = read(&of.sync_of(item));
            (sync.event["data"].clone(), sync.time)
        };
        self.client.begins_afresh(afresh, sync_of, model);
    }

    fn answered(&mut self, subscription: &str) -> Pending {
        let is_it = |pending: &Pending| *pending.named.subscription == *subscription;
        let found = self.pending.iter().position(is_it);
        self.pending
            .remove(found.expect("an open socket's own join"))
    }

    /// The core says what it has made of something. Gives a leave that is due.
    pub(crate) fn is_noted(
        &mut self,
        what: &What,
        settings: &Settings,
        (now, shared): (Now, &Shared),
        is_asked: impl Fn(&str) -> bool,
        model: &Model,
    ) -> Option<Presence> {
        let limits = &settings.limits;
        let ends = matches!(
            what,
            What::Limit(_) | What::Silent | What::Auth(_) | What::Asks(_, Asked::Refused(_))
        );
        self.may_close |= ends;
        match what {
            What::Asks(_, Asked::In) => {
                let fails_closed = settings
                    .auth
                    .as_ref()
                    .is_some_and(|auth| !auth.admits_failures);
                assert!(!fails_closed, "nobody was asked about it");
                self.may_open = true;
            }
            What::Asks(_, Asked::Waits) => assert!(settings.auth.is_some()),
            What::Joins(named) => {
                self.is_taken_up(named, |sent| matches!(sent, Sent::Join(..)));
                assert_eq!(self.limit_of(named, settings), None, "beyond a limit");
                let is_admitted = !is_asked(named.key.stream());
                let named = named.clone();
                self.pending.push(Pending { named, is_admitted });
                let most = settings.bounds.messages;
                assert!(self.pending.len() <= most, "a full socket is read on");
            }
            What::Leaves(named) => {
                self.is_taken_up(named, |sent| matches!(sent, Sent::Leave(..)));
                self.client.leaves(&named.subscription, model);
                return Some(self.presence_of(named));
            }
            What::OverLimit(limit, named) => {
                let is_long = *limit == Limit::NameBytes;
                self.is_taken_up(named, |sent| match sent {
                    Sent::Join(key, _) => !is_long || key.group().len() > limits.name_bytes,
                    Sent::Leave(..) => false,
                });
                assert_eq!(self.limit_of(named, settings), Some(*limit));
                self.is_refused(named);
            }
            What::Refused(named) => {
                self.answered(&named.subscription);
                self.is_refused(named);
            }
            What::Limit(Limit::HeadTime) => {
                let had = now.monotonic.duration_since(self.connected_at.monotonic);
                assert!(self.state == State::Handshake && had >= handshake_time(settings));
            }
            What::Silent => self.check_silent(limits, now),
            What::Limit(Limit::Stall) => {
                let stall = Duration::from_millis(limits.stall_timeout_ms);
                let took = now.monotonic.duration_since(self.took.0.monotonic);
                assert!(took >= stall, "it has taken something {took:?} ago");
            }
            What::Limit(Limit::Connections) => {
                let let_in = shared.let_in.load(Ordering::Relaxed);
                assert!(let_in >= limits.connections, "{let_in} are let in");
            }
            _ => {}
        }
        None
    }

    /// It is given up: nothing has come from it for so long since it was pinged, or it takes nothing of what
    /// the ping waits behind.
    fn check_silent(&self, limits: &Limits, now: Now) {
        let [ping, pong] =
            [limits.ping_interval_ms, limits.pong_timeout_ms].map(Duration::from_millis);
        let since = |then: Now| now.monotonic.duration_since(then.monotonic);
        assert!(!ping.is_zero(), "nobody is to be pinged");
        let silent = since(self.heard_at);
        assert!(silent >= ping + pong, "it spoke {silent:?} ago");
        let line = self.line.borrow();
        assert!(line.sent.is_empty() || line.has_news, "it is left unread");
        let heard_ping = self.pinged_at.is_some_and(|at| since(at) >= pong);
        let takes_nothing = line.room == 0 && since(self.took.0) >= pong;
        assert!(
            heard_ping || takes_nothing,
            "it is slow: it has heard the ping {:?} ago, taken something {:?} ago, has room for {}",
            self.pinged_at.map(since),
            since(self.took.0),
            line.room
        );
    }

    /// Looks whether it has taken something since the last look.
    pub(crate) fn look_at_takes(&mut self, now: Now) {
        let takes = self.line.borrow().takes;
        if takes > self.took.1 {
            self.took = (now, takes);
        }
    }

    fn is_refused(&mut self, named: &Named) {
        let Named {
            subscription,
            key,
            item,
        } = named;
        self.client.is_refused(subscription, key, item.as_ref());
    }

    /// The server takes a message up: the first of its id, but for one that is refused unseen.
    fn is_taken_up(&mut self, named: &Named, is_it: impl Fn(&Sent) -> bool) {
        let Named {
            subscription,
            key,
            item,
        } = named;
        if let Some((_, name)) = subscription.split_once('.')
            && name == "path"
        {
            let path = self.path.take().expect("it joins its path once");
            assert_eq!(path, (key.clone(), item.clone()));
            return self.client.asks(subscription, key, item.as_ref());
        }
        let waits = |pending: &Pending| pending.named.subscription == *subscription;
        let sent = self.sent.get_mut(subscription).expect("it was sent");
        // A join that does not fit is refused whatever stands before it.
        let is_unseen = key.group().len() > 40 && is_it(&Sent::Join(key.clone(), item.clone()));
        let found = match is_unseen {
            true => sent.iter().position(&is_it),
            false => Some(0),
        };
        let sent = found.and_then(|found| sent.remove(found));
        let what = sent.filter(is_it).expect("it was sent once");
        let (Sent::Join(of, at) | Sent::Leave(of, at)) = &what;
        assert_eq!((of, at), (key, item), "messages of an id keep their order");
        assert!(
            is_unseen || !self.pending.iter().any(waits),
            "a join of that id waits"
        );
    }

    /// Which limit a join goes beyond.
    fn limit_of(&self, named: &Named, settings: &Settings) -> Option<Limit> {
        let limits = &settings.limits;
        let held = || {
            self.client
                .held()
                .filter(|(id, ..)| **id != named.subscription)
        };
        let is_equal = |key: &GroupKey, item: Option<&ItemId>| {
            *key == named.key && item == named.item.as_ref()
        };
        let is_known = self.client.held().count() > held().count();
        let pending = || self.pending.iter().map(|pending| &pending.named);
        let equal = held().filter(|(_, key, item)| is_equal(key, *item)).count()
            + pending()
                .filter(|of| is_equal(&of.key, of.item.as_ref()))
                .count();
        let all = self.client.held().count() + pending().count();
        match () {
            () if named.key.group().len() > limits.name_bytes => Some(Limit::NameBytes),
            () if all >= limits.subscriptions && !is_known => Some(Limit::Subscriptions),
            () if equal >= limits.equal_subscriptions => Some(Limit::EqualSubscriptions),
            () => None,
        }
    }

    /// How the core has it now. Gives the leaves that are due: when it closes, one for each id, in the
    /// order of joining, and then what was admitted and has not entered.
    pub(crate) fn is_seen(
        &mut self,
        state: Option<State>,
        settings: &Settings,
        now: Now,
        model: &Model,
    ) -> Vec<Presence> {
        if state == Some(State::Open) && self.state != State::Open {
            let had = now.monotonic.duration_since(self.connected_at.monotonic);
            let admits = settings
                .auth
                .as_ref()
                .is_some_and(|auth| auth.admits_failures);
            let is_overdue = admits && had >= handshake_time(settings);
            assert!(self.may_open || is_overdue, "nobody has let it in");
        }
        let before = self.state;
        self.state = state.unwrap_or(State::Closing);
        if self.state != State::Closing || self.is_closing {
            return Vec::new();
        }
        assert!(
            self.may_close,
            "it is closed for nothing: {:?}",
            self.client
        );
        self.is_closing = true;
        if before != State::Open && !self.may_open {
            return Vec::new();
        }
        let admitted = || self.pending.iter().filter(|pending| pending.is_admitted);
        let is_replaced = |id: &str| admitted().any(|pending| *pending.named.subscription == *id);
        let held = self.client.held().filter(|(id, ..)| !is_replaced(id));
        let held = held.map(|(id, key, item)| Named {
            subscription: id.clone(),
            key: key.clone(),
            item: item.cloned(),
        });
        let ended = held.chain(admitted().map(|pending| pending.named.clone()));
        let leaves = ended.map(|named| self.presence_of(&named)).collect();
        self.client.closes(model);
        leaves
    }

    fn presence_of(&self, named: &Named) -> Presence {
        Presence {
            subscription: named.subscription.clone(),
            key: named.key.clone(),
            item: named.item.clone(),
            context: self.context.clone(),
        }
    }

    /// The client looks at what has come.
    pub(crate) fn takes(&mut self, model: &Model, now: Now) {
        let mut taken = std::mem::take(&mut self.line.borrow().taken);
        if let Some(head) = &mut self.head {
            head.extend(taken);
            let end = head.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else {
                return;
            };
            let status = std::str::from_utf8(&head[..12]).expect("a status line");
            if status != "HTTP/1.1 101" {
                assert!(self.state == State::Closing, "{status}");
                assert!(["401", "503"].contains(&&status[9..]), "{status}");
                return;
            }
            assert!(self.state == State::Open || self.is_closing);
            taken = head.split_off(end + 4);
            self.head = None;
        }
        self.client.takes(&taken, model);
        for _ in 0..self.client.take_asked() {
            self.pinged_at = Some(now);
            if !self.is_mute {
                self.unsent.extend(masked_control(&pong_frame(b""), [5; 4]));
                self.goes_on_sending(usize::MAX);
            }
        }
    }
}

fn read(sync: &SyncFrame) -> Message {
    Message::whole(&sync.pieces_from(0).collect::<Vec<_>>().concat())
}

fn handshake_time(settings: &Settings) -> Duration {
    Duration::from_millis(settings.limits.handshake_ms)
}
