//! How many sockets there may be, from where, how fast they come in, and for how long one may say nothing.

use super::*;

/// Whoever takes the place that is free again. It keeps it: one that went at once would be counted until its end
/// is seen.
fn wait_for_place(address: SocketAddr) -> Subscriber {
    let mut let_in = None;
    crate::support::wait_until("a place is free again", || {
        let mut stream = raw::connect(address);
        stream
            .write_all(upgrade_request("/", "").as_bytes())
            .unwrap();
        let_in = raw::read_head(&mut stream)
            .starts_with("HTTP/1.1 101 ")
            .then(|| Subscriber::upgraded(stream));
        let_in.is_some()
    });
    let_in.unwrap()
}

#[test]
fn sockets_over_the_limit_are_told_to_come_later() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.connections = 4);
        let mut held: Vec<Subscriber> = (0..4).map(|_| Subscriber::connect(&server)).collect();
        let mut busy = answer(503, "limits.connections are there: come again");
        busy.headers.push("retry-after: 1".to_owned());
        let busy = sorted(busy);
        assert_eq!(asked(server.stream(), upgrade_request("/", "")), busy);
        assert_eq!(
            asked(server.stream(), "GET / HTTP/1.1\r\n\r\n").status,
            400,
            "what can never be served hears why"
        );
        held.pop().unwrap().close();
        wait_for_place(server.stream());
        for subscriber in &mut held {
            assert_eq!(subscriber.join("s", ("s", "g")).data, json!([]));
        }
    });
}

#[test]
fn sdk_sockets_over_the_limit_are_told_to_come_later() {
    let server = TestServer::with(ONE_WORKER, |config| config.limits.worker_connections = 2);
    let mut held: Vec<SdkWorker> = (0..2).map(|_| SdkWorker::connect(&server)).collect();
    let mut busy = answer(503, "limits.worker_connections are there: come again");
    busy.headers.push("retry-after: 1".to_owned());
    assert_eq!(
        asked(server.worker(), upgrade_request("/", "")),
        sorted(busy)
    );
    drop(held.pop());
    wait_for_place(server.worker());
    for sdk in &mut held {
        let item = json!({"stream_name": "s", "group_id": "g", "item_id": "i"});
        assert!(sdk.call("stream::get", item).get("error").is_none());
    }
}

#[test]
fn sockets_that_are_not_let_in_take_no_place() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.connections = 2;
        config.limits.worker_connections = 2;
    });
    for address in [server.stream(), server.worker()] {
        let _silent: Vec<_> = (0..3).map(|_| raw::connect(address)).collect();
        // All are there before the first asks.
        let mut all: Vec<_> = (0..5).map(|_| raw::connect(address)).collect();
        for stream in &mut all {
            let request = upgrade_request("/", "");
            stream.write_all(request.as_bytes()).unwrap();
        }
        let statuses = all.iter_mut().map(|stream| {
            let head = raw::read_head(stream);
            head.split(' ').nth(1).map(str::to_owned)
        });
        let statuses: Vec<_> = statuses.flatten().collect();
        let let_in = statuses.iter().filter(|status| *status == "101").count();
        assert_eq!(let_in, 2, "{statuses:?}");
        // Those that were refused stay, and one that was let in goes.
        all.remove(statuses.iter().position(|status| status == "101").unwrap());
        wait_for_place(address);
    }
}

#[test]
fn whoever_sends_no_whole_head_in_time_is_closed_without_an_answer() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.handshake_ms = 300);
        let mut subscriber = Subscriber::connect(&server);
        for address in [server.stream(), server.worker()] {
            let mut silent = raw::connect(address);
            let mut slow = raw::connect(address);
            slow.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n").unwrap();
            assert_eq!(raw::read_to_end(&mut silent), b"");
            assert_eq!(raw::read_to_end(&mut slow), b"");
        }
        assert_eq!(
            subscriber.join("s", ("s", "g")).data,
            json!([]),
            "who was in time stays"
        );
    });
}

#[test]
fn sockets_that_say_nothing_keep_nobody_out() {
    let server = TestServer::start(THREE_WORKERS);
    let silent: Vec<_> = (0..200).map(|_| raw::connect(server.stream())).collect();
    let mut subscriber = Subscriber::connect(&server);
    assert_eq!(subscriber.join("s", ("s", "g")).data, json!([]));
    drop(silent);
}

#[test]
fn one_address_has_as_many_subscribers_as_it_may_on_all_workers_together() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.connections_per_address = 4);
        let mut held: Vec<Subscriber> = (0..4).map(|_| Subscriber::connect(&server)).collect();
        let body = "limits.connections_per_address are there from this address: come again";
        let mut busy = answer(503, body);
        busy.headers.push("retry-after: 1".to_owned());
        let busy = sorted(busy);
        assert_eq!(asked(server.stream(), upgrade_request("/", "")), busy);
        // What is refused for something else takes no place, nor does an SDK worker.
        let plain = asked(server.stream(), "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(plain.status, 400);
        let mut sdk = SdkWorker::connect(&server);
        let elsewhere = raw::connect_from([127, 0, 0, 2], server.stream());
        let mut elsewhere = Subscriber::over(elsewhere, &server);
        elsewhere.join("s", ("s", "g"));
        for gone in 0..3 {
            match gone {
                0 => held.pop().unwrap().close(),
                _ => held.pop().unwrap().reset(),
            }
            held.insert(0, wait_for_place(server.stream()));
            assert_eq!(asked(server.stream(), upgrade_request("/", "")), busy);
        }
        sdk.set(("s", "g"), "i", json!(1));
        assert_eq!(elsewhere.next().kind, "create");
    });
}

#[test]
fn sockets_are_accepted_at_their_pace_and_all_of_them_come_in() {
    const SOCKETS: usize = 30;
    for shape in [THREE_WORKERS, ONE_WORKER] {
        let server = TestServer::with(shape, |config| config.limits.accepts_per_s = 20);
        for address in [server.stream(), server.worker()] {
            let since = std::time::Instant::now();
            let mut sockets: Vec<_> = (0..SOCKETS).map(|_| raw::connect(address)).collect();
            for socket in &mut sockets {
                socket
                    .write_all(upgrade_request("/", "").as_bytes())
                    .unwrap();
            }
            for socket in &mut sockets {
                assert!(raw::read_head(socket).starts_with("HTTP/1.1 101 "));
            }
            // 3 at once, and 27 at 20 a second.
            let took = since.elapsed();
            assert!(took > Duration::from_millis(1300), "{took:?}");
        }
    }
}
