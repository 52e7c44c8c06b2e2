//! One worker thread whose engine is the test itself: it takes what the worker says to the engine, and
//! answers when it likes.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use iii_stream::config::Limits;
use iii_stream::id::WorkerId;
use iii_stream::mesh::{
    self, AuthFunction, EnginePorts, Owners, Presence, Shared, SocketRoom, ToEngine, ToOwner,
    ToWorker, Wake, engine_thread,
};
use iii_stream::net::{WAKE, wake_up};
use iii_stream::protocol::origin::OriginRule;
use iii_stream::protocol::proxied::Proxies;
use iii_stream::shard::hooks::Hooks;
use iii_stream::shard::{Command, Fired, Shard, Store as _, ValueLimits};
use iii_stream::store::Memory;
use iii_stream::worker::{self, Worker};
use mio::{Events, Poll, Token};

use super::{DEADLINE, raw};

/// What the worker is made with.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) auth: Option<AuthFunction>,
    pub(crate) allowed_origins: Vec<OriginRule>,
    pub(crate) limits: Limits,
}

/// The worker's thread, and the engine's side of its mailboxes.
pub(crate) struct LoneWorker {
    pub(crate) stream: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    engine: EnginePorts,
    poll: Poll,
    drained: Receiver<WorkerId>,
    thread: Option<JoinHandle<()>>,
}

impl LoneWorker {
    pub(crate) fn start(hooks: Hooks) -> LoneWorker {
        LoneWorker::with(hooks, Settings::default())
    }

    pub(crate) fn with(hooks: Hooks, settings: Settings) -> LoneWorker {
        let (worker_poll, worker_wake) = poll(WAKE);
        let (poll, engine_wake) = poll(Token(0));
        let shared = Arc::new(Shared::new(
            Owners::Hashed { workers: 1 },
            vec![worker_wake, engine_wake],
            SocketRoom::UNLIMITED,
        ));
        let limits = settings.limits;
        let (ports, engine, _) = mesh::tie(
            Arc::clone(&shared),
            limits.mailbox_len,
            limits.mailbox_bytes,
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let stream = listener.local_addr().unwrap();
        let (drained_sender, drained) = crossbeam_channel::bounded(1);
        let values = ValueLimits {
            json_depth: limits.json_depth,
            value_bytes: limits.value_bytes,
        };
        let worker = Worker::new(worker::Parts {
            poll: worker_poll,
            listener,
            tls: None,
            ports: ports.into_iter().next().unwrap(),
            store_here: Some(Box::new(Memory)),
            shard: Shard::new(WorkerId(0), Memory.decides(), values),
            auth: settings.auth,
            allowed_origins: settings.allowed_origins,
            proxies: Proxies::default(),
            limits,
            place_below: 0,
            drain: Duration::from_millis(50),
            drained: drained_sender,
            shares_core: true,
            answers_first: true,
            has_ring: true,
        });
        let worker = worker.unwrap();
        let mut lone = LoneWorker {
            stream,
            shared,
            engine,
            poll,
            drained,
            thread: Some(std::thread::spawn(move || worker.run().unwrap())),
        };
        lone.hook(hooks);
        lone
    }

    /// From here on these streams are hooked onto.
    pub(crate) fn hook(&mut self, hooks: Hooks) {
        let outbox = &mut self.engine.to_commands[0];
        outbox.send(ToOwner::Hooks(Arc::new(hooks)));
        outbox.flush();
    }

    pub(crate) fn command(&mut self, command: Command) {
        let outbox = &mut self.engine.to_commands[0];
        outbox.send(ToOwner::Command(command));
        outbox.flush();
    }

    pub(crate) fn tell(&mut self, message: ToWorker) {
        let outbox = &mut self.engine.to_open[0];
        outbox.send(message);
        outbox.flush();
    }

    /// The next thing that the worker says to the engine.
    pub(crate) fn next(&mut self) -> ToEngine {
        self.wait_for(|engine| engine.mailbox.take())
    }

    /// The next event that triggers follow.
    pub(crate) fn next_fired(&mut self) -> Fired {
        self.wait_for(|engine| engine.fired.take())
    }

    fn wait_for<T>(&mut self, take: impl Fn(&EnginePorts) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(message) = take(&self.engine) {
                let (shared, engine) = (&self.shared, &self.engine);
                engine.mailbox.tell_waiters(|thread| shared.wake(thread));
                engine.fired.tell_waiters(|thread| shared.wake(thread));
                return message;
            }
            assert!(Instant::now() < deadline, "the worker says nothing");
            let mut events = Events::with_capacity(1);
            let step = Some(Duration::from_millis(100));
            self.poll.poll(&mut events, step).unwrap();
            self.shared.wakes[engine_thread(1)].lower();
        }
    }

    /// The subscription that the next leaves tell of, in order: all that are owed.
    pub(crate) fn take_leaves(&mut self, count: usize) -> Vec<Presence> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let owes = self.next();
            assert!(
                matches!(owes, ToEngine::Owes(WorkerId(0))),
                "not {}",
                name(&owes)
            );
            loop {
                self.tell(ToWorker::TakeLeaves(2));
                let message = self.next();
                let ToEngine::Leaves { leaves, more, .. } = message else {
                    panic!("no leaves but {}", name(&message));
                };
                assert!(leaves.len() <= 2);
                taken.extend(leaves);
                if !more {
                    break;
                }
            }
        }
        taken
    }

    /// Messages that the test has not taken.
    pub(crate) fn waiting_len(&self) -> usize {
        self.engine.mailbox.len() + self.engine.fired.len()
    }

    /// Whether all sockets are gone after a drain.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.recv_timeout(DEADLINE).is_ok()
    }

    /// An upgrade request is sent; nothing has been answered.
    pub(crate) fn request(&self, target: &str, more: &str) -> std::net::TcpStream {
        use std::io::Write as _;
        let mut stream = raw::connect(self.stream);
        let request = raw::upgrade_request(target, more);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }
}

/// For a failed assertion.
pub(crate) fn name(message: &ToEngine) -> &'static str {
    match message {
        ToEngine::Reply(_) => "a reply",
        ToEngine::Custom(_) => "a custom call",
        ToEngine::Join(_) => "a join",
        ToEngine::Auth(_) => "an upgrade",
        ToEngine::Owes(_) => "a debt",
        ToEngine::Leaves { .. } => "leaves",
        ToEngine::Settings(_) => "settings",
    }
}

fn poll(token: Token) -> (Poll, Arc<Wake>) {
    let poll = Poll::new().unwrap();
    let wake = Wake::new(wake_up(&poll, token).unwrap());
    (poll, Arc::new(wake))
}

impl Drop for LoneWorker {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(
                joined.is_ok() || std::thread::panicking(),
                "the worker panicked"
            );
        }
    }
}
