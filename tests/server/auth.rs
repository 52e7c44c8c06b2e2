//! What stands between a correct upgrade and its 101: the page's origin, and the auth function, whose
//! engine is the test's own.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use iii_stream::mesh::{AuthFunction, AuthRequest, AuthVerdict, ToEngine, ToWorker};
use iii_stream::shard::hooks::Hooks;
use serde_json::{Value, json};

use crate::support::lone::{LoneWorker, Settings, name};
use crate::support::{Subscriber, raw, wait_until};

fn asking(admits_failures: bool) -> Settings {
    Settings {
        auth: Some(AuthFunction {
            id: "onAuth".into(),
            admits_failures,
        }),
        ..Settings::default()
    }
}

fn next_request(lone: &mut LoneWorker) -> AuthRequest {
    match lone.next() {
        ToEngine::Auth(request) => request,
        other => panic!("no upgrade but {}", name(&other)),
    }
}

fn status(stream: &mut TcpStream) -> u16 {
    let head = raw::read_head(stream);
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn admitted(context: Option<&str>) -> AuthVerdict {
    AuthVerdict::Admitted(context.map(Arc::from))
}

#[test]
fn the_function_is_sent_the_head_and_the_upgrade_waits_for_its_word() {
    let mut lone = LoneWorker::with(Hooks::default(), asking(false));
    for (verdict, wanted) in [
        (admitted(None), 101),
        (admitted(Some("[1]")), 101),
        (AuthVerdict::Unauthorized("no".into()), 401),
        (AuthVerdict::Unavailable("away".into()), 503),
    ] {
        let mut stream = lone.request("/streams/?t=1", "authorization: Bearer x\r\n");
        let request = next_request(&mut lone);
        let input: Value = serde_json::from_str(&request.input).unwrap();
        assert_eq!(input["addr"], stream.local_addr().unwrap().to_string());
        assert_eq!(input["path"], "/streams/");
        assert_eq!(input["query_params"], json!({"t": ["1"]}));
        assert_eq!(input["headers"]["authorization"], "Bearer x");
        lone.tell(ToWorker::Authenticated(request.connection, verdict));
        assert_eq!(status(&mut stream), wanted);
    }
    let metrics = &lone.shared.workers[0];
    assert_eq!(metrics.auth_unauthorized.get(), 1);
    assert_eq!(metrics.auth_unavailable.get(), 1);
}

#[test]
fn frames_behind_the_head_are_served_after_the_101_and_bear_the_context() {
    let mut hooks = Hooks::default();
    hooks.joins.all = true;
    hooks.leaves.all = true;
    let mut lone = LoneWorker::with(hooks, asking(false));
    let mut stream = lone.request("/", "");
    let request = next_request(&mut lone);
    // What comes while the function is asked is read when it has answered.
    stream
        .write_all(&raw::text(
            r#"{"type":"join","data":{"subscriptionId":"a","streamName":"s","groupId":"g"}}"#,
        ))
        .unwrap();
    let context = r#"{"userId":"u7"}"#;
    lone.tell(ToWorker::Authenticated(
        request.connection,
        admitted(Some(context)),
    ));
    let ToEngine::Join(join) = lone.next() else {
        panic!("no join");
    };
    assert_eq!(join.presence.context.as_deref(), Some(context));
    lone.tell(ToWorker::JoinDecided(join, true));
    assert_eq!(status(&mut stream), 101);
    let mut client = Subscriber::upgraded(stream);
    client.sync();
    client.leave("unknown");
    assert_eq!(lone.take_leaves(1)[0].context.as_deref(), Some(context));
    drop(client);
    assert_eq!(lone.take_leaves(1)[0].context.as_deref(), Some(context));

    // In one segment with the head.
    let mut stream = raw::connect(lone.stream);
    let mut bytes = raw::upgrade_request("/stream/s/h", "").into_bytes();
    bytes.extend(raw::text(
        r#"{"type":"join","data":{"subscriptionId":"a","streamName":"s","groupId":"g"}}"#,
    ));
    stream.write_all(&bytes).unwrap();
    let request = next_request(&mut lone);
    lone.tell(ToWorker::Authenticated(request.connection, admitted(None)));
    let groups = [(); 2].map(|()| match lone.next() {
        ToEngine::Join(join) => join.presence.key.group().to_owned(),
        other => panic!("no join but {}", name(&other)),
    });
    assert_eq!(groups, ["h", "g"], "the path's join is the first");
}

#[test]
fn no_word_within_the_handshake_s_time_is_503_or_lets_in() {
    for (admits_failures, wanted) in [(false, 503), (true, 101)] {
        let mut settings = asking(admits_failures);
        settings.limits.handshake_ms = 50;
        let mut lone = LoneWorker::with(Hooks::default(), settings);
        let mut stream = lone.request("/", "");
        let request = next_request(&mut lone);
        assert_eq!(status(&mut stream), wanted);
        // A word that comes after all finds nobody.
        lone.tell(ToWorker::Authenticated(
            request.connection,
            AuthVerdict::Unauthorized("no".into()),
        ));
        let overdue = lone.shared.workers[0].auth_overdue.get();
        assert_eq!(overdue, u64::from(!admits_failures));
        if admits_failures {
            Subscriber::upgraded(stream).join("a", ("s", "g"));
        }
    }
}

#[test]
fn an_engine_that_takes_no_more_is_503_at_once() {
    let mut settings = asking(false);
    settings.limits.mailbox_len = 1;
    let mut lone = LoneWorker::with(Hooks::default(), settings);
    let _first = lone.request("/", "");
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    while lone.waiting_len() == 0 {
        assert!(std::time::Instant::now() < deadline, "nothing was asked");
        std::thread::yield_now();
    }
    let mut second = lone.request("/", "");
    assert_eq!(status(&mut second), 503);
    assert_eq!(lone.shared.workers[0].auth_unasked.get(), 1);
    let _ = next_request(&mut lone);
}

#[test]
fn a_client_that_goes_away_while_it_is_asked_about_leaves_nothing() {
    let mut lone = LoneWorker::with(Hooks::default(), asking(false));
    let stream = lone.request("/", "");
    let request = next_request(&mut lone);
    drop(stream);
    wait_until("the socket ends", || lone.shared.connections_len() == 0);
    lone.tell(ToWorker::Authenticated(request.connection, admitted(None)));
    let mut next = lone.request("/", "");
    let request = next_request(&mut lone);
    lone.tell(ToWorker::Authenticated(request.connection, admitted(None)));
    assert_eq!(status(&mut next), 101);
}

#[test]
fn pages_from_elsewhere_are_refused_before_anybody_is_asked() {
    let mut settings = asking(false);
    settings.allowed_origins = vec![
        "https://app.example".parse().unwrap(),
        "*.test".parse().unwrap(),
    ];
    let mut lone = LoneWorker::with(Hooks::default(), settings);
    for origin in ["https://evil.example", "null", "http://app.example"] {
        let mut stream = lone.request("/", &format!("Origin: {origin}\r\n"));
        assert_eq!(status(&mut stream), 403, "{origin}");
    }
    assert_eq!(lone.shared.workers[0].origins_refused.get(), 3);
    for header in [
        "",
        "origin: HTTPS://APP.example\r\n",
        "Origin: http://a.test:81\r\n",
    ] {
        let mut stream = lone.request("/", header);
        let request = next_request(&mut lone);
        lone.tell(ToWorker::Authenticated(request.connection, admitted(None)));
        assert_eq!(status(&mut stream), 101, "{header}");
    }
}
