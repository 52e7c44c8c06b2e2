//! A store that delays, refuses and crashes on cue. It plays a log, where the owner decides, or a store
//! that decides by itself and that several hosts share: each has its answers, and a channel on which it
//! hears what all of them do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use iii_stream::id::{GroupKey, ItemId, Text, WorkerId};
use iii_stream::protocol::input::UpdateOp;
use iii_stream::shard::{
    Answer, Decides, FromChannel, HeardEvent, Learned, Question, Request, RequestKind, Store,
    Verdict, update,
};
use iii_stream::time::ClockReading;

/// What the double is to do next. Each is used up as it happens.
#[derive(Debug, Default)]
pub(crate) struct Cues {
    /// So many requests from now are accepted before one is refused.
    pub(crate) refuse_after: Option<usize>,
    /// How long each batch takes, in real time, before it is answered.
    pub(crate) delay: std::time::Duration,
}

/// The double.
pub(crate) struct Double {
    decides: Decides,
    /// Items in insertion order, by group: for a log what it holds, else the values themselves.
    groups: HashMap<GroupKey, Vec<(ItemId, Text)>>,
    /// Per shard: the epoch whose writes are refused unseen, until the owner sends the next.
    void_epochs: HashMap<WorkerId, u32>,
    cues: Arc<std::sync::Mutex<Cues>>,
    /// The clock of a store that decides, in ms since 1970: each thing that it does moves it on.
    time: u64,
    /// What has happened in each group of a store that decides.
    log: HashMap<GroupKey, Vec<Logged>>,
    hosts: Vec<Host>,
    has_told_time: bool,
}

/// One event of a group.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) item: Option<ItemId>,
    pub(crate) event: HeardEvent,
    /// When, by the double's clock.
    pub(crate) time: u64,
    /// The group had no items before it.
    is_first: bool,
}

/// One of the servers that share the double, by its two connections.
#[derive(Default)]
struct Host {
    /// Groups that it follows, and whether it is told of their events by now.
    followed: BTreeMap<GroupKey, bool>,
    channel: VecDeque<Heard>,
    answers: VecDeque<Answered>,
    /// Cuts whose answers have come, and which the channel has not reached.
    cuts: BTreeMap<u64, Answer>,
    cuts_made: u64,
    /// Groups of which a cut is on its way: what is asked of them meanwhile waits.
    held: BTreeMap<GroupKey, VecDeque<Request>>,
}

/// What stands in a channel.
enum Heard {
    Event(GroupKey, Logged),
    /// The place of that cut.
    Cut(u64, GroupKey),
    Read(GroupKey, FromChannel),
}

/// What stands on the other connection.
enum Answered {
    Is(Answer),
    /// The group cannot be followed as was asked; it is read a little later.
    Unfollowed(GroupKey, Answer),
    Cut(u64, Answer),
}

impl Double {
    /// A log (the owner decides) or a store that decides, of one host.
    pub(crate) fn new(decides: Decides, cues: Arc<std::sync::Mutex<Cues>>) -> Double {
        Double {
            decides,
            groups: HashMap::new(),
            void_epochs: HashMap::new(),
            cues,
            time: 1_000_000,
            log: HashMap::new(),
            hosts: vec![Host::default()],
            has_told_time: false,
        }
    }

    /// What it has accepted of a group, in the order of first insertion.
    pub(crate) fn items(&self, group: &GroupKey) -> &[(ItemId, Text)] {
        self.groups.get(group).map_or(&[], |items| items)
    }

    /// Groups with items.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.groups
            .iter()
            .filter(|(_, items)| !items.is_empty())
            .map(|(key, _)| key)
    }

    /// The process dies: what was accepted is still there, and the shards that come begin anew.
    #[allow(dead_code, reason = "for the simulation")]
    pub(crate) fn crash(&mut self) {
        self.void_epochs.clear();
    }

    /// Serves one request.
    pub(crate) fn serve_one(&mut self, request: Request) -> Answer {
        let Request {
            shard,
            epoch,
            number,
            ..
        } = request;
        let is_void = self.void_epochs.get(&request.shard) == Some(&request.epoch);
        let verdict = if is_void {
            Verdict::Refused("refused unseen".into())
        } else if self.is_to_refuse() {
            if self.decides == Decides::Owner {
                self.void_epochs.insert(request.shard, request.epoch);
            }
            Verdict::Refused("disk full".into())
        } else {
            self.carry_out(request.kind)
        };
        Answer {
            shard,
            epoch,
            number,
            verdict,
        }
    }

    fn is_to_refuse(&self) -> bool {
        let Ok(mut cues) = self.cues.lock() else {
            return false;
        };
        match &mut cues.refuse_after {
            Some(0) => {
                cues.refuse_after = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn carry_out(&mut self, kind: RequestKind) -> Verdict {
        match kind {
            RequestKind::Put {
                group, item, value, ..
            } => {
                self.put(&group, item, value);
                Verdict::Accepted
            }
            RequestKind::Remove { group, item, .. } => {
                self.remove(&group, &item);
                Verdict::Accepted
            }
            RequestKind::Times { .. } => Verdict::Accepted,
            RequestKind::Decide(question) => self.decide(question),
        }
    }

    fn decide(&mut self, question: Question) -> Verdict {
        match question {
            Question::Set {
                group, item, data, ..
            } => {
                let (old, time) = self.change(&group, &item, Some(Text::clone(&data)));
                decided(old, Some(data), time)
            }
            Question::Update {
                group, item, ops, ..
            } => self.update(&group, &item, &ops),
            Question::Delete { group, item } => {
                let (old, time) = self.change(&group, &item, None);
                decided(old, None, time)
            }
            Question::Send {
                group,
                id,
                kind,
                data,
            } => {
                let is_first = self.items(&group).is_empty();
                let time = self.tell(&group, id, HeardEvent::Custom { kind, data }, is_first);
                decided(None, None, time)
            }
            Question::Follow { group, item } => {
                let wanted = |name: &ItemId| item.as_ref().is_none_or(|item| item == name);
                let items = self.items(&group).iter();
                let items = items.filter(|(name, _)| wanted(name)).cloned().collect();
                let time = self.tick();
                Verdict::Cut { items, time }
            }
            Question::Unfollow { .. } | Question::Keep { .. } => Verdict::Accepted,
            Question::Get { group, item } => Verdict::Found(self.value(&group, &item)),
            Question::List { group } => {
                let values = self
                    .items(&group)
                    .iter()
                    .map(|(_, value)| Text::from(format!(",{value}")));
                Verdict::Listed(values.collect())
            }
            Question::Groups { stream } => {
                let is_asked = |key: &&GroupKey| {
                    stream
                        .as_ref()
                        .is_none_or(|stream| key.stream() == &**stream)
                };
                let keys = self.groups().filter(is_asked);
                let names = keys.map(|key| (key.stream(), key.group()));
                Verdict::Groups(names.collect())
            }
        }
    }

    fn update(&mut self, group: &GroupKey, item: &ItemId, ops: &[UpdateOp]) -> Verdict {
        let old = self.value(group, item);
        let updated = update::apply(old.as_deref(), ops);
        let new = Text::from(updated.value);
        let (old, time) = self.change(group, item, Some(Text::clone(&new)));
        Verdict::Decided {
            old,
            new: Some(new),
            errors: updated.errors,
            time,
        }
    }

    /// Changes an item and tells all hosts. Gives the old value, and when that was.
    fn change(
        &mut self,
        group: &GroupKey,
        item: &ItemId,
        new: Option<Text>,
    ) -> (Option<Text>, u64) {
        let is_first = self.items(group).is_empty();
        let old = match &new {
            Some(new) => self.put(group, item.clone(), Text::clone(new)),
            None => self.remove(group, item),
        };
        let event = match (&old, new) {
            (None, Some(new)) => HeardEvent::Create(new),
            (Some(_), Some(new)) => HeardEvent::Update(new),
            (Some(old), None) => HeardEvent::Delete(Text::clone(old)),
            (None, None) => return (None, 0),
        };
        let time = self.tell(group, Some(item.clone()), event, is_first);
        (old, time)
    }

    fn tell(
        &mut self,
        group: &GroupKey,
        item: Option<ItemId>,
        event: HeardEvent,
        is_first: bool,
    ) -> u64 {
        let time = self.tick();
        let is_first = is_first && matches!(event, HeardEvent::Create(_));
        let logged = Logged {
            item,
            event,
            time,
            is_first,
        };
        for host in &mut self.hosts {
            if host.followed.contains_key(group) {
                let heard = Heard::Event(group.clone(), logged.clone());
                host.channel.push_back(heard);
            }
        }
        self.log.entry(group.clone()).or_default().push(logged);
        time
    }

    fn value(&self, group: &GroupKey, item: &str) -> Option<Text> {
        let found = self.items(group).iter().find(|(name, _)| **name == *item);
        found.map(|(_, value)| Text::clone(value))
    }

    fn put(&mut self, group: &GroupKey, item: ItemId, value: Text) -> Option<Text> {
        let items = self.groups.entry(group.clone()).or_default();
        match items.iter_mut().find(|(name, _)| *name == item) {
            Some((_, known)) => Some(std::mem::replace(known, value)),
            None => {
                items.push((item, value));
                None
            }
        }
    }

    fn remove(&mut self, group: &GroupKey, item: &str) -> Option<Text> {
        let items = self.groups.get_mut(group)?;
        let found = items.iter().position(|(name, _)| **name == *item)?;
        Some(items.remove(found).1)
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }
}

/// A store that several hosts share, as each of them has it.
#[allow(
    dead_code,
    reason = "a server of a test is the only host, and loses nothing"
)]
impl Double {
    /// One host more; gives its number. The first is 0.
    pub(crate) fn add_host(&mut self) -> usize {
        self.hosts.push(Host::default());
        self.hosts.len() - 1
    }

    /// A host sends a request. Its answer comes by [`Double::take_answer`] or [`Double::take_heard`].
    pub(crate) fn ask(&mut self, host: usize, request: Request) {
        let RequestKind::Decide(question) = &request.kind else {
            panic!("the store decides");
        };
        let of = &mut self.hosts[host];
        if let Some(group) = question.group()
            && let Some(held) = of.held.get_mut(group)
        {
            return held.push_back(request);
        }
        let answer = match question {
            Question::Follow { group, .. } => {
                let group = group.clone();
                return self.follow(host, group, request);
            }
            Question::Unfollow { group } => {
                of.followed.remove(group);
                of.channel.retain(|heard| heard.group() != group);
                answer_to(&request, Verdict::Accepted)
            }
            _ => self.serve_one(request),
        };
        let answers = &mut self.hosts[host].answers;
        answers.push_back(Answered::Is(answer));
    }

    /// A host that has no connection is asked by its shards.
    pub(crate) fn ask_in_vain(&mut self, host: usize, request: &Request) -> Learned {
        let followed = &mut self.hosts[host].followed;
        let verdict = match &request.kind {
            RequestKind::Decide(Question::Unfollow { group }) => {
                followed.remove(group);
                Verdict::Accepted
            }
            RequestKind::Decide(Question::Follow { group, .. }) => {
                followed.insert(group.clone(), false);
                Verdict::Refused("not connected".into())
            }
            _ => Verdict::Refused("not connected".into()),
        };
        Learned::Answer(answer_to(request, verdict))
    }

    /// What was told of the group before it was followed is not for this host.
    fn follow(&mut self, host: usize, group: GroupKey, request: Request) {
        let answer = self.serve_one(request);
        let is_refused = matches!(answer.verdict, Verdict::Refused(_));
        let of = &mut self.hosts[host];
        of.followed.entry(group.clone()).or_insert(is_refused);
        if is_refused {
            return of.answers.push_back(Answered::Unfollowed(group, answer));
        }
        let cut = of.cuts_made;
        of.cuts_made += 1;
        of.channel.push_back(Heard::Cut(cut, group.clone()));
        of.answers.push_back(Answered::Cut(cut, answer));
        of.held.insert(group, VecDeque::new());
    }

    fn read(&mut self, host: usize, group: &GroupKey, is_after_loss: bool) {
        let read = FromChannel::Read {
            items: self.items(group).iter().cloned().collect(),
            time: self.tick(),
            is_after_loss,
        };
        let channel = &mut self.hosts[host].channel;
        channel.push_back(Heard::Read(group.clone(), read));
    }

    /// How many answers are on their way to a host, and how much is in its channel.
    pub(crate) fn on_their_way(&self, host: usize) -> (usize, usize) {
        let host = &self.hosts[host];
        (host.answers.len(), host.channel.len())
    }

    /// A host reads the next answer; that of a cut counts once the channel reaches its place.
    pub(crate) fn take_answer(&mut self, host: usize) -> Option<Learned> {
        let of = &mut self.hosts[host];
        match of.answers.pop_front()? {
            Answered::Is(answer) => Some(Learned::Answer(answer)),
            Answered::Unfollowed(group, answer) => {
                // Whoever has joined has no `sync`: the next reading is one.
                self.read(host, &group, false);
                Some(Learned::Answer(answer))
            }
            Answered::Cut(cut, answer) => {
                of.cuts.insert(cut, answer);
                None
            }
        }
    }

    /// A host reads what is next in its channel. `None`: nothing that is for it, or a cut whose answer has
    /// not come.
    pub(crate) fn take_heard(&mut self, host: usize) -> Option<Learned> {
        let of = &mut self.hosts[host];
        if let Heard::Cut(cut, _) = of.channel.front()?
            && !of.cuts.contains_key(cut)
        {
            return None;
        }
        match of.channel.pop_front()? {
            Heard::Event(group, logged) => {
                let is_told = of.followed.get(&group) == Some(&true);
                is_told.then(|| Learned::Channel(group, logged.told()))
            }
            Heard::Read(group, read) => {
                *of.followed.get_mut(&group)? = true;
                Some(Learned::Channel(group, read))
            }
            Heard::Cut(cut, group) => {
                if let Some(is_on) = of.followed.get_mut(&group) {
                    *is_on = true;
                }
                let answer = of.cuts.remove(&cut)?;
                self.go_on(host, &group);
                Some(Learned::Answer(answer))
            }
        }
    }

    /// What waited behind a cut is asked.
    fn go_on(&mut self, host: usize, group: &GroupKey) {
        let held = self.hosts[host].held.remove(group).unwrap_or_default();
        for request in held {
            self.ask(host, request);
        }
    }

    /// A host loses its connections: what was asked may have been done, and is answered with a refusal.
    /// Nothing is told until [`Double::read_again`].
    pub(crate) fn lose(&mut self, host: usize) -> Vec<Learned> {
        let of = std::mem::take(&mut self.hosts[host]);
        let refused = |answer: Answer| {
            let verdict = Verdict::Refused("the connection was lost".into());
            Learned::Answer(Answer { verdict, ..answer })
        };
        let mut learned: Vec<Learned> = of.cuts.into_values().map(refused).collect();
        for answered in of.answers {
            let (Answered::Is(answer) | Answered::Unfollowed(_, answer) | Answered::Cut(_, answer)) =
                answered;
            learned.push(refused(answer));
        }
        let followed = of.followed.into_keys();
        self.hosts[host].followed = followed.map(|group| (group, false)).collect();
        for request in of.held.into_values().flatten() {
            learned.push(self.ask_in_vain(host, &request));
        }
        learned.push(Learned::Lost);
        learned
    }

    /// The host has its connections again: all that it follows is read.
    pub(crate) fn read_again(&mut self, host: usize) {
        let followed: Vec<GroupKey> = self.hosts[host].followed.keys().cloned().collect();
        for group in followed {
            self.read(host, &group, true);
        }
    }

    /// A host is gone, with all that was on its way.
    pub(crate) fn forget(&mut self, host: usize) {
        self.hosts[host] = Host::default();
    }

    /// What has happened in a group, in order.
    pub(crate) fn log(&self, group: &GroupKey) -> &[Logged] {
        self.log.get(group).map_or(&[], |log| log)
    }

    /// What its clock says, in ms since 1970.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    /// Its clock goes on by itself.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.time += ms;
    }
}

impl Heard {
    fn group(&self) -> &GroupKey {
        let (Heard::Event(group, _) | Heard::Cut(_, group) | Heard::Read(group, _)) = self;
        group
    }
}

impl Logged {
    fn told(self) -> FromChannel {
        FromChannel::Event {
            item: self.item,
            event: self.event,
            time: self.time,
            is_first: self.is_first,
            is_ours: true,
        }
    }
}

fn answer_to(request: &Request, verdict: Verdict) -> Answer {
    Answer {
        shard: request.shard,
        epoch: request.epoch,
        number: request.number,
        verdict,
    }
}

fn decided(old: Option<Text>, new: Option<Text>, time: u64) -> Verdict {
    Verdict::Decided {
        old,
        new,
        errors: Vec::new(),
        time,
    }
}

impl Store for Double {
    fn decides(&self) -> Decides {
        self.decides
    }

    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>) {
        let delay = self.cues.lock().map(|cues| cues.delay).unwrap_or_default();
        std::thread::sleep(delay);
        for request in requests {
            if self.decides == Decides::Owner {
                learned.push(Learned::Answer(self.serve_one(request)));
                continue;
            }
            self.ask(0, request);
            while self.on_their_way(0) != (0, 0) {
                learned.extend(self.take_answer(0));
                learned.extend(self.take_heard(0));
            }
        }
    }

    fn clock(&mut self) -> Option<ClockReading> {
        let tells = self.decides == Decides::Shared && !self.has_told_time;
        self.has_told_time |= tells;
        let (ms, at) = (self.time, Instant::now());
        tells.then_some(ClockReading { ms, at })
    }
}
