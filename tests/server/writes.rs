//! Both ways to write to subscribers, a system call each and many in one: whoever reads how slowly, and whoever
//! comes and goes meanwhile, each hears all that is for it, in order and once.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use iii_stream::config::{Config, Io};
use serde_json::{Value, json};

use crate::support::process::{Directory, PROGRAM, Process, config, outcome};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, raw, wait_until};

const ROOM: (&str, &str) = ("s", "g");

fn on_each_way(change: impl Fn(&mut Config), test: impl Fn(&TestServer)) {
    // Where the kernel refuses the second it is the first once more.
    for io in [Io::Epoll, Io::Auto] {
        eprintln!("by {io:?}");
        let server = TestServer::with(ONE_WORKER, |config| {
            config.io = io;
            change(config);
        });
        test(&server);
    }
}

/// One that takes little in advance.
fn narrow(server: &TestServer) -> TcpStream {
    raw::upgrade(raw::connect_narrow(server.stream()), "/stream/s/g")
}

/// The next event: its kind and value.
fn event(stream: &mut impl Read) -> (String, Value) {
    let (first, payload) = raw::read_frame(stream);
    assert_eq!(first, 0x81, "{payload:?}");
    let mut message: Value = serde_json::from_slice(&payload).unwrap();
    let kind = message["event"]["type"].as_str().unwrap().to_owned();
    (kind, message["event"]["data"].take())
}

/// Gives its bytes one by one.
struct Single<'a>(&'a mut TcpStream);

impl Read for Single<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

#[test]
fn a_reader_that_stalls_and_goes_on_a_byte_at_a_time_hears_all_and_holds_nobody_up() {
    const SMALL: usize = 300;
    on_each_way(
        |config| config.limits.behind_bytes = 64 << 20,
        |server| {
            let mut sdk = SdkWorker::connect(server);
            let mut slow: Vec<TcpStream> = (0..2).map(|_| narrow(server)).collect();
            let mut others: Vec<Subscriber> =
                (0..10).map(|_| Subscriber::connect(server)).collect();
            for other in &mut others {
                other.join("a", ROOM);
            }
            for slow in &mut slow {
                assert_eq!(event(slow).0, "sync");
            }
            // Small ones, of which many go together, between values that each take a write of their own.
            let large = "x".repeat(4 << 20);
            let value = |n: usize| match n % (SMALL / 2) {
                7 => json!([n, large]),
                _ => json!([n, "x".repeat(n % 40 * 50)]),
            };
            for n in 0..SMALL {
                sdk.set(ROOM, "i", value(n));
                for other in &mut others {
                    assert!(other.next().data == value(n), "{n}");
                }
            }
            for slow in &mut slow {
                for n in 0..SMALL {
                    let (_, data) = match n {
                        0..5 => event(&mut Single(slow)),
                        _ => event(slow),
                    };
                    assert!(data == value(n), "{n}");
                }
            }
        },
    );
}

#[test]
fn a_close_comes_behind_the_whole_frames_before_it_and_the_end_behind_the_close() {
    on_each_way(
        |config| config.drain_ms = 20_000,
        |server| {
            let mut sdk = SdkWorker::connect(server);
            let mut sockets: Vec<TcpStream> = (0..20).map(|_| narrow(server)).collect();
            let mut next = vec![0; sockets.len()];
            for socket in &mut sockets {
                assert_eq!(event(socket).0, "sync");
            }
            for n in 0..400 {
                sdk.set(ROOM, "i", json!([n, "x".repeat(n % 30 * 60)]));
                for (number, socket) in sockets.iter_mut().enumerate() {
                    if n % 20 >= number {
                        let (_, data) = event(socket);
                        assert_eq!(data[0], next[number]);
                        next[number] += 1;
                    }
                }
            }
            let cut = &server.shared().workers[0].writes_cut;
            wait_until("some take less than they are sent", || cut.get() > 0);
            for socket in &mut sockets {
                socket.write_all(&raw::frame(0x88, b"\x03\xe8")).unwrap();
            }
            for (mut socket, mut next) in sockets.into_iter().zip(next) {
                let code = loop {
                    let (first, payload) = raw::read_frame(&mut socket);
                    if first == 0x88 {
                        break payload;
                    }
                    let message: Value = serde_json::from_slice(&payload).unwrap();
                    assert_eq!(message["event"]["data"][0], next, "in order, and whole");
                    next += 1;
                };
                assert_eq!(code, b"\x03\xe8");
                assert!(raw::read_to_end(&mut socket).is_empty());
            }
        },
    );
}

/// Descriptors are used again at once, by sockets that are to hear nothing of what others are sent.
#[test]
fn while_sockets_come_and_go_in_each_way_nobody_hears_what_is_for_others() {
    on_each_way(
        |_| {},
        |server| {
            let mut stays: Vec<Subscriber> = (0..5).map(|_| Subscriber::connect(server)).collect();
            for subscriber in &mut stays {
                subscriber.join("a", ROOM);
            }
            let is_over = AtomicBool::new(false);
            let last = std::thread::scope(|scope| {
                let sets = scope.spawn(|| {
                    let mut sdk = SdkWorker::connect(server);
                    let mut n = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        sdk.set(ROOM, "i", json!(n));
                        sdk.set(("s", "other"), "i", json!("other"));
                        n += 1;
                    }
                    n
                });
                for round in 0..300 {
                    let path = ["/stream/s/g", "/stream/s/other"][round % 2];
                    let mut stream = raw::upgrade(raw::connect(server.stream()), path);
                    let (kind, _) = event(&mut stream);
                    assert_eq!(kind, "sync");
                    let (_, first) = event(&mut stream);
                    for n in 1..1 + round % 3 {
                        let (_, next) = event(&mut stream);
                        match first.as_u64() {
                            Some(first) => assert_eq!(next, first + n as u64),
                            None => assert_eq!(next, "other"),
                        }
                    }
                    match round % 5 {
                        0 => socket2::SockRef::from(&stream)
                            .set_linger(Some(std::time::Duration::ZERO))
                            .unwrap(),
                        1 => stream.write_all(&raw::frame(0x88, b"")).unwrap(),
                        _ => {}
                    }
                }
                is_over.store(true, Ordering::Relaxed);
                sets.join().unwrap()
            });
            for subscriber in &mut stays {
                for n in 0..last {
                    assert_eq!(subscriber.next().data, n);
                }
            }
            wait_until("all others are gone", || {
                server.shared().connections_len() == stays.len()
            });
        },
    );
}

/// The program, to which the kernel refuses `io_uring_setup` (425 on every machine). None: there is no Python
/// to say so to the kernel.
fn without_rings(directory: &Directory) -> Option<Command> {
    const LINES: &str = "\
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
filter = ctypes.create_string_buffer(struct.pack('HP', 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";
    let is_there = Command::new("python3").arg("--version").output().is_ok();
    is_there.then(|| {
        let arguments = ["-c", LINES, PROGRAM];
        crate::support::process::command("python3", &directory.0, &arguments)
    })
}

#[test]
fn where_the_kernel_refuses_rings_the_server_goes_on_without_unless_it_was_told_to_have_them() {
    let directory = |io: &str| {
        let text = config("", &format!("threads: 2, drain_ms: 300, io: {io}"));
        Directory::new("refused-rings").with_file(&text)
    };
    let only = directory("uring");
    let Some(mut command) = without_rings(&only) else {
        return eprintln!("there is no python3");
    };
    let (code, said) = outcome(command.output().unwrap());
    let line = said.lines().last().unwrap_or_default();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        line.contains("server.io: the kernel refuses io_uring: Operation not permitted"),
        "{said}"
    );
    for (io, words) in [
        (
            "auto",
            "; a system call a write (no io_uring: Operation not permitted (os error 1)); ",
        ),
        ("epoll", "; a system call a write; "),
    ] {
        let directory = directory(io);
        let process = Process::start(without_rings(&directory).unwrap());
        assert!(process.says(words), "{:?}", process.log.borrow());
        let mut subscriber = process.subscriber();
        subscriber.join("a", ROOM);
        process.sdk().set(ROOM, "i", json!(1));
        assert_eq!(subscriber.next().data, 1);
        process.stop();
    }
}
