//! The page about metrics: the paths and families of the admin port, and the rules and the dashboard that ask
//! for them.

use serde_json::{Value, json};

use super::desk::Desk;
use super::{Section, commands, page};

#[test]
fn the_admin_port_answers_as_the_page_about_metrics_says() {
    let desk = Desk::with_defaults("metrics-page");
    let server = desk.start("iii-stream");
    let mut section = Section::of("metrics.md", "The admin port");
    let lines = commands(&section.next("sh"));
    section.end();
    for line in &lines {
        let told = desk.run(&line.replace("curl -s", "curl -sSf"));
        assert!(told.len() > 2, "{line}: {told}");
    }
    // The paths of the table, with a group that is there.
    server.sdk().set(("STREAM", "GROUP"), "i", json!(1));
    let text = page("metrics.md");
    let paths = text.lines().filter_map(|line| line.strip_prefix("| `/"));
    for path in paths.map(|line| line.split('`').next().unwrap()) {
        desk.run(&format!("curl -sSf 'http://127.0.0.1:9464/{path}'"));
    }
    for path in ["health", "ready"] {
        desk.run(&format!("curl -sSf http://127.0.0.1:3112/{path}"));
    }
    // The families, neither more nor fewer.
    let told = desk.run("curl -sSf http://127.0.0.1:9464/metrics");
    let types = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE iii_stream_"));
    let mut there: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let table = text.split_once("| about | families |").unwrap().1;
    let table = table.split_once("\n\n").unwrap().0;
    let labels = ["reason", "code", "function", "outcome", "port"];
    let names = table.split('`').skip(1).step_by(2);
    let mut named: Vec<&str> = names.filter(|name| !labels.contains(name)).collect();
    there.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, there);
    server.stop();
}

/// Families that are there where a port is under TLS.
const ONLY_UNDER_TLS: [&str; 2] = ["certificate_not_after_seconds", "tls_refused_total"];

#[test]
fn the_rules_and_the_dashboard_ask_for_what_there_is() {
    let desk = Desk::with_defaults("dashboard");
    let server = desk.start("iii-stream");
    let told = desk.run("curl -sSf http://127.0.0.1:9464/metrics");
    let types = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE iii_stream_"));
    let there: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let mut section = Section::of("metrics.md", "Prometheus and Grafana");
    let scrape = section.next("yaml");
    for line in commands(&section.next("sh")) {
        desk.run(&line);
    }
    section.end();
    desk.save("prometheus.yml", &scrape.text);
    let read = |name: &str| std::fs::read_to_string(desk.directory.0.join(name)).unwrap();
    let rules = read("iii-stream.rules.yml");
    let board: Value = serde_json::from_str(&read("iii-stream.json")).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let queries: Vec<Value> = targets.map(|target| target["expr"].clone()).collect();
    assert!(queries.len() > 40 && rules.matches("- alert: ").count() > 10);
    for text in queries
        .iter()
        .map(|query| query.as_str().unwrap())
        .chain([&*rules])
    {
        for rest in text.split("iii_stream_").skip(1) {
            let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
            let name = rest.split(|char| !is_name(char)).next().unwrap();
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            let is_there = there.contains(&name) || ONLY_UNDER_TLS.contains(&name);
            assert!(is_there, "{name}: {text}");
        }
    }
    // What Prometheus says of both files, where it is there to ask.
    if desk
        .shell("command -v promtool")
        .output()
        .unwrap()
        .status
        .success()
    {
        desk.run("promtool check config prometheus.yml");
    }
    server.stop();
}
