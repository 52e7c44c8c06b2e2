//! The members of one thread's rooms, their sockets, and the SDK sockets that publish for them.
//!
//! Threads share no room: each publishes to its own and hears its own. Scripts say what members do;
//! this file does it and reads what comes. May not decide anything.

use std::sync::atomic::Ordering;

use mio::event::Event;
use mio::{Registry, Token};

use crate::check::audit::{Audit, Truth};
use crate::check::faults::{Fault, excerpt};
use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::event::EventReader;
use crate::latency;
use crate::message::{self, AnswerReader, Asked};
use crate::pace::SetsUnderWay;
use crate::rooms::Plan;
use crate::rooms::member::{Context, Member, Place, State};
use crate::rooms::room::Room;
use crate::rooms::tally::Tally;
use crate::scenario::{Shared, Window};
use crate::sdk::SdkSockets;
use crate::target::source_address;

/// Calls of different threads have different numbers: an engine may look them up by id alone.
const THREAD_SHIFT: u32 = 40;
/// A token is a member and, above, which of its connections.
const GENERATION_SHIFT: u32 = 32;
/// The publishers' tokens, above every generation that a run reaches.
const PUBLISHERS: usize = 1 << 62;

pub(crate) struct Crowd<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    thread: usize,
    clock: Clock,
    registry: Registry,
    rooms: Vec<Room>,
    members: Vec<Member>,
    sockets: Vec<Socket>,
    publishers: SdkSockets,
    answers: AnswerReader,
    events: EventReader,
    calls: SetsUnderWay,
    /// Which change of which room each call is.
    changes: Vec<(u32, u32)>,
    audit: Audit,
    window: Window,
    /// Connections between connect and `sync`.
    under_way: usize,
    connections: usize,
    tally: Tally,
}

/// A member's connection, if it has one, and how many it has had.
#[derive(Default)]
struct Socket {
    client: Option<Client>,
    generation: usize,
}

impl<'a> Crowd<'a> {
    /// Nobody has joined; the SDK sockets begin to connect.
    pub(crate) fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        clock: Clock,
        thread: usize,
        registry: Registry,
    ) -> Result<Self, ClientError> {
        let setup = &plan.setup;
        let publishers = SdkSockets::connect(setup, false, &registry, PUBLISHERS)?;
        let members = members_of(plan, thread);
        let mut sockets = Vec::new();
        sockets.resize_with(members.len(), Socket::default);
        let mut rooms = Vec::new();
        rooms.resize_with(plan.rooms_of(thread), Room::default);
        let groups = if setup.audits { rooms.len() } else { 0 };
        let group_of = move |room| plan.group_of(thread, room);
        Ok(Self {
            plan,
            shared,
            thread,
            clock,
            registry,
            rooms,
            members,
            sockets,
            publishers,
            answers: AnswerReader::new(setup.run),
            events: EventReader::new(&setup.stream_name, setup.value_bytes),
            calls: SetsUnderWay::new(0, true),
            changes: Vec::new(),
            audit: Audit::new(setup.run, (0..groups).map(group_of)),
            window: Window::default(),
            under_way: 0,
            connections: 0,
            tally: Tally::new(setup.seconds),
        })
    }

    pub(crate) fn begin(&mut self, window: Window) {
        self.window = window;
    }

    pub(crate) fn window(&self) -> Window {
        self.window
    }

    pub(crate) fn is_publisher(token: Token) -> bool {
        (PUBLISHERS..PUBLISHERS << 1).contains(&token.0)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.publishers.is_open()
    }

    pub(crate) fn members_len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn rooms_len(&self) -> usize {
        self.rooms.len()
    }

    pub(crate) fn place(&self, member: usize) -> Place {
        self.members[member].place
    }

    pub(crate) fn state(&self, member: usize) -> State {
        self.members[member].state
    }

    /// Connections between connect and `sync`.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(crate) fn recovered(&mut self, dropped_ns: u64, now_ns: u64) {
        latency::record(&mut self.tally.recovery_us, dropped_ns, now_ns);
    }

    /// Begins to connect `member`, which was due at `begun_ns`.
    pub(crate) fn connect(&mut self, member: usize, begun_ns: u64) -> Result<(), ClientError> {
        let socket = &mut self.sockets[member];
        socket.generation += 1;
        let token = Token(member | socket.generation << GENERATION_SHIFT);
        let source = source_address(self.connections, self.plan.setup.sources);
        self.connections += 1;
        let target = &self.plan.setup.stream;
        socket.client = Some(Client::connect(target, source, &self.registry, token)?);
        self.members[member].begin(begun_ns);
        self.under_way += 1;
        Ok(())
    }

    /// Sends a close frame; what still comes is not listened to.
    pub(crate) fn leave(&mut self, member: usize) {
        self.judge_early(member);
        let Some(client) = &mut self.sockets[member].client else {
            return;
        };
        self.members[member].state = State::Leaving;
        if client.close().is_err() {
            self.forget(member);
        }
    }

    /// Ends the connection without a word.
    pub(crate) fn drop_connection(&mut self, member: usize) {
        self.judge_early(member);
        self.forget(member);
    }

    fn judge_early(&mut self, member: usize) {
        self.members[member].judge_early(&mut self.tally.faults);
    }

    fn forget(&mut self, member: usize) {
        self.sockets[member].client = None;
        let state = std::mem::replace(&mut self.members[member].state, State::Away);
        if matches!(state, State::Opening | State::Joining) {
            self.under_way -= 1;
        }
    }

    /// Publishes a new value of `item`.
    pub(crate) fn set(&mut self, room: usize, item: u32, due_ns: u64) {
        let sequence = self.rooms[room].set(item);
        let number = self.begin_call(room, sequence, due_ns);
        let group = self.plan.group_of(self.thread, room);
        let stamp = [group, item, sequence];
        self.publishers.set(room, number, stamp, due_ns);
    }

    /// Removes `item`, if it is there.
    pub(crate) fn delete(&mut self, room: usize, item: u32, due_ns: u64) {
        let Some(sequence) = self.rooms[room].delete(item) else {
            return;
        };
        let number = self.begin_call(room, sequence, due_ns);
        let group = self.plan.group_of(self.thread, room);
        self.publishers.delete(room, number, group, item);
    }

    fn begin_call(&mut self, room: usize, sequence: u32, due_ns: u64) -> u64 {
        self.changes.push((room as u32, sequence));
        self.calls.start(due_ns) | (self.thread as u64) << THREAD_SHIFT
    }

    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        self.publishers.flush()
    }

    /// Asks for the next groups of the audit.
    pub(crate) fn audit(&mut self) -> Result<(), ClientError> {
        let plan = self.plan;
        self.publishers
            .ask(&mut self.audit, |group| plan.room_of(group))
    }

    /// Groups of the audit that lack an answer.
    pub(crate) fn audit_left(&self) -> usize {
        self.audit.left()
    }

    /// Every call has its answer, every member that is there has heard all, nobody is on the way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.calls.unanswered() == 0
            && self
                .members
                .iter()
                .all(|member| member.has_all(&self.rooms[member.place.room]))
    }

    /// Reads what `event` announces. `Ok(Some)`: this member has its `sync` now.
    pub(crate) fn turn(
        &mut self,
        event: &Event,
        buffer: &mut ReadBuffer,
    ) -> Result<Option<usize>, ClientError> {
        let token = event.token().0;
        if Self::is_publisher(event.token()) {
            return self
                .turn_publisher(token - PUBLISHERS, event, buffer)
                .map(|()| None);
        }
        let member = token & ((1 << GENERATION_SHIFT) - 1);
        let is_current = self
            .sockets
            .get(member)
            .is_some_and(|socket| socket.generation == token >> GENERATION_SHIFT);
        if !is_current {
            return Ok(None); // an event that was under way when the connection ended
        }
        let before = self.members[member].state;
        match self.turn_member(member, event, buffer) {
            Ok(()) => {}
            Err(why) => {
                if before != State::Leaving {
                    let place = self.members[member].place;
                    let faults = &mut self.tally.faults;
                    faults.tell(Fault::Disconnected, place, || why.to_string());
                }
                self.drop_connection(member);
            }
        }
        let has_joined = self.members[member].state == State::Joined && before != State::Joined;
        if has_joined {
            self.under_way -= 1;
            self.shared.joined.fetch_add(1, Ordering::Relaxed);
        }
        Ok(has_joined.then_some(member))
    }

    fn turn_publisher(
        &mut self,
        index: usize,
        event: &Event,
        buffer: &mut ReadBuffer,
    ) -> Result<(), ClientError> {
        let Self {
            clock,
            rooms,
            publishers,
            answers,
            events,
            calls,
            changes,
            audit,
            window,
            tally,
            ..
        } = self;
        publishers.turn(index, event, buffer, clock, |now_ns, text| {
            let Some(answer) = answers.read(text) else {
                return;
            };
            if answer.asked != Asked::Change {
                return audit.hear(&answer, events, &mut tally.faults);
            }
            let number = answer.number & ((1 << THREAD_SHIFT) - 1);
            let Some(due_ns) = calls.answered(number) else {
                return;
            };
            let (room, sequence) = changes[number as usize];
            rooms[room as usize].answer(sequence);
            if window.holds(due_ns) {
                latency::record(&mut tally.ack_us, due_ns, now_ns);
            }
            if answer.is_error {
                let who = format_args!("call {number}");
                let faults = &mut tally.faults;
                faults.tell(Fault::Refused, who, || excerpt(text));
            }
        })
    }

    fn turn_member(
        &mut self,
        index: usize,
        event: &Event,
        buffer: &mut ReadBuffer,
    ) -> Result<(), ClientError> {
        let Self {
            plan,
            shared,
            clock,
            rooms,
            members,
            sockets,
            events,
            window,
            tally,
            ..
        } = self;
        let Some(client) = &mut sockets[index].client else {
            return Ok(());
        };
        let member = &mut members[index];
        let room = &rooms[member.place.room];
        let heard_before = tally.deliveries_in_all;
        let mut context = Context {
            run: plan.setup.run,
            order: plan.setup.order,
            late: plan.setup.late,
            window: *window,
            room,
            events,
            tally,
        };
        let result = client.turn(event, buffer, clock, |now_ns, text| {
            member.hear(text, now_ns, &mut context);
        });
        let heard = tally.deliveries_in_all - heard_before;
        shared.deliveries.fetch_add(heard, Ordering::Relaxed);
        result?;
        if client.is_open() && member.state == State::Opening {
            tally.upgraded(member.begun_ns, clock.now_ns(), *window);
            member.ask(room);
            client.queue(&message::join(&plan.setup.stream_name, member.place.group));
            client.flush()?;
        }
        Ok(())
    }

    /// Judges what never came, and what each member shows in the end.
    pub(crate) fn finish(mut self) -> Tally {
        let faults = &mut self.tally.faults;
        self.calls.tell_unanswered(faults);
        let truth: Truth = self.audit.finish(faults);
        for member in &self.members {
            let place = member.place;
            if matches!(member.state, State::Opening | State::Joining) {
                faults.tell(Fault::NotJoined, place, || {
                    format!("it was {:?} when the run ended", member.state)
                });
            }
            if member.state != State::Joined {
                continue;
            }
            member.judge_missed(&self.rooms[place.room], faults);
            if let Some(difference) = truth.difference(place.group, member.model()) {
                faults.tell(Fault::Model, place, || difference);
            }
        }
        self.tally.calls = self.calls.started();
        self.tally
    }
}

fn members_of(plan: &Plan, thread: usize) -> Vec<Member> {
    let rooms = 0..plan.rooms_of(thread);
    let mut members: Vec<Member> = rooms
        .flat_map(|room| {
            let group = plan.group_of(thread, room);
            let numbers = 0..plan.rooms[group as usize];
            numbers.map(move |number| {
                Member::new(Place {
                    room,
                    group,
                    number,
                })
            })
        })
        .collect();
    // Neighbours go to different groups, as clients come in life.
    members.sort_by_key(|member| member.place.number);
    members
}
