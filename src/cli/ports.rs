//! Where a command looks for a server: one of its ports, and what is shown to it.

use std::path::PathBuf;

use clap::Args;

/// Where the worker port is.
#[derive(Debug, Args)]
pub struct WorkerPort {
    /// The config file that says where; without it ./config.yaml, else the default
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the worker port is, of this server or of an engine: ws:// or wss://
    #[arg(long, visible_alias = "url", value_name = "URL")]
    pub engine: Option<String>,
    /// What goes with the upgrade, as 'Authorization: Bearer …'
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Our own certificate.
    #[command(flatten)]
    pub own: OwnCertificate,
}

/// What a server under TLS is shown that asks its clients for a certificate.
#[derive(Debug, Args)]
pub struct OwnCertificate {
    /// A certificate to show to a server that asks for one (tls.client_ca): PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key: PEM, without a passphrase
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// Where the stream port is.
#[derive(Debug, Args)]
pub struct StreamPort {
    /// The config file that says where; without it ./config.yaml, else the default
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the stream port is: ws:// or wss://
    #[arg(long, value_name = "URL")]
    pub stream: Option<String>,
    /// What goes with the request, as 'Authorization: Bearer …'
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Our own certificate.
    #[command(flatten)]
    pub own: OwnCertificate,
}

/// Where the admin port is.
#[derive(Debug, Args)]
pub struct AdminPort {
    /// The config file that says where; without it ./config.yaml, else the default
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the admin port is: http://
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// What goes with the request, as 'Authorization: Bearer …'
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
}
