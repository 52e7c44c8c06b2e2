//! A worker of the simulation: the real [`Subscribers`] on fake sockets. Which call comes next, and how
//! much of it, is the seed's; after each the model hears of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use iii_stream::id::{GroupKey, SlotId, WorkerId};
use iii_stream::life::{Reading, Sockets as _};
use iii_stream::mesh::{AuthVerdict, Handed, ToOwner, ToWorker, WorkerPorts};
use iii_stream::reading::Received;
use iii_stream::shard::{Command, Delivered, Delivery, Shard, Snapshot, Store};
use iii_stream::store::Memory;
use iii_stream::subscribers::{self, FRESH, Look, Note, State, Subscribers, What, Whom};
use iii_stream::time::Now;

use crate::arrivals::{Arrival, OnTheirWay};
use crate::line::{BothEnds, FakeSocket, Line};
use crate::model::{Entered, Marks, Model};
use crate::pace::Pace;
use crate::peer::Peer;
use crate::settings::Settings;
use crate::shared::Afresh;
use crate::wire::Message;

/// One write has no more than this.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Sockets that have gone from one worker to another, in all runs.
pub(crate) static HANDED_OVER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) core: Subscribers<FakeSocket>,
    /// `None`: the store has a thread.
    store_here: Option<Memory>,
    /// Who is at the other end of each socket.
    pub(crate) peers: BTreeMap<SlotId, Peer>,
    pub(crate) settings: Settings,
    /// The socket whose path is being joined, for the name of that subscription.
    named: Arc<AtomicU32>,
    /// Groups that this worker owns.
    owned: Vec<GroupKey>,
    on_their_way: OnTheirWay,
    /// Joins that the owner has let in and this call tells of.
    arriving: HashMap<SlotId, VecDeque<Entered>>,
    /// Groups that begin anew by this call.
    afresh: Vec<(Arc<Snapshot>, Afresh)>,
    /// The time of each group's last event that has come here.
    pub(crate) arrived: BTreeMap<GroupKey, u64>,
    /// Bytes of the events that came in this turn, and in the turn in which most did.
    events_bytes: usize,
    pub(crate) events_bytes_most: usize,
    now: Now,
    /// All sockets are gone after a drain, and that was said.
    pub(crate) is_drained: bool,
    /// The process is about to end.
    is_ending: bool,
    /// Sockets that were blocked and take something since the poll last said so. True: all that there is
    /// room for, false: what a layer over them holds.
    writable: Vec<(SlotId, bool)>,
}

/// What one turn may look at beside its worker.
pub(crate) struct Around<'a> {
    pub(crate) model: &'a mut Model,
    pub(crate) pace: &'a mut Pace,
    pub(crate) now: Now,
    /// Whose sockets are on their way from one worker to another.
    pub(crate) moving: &'a mut Vec<Peer>,
}

impl Worker {
    pub(crate) fn new(
        ports: WorkerPorts,
        shard: Shard,
        has_store: bool,
        (settings, now): (Settings, Now),
        (owned, on_their_way): (Vec<GroupKey>, OnTheirWay),
    ) -> Worker {
        let named = Arc::new(AtomicU32::new(0));
        let name = Arc::clone(&named);
        Worker {
            id: ports.id,
            core: Subscribers::new(subscribers::Parts {
                ports,
                shard,
                auth: settings.auth.clone(),
                allowed_origins: Vec::new(),
                proxies: iii_stream::protocol::proxied::Proxies::default(),
                limits: settings.limits.clone(),
                place_below: settings.place_below,
                bounds: settings.bounds,
                name: Box::new(move || format!("{}.path", name.load(Ordering::Relaxed)).into()),
                now,
            }),
            store_here: (!has_store).then_some(Memory),
            peers: BTreeMap::new(),
            settings,
            named,
            owned,
            on_their_way,
            arriving: HashMap::new(),
            afresh: Vec::new(),
            arrived: BTreeMap::new(),
            events_bytes: 0,
            events_bytes_most: 0,
            now,
            is_drained: false,
            is_ending: false,
            writable: Vec::new(),
        }
    }

    /// In the order of the real one's turn.
    pub(crate) fn turn(&mut self, around: &mut Around<'_>) {
        self.now = around.now;
        around.model.see_clock(self.now.wall_ms);
        self.events_bytes = 0;
        let units = around.pace.up_to(6);
        let before = Marks::of(self.core.effects());
        self.core.begin_turn(self.now, units);
        self.check(before, around);
        self.poll();
        let most = around.pace.up_to(8);
        self.learn(most, around);
        for _ in 0..around.pace.up_to(self.core.ports().open.len()) {
            if let Some(message) = self.core.next_message() {
                self.take(message, around);
            }
            let most = around.pace.up_to(8);
            self.learn(most, around);
        }
        self.core.tell_senders();
        for _ in 0..around.pace.up_to(self.core.ports().commands.len()) {
            match self.core.next_command() {
                Some(ToOwner::Command(command)) => self.apply(command, around),
                Some(ToOwner::Placed(handed)) => self.takes_over(handed, around),
                Some(ToOwner::Hooks(hooks)) => {
                    self.listen(around);
                    around.model.set_hooks(self.id, &hooks);
                    self.core.set_hooks(hooks);
                }
                Some(ToOwner::Socket(stream, stays)) => self.take_socket(&stream, stays),
                None => {}
            }
        }
        self.core.tell_senders();
        while (around.pace.is_full || around.pace.below(4) > 0)
            && let Some(command) = self.core.next_own_command()
        {
            self.apply(command, around);
        }
        self.read_sockets(around);
        self.hand_over(around);
        self.perform(around);
        self.core.flush();
        self.events_bytes_most = self.events_bytes_most.max(self.events_bytes);
        self.look_at_behind(around.model);
        self.check_lists(around.model);
        let budgets = self.core.sweep(around.pace.up_to(8));
        for budget in budgets {
            budget.check(WRITE_BYTES_MAX);
        }
        self.look_at_clients(around);
        self.core.end_overdue();
        self.look_at_clients(around); // pings were written, and what was tried
        self.listen(around);
        self.is_drained |= self.core.go_on_draining();
        self.listen(around);
        let looks = self.looks();
        self.core.follow_up();
        self.check_nobody_is_closed(&looks);
        self.listen(around);
        self.core.settle();
        self.core.flush();
        self.core.check_invariants();
    }

    /// It is said once of whoever has sent something, or takes something.
    fn poll(&mut self) {
        for (id, takes_all) in std::mem::take(&mut self.writable) {
            match takes_all {
                true => self.core.takes_bytes(id),
                false => self.core.takes_some(id),
            }
        }
        for (id, peer) in &self.peers {
            let mut line = peer.line.borrow();
            if std::mem::take(&mut line.has_news) {
                self.core.has_bytes(*id, line.has_ended);
            }
        }
    }

    /// The process is about to end.
    pub(crate) fn begin_drain(&mut self, spread: Duration) {
        self.peers
            .values_mut()
            .for_each(|peer| peer.may_close = true);
        self.is_ending = true;
        self.core.begin_drain(spread);
    }

    /// Nothing is left to do here.
    pub(crate) fn is_quiet(&self) -> bool {
        let ports = self.core.ports();
        self.sleeps()
            && !self.core.holds_sockets()
            && self.core.fanout().next_due_us().is_none()
            && self.core.may_read_sockets()
            && ports.commands.is_empty()
            && self.peers.values().all(Peer::is_quiet)
    }

    /// Nothing can be done here until something comes.
    pub(crate) fn sleeps(&self) -> bool {
        let has_news = |peer: &Peer| peer.line.borrow().has_news;
        !self.core.has_work() && !self.peers.values().any(has_news) && self.writable.is_empty()
    }

    /// Groups that this worker decides for.
    pub(crate) fn owned(&self) -> &[GroupKey] {
        &self.owned
    }

    pub(crate) fn ids(&self) -> Vec<SlotId> {
        self.peers.keys().copied().collect()
    }

    /// A client connects; `None`: the process is about to end.
    pub(crate) fn accept(&mut self, client: Arrival) -> Option<&mut Peer> {
        let me = self.id.index();
        self.core.ports().shared.connections[me].fetch_add(1, Ordering::Relaxed);
        let id = self.enter(client)?;
        self.peers.get_mut(&id)
    }

    fn enter(&mut self, client: Arrival) -> Option<SlotId> {
        let line = BothEnds::of(Line {
            room: client.room,
            ..Line::default()
        });
        let id = self.core.enter(FakeSocket::at(&line))?;
        let mut peer = Peer::new(client.number, line, self.now); // the core goes by its last turn
        peer.is_mute = client.is_mute;
        if let Some((path, len)) = client.asks {
            peer.upgrades(path, len);
        }
        self.peers.insert(id, peer);
        Some(id)
    }

    /// The client's socket goes on to another worker, unless that is full.
    pub(crate) fn pass_on(&mut self, client: Arrival, to: usize) {
        let shared = Arc::clone(&self.core.ports().shared);
        shared.connections[to].fetch_add(1, Ordering::Relaxed);
        let stream = self.on_their_way.send(client);
        let outbox = &mut self.core.ports_mut().to_commands[to];
        let sent = outbox.try_send(ToOwner::Socket(stream, true));
        outbox.flush();
        if let Err(ToOwner::Socket(stream, stays)) = sent {
            let me = self.id.index();
            shared.connections[to].fetch_sub(1, Ordering::Relaxed);
            shared.connections[me].fetch_add(1, Ordering::Relaxed);
            self.take_socket(&stream, stays);
        }
    }

    fn take_socket(&mut self, stream: &TcpStream, stays: bool) {
        let client = self.on_their_way.take(stream);
        if let Some(id) = self.enter(client)
            && stays
        {
            self.core.stays(id);
        }
    }

    /// The socket takes so many bytes more; true when it had taken too few.
    pub(crate) fn takes_bytes(&mut self, id: SlotId, room: usize) -> bool {
        let Some(peer) = self.peers.get(&id) else {
            return false;
        };
        let was_blocked = self.core.look(id).is_some_and(|look| look.is_blocked);
        let mut line = peer.line.borrow();
        // Over some sockets a layer holds what they have not taken, and that goes first.
        if was_blocked && room == 1 && peer.number.is_multiple_of(3) {
            line.takes += 1;
            drop(line);
            self.writable.push((id, false));
            return true;
        }
        line.room = room;
        drop(line);
        if was_blocked {
            self.writable.push((id, true));
        }
        was_blocked
    }

    fn take(&mut self, message: ToWorker, around: &mut Around<'_>) {
        match message {
            ToWorker::CustomAnswered(told) => {
                around.model.told(&told, &self.owned);
                let before = Marks::of(self.core.effects());
                self.core.take(ToWorker::CustomAnswered(told));
                self.check(before, around);
            }
            ToWorker::Delivery(delivery, due) => {
                self.arrives(&delivery, around.model);
                self.core.take(ToWorker::Delivery(delivery, due));
                self.listen(around);
            }
            ToWorker::JoinDecided(request, is_admitted) => {
                let subscription = &request.presence.subscription;
                around.model.check_decided(subscription, is_admitted);
                match self.peers.get_mut(&request.connection) {
                    Some(peer) if !peer.is_closing => {
                        peer.hears_of(&request.presence, is_admitted);
                    }
                    _ if is_admitted => around.model.owe_late(self.id, &request.presence),
                    _ => {}
                }
                self.core.take(ToWorker::JoinDecided(request, is_admitted));
                self.listen(around);
            }
            ToWorker::Authenticated(id, verdict) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    self.named.store(peer.number, Ordering::Relaxed);
                    peer.is_judged(&verdict);
                }
                let is_admitted = matches!(verdict, AuthVerdict::Admitted(_));
                let waited = self.core.look(id).map(|look| look.state) == Some(State::Asking);
                self.core.take(ToWorker::Authenticated(id, verdict));
                let state = self.core.look(id).map(|look| look.state);
                assert!(!waited || is_admitted == (state == Some(State::Open)));
                self.listen(around);
            }
            other => {
                self.core.take(other);
                self.listen(around);
            }
        }
    }

    /// So much of what the store has said is heard.
    fn learn(&mut self, most: usize, around: &mut Around<'_>) {
        for _ in 0..most {
            let Some(learned) = self.core.next_learned() else {
                return;
            };
            around.model.learn(self.id, learned, &self.owned);
            let before = Marks::of(self.core.effects());
            self.core.learn(1);
            self.check(before, around);
        }
    }

    fn apply(&mut self, command: Command, around: &mut Around<'_>) {
        around.model.apply(self.id, &command, &self.owned);
        let before = Marks::of(self.core.effects());
        self.core.take_command(command);
        self.check(before, around);
    }

    fn check(&mut self, before: Marks, around: &mut Around<'_>) {
        around.model.check(self.id, self.core.effects(), before);
        self.listen(around);
    }

    fn read_sockets(&mut self, around: &mut Around<'_>) {
        let mut left = around.pace.up_to(self.core.readable_len());
        while self.core.may_read_sockets()
            && let Some(id) = self.core.next_readable(&mut left)
        {
            self.read_socket(id, around);
            self.core.queue(id);
            self.listen(around);
        }
    }

    fn read_socket(&mut self, id: SlotId, around: &mut Around<'_>) {
        let peer = self.peers.get(&id).expect("it is there");
        self.named.store(peer.number, Ordering::Relaxed);
        let socket = match self.core.reading_of(id) {
            Reading::Kept => return self.core.received(id, &mut []),
            Reading::Nothing => return,
            Reading::Socket(socket) => socket.clone(),
        };
        let (received, mut bytes) = socket.read(around.pace);
        if let (Received::Bytes { .. }, Some(peer)) = (&received, self.peers.get_mut(&id)) {
            peer.heard_at = self.now;
        }
        self.core.was_read(id, &received);
        match received {
            Received::Bytes { .. } => self.core.received(id, &mut bytes),
            Received::Nothing => {}
            Received::End => self.core.ended(id),
        }
    }

    fn hand_over(&mut self, around: &mut Around<'_>) {
        let mut gone = Vec::new();
        self.core.hand_over(|socket| gone.push(socket.clone()));
        HANDED_OVER.fetch_add(gone.len() as u32, Ordering::Relaxed);
        for FakeSocket(line) in gone {
            let mut peers = self.peers.iter();
            let (id, _) = peers
                .find(|(_, peer)| peer.line.is(&line))
                .expect("it was here");
            let id = *id;
            around.moving.extend(self.peers.remove(&id));
            let mut line = line.borrow();
            line.has_news = line.has_ended || !line.sent.is_empty(); // whoever watches it next hears of that
        }
    }

    fn takes_over(&mut self, handed: Handed, around: &mut Around<'_>) {
        let Some(id) = self.core.arrive(handed) else {
            return;
        };
        let FakeSocket(line) = self.core.socket(id).expect("it has come").clone();
        let mut moving = around.moving.iter();
        let at = moving.position(|peer| peer.line.is(&line));
        let mut peer = around.moving.swap_remove(at.expect("it was on its way"));
        peer.may_close |= self.is_ending;
        self.peers.insert(id, peer);
        let takes_bytes = line.borrow().room > 0;
        if takes_bytes {
            self.core.takes_bytes(id); // as the poll says of a socket that is new to it
        }
        self.listen(around);
    }

    fn perform(&mut self, around: &mut Around<'_>) {
        if self.store_here.is_some() {
            while let Some(requests) = self.core.take_requests() {
                around.model.accept(&requests);
                let mut learned = Vec::new();
                Memory.serve(requests, &mut learned);
                self.core.take(ToWorker::Learned(learned));
                self.learn(usize::MAX, around);
            }
        }
        let mine = |delivery: &&Delivery| delivery.to == self.id;
        let deliveries = self.core.effects().deliveries.iter().filter(mine);
        let (mut arrived, mut bytes, mut entered) = (Vec::new(), 0, Vec::new());
        let mut afresh = Vec::new();
        for delivery in deliveries {
            match &delivery.what {
                Delivered::Event(frame) => {
                    let message = Message::whole(frame.wire());
                    arrived.push((message.group, message.time));
                    bytes += frame.wire().len();
                }
                Delivered::Entered {
                    connection, token, ..
                } => entered.push((*connection, *token)),
                Delivered::Afresh(snapshot) => afresh.push(Arc::clone(snapshot)),
            }
        }
        self.arrived.extend(arrived);
        self.events_bytes += bytes;
        for (id, token) in entered {
            self.lets_in(id, token, around.model);
        }
        for snapshot in afresh {
            let started = around.model.take_afresh(&snapshot);
            self.afresh.push((snapshot, started));
        }
        self.core.perform();
        self.listen(around);
    }

    /// A delivery is about to be taken.
    fn arrives(&mut self, delivery: &Delivery, model: &mut Model) {
        match &delivery.what {
            Delivered::Event(frame) => {
                let message = Message::whole(frame.wire());
                self.arrived.insert(message.group, message.time);
                self.events_bytes += frame.wire().len();
            }
            Delivered::Entered {
                connection, token, ..
            } => self.lets_in(*connection, *token, model),
            Delivered::Afresh(snapshot) => {
                let started = model.take_afresh(snapshot);
                self.afresh.push((Arc::clone(snapshot), started));
            }
        }
    }

    fn lets_in(&mut self, id: SlotId, token: u32, model: &mut Model) {
        if token == FRESH {
            return model.note_fresh_sync((self.id, id, token));
        }
        let entered = model.take_entered((self.id, id, token));
        self.arriving.entry(id).or_default().push_back(entered);
    }

    /// What the core says it has done, in its order, and which sockets it has closed.
    pub(crate) fn listen(&mut self, around: &mut Around<'_>) {
        let (notes, model) = (self.core.take_notes(true), &mut *around.model);
        let shared = &self.core.ports().shared;
        let hooks = model.hooks_of(self.id);
        let now = self.now;
        self.peers
            .values_mut()
            .for_each(|peer| peer.look_at_takes(now));
        for note in notes {
            let Note::Of(Whom { id, .. }, what) = note else {
                continue;
            };
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if let What::Joined(subscription) = &what {
                let arriving = self.arriving.get_mut(&id).and_then(VecDeque::pop_front);
                let entered = arriving.expect("its owner has let it in");
                for (snapshot, afresh) in &self.afresh {
                    if afresh.number < entered.number {
                        peer.begins_afresh(snapshot, afresh, model);
                    }
                }
                peer.enters(subscription, entered, model);
                continue;
            }
            let is_asked = |stream: &str| hooks.joins.has(stream);
            if let Some(leave) =
                peer.is_noted(&what, &self.settings, (self.now, shared), is_asked, model)
            {
                model.owe(self.id, &leave);
            }
        }
        self.arriving.clear(); // the rest was given up: who joined is gone, or has much to take
        for (snapshot, afresh) in std::mem::take(&mut self.afresh) {
            for peer in self.peers.values_mut() {
                peer.begins_afresh(&snapshot, &afresh, model);
            }
        }
        for id in self.ids() {
            let state = self.core.look(id).map(|look| look.state);
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            for leave in peer.is_seen(state, &self.settings, self.now, model) {
                model.owe_of_ending(self.id, &leave);
            }
            if state.is_none() {
                self.peers.remove(&id);
            }
        }
    }

    fn look_at_clients(&mut self, around: &mut Around<'_>) {
        for id in self.ids() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.takes(around.model, self.now);
                let line = peer.line.borrow();
                let has_heard_all = line.is_last && !line.has_ended;
                drop(line);
                if has_heard_all && (around.pace.is_full || around.pace.below(3) == 0) {
                    peer.ends(); // it has heard all
                }
            }
        }
    }

    pub(crate) fn looks(&self) -> HashMap<SlotId, Look> {
        let looks = self
            .peers
            .keys()
            .filter_map(|id| Some((*id, self.core.look(*id)?)));
        looks.collect()
    }
}
