//! The store thread of a host: a log of its own, or the store that it shares with the others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use iii_stream::mesh::{Outbox, StorePorts, ToStore, ToWorker};
use iii_stream::shard::{Decides, Learned, Request, Verdict};
use iii_stream::time::{ClockReading, Now};

use crate::double::Double;
use crate::model::Model;
use crate::pace::Pace;

pub(crate) struct StoreThread {
    pub(crate) double: Rc<RefCell<Double>>,
    decides: Decides,
    /// Which of those that share the double it is.
    host: usize,
    /// Taken from the mailbox and not served.
    pending: VecDeque<Request>,
    pub(crate) ports: StorePorts,
    /// A shared one cannot be reached.
    is_down: bool,
    /// Its clock has been told.
    has_told_time: bool,
}

impl StoreThread {
    pub(crate) fn new(
        decides: Decides,
        double: &Rc<RefCell<Double>>,
        host: usize,
        ports: StorePorts,
    ) -> StoreThread {
        StoreThread {
            double: Rc::clone(double),
            decides,
            host,
            pending: VecDeque::new(),
            ports,
            is_down: false,
            has_told_time: false,
        }
    }

    /// Serves some of what waits, unless answers to what was there before have found no room.
    pub(crate) fn turn(&mut self, now: Now, model: &mut Model, pace: &mut Pace) {
        self.ports.to_open.iter_mut().for_each(Outbox::flush);
        if !self.has_room() {
            return;
        }
        while let Some(ToStore::Requests(batch)) = self.ports.mailbox.take() {
            self.pending.extend(batch);
        }
        let (shared, mailbox) = (&self.ports.shared, &self.ports.mailbox);
        mailbox.tell_waiters(|thread| shared.wake(thread));
        let learned = match self.decides {
            Decides::Owner => self.serve(pace),
            Decides::Shared => {
                self.tell_time(now, pace);
                self.serve_shared(pace)
            }
        };
        self.tell(learned, model);
    }

    fn serve(&mut self, pace: &mut Pace) -> Vec<Learned> {
        let len = pace.up_to(self.pending.len());
        let mut double = self.double.borrow_mut();
        let requests = self.pending.drain(..len);
        let answers = requests.map(|request| double.serve_one(request));
        answers.map(Learned::Answer).collect()
    }

    /// What the other hosts do is heard as well.
    fn serve_shared(&mut self, pace: &mut Pace) -> Vec<Learned> {
        let mut double = self.double.borrow_mut();
        let host = self.host;
        if self.is_down && (pace.is_full || pace.below(3) == 0) {
            self.is_down = false;
            double.read_again(host);
        }
        let len = pace.up_to(self.pending.len());
        let requests = self.pending.drain(..len);
        let mut learned = Vec::new();
        for request in requests {
            match self.is_down {
                true => learned.push(double.ask_in_vain(host, &request)),
                false => double.ask(host, request),
            }
        }
        let (answers, heard) = double.on_their_way(host);
        for _ in 0..2 * pace.up_to(answers + heard) {
            let next = match pace.below(2) {
                0 => double.take_answer(host),
                _ => double.take_heard(host),
            };
            learned.extend(next);
        }
        learned
    }

    fn tell_time(&mut self, now: Now, pace: &mut Pace) {
        if self.has_told_time && pace.below(4) > 0 {
            return;
        }
        self.has_told_time = true;
        let reading = ClockReading {
            ms: self.double.borrow().time(),
            at: now.monotonic,
        };
        for outbox in &mut self.ports.to_open {
            outbox.send(ToWorker::Clock(reading));
        }
    }

    /// The store cannot be reached any more, for a while.
    pub(crate) fn lose(&mut self, model: &mut Model) {
        if self.decides == Decides::Shared && !self.is_down && self.has_room() {
            self.is_down = true;
            let learned = self.double.borrow_mut().lose(self.host);
            self.tell(learned, model);
        }
    }

    /// To each shard what is for it, in order.
    fn tell(&mut self, learned: Vec<Learned>, model: &mut Model) {
        let workers = self.ports.to_open.len();
        let mut by_worker: Vec<Vec<Learned>> = (0..workers).map(|_| Vec::new()).collect();
        for learned in learned {
            let worker = match &learned {
                Learned::Answer(answer) => {
                    if !matches!(answer.verdict, Verdict::Refused(_)) {
                        model.accepted.insert((answer.shard, answer.number));
                    }
                    answer.shard
                }
                Learned::Channel(group, _) | Learned::Made { key: group, .. } => {
                    self.ports.shared.owners.owner_of(group)
                }
                Learned::Lost => {
                    let all = by_worker.iter_mut();
                    all.for_each(|learned| learned.push(Learned::Lost));
                    continue;
                }
            };
            by_worker[worker.index()].push(learned);
        }
        for (worker, learned) in by_worker.into_iter().enumerate() {
            if !learned.is_empty() {
                let message = ToWorker::Learned(learned);
                self.ports.to_open[worker].send(message);
            }
        }
        self.ports.to_open.iter_mut().for_each(Outbox::flush);
    }

    /// Nothing can be done here until it is woken, or something comes from the store.
    pub(crate) fn sleeps(&self) -> bool {
        !self.has_room()
            || self.ports.mailbox.is_empty() && self.pending.is_empty() && !self.hears()
    }

    /// Something has come from the store, or it could be reached again.
    pub(crate) fn hears(&self) -> bool {
        self.decides == Decides::Shared
            && (self.is_down || self.double.borrow().on_their_way(self.host) != (0, 0))
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.ports.to_open.iter().any(Outbox::has_backlog)
    }

    /// Nothing is left to do here.
    pub(crate) fn is_quiet(&self) -> bool {
        self.ports.mailbox.is_empty() && self.pending.is_empty() && self.has_room() && !self.hears()
    }

    /// The process dies: what was on its way is gone.
    pub(crate) fn crash(&mut self) {
        match self.decides {
            Decides::Owner => self.double.borrow_mut().crash(),
            Decides::Shared => self.double.borrow_mut().forget(self.host),
        }
        self.pending.clear();
        (self.is_down, self.has_told_time) = (false, false);
    }
}
