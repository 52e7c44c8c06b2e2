//! A Redis of the test's own: Debian's server on a free port, with a directory of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use iii_stream::config::{Config, RedisStore, StoreConfig};
use redis::{Connection, FromRedisValue, ToRedisArgs};
use rustix::process::{Pid, Signal, kill_process};

use super::{Shape, TestServer, wait_until};

/// One that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// It ends when it is dropped, and its directory with it.
pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
}

impl RedisServer {
    pub(crate) fn start() -> RedisServer {
        RedisServer::with(&[])
    }

    /// With arguments beside those that every one has.
    pub(crate) fn with(arguments: &[&str]) -> RedisServer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("iii-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut server = RedisServer {
            child: None,
            port: free_port(),
            directory,
            arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
        };
        server.restart();
        server
    }

    /// Starts it again, on the same port and with what it had written.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_to_load();
        wait_until("redis-server answers", || self.answers());
    }

    /// Ends it with all that it has in a file of a form that it answers beside while it loads it, and
    /// starts it to load that.
    pub(crate) fn reload(&mut self) {
        let _: () = self.ask(&["BGREWRITEAOF"]);
        wait_until("it is rewritten", || {
            let state: String = self.ask(&["INFO", "persistence"]);
            state.contains("aof_rewrite_in_progress:0") && state.contains("aof_rewrite_scheduled:0")
        });
        self.kill();
        self.start_to_load();
    }

    /// Starts it, and does not wait until it has loaded what it had written.
    pub(crate) fn start_to_load(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, as Debian's package has it");
        self.child = Some(child);
    }

    fn answers(&self) -> bool {
        let client = redis::Client::open(self.url()).unwrap();
        let answer = client
            .get_connection()
            .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
        answer.is_ok()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Makes a user anew who may do all but this, in Redis's words for it; gives the URL that names it.
    pub(crate) fn url_of_user(&self, less: &[&str]) -> String {
        let all = [
            "ACL", "SETUSER", "me", "reset", "on", ">pw", "~*", "&*", "+@all",
        ];
        let _: () = self.ask(&[&all, less].concat());
        self.url().replace("://", "://me:pw@")
    }

    pub(crate) fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// One command.
    pub(crate) fn ask<T: FromRedisValue>(&self, arguments: &[impl ToRedisArgs]) -> T {
        let mut command = redis::Cmd::new();
        arguments.iter().for_each(|argument| {
            command.arg(argument);
        });
        command.query(&mut self.connection()).unwrap()
    }

    /// Nothing is kept of what is gone, not by us either.
    pub(crate) fn is_empty_soon(&self) {
        wait_until("nothing is left", || {
            let keys: Vec<String> = self.ask(&["KEYS", "*"]);
            keys.is_empty()
        });
    }

    /// A server on it.
    pub(crate) fn server(&self, shape: Shape) -> TestServer {
        self.server_with(shape, |_| {})
    }

    /// The same with settings of the test's own.
    pub(crate) fn server_with(&self, shape: Shape, change: impl FnOnce(&mut Config)) -> TestServer {
        let mut store = RedisStore::at(&self.url()).unwrap();
        TestServer::with(shape, |config| {
            change(config);
            store.call_timeout = Duration::from_millis(config.call_timeout_ms);
            config.store = StoreConfig::Redis(store);
        })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
