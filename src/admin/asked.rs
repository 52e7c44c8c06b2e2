//! Questions that workers are asked, each by several, and calls that the engine thread makes: who has still
//! to answer, and what their answers are together.
//!
//! May not know who waits for the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::{GroupKey, SlotId, WorkerId};
use crate::mesh::inquiries::{
    Asker, ClosedSocket, Findings, GroupOrder, Question, Search, SocketLook, SocketOrder,
};
use crate::mesh::operators::OperatorCall;
use crate::mesh::{Shared, engine_thread};
use crate::metrics::Closed;
use crate::protocol::function::StreamFunction;
use crate::shard::{GroupLook, ItemsLook};

use super::http::Answer;
use super::routes::Route;
use super::shown::{self, GroupRow};

/// A worker that has not answered by then has more to do than to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a page of a group's items holds at most.
const ITEMS_BYTES: usize = 1024 * 1024;

/// What is asked and not answered yet.
pub(super) struct Asked {
    asker: Asker,
    /// By number, which rises.
    open: Vec<Open>,
    next_number: u64,
}

struct Open {
    number: u64,
    /// Whose connection waits.
    peer: SlotId,
    until: Instant,
    /// Answers that are still to come.
    waits: usize,
    what: What,
}

/// What is asked, and what has come so far.
enum What {
    /// The names of the first groups, of all workers.
    FirstGroups(GroupOrder, usize, Vec<GroupKey>),
    /// The same groups, looked up by all.
    Groups(GroupOrder, usize, Vec<GroupRow>),
    /// Names of streams or of groups, and of streams how many groups each has.
    Names(Arc<Search>, BTreeMap<Box<str>, usize>),
    /// Groups of a stream by their names, looked up by all.
    NamedGroups(Arc<Search>, Vec<GroupRow>),
    /// The engine thread makes a call.
    Call,
    Sockets(SocketOrder, usize, Vec<SocketLook>, usize),
    Closed(Option<Closed>, usize, Vec<ClosedSocket>),
    /// A group: whether values are shown as texts, how many follow it on each worker, and what its owner says.
    Group(GroupKey, bool, Vec<usize>, Option<(GroupLook, ItemsLook)>),
}

impl Asked {
    pub(super) fn new(asker: Asker) -> Asked {
        Asked {
            asker,
            open: Vec::new(),
            next_number: 0,
        }
    }

    /// When the first of them is given up.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.until).min()
    }

    /// Asks the workers for what that route wants. `Some`: there is nothing to wait for.
    pub(super) fn ask(
        &mut self,
        route: Route,
        peer: SlotId,
        shared: &Shared,
        now: Instant,
    ) -> Option<Answer> {
        let workers = shared.workers.len();
        let (what, question) = match route {
            Route::Groups(order, most) => (
                What::FirstGroups(order, most, Vec::new()),
                Question::FirstGroups(order, most),
            ),
            Route::Names(search) => {
                let search = Arc::new(search);
                (
                    What::Names(Arc::clone(&search), BTreeMap::new()),
                    Question::Names(search),
                )
            }
            Route::Sockets(order, most) => (
                What::Sockets(order, most, Vec::new(), 0),
                Question::Sockets(order, most),
            ),
            Route::Closed(reason, most) => (
                What::Closed(reason, most, Vec::new()),
                Question::Closed(reason, most),
            ),
            Route::Group(key, from, items, as_text) => {
                let owner = shared.owners.owner_of(&key);
                let keys: Arc<[GroupKey]> = Arc::from([key.clone()]);
                let what = What::Group(key.clone(), as_text, vec![0; workers], None);
                let number = self.begin(peer, what, now);
                let mut is_asked = self.ask_all(number, &Question::Groups(keys), shared);
                let question = Question::Items(key, from, items, ITEMS_BYTES);
                is_asked &= self.ask_one(number, owner, question, shared);
                return self.unless_asked(number, is_asked);
            }
            _ => return Some(Answer::error(404, "no such path")),
        };
        let number = self.begin(peer, what, now);
        let is_asked = self.ask_all(number, &question, shared);
        self.unless_asked(number, is_asked)
    }

    fn begin(&mut self, peer: SlotId, what: What, now: Instant) -> u64 {
        self.next_number += 1;
        self.open.push(Open {
            number: self.next_number,
            peer,
            until: now + PATIENCE,
            waits: 0,
            what,
        });
        self.next_number
    }

    fn ask_all(&mut self, number: u64, question: &Question, shared: &Shared) -> bool {
        let workers = 0..shared.workers.len() as u16;
        workers.fold(true, |all, worker| {
            all & self.ask_one(number, WorkerId(worker), question.clone(), shared)
        })
    }

    fn ask_one(
        &mut self,
        number: u64,
        worker: WorkerId,
        question: Question,
        shared: &Shared,
    ) -> bool {
        let inquiries = &shared.inquiries[worker.index()];
        let is_asked = self.asker.ask(inquiries, question, number);
        let mut open = self.open.iter_mut();
        if is_asked && let Some(open) = open.find(|open| open.number == number) {
            open.waits += 1;
            shared.wake(worker.index());
        }
        is_asked
    }

    fn unless_asked(&mut self, number: u64, is_asked: bool) -> Option<Answer> {
        if is_asked {
            return None;
        }
        self.open.retain(|open| open.number != number);
        Some(Answer::error(503, "the workers have enough to answer"))
    }

    /// Nobody waits for that answer any more.
    pub(super) fn forget(&mut self, peer: SlotId) {
        self.open.retain(|open| open.peer != peer);
    }

    /// Has the engine thread make a call. `Some`: there is nothing to wait for.
    pub(super) fn call(
        &mut self,
        function: StreamFunction,
        input: &[u8],
        peer: SlotId,
        shared: &Shared,
        now: Instant,
    ) -> Option<Answer> {
        let Ok(input) = str::from_utf8(input) else {
            return Some(Answer::error(400, "the body is no UTF-8"));
        };
        let number = self.begin(peer, What::Call, now);
        let is_called = shared.operators.call(OperatorCall {
            function,
            input: input.into(),
            number: number as u32,
        });
        if is_called {
            shared.wake(engine_thread(shared.workers.len()));
            return None;
        }
        self.open.retain(|open| open.number != number);
        Some(Answer::error(503, "too many calls wait"))
    }

    /// What is answered by now, and for whom.
    pub(super) fn take(&mut self, shared: &Shared, now: Instant) -> Vec<(SlotId, Answer)> {
        let mut answered = Vec::new();
        while let Some(called) = shared.operators.take_answer() {
            let is_it = |open: &Open| {
                open.number as u32 == called.number && matches!(open.what, What::Call)
            };
            if let Some(at) = self.open.iter().position(is_it) {
                let open = self.open.swap_remove(at);
                answered.push((open.peer, shown::called(&called.message)));
            }
        }
        while let Some(found) = self.asker.take() {
            let is_it = |open: &Open| open.number == found.number;
            let Some(at) = self.open.iter().position(is_it) else {
                continue; // given up
            };
            let open = &mut self.open[at];
            open.waits = open.waits.saturating_sub(1);
            open.what.add(found.worker, found.findings);
            if open.waits > 0 {
                continue;
            }
            let open = self.open.swap_remove(at);
            match open.what.next() {
                Some((what, keys)) => {
                    let number = self.begin(open.peer, what, now);
                    let is_asked = self.ask_all(number, &Question::Groups(keys.into()), shared);
                    let answer = self.unless_asked(number, is_asked);
                    answered.extend(answer.map(|answer| (open.peer, answer)));
                }
                None => answered.push((open.peer, open.what.answer(shared))),
            }
        }
        for open in self.open.extract_if(.., |open| open.until <= now) {
            let answer = Answer::error(503, "no answer has come in time");
            answered.push((open.peer, answer));
        }
        answered
    }
}

impl What {
    /// What is asked next: by name each worker says what it knows of these groups. `None`: it is all there.
    fn next(&self) -> Option<(What, Vec<GroupKey>)> {
        let row = |key: &GroupKey| GroupRow {
            key: key.clone(),
            look: None,
            subscribers: 0,
        };
        match self {
            What::FirstGroups(order, most, keys) => {
                let rows = keys.iter().map(row).collect();
                Some((What::Groups(*order, *most, rows), keys.clone()))
            }
            What::Names(search, names) => {
                let stream = search.stream.as_deref()?;
                let names = names.keys().take(search.most);
                let keys: Vec<GroupKey> = names.map(|name| GroupKey::new(stream, name)).collect();
                let rows = keys.iter().map(row).collect();
                Some((What::NamedGroups(Arc::clone(search), rows), keys))
            }
            _ => None,
        }
    }

    fn add(&mut self, worker: WorkerId, findings: Findings) {
        match (self, findings) {
            (What::FirstGroups(_, _, keys), Findings::FirstGroups(more)) => {
                keys.extend(more);
                keys.sort();
                keys.dedup();
            }
            (What::Names(_, names), Findings::Names(more)) => {
                for (name, groups) in more {
                    *names.entry(name).or_default() += groups;
                }
            }
            (What::Groups(_, _, rows) | What::NamedGroups(_, rows), Findings::Groups(found)) => {
                for (row, (look, subscribers)) in rows.iter_mut().zip(found) {
                    row.look = row.look.or(look);
                    row.subscribers += subscribers;
                }
            }
            (What::Sockets(_, _, rows, len), Findings::Sockets(more, more_len)) => {
                rows.extend(more);
                *len += more_len;
            }
            (What::Closed(_, _, rows), Findings::Closed(more)) => rows.extend(more),
            (What::Group(_, _, subscribers, _), Findings::Groups(found)) => {
                if let (Some((_, len)), Some(place)) =
                    (found.first(), subscribers.get_mut(worker.index()))
                {
                    *place = *len;
                }
            }
            (What::Group(_, _, _, items), Findings::Items(found)) => *items = found,
            _ => {}
        }
    }

    fn answer(self, shared: &Shared) -> Answer {
        let json = match self {
            What::FirstGroups(..) | What::Call => return Answer::error(503, "no answer has come"),
            What::Groups(order, most, rows) => shown::groups(order, most, rows, shared),
            What::Names(search, names) => shown::streams(&search, names),
            What::NamedGroups(search, rows) => shown::named_groups(&search, &rows, shared),
            What::Sockets(order, most, rows, len) => shown::sockets(order, most, rows, len),
            What::Closed(reason, most, rows) => {
                return Answer::json(200, shown::closed(reason, most, rows, shared));
            }
            What::Group(key, as_text, subscribers, found) => {
                return shown::group(&key, as_text, &subscribers, found, shared);
            }
        };
        Answer::json(200, json.to_string())
    }
}
