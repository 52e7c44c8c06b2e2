//! Starts on a Redis: what ends one and with which line, and what it reads before it serves.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use redis::Commands;
use serde_json::json;

use super::{KEY, ROOM, WIDE, follower, fresh_sync};
use crate::support::process::{Directory, config, outcome};
use crate::support::redis::RedisServer;
use crate::support::{ONE_WORKER, SdkWorker, TestServer};

#[test]
fn a_start_names_what_the_redis_user_may_not() {
    let redis = RedisServer::start();
    for (less, named) in [
        (&["-hset"][..], "HSET stream:a:b"),
        (&["-hdel"], "HDEL stream:a:b"),
        (&["-hscan"], "HSCAN iii-stream:groups"),
        (&["-scan"], "SCAN 0"),
        (&["-multi"], "MULTI"),
        (&["-time"], "TIME"),
        (&["-publish"], "PUBLISH stream::events"),
        (&["resetkeys", "~stream:*"], "HSET iii-stream:groups"),
        (&["resetkeys", "~iii-stream:*"], "HSET stream:a:b"),
        (&["resetkeys", "%R~*"], "HSET stream:a:b"),
        (&["resetchannels", "&iii-stream:*"], "stream::events"),
        (&["resetchannels", "&stream::events"], "iii-stream:cut:"),
        (&["-hgetall"], "HGETALL stream:a:b"),
        (&["-hvals"], "HVALS stream:a:b"),
        (&["-evalsha"], "evalsha"),
        (&["-script"], "script"),
        (&["-subscribe"], "subscribe"),
    ] {
        let url = redis.url_of_user(less);
        let (code, line) = start_on(&url, ", redis: {connect_timeout_ms: 600}");
        assert_eq!(code, Some(1), "{less:?}: {line}");
        assert!(line.contains(named), "{less:?}: {line}");
        assert!(
            line.contains("may not") || line.contains("no permissions"),
            "{less:?}: {line}"
        );
    }
}

#[test]
fn a_start_reads_the_names_of_many_groups_while_it_serves() {
    let redis = RedisServer::with(&["--enable-debug-command", "yes"]);
    let _: () = redis.ask(&["DEBUG", "POPULATE", "400000", "foreign", "1"]);
    let mut connection = redis.connection();
    let mut pipeline = redis::pipe();
    for n in 0..20_000 {
        pipeline.hset(format!("stream:many:{n}"), "i", "1").ignore();
        let names = format!(r#"["many","{n}"]"#);
        pipeline
            .hset("iii-stream:groups", format!("stream:many:{n}"), names)
            .ignore();
    }
    let _: () = pipeline.query(&mut connection).unwrap();
    let mut store = iii_stream::config::RedisStore::at(&redis.url()).unwrap();
    // All that there is to be read takes longer.
    store.connect_timeout = Duration::from_millis(150);
    let server = TestServer::with(WIDE, |config| {
        config.store = iii_stream::config::StoreConfig::Redis(store);
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!(1));
    assert_eq!(sdk.get(("many", "7"), "i"), Some(json!(1)));
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "many"}));
    assert_eq!(listed["result"].as_array().map(Vec::len), Some(20_000));
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
    assert_eq!(listed["result"], json!(["room:1"]));
    let mut subscriber = follower(&server);
    let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(fresh_sync(&mut subscriber).data, json!([1]));
    sdk.delete(ROOM, "i");
    let listed = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
    assert_eq!(
        listed["result"],
        json!([]),
        "what was heard meanwhile counts more"
    );
}

/// Starts the program in vain. Its exit code and what it said.
fn start_on(url: &str, extra: &str) -> (Option<i32>, String) {
    let adapter = format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}");
    let file = config(&adapter, &format!("threads: 1{extra}"));
    let directory = Directory::new("redis-start").with_file(&file);
    outcome(directory.command(&[]).output().unwrap())
}

#[test]
fn a_start_without_redis_ends_in_time_with_a_line_that_hides_the_password() {
    let (code, line) = start_on(
        "redis://me:secret@127.0.0.1:1/3",
        ", redis: {connect_timeout_ms: 600}",
    );
    assert_eq!(code, Some(1));
    assert_eq!(
        line.lines().last(),
        Some(
            "redis://***@127.0.0.1:1/3: connection refused, given up after 600 ms; does Redis run there, \
             and is this its address?"
        )
    );
    assert!(!line.contains("secret"), "{line}");
    let redis = RedisServer::start();
    let _: () = redis.ask(&["CONFIG", "SET", "requirepass", "right"]);
    let url = redis.url().replace("://", "://:wrong-secret@");
    let (code, line) = start_on(&url, ", redis: {connect_timeout_ms: 600}");
    assert_eq!(code, Some(1));
    assert!(
        line.contains("WRONGPASS") && !line.contains("secret"),
        "{line}"
    );
}

#[test]
fn a_cluster_is_refused_at_start() {
    let redis = RedisServer::with(&["--cluster-enabled", "yes"]);
    let (code, line) = start_on(&redis.url(), "");
    assert_eq!(code, Some(1));
    assert!(
        line.contains("is a cluster, which is not supported"),
        "{line}"
    );
}

#[test]
fn password_and_database_of_the_url_are_used() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&[
        "ACL",
        "SETUSER",
        "me",
        "on",
        ">p@ss/word",
        "~*",
        "&*",
        "+@all",
    ]);
    let url = redis.url().replace("://", "://me:p%40ss%2Fword@") + "/3";
    let server = TestServer::with(ONE_WORKER, |config| {
        let store = iii_stream::config::RedisStore::at(&url).unwrap();
        config.store = iii_stream::config::StoreConfig::Redis(store);
    });
    SdkWorker::connect(&server).set(ROOM, "i", json!(1));
    let mut connection = redis.connection();
    redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
    let stored: String = connection.hget(KEY, "i").unwrap();
    assert_eq!(stored, "1");
}

#[test]
fn what_is_no_redis_ends_the_start_with_one_line_that_asks_for_the_address() {
    let page = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".as_slice();
    let no_redis = "what answers there is no Redis";
    for (says, cause) in [
        (page, no_redis),
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], no_redis),
        (&b"$99999999999999\r\n"[..], "no answer"),
        (&b""[..], "no answer"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut sockets = Vec::new();
            for mut socket in listener.incoming().flatten() {
                let _ = socket.read(&mut [0; 1024]);
                let _ = socket.write_all(says);
                sockets.push(socket);
            }
        });
        let url = format!("redis://{address}");
        let (code, said) = start_on(&url, ", redis: {connect_timeout_ms: 600}");
        assert_eq!(code, Some(1));
        let expected = format!(
            "redis://{address}: {cause}, given up after 600 ms; does Redis run there, and is this its \
             address?"
        );
        assert_eq!(said.lines().last(), Some(&*expected));
    }
}

#[test]
fn a_redis_that_takes_no_more_clients_is_told_in_its_own_words() {
    let redis = RedisServer::start();
    let mut own = redis.connection();
    redis::cmd("CONFIG")
        .arg(&["SET", "maxclients", "1"])
        .exec(&mut own)
        .unwrap();
    let (code, line) = start_on(&redis.url(), ", redis: {connect_timeout_ms: 600}");
    assert_eq!(code, Some(1));
    assert!(line.contains("max number of clients reached"), "{line}");
}
