//! TLS as a client: the trusted certificates, the offered protocols, and a client certificate.

use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    error::TlsError,
    pem::{Source, load},
    pinned::Pinned,
};

/// The TLS configuration of outbound connections: the trusted certificates, and a client certificate.
///
/// Cheap to clone; all clones share one configuration and the resumable sessions (of 256 servers).
/// [`replace`](Self::replace) changes it for all of them, for example when the client certificate is renewed.
///
/// It offers TLS 1.2 and 1.3, sends the server's name (SNI), offers ALPN `http/1.1`, and resumes sessions; no early
/// data.
///
/// ```no_run
/// use uncork::TlsClient;
/// # fn main() -> Result<(), uncork::TlsError> {
/// // Trusts servers whose certificates this authority has signed, and no others.
/// let ours = TlsClient::roots_pem(&std::fs::read("ca.pem").unwrap_or_default())?;
/// # let _ = ours;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsClient {
    current: Arc<RwLock<Arc<ClientConfig>>>,
}

impl TlsClient {
    /// Trusts only servers whose certificate was signed by one of those in `pem`. A self-signed certificate is its own
    /// root.
    ///
    /// # Errors
    /// If `pem` contains no certificate, or a malformed one.
    pub fn roots_pem(pem: &[u8]) -> Result<Self, TlsError> {
        Self::builder().roots_pem(pem)?.build()
    }

    /// Trusts the root certificates of this system, as its other programs do.
    ///
    /// # Errors
    /// If the system's certificates cannot be found, or contain none.
    #[cfg(feature = "client")]
    pub fn system() -> Result<Self, TlsError> {
        Self::builder().system()?.build()
    }

    /// Returns a builder: for roots from several sources, or for a client certificate.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder::default()
    }

    /// Makes new connections use the current configuration of `other`. Existing connections keep theirs. Earlier
    /// sessions are not resumed: a resumed session would have the client certificate of the first handshake.
    pub fn replace(&self, other: &Self) {
        let other = other.config();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// Returns a configuration of its own that offers these protocols by ALPN, the preferred first; none if the list is
    /// empty. A later [`replace`](Self::replace) of this one does not change it.
    pub fn alpn(&self, protocols: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.config());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self::new(Arc::new(config))
    }

    /// Returns `true` if a server could prove this name: a DNS name or an IP address.
    pub(crate) fn is_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }

    /// Returns the configuration for a new connection.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn new(config: Arc<ClientConfig>) -> Self {
        Self { current: Arc::new(RwLock::new(config)) }
    }
}

/// Takes a configuration unchanged (ALPN and sessions too), except that early data stays off.
impl From<Arc<ClientConfig>> for TlsClient {
    fn from(config: Arc<ClientConfig>) -> Self {
        if !config.enable_early_data {
            return Self::new(config);
        }
        // An observer can replay early data, and the server would not notice.
        let mut config = Arc::unwrap_or_clone(config);
        config.enable_early_data = false;
        Self::new(Arc::new(config))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

/// Builds a [`TlsClient`]: roots from several sources, and a client certificate for servers that ask for one.
#[derive(Debug)]
pub struct TlsClientBuilder {
    roots: RootCertStore,
    own: Option<Arc<CertifiedKey>>,
    /// Trusted keys.
    pins: Vec<[u8; 32]>,
    /// Protocols preferred to HTTP.
    alpn: Vec<Vec<u8>>,
}

impl Default for TlsClientBuilder {
    fn default() -> Self {
        Self { roots: RootCertStore::empty(), own: None, pins: Vec::new(), alpn: Vec::new() }
    }
}

impl TlsClientBuilder {
    /// Trusts also certificates signed by those in `file` (PEM).
    ///
    /// # Errors
    /// If the file cannot be read, or contains no certificate that can sign others.
    pub fn roots(self, file: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.add(&Source::file(file.as_ref())?)
    }

    /// Like [`roots`](Self::roots), but from memory.
    ///
    /// # Errors
    /// Like those of [`roots`](Self::roots).
    pub fn roots_pem(self, pem: &[u8]) -> Result<Self, TlsError> {
        self.add(&Source::bytes("the given roots", pem))
    }

    /// Trusts also the root certificates of this system. (`SSL_CERT_FILE` and `SSL_CERT_DIR` have their usual meaning.)
    /// Unusable ones are skipped.
    ///
    /// # Errors
    /// If no usable certificate is found.
    #[cfg(feature = "client")]
    pub fn system(mut self) -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = self.roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(self);
        }
        let why = found.errors.first().map_or_else(|| "none are installed".into(), ToString::to_string);
        Err(TlsError::Unusable(format!("cannot load the system's root certificates: {why}; add some with `roots`")))
    }

    /// Sets the client certificate (with its chain, the certificate first) and private key for servers that ask for
    /// one, from PEM files.
    ///
    /// # Errors
    /// If a file cannot be read, does not contain what it must, or certificate and key do not belong together.
    pub fn certificate(self, cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (cert, key) = (Source::file(cert_file.as_ref())?, Source::file(key_file.as_ref())?);
        self.show(&cert, &key)
    }

    /// Like [`certificate`](Self::certificate), but from memory.
    ///
    /// # Errors
    /// Like those of [`certificate`](Self::certificate).
    pub fn certificate_pem(self, cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let (cert, key) = (Source::bytes("the given certificate", cert), Source::bytes("the given private key", key));
        self.show(&cert, &key)
    }

    /// Trusts a server whose certificate has a key with this SHA-256, whatever else the certificate contains: name,
    /// signer, time. It is the SHA-256 of the SubjectPublicKeyInfo, as in RFC 7469 §2.4 and curl's `--pinnedpubkey`.
    /// With roots as well, both must hold. Several keys may be given, for a change of keys.
    ///
    /// `openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256` prints it.
    pub fn pin(mut self, sha256: [u8; 32]) -> Self {
        self.pins.push(sha256);
        self
    }

    /// Offers also these protocols by ALPN, the preferred first, and each before `http/1.1`.
    /// [`Dialed::alpn`](crate::Dialed::alpn) returns the selected one.
    pub fn alpn<'a>(mut self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        self.alpn.extend(protocols.into_iter().map(|protocol| protocol.as_bytes().to_vec()));
        self
    }

    /// Returns the configuration.
    ///
    /// # Errors
    /// If no certificate or key is trusted, or rustls rejects the certificates.
    pub fn build(self) -> Result<TlsClient, TlsError> {
        if self.roots.is_empty() && self.pins.is_empty() {
            return Err(TlsError::Unusable(
                "no certificate or key is trusted: call `roots` or `pin` before `build`".into(),
            ));
        }
        // Named explicitly: the process's default may be missing, or set by the application.
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
        Ok(TlsClient::new(Arc::new(config)))
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
