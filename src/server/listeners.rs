//! The listening sockets. A port in use, also by another `iii-stream`, ends the start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{BACKLOG_LEN, Config, Endpoint, Rbac, WorkerListener};
use crate::engine::{Listener, Rules};

use super::{Certificates, StartError};

/// How much longer than `stall_timeout_ms` the kernel waits for a peer that acknowledges nothing, or takes
/// nothing: who only reads nothing hears why from us.
const BEYOND_STALL: Duration = Duration::from_secs(5);
/// What the kernel keeps at most of what a subscriber has not been sent: what it keeps more cannot be caught up
/// by anything newer, and pings wait behind it.
const UNSENT_BYTES: u32 = 64 * 1024;

/// One listener a worker on the stream port, without a gap for a second server: the first binds and
/// listens without SO_REUSEPORT, so it fails if anybody has the port, and nobody else can open it
/// until it gets the flag; then the others open with both flags. SO_REUSEADDR, because sockets of
/// the last run may still be closing.
pub(super) fn stream(config: &Config, workers: usize) -> Result<Vec<TcpListener>, StartError> {
    let hint = |address: SocketAddr| {
        format!(
            "another iii-stream or an iii engine may be running (ss -ltnp 'sport = :{}'){}",
            address.port(),
            or_outgoing(address.port())
        )
    };
    warn_of_cut_backlog(config);
    let first = listen_first(&config.stream, config, hint)?;
    let with_context = |source| failed(&config.stream, source);
    first.set_reuse_port(true).map_err(with_context)?;
    first
        .set_tcp_notsent_lowat(UNSENT_BYTES)
        .map_err(with_context)?;
    let address = first.local_addr().map_err(with_context)?;
    let address = address
        .as_socket()
        .ok_or_else(|| with_context(io::Error::other("no TCP address")))?;
    let mut listeners = vec![first.into()];
    for _ in 1..workers {
        let socket = open(address).map_err(with_context)?;
        socket.set_reuse_port(true).map_err(with_context)?;
        socket
            .set_tcp_notsent_lowat(UNSENT_BYTES)
            .map_err(with_context)?;
        bind_and_listen(&socket, address, config).map_err(with_context)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

/// The listeners on which SDK workers connect, each with its rules. None where there is an engine to
/// attach to: they connect to that.
pub(super) fn workers(
    config: &Config,
    certificates: &Certificates,
) -> Result<Vec<Listener>, StartError> {
    if config.engine.is_some() {
        return Ok(Vec::new());
    }
    let listeners = config.worker_listeners.iter();
    listeners
        .map(|listener| {
            Ok(Listener {
                socket: worker(listener, config)?,
                rules: listener.rbac.as_ref().map(rules_of),
                middleware: listener.middleware.clone(),
                tls: certificates.of("worker_tls"),
            })
        })
        .collect()
}

/// The listener for authorities of certificates, where there is to be one.
pub(super) fn acme(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(acme) = &config.acme else {
        return Ok(None);
    };
    let hint = |address: SocketAddr| {
        let port = address.port();
        format!("server.acme_port names another (ss -ltnp 'sport = :{port}')")
    };
    let listener = listen_first(&acme.endpoint, config, hint)?;
    Ok(Some(listener.into()))
}

/// Where operators look. None: somebody has the port, and nobody has asked for it by name.
pub(super) fn admin(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(admin) = &config.admin else {
        return Ok(None);
    };
    let hint = |address: SocketAddr| {
        let port = address.port();
        format!(
            "server.admin: {{port: …}} names another one, server.admin: off does without (ss -ltnp 'sport = :{port}')"
        )
    };
    match listen_first(&admin.endpoint, config, hint) {
        Ok(socket) => Ok(Some(socket.into())),
        Err(error) if admin.is_configured => Err(error),
        Err(error) => {
            tracing::warn!("no admin port: {error}");
            Ok(None)
        }
    }
}

fn rules_of(rbac: &Rbac) -> Rules {
    Rules {
        auth_function: rbac.auth_function.clone(),
        on_function: rbac.on_function.as_deref().map(Arc::from),
        on_trigger: rbac.on_trigger.as_deref().map(Arc::from),
        on_trigger_type: rbac.on_trigger_type.as_deref().map(Arc::from),
        exposed: rbac.expose_functions.as_slice().into(),
    }
}

fn worker(listener: &WorkerListener, config: &Config) -> Result<TcpListener, StartError> {
    let hint = |address: SocketAddr| {
        let port = address.port();
        format!(
            "an iii engine may be running, which --engine ws://127.0.0.1:{port} would attach to (ss -ltnp 'sport = :{port}'){}",
            or_outgoing(port)
        )
    };
    listen_first(&listener.endpoint, config, hint).map(TcpListener::from)
}

/// Listens on the first of the endpoint's addresses.
fn listen_first(
    endpoint: &Endpoint,
    config: &Config,
    hint: impl FnOnce(SocketAddr) -> String,
) -> Result<Socket, StartError> {
    let addresses = endpoint
        .addresses()
        .map_err(|source| failed(endpoint, source))?;
    let Some(address) = addresses.into_iter().next() else {
        return Err(failed(
            endpoint,
            io::Error::other("the name has no address"),
        ));
    };
    let listening =
        open(address).and_then(|socket| bind_and_listen(&socket, address, config).map(|()| socket));
    listening.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::AddressInUse {
                address: address.to_string(),
                hint: hint(address),
            }
        } else {
            failed(endpoint, source)
        }
    })
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_and_listen(socket: &Socket, address: SocketAddr, config: &Config) -> io::Result<()> {
    // What is accepted has it from here.
    let stall = Duration::from_millis(config.limits.stall_timeout_ms);
    socket.set_tcp_user_timeout(Some(stall + BEYOND_STALL))?;
    socket.bind(&address.into())?;
    let backlog = config.backlog.unwrap_or(BACKLOG_LEN);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// The kernel cuts the backlog in silence: said where the configuration asks for one.
fn warn_of_cut_backlog(config: &Config) {
    const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
    let read = std::fs::read_to_string(SOMAXCONN).ok();
    let most = read.and_then(|text| text.trim().parse::<u32>().ok());
    if let (Some(asked), Some(most)) = (config.backlog, most)
        && asked > most
    {
        tracing::warn!(
            "server.backlog is {asked}, but the kernel cuts it to {most} (net.core.somaxconn)"
        );
    }
}

/// What else may have a port: one of those that the kernel gives to outgoing connections.
fn or_outgoing(port: u16) -> String {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let read = std::fs::read_to_string(RANGE).unwrap_or_default();
    let ends: Vec<u16> = read.split_whitespace().flat_map(str::parse).collect();
    match ends[..] {
        [first, last] if (first..=last).contains(&port) => format!(
            ", or an outgoing connection holds it (ss -tanp 'sport = :{port}'; \
             sysctl net.ipv4.ip_local_reserved_ports={port} keeps it free)"
        ),
        _ => String::new(),
    }
}

fn failed(endpoint: &Endpoint, source: io::Error) -> StartError {
    StartError::Listen {
        address: endpoint.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[test]
    fn what_a_listener_is_set_to_holds_for_whoever_it_accepts() {
        let config = Config {
            stream: Endpoint::new("127.0.0.1", 0),
            ..Config::default()
        };
        let listener = stream(&config, 1).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        let stall = Duration::from_millis(config.limits.stall_timeout_ms);
        let user_timeout = accepted.tcp_user_timeout().unwrap();
        assert_eq!(user_timeout, Some(stall + BEYOND_STALL));
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
    }
}
