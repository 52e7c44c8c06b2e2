//! What authorities of certificates ask for: the files below `.well-known/acme-challenge` of a directory
//! (RFC 8555 §8.3), by plain HTTP. Whatever else is asked for there is sent to the stream port, if that is
//! under TLS.
//!
//! A thread of its own, for it reads files. Each socket has one question, and a few seconds.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

/// Where the files lie below the directory, and in the path.
const FOLDER: &str = ".well-known/acme-challenge";
/// A token is shorter (RFC 8555 §8.1 makes it of 22 characters or more).
const TOKEN_LEN_MAX: usize = 128;
/// A longer question is none.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// A longer file is no answer.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Sockets at a time; one more ends the oldest.
pub(super) const SOCKETS_MAX: usize = 64;
/// How long one may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const WAKE: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST: usize = 2;

/// What is answered there.
pub(super) struct Site {
    /// The directory in which [`FOLDER`] lies.
    pub(super) webroot: PathBuf,
    /// The stream port, if it is under TLS.
    pub(super) tls_port: Option<u16>,
}

/// The thread that answers. It ends when this is dropped.
pub(super) struct Acme {
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Acme {
    /// Answers on that listener from now on.
    pub(super) fn serve(listener: std::net::TcpListener, site: Site) -> io::Result<Acme> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let mut listener = TcpListener::from_std(listener);
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let server = Server {
            poll,
            listener,
            site,
            sockets: BTreeMap::new(),
            next: FIRST,
        };
        let thread = std::thread::Builder::new().name("acme".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = server.run() {
                tracing::error!("server.acme_webroot: nobody is answered any more: {error}");
            }
        })?;
        Ok(Acme {
            waker,
            thread: Some(thread),
        })
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // Its panic has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    site: Site,
    /// By their numbers: the oldest first.
    sockets: BTreeMap<usize, Socket>,
    next: usize,
}

/// One question.
struct Socket {
    stream: TcpStream,
    head: Vec<u8>,
    answer: Vec<u8>,
    until: Instant,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(SOCKETS_MAX);
        loop {
            let first = self.sockets.values().next();
            let left = first.map(|first| first.until.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, left) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in events.iter() {
                match event.token() {
                    WAKE => return Ok(()),
                    LISTENER => self.accept()?,
                    Token(number) => {
                        let site = &self.site;
                        let socket = self.sockets.get_mut(&number);
                        if socket.is_some_and(|socket| socket.go_on(site).is_none()) {
                            self.sockets.remove(&number);
                        }
                    }
                }
            }
            let now = Instant::now();
            self.sockets.retain(|_, socket| socket.until > now);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let token = Token(self.next);
                    let both = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut stream, token, both)?;
                    self.sockets.insert(
                        self.next,
                        Socket {
                            stream,
                            head: Vec::new(),
                            answer: Vec::new(),
                            until: Instant::now() + ANSWERS_WITHIN,
                        },
                    );
                    self.next += 1;
                    if self.sockets.len() > SOCKETS_MAX {
                        self.sockets.pop_first();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // No descriptor is left. The poll tells of who waits once: so it is asked again.
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

impl Socket {
    /// None: it is done, or gone.
    fn go_on(&mut self, site: &Site) -> Option<()> {
        let mut buffer = [0; 2048];
        while self.answer.is_empty() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.head.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
            if let Some(answer) = answer(&self.head, site) {
                self.answer = answer;
            }
        }
        loop {
            match self.stream.write(&self.answer) {
                Ok(len) if len == self.answer.len() => break,
                Ok(len) => drop(self.answer.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        None
    }
}

/// None: the question is not whole.
fn answer(head: &[u8], site: &Site) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => return None,
        _ => {
            return Some(text(
                "400 Bad Request",
                "",
                b"what you have sent is no request\n",
            ));
        }
    }
    let target = request.path.unwrap_or("/");
    if !matches!(request.method, Some("GET" | "HEAD")) {
        let allow = "allow: GET, HEAD\r\n";
        return Some(text(
            "405 Method Not Allowed",
            allow,
            b"only GET is answered here\n",
        ));
    }
    let path = target.split(['?', '#']).next().unwrap_or("/");
    if let Some(token) = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(FOLDER))
    {
        let file = token
            .strip_prefix('/')
            .and_then(|token| challenge(&site.webroot, token));
        return Some(match file {
            Some(file) => text("200 OK", "", &file),
            None => text("404 Not Found", "", b"there is no such challenge\n"),
        });
    }
    let host = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("host"));
    let host = host.and_then(|host| host_of(host.value));
    Some(match (site.tls_port, host) {
        (Some(port), Some(host)) if target.starts_with('/') => {
            let port = match port {
                443 => String::new(),
                port => format!(":{port}"),
            };
            let location = format!("location: https://{host}{port}{target}\r\n");
            text("308 Permanent Redirect", &location, b"")
        }
        _ => text(
            "404 Not Found",
            "",
            b"only challenges of ACME are answered here\n",
        ),
    })
}

/// The file of that name, and of no other place.
fn challenge(webroot: &Path, token: &str) -> Option<Vec<u8>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.is_empty() || token.len() > TOKEN_LEN_MAX || !token.bytes().all(is_plain) {
        return None;
    }
    let path = webroot.join(FOLDER).join(token);
    let found = std::fs::symlink_metadata(&path).ok()?;
    // No link leads elsewhere, and nothing that never ends is read.
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return None;
    }
    std::fs::read(path).ok()
}

/// Without its port. None: it is none that one may be sent to.
fn host_of(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_plain)).then_some(host)
}

fn text(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len}\r\nconnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn site(name: &str, tls_port: Option<u16>) -> (Folder, Site) {
        let name = format!("iii-stream-acme-{name}-{}", std::process::id());
        let webroot = std::env::temp_dir().join(name);
        std::fs::create_dir_all(webroot.join(FOLDER)).unwrap();
        std::fs::write(webroot.join(FOLDER).join("token-1_x"), "token.key").unwrap();
        std::fs::write(webroot.join("secret"), "secret").unwrap();
        (Folder(webroot.clone()), Site { webroot, tls_port })
    }

    fn asked(request: &str, site: &Site) -> String {
        let answer = answer(request.as_bytes(), site).expect("a whole request");
        String::from_utf8(answer).unwrap()
    }

    fn get(path: &str, site: &Site) -> String {
        asked(
            &format!("GET {path} HTTP/1.1\r\nhost: example.com:80\r\n\r\n"),
            site,
        )
    }

    #[test]
    fn a_challenge_is_answered_and_nothing_else_of_the_directory() {
        let (folder, site) = site("path", None);
        let challenges = folder.0.join(FOLDER);
        symlink(folder.0.join("secret"), challenges.join("link")).unwrap();
        std::fs::create_dir(challenges.join("folder")).unwrap();
        std::fs::write(challenges.join("large"), vec![b'x'; 70_000]).unwrap();
        let found = get("/.well-known/acme-challenge/token-1_x", &site);
        assert!(found.starts_with("HTTP/1.1 200 OK\r\n") && found.ends_with("\r\n\r\ntoken.key"));
        assert!(get("/.well-known/acme-challenge/token-1_x?a=b", &site).contains("200 OK"));
        for path in [
            "/secret",
            "/",
            "/.well-known/acme-challenge",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../../secret",
            "/.well-known/acme-challenge/..%2f..%2fsecret",
            "/.well-known/acme-challenge/%2e%2e/%2e%2e/secret",
            "/.well-known/acme-challenge//etc/passwd",
            "/.well-known/acme-challenge/./token-1_x",
            "/.well-known/acme-challenge/token-1_x/",
            "/.well-known/acme-challenge/link",
            "/.well-known/acme-challenge/folder",
            "/.well-known/acme-challenge/large",
            "/.well-known/acme-challengetoken-1_x",
            "/.WELL-KNOWN/acme-challenge/token-1_x",
        ] {
            let answer = get(path, &site);
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
            assert!(!answer.contains("secret"), "{path}: {answer}");
        }
    }

    #[test]
    fn whatever_else_is_asked_for_is_sent_to_the_port_under_tls() {
        let (_folder, mut site) = site("sent", Some(3112));
        let moved = get("/a/b?c=d", &site);
        assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");
        assert!(
            moved.contains("\r\nlocation: https://example.com:3112/a/b?c=d\r\n"),
            "{moved}"
        );
        site.tls_port = Some(443);
        assert!(get("/", &site).contains("\r\nlocation: https://example.com/\r\n"));
        for host in ["", "a b", "a@b", "a/b", "a\u{e4}"] {
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert!(
                asked(&request, &site).starts_with("HTTP/1.1 404 "),
                "{host}"
            );
        }
        assert!(asked("GET / HTTP/1.0\r\n\r\n", &site).starts_with("HTTP/1.1 404 "));
        assert!(asked("POST / HTTP/1.1\r\nhost: a\r\n\r\n", &site).starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn a_question_that_is_none_or_never_ends_is_refused() {
        let (_folder, site) = site("none", None);
        assert!(asked("\u{1}\u{2}\u{3} \r\n\r\n", &site).starts_with("HTTP/1.1 400 "));
        let whole = "GET /.well-known/acme-challenge/token-1_x HTTP/1.1\r\nhost: a\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(answer(&whole.as_bytes()[..len], &site), None, "{len}");
        }
        let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert!(asked(&endless, &site).starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn silent_sockets_hold_up_nobody_and_the_thread_ends() {
        let (_folder, site) = site("thread", None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let acme = Acme::serve(listener, site).unwrap();
        let connect = || {
            let socket = std::net::TcpStream::connect(address).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            socket
        };
        let mut silent: Vec<_> = (0..SOCKETS_MAX + 8).map(|_| connect()).collect();
        let mut asks = connect();
        asks.write_all(b"GET /.well-known/acme-challenge/token-1_x HTTP/1.1\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        asks.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("token.key"), "{answer}");
        assert_eq!(
            silent[0].read(&mut [0]).unwrap_or(0),
            0,
            "the oldest was ended"
        );
        assert_eq!(
            silent[SOCKETS_MAX].read(&mut [0]).unwrap_or(0),
            0,
            "and each has its time"
        );
        drop(acme);
        assert!(
            std::net::TcpStream::connect(address).is_err(),
            "nobody listens there"
        );
    }
}
