//! The files of a port under TLS: certificate, key and the authorities of clients. What is read of them
//! is checked here, before anybody is shown it; what is wrong is said in one line, with what to do.

use std::fmt::{self, Display};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::validity::Validity;
use crate::config::{MinVersion, TlsFiles};

/// A longer file is none of these.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What a session speaks: an upgrade to a WebSocket is one of HTTP/1.1.
const PROTOCOL: &[u8] = b"http/1.1";
static ONLY_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];
static FROM_1_2: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// A file that cannot be used: why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Faulty {
    /// The file.
    what: String,
    why: String,
}

impl Faulty {
    fn of(path: &Path, why: impl Display) -> Faulty {
        Faulty {
            what: path.display().to_string(),
            why: why.to_string(),
        }
    }
}

/// What the files say, checked.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate counts no more.
    pub(super) not_after: SystemTime,
}

/// Which version of the files was seen: another one shows in one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<[i64; 3]>>);

impl TlsFiles {
    /// Reads and checks them, as they are now.
    pub(super) fn load(
        &self,
        tickets: Arc<dyn ProducesTickets>,
        now: SystemTime,
    ) -> Result<Loaded, Faulty> {
        let provider = Arc::new(ring::default_provider());
        let certificates = certificates(&self.cert)?;
        let validity = validity(&self.cert, &certificates, now)?;
        let key = self.key(&provider, &certificates)?;
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 => &FROM_1_2,
            MinVersion::Tls13 => &ONLY_1_3,
        };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| Faulty::of(&self.cert, error))?;
        let config = match &self.client_ca {
            None => config.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| Faulty::of(path, format_args!("{error}: it is to hold the certificates of those who issue certificates to clients")))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| Faulty::of(path, error))?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            config.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // What a client needs to come back stands in its ticket, and nothing of it here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        config.send_tls13_tickets = 1;
        Ok(Loaded {
            config: Arc::new(config),
            not_after: validity.not_after,
        })
    }

    fn key(
        &self,
        provider: &CryptoProvider,
        certificates: &[CertificateDer<'static>],
    ) -> Result<CertifiedKey, Faulty> {
        let faulty = |why: &dyn Display| Faulty::of(&self.key, why);
        let pem = read(&self.key)?;
        if is_locked(&pem) {
            let path = self.key.display();
            return Err(faulty(&format_args!(
                "has a passphrase, and nobody is there to type it; openssl pkey -in {path} -out FILE writes the key without"
            )));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            faulty(&"holds no private key, expected one as PEM (-----BEGIN PRIVATE KEY-----)")
        })?;
        let key = CertifiedKey::from_der(certificates.to_vec(), key, provider);
        key.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => faulty(&format_args!(
                "is not the key of {}; name the two that belong together",
                self.cert.display()
            )),
            error => faulty(&format_args!(
                "cannot be used ({error}); expected a key of RSA, ECDSA (P-256, P-384) or Ed25519"
            )),
        })
    }

    /// They are not at fault alone.
    pub(super) fn faulty(&self, why: impl Display) -> Faulty {
        Faulty::of(&self.cert, why)
    }

    /// Which version of them is there.
    pub(super) fn stamp(&self) -> Stamp {
        let files = [&self.cert, &self.key].into_iter().chain(&self.client_ca);
        let of = |path: &PathBuf| {
            // Also who may read it counts.
            let found = std::fs::metadata(path).ok()?;
            Some([found.ino() as i64, found.ctime(), found.ctime_nsec()])
        };
        Stamp(files.map(of).collect())
    }
}

/// A certificate and its key, as a client shows them.
pub(super) fn own_key(cert: &Path, key: &Path) -> Result<CertifiedKey, Faulty> {
    let files = TlsFiles {
        cert: cert.to_owned(),
        key: key.to_owned(),
        client_ca: None,
        min_version: MinVersion::Tls12,
    };
    files.key(&ring::default_provider(), &certificates(cert)?)
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Faulty> {
    let expected = "expected one or more as PEM (-----BEGIN CERTIFICATE-----)";
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Faulty::of(
            path,
            format_args!("holds no certificate, {expected}"),
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Faulty> {
    let read = || {
        let found = std::fs::metadata(path)?;
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !found.is_file() || found.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("is no file of certificates or keys"));
        }
        std::fs::read(path)
    };
    read().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Faulty::of(path, "there is no such file; name the one that is meant")
        }
        io::ErrorKind::PermissionDenied => Faulty::of(
            path,
            "may not be read; let the user that the server runs as read it (chgrp, chmod 640)",
        ),
        _ => Faulty::of(path, error),
    })
}

/// Of the first, which is ours.
fn validity(
    path: &Path,
    certificates: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<Validity, Faulty> {
    let first = certificates.first();
    let validity = first.and_then(|certificate| Validity::of(certificate));
    let Some(validity) = validity else {
        return Err(Faulty::of(path, "its first certificate cannot be read"));
    };
    if now > validity.not_after {
        let at = Shown(validity.not_after);
        return Err(Faulty::of(
            path,
            format_args!("has expired at {at}; have a new one issued"),
        ));
    }
    if now < validity.not_before {
        let at = Shown(validity.not_before);
        return Err(Faulty::of(
            path,
            format_args!("counts only from {at} on; look whether the clock is right"),
        ));
    }
    Ok(validity)
}

/// Both forms in which a key with a passphrase is written.
fn is_locked(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|part| part == words);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// A time, as people read it.
pub(super) struct Shown(pub(super) SystemTime);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799); // of the year 9999
        httpdate::HttpDate::from(self.0.min(last)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::crypto::ring::Ticketer;

    use super::*;

    /// A folder of this test alone.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("iii-stream-tls-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn files(&self) -> TlsFiles {
            let (certificate, key) = pair((2020, 2100));
            TlsFiles {
                cert: self.write("cert.pem", &certificate),
                key: self.write("key.pem", &key),
                client_ca: None,
                min_version: MinVersion::Tls12,
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn pair((from, until): (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 2);
        params.not_after = date_time_ymd(until, 3, 4);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn fault(files: &TlsFiles) -> String {
        match files.load(Ticketer::new().unwrap(), SystemTime::now()) {
            Ok(_) => "none".to_owned(),
            Err(faulty) => faulty.to_string(),
        }
    }

    #[test]
    fn files_in_order_are_taken() {
        let folder = Folder::new("order");
        let mut files = folder.files();
        assert_eq!(fault(&files), "none");
        files.client_ca = Some(folder.write("ca.pem", &pair((2020, 2100)).0));
        files.min_version = MinVersion::Tls13;
        assert_eq!(fault(&files), "none");
        let tickets = Ticketer::new().unwrap();
        let loaded = files.load(tickets, SystemTime::now()).unwrap();
        assert_eq!(
            Shown(loaded.not_after).to_string(),
            "Thu, 04 Mar 2100 00:00:00 GMT"
        );
    }

    #[test]
    fn each_file_at_fault_is_one_line_with_what_to_do() {
        let folder = Folder::new("fault");
        let files = folder.files();
        let (stranger, _) = pair((2020, 2100));
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old_form = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let of = |cert: Option<&str>, key: Option<&str>, ca: Option<&str>| {
            let write = |name, text: Option<&str>, old: &PathBuf| match text {
                Some(text) => folder.write(name, text),
                None => old.clone(),
            };
            fault(&TlsFiles {
                cert: write("other-cert.pem", cert, &files.cert),
                key: write("other-key.pem", key, &files.key),
                client_ca: ca.map(|text| folder.write("ca.pem", text)),
                min_version: MinVersion::Tls12,
            })
        };
        for (line, wanted) in [
            (
                of(Some(""), None, None),
                "other-cert.pem: holds no certificate, expected one or more as PEM",
            ),
            (
                of(Some("x"), None, None),
                "other-cert.pem: holds no certificate",
            ),
            (
                of(Some(damaged), None, None),
                "other-cert.pem: its first certificate cannot be read",
            ),
            (
                of(None, Some(""), None),
                "other-key.pem: holds no private key, expected one as PEM",
            ),
            (
                of(None, Some(no_key), None),
                "other-key.pem: cannot be used (",
            ),
            (
                of(None, Some(locked), None),
                "other-key.pem: has a passphrase, and nobody is there to type it; openssl pkey -in ",
            ),
            (
                of(None, Some(old_form), None),
                "other-key.pem: has a passphrase",
            ),
            (
                of(Some(&stranger), None, None),
                "key.pem: is not the key of ",
            ),
            (
                of(Some(&pair((2000, 2001)).0), None, None),
                "other-cert.pem: has expired at Sun, 04 Mar 2001 00:00:00 GMT; have a new one issued",
            ),
            (
                of(Some(&pair((2090, 2091)).0), None, None),
                "other-cert.pem: counts only from Mon, 02 Jan 2090 00:00:00 GMT on; look whether the clock is right",
            ),
            (of(None, None, Some("")), "ca.pem: holds no certificate"),
            (of(None, None, Some(damaged)), "ca.pem: "),
        ] {
            assert!(line.contains(wanted), "{line:?} lacks {wanted:?}");
            assert!(!line.contains('\n'), "{line:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_may_not_be_one_is_said() {
        let folder = Folder::new("missing");
        let mut files = folder.files();
        files.key = folder.0.join("none.pem");
        assert!(
            fault(&files).ends_with("none.pem: there is no such file; name the one that is meant")
        );
        files.key = folder.0.clone();
        assert!(fault(&files).contains("s a directory"), "{}", fault(&files));
        files.key = "/dev/zero".into();
        assert!(
            fault(&files).contains("/dev/zero: is no file"),
            "{}",
            fault(&files)
        );
    }

    #[test]
    fn another_version_of_a_file_shows() {
        let folder = Folder::new("stamp");
        let files = folder.files();
        let before = files.stamp();
        assert_eq!(files.stamp(), before);
        let fresh = folder.write("fresh.pem", &pair((2020, 2100)).0);
        std::fs::rename(fresh, &files.cert).unwrap();
        let after = files.stamp();
        assert_ne!(after, before);
        std::fs::remove_file(&files.key).unwrap();
        assert_ne!(files.stamp(), after);
    }
}
