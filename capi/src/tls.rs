//! HTTPS by rustls: what the options of a daemon say, as far as it does not need GnuTLS.

use std::io;

use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};
use uncork::{Tls, TlsInfo, TlsVersion};

use crate::{logger::LogTo, options::TlsOptions};

/// What is known of the TLS session of a connection, from its first request on.
pub(crate) struct TlsFacts {
    /// The version of the protocol, and the cipher, by GnuTLS's numbers.
    pub(crate) version: Option<u32>,
    pub(crate) cipher: Option<u32>,
    /// The verified certificate of the client, in DER.
    pub(crate) client_certificate: Option<Box<[u8]>>,
}

impl TlsFacts {
    pub(crate) fn of(info: &TlsInfo<'_>) -> Self {
        let version = match info.version {
            "TLSv1.2" => Some(4),
            "TLSv1.3" => Some(5),
            _ => None,
        };
        let ciphers = [("AES_128_GCM", 10), ("AES_256_GCM", 11), ("CHACHA20_POLY1305", 23)];
        let cipher = ciphers.into_iter().find(|(name, _)| info.cipher_suite.contains(name)).map(|(_, number)| number);
        Self { version, cipher, client_certificate: info.peer_certificate.map(Into::into) }
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// Credentials that are certificates, by GnuTLS's number.
const CERTIFICATES: u32 = 1;

impl TlsOptions {
    /// Returns the configuration of a daemon with `MHD_USE_TLS`. What has no effect is logged.
    pub(crate) fn configure(&self, log: &LogTo) -> io::Result<Tls> {
        if self.credentials.is_some_and(|kind| kind != CERTIFICATES) {
            return Err(invalid(
                "MHD_OPTION_HTTPS_CRED_TYPE: only certificates (GNUTLS_CRD_CERTIFICATE) are available",
            ));
        }
        for option in &self.of_gnutls {
            log.line(&format_args!("{option} has no effect: it needs GnuTLS, and TLS is by rustls"));
        }
        if self.certificates.is_empty() || self.certificates.len() != self.keys.len() {
            return Err(invalid(
                "MHD_USE_TLS needs a certificate and its key: MHD_OPTION_HTTPS_MEM_CERT and MHD_OPTION_HTTPS_MEM_KEY",
            ));
        }
        let versions = self.versions(log);
        if versions.is_empty() {
            return Err(invalid("MHD_OPTION_HTTPS_PRIORITIES: no version is left of TLS 1.2 and 1.3"));
        }
        let mut tls = Tls::builder().versions(versions);
        for (certificate, key) in self.certificates.iter().zip(&self.keys) {
            let key = self.decrypted(key)?;
            tls = tls.pem_bytes(certificate, &key).map_err(|error| invalid(error.to_string()))?;
        }
        if let Some(trust) = &self.trust {
            // As the original does: a client may have none. The program can ask for it.
            tls = tls.client_certificates_bytes(trust, false).map_err(|error| invalid(error.to_string()))?;
        }
        tls.build().map_err(|error| invalid(error.to_string()))
    }

    /// Returns a key without its password, as PEM.
    fn decrypted(&self, key: &[u8]) -> io::Result<Vec<u8>> {
        let text = String::from_utf8_lossy(key);
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(invalid(
                "the private key has an encryption of its own format: \
                 convert it to PKCS#8 with `openssl pkcs8 -topk8 -v2 aes-256-cbc`",
            ));
        }
        const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
        let Some(at) = text.find(BEGIN) else { return Ok(key.to_vec()) };
        let Some(password) = &self.password else {
            return Err(invalid("the private key has a password: give MHD_OPTION_HTTPS_KEY_PASSWORD"));
        };
        let end = text[at..].find("-----END").map_or(text.len(), |end| at + end);
        let end = text[end..].find('\n').map_or(text.len(), |line| end + line);
        let unreadable =
            |error: &dyn std::fmt::Display| invalid(format!("the private key cannot be decrypted: {error}"));
        let (_, document) = SecretDocument::from_pem(text[at..end].trim_end()).map_err(|error| unreadable(&error))?;
        let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| unreadable(&error))?;
        let plain = info.decrypt(password).map_err(|error| unreadable(&error))?;
        let plain = plain.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|error| unreadable(&error))?;
        Ok(plain.as_bytes().to_vec())
    }

    /// Returns the versions of TLS that the words of the priorities leave. Other words are logged.
    fn versions(&self, log: &LogTo) -> Vec<TlsVersion> {
        let (mut tls12, mut tls13) = (true, true);
        let mut others = Vec::new();
        for words in &self.priorities {
            let words = String::from_utf8_lossy(words).to_ascii_uppercase();
            for word in words.split(':').map(str::trim).filter(|word| !word.is_empty()) {
                let (add, name) = match word.as_bytes()[0] {
                    b'+' => (true, &word[1..]),
                    b'-' | b'!' => (false, &word[1..]),
                    _ => (true, word),
                };
                match name {
                    "VERS-ALL" | "VERS-TLS-ALL" => (tls12, tls13) = (add, add),
                    "VERS-TLS1.2" => tls12 = add,
                    "VERS-TLS1.3" => tls13 = add,
                    // Never accepted, whatever the words say.
                    "VERS-TLS1.0" | "VERS-TLS1.1" | "VERS-SSL3.0" if !add => {}
                    // The defaults are like it.
                    "NORMAL" => {}
                    _ => others.push(word.to_owned()),
                }
            }
        }
        if !others.is_empty() {
            log.line(&format_args!("MHD_OPTION_HTTPS_PRIORITIES: these words have no effect: {}", others.join(":")));
        }
        [(tls12, TlsVersion::Tls12), (tls13, TlsVersion::Tls13)]
            .into_iter()
            .filter_map(|(accepted, version)| accepted.then_some(version))
            .collect()
    }
}
