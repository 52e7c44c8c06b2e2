//! What members do, and when: one script a scenario.
//!
//! A script is asked after every turn of its thread's loop and does all that is due. Times are fixed
//! beforehand wherever there is a rate. May not touch a socket: `Crowd` does what it says.

use std::collections::VecDeque;
use std::time::Duration;

use crate::client::ClientError;
use crate::pace::Schedule;
use crate::rooms::chance::Chance;
use crate::rooms::crowd::Crowd;
use crate::rooms::member::State;
use crate::scenario::Pace;

/// A server that takes longer to answer a close frame is not waited for.
const LEAVING_MAX: Duration = Duration::from_secs(1);

/// One scenario's behaviour, on one thread.
pub(crate) trait Script {
    /// Whether all members join before anything else.
    fn gathers(&self) -> bool;

    /// The window opens: times are counted from `begin_ns`.
    fn begin(&mut self, begin_ns: u64);

    /// Does what is due.
    fn act(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Result<(), ClientError>;

    /// When something is due next.
    fn next_due_ns(&self) -> Option<u64>;

    /// `member` has its `sync`.
    fn joined(&mut self, _member: usize, _now_ns: u64, _crowd: &mut Crowd<'_>) {}

    /// The window is over.
    fn end(&mut self, _now_ns: u64, _crowd: &mut Crowd<'_>) {}

    /// After the window: finishes what was begun. True: nothing is left.
    fn settle(&mut self, _now_ns: u64, _crowd: &mut Crowd<'_>) -> Result<bool, ClientError> {
        Ok(true)
    }
}

/// New values at a fixed rate, each for the next room's first item.
struct Updates {
    rate: f64,
    schedule: Schedule,
    next_room: usize,
}

impl Updates {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            schedule: Schedule::new(0, rate),
            next_room: 0,
        }
    }

    fn begin(&mut self, begin_ns: u64) {
        self.schedule = Schedule::new(begin_ns, self.rate);
    }

    fn act(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) {
        while let Some(due_ns) = self.schedule.take_due(now_ns) {
            crowd.set(self.next_room, 0, due_ns);
            self.next_room = (self.next_room + 1) % crowd.rooms_len();
        }
    }
}

/// Members that join, keep their own item up to date, and leave: rooms as people use them.
pub(crate) struct Presence {
    updates_per_second: f64,
    leaves_per_second: f64,
    away: Duration,
    updates: Schedule,
    leaves: Schedule,
    present: Vec<usize>,
    /// Who comes back, and when.
    absent: VecDeque<(u64, usize)>,
    chance: Chance,
}

impl Presence {
    /// Rates are those of one thread.
    pub(crate) fn new(updates: f64, leaves: f64, away: Duration, seed: u64) -> Self {
        Self {
            updates_per_second: updates,
            leaves_per_second: leaves,
            away,
            updates: Schedule::new(0, updates),
            leaves: Schedule::new(0, leaves),
            present: Vec::new(),
            absent: VecDeque::new(),
            chance: Chance::new(seed),
        }
    }
}

impl Script for Presence {
    fn gathers(&self) -> bool {
        true
    }

    fn begin(&mut self, begin_ns: u64) {
        self.updates = Schedule::new(begin_ns, self.updates_per_second);
        self.leaves = Schedule::new(begin_ns, self.leaves_per_second);
    }

    fn act(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Result<(), ClientError> {
        while let Some(due_ns) = self.updates.take_due(now_ns) {
            if let Some(member) = self.chance.pick(&self.present) {
                let place = crowd.place(self.present[member]);
                crowd.set(place.room, place.number, due_ns);
            }
        }
        while let Some(due_ns) = self.leaves.take_due(now_ns) {
            if let Some(index) = self.chance.pick(&self.present) {
                let member = self.present.swap_remove(index);
                let place = crowd.place(member);
                crowd.delete(place.room, place.number, due_ns);
                crowd.leave(member);
                let back_ns = due_ns + self.away.as_nanos() as u64;
                self.absent.push_back((back_ns, member));
            }
        }
        while let Some((back_ns, member)) = self.absent.front().copied()
            && back_ns <= now_ns
        {
            self.absent.pop_front();
            crowd.drop_connection(member); // where the server has not ended it yet
            crowd.connect(member, back_ns)?;
        }
        Ok(())
    }

    fn next_due_ns(&self) -> Option<u64> {
        let back_ns = self.absent.front().map(|(back_ns, _)| *back_ns);
        let fixed_ns = self.updates.next_ns().min(self.leaves.next_ns());
        Some(back_ns.map_or(fixed_ns, |back_ns| back_ns.min(fixed_ns)))
    }

    fn joined(&mut self, member: usize, now_ns: u64, crowd: &mut Crowd<'_>) {
        let place = crowd.place(member);
        crowd.set(place.room, place.number, now_ns);
        self.present.push(member);
    }
}

/// Connections that come as fast as allowed; the oldest goes when its place is needed.
pub(crate) struct Connect {
    pace: Pace,
    begin_ns: u64,
    arrivals: Option<Schedule>,
    updates: Updates,
    free: Vec<usize>,
    joined: VecDeque<usize>,
    /// Until when each may take to end its connection.
    leaving: VecDeque<(u64, usize)>,
}

impl Connect {
    /// Rates, and how many are under way, are those of one thread.
    pub(crate) fn new(pace: Pace, updates: f64, members: usize) -> Self {
        Self {
            pace,
            begin_ns: 0,
            arrivals: None,
            updates: Updates::new(updates),
            free: (0..members).rev().collect(),
            joined: VecDeque::new(),
            leaving: VecDeque::new(),
        }
    }

    /// A place for one more, if there is one or the oldest can go.
    fn take_place(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Option<usize> {
        while let Some((until_ns, member)) = self.leaving.front().copied()
            && (crowd.state(member) == State::Away || until_ns <= now_ns)
        {
            crowd.drop_connection(member);
            self.leaving.pop_front();
            self.free.push(member);
        }
        if self.free.is_empty()
            && let Some(member) = self.joined.pop_front()
        {
            crowd.leave(member);
            let until_ns = now_ns + LEAVING_MAX.as_nanos() as u64;
            self.leaving.push_back((until_ns, member));
        }
        self.free.pop()
    }

    fn is_due(&self, now_ns: u64, crowd: &Crowd<'_>) -> bool {
        match (&self.arrivals, self.pace) {
            (Some(arrivals), _) => arrivals.next_ns() <= now_ns,
            (None, Pace::InFlight(most)) => (crowd.under_way() as u64) < most,
            (None, Pace::Rate(_)) => false,
        }
    }
}

impl Script for Connect {
    fn gathers(&self) -> bool {
        false
    }

    fn begin(&mut self, begin_ns: u64) {
        self.begin_ns = begin_ns;
        self.updates.begin(begin_ns);
        if let Pace::Rate(rate) = self.pace {
            self.arrivals = Some(Schedule::new(begin_ns, rate));
        }
    }

    fn act(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Result<(), ClientError> {
        self.updates.act(now_ns, crowd);
        while self.is_due(now_ns, crowd) {
            let Some(member) = self.take_place(now_ns, crowd) else {
                break; // at a fixed rate the time stands, so the wait is in the latency
            };
            let arrivals = self.arrivals.as_mut();
            let due_ns = arrivals.and_then(|arrivals| arrivals.take_due(now_ns));
            crowd.connect(member, due_ns.unwrap_or(now_ns))?;
        }
        Ok(())
    }

    fn next_due_ns(&self) -> Option<u64> {
        let update_ns = self.updates.schedule.next_ns();
        let arrival_ns = self.arrivals.as_ref().map(Schedule::next_ns);
        Some(arrival_ns.map_or(update_ns, |arrival_ns| arrival_ns.min(update_ns)))
    }

    fn joined(&mut self, member: usize, _now_ns: u64, _crowd: &mut Crowd<'_>) {
        self.joined.push_back(member);
    }
}

/// Members that only stay; in the end each room is told something, to see that they still hear.
pub(crate) struct Idle;

impl Script for Idle {
    fn gathers(&self) -> bool {
        true
    }

    fn begin(&mut self, _begin_ns: u64) {}

    fn act(&mut self, _now_ns: u64, _crowd: &mut Crowd<'_>) -> Result<(), ClientError> {
        Ok(())
    }

    fn next_due_ns(&self) -> Option<u64> {
        None
    }

    fn end(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) {
        for room in 0..crowd.rooms_len() {
            crowd.set(room, 0, now_ns);
        }
    }
}

/// Every connection drops at once, and all come back in the same moment.
pub(crate) struct Storm {
    every: Duration,
    after: Duration,
    at_once: usize,
    updates: Updates,
    next_ns: u64,
    /// When all were dropped, while not all are back.
    dropped_ns: Option<u64>,
    to_come: Vec<usize>,
    lacking: usize,
}

impl Storm {
    pub(crate) fn new(every: Duration, after: Duration, at_once: usize, updates: f64) -> Self {
        Self {
            every,
            after,
            at_once,
            updates: Updates::new(updates),
            next_ns: 0,
            dropped_ns: None,
            to_come: Vec::new(),
            lacking: 0,
        }
    }

    fn drop_all(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) {
        let members = 0..crowd.members_len();
        members
            .clone()
            .for_each(|member| crowd.drop_connection(member));
        self.lacking = members.len();
        self.to_come = members.rev().collect();
        self.dropped_ns = Some(now_ns);
        self.next_ns = now_ns + self.every.as_nanos() as u64;
    }

    fn bring_back(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Result<(), ClientError> {
        // All want to come in this moment, however late they get their turn.
        if let Some(back_ns) = self.back_ns().filter(|back_ns| *back_ns <= now_ns) {
            while crowd.under_way() < self.at_once
                && let Some(member) = self.to_come.pop()
            {
                crowd.connect(member, back_ns)?;
            }
        }
        Ok(())
    }

    fn back_ns(&self) -> Option<u64> {
        let dropped_ns = self.dropped_ns.filter(|_| !self.to_come.is_empty())?;
        Some(dropped_ns + self.after.as_nanos() as u64)
    }
}

impl Script for Storm {
    fn gathers(&self) -> bool {
        true
    }

    fn begin(&mut self, begin_ns: u64) {
        self.updates.begin(begin_ns);
        self.next_ns = begin_ns;
    }

    fn act(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Result<(), ClientError> {
        self.updates.act(now_ns, crowd);
        // The first when the window opens; a next one only when all are back.
        let is_due = now_ns >= self.next_ns.max(crowd.window().start_ns);
        if is_due && self.dropped_ns.is_none() {
            self.drop_all(now_ns, crowd);
        }
        self.bring_back(now_ns, crowd)
    }

    fn next_due_ns(&self) -> Option<u64> {
        let back_ns = self.back_ns().unwrap_or(self.next_ns);
        Some(back_ns.min(self.updates.schedule.next_ns()))
    }

    fn settle(&mut self, now_ns: u64, crowd: &mut Crowd<'_>) -> Result<bool, ClientError> {
        self.bring_back(now_ns, crowd)?;
        Ok(self.to_come.is_empty())
    }

    fn joined(&mut self, _member: usize, now_ns: u64, crowd: &mut Crowd<'_>) {
        self.lacking = self.lacking.saturating_sub(1);
        if self.lacking == 0
            && let Some(dropped_ns) = self.dropped_ns.take()
        {
            crowd.recovered(dropped_ns, now_ns);
        }
    }
}
