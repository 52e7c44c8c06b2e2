//! `watch STREAM [GROUP] [ITEM]`: prints what a subscriber is told, a line each, until it is ended.
//!
//! A group or an item is joined on the stream port. A whole stream is heard through the worker port, by
//! a trigger: it has no `sync`. A server that goes is waited for.

mod followed;
mod line;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use iii_stream::net::dial::Retry;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::client::ClientError;
use super::output::{complain, goes_on, json_line};
use super::place::Looks;
use followed::{Followed, Heard};

/// The first and the longest wait before it is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How long the end waits for a line that is being written.
const END_WAITS: Duration = Duration::from_millis(300);

/// What is watched, and how it is shown.
pub(crate) struct Watch<'a> {
    /// The stream.
    pub(crate) stream: &'a str,
    /// None: all its groups.
    pub(crate) group: Option<&'a str>,
    /// None: all items of the group.
    pub(crate) item: Option<&'a str>,
    /// Frames as they come, in place of lines for people.
    pub(crate) json: bool,
    /// After so many frames it ends.
    pub(crate) count: Option<u64>,
    /// How long a connection may take.
    pub(crate) within: Duration,
}

/// Held while a line is written, so that no signal cuts it.
static PRINTING: Mutex<()> = Mutex::new(());

/// Exit code 0: a signal has ended it, or its reader, or enough has come. 1: nobody was there when it
/// began, or it is refused.
pub(crate) fn watch(looks: &Looks, watch: &Watch<'_>) -> anyhow::Result<ExitCode> {
    let signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || end_by_signal(signals))?;
    let mut retry = Retry::new(RETRY_FIRST, RETRY_MOST);
    let mut left = watch.count.unwrap_or(u64::MAX);
    let mut followed = Followed::open(looks, watch)?;
    complain(&format!("watching {}", followed.described()));
    while left > 0 {
        let lost = match followed.next() {
            Ok(Heard::Frame(frame)) => {
                left -= 1;
                if !print(watch, &frame)? {
                    break;
                }
                continue;
            }
            Ok(Heard::Refused(why)) => anyhow::bail!("{why}"),
            Err(error) => error,
        };
        // The server waits for the end of a socket that it has closed.
        drop(followed);
        complain(&format!("{lost}; trying again"));
        followed = again(looks, watch, &mut retry)?;
        complain(&format!("watching {} again", followed.described()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Tries until somebody is there. An outage is told once, and each new cause of it.
fn again(looks: &Looks, watch: &Watch<'_>, retry: &mut Retry) -> anyhow::Result<Followed> {
    let mut said = String::new();
    loop {
        std::thread::sleep(retry.wait());
        let error = match Followed::open(looks, watch) {
            Ok(followed) => {
                retry.begin_afresh();
                return Ok(followed);
            }
            Err(error) => error,
        };
        if is_final(&error) {
            return Err(error);
        }
        let cause = error.to_string();
        if cause != said {
            complain(&format!("{cause}; trying again"));
        }
        said = cause;
    }
}

/// Whether nothing else is to be expected of another try.
fn is_final(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ClientError::Refused {
            code: 401 | 403 | 404,
            ..
        })
    )
}

/// False: nobody reads any more.
fn print(watch: &Watch<'_>, frame: &str) -> anyhow::Result<bool> {
    let line = match watch.json {
        true => json_line(frame),
        false => line::of_frame(frame, watch.group.is_none()).unwrap_or_else(|| json_line(frame)),
    };
    let _printing = PRINTING.lock();
    goes_on(&format!("{line}\n"))
}

/// The thread's life: it ends the process when a signal comes, at once if a line cannot be ended.
fn end_by_signal(mut signals: Signals) {
    if signals.forever().next().is_none() {
        return;
    }
    let until = Instant::now() + END_WAITS;
    let mut printing = PRINTING.try_lock();
    while printing.is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        printing = PRINTING.try_lock();
    }
    std::process::exit(0);
}
