//! A server in this process, and clients that know no more of it than its ports.
//!
//! Nothing here sleeps to wait for something: whoever waits has a deadline, and names at it what did
//! not come. Silence is shown by a marker: what was sent before it would have come before it.

pub(crate) mod browser;
pub(crate) mod clients;
pub(crate) mod double;
pub(crate) mod frame;
pub(crate) mod lone;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod script;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use iii_stream::config::{Config, Endpoint, Io, Threads};
use iii_stream::mesh::Shared;
use iii_stream::server::{Options, Server};
use iii_stream::shard::{Decides, Store};

pub(crate) use clients::{Heard, SdkWorker, Subscriber};
use double::{Cues, Double};

/// Far more than anything takes on an idle machine; these are not idle.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How many workers a server has, and how soon its mailboxes are full. Several write many sends in one system
/// call, where the kernel lets them, and one writes each by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) threads: usize,
    pub(crate) mailbox_len: usize,
}

/// Every message may cross threads, and mailboxes are full all the time.
pub(crate) const THREE_WORKERS: Shape = Shape {
    threads: 3,
    mailbox_len: 8,
};
/// Owner and subscriber are always on the same worker.
pub(crate) const ONE_WORKER: Shape = Shape {
    threads: 1,
    mailbox_len: 8,
};

/// What holds has to hold on both. The output of a failed test ends with the shape it failed on.
pub(crate) fn on_each_shape(test: impl Fn(Shape)) {
    for shape in [THREE_WORKERS, ONE_WORKER] {
        eprintln!("on {shape:?}");
        test(shape);
    }
}

/// A server on ports of its own. It drains when it is dropped, which has to come after its clients.
pub(crate) struct TestServer {
    server: Option<Server>,
    stream: SocketAddr,
    workers: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

impl TestServer {
    pub(crate) fn start(shape: Shape) -> TestServer {
        TestServer::with(shape, |_| {})
    }

    /// With settings of the test's own.
    pub(crate) fn with(shape: Shape, change: impl FnOnce(&mut Config)) -> TestServer {
        TestServer::build(shape, change, Options::default())
    }

    /// As a worker of the engine that is at that address.
    pub(crate) fn attached(
        shape: Shape,
        url: &str,
        change: impl FnOnce(&mut Config),
    ) -> TestServer {
        TestServer::with(shape, |config| {
            config.engine = Some(url.parse().unwrap());
            config.worker_listeners.clear();
            change(config);
        })
    }

    /// The same, which pings its engine so often.
    pub(crate) fn attached_with_ping(shape: Shape, url: &str, every: Duration) -> TestServer {
        let options = Options {
            ping_every: Some(every),
            ..Options::default()
        };
        let attached = |config: &mut Config| {
            config.engine = Some(url.parse().unwrap());
            config.worker_listeners.clear();
        };
        TestServer::build(shape, attached, options)
    }

    /// On the store double, which does as its cues say.
    pub(crate) fn on_double(shape: Shape, decides: Decides, cues: &SharedCues) -> TestServer {
        TestServer::on_double_with(shape, decides, cues, |_| {})
    }

    /// The same with settings of the test's own.
    pub(crate) fn on_double_with(
        shape: Shape,
        decides: Decides,
        cues: &SharedCues,
        change: impl FnOnce(&mut Config),
    ) -> TestServer {
        let store = Double::new(decides, Arc::clone(&cues.0));
        TestServer::on_store(shape, Box::new(store), change)
    }

    /// On a store of the test's own.
    pub(crate) fn on_store(
        shape: Shape,
        store: Box<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> TestServer {
        let options = Options {
            store: Some(store),
            ..Options::default()
        };
        TestServer::build(shape, change, options)
    }

    fn build(shape: Shape, change: impl FnOnce(&mut Config), options: Options) -> TestServer {
        notice_panics();
        let mut config = Config {
            stream: Endpoint::new("127.0.0.1", 0),
            worker_listeners: vec![Endpoint::new("127.0.0.1", 0).into()],
            threads: Threads::Count(shape.threads),
            drain_ms: 50,
            io: match shape.threads {
                1 => Io::Epoll,
                _ => Io::Auto,
            },
            ..Config::default()
        };
        config.limits.mailbox_len = shape.mailbox_len;
        change(&mut config);
        let options = Options {
            steered: true,
            ..options
        };
        let server = Server::start(&config, options).unwrap();
        TestServer {
            stream: server.stream_address(),
            workers: server.worker_addresses().to_vec(),
            shared: Arc::clone(server.shared()),
            server: Some(server),
        }
    }

    pub(crate) fn stream(&self) -> SocketAddr {
        self.stream
    }

    pub(crate) fn running(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn worker(&self) -> SocketAddr {
        self.workers[0]
    }

    /// All listeners for SDK workers.
    pub(crate) fn workers(&self) -> &[SocketAddr] {
        &self.workers
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The next sockets on the stream port stand on that worker.
    pub(crate) fn steer_to(&self, worker: usize) {
        self.shared.steered_to.store(worker, Ordering::Relaxed);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain();
        }
        if !std::thread::panicking() {
            let panicked = PANICKED.load(Ordering::Relaxed);
            assert!(!panicked, "a thread of a server has panicked");
        }
    }
}

/// A thread of some server has panicked: a failed assertion of our own code, which a test on
/// another worker would not notice.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if name.starts_with("worker-") || name == "engine" || name == "store" {
                PANICKED.store(true, Ordering::Relaxed);
            }
            tell(info);
        }));
    });
}

/// What the store double is to do next.
#[derive(Clone, Default)]
pub(crate) struct SharedCues(Arc<Mutex<Cues>>);

impl SharedCues {
    /// Each batch takes so long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.0.lock().unwrap().delay = delay;
    }

    /// So many requests are accepted, then one is refused.
    pub(crate) fn refuse_after(&self, requests: usize) {
        self.0.lock().unwrap().refuse_after = Some(requests);
    }
}

/// Looks again and again until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
