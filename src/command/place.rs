//! Where a command looks for the server: what a flag names, else what the config file here says, else
//! the default port.
//!
//! Connects to nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use iii_stream::config::{self, Config, Endpoint, EngineAddress, Reading, Sources, TlsFiles};

/// What the command line says about where to look.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// The file whose ports count.
    pub(crate) config: Option<PathBuf>,
    /// The address of the port itself.
    pub(crate) address: Option<String>,
    /// What goes with the upgrade, as `Name: value`.
    pub(crate) headers: Vec<String>,
    /// A certificate and its key, for a server that asks its clients for one.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// A port of some server.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: EngineAddress,
    /// What goes with the upgrade.
    pub(super) headers: Vec<(String, String)>,
    /// The certificate that the settings say it shows. None: whom the system trusts.
    pub(super) certificate: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// Who says so: `default`, `config.yaml:3`, `--stream`.
    said_by: String,
    /// What would be there.
    what: What,
}

/// Which port is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Stream,
    Worker,
    /// The worker port of a running engine.
    Engine,
    /// Where operators look.
    Admin,
}

impl Looks {
    /// The port on which SDK workers connect: ours, or that of the engine that we would attach to.
    pub(super) fn for_workers(&self) -> anyhow::Result<Place> {
        if let Some(url) = &self.address {
            let address = url
                .parse()
                .map_err(|what: String| anyhow!("--engine: {what}"))?;
            return self.at(address, "--engine".to_owned(), What::Worker, None);
        }
        let (config, origins) = self.settings("--engine")?;
        if let Some(address) = config.engine {
            let said_by = origins.of("iii-stream.server.engine");
            return self.at(address, said_by, What::Engine, None);
        }
        let Some(listener) = config.worker_listeners.first() else {
            bail!("no worker port is configured; name one with --engine ws://HOST:PORT");
        };
        let tls = config.worker_tls.as_ref();
        let address = address_of(&listener.endpoint, "--engine", tls.is_some())?;
        let said_by = origins.of("iii-worker-manager.config.port");
        self.at(address, said_by, What::Worker, tls)
    }

    /// The port on which subscribers connect.
    pub(super) fn for_subscribers(&self) -> anyhow::Result<Place> {
        if let Some(url) = &self.address {
            let no_address = |_: String| {
                anyhow!(
                    "--stream: {:?} is no address of a stream port, expected ws://HOST:PORT or wss://HOST:PORT",
                    config::without_secrets(url)
                )
            };
            let address = url.parse().map_err(no_address)?;
            return self.at(address, "--stream".to_owned(), What::Stream, None);
        }
        let (config, origins) = self.settings("--stream")?;
        let tls = config.tls.as_ref();
        let address = address_of(&config.stream, "--stream", tls.is_some())?;
        let said_by = origins.of("iii-stream.config.port");
        self.at(address, said_by, What::Stream, tls)
    }

    /// The port where operators look. What the file has as its token goes with the request.
    pub(super) fn for_operators(&self) -> anyhow::Result<Place> {
        if let Some(url) = &self.address {
            let address = url
                .strip_prefix("http://")
                .map(|rest| format!("ws://{rest}"));
            let no_address = || {
                anyhow!(
                    "--admin: {:?} is no address of an admin port, expected http://HOST:PORT",
                    config::without_secrets(url)
                )
            };
            let address = address.ok_or_else(no_address)?;
            let address = address.parse().map_err(|_: String| no_address())?;
            return self.at(address, "--admin".to_owned(), What::Admin, None);
        }
        let (config, origins) = self.settings("--admin")?;
        let Some(admin) = config.admin else {
            bail!(
                "the file says server.admin: off; name another place with --admin http://HOST:PORT"
            );
        };
        let address = address_of(&admin.endpoint, "--admin", false)?;
        let said_by = origins.of("iii-stream.server.admin.port");
        let mut place = self.at(address, said_by, What::Admin, None)?;
        if let Some(token) = admin.token {
            place
                .headers
                .push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        Ok(place)
    }

    fn settings(&self, flag: &str) -> anyhow::Result<(Config, Origins)> {
        let reading = config::read(&Sources {
            config: self.config.clone(),
            engine: None,
            namespace: None,
            expand_env: false,
            default_config: false,
            variable: &|name| std::env::var(name).ok(),
            read: &|path| std::fs::read(path),
        });
        if let Some(fault) = reading.faults.first() {
            let fault = fault.to_string();
            bail!(
                "{}; {flag} ws://HOST:PORT does without the file",
                fault.lines().next().unwrap_or_default()
            );
        }
        let origins = Origins::of_reading(&reading);
        Ok((reading.config, origins))
    }

    fn at(
        &self,
        address: EngineAddress,
        said_by: String,
        what: What,
        tls: Option<&TlsFiles>,
    ) -> anyhow::Result<Place> {
        let headers = self.headers.iter().map(|line| header(line));
        Ok(Place {
            address,
            headers: headers.collect::<anyhow::Result<_>>()?,
            certificate: tls.map(|files| files.cert.clone()),
            own: self.own.clone(),
            said_by,
            what,
        })
    }
}

/// A header is told back without its value, which may be a token.
fn header(line: &str) -> anyhow::Result<(String, String)> {
    let Some((name, value)) = line.split_once(':') else {
        bail!("--header: a colon is missing, expected 'Name: value'");
    };
    let (name, value) = (name.trim(), value.trim());
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        bail!("--header: what stands before the colon is no name of a header");
    }
    if value.chars().any(char::is_control) {
        bail!("--header: the value of {name} has control characters");
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Where each setting came from.
struct Origins(Vec<(String, String)>);

impl Origins {
    fn of_reading(reading: &Reading) -> Origins {
        let settings = reading.settings.iter();
        Origins(
            settings
                .map(|setting| (setting.key.clone(), setting.origin.clone()))
                .collect(),
        )
    }

    /// Of a key, also where several entries have one of that name.
    fn of(&self, key: &str) -> String {
        let (entry, rest) = key.split_once('.').unwrap_or((key, ""));
        let is_it = |(found, _): &&(String, String)| {
            found == key
                || found
                    .strip_prefix(entry)
                    .is_some_and(|behind| behind.starts_with('[') && behind.ends_with(rest))
        };
        match self.0.iter().find(is_it) {
            Some((_, origin)) if origin != "default" => origin.clone(),
            _ => "default".to_owned(),
        }
    }
}

/// Where one connects to what listens there.
fn address_of(endpoint: &Endpoint, flag: &str, is_tls: bool) -> anyhow::Result<EngineAddress> {
    if endpoint.port == 0 {
        bail!("the file says port 0, any free one; name it with {flag} ws://HOST:PORT");
    }
    let bare = endpoint.host.trim_matches(['[', ']']);
    let host = match bare.parse() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => "[::1]".to_owned(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => bare.to_owned(),
    };
    let scheme = if is_tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{host}:{}", endpoint.port);
    url.parse().map_err(|what| anyhow!("{what}"))
}

impl Place {
    /// The address, without secrets.
    pub(super) fn shown(&self) -> &str {
        &self.address.shown
    }

    /// What to do where nothing listens.
    pub(super) fn nobody(&self) -> String {
        let (flag, start) = match self.what {
            What::Stream => ("--stream", "start a server there (iii-stream)"),
            What::Worker => ("--engine", "start a server there (iii-stream)"),
            What::Engine => ("--engine", "start the engine there"),
            What::Admin => {
                let shown = self.shown().replacen("ws://", "http://", 1);
                return format!(
                    "nothing listens at {shown} ({}): start a server there (iii-stream), whose admin port may be off \
                     (server.admin), or name another place with --admin http://HOST:PORT",
                    self.said_by
                );
            }
        };
        let (said_by, shown) = (&self.said_by, self.shown());
        match said_by == flag {
            true => format!("nothing listens at {shown} ({flag}): {start}"),
            false => format!(
                "nothing listens at {shown} ({said_by}): {start}, or name another place with {flag} ws://HOST:PORT"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connects_to_loopback_where_all_addresses_are_listened_on() {
        for (host, shown) in [
            ("0.0.0.0", "ws://127.0.0.1:3112"),
            ("::", "ws://[::1]:3112"),
            ("[::]", "ws://[::1]:3112"),
            ("::1", "ws://[::1]:3112"),
            ("10.0.0.9", "ws://10.0.0.9:3112"),
            ("localhost", "ws://localhost:3112"),
        ] {
            let address = address_of(&Endpoint::new(host, 3112), "--stream", false).unwrap();
            assert_eq!(address.shown, shown);
            let address = address_of(&Endpoint::new(host, 3112), "--stream", true).unwrap();
            assert_eq!(address.shown, shown.replace("ws://", "wss://"));
            assert!(address.server_name.is_some());
        }
        assert!(address_of(&Endpoint::new("::", 0), "--stream", false).is_err());
    }

    #[test]
    fn a_header_is_told_back_without_its_value() {
        let read = |line: &str| header(line).map_err(|error| error.to_string());
        let pair = ("Authorization".to_owned(), "Bearer s3cret: x".to_owned());
        assert_eq!(read("Authorization: Bearer s3cret: x"), Ok(pair));
        for line in ["s3cret", "s3 cret: x", ": s3cret", "A: s3cret\r\nB: x"] {
            assert!(!read(line).unwrap_err().contains("s3cret"), "{line:?}");
        }
    }
}
