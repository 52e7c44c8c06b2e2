//! One subscriber: what its socket should hear, checked frame by frame, and what a deployed client
//! makes of it by its own rules.

mod feed;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use iii_stream::id::{GroupKey, ItemId};
use serde_json::Value;

use crate::model::{Entered, Event, Model};
use crate::shared::Afresh;
use crate::wire::{Decoder, Frame, Kind, Message};

use feed::{Feed, Sync};
use view::View;

#[derive(Default, Debug)]
pub(crate) struct Client {
    decoder: Decoder,
    /// Subscriptions that stand, by their ids.
    subscriptions: BTreeMap<Box<str>, Entered>,
    /// Their ids in the order of joining.
    joined: Vec<Box<str>>,
    /// Joins that were refused and whose answers it has not heard.
    refused: VecDeque<(GroupKey, Option<ItemId>)>,
    feeds: BTreeMap<GroupKey, Feed>,
    /// Set when a subscription ends in the middle of a frame: what that frame may be.
    begun: Option<Vec<(GroupKey, usize)>>,
    /// Groups that have begun anew: events before that one may still come, or not.
    lapsed: BTreeMap<GroupKey, usize>,
    pings: usize,
    pongs: usize,
    /// Pings of the server that it has not answered.
    asked: usize,
    end: End,
    /// It was further behind than its bound: from then on it may hear every item once only, and a fresh
    /// `sync`.
    pub(crate) is_far_behind: bool,
    /// What the application has asked for, by subscription id.
    views: BTreeMap<Box<str>, View>,
    /// The items of each group that are there by what it has heard.
    held: BTreeMap<GroupKey, Held>,
}

/// The items of one group that are there.
#[derive(Default, Debug)]
struct Held {
    /// To who follows the whole group.
    of_group: BTreeSet<ItemId>,
    /// To who follows single items.
    of_items: BTreeSet<ItemId>,
}

/// Whether the item of a change was there before it.
#[derive(Clone, Copy, Debug)]
struct WasThere {
    /// To who follows the whole group.
    in_group: bool,
    /// To who follows it alone.
    alone: bool,
}

#[derive(Default, PartialEq, Eq, Debug)]
enum End {
    #[default]
    Open,
    /// A close frame follows what has begun.
    Closing,
    Closed,
}

impl Client {
    /// One with a pace hears every item once in a while.
    pub(crate) fn new(is_paced: bool) -> Client {
        Client {
            is_far_behind: is_paced,
            ..Client::default()
        }
    }

    /// The application joins; the server does not know yet.
    pub(crate) fn asks(&mut self, id: &str, group: &GroupKey, item: Option<&ItemId>) {
        let view = View {
            group: group.clone(),
            item: item.cloned(),
            items: Vec::new(),
            value: Value::Null,
            last_time: 0,
            last_times: HashMap::new(),
            is_refused: false,
        };
        self.views.insert(id.into(), view);
    }

    /// A join has its effect here, in place of an older one of that id.
    pub(crate) fn enters(&mut self, id: &str, entered: Entered, model: &Model) {
        self.leaves(id, model);
        let feed = self.feeds.entry(entered.group.clone()).or_default();
        if entered.sync.is_some() {
            feed.syncs.push_back(Sync {
                subscription: id.into(),
                entered: entered.clone(),
                is_void: false,
            });
        }
        self.subscriptions.insert(id.into(), entered);
        self.joined.push(id.into());
    }

    /// All of a group begin anew that have entered before that: each with a `sync` of its own, of which the
    /// second tells the data and time.
    pub(crate) fn begins_afresh(
        &mut self,
        afresh: &Afresh,
        sync_of: impl Fn(Option<&ItemId>) -> (Value, u64),
        model: &Model,
    ) {
        let group = &afresh.group;
        let is_older =
            |entered: &Entered| entered.group == *group && entered.number < afresh.number;
        if !self.subscriptions.values().any(is_older) {
            return;
        }
        self.note_begun(model);
        let feed = self.feeds.entry(group.clone()).or_default();
        for id in &self.joined {
            let entered = self.subscriptions.get_mut(id).expect("it stands");
            if !is_older(entered) {
                continue;
            }
            for sync in feed.syncs.iter_mut().chain(&mut feed.fresh) {
                sync.is_void |= sync.subscription == *id;
            }
            let (data, time) = sync_of(entered.item.as_ref());
            (entered.from, entered.number) = (afresh.from, afresh.number);
            (entered.sync, entered.time) = (Some(data), Some(time));
            feed.fresh.push(Sync {
                subscription: id.clone(),
                entered: entered.clone(),
                is_void: false,
            });
        }
        self.lapsed.insert(group.clone(), afresh.from);
    }

    /// An event that was on its way when its group began anew.
    fn hears_lapsed(&mut self, message: &Message, model: &Model) -> bool {
        let Some(until) = self.lapsed.get(&message.group) else {
            return false;
        };
        let feed = self.feeds.entry(message.group.clone()).or_default();
        let history = &model.groups[&message.group].history;
        let is_it = |number: &usize| history[*number].is_told_by(message);
        let Some(number) = (feed.at..*until).find(is_it) else {
            return false;
        };
        feed.hears_event(number);
        true
    }

    /// A join is refused: the application has no view, and what stood stands.
    pub(crate) fn is_refused(&mut self, id: &str, group: &GroupKey, item: Option<&ItemId>) {
        self.refused.push_back((group.clone(), item.cloned()));
        if let Some(view) = self.views.get_mut(id)
            && (&view.group, view.item.as_ref()) == (group, item)
        {
            view.is_refused = true;
        }
    }

    /// The subscriptions in the order of joining: id, group and item.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&Box<str>, &GroupKey, Option<&ItemId>)> {
        self.joined.iter().map(|id| {
            let entered = &self.subscriptions[id];
            (id, &entered.group, entered.item.as_ref())
        })
    }

    /// A leave has its effect here: nothing more of that subscription begins.
    pub(crate) fn leaves(&mut self, id: &str, model: &Model) {
        if !self.subscriptions.contains_key(id) {
            return;
        }
        self.note_begun(model);
        self.subscriptions.remove(id);
        self.joined.retain(|joined| **joined != *id);
        for feed in self.feeds.values_mut() {
            for sync in feed.syncs.iter_mut().chain(&mut feed.fresh) {
                sync.is_void |= *sync.subscription == *id;
            }
        }
    }

    /// The application's view of that subscription is gone.
    pub(crate) fn forgets(&mut self, id: &str) {
        self.views.remove(id);
    }

    pub(crate) fn pinged(&mut self) {
        self.pings += 1;
    }

    /// How many pings of the server it has still to answer.
    pub(crate) fn take_asked(&mut self) -> usize {
        std::mem::take(&mut self.asked)
    }

    /// The server closes: what has begun ends, then comes the close frame, then nothing.
    pub(crate) fn closes(&mut self, model: &Model) {
        self.note_begun(model);
        self.subscriptions.clear();
        self.joined.clear();
        for feed in self.feeds.values_mut() {
            for sync in feed.syncs.iter_mut().chain(&mut feed.fresh) {
                sync.is_void = true;
            }
        }
        self.end = End::Closing;
    }

    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&str, &Entered)> {
        self.subscriptions
            .iter()
            .map(|(id, entered)| (&**id, entered))
    }

    /// The socket took these bytes.
    pub(crate) fn takes(&mut self, bytes: &[u8], model: &Model) {
        self.decoder.push(bytes);
        while let Some(frame) = self.decoder.next() {
            assert!(self.end != End::Closed, "a frame after the close frame");
            match frame {
                Frame::Message(message) => self.hears(&message, model),
                Frame::Ping => self.asked += 1,
                Frame::Pong => {
                    self.pongs += 1;
                    assert!(self.pongs <= self.pings, "a pong without a ping");
                }
                Frame::Close => {
                    assert!(self.end == End::Closing);
                    self.end = End::Closed;
                }
            }
            self.begun = None;
        }
    }

    fn hears(&mut self, message: &Message, model: &Model) {
        let group = &message.group;
        if message.kind == Kind::Unauthorized {
            let due = self.refused.pop_front();
            return assert_eq!(due, Some((group.clone(), message.item.clone())));
        }
        self.views.values_mut().for_each(|view| view.hears(message));
        let was_there = self.note_held(message);
        if self.is_far_behind {
            return self.hears_by_item(message, was_there, model);
        }
        if self.hears_rest(message, model) || self.hears_lapsed(message, model) {
            return;
        }
        let next = self.next_event(group, model);
        let feed = self.feeds.get_mut(group).expect("a group that was joined");
        if message.kind == Kind::Sync {
            return feed.hears_sync(message, next);
        }
        let number = next.unwrap_or_else(|| panic!("nothing is left for it: {message:?}"));
        let event = &model.groups[group].history[number];
        assert!(
            event.is_told_by(message),
            "{:?} was next, not {message:?}",
            event.event
        );
        feed.passes_syncs(number);
        feed.hears_event(number);
    }

    /// Takes note of which items are there. Gives whether that of an event was.
    fn note_held(&mut self, message: &Message) -> WasThere {
        let Held { of_group, of_items } = self.held.entry(message.group.clone()).or_default();
        let data = &message.event["data"];
        let Some(item) = &message.item else {
            if message.kind == Kind::Sync {
                let ids = data.as_array().into_iter().flatten();
                let ids = ids.filter_map(|item| item["id"].as_str());
                *of_group = ids.map(ItemId::from).collect();
            }
            return WasThere {
                in_group: false,
                alone: false,
            };
        };
        let was_there = WasThere {
            in_group: of_group.contains(item),
            alone: of_items.contains(item),
        };
        let (group_hears, is_there) = match message.event["type"].as_str() {
            Some("create" | "update") => (true, true),
            Some("delete") => (true, false),
            Some("sync") => (false, !data.is_null()),
            _ => return was_there,
        };
        let held = [Some(of_items), group_hears.then_some(of_group)];
        for held in held.into_iter().flatten() {
            match is_there {
                true => held.insert(item.clone()),
                false => held.remove(item),
            };
        }
        was_there
    }

    /// Frames may be left out, but what comes is true and in order. `was_there`: the item of a change, by what
    /// was heard before.
    fn hears_by_item(&mut self, message: &Message, was_there: WasThere, model: &Model) {
        let begun = self.begun.take();
        let feed = self.feeds.entry(message.group.clone()).or_default();
        if message.kind == Kind::Sync {
            let mut anew = feed.fresh.iter();
            let is_due =
                feed.has_due(message) || anew.any(|sync| message.is_sync_of(&sync.entered));
            assert!(
                is_due || model.is_fresh(message),
                "nobody made it: {message:?}"
            );
            if is_due {
                feed.hears_sync(message, None);
            }
            return;
        }
        let history = &model.groups[&message.group].history;
        let number = history[feed.at..]
            .iter()
            .position(|event| event.is_told_by_item(message));
        let number =
            number.unwrap_or_else(|| panic!("too late, or it did not happen: {message:?}"));
        let number = feed.at + number;
        let is_for = |entered: &Entered| {
            let is_here = entered.group == message.group && entered.from <= number;
            is_here && history[number].is_for(&entered.item)
        };
        let is_copy = number == feed.at && feed.given > 0; // those of one event stay together
        // Of what functions keep, or other hosts change, nobody knows what is there.
        if !is_copy && model.shared.is_none() && !model.is_custom(&message.group) {
            let kind = message.event["type"].as_str();
            let was_due = kind
                .map(|kind| kind != "create")
                .filter(|_| kind != Some("event"));
            let standing = self
                .subscriptions
                .values()
                .filter(|entered| is_for(entered));
            let of_standing = standing.map(|entered| match entered.item {
                None => was_there.in_group,
                Some(_) => was_there.alone,
            });
            let mut followed: Vec<bool> = of_standing.collect();
            if followed.is_empty() {
                // The rest of what had begun when its subscription ended.
                followed = vec![was_there.in_group, was_there.alone];
            }
            assert!(
                was_due.is_none_or(|due| followed.contains(&due)),
                "its item: {was_there:?}, for {message:?}"
            );
        }
        let is_followed = self.subscriptions.values().any(is_for);
        let lapsed = self.lapsed.get(&message.group);
        let has_lapsed = lapsed.is_some_and(|until| number < *until);
        assert!(
            is_followed || is_copy || has_lapsed || begun.is_some(),
            "for nobody: {message:?}"
        );
        if is_followed {
            feed.passes_syncs(number);
        }
        feed.hears_event(number);
    }

    /// The rest of a frame that had begun when its subscription ended.
    fn hears_rest(&mut self, message: &Message, model: &Model) -> bool {
        let is_it = |(group, number): &&(GroupKey, usize)| {
            *group == message.group && model.groups[group].history[*number].is_told_by(message)
        };
        let begun = self.begun.take().unwrap_or_default();
        let Some((group, number)) = begun.iter().find(is_it) else {
            return false;
        };
        self.feeds
            .entry(group.clone())
            .or_default()
            .hears_event(*number);
        true
    }

    fn note_begun(&mut self, model: &Model) {
        if self.decoder.has_begun() && self.begun.is_none() {
            let next = |group: &GroupKey| Some((group.clone(), self.next_event(group, model)?));
            self.begun = Some(self.feeds.keys().filter_map(next).collect());
        }
    }

    /// The event of the group of which the next frame is due.
    fn next_event(&self, group: &GroupKey, model: &Model) -> Option<usize> {
        let feed = self.feeds.get(group)?;
        let history = &model.groups[group].history;
        (feed.at..history.len()).find(|number| {
            let is_for = |entered: &&Entered| {
                entered.group == *group
                    && entered.from <= *number
                    && history[*number].is_for(&entered.item)
            };
            let frames = self.subscriptions.values().filter(is_for).count();
            frames > if *number == feed.at { feed.given } else { 0 }
        })
    }

    /// Bytes of the group's events up to that time, from the first that this socket lacks.
    pub(crate) fn behind(&self, group: &GroupKey, until: u64, model: &Model) -> usize {
        let Some(next) = self.next_event(group, model) else {
            return 0;
        };
        let has_come = |event: &&Event| event.time.is_some_and(|time| time <= until);
        let waiting = model.groups[group].history[next..].iter().filter(has_come);
        waiting.map(|event| event.wire_len).sum()
    }

    /// Everything was delivered: the socket has heard all that was for it, and shows what is.
    pub(crate) fn check_quiet(&self, model: &Model) {
        assert!(!self.decoder.has_begun(), "part of a frame was never sent");
        assert_eq!(
            self.pongs > 0,
            self.pings > 0,
            "a ping has its pong, or a newer one"
        );
        assert!(self.refused.is_empty(), "refusals that never came");
        for (group, feed) in &self.feeds {
            assert!(
                self.is_far_behind || self.next_event(group, model).is_none(),
                "events of {group:?} never came"
            );
            assert!(feed.has_all_syncs(), "a sync of {group:?} never came");
        }
        for (id, entered) in self.subscriptions() {
            let view = &self.views[id];
            // What a custom function keeps is nobody's but its own.
            let is_known = entered.sync.is_some() && !view.is_refused;
            if is_known && !model.is_custom(&entered.group) {
                view.check(&model.groups[&entered.group], !self.is_far_behind);
            }
        }
    }
}
