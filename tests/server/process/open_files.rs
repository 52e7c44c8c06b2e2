//! A process that may open few files.

use super::*;

#[test]
fn small_limits_of_open_files_are_used_and_said() {
    let process = start_as("few-files", "threads: 2, drain_ms: 500", "", |directory| {
        command_with_files(&directory.0, 256)
    });
    let said = process.log.borrow().join("\n");
    let line = "WARN open files 256: 181 subscribers at most, limits.connections is 1000000; 96 sockets on the \
                worker port at most, limits.worker_connections is 10000; LimitNOFILE=";
    assert!(said.contains(line), "{said}");
    let mut held: Vec<Socket> = (0..181).map(|_| subscriber(&process)).collect();
    let mut one_more = raw::connect(process.stream);
    one_more
        .write_all(raw::upgrade_request("/", "").as_bytes())
        .unwrap();
    assert!(raw::read_head(&mut one_more).starts_with("HTTP/1.1 503 "));
    assert!(held.pop().unwrap().send(Message::Ping("".into())).is_ok());
}

/// Where the kernel's table of a process's files grows, the thread that has opened the file too many stands still.
#[test]
fn there_is_room_for_all_files_before_the_first_socket_comes() {
    let process = start_as("file-table", "threads: 2, drain_ms: 500", "", |directory| {
        command_with_files(&directory.0, 8192)
    });
    let path = format!("/proc/{}/status", process.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let mut lines = status.lines();
    let room = lines.find_map(|line| line.strip_prefix("FDSize:"));
    assert!(room.unwrap().trim().parse::<u32>().unwrap() >= 8192);
}

/// Sockets that say nothing take no file that the store needs.
#[test]
fn idle_connections_leave_the_store_its_files() {
    let adapter = "adapter: {name: kv, config: {store_method: file_based, file_path: ./store, segment_bytes: 1MiB}}";
    let process = start_as(
        "idle-files",
        "threads: 2, drain_ms: 500",
        adapter,
        |directory| command_with_files(&directory.0, 256),
    );
    let mut sdk = sdk(&process);
    let silent: Vec<_> = (0..300)
        .map(|n| match n % 2 {
            0 => raw::connect(process.stream),
            _ => raw::connect(process.worker),
        })
        .collect();
    process.line_with("sockets are open, and the last files are kept");
    let value = "x".repeat(64 * 1024);
    for n in 0..100 {
        let id = format!("00000000-0000-4000-8000-{n:012}");
        let input =
            json!({"stream_name": "s", "group_id": "g", "item_id": n.to_string(), "data": value});
        let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set", "data": input});
        sdk.send(Message::text(call.to_string())).unwrap();
        let answer = sdk.read().unwrap().into_text().unwrap();
        assert!(answer.as_str().contains("new_value"), "{answer}");
    }
    let segments = std::fs::read_dir(process.directory.as_ref().unwrap().0.join("store")).unwrap();
    assert!(segments.count() > 5, "many were opened meanwhile");
    drop(silent);
}

/// The time that the process has had of the cores, in ms.
fn cpu_ms(process: &Process) -> u64 {
    let path = format!("/proc/{}/stat", process.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

#[test]
fn without_a_file_for_a_socket_those_inside_go_on_and_others_come_in_once_there_is_room() {
    let process = start_as("no-files", "threads: 2, drain_ms: 500", "", |directory| {
        command_with_files(&directory.0, 128)
    });
    let mut sdk = sdk(&process);
    let mut inside: Vec<Socket> = (0..20).map(|_| subscriber(&process)).collect();
    for _ in 0..2 {
        // Silent ones take what is left, and more wait.
        let silent: Vec<_> = (0..200).map(|_| raw::connect(process.stream)).collect();
        let waiting: Vec<_> = (0..20).map(|_| raw::connect(process.worker)).collect();
        wait_until("it is said", || process.says("cannot accept"));
        let (before, since) = (cpu_ms(&process), std::time::Instant::now());
        while since.elapsed() < std::time::Duration::from_secs(1) {
            for socket in &mut inside {
                socket.send(Message::Ping("p".into())).unwrap();
                assert_eq!(socket.read().unwrap(), Message::Pong("p".into()));
            }
            sdk.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
            sdk.read().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let spent = cpu_ms(&process) - before;
        assert!(spent < 300, "{spent} ms of a second: it spins");
        // All leave at once.
        drop((silent, waiting));
        inside.clear();
        let since = std::time::Instant::now();
        inside.extend((0..20).map(|_| subscriber(&process)));
        let took = since.elapsed();
        assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    }
    process.says("");
    let log = process.log.borrow();
    let said = log.iter().filter(|line| line.contains("cannot accept"));
    assert_eq!(said.count(), 1, "{log:#?}");
}
