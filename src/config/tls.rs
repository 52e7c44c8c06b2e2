//! `server.tls` and `server.worker_tls`: the files with which a port speaks TLS, and the port on which an
//! authority of certificates looks whether a name is ours.
//!
//! Whether the files can be used is seen where they are read: here they are names.

use std::path::PathBuf;

use super::Endpoint;
use super::report::Wanted;
use super::section::Section;
use super::words::mismatch;
use super::yaml::{Node, Value};

/// The port that authorities of certificates ask (RFC 8555 §8.3).
const ACME_PORT: u16 = 80;

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The files of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, and those of the authorities between it and the one that clients trust.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities, of one of which each client has to show a certificate. None: clients show none.
    pub client_ca: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// Where an authority of certificates finds what it has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The directory in which `.well-known/acme-challenge` lies.
    pub webroot: PathBuf,
    /// Where it asks, by plain HTTP.
    pub endpoint: Endpoint,
}

/// None: the port is plain.
pub(super) fn read(server: &mut Section<'_, '_>, key: &'static str) -> Option<TlsFiles> {
    let mut keys = server.section(key);
    keys.refuse_doubled();
    if keys.is_absent() {
        keys.done();
        server.show(key, "none".into());
        return None;
    }
    let found = [file(&mut keys, "cert"), file(&mut keys, "key")];
    let client_ca = file(&mut keys, "client_ca").flatten();
    let mut min_version = MinVersion::default();
    keys.read("min_version", &mut min_version, version);
    if found.contains(&Some(None)) {
        keys.fault_missing("expected cert and key, both");
    }
    keys.done();
    let [Some(Some(cert)), Some(Some(key))] = found else {
        return None;
    };
    Some(TlsFiles {
        cert,
        key,
        client_ca,
        min_version,
    })
}

/// None: it is at fault, and the report says so.
fn file(keys: &mut Section<'_, '_>, key: &'static str) -> Option<Option<PathBuf>> {
    let found = keys.value(key, None, |node| path(node, "the path of a file"))?;
    if let Some(path) = &found {
        keys.show(key, path.clone().into());
    }
    Some(found.map(PathBuf::from))
}

/// None: null.
fn path(node: &Node, expected: &str) -> Result<Option<String>, String> {
    match &node.value {
        Value::Null => Ok(None),
        Value::Text(text) if !text.is_empty() => Ok(Some(text.clone())),
        _ => Err(mismatch(node, expected)),
    }
}

fn version(node: &Node) -> Result<MinVersion, String> {
    match &node.value {
        Value::Decimal(text) | Value::Text(text) if text == "1.2" => Ok(MinVersion::Tls12),
        Value::Decimal(text) | Value::Text(text) if text == "1.3" => Ok(MinVersion::Tls13),
        _ => Err(mismatch(node, "1.2 or 1.3")),
    }
}

/// None: nobody is answered there. `stream`: where subscribers connect.
pub(super) fn acme(server: &mut Section<'_, '_>, stream: &Endpoint) -> Option<Acme> {
    let webroot = server.value("acme_webroot", None, |node| {
        path(node, "the path of a directory")
    });
    let webroot = webroot?;
    server.show(
        "acme_webroot",
        webroot.clone().unwrap_or("none".to_owned()).into(),
    );
    let mut port = ACME_PORT;
    server.integer("acme_port", &mut port, 0..=65_535);
    let webroot = webroot?;
    let endpoint = Endpoint::new(&*stream.host, port);
    let place = server.node("acme_port").or(server.node("acme_webroot"));
    let place = place.map(|node| server.report.place_of(node.span.start));
    server.report.wanted.push(Wanted {
        who: server.path_of("acme_port"),
        endpoint: endpoint.clone(),
        place,
    });
    Some(Acme {
        webroot: webroot.into(),
        endpoint,
    })
}

impl From<MinVersion> for serde_json::Value {
    fn from(version: MinVersion) -> serde_json::Value {
        match version {
            MinVersion::Tls12 => "1.2".into(),
            MinVersion::Tls13 => "1.3".into(),
        }
    }
}
