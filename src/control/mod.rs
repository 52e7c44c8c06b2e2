//! How a command asks a server that runs on this machine: a Unix socket without a file, whose name says
//! whose it is. Only its own user and root are answered.
//!
//! May not know what is asked, nor what is done about it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{geteuid, getpid};

/// What all names begin with.
const NAME: &str = "iii-stream/";
/// All such sockets of this machine, as the kernel lists them.
const LIST: &str = "/proc/self/net/unix";
/// A longer question is none.
const QUESTION_BYTES_MAX: u64 = 64;
/// A longer answer is cut.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// How long the other end may take for its question, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a server is asked.
pub struct Control(UnixListener);

impl Control {
    /// Opens the socket of this process; `place` is where it serves.
    pub fn open(place: &str) -> io::Result<Control> {
        let name = format!("{NAME}{}/{place}", getpid().as_raw_nonzero());
        let address = SocketAddr::from_abstract_name(name)?;
        UnixListener::bind_addr(&address).map(Control)
    }

    /// Answers until the process ends. Each question has one line, and so has its answer.
    pub fn serve(&self, mut answer: impl FnMut(&str) -> String) {
        for stream in self.0.incoming() {
            // Who goes away or says nothing is not answered, and holds nobody up for long.
            let _ = stream.and_then(|stream| serve_one(stream, &mut answer));
        }
    }
}

fn serve_one(mut stream: UnixStream, answer: &mut impl FnMut(&str) -> String) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let asks = socket_peercred(&stream)?.uid;
    if !asks.is_root() && asks != geteuid() {
        return Ok(()); // none of its business
    }
    let mut question = String::new();
    let mut reader = BufReader::new((&stream).take(QUESTION_BYTES_MAX));
    reader.read_line(&mut question)?;
    let mut line = answer(question.trim_end());
    line.push('\n');
    stream.write_all(line.as_bytes())
}

/// A server that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its process, as it knows itself.
    pub pid: i32,
    /// Where it serves subscribers.
    pub place: String,
    name: String,
}

/// All that run here, whoever has started them.
pub fn running() -> io::Result<Vec<Running>> {
    Ok(listed(&std::fs::read_to_string(LIST)?))
}

fn listed(table: &str) -> Vec<Running> {
    let of_line = |line: &str| {
        let name = line.split_once(&format!("@{NAME}"))?.1;
        let (pid, place) = name.split_once('/')?;
        Some(Running {
            pid: pid.parse().ok()?,
            place: place.to_owned(),
            name: format!("{NAME}{name}"),
        })
    };
    let mut all = Vec::new();
    // Connections to such a socket are listed under its name as well.
    for running in table.lines().filter_map(of_line) {
        if !all.contains(&running) {
            all.push(running);
        }
    }
    all
}

impl Running {
    /// Asks it, and waits for its answer. None: it does not answer us.
    pub fn ask(&self, question: &str, within: Duration) -> io::Result<Option<String>> {
        let address = SocketAddr::from_abstract_name(&self.name)?;
        let mut stream = UnixStream::connect_addr(&address)?;
        let serves = socket_peercred(&stream)?.uid;
        if !geteuid().is_root() && serves != geteuid() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
        let answer = answer.trim_end();
        Ok((!answer.is_empty()).then(|| answer.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_listed_once_and_others_are_passed_over() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 100 @iii-stream/12/127.0.0.1:3112\n\
            0: 00000003 00000000 00000000 0001 03 101 @iii-stream/12/127.0.0.1:3112\n\
            0: 00000002 00000000 00010000 0001 01 102 /run/@iii\n\
            0: 00000002 00000000 00010000 0001 01 103 @iii-stream/x/1\n\
            0: 00000002 00000000 00010000 0001 01 104 @iii-stream/7/[::1]:80\n";
        let all = listed(table);
        let told: Vec<(i32, &str)> = all.iter().map(|it| (it.pid, &*it.place)).collect();
        assert_eq!(told, [(12, "127.0.0.1:3112"), (7, "[::1]:80")]);
    }

    #[test]
    fn a_question_is_answered_in_one_line() {
        let control = Control::open("test").unwrap();
        std::thread::spawn(move || control.serve(|question| format!("{question}?")));
        let own = std::process::id() as i32;
        let all = running().unwrap();
        let it = all.iter().find(|it| it.pid == own && it.place == "test");
        let answer = it.unwrap().ask("well", Duration::from_secs(10)).unwrap();
        assert_eq!(answer.as_deref(), Some("well?"));
    }
}
