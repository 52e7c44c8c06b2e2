//! Why a run cannot be done, and what to do about it.

use crate::client::ClientError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot look at process {0}: no such process, or not allowed")]
    NoProcess(u32),
    #[error(
        "{needed} open files are needed, but the limit of this process is {limit} (ulimit -Hn)"
    )]
    OpenFiles { needed: u64, limit: u64 },
    #[error(
        "{needed} connections are needed, but {sources} source addresses have {ports} ports: raise --sources"
    )]
    Ports {
        needed: u64,
        ports: u64,
        sources: u8,
    },
    #[error("cannot connect to {port} {host}: {cause}{}", advice.map(|a| format!(" ({a})")).unwrap_or_default())]
    Connect {
        port: &'static str,
        host: String,
        cause: ClientError,
        advice: Option<&'static str>,
    },
    #[error("{port} {host} did not finish the WebSocket upgrade within {seconds} s")]
    PublisherTimeout {
        port: &'static str,
        host: String,
        seconds: u64,
    },
    #[error(
        "no join was answered for {seconds} s: {joined} of {wanted} subscribers have their sync"
    )]
    JoinTimeout {
        seconds: u64,
        joined: usize,
        wanted: usize,
    },
    #[error("the publisher's connection ended: {0}")]
    PublisherLost(#[source] ClientError),
    #[error("a mean of {0} items a client and {1} clients: their models would not fit the memory")]
    TooLarge(u64, u64),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("client thread {0} died")]
    ThreadDied(usize),
}

pub(crate) fn connect_error(port: &'static str, host: &str, cause: ClientError) -> RunError {
    let advice = cause.advice();
    RunError::Connect {
        port,
        host: host.to_owned(),
        cause,
        advice,
    }
}
