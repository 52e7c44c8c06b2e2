//! Every scenario, for a second, against this repository's server: all checks hold, the report is
//! written, and its plots are drawn.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use iii_stream::config::{Config, Endpoint, Threads};
use iii_stream::server::{Options, Server};
use serde_json::Value;

fn server() -> Server {
    server_with(|_| {})
}

fn server_with(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config {
        stream: Endpoint::new("127.0.0.1", 0),
        worker_listeners: vec![Endpoint::new("127.0.0.1", 0).into()],
        threads: Threads::Count(2),
        drain_ms: 100,
        ..Config::default()
    };
    change(&mut config);
    Server::start(&config, Options::default()).unwrap()
}

fn urls(server: &Server) -> [String; 2] {
    [server.worker_addresses()[0], server.stream_address()].map(|address| format!("ws://{address}"))
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("smoke-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What it says when all goes well.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{command:?}: {told}");
    told
}

/// What is said, the report, and the folder of the plots.
fn loadtest(scenario: &str, server: &Server, more: &[&str]) -> (String, Value, PathBuf) {
    let [engine, stream] = urls(server);
    let folder = folder(&scenario.replace(' ', "-"));
    let json = folder.join("report.json");
    let told = succeed(
        Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(scenario.split(' '))
            .args(["--engine", &engine, "--stream", &stream])
            .args(["--seconds", "1", "--warmup", "0.2"])
            .args(["--pid", &std::process::id().to_string()])
            .arg("--json")
            .arg(&json)
            .arg("--plots")
            .arg(&folder)
            .args(more),
    );
    let report = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    (told, report, folder)
}

#[test]
fn members_that_the_server_keeps_are_the_persons_with_a_socket() {
    use iii_stream::protocol::members::IdPath;
    use iii_stream::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
    use iii_stream::protocol::ttl::Ttl;
    let rule = StreamRule {
        streams: StreamPattern::read("load").unwrap(),
        ttl: Ttl::NEVER,
        pace: iii_stream::protocol::pace::Pace::NONE,
        members: Some(MembersRule {
            id: IdPath::read("query.user").unwrap(),
            data: None,
            grace_ms: 1000,
            restart_grace_ms: MembersRule::RESTART_GRACE_MS,
        }),
    };
    let server = server_with(|config| config.streams = StreamRules::new(vec![rule]));
    let scenario =
        "presence --members-by-server --grace 1 --members 60 --rooms 6 --leaves 30 --away 0.3";
    let (_, report, _) = loadtest(scenario, &server, &[]);
    assert!(report.to_string().contains("changes_expected"), "{report}");
    server.drain();
}

#[test]
fn every_scenario_passes_on_our_server() {
    let server = server();
    let scenarios = [
        ("fanout --subscribers 100 --groups 3", "deliveries"),
        (
            "fanout --rate 200 --subscribers 20 --threads 2",
            "deliveries",
        ),
        (
            "fanout --subscribers 2 --groups 100 --connections 10 --bytes 64",
            "deliveries",
        ),
        (
            "fanout --subscribers 5 --in-flight 2 --bytes 262144",
            "deliveries",
        ),
        (
            "presence --members 200 --rooms 20 --leaves 50",
            "deliveries",
        ),
        ("presence --members 60 --rooms 3 --threads 2", "deliveries"),
        ("connect --members 50 --rooms 5", "connections"),
        ("connect --members 50 --rooms 5 --rate 100", "connections"),
        ("idle --members 500 --rooms 50", "deliveries_in_all"),
        ("storm --members 200 --rooms 10 --every 0.4", "storms"),
    ];
    for (scenario, counted) in scenarios {
        let (_, report, folder) = loadtest(scenario, &server, &[]);
        assert!(folder.join("percentiles.svg").exists(), "{scenario}");
        assert_eq!(report["clean"], true, "{scenario}");
        assert!(report[counted].as_u64() > Some(0), "{scenario}: {report}");
    }
    server.drain();
}

#[test]
fn subscribers_with_a_pace_end_on_the_last_values_and_what_they_were_not_sent_is_merged() {
    let server = server();
    for (scenario, sets) in [
        (
            "fanout --rate 400 --subscribers 20 --groups 2 --pace-ms 50 --threads 2",
            400,
        ),
        (
            "fanout --in-flight 16 --subscribers 3 --groups 4 --connections 3 --pace-ms 20",
            200,
        ),
    ] {
        let (told, report, _) = loadtest(scenario, &server, &[]);
        assert_eq!(report["clean"], true, "{told}");
        let count = |key: &str| report[key].as_u64().unwrap();
        assert!(count("merged") > count("deliveries"), "{told}");
        assert!(count("sets_in_all") >= sets, "{told}");
        // In the second of the window each has one write of each group a pace, and the first one.
        let subscribers =
            report["subscribers"].as_u64().unwrap() * report["groups"].as_u64().unwrap();
        let at_most = subscribers * (1000 / report["pace_ms"].as_u64().unwrap() + 2);
        assert!(count("deliveries") <= at_most, "{told}");
        assert!(
            report["latency_us"]["p99"].as_u64() < Some(200_000),
            "{told}"
        );
    }
    server.drain();
}

#[test]
fn two_servers_take_turns() {
    let (first, second) = (server(), server());
    let [engine, stream] = urls(&second);
    let (told, report, _) = loadtest(
        "fanout --subscribers 50 --rounds 2",
        &first,
        &["--against", &engine, &stream, "--names", "first", "second"],
    );
    assert_eq!(report["rounds"], 2);
    let keys: Vec<&str> = report["comparison"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|compared| compared["key"].as_str())
        .collect();
    assert!(keys.contains(&"deliveries_per_second") && keys.contains(&"latency_us_p99"));
    assert!(
        told.contains("A first against B second, 2 rounds in turn"),
        "{told}"
    );
    first.drain();
    second.drain();
}

#[test]
fn a_sweep_is_one_table_and_its_files_make_one_plot() {
    let server = server();
    let sweep = "fanout --sweep groups=1,20 --subscribers 3 --connections 6";
    let (told, report, folder) = loadtest(sweep, &server, &[]);
    assert_eq!(report["sweep"], "groups");
    assert_eq!(report["values"], serde_json::json!([1, 20]));
    assert_eq!(report["points"][1]["connections"], 6);
    assert_eq!(told.matches("held").count(), 2, "{told}");
    assert!(folder.join("groups-cost.svg").exists());
    let file = folder.join("report.json");
    let both = folder.join("both");
    succeed(
        Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .arg("plot")
            .arg(&both)
            .args(["ours", "theirs"].map(|name| format!("{name}={}", file.display()))),
    );
    let chart = fs::read_to_string(both.join("groups-latency.svg")).unwrap();
    assert!(chart.contains("p99, ours") && chart.contains("p99, theirs"));
    server.drain();
}
