//! Which sockets nothing has come from for long: each is looked at when it may be due, pinged, and given up
//! when nothing comes after that either. A wheel with a place of eight bytes a socket.
//!
//! Pure: time is handed in. May not know what a socket is.
//!
//! Times are counted in ticks, rounded up: nobody is pinged or given up early. Sockets that came at the
//! same moment drift apart, for each waits up to a tenth longer: one part of that is the slot's own,
//! another one differs each time. The rest is until the next moment at which sockets are pinged: pings that
//! go together, and answers that come together, cost less than one by one.

use std::time::{Duration, Instant};

/// How exact it is.
const TICK: Duration = Duration::from_millis(100);
/// Times further ahead than so many ticks are looked at in between.
const BUCKETS: u64 = 512;
/// Who is looked at so many ticks after he was due is pinged again and not given up: it was this process
/// that stood still.
const LATE: u64 = 10;
/// In so many steps of the interval sockets are pinged together.
const STEPS: u64 = 50;
/// Places are allocated so many at a time.
const CHUNK: usize = 1024;
/// The end of a list.
const NONE: u32 = u32::MAX;
/// Multiplied by it, neighbours are far from each other: a golden part of all numbers.
const GOLDEN: u32 = 0x9E37_79B9;

/// The wheel.
pub struct Silence {
    /// How long nothing has come from who is pinged. None: nobody is.
    ping: Option<u64>,
    /// How long nothing may come after that.
    pong: u64,
    began: Instant,
    now: u64,
    /// The first tick that is not looked at whole.
    at: u64,
    /// When somebody is due next, or before.
    next: u64,
    /// How late the one is that was popped last.
    late: u64,
    /// For each tick ahead the first slot that is due then.
    buckets: Box<[u32]>,
    places: Vec<Box<[Place; CHUNK]>>,
    len: usize,
    /// Since other times were set, until nobody stands there by the older ones.
    review: Option<Review>,
}

/// Who stands in the wheel is looked at before he is due, a part of all at each tick.
struct Review {
    began: u64,
    /// All are looked at within so many ticks.
    within: u64,
    /// How many stood there, and how many of them have been looked at.
    all: u64,
    seen: u64,
    /// The last tick that has not had its turn. They have it from the last to the first.
    last: u64,
    /// Whoever is left of the one that had it last.
    first: u32,
}

/// Of one slot.
#[derive(Clone, Copy)]
struct Place {
    /// The next one that is due at the same tick.
    next: u32,
    /// When something has come last; once pinged, when that was.
    since: u16,
    is_linked: bool,
    is_pinged: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping.
    Ping,
    /// Nothing has come since: it is given up, unless [`Silence::keep`] says otherwise.
    Dead,
}

impl Silence {
    /// Nobody is there. `ping`: zero for never.
    pub fn new(ping: Duration, pong: Duration, now: Instant) -> Silence {
        Silence {
            ping: (!ping.is_zero()).then(|| ticks(ping)),
            pong: ticks(pong),
            began: now,
            now: 0,
            at: 0,
            next: u64::MAX,
            late: 0,
            buckets: vec![NONE; BUCKETS as usize].into(),
            places: Vec::new(),
            len: 0,
            review: None,
        }
    }

    /// From here on these hold, and for who is there at the latest after the shorter one. True: until now
    /// nobody was looked at, so that all who are there have to enter.
    pub fn set(&mut self, ping: Duration, pong: Duration) -> bool {
        let was = (self.ping, self.pong);
        self.ping = (!ping.is_zero()).then(|| ticks(ping));
        self.pong = ticks(pong);
        if let Some(ping) = self.ping
            && was != (self.ping, self.pong)
            && self.len > 0
        {
            let left = self.review.take().map_or(NONE, |review| review.first);
            self.review = Some(Review {
                began: self.now,
                within: ping.min(self.pong),
                all: self.len as u64,
                seen: 0,
                last: self.at + BUCKETS - 1,
                first: left,
            });
            self.next = self.now;
        }
        was.0.is_none() && self.ping.is_some()
    }

    /// It is that time now.
    pub fn advance(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.began);
        let now = (since.as_millis() / TICK.as_millis()) as u64;
        self.now = self.now.max(now);
    }

    /// A socket is open in that slot, and something has come from it just now.
    pub fn enter(&mut self, slot: u32) {
        let Some(ping) = self.ping else {
            return;
        };
        while self.places.len() * CHUNK <= slot as usize {
            self.places.push(Box::new([Place::FREE; CHUNK]));
        }
        self.hear(slot);
        let until = together(self.now + ping + spread(slot, self.now as u16, ping), ping);
        if self.place(slot).is_some_and(|place| !place.is_linked) {
            self.link(slot, until);
        }
    }

    /// Something has come from it.
    pub fn hear(&mut self, slot: u32) {
        let now = self.now as u16;
        if let Some(place) = self.place(slot) {
            (place.since, place.is_pinged) = (now, false);
        }
    }

    /// It has taken something: the answer to a ping may still be behind what it has not taken.
    pub fn take(&mut self, slot: u32) {
        let now = self.now as u16;
        if let Some(place) = self.place(slot)
            && place.is_pinged
        {
            place.since = now;
        }
    }

    /// The next slot that is to be looked at. It stands here no longer.
    pub fn pop_due(&mut self) -> Option<u32> {
        if self.next > self.now {
            return None;
        }
        if let Some(slot) = self.pop_reviewed() {
            return Some(slot);
        }
        while self.at <= self.now && self.len > 0 {
            let bucket = (self.at % BUCKETS) as usize;
            let slot = self.buckets[bucket];
            if slot == NONE {
                self.at += 1;
                continue;
            }
            self.buckets[bucket] = self.unlink(slot)?;
            self.late = self.now - self.at;
            return Some(slot);
        }
        self.at = self.now + 1;
        let buckets = &self.buckets;
        let is_due = |tick: &u64| buckets[(tick % BUCKETS) as usize] != NONE;
        let mut ahead = self.at..self.at + BUCKETS;
        self.next = ahead.find(is_due).unwrap_or(u64::MAX);
        if self.review.is_some() {
            self.next = self.at;
        }
        None
    }

    fn pop_reviewed(&mut self) -> Option<u32> {
        let review = self.review.as_mut()?;
        let ticks = self.now - review.began + 1;
        if review.seen >= (review.all * ticks).div_ceil(review.within) {
            return None;
        }
        while review.first == NONE && review.last >= self.at {
            let bucket = &mut self.buckets[(review.last % BUCKETS) as usize];
            review.first = std::mem::replace(bucket, NONE);
            review.last -= 1;
        }
        let slot = review.first;
        if slot == NONE {
            self.review = None;
            return None;
        }
        let next = self.unlink(slot)?;
        if let Some(review) = &mut self.review {
            review.seen += 1;
            review.first = next;
        }
        self.late = 0;
        Some(slot)
    }

    /// What is to be done for a slot that was popped and is still open. `is_heard`: something of it waits
    /// unread.
    pub fn look(&mut self, slot: u32, is_heard: bool) -> Due {
        if is_heard {
            self.hear(slot);
        }
        let (now, pong, late) = (self.now, self.pong, self.late);
        let Some(ping) = self.ping else {
            return Due::Nothing;
        };
        let Some(place) = self.place(slot) else {
            return Due::Nothing;
        };
        let quiet = ping + spread(slot, place.since, ping);
        let age = u64::from((now as u16).wrapping_sub(place.since));
        // Who answers soon after a ping is pinged again an interval later.
        let answered = |wait: u64| wait.min(ping);
        let (due, at) = match place.is_pinged {
            true if age >= pong && late <= LATE => return Due::Dead,
            true if age >= pong => (Due::Ping, now + answered(pong)),
            true => (Due::Nothing, now + answered(pong - age)),
            false if age >= quiet => (Due::Ping, now + answered(pong)),
            false => (Due::Nothing, together(now + quiet - age, ping)),
        };
        if due == Due::Ping {
            (place.since, place.is_pinged) = (now as u16, true);
        }
        self.link(slot, at);
        due
    }

    /// It is not dead: it takes what is sent. The ping counts from now on.
    pub fn keep(&mut self, slot: u32) {
        self.take(slot);
        let wait = self.ping.map_or(self.pong, |ping| ping.min(self.pong));
        self.link(slot, self.now + wait);
    }

    /// When [`Silence::pop_due`] has something.
    pub fn next_at(&self) -> Option<Instant> {
        let next = (self.len > 0).then_some(self.next)?;
        let ticks = u32::try_from(next).ok()?;
        Some(self.began + TICK * ticks)
    }

    fn place(&mut self, slot: u32) -> Option<&mut Place> {
        let chunk = self.places.get_mut(slot as usize / CHUNK)?;
        chunk.get_mut(slot as usize % CHUNK)
    }

    fn link(&mut self, slot: u32, at: u64) {
        let at = at.clamp(self.at, self.at + BUCKETS - 1);
        let bucket = (at % BUCKETS) as usize;
        let next = self.buckets[bucket];
        let Some(place) = self.place(slot) else {
            return;
        };
        (place.next, place.is_linked) = (next, true);
        self.buckets[bucket] = slot;
        self.len += 1;
        self.next = self.next.min(at);
    }

    /// The first one of a list stands there no longer: gives the next one.
    fn unlink(&mut self, slot: u32) -> Option<u32> {
        let place = self.place(slot)?;
        place.is_linked = false;
        let next = place.next;
        self.len -= 1;
        Some(next)
    }
}

impl Place {
    const FREE: Place = Place {
        next: NONE,
        since: 0,
        is_linked: false,
        is_pinged: false,
    };
}

/// How much longer than `ping` one that was heard at `since` is waited for, before it is pinged with others.
fn spread(slot: u32, since: u16, ping: u64) -> u64 {
    let most = (ping / 10 + 1 - step(ping)) / 2;
    let part = |number: u32| (u64::from(number) * (most + 1)) >> 32;
    let own = slot.wrapping_mul(GOLDEN);
    part(own) + part((own ^ u32::from(since)).wrapping_mul(GOLDEN))
}

/// So many ticks lie between the moments at which sockets are pinged.
fn step(ping: u64) -> u64 {
    (ping / STEPS).max(1)
}

/// The first of these moments at that tick or behind it.
fn together(tick: u64, ping: u64) -> u64 {
    tick.next_multiple_of(step(ping))
}

/// Rounded up, and one more for the part of a tick in which it began.
fn ticks(time: Duration) -> u64 {
    let ticks = time.as_millis().div_ceil(TICK.as_millis()) + 1;
    // Ages are counted in 16 bits; nothing near that may be set.
    ticks.min(u128::from(u16::MAX) / 2) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PING: Duration = Duration::from_secs(25);
    const PONG: Duration = Duration::from_secs(20);

    /// Sockets that answer each ping after a while of their own, or never.
    struct Run {
        silence: Silence,
        began: Instant,
        now: Duration,
        answers_after: Vec<Option<Duration>>,
        /// When each has something to say.
        due: BTreeMap<(Duration, u32), ()>,
        pings: Vec<(Duration, u32)>,
        dead: Vec<(Duration, u32)>,
    }

    impl Run {
        fn of(answers_after: Vec<Option<Duration>>) -> Run {
            Run::with(PING, answers_after)
        }

        fn with(ping: Duration, answers_after: Vec<Option<Duration>>) -> Run {
            let began = Instant::now();
            let mut silence = Silence::new(ping, PONG, began);
            for slot in 0..answers_after.len() {
                silence.enter(slot as u32);
            }
            Run {
                silence,
                began,
                now: Duration::ZERO,
                answers_after,
                due: BTreeMap::new(),
                pings: Vec::new(),
                dead: Vec::new(),
            }
        }

        fn turn(&mut self) {
            self.silence.advance(self.began + self.now);
            while let Some(entry) = self.due.first_entry()
                && entry.key().0 <= self.now
            {
                self.silence.hear(entry.remove_entry().0.1);
            }
            while let Some(slot) = self.silence.pop_due() {
                match self.silence.look(slot, false) {
                    Due::Nothing => {}
                    Due::Ping => {
                        self.pings.push((self.now, slot));
                        if let Some(after) = self.answers_after[slot as usize] {
                            self.due.insert((self.now + after, slot), ());
                        }
                    }
                    Due::Dead => self.dead.push((self.now, slot)),
                }
            }
        }

        fn go_on(&mut self, until: Duration) {
            while self.now < until {
                let next = self.silence.next_at();
                let next = next.map_or(until, |at| at.duration_since(self.began));
                let heard = self.due.keys().next().map_or(until, |(at, _)| *at);
                let step = next.min(heard).max(self.now + Duration::from_millis(1));
                self.now = step.min(until);
                self.turn();
            }
        }
    }

    #[test]
    fn a_place_has_eight_bytes() {
        assert_eq!(size_of::<Place>(), 8);
    }

    #[test]
    fn who_is_silent_is_pinged_and_given_up_in_time() {
        let mut run = Run::of(vec![None; 100]);
        run.go_on(SECOND * 60);
        assert_eq!((run.pings.len(), run.dead.len()), (100, 100));
        for (at, slot) in &run.dead {
            let (pinged_at, _) = run.pings.iter().find(|(_, of)| of == slot).unwrap();
            assert!(*pinged_at >= PING && *pinged_at <= PING + SECOND * 3);
            let waited = *at - *pinged_at;
            assert!(
                waited >= PONG && waited <= PONG + SECOND / 2,
                "{slot}: {waited:?}"
            );
        }
        assert!(run.silence.next_at().is_none(), "nobody is left");
    }

    #[test]
    fn who_answers_late_but_in_time_stays_and_is_pinged_only_after_silence() {
        let late = PONG - SECOND / 5;
        let mut run = Run::of(vec![Some(SECOND / 100), Some(late)]);
        run.go_on(SECOND * 600);
        assert!(run.dead.is_empty(), "{:?}", run.dead);
        for (slot, after) in [(0, SECOND / 100), (1, late)] {
            let of = run.pings.iter().filter(|(_, of)| *of == slot);
            let at: Vec<Duration> = of.map(|(at, _)| *at).collect();
            assert!(at.len() > 10);
            assert!(at.windows(2).all(|two| two[1] - two[0] >= PING + after));
        }
    }

    #[test]
    fn who_answers_at_once_is_pinged_at_the_interval_though_an_answer_may_take_longer() {
        let mut run = Run::with(SECOND, vec![Some(SECOND / 100)]);
        run.go_on(SECOND * 100);
        let at: Vec<Duration> = run.pings.iter().map(|(at, _)| *at).collect();
        assert!(at.windows(2).all(|two| two[1] - two[0] <= SECOND * 3 / 2));
        run.answers_after[0] = None;
        let last = *at.last().unwrap();
        run.go_on(last + SECOND * 2 + PONG);
        assert_eq!(run.dead.len(), 1);
    }

    #[test]
    fn who_speaks_is_never_pinged() {
        let mut run = Run::of(vec![None]);
        for second in (0..500).step_by(24) {
            run.due.insert((SECOND * second, 0), ());
        }
        run.go_on(SECOND * 500);
        assert!(run.pings.is_empty() && run.dead.is_empty());
    }

    #[test]
    fn who_was_stopped_itself_gives_nobody_up_at_once() {
        let mut run = Run::of(vec![None; 3]);
        run.go_on(SECOND * 30);
        assert_eq!(run.pings.len(), 3);
        run.now += SECOND * 7 * 3600;
        run.turn();
        assert_eq!((run.pings.len(), run.dead.len()), (6, 0));
        run.go_on(run.now + SECOND * 60);
        assert_eq!(run.dead.len(), 3);
    }

    #[test]
    fn who_takes_something_is_waited_for() {
        let mut run = Run::of(vec![None]);
        run.go_on(SECOND * 40);
        for _ in 0..10 {
            run.silence.take(0);
            run.go_on(run.now + SECOND * 19);
        }
        assert!(run.dead.is_empty());
        run.go_on(run.now + SECOND * 3);
        assert_eq!((run.pings.len(), run.dead.len()), (1, 1));
    }

    #[test]
    fn those_that_came_together_drift_apart() {
        let mut run = Run::of(vec![Some(SECOND / 100); 19_000]);
        run.go_on(SECOND * 1000);
        let mut by_second = BTreeMap::new();
        for (at, _) in run.pings.iter().filter(|(at, _)| *at > SECOND * 800) {
            *by_second.entry(at.as_secs()).or_insert(0) += 1;
        }
        let most = by_second.values().max().unwrap();
        assert!(*most < 2 * 760, "{by_second:?}");
    }

    #[test]
    fn pings_of_many_go_together_and_each_within_a_tenth_of_the_interval() {
        let late = Duration::from_millis(10);
        let mut run = Run::of(vec![Some(late); 1000]);
        run.go_on(SECOND * 300);
        let moments: BTreeSet<Duration> = run.pings.iter().map(|(at, _)| *at).collect();
        assert!(moments.len() <= 2 * 300, "{}", moments.len());
        for slot in 0..1000 {
            let of = run.pings.iter().filter(|(_, of)| *of == slot);
            let at: Vec<Duration> = of.map(|(at, _)| *at).collect();
            let apart = at.windows(2).map(|two| two[1] - two[0]);
            let ticks = TICK * 3; // what is rounded up, and when it was heard
            assert!(apart.clone().all(|apart| apart >= PING), "{slot}: {at:?}");
            assert!(apart.clone().all(|apart| apart <= PING * 11 / 10 + ticks));
        }
    }

    #[test]
    fn a_slot_that_is_taken_anew_begins_anew() {
        let mut run = Run::of(vec![None; 1]);
        run.go_on(SECOND * 44);
        run.silence.enter(0);
        run.go_on(SECOND * (44 + 24));
        assert!(run.dead.is_empty() && run.pings.len() == 1);
    }

    #[test]
    fn times_that_are_set_hold_for_who_is_there() {
        const HOUR: Duration = Duration::from_secs(3600);
        for before in [HOUR, SECOND * 50, SECOND, Duration::ZERO] {
            let mut run = Run::with(before, vec![None; 5000]);
            for slot in (0..5000).step_by(2) {
                run.answers_after[slot] = Some(SECOND / 100);
            }
            run.go_on(SECOND * 31 / 2);
            if run.silence.set(SECOND * 5, SECOND * 3) {
                (0..5000).for_each(|slot| run.silence.enter(slot));
            }
            let began = run.now;
            run.pings.clear();
            run.go_on(began + SECOND * 18);
            assert_eq!(run.dead.len(), 2500, "{before:?}");
            assert!(run.dead.iter().all(|(_, slot)| slot % 2 == 1));
            let latest = run.dead.iter().map(|(at, _)| *at - began).max().unwrap();
            assert!(latest < SECOND * 12, "{before:?}: {latest:?}");
            let first = run.pings.iter().filter(|(at, _)| *at <= began + SECOND / 2);
            assert!(
                first.count() < 1000,
                "{before:?}: they go over the interval"
            );
            let live = run.pings.iter().filter(|(_, slot)| slot % 2 == 0);
            assert!(
                live.count() > 2 * 2500,
                "they are pinged at the new interval"
            );
        }
    }

    #[test]
    fn times_that_are_set_while_nobody_is_there_wake_nobody_up() {
        for before in [SECOND * 50, Duration::ZERO] {
            let mut run = Run::with(before, Vec::new());
            run.silence.set(SECOND * 5, SECOND * 3);
            run.turn();
            run.silence.enter(0);
            run.answers_after.push(None);
            run.now = SECOND / 5;
            run.turn();
            let next = run.silence.next_at().unwrap();
            assert!(next >= run.began + SECOND * 5, "{before:?}");
        }
    }

    #[test]
    fn with_an_interval_of_zero_nobody_is_ever_looked_at() {
        let mut silence = Silence::new(Duration::ZERO, PONG, Instant::now());
        silence.enter(7);
        silence.hear(7);
        assert!(silence.next_at().is_none() && silence.pop_due().is_none());
    }
}
