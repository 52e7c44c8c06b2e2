//! Who asks the admin port too much, too slowly or without end: bounded, let go in time, and nobody else notices.

use super::*;

#[test]
fn who_is_slow_is_let_go_after_its_time_and_holds_nobody_up() {
    let (_server, admin) = start();
    let began = Instant::now();
    let mut silent = raw::connect(admin);
    let mut slow = raw::connect(admin);
    slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: local")
        .unwrap();
    for _ in 0..20 {
        assert_eq!(get(admin, "/admin/overview").status, 200);
    }
    let others = began.elapsed();
    assert!(others < Duration::from_secs(8), "{others:?} for 20 answers");
    assert_eq!(raw::read_to_end(&mut silent), b"");
    assert_eq!(raw::read_to_end(&mut slow), b"");
    let held = began.elapsed();
    assert!(held >= Duration::from_secs(9), "let go after {held:?}");
}

/// Each answer is larger than the kernel takes for a reader that reads nothing.
#[test]
fn who_asks_and_never_reads_is_bounded_and_let_go_and_harms_nobody() {
    const ITEMS: usize = 100;
    const VALUE_BYTES: usize = 9_000;
    let (server, admin) = start();
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("1", ("chat", "room"));
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..ITEMS {
        sdk.set(
            ("large", "group"),
            &n.to_string(),
            json!("x".repeat(VALUE_BYTES)),
        );
    }
    let request = b"GET /admin/group/large/group?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let whole = ask(admin, request).body.len();
    assert!(whole > ITEMS * VALUE_BYTES, "{whole}");

    let began = Instant::now();
    let mut deaf: Vec<TcpStream> = (0..2 * PEERS_MAX)
        .map(|_| {
            let mut stream = deaf_socket(admin);
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    for n in 0..20 {
        let began = Instant::now();
        assert_eq!(get(admin, "/health").status, 200);
        sdk.set(("chat", "room"), &n.to_string(), json!(n));
        subscriber.take(1);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} beside them");
    }
    assert!(
        established(admin) <= PEERS_MAX,
        "the first made room for the others"
    );
    wait_until("all are let go", || established(admin) == 0);
    let held = began.elapsed();
    assert!(
        held > Duration::from_secs(9) && held < Duration::from_secs(25),
        "let go after {held:?}"
    );
    let mut last = deaf.pop().unwrap();
    let got = raw::read_to_end(&mut last).len(); // what the kernel had, if the reset has left it
    assert!(got < whole, "{got} of {whole} bytes");
    assert_eq!(get(admin, "/health").status, 200);
}

/// A socket for which the other side's kernel takes little: by its segments it reckons how much.
fn deaf_socket(address: SocketAddr) -> TcpStream {
    let tcp = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, tcp, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// How many connections the kernel knows of at that port that neither side has ended.
fn established(port: SocketAddr) -> usize {
    let shown = format!(" 0100007F:{:04X} ", port.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_port = table.lines().filter_map(|line| line.split_once(&*shown));
    // Local address, the other one, state.
    let is_first = |before: &str| before.trim_end().ends_with(':');
    let states = of_port.filter(|(before, _)| is_first(before));
    states
        .filter(|(_, behind)| behind.split(' ').nth(1) == Some("01"))
        .count()
}

/// The turn that reads it is not its alone, before its request is whole and behind it.
#[test]
fn who_sends_without_end_holds_nobody_up_and_is_let_go() {
    let (_server, admin) = start();
    let began = Instant::now();
    let floods: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                let mut stream = raw::connect(admin);
                let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
                stream.write_all(request).unwrap();
                let block = vec![b'x'; 256 * 1024];
                while stream.write_all(&block).is_ok() {}
                began.elapsed()
            })
        })
        .collect();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(get(admin, "/health").status, 200);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} beside them");
    }
    for flood in floods {
        let ended = flood.join().unwrap();
        assert!(ended < Duration::from_secs(8), "let go after {ended:?}");
    }
}

#[test]
fn of_very_many_connections_no_more_are_kept_than_may_be_and_a_request_is_answered() {
    const CONNECTIONS: usize = 400;
    let (_server, admin) = start();
    let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| raw::connect(admin)).collect();
    assert_eq!(get(admin, "/health").status, 200);
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        // Nothing was asked, so whatever can be read is the end.
        let mut reader = stream;
        let is_open = reader
            .read(&mut [0])
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        is_open
    };
    // They were accepted before the one that was answered.
    let open_len = silent.iter().filter(|stream| is_open(stream)).count();
    assert!(open_len <= PEERS_MAX, "{open_len} are open");
}
