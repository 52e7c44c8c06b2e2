//! Which of this worker's sockets keep whom a member of which groups.
//!
//! A subscription to a whole group of a stream with members keeps its person there, from when it is
//! admitted until it ends. May not know who else is there: the group's owner does.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{GroupKey, ItemId, SlotId, Text};
use crate::protocol::auth;
use crate::protocol::json::value;
use crate::protocol::members::{Found, IdPath, NoMember, id_of};
use crate::protocol::streams::StreamRules;
use crate::shard::{Ask, Hold, Lease};

use super::Subscribers;
use super::connections::Socket;
use super::notes::Note;

/// So many leases of a socket that has ended are given up at once; more of them over turns.
const GIVEN_UP_A_TURN: usize = 256;

/// Why somebody is no member is said so seldom.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The persons behind sockets.
#[derive(Default)]
pub(super) struct Persons {
    rules: Arc<StreamRules>,
    /// What the requests of sockets said, by the paths that the rules have.
    said: HashMap<SlotId, Said>,
    /// Who is held by which subscription.
    held: HashMap<SlotId, Vec<Keeper>>,
    /// Leases of sockets that have ended.
    given_up: VecDeque<(SlotId, Keeper)>,
}

/// One value for each of [`StreamRules::paths_in_requests`].
pub(super) type Said = Box<[Option<Box<str>>]>;

/// One subscription that keeps somebody.
struct Keeper {
    subscription: Box<str>,
    key: GroupKey,
    id: ItemId,
}

impl Persons {
    pub(super) fn new(rules: Arc<StreamRules>) -> Persons {
        Persons {
            rules,
            ..Persons::default()
        }
    }

    /// Whether leases of sockets that have ended are still to be given up.
    pub(super) fn has_work(&self) -> bool {
        !self.given_up.is_empty()
    }

    /// The socket is gone.
    pub(super) fn forget(&mut self, id: SlotId) {
        self.said.remove(&id);
    }

    /// It goes to another worker, with what its request said.
    pub(super) fn take_said(&mut self, id: SlotId) -> Option<Said> {
        self.said.remove(&id)
    }

    /// It has come from one.
    pub(super) fn put_said(&mut self, id: SlotId, said: Option<Said>) {
        self.said.extend(said.map(|said| (id, said)));
    }
}

impl<S: Socket> Subscribers<S> {
    /// Keeps of a request what the ids of persons are made of.
    pub(super) fn note_person(&mut self, id: SlotId, head: &[u8]) {
        let rules = &self.persons.rules;
        if rules.paths_in_requests().next().is_some() {
            let said = auth::said_in(head, rules.paths_in_requests());
            self.persons.said.insert(id, said);
        }
    }

    /// A subscription is admitted: it takes the place of the one of its name, and may keep its person.
    pub(super) fn keep_person(
        &mut self,
        id: SlotId,
        subscription: &str,
        (key, item): (&GroupKey, Option<&ItemId>),
    ) {
        if self.persons.rules.is_empty() {
            return;
        }
        let keeps = item.is_none().then(|| self.person_in(id, key)).flatten();
        let is_kept = |held: &Keeper| *held.subscription == *subscription && held.key == *key;
        let held = self.persons.held.get(&id);
        if keeps.is_some() && held.is_some_and(|held| held.iter().any(is_kept)) {
            return;
        }
        self.give_up_person(id, subscription);
        let Some((person, data)) = keeps else {
            return;
        };
        let held = self.persons.held.entry(id).or_default();
        let is_there = held.iter().any(|held| held.key == *key);
        held.push(Keeper {
            subscription: subscription.into(),
            key: key.clone(),
            id: ItemId::clone(&person),
        });
        if !is_there {
            let hold = Hold {
                lease: self.lease(id),
                id: person,
                data,
            };
            self.command(key.clone(), Ask::Hold(Box::new(hold)));
        }
    }

    /// A subscription has ended.
    pub(super) fn give_up_person(&mut self, id: SlotId, subscription: &str) {
        let Some(held) = self.persons.held.get_mut(&id) else {
            return;
        };
        let is_it = |held: &Keeper| *held.subscription == *subscription;
        let Some(at) = held.iter().position(is_it) else {
            return;
        };
        let ended = held.swap_remove(at);
        let is_there = held.iter().any(|held| held.key == ended.key);
        if held.is_empty() {
            self.persons.held.remove(&id);
        }
        if !is_there {
            self.release(id, ended);
        }
    }

    /// The socket has ended, and with it all its subscriptions.
    pub(super) fn give_up_persons(&mut self, id: SlotId) {
        let Some(held) = self.persons.held.remove(&id) else {
            return;
        };
        let is_much = held.len() > GIVEN_UP_A_TURN || self.persons.has_work();
        for held in held {
            match is_much {
                true => self.persons.given_up.push_back((id, held)),
                false => self.release(id, held),
            }
        }
    }

    /// Goes on with leases of sockets that have ended.
    pub(super) fn go_on_giving_up(&mut self) {
        for _ in 0..GIVEN_UP_A_TURN {
            let Some((id, held)) = self.persons.given_up.pop_front() else {
                break;
            };
            self.release(id, held);
        }
    }

    /// The end of the process is nobody's leave.
    fn release(&mut self, id: SlotId, held: Keeper) {
        if self.is_serving() {
            let (lease, id) = (self.lease(id), held.id);
            self.command(held.key, Ask::Release { lease, id });
        }
    }

    fn lease(&self, connection: SlotId) -> Lease {
        Lease {
            worker: self.ports.id,
            connection,
        }
    }

    /// Who the socket's person is in a group, and what is to be known of it. None: the stream has no members,
    /// or nobody says who it is.
    fn person_in(&mut self, id: SlotId, key: &GroupKey) -> Option<(ItemId, Text)> {
        let rules = Arc::clone(&self.persons.rules);
        let members = rules.of(key.stream())?.members.as_ref()?;
        let context = self.connections.get(id)?.context.as_deref().cloned();
        let found = match &members.id {
            IdPath::Context(keys) => {
                let found = context.as_deref().and_then(|context| keys.find(context));
                found.map(Found::Json)
            }
            in_request => {
                let at = rules
                    .paths_in_requests()
                    .position(|path| path == in_request);
                let said = self.persons.said.get(&id);
                let said = said.and_then(|said| said.get(at?)?.as_deref());
                said.map(Found::Plain)
            }
        };
        let person = match id_of(found, self.limits.name_bytes) {
            Ok(person) => ItemId::from(person),
            Err(why) => {
                self.note_no_member(key, &members.id, why);
                return None;
            }
        };
        let data = members
            .data
            .as_ref()
            .and_then(|keys| keys.find(context.as_deref()?));
        let fits = |data: &&str| {
            let depth = self.limits.json_depth;
            data.starts_with('{')
                && data.len() <= self.limits.value_bytes
                && value::check(data, depth).is_ok()
        };
        Some((person, Text::from(data.filter(fits).unwrap_or("{}"))))
    }

    /// It is counted, and said once a minute.
    fn note_no_member(&mut self, key: &GroupKey, path: &IdPath, why: NoMember) {
        self.metrics().members_without_id.increment();
        if self
            .ports
            .shared
            .said_no_member
            .ask_once_in(SAID_EVERY, self.now.monotonic)
        {
            self.notes.push(Note::NoMember {
                stream: key.stream().into(),
                path: path.to_string().into(),
                why,
            });
        }
    }
}
