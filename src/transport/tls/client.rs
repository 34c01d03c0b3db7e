//! TLS as a client: whose certificates are believed, what is offered, and what is shown of our own.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    config::{Source, TlsError, load},
    pinned::Pinned,
};

/// How an outgoing connection speaks TLS: which certificates are believed, and which one of our own is shown.
///
/// Cheap to clone; all clones are one configuration, and share the sessions that can be resumed (256 servers).
///
/// TLS 1.2 and 1.3, the server's name sent along (SNI), ALPN `http/1.1`, sessions resumed; no early data.
///
/// ```no_run
/// use uncork::TlsClient;
/// # fn main() -> Result<(), uncork::TlsError> {
/// // Servers whose certificates this authority has signed, and no others.
/// let ours = TlsClient::roots_pem(&std::fs::read("ca.pem").unwrap_or_default())?;
/// # let _ = ours;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Believes servers whose certificate was signed by one of those in `pem`, and nobody else. A self-signed
    /// certificate is its own root.
    ///
    /// # Errors
    /// If there is none, or one that can't be understood.
    pub fn roots_pem(pem: &[u8]) -> Result<Self, TlsError> {
        Self::builder().roots_pem(pem)?.build()
    }

    /// Believes servers as the other programs on this system do.
    ///
    /// # Errors
    /// If the system's certificates can't be found, or are none.
    #[cfg(feature = "client")]
    pub fn system() -> Result<Self, TlsError> {
        Self::builder().system()?.build()
    }

    /// For roots from several places, and for a certificate of our own.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder::default()
    }

    /// The same, offering these protocols by ALPN, the preferred first; none at all if the list is empty.
    pub fn alpn(&self, protocols: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { config: Arc::new(config) }
    }

    /// Whether a server could prove to have this name: a DNS name or an IP address.
    pub(crate) fn is_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }
}

/// Takes a configuration as it is (ALPN and sessions too), except that early data stays off.
impl From<Arc<ClientConfig>> for TlsClient {
    fn from(config: Arc<ClientConfig>) -> Self {
        if !config.enable_early_data {
            return Self { config };
        }
        // What is sent early can be replayed by anyone who saw it, and nobody here would know.
        let mut config = Arc::unwrap_or_clone(config);
        config.enable_early_data = false;
        Self { config: Arc::new(config) }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

/// Roots from several places, and a certificate of our own for servers that ask for one.
#[derive(Debug)]
pub struct TlsClientBuilder {
    roots: RootCertStore,
    own: Option<Arc<CertifiedKey>>,
    /// Keys of servers that are believed.
    pins: Vec<[u8; 32]>,
    /// What is rather spoken than HTTP.
    alpn: Vec<Vec<u8>>,
}

impl Default for TlsClientBuilder {
    fn default() -> Self {
        Self { roots: RootCertStore::empty(), own: None, pins: Vec::new(), alpn: Vec::new() }
    }
}

impl TlsClientBuilder {
    /// Believes also what was signed by those in `file` (PEM).
    ///
    /// # Errors
    /// If the file can't be read, or has no certificate that can sign others.
    pub fn roots(self, file: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.add(&Source::file(file.as_ref())?)
    }

    /// The same from memory.
    ///
    /// # Errors
    /// As [`roots`](Self::roots).
    pub fn roots_pem(self, pem: &[u8]) -> Result<Self, TlsError> {
        self.add(&Source::bytes("the roots given", pem))
    }

    /// Believes also what other programs on this system believe. (`SSL_CERT_FILE` and `SSL_CERT_DIR` have their usual
    /// meaning.) What is unusable among it is passed over.
    ///
    /// # Errors
    /// If nothing usable is found.
    #[cfg(feature = "client")]
    pub fn system(mut self) -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = self.roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(self);
        }
        let why = found.errors.first().map_or_else(|| "none are installed".into(), ToString::to_string);
        Err(TlsError::Unusable(format!("this system's root certificates can't be had: {why}; give some by `roots`")))
    }

    /// The certificate (with its chain, our own first) and private key to show to servers that ask, from PEM files.
    ///
    /// # Errors
    /// If a file can't be read, has none of what it should have, or certificate and key don't belong together.
    pub fn certificate(self, cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (cert, key) = (Source::file(cert_file.as_ref())?, Source::file(key_file.as_ref())?);
        self.show(&cert, &key)
    }

    /// The same from memory.
    ///
    /// # Errors
    /// As [`certificate`](Self::certificate).
    pub fn certificate_pem(self, cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let (cert, key) = (Source::bytes("the certificate given", cert), Source::bytes("the private key given", key));
        self.show(&cert, &key)
    }

    /// Believes a server whose certificate has a key with this SHA-256 (of its SubjectPublicKeyInfo, as RFC 7469 §2.4 and
    /// curl's `--pinnedpubkey` have it), whatever else the certificate says: name, signer, time. With roots as well, both
    /// must hold. Several may be given, for a change of keys.
    ///
    /// `openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256` tells it.
    pub fn pin(mut self, sha256: [u8; 32]) -> Self {
        self.pins.push(sha256);
        self
    }

    /// Offers also these protocols by ALPN, the preferred first, and each before `http/1.1`;
    /// [`Dialed::alpn`](crate::Dialed::alpn) says which was agreed upon.
    pub fn alpn<'a>(mut self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        self.alpn.extend(protocols.into_iter().map(|protocol| protocol.as_bytes().to_vec()));
        self
    }

    /// The configuration, ready to dial.
    ///
    /// # Errors
    /// If nobody is believed, or rustls won't have what was given.
    pub fn build(self) -> Result<TlsClient, TlsError> {
        if self.roots.is_empty() && self.pins.is_empty() {
            return Err(TlsError::Unusable("nobody is believed: call `roots` before `build`".into()));
        }
        // Named, not the process's default: that one may be missing, or an application's own.
        let provider = Arc::new(default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        let config = match self.pins.is_empty() {
            true => config.with_root_certificates(self.roots),
            false => {
                let pinned = Pinned::new(self.pins, self.roots, &provider)?;
                config.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
            }
        };
        let mut config = match self.own {
            None => config.with_no_client_auth(),
            Some(own) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        };
        config.alpn_protocols = self.alpn;
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(TlsClient { config: Arc::new(config) })
    }

    fn add(mut self, source: &Source<'_>) -> Result<Self, TlsError> {
        for cert in source.certificates()? {
            self.roots.add(cert).map_err(|error| source.malformed(error))?;
        }
        Ok(self)
    }

    fn show(mut self, cert: &Source<'_>, key: &Source<'_>) -> Result<Self, TlsError> {
        self.own = Some(Arc::new(load(cert, key)?));
        Ok(self)
    }
}
