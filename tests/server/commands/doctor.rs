//! `doctor`: what it finds bad, of the machine and of a Redis, and that it changes nothing.

use std::process::Command;

use serde_json::{Value, json};

use super::run;
use crate::support::process::{Directory, PROGRAM, config};
use crate::support::redis::RedisServer;

#[test]
fn doctor_says_what_is_bad_and_changes_nothing() {
    let file = config(
        "adapter: {name: kv, config: {store_method: file_based, file_path: ./data}}",
        "",
    );
    let directory = Directory::new("doctor").with_file(&file);
    let doctor = |directory: &Directory, ulimit: &str| {
        let line = format!("{ulimit} exec {PROGRAM} doctor --json");
        let mut command = directory.command(&[]);
        command = {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &line])
                .current_dir(command.get_current_dir().unwrap());
            shell.env_remove("III_URL");
            shell
        };
        let (code, out, error) = run(&mut command);
        assert_eq!((&*error, out.lines().count()), ("", 1));
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let states = |found: &Value, name: &str| -> Vec<String> {
        let checks = found["checks"].as_array().unwrap().iter();
        let named = checks.filter(|check| check["name"] == name);
        named
            .map(|check| check["state"].as_str().unwrap().to_owned())
            .collect()
    };
    let (code, found) = doctor(&directory, "");
    assert_eq!(found["ok"], code == 0);
    for name in [
        "settings",
        "open files",
        "writes",
        "backlog",
        "lost connections",
        "ports",
        "tcp memory",
        "cores",
        "quota",
        "shared cores",
        "stolen time",
        "memory",
        "killed for memory",
        "disk",
        "disk room",
        "fsync",
        "clock source",
        "clock steps",
    ] {
        assert!(!states(&found, name).is_empty(), "{name} is in {found}");
    }
    for check in found["checks"].as_array().unwrap() {
        let is_wrong = check["state"] == "warning" || check["state"] == "bad";
        for key in ["means", "do"] {
            assert_eq!(check[key] != "", is_wrong, "{check}");
        }
    }
    let (code, found) = doctor(&directory, "ulimit -n 256 &&");
    assert_eq!(
        (code, states(&found, "open files")),
        (1, vec!["bad".to_owned()])
    );
    let left: Vec<_> = std::fs::read_dir(&directory.0).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let faulty = Directory::new("doctor-faulty")
        .with_file("workers:\n- {name: iii-stream, config: {prot: 1}}\n");
    let (code, found) = doctor(&faulty, "");
    assert_eq!((code, &found["ok"]), (1, &json!(false)));
    assert!(
        states(&found, "settings").contains(&"bad".to_owned()),
        "{found}"
    );
    let (code, out, error) = run(&mut faulty.command(&["doctor"]));
    assert_eq!((code, &*error), (1, ""));
    assert!(
        out.starts_with("bad      settings") && out.contains(" ok\n"),
        "{out}"
    );
}

#[test]
fn doctor_asks_redis_and_shows_no_login() {
    let redis = RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]);
    redis.ask::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let file = |url: &str| {
        config(
            &format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}"),
            "",
        )
    };
    let look = |url: &str| {
        let directory = Directory::new("doctor-redis").with_file(&file(url));
        let (code, out, error) = run(&mut directory.command(&["doctor", "--json"]));
        assert!(!out.contains("s3cret") && error.is_empty(), "{out}{error}");
        let found: Value = serde_json::from_str(&out).unwrap();
        let checks = found["checks"].as_array().unwrap().iter();
        let redis = checks.filter(|check| check["name"].as_str().unwrap().starts_with("redis"));
        (code, redis.cloned().collect::<Vec<_>>())
    };
    let url = redis.url().replace("redis://", "redis://:s3cret@");
    let (_, checks) = look(&url);
    let state = |name: &str| {
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("redis"), "ok");
    assert_eq!(state("redis memory"), "warning");
    assert_eq!(state("redis channel"), "ok");
    assert_eq!(state("redis clock"), "ok");
    for url in [
        url.replace("s3cret@", "s3cret-not@"),
        "redis://:s3cret@127.0.0.1:1".to_owned(),
    ] {
        let (code, checks) = look(&url);
        assert_eq!(
            (code, &checks[0]["state"]),
            (1, &json!("bad")),
            "{checks:?}"
        );
    }
}
