//! The log's way out: lines wait in a bounded queue for a thread of their own, which alone waits for
//! whoever reads them.
//!
//! A reader that has stopped (a full pipe, Ctrl-S) costs lines, never a turn of anybody: what finds the
//! queue full is lost and counted, and the count is a line of its own once lines go out again. Uses
//! nothing of ours. May not decide what is said.

mod format;

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

pub use format::{JsonLines, escaped_fields};

/// Lines that wait; above: they are lost.
const LINES_MAX: usize = 1024;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How long the end of the process waits for lines to go out.
const END_WAITS: Duration = Duration::from_millis(200);
/// How soon a file that takes nothing now (a terminal set not to block) is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// That of the process, once it has one.
static LOG: OnceLock<Lines> = OnceLock::new();

/// Takes lines from any thread, and never waits.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: Sender<Box<[u8]>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    /// Of those: written, or given up.
    done: AtomicU64,
    /// Lost, and not told of yet.
    lost: AtomicU64,
}

impl Lines {
    /// Starts the thread that writes to `out`. `tell_lost` says how many lines were lost, as a line.
    pub fn start(
        out: impl Write + Send + 'static,
        tell_lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Lines> {
        let (queue, lines) = crossbeam_channel::bounded(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(out, &lines, &of_thread, tell_lost))?;
        Ok(Lines { queue, counts })
    }

    /// As the log of the process: [`say`], [`flush`] and [`end_process`] go by it from now on.
    pub fn install(&self) {
        // The first one stays.
        let _ = LOG.set(self.clone());
    }

    fn push(&self, line: &[u8]) {
        let line = match line.get(..LINE_BYTES_MAX) {
            Some(cut) if cut.len() < line.len() => [cut, "…\n".as_bytes()].concat().into(),
            _ => line.into(),
        };
        self.counts.queued.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(line).is_err() {
            self.counts.done.fetch_add(1, Ordering::AcqRel);
            self.counts.lost.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let is_out = || {
            let done = self.counts.done.load(Ordering::Acquire);
            done >= self.counts.queued.load(Ordering::Acquire)
        };
        while !is_out() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One write is one line, as whoever formats lines hands them over.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread's life, which ends with the last [`Lines`] or with the process.
fn write_all(
    mut out: impl Write,
    lines: &Receiver<Box<[u8]>>,
    counts: &Counts,
    tell_lost: impl Fn(u64),
) {
    let mut since_told = 0;
    for line in lines {
        let is_written = write_line(&mut out, &line);
        if !is_written {
            counts.lost.fetch_add(1, Ordering::AcqRel);
        }
        since_told += 1;
        // In its place: behind what had found room before. In a flood that place does not come.
        if is_written && (lines.is_empty() || since_told >= LINES_MAX) {
            since_told = 0;
            match counts.lost.swap(0, Ordering::AcqRel) {
                0 => {}
                lost => tell_lost(lost),
            }
        }
        counts.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// False: its reader is gone, or its disk full.
fn write_line(out: &mut impl Write, mut line: &[u8]) -> bool {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return false,
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(_) => return false,
        }
    }
    out.flush().is_ok()
}

/// A line without time and level: through the log of the process if it has one, else straight to
/// stderr. Where it cannot be written, the exit code has to do.
pub fn say(line: &str) {
    match LOG.get() {
        Some(log) => log.push(format!("{line}\n").as_bytes()),
        None => {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Waits until all lines are out, and not for long.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(END_WAITS);
    }
}

/// Ends the process, its last lines written if somebody reads them.
pub fn end_process(code: i32) -> ! {
    flush();
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A reader that can stop.
    #[derive(Clone, Default)]
    struct Out {
        read: Arc<Mutex<Vec<u8>>>,
        gate: Arc<Mutex<()>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_reader_that_has_stopped_costs_lines_and_no_time_and_hears_how_many() {
        let out = Out::default();
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        let tell = move |lost| {
            count.fetch_add(lost, Ordering::AcqRel);
        };
        let mut lines = Lines::start(out.clone(), tell).unwrap();
        lines.write_all(b"first\n").unwrap();
        lines.flush(PATIENCE);
        let stopped = out.gate.lock().unwrap();
        let sent = 5 * LINES_MAX as u64;
        for _ in 0..sent {
            lines.write_all(b"line\n").unwrap();
        }
        let began = Instant::now();
        lines.flush(Duration::from_millis(20));
        assert!(began.elapsed() < PATIENCE, "the end does not wait for it");
        drop(stopped);
        lines.flush(PATIENCE);
        let text = String::from_utf8(out.read.lock().unwrap().clone()).unwrap();
        let read = text.lines().filter(|line| *line == "line").count() as u64;
        assert!(text.starts_with("first\nline\n") && read >= LINES_MAX as u64);
        assert_eq!(told.load(Ordering::Acquire) + read, sent);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let out = Out::default();
        let mut lines = Lines::start(out.clone(), |_| {}).unwrap();
        lines.write_all(&[b'x'; LINE_BYTES_MAX + 1]).unwrap();
        lines.write_all(b"next\n").unwrap();
        lines.flush(PATIENCE);
        let text = String::from_utf8(out.read.lock().unwrap().clone()).unwrap();
        assert_eq!(text.len(), LINE_BYTES_MAX + "…\nnext\n".len());
    }
}
