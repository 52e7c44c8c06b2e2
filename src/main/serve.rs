//! A server's life in this process: it starts, reads its settings again when it is asked to, and ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use anyhow::Context;
use iii_stream::cli;
use iii_stream::config::{Reading, Sources};
use iii_stream::control::Control;
use iii_stream::log;
use iii_stream::notes::counted;
use iii_stream::server::{self, Options, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::logging::Logging;
use super::notify::Notify;
use super::reload::{Outcome, Reload};

/// What the process is asked to do while it serves.
enum Asked {
    /// End, by that signal.
    End(&'static str),
    /// Read the settings again. Who asks by the socket waits for what comes of it.
    Reload(Option<SyncSender<Outcome>>),
}

/// How long who asks for a reload waits: as long as a thread may take for it, and the files.
const RELOAD_WAITS: Duration = Duration::from_secs(20);

/// Serves until a signal ends it. A second one ends it at once, as does one that comes while it starts.
pub(crate) fn serve(sources: &Sources<'_>, reading: Reading) -> anyhow::Result<ExitCode> {
    let config = &reading.config;
    let logging = Logging::start(config.log).context("cannot start a thread for the log")?;
    server::end_process_on_panic();
    // Taken before the next thread starts, so that a signal that comes early is not lost.
    let signals = signals().context("cannot listen for signals")?;
    match &config.file {
        Some(file) => tracing::info!("iii-stream {} starts with {file}", cli::VERSION),
        None => tracing::info!("iii-stream {} starts with no config file", cli::VERSION),
    }
    let notices = config.notices.iter();
    notices.for_each(|notice| tracing::info!("{notice}"));
    let warnings = config.warnings.iter();
    warnings.for_each(|warning| tracing::warn!("{warning}"));
    let (tell, told) = channel();
    let serves = Arc::new(AtomicBool::new(false));
    let is_first = Arc::clone(&serves);
    let by_signal = tell.clone();
    std::thread::spawn(move || hear_signals(signals, &is_first, &by_signal));
    let (notify, read) = (Notify::of_environment(), Arc::default());
    let is_over = Arc::new(AtomicBool::new(false));
    notify.extend(&read, &is_over);
    let options = Options {
        serves,
        read,
        ..Options::default()
    };
    let mut server = Server::start(config, options)?;
    is_over.store(true, Ordering::Release);
    let status = format!("serves subscribers on {}", server.stream_address());
    notify.is_ready(&status);
    notify.watch(server.shared());
    open_control(&server, tell);
    let mut reload = Reload::new(sources, logging, reading);
    let signal = serve_on(&told, || {
        notify.reloads();
        let outcome = reload.reload(&mut server);
        notify.is_ready(&status);
        outcome
    })?;
    drop(told);
    let sockets = counted(server.sockets_len(), "socket");
    notify.stops(&format!("closes {sockets}"));
    tracing::info!(
        "{signal}: closing {} within {:?}, calls under way have {:?}; a second signal ends at once",
        sockets,
        server.drain_for(),
        server.drain_time()
    );
    server.drain();
    tracing::info!("ended");
    log::flush();
    Ok(ExitCode::SUCCESS)
}

/// Does what is asked until it is to end: the signal.
fn serve_on(
    told: &Receiver<Asked>,
    mut reload: impl FnMut() -> Outcome,
) -> anyhow::Result<&'static str> {
    loop {
        match told.recv().context("nobody listens for signals")? {
            Asked::End(signal) => return Ok(signal),
            Asked::Reload(asks) => {
                let outcome = reload();
                if let Some(asks) = asks {
                    // Who asked may have gone.
                    let _ = asks.try_send(outcome);
                }
            }
        }
    }
}

/// Where commands ask. Without it the server serves all the same.
fn open_control(server: &Server, tell: Sender<Asked>) {
    let opened = Control::open(&server.stream_address().to_string()).and_then(|control| {
        let builder = std::thread::Builder::new().name("control".to_owned());
        builder.spawn(move || control.serve(|question| answer(question, &tell)))
    });
    if let Err(error) = opened {
        tracing::warn!("`iii-stream reload` will not find this server, SIGHUP does: {error}");
    }
}

fn answer(question: &str, tell: &Sender<Asked>) -> String {
    if question != "reload" {
        return Outcome::failed("the server does not know this question").json();
    }
    let (answers, answered) = sync_channel(1);
    let outcome = match tell.send(Asked::Reload(Some(answers))) {
        Ok(()) => answered.recv_timeout(RELOAD_WAITS).ok(),
        Err(_) => None,
    };
    outcome
        .unwrap_or_else(|| Outcome::failed("the server ends, or is busy: nothing is known"))
        .json()
}

/// Takes those that mean something here. Those that others send to have logs read again, or to be told
/// something, would end the process by default; a file that reaches its limit is a write that fails.
/// Signals that stop a process, dump it or limit its time stay what they are.
fn signals() -> std::io::Result<Signals> {
    let passed_over = Arc::new(AtomicBool::new(false));
    for signal in [SIGXFSZ, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::clone(&passed_over))?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// The thread's life.
fn hear_signals(mut signals: Signals, is_first: &AtomicBool, tell: &Sender<Asked>) {
    for signal in signals.forever() {
        let name = match signal {
            SIGHUP => {
                // One that comes at the end finds nobody.
                let _ = tell.send(Asked::Reload(None));
                continue;
            }
            SIGINT => "SIGINT",
            _ => "SIGTERM",
        };
        // While it starts nothing was promised to anybody, and whatever is being read stays as it is.
        if !is_first.swap(false, Ordering::AcqRel) || tell.send(Asked::End(name)).is_err() {
            tracing::info!("{name}: ended at once");
            log::end_process(0);
        }
    }
}
