//! `iii-stream check`: what it shows, what it warns of, and that a start takes what it takes.

use super::*;

#[test]
fn check_shows_the_limits_that_open_files_leave() {
    let directory = Directory::new("files-checked");
    let outcome = |arguments: &str| {
        let line = format!(
            "ulimit -n 1024 && exec {} {arguments}",
            env!("CARGO_BIN_EXE_iii-stream")
        );
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(&directory.0);
        let output = command.env_remove("III_URL").output().unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (out, error) = outcome("check");
    assert!(error.starts_with("warning: open files 1024: 8"), "{error}");
    let line = out
        .lines()
        .find(|line| line.contains("limits.connections "))
        .unwrap();
    assert!(
        line.contains("= 8") && line.contains("# open files (default: 1000000)"),
        "{line}"
    );
    let (out, _) = outcome("check --json");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let warnings = value["warnings"].as_array().unwrap();
    assert!(
        warnings
            .iter()
            .any(|line| line.as_str().unwrap().starts_with("open files 1024: "))
    );
}

#[test]
fn cores_that_this_machine_does_not_have_are_a_fault_for_check_as_for_the_start() {
    let directory = Directory::new("cores");
    let file = "workers:\n- {name: iii-stream, server: {threads: 1, pin: [4095]}}\n";
    let directory = directory.with_file(file);
    let fault = |arguments: &[&str]| {
        let (code, _, error) = run(&directory, arguments);
        assert_eq!(code, 1, "{error}");
        error.lines().last().unwrap_or_default().to_owned()
    };
    let checked = fault(&["check"]);
    assert!(
        checked.starts_with("server.pin: core 4095 is not there or not allowed"),
        "{checked}"
    );
    assert_eq!(fault(&[]), checked);
    let (_, out, _) = run(&directory, &["check", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["errors"][0], checked);
}

#[test]
fn check_says_what_is_passed_over() {
    let file = "workers:\n- {name: iii-stream, config: {adapter: {name: kv}}}\n- {name: iii-worker-manager, config: {host: 127.0.0.1}}\n";
    let directory = Directory::new("passed-over").with_file(file);
    let mut command = directory.command(&["check"]);
    let (code, _, error) = outcome(command.env("III_URL", "ws://h").output().unwrap());
    let line = "note: III_URL passed over: with config.yaml this server is the engine\n";
    assert_eq!((code, error.as_str()), (0, line));
}

#[test]
fn check_says_which_engine_and_who_named_it() {
    let directory = Directory::new("attach");
    let mut plain = directory.command(&["check"]);
    assert_eq!(
        engine_line(&mut plain),
        "iii-stream.server.engine = null # default"
    );
    let mut by_flag = directory.command(&["check", "--engine", "wss://u:p@flag:1/?token=t"]);
    assert_eq!(
        engine_line(&mut by_flag),
        "iii-stream.server.engine = wss://***@flag:1/?*** # flag"
    );
    for variable in ["III_URL", "III_ENGINE_URL"] {
        let mut by_variable = directory.command(&["check"]);
        by_variable.env(variable, "ws://localhost:49134");
        assert_eq!(
            engine_line(&mut by_variable),
            format!("iii-stream.server.engine = ws://localhost:49134 # variable {variable}")
        );
    }
    let directory = directory.with_file("host: \"${NAME}\"\nadapter: {name: kv}\n");
    let mut bare = directory.command(&["check", "--expand-env"]);
    bare.env("NAME", "h");
    assert_eq!(
        engine_line(&mut bare),
        "iii-stream.server.engine = ws://localhost:49134 # default"
    );
}

#[test]
fn check_warns_where_everybody_is_let_in() {
    let file = "workers:\n- name: iii-stream\n  config: {auth_function: f, adapter: {name: kv}}\n  server: {auth_failure: allow}\n- {name: iii-worker-manager, config: {host: 127.0.0.1}}\n";
    let directory = Directory::new("allow").with_file(file);
    let (code, _, error) = run(&directory, &["check"]);
    assert_eq!(code, 0);
    assert_eq!(
        error,
        "warning: config.yaml: server.auth_failure is allow: everybody is let in when f refuses or fails\n"
    );
}

#[test]
fn all_faults_of_a_file_are_shown() {
    let file =
        "workers:\n- name: iii-stream\n  config: {port: \"1\", prot: 2}\n  server: {thread: 1}\n";
    let directory = Directory::new("faults").with_file(file);
    let (code, out, error) = run(&directory, &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "config.yaml:3:18: workers[0].config.port: \"1\" is a text, expected an integer from 0 to 65535 (remove the quotes)",
            "config.yaml:3:23: workers[0].config.prot: unknown key; did you mean port?",
            "config.yaml:4:12: workers[0].server.thread: unknown key; did you mean threads?",
        ]
    );
    let (code, out, checked) = run(&directory, &["check"]);
    assert_eq!((code, checked), (1, error));
    assert!(
        out.contains("iii-stream.config.host") && !out.ends_with("ok\n"),
        "{out}"
    );
}

#[test]
fn check_shows_each_setting_and_where_it_came_from() {
    let file = "workers:\n- name: iii-stream\n  config: {adapter: {name: kv}}\n  server:\n    limits: {message_bytes: 64KiB, connections: ${COUNT:5}}\n- {name: iii-worker-manager, config: {host: '::1'}}\n";
    let directory = Directory::new("check").with_file(file);
    let output = directory
        .command(&["check", "-c", "config.yaml"])
        .env("COUNT", "7")
        .output();
    let (code, out, error) = outcome(output.unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = out.lines().map(words).collect();
    for line in [
        "iii-stream.config.port = 3112 # default",
        "iii-stream.config.adapter.name = kv # config.yaml:3",
        "iii-stream.server.limits.message_bytes = 65536 # config.yaml:5",
        "iii-stream.server.limits.connections = 7 # variable COUNT",
        "ok",
    ] {
        assert!(
            lines.iter().any(|found| found == line),
            "{line} is in {out}"
        );
    }
}

#[test]
fn check_json_is_one_object_on_one_line() {
    let directory = Directory::new("json");
    let (code, out, _) = run(&directory, &["check", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, out.lines().count()), (0, 1));
    assert_eq!(value["ok"], true);
    assert_eq!(value["settings"][0]["key"], "iii-stream.config.port");
    assert_eq!(value["settings"][0]["value"], 3112);
    assert_eq!(value["settings"][0]["origin"], "default");

    let directory = directory.with_file("workers: 5\n");
    let (code, out, error) = run(&directory, &["check", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, error.as_str()), (1, ""));
    assert_eq!(value["ok"], false);
    assert_eq!(
        value["errors"][0],
        "config.yaml:1:10: workers: 5 is an integer, expected a list"
    );
}

/// What texts of addresses, origins and patterns are made of, and what spoils them.
const PIECES: [&str; 40] = [
    "a",
    "B",
    "x1",
    "example",
    ".com",
    ".",
    "..",
    "-",
    "_",
    "1",
    "127.0.0.1",
    "300.1.1.1",
    "0",
    "[::1]",
    "[",
    "]",
    ":",
    ":80",
    ":0",
    ":65536",
    ":+1",
    "*",
    "*.",
    "/",
    "//",
    "?t=1",
    "#f",
    "@",
    "u:p@",
    " ",
    "%",
    "%41",
    "\u{e9}",
    "\\0",
    "\\n",
    "null",
    "localhost",
    "match(",
    "'",
    ")",
];

/// A text, sound as often as not.
fn text(random: &mut SmallRng, starts: &[&str]) -> String {
    let mut text = starts[random.random_range(0..starts.len())].to_owned();
    for _ in 0..random.random_range(0..5) {
        text += PIECES[random.random_range(0..PIECES.len())];
    }
    text
}

/// What the settings of a whole file, or the faults in it, come to.
fn checked(file: &str) -> Result<Config, String> {
    let bytes = file.as_bytes();
    let reading = config::read(&Sources {
        config: Some("config.yaml".into()),
        engine: None,
        namespace: None,
        expand_env: false,
        default_config: false,
        variable: &|_| None,
        read: &|path| match path == Path::new("config.yaml") {
            true => Ok(bytes.to_vec()),
            false => Err(std::io::ErrorKind::NotFound.into()),
        },
    });
    match reading.faults.first() {
        None => Ok(reading.config),
        Some(fault) => Err(fault.to_string()),
    }
}

/// A setting, what its values begin with, and where it stands in the file.
type Sort = (&'static str, &'static [&'static str], fn(&str) -> String);

/// Every list of origins, patterns and proxies, every address and every path.
const SORTS: [Sort; 9] = [
    (
        "allowed_origins",
        &["https://", "*.", "a://b", "null", "https://example.com."],
        |value| format!("server: {{allowed_origins: [{value}]}}"),
    ),
    (
        "worker_origins",
        &["http://a", "*.b", "x-1://", "*.example.com."],
        |value| format!("server: {{worker_origins: [{value}]}}"),
    ),
    (
        "engine",
        &["ws://", "ws://a", "ws://u:p@b", "ws://127.0.0.1", "ws://a."],
        |value| format!("server: {{engine: {value}}}"),
    ),
    (
        "expose_functions",
        &["match('", "match(", "a::", ""],
        |value| {
            format!(
                "}}\n- {{name: iii-worker-manager, config: {{rbac: {{expose_functions: [{value}]}}}}"
            )
        },
    ),
    ("file_path", &["", "a/", "./", "b"], |value| {
        format!(
            "config: {{adapter: {{name: kv, config: {{store_method: file_based, file_path: {value}}}}}}}"
        )
    }),
    (
        "host",
        &[
            "127.0.0.1",
            "[::1]",
            "::1",
            "localhost",
            "a",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ],
        |value| format!("config: {{host: {value}}}"),
    ),
    (
        "trusted_proxies",
        &["127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "10.0.0.0/"],
        |value| format!("server: {{trusted_proxies: [{value}]}}"),
    ),
    (
        "redis_url",
        &[
            "redis://",
            "redis://a",
            "rediss://a.",
            "redis://:p@127.0.0.1",
            "redis://a/1",
        ],
        |value| format!("config: {{adapter: {{name: redis, config: {{redis_url: {value}}}}}}}"),
    ),
    ("acme_webroot", &["", "a", "/"], |value| {
        format!("server: {{acme_webroot: {value}}}")
    }),
];

/// With ports and paths of this test's own. False: what leaves its directory is not tried.
fn moves_in(config: &mut Config, directory: &Directory) -> bool {
    config.stream = Endpoint::new("127.0.0.1", 0);
    config.threads = config::Threads::Count(1);
    config.drain_ms = 1;
    for listener in &mut config.worker_listeners {
        listener.endpoint = Endpoint::new("127.0.0.1", 0);
    }
    if let Some(acme) = &mut config.acme {
        acme.endpoint = Endpoint::new("127.0.0.1", 0);
    }
    match &mut config.store {
        StoreConfig::Files(files) => {
            let path = files.path.to_string_lossy();
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return false;
            }
            files.path = directory.0.join(&files.path);
        }
        StoreConfig::Redis(redis) => {
            // Nobody answers there.
            (redis.address.host, redis.address.port) = ("127.0.0.1".to_owned(), 1);
            redis.connect_timeout = Duration::from_millis(1);
        }
        StoreConfig::Memory => {}
    }
    true
}

#[test]
fn a_start_takes_all_that_check_takes() {
    let directory = Directory::new("random");
    let mut random = SmallRng::seed_from_u64(15);
    let mut taken = [0; SORTS.len()];
    for _ in 0..4500 {
        let number = random.random_range(0..taken.len());
        let (key, starts, written) = SORTS[number];
        let mut value = text(&mut random, starts);
        if key == "expose_functions" && random.random() {
            value += "*')";
        }
        let setting = written(&format!("\"{value}\""));
        let file = format!("workers:\n- {{name: iii-stream, {setting}}}\n");
        let Ok(mut config) = checked(&file) else {
            continue;
        };
        taken[number] += 1;
        if key == "host" {
            // Whether a name can be looked up is the machine's affair, and which addresses it has.
            let host = &config.stream.host;
            if host.contains(':') || host.parse::<std::net::Ipv4Addr>().is_ok() {
                let addresses = config.stream.addresses().unwrap();
                let bound = std::net::TcpListener::bind((addresses[0].ip(), 0));
                let error = bound.err().map(|error| error.kind());
                let is_elsewhere = error == Some(std::io::ErrorKind::AddrNotAvailable);
                assert!(error.is_none() || is_elsewhere, "{value}: {error:?}");
            }
            continue;
        }
        if taken[number] > 40 || !moves_in(&mut config, &directory) {
            continue;
        }
        match Server::start(&config, Options::default()) {
            Ok(server) => server.drain(),
            Err(StartError::Redis(RedisError::Connect { .. })) => {}
            Err(error) => unreachable!("{file}: {error}"),
        }
    }
    assert!(taken.iter().all(|count| *count > 20), "{taken:?}");
}
