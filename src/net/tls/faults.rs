//! Why a session as a client came to nothing: what is wrong, and what to do about it.
//!
//! Decides nothing.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// As one line: what the session says of it, and what is to be done.
pub(super) fn why(error: &Error) -> String {
    match in_words(error) {
        Some(words) => format!("{error}: {words}"),
        None => error.to_string(),
    }
}

/// The same of a read or a write under TLS.
pub fn why_of_io(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or_else(|| error.to_string(), why)
}

fn in_words(error: &Error) -> Option<String> {
    let words = match error {
        Error::InvalidCertificate(fault) => return of_certificate(fault),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what answers there speaks no TLS"
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => "it may want a certificate of ours, or other versions of TLS",
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => "it does not take our certificate: show one of an authority that it trusts",
        _ => return None,
    };
    Some(words.to_owned())
}

/// What is wrong with what the other side shows.
fn of_certificate(fault: &CertificateError) -> Option<String> {
    const DAY_S: u64 = Duration::from_hours(24).as_secs();
    Some(match fault {
        CertificateError::UnknownIssuer => "nobody whom we trust has signed it; trust its authority, or the \
            certificate itself where it has signed itself: SSL_CERT_FILE names a file of PEM"
            .to_owned(),
        CertificateError::BadSignature => "one whom we trust has the same name and another key: has it been made \
            anew? SSL_CERT_FILE has to name the new one"
            .to_owned(),
        // A type of the library below, known to us by its text alone.
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            "it shows the certificate of an authority (CA:TRUE) as its own; it needs one that is none: openssl \
             req -x509 makes one with -addext basicConstraints=critical,CA:FALSE"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that it is for, or give it this one (subjectAltName)".to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / DAY_S;
            format!("it has expired {days} days ago; it has to show a new one")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let days = not_before.as_secs().saturating_sub(time.as_secs()) / DAY_S;
            format!("it begins to count in {days} days; is the clock right, here and there?")
        }
        CertificateError::ApplicationVerificationFailure => {
            "it is not the one that the settings name; are these the settings of that server?"
                .to_owned()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SideData,
    };

    use super::*;

    #[derive(Clone, Copy)]
    enum Trusted {
        Itself,
        OfItsName,
        Another,
    }

    /// A certificate that has signed itself, and what a client says of it that trusts it, or
    /// another one of its name, or one of another name.
    fn said_of(change: impl FnOnce(&mut CertificateParams), trusted: Trusted) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let shown = params.self_signed(&key).unwrap();
        let other = KeyPair::generate().unwrap();
        let trusted = match trusted {
            Trusted::Itself => shown.der().clone(),
            Trusted::OfItsName => params.self_signed(&other).unwrap().der().clone(),
            Trusted::Another => {
                let name = &mut params.distinguished_name;
                name.push(rcgen::DnType::CommonName, "another");
                params.self_signed(&other).unwrap().der().clone()
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![shown.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        pass(&mut client, &mut server);
        server.process_new_packets().unwrap();
        pass(&mut server, &mut client);
        match client.process_new_packets() {
            Ok(_) => String::new(),
            Err(error) => why(&error),
        }
    }

    fn pass<A: SideData, B: SideData>(
        from: &mut rustls::ConnectionCommon<A>,
        to: &mut rustls::ConnectionCommon<B>,
    ) {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            to.read_tls(&mut rest).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
        assert_eq!(
            said_of(|_| {}, Trusted::Itself),
            "",
            "nothing is wrong with it"
        );
        let authority = |params: &mut CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        };
        let old = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
        let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
        let of_other = |params: &mut CertificateParams| {
            params.subject_alt_names.clear();
        };
        for (said, what, to_do) in [
            (said_of(authority, Trusted::Itself), "CA:TRUE", "CA:FALSE"),
            (
                said_of(|_| {}, Trusted::Another),
                "has signed it",
                "SSL_CERT_FILE",
            ),
            (
                said_of(|_| {}, Trusted::OfItsName),
                "another key",
                "SSL_CERT_FILE",
            ),
            (said_of(old, Trusted::Itself), "has expired", "a new one"),
            (
                said_of(early, Trusted::Itself),
                "begins to count",
                "is the clock right",
            ),
            (
                said_of(of_other, Trusted::Itself),
                "not valid for",
                "subjectAltName",
            ),
        ] {
            assert!(said.starts_with("invalid peer certificate: "), "{said}");
            assert!(said.contains(what) && said.contains(to_do), "{said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn what_no_session_has_said_is_told_as_it_is() {
        let told = why_of_io(&io::Error::other("no such thing"));
        assert_eq!(told, "no such thing");
        let told = why_of_io(&io::Error::other(Error::InvalidMessage(
            InvalidMessage::InvalidContentType,
        )));
        assert!(told.contains("speaks no TLS"), "{told}");
    }
}
