//! Certificates and keys in PEM.

use std::{borrow::Cow, fmt, fs, path::Path};

use rustls::{
    Error, InconsistentKeys,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::error::TlsError;

/// PEM text, and its name in error messages.
pub(super) struct Source<'a> {
    name: String,
    pem: Cow<'a, [u8]>,
}

impl<'a> Source<'a> {
    pub(super) fn file(path: &Path) -> Result<Self, TlsError> {
        let name = path.display().to_string();
        match fs::read(path) {
            Ok(pem) => Ok(Self { name, pem: pem.into() }),
            Err(error) => Err(TlsError::Unreadable { file: name, error }),
        }
    }

    pub(super) fn bytes(name: &str, pem: &'a [u8]) -> Self {
        Self { name: name.into(), pem: pem.into() }
    }

    pub(super) fn malformed(&self, what: impl fmt::Display) -> TlsError {
        TlsError::Malformed { file: self.name.clone(), what: what.to_string() }
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all = CertificateDer::pem_slice_iter(&self.pem).collect::<Result<Vec<_>, _>>();
        match all.map_err(|error| self.malformed(error))? {
            none if none.is_empty() => Err(TlsError::NoCertificate { file: self.name.clone() }),
            some => Ok(some),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.pem).map_err(|error| match error {
            // PKCS#8 marks it in the label, the older formats in a header that leaves the base64 unreadable.
            _ if self.pem.windows(9).any(|word| word == b"ENCRYPTED") => {
                TlsError::EncryptedKey { file: self.name.clone() }
            }
            pem::Error::NoItemsFound => TlsError::NoKey { file: self.name.clone() },
            error => self.malformed(error),
        })
    }
}

/// A certificate and its key, which belong together.
pub(super) fn load(cert: &Source<'_>, key: &Source<'_>) -> Result<CertifiedKey, TlsError> {
    let chain = cert.certificates()?;
    let provider: CryptoProvider = default_provider();
    let private = provider.key_provider.load_private_key(key.key()?).map_err(|error| key.malformed(error))?;
    if let Some(first) = chain.first() {
        ParsedCertificate::try_from(first).map_err(|error| cert.malformed(error))?;
    }
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            let belongs = |cert: &CertificateDer<'static>| {
                CertifiedKey::new(vec![cert.clone()], certified.key.clone()).keys_match().is_ok()
            };
            let out_of_order = certified.cert.iter().skip(1).any(belongs);
            Err(TlsError::Mismatch { certificate: cert.name.clone(), key: key.name.clone(), out_of_order })
        }
        Err(error) => Err(cert.malformed(error)),
    }
}
