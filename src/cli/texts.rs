//! What the help says beside what clap knows: examples, and what each exit code means.

pub(super) const EXAMPLES: &str = "\
Examples:
  iii-stream                       serve ./config.yaml if it is there, else the defaults
  iii-stream -c config.yaml        serve an engine's whole config.yaml
  iii-stream --engine ws://127.0.0.1:49134
                                   serve the streams of a running engine, as its worker
  iii-stream check -c config.yaml  show every setting and where it came from; serve nothing
  iii-stream check --json | jq .settings
  iii-stream inspect ./data/stream_store
                                   what is kept there: groups, items, sizes, damage
  iii-stream doctor                whether this machine suits the settings, and what to do
  iii-stream watch chat room-1     what a subscriber of that group is told, a line each
  iii-stream top                   rates, times, hottest groups, slowest sockets and why
  iii-stream call engine::functions::list
                                   one call, as an SDK makes it
  iii-stream help durability       a page about one topic; iii-stream help lists them

Ports (defaults):
  3112   stream port: subscribers connect with a WebSocket, ws://127.0.0.1:3112/
  9464   admin port, on 127.0.0.1: /health, /ready, /metrics, /admin/…; server.admin
  49134  worker port: SDK workers connect, ws://127.0.0.1:49134; not when there is an engine

Settings:
  In the file, under the entry `name: iii-stream`: `config` holds what an iii engine reads too
  (port, host, auth_function, adapter), `server` what is ours (engine, threads, pin, place_below,
  io, backlog, auth_failure, auth_timeout_ms, join_required, join_failure, streams, allowed_origins,
  worker_origins, trusted_proxies, tls, worker_tls, acme_webroot, acme_port, call_timeout_ms,
  drain_ms, log, ping_interval_ms, pong_timeout_ms, stall_timeout_ms, redis, limits).
  `iii-stream check` lists them all.
  ${NAME:default} in the file is filled in from the environment.

Variables, as an engine gives them; a flag wins over each:
  III_STREAM_CONFIG, III_CONFIG    stand for --config; the second names one worker's config
  III_URL, III_ENGINE_URL          stand for --engine, unless a whole file says what to serve
  III_WORKER_NAME, III_NAMESPACE   how the engine is to list this server

Log:
  On stderr. RUST_LOG=debug shows who connects, joins, leaves, registers and is refused;
  RUST_LOG=warn only what is wrong; it wins over server.log.level. Lines that nobody reads in time are lost and counted.

Signals:
  SIGTERM, SIGINT: close all sockets and end; a second one ends at once. SIGHUP: read the settings
  again, as `iii-stream reload` does. SIGUSR1, SIGUSR2: passed over.

Exit codes:
  0   stopped by SIGTERM or SIGINT; check found no fault; the command did its work
  1   the start failed, each fault one line on stderr; check or doctor found a fault, inspect or
      recover damage; call got an error; nothing listens where call, watch or health looked
  2   wrong arguments
  70  something broke while serving; start it again";

pub(super) const INSPECT: &str = "\
Examples:
  iii-stream inspect ./data/stream_store
  iii-stream inspect ./data/stream_store --json | jq .items

Exit codes: 0 a server would start on it, 1 it would not, or there is nothing";

pub(super) const EXPORT: &str = "\
Examples:
  iii-stream export --reference ./data/engine_store
  iii-stream export --reference /tmp/out --data ./data/stream_store --skip

Then name the directory in the engine's config: adapter: {name: kv, config: {store_method:
file_based, file_path: ./data/engine_store}}. An engine cannot keep: stream and group names of more
than 235 bytes together, escaped; two groups whose names joined by a colon are equal; values deeper
than 126, numbers beyond a double.

Exit codes: 0 written, 1 not: nothing was written, each reason is one line";

pub(super) const RECOVER: &str = "\
Examples:
  iii-stream recover --data ./data/stream_store        what would be saved, and what is lost
  iii-stream recover --data ./data/stream_store --yes  do it; then start the server

What is moved aside ends in .damaged (our files), .other (files of another store) or .refused (files
of an engine). It also says which writes are missing: items that they changed are older then.

Exit codes: 0 nothing is damaged, or it was recovered; 1 damaged and left as it is";

pub(super) const CALL: &str = "\
Examples:
  iii-stream call stream::set '{\"stream_name\":\"chat\",\"group_id\":\"room-1\",\"item_id\":\"ada\",\"data\":{\"n\":1}}'
  iii-stream call stream::list '{\"stream_name\":\"chat\",\"group_id\":\"room-1\"}' | jq .
  iii-stream call my::function - < input.json
  iii-stream call --engine wss://engine.example/ -H 'Authorization: Bearer …' my::function

The result is one line of JSON on stdout, an error one line on stderr.

Exit codes: 0 there is a result, 1 an error, no answer in time, or nothing listens there, 2 wrong
arguments, or what the function is to get is no JSON";

pub(super) const WATCH: &str = "\
Examples:
  iii-stream watch chat room-1                  sync, create, update, delete, event
  iii-stream watch chat room-1 ada              one item
  iii-stream watch chat                         changes in all groups, without a sync
  iii-stream watch chat room-1 --json | jq .event
  iii-stream watch chat room-1 --count 1        what is there now

Names and values are escaped, so that none breaks a line or a terminal. A server that goes is tried
again, 0.2 to 5 s apart, and stderr says so. A whole stream is heard through the worker port, by a
`stream` trigger; a group and an item on the stream port.

Exit codes: 0 ended by Ctrl-C, SIGTERM, --count or a reader that is gone, 1 nothing listens there or
the subscription is refused, 2 wrong arguments";

pub(super) const HEALTH: &str = "\
Examples:
  iii-stream health
  iii-stream health --stream ws://127.0.0.1:3112
  HEALTHCHECK CMD [\"iii-stream\", \"health\"]        in a Dockerfile

It asks for /health on the stream port, as a load balancer may.

Exit codes: 0 it answers, 1 it does not, or not in time, 2 wrong arguments";

pub(super) const TOP: &str = "\
Examples:
  iii-stream top
  iii-stream top --once --sockets behind -n 3
  iii-stream top --once --json | jq .sockets.sockets[0].why
  iii-stream top --admin http://127.0.0.1:9464

It asks the admin port (server.admin). Ctrl-C ends it.

Exit codes: 0 looked, 1 nothing listens there, or not for you, 2 wrong arguments";

pub(super) const DOCTOR: &str = "\
Looked at: the settings; open files; backlog and connections that it has lost; ports; memory of TCP
and of this process; cores, quota, neighbours; clock; the disk of the file store (a small file is
written, synced and removed); Redis. Nothing is changed.

Each line begins with ok, warning (may hurt), bad (will hurt) or unknown (could not be looked at).
Run it as the user, and under the limits, of the server: as a unit of systemd, or in its container.

Examples:
  iii-stream doctor -c config.yaml
  iii-stream doctor --json | jq '.checks[] | select(.state != \"ok\")'

Exit codes: 0 nothing is bad, 1 something is, 2 wrong arguments";

pub(super) const PRINT: &str = "\
Examples:
  iii-stream print config > /etc/iii-stream/config.yaml
  iii-stream print systemd > /etc/systemd/system/iii-stream.service
  iii-stream print nginx > /etc/nginx/conf.d/iii-stream.conf

The first lines of each say where it goes and what else it needs.";

pub(super) const RELOAD: &str = "\
Examples:
  iii-stream reload
  iii-stream reload --pid $MAINPID        ExecReload= of a unit of systemd

SIGHUP does the same, and the log tells. What takes effect: limits (but for those of mailboxes),
allowed_origins, worker_origins, trusted_proxies, auth_failure, auth_timeout_ms, join_required,
join_failure, ping_interval_ms, pong_timeout_ms, stall_timeout_ms, log.level. Anything else is named
and waits for the next start. A file with a fault changes nothing. The server is found by a Unix
socket without a file, and answers its own user and root.

Exit codes: 0 what can take effect does, 1 a fault, and nothing is changed, or no server was found, 2
wrong arguments";
