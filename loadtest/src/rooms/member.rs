//! One client of a room, without its socket: what it has heard, what it shows, what was wrong.
//!
//! A member may join at any point of the group's order, so where its numbers begin is told by its
//! `sync`. May not touch a socket.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::check::audit::FOREIGN;
use crate::check::checker::{self, Checker};
use crate::check::faults::{Fault, Faults, excerpt};
use crate::check::model::Model;
use crate::event::{EventReader, Heard, Kind};
use crate::rooms::room::{Cut, Places, Room};
use crate::rooms::tally::Tally;
use crate::scenario::{Order, Window};
use crate::stamp::{Stamp, Value};

/// How far a member's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Away,
    /// Between connect and the end of the upgrade.
    Opening,
    Joining,
    Joined,
    /// It has sent a close frame and hears no more.
    Leaving,
}

/// Where a member's numbers begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Known,
    /// At one of these: the first change that it hears will tell.
    OneOf(Places),
    /// Calls may be swapped on the way, so a place in their order means nothing.
    Unknown,
}

/// Which member of which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Among the rooms of its thread.
    pub(crate) room: usize,
    pub(crate) group: u32,
    /// Its item too.
    pub(crate) number: u32,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "group {} member {}", self.group, self.number)
    }
}

/// What reading one text needs besides the member.
pub(crate) struct Context<'a> {
    pub(crate) run: u32,
    pub(crate) order: Order,
    pub(crate) late: Duration,
    pub(crate) window: Window,
    pub(crate) room: &'a Room,
    pub(crate) events: &'a EventReader,
    pub(crate) tally: &'a mut Tally,
}

pub(crate) struct Member {
    pub(crate) place: Place,
    pub(crate) state: State,
    /// When its connection was due.
    pub(crate) begun_ns: u64,
    /// Changes of its group that had been answered when its join was sent.
    answered_before: u32,
    start: Start,
    checker: Checker,
    model: Model,
}

impl Member {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            state: State::Away,
            begun_ns: 0,
            answered_before: 0,
            start: Start::Known,
            checker: Checker::default(),
            model: Model::default(),
        }
    }

    /// A new connection, of which nothing is known.
    pub(crate) fn begin(&mut self, begun_ns: u64) {
        *self = Self {
            state: State::Opening,
            begun_ns,
            ..Self::new(self.place)
        };
    }

    /// Its join is on the way.
    pub(crate) fn ask(&mut self, room: &Room) {
        self.state = State::Joining;
        self.answered_before = room.answered();
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it has heard all that it must.
    pub(crate) fn has_all(&self, room: &Room) -> bool {
        match (self.state, self.start) {
            (State::Away | State::Leaving, _) | (State::Joined, Start::Unknown) => true,
            (State::Opening | State::Joining, _) => false,
            (State::Joined, Start::OneOf(places)) => room.may_follow(places, room.published()),
            (State::Joined, Start::Known) => self.checker.next() >= room.published(),
        }
    }

    /// Counts what it lacks of all that was published.
    pub(crate) fn judge_missed(&self, room: &Room, faults: &mut Faults) {
        if self.state == State::Joined
            && let Start::OneOf(_) = self.start
            && !self.has_all(room)
        {
            faults.tell(Fault::Missed, self.place, || {
                "nothing came after its sync".to_owned()
            });
        }
        self.judge_gaps(room.published(), faults);
    }

    /// The same for one that leaves early: only what was overtaken can be said to lack.
    pub(crate) fn judge_early(&self, faults: &mut Faults) {
        self.judge_gaps(self.checker.next(), faults);
    }

    fn judge_gaps(&self, published: u32, faults: &mut Faults) {
        if self.state == State::Joined && self.start == Start::Known {
            self.checker.tell_missed(published, self.place, faults);
        }
    }

    pub(crate) fn hear(&mut self, text: &[u8], now_ns: u64, context: &mut Context<'_>) {
        if self.state == State::Leaving {
            return;
        }
        match context.events.read(text) {
            Heard::Sync {
                at_ms,
                group,
                values,
                is_list,
            } if self.state == State::Joining && group == self.place.group => {
                if !is_list {
                    let faults = &mut context.tally.faults;
                    faults.tell(Fault::Altered, self.place, || {
                        format!("its sync is no list as published: {}", excerpt(text))
                    });
                }
                self.sync(at_ms, values, now_ns, context);
            }
            Heard::Change { kind, at_ms, stamp }
                if stamp.run == context.run && stamp.group == self.place.group =>
            {
                self.change(kind, at_ms, &stamp, now_ns, context);
            }
            Heard::Altered { stamp } if stamp.run == context.run => {
                let faults = &mut context.tally.faults;
                faults.tell(Fault::Altered, self.place, || {
                    let sequence = stamp.sequence;
                    let text = excerpt(text);
                    format!("sequence {sequence} was not published so: {text}")
                });
            }
            _ => context
                .tally
                .faults
                .tell(Fault::Unexpected, self.place, || {
                    format!("not of this run: {}", excerpt(text))
                }),
        }
    }

    fn sync(&mut self, at_ms: u64, values: &[u8], now_ns: u64, context: &mut Context<'_>) {
        self.state = State::Joined;
        self.checker.sync();
        self.checker.is_in_time(at_ms);
        let mut shown = Vec::new();
        let mut ours = Vec::new();
        for Value { stamp, is_whole } in context.events.values(values) {
            let is_ours = stamp.run == context.run && stamp.group == self.place.group;
            if is_ours {
                ours.push((stamp.item, stamp.sequence));
            }
            if is_ours && context.room.is_set(stamp.sequence, stamp.item) {
                shown.push((stamp.item, stamp.sequence));
            } else {
                shown.push((stamp.item, FOREIGN));
            }
            if is_ours && !is_whole {
                context.tally.faults.tell(Fault::Altered, self.place, || {
                    format!("the sync holds item {} as never published", stamp.item)
                });
            }
        }
        ours.sort_unstable();
        self.place_in_order(&ours, context);
        self.model.sync(at_ms, shown.into_iter());
        context.tally.synced(self.begun_ns, now_ns, context.window);
    }

    fn place_in_order(&mut self, items: &[(u32, u32)], context: &mut Context<'_>) {
        if context.order == Order::Applied {
            self.start = Start::Unknown;
            return;
        }
        match context.room.cut(items, self.answered_before) {
            Cut::Before(next) => self.checker.begin_at(next),
            Cut::OneOf(places) => self.start = Start::OneOf(places),
            Cut::Wrong(why) => {
                self.start = Start::Unknown;
                let faults = &mut context.tally.faults;
                faults.tell(Fault::WrongSync, self.place, || format!("its sync {why}"));
            }
        }
    }

    fn change(
        &mut self,
        kind: Kind,
        at_ms: u64,
        stamp: &Stamp,
        now_ns: u64,
        context: &mut Context<'_>,
    ) {
        let Stamp { item, sequence, .. } = *stamp;
        let known = context.room.is_set(sequence, item).then_some(sequence);
        let number = match kind {
            Kind::Create | Kind::Update => known,
            Kind::Delete => known.and_then(|set| context.room.delete_of(set)),
        };
        let Some(number) = number else {
            let faults = &mut context.tally.faults;
            return faults.tell(Fault::Unexpected, self.place, || {
                format!("{kind:?} of item {item} with sequence {sequence}, which was not published")
            });
        };
        let faults = &mut context.tally.faults;
        self.checker.judge_time(at_ms, number, self.place, faults);
        self.place_change(number, context);
        match kind {
            Kind::Create => self.model.create(item, sequence),
            Kind::Update => self.model.update(at_ms, item, sequence),
            Kind::Delete => self.model.delete(at_ms, item),
        }
        let is_set = kind != Kind::Delete;
        if is_set {
            let faults = &mut context.tally.faults;
            checker::judge_wait(
                stamp.sent_ns,
                sequence,
                now_ns,
                context.late,
                self.place,
                faults,
            );
        }
        let sent_ns = is_set.then_some(stamp.sent_ns);
        context.tally.delivered(sent_ns, now_ns, context.window);
    }

    fn place_change(&mut self, number: u32, context: &mut Context<'_>) {
        match self.start {
            Start::Known => {}
            Start::Unknown => return,
            Start::OneOf(places) => {
                self.start = Start::Known;
                self.checker.begin_at(context.room.nearest(places, number));
            }
        }
        let faults = &mut context.tally.faults;
        self.checker
            .judge(number, self.place, context.order, faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CallWriter;
    use crate::stamp::VALUE_BYTES_MIN;

    const RUN: u32 = 0xfeed_0001;

    /// A member of group 0, and the room that it is in.
    struct Scene {
        member: Member,
        room: Room,
        events: EventReader,
        tally: Tally,
    }

    impl Scene {
        fn new(room: Room) -> Self {
            let mut member = Member::new(Place {
                room: 0,
                group: 0,
                number: 0,
            });
            member.begin(0);
            member.ask(&room);
            Self {
                member,
                room,
                events: EventReader::new("load", VALUE_BYTES_MIN),
                tally: Tally::new(1),
            }
        }

        fn hear(&mut self, text: &str) {
            let mut context = Context {
                run: RUN,
                order: Order::Sent,
                late: Duration::from_secs(10),
                window: Window::default(),
                room: &self.room,
                events: &self.events,
                tally: &mut self.tally,
            };
            self.member.hear(text.as_bytes(), 0, &mut context);
        }

        fn faults(mut self) -> String {
            self.member.judge_missed(&self.room, &mut self.tally.faults);
            self.tally.faults.into_told().join("; ")
        }
    }

    fn value(item: u32, sequence: u32) -> String {
        let mut text = Vec::new();
        CallWriter::new(RUN, "load", VALUE_BYTES_MIN, false).set(
            0,
            [0, item, sequence],
            0,
            &mut text,
        );
        let text = String::from_utf8(text).unwrap_or_default();
        let (_, value) = text.split_once(r#""data":{"id""#).unwrap_or_default();
        format!(r#"{{"id"{}"#, value.trim_end_matches('}').to_owned() + "}")
    }

    fn event(at_ms: u64, kind: &str, item: u32, sequence: u32) -> String {
        format!(
            r#"{{"type":"stream","timestamp":{at_ms},"streamName":"load","groupId":"g000000","id":"i{item:03}","event":{{"type":"{kind}","data":{}}}}}"#,
            value(item, sequence)
        )
    }

    fn sync(at_ms: u64, values: &[String]) -> String {
        format!(
            r#"{{"type":"stream","timestamp":{at_ms},"streamName":"load","groupId":"g000000","id":null,"event":{{"type":"sync","data":[{}]}}}}"#,
            values.join(",")
        )
    }

    /// 0: set 0, 1: set 1, 2: delete 0, 3: set 1, 4: delete 1, 5: set 0.
    fn room() -> Room {
        let mut room = Room::default();
        room.set(0);
        room.set(1);
        room.delete(0);
        room.set(1);
        room.delete(1);
        room.set(0);
        room
    }

    #[test]
    fn what_follows_the_sync_to_the_very_next_change_is_no_fault() {
        let mut scene = Scene::new(room());
        scene.hear(&sync(1, &[value(0, 0), value(1, 1)]));
        scene.hear(&event(2, "delete", 0, 0));
        scene.hear(&event(3, "update", 1, 3));
        scene.hear(&event(4, "delete", 1, 3));
        scene.hear(&event(5, "create", 0, 5));
        assert_eq!(scene.member.model().shown(0), Some(5));
        assert_eq!(scene.member.model().shown(1), None);
        assert!(scene.member.has_all(&scene.room));
        assert_eq!(scene.faults(), "");
    }

    #[test]
    fn a_delete_that_never_came_is_missed() {
        let mut scene = Scene::new(room());
        scene.hear(&sync(1, &[value(0, 0), value(1, 1)]));
        scene.hear(&event(3, "update", 1, 3));
        assert_eq!(
            scene.faults(),
            "group 0 member 0: sequence 2 never came; group 0 member 0: sequences 4 to 5 never came"
        );
    }

    #[test]
    fn an_event_that_the_sync_held_already_is_a_duplicate() {
        let mut scene = Scene::new(room());
        scene.hear(&sync(1, &[value(1, 3)]));
        scene.hear(&event(1, "update", 1, 3));
        scene.hear(&event(4, "delete", 1, 3));
        scene.hear(&event(5, "create", 0, 5));
        assert_eq!(scene.faults(), "group 0 member 0: sequence 3 came again");
    }

    #[test]
    fn an_empty_sync_is_followed_by_a_change_of_the_empty_group() {
        let mut scene = Scene::new(room());
        scene.hear(&sync(1, &[]));
        assert!(!scene.member.has_all(&scene.room));
        scene.hear(&event(5, "create", 0, 5));
        assert_eq!(scene.faults(), "");
        let mut scene = Scene::new(room());
        scene.hear(&sync(1, &[]));
        scene.hear(&event(4, "update", 1, 3));
        assert!(scene.faults().contains("sequences 0 to 2 never came"));
        let mut scene = Scene::new(room());
        scene.hear(&sync(1, &[]));
        assert!(scene.faults().contains("nothing came after its sync"));
    }

    #[test]
    fn before_sync_out_of_order_and_back_in_time_are_told() {
        let mut scene = Scene::new(room());
        scene.hear(&event(1, "create", 0, 0));
        scene.hear(&sync(1, &[value(0, 0), value(1, 1)]));
        scene.hear(&event(9, "update", 1, 3));
        scene.hear(&event(8, "delete", 0, 0));
        let faults = scene.faults();
        for words in [
            "came before the sync",
            "sequence 2 was overtaken",
            "sequence 2 has an earlier time",
        ] {
            assert!(faults.contains(words), "{words}: {faults}");
        }
    }
}
