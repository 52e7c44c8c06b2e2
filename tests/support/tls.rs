//! A certificate for `localhost`, of an authority that only the test knows.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub(crate) struct Localhost {
    /// Whom to trust, as PEM.
    pub(crate) authority: String,
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Localhost {
    pub(crate) fn make() -> Localhost {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        Localhost {
            authority: authority.pem(),
            certificate,
            key,
        }
    }
}
