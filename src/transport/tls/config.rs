//! The application's interface to TLS: certificates, keys, client certificates, and how to replace them.
//!
//! ```text
//!   PEM files ──▶ TlsBuilder ──▶ Tls ──┬── clone ──▶ loop 1 ── accept ──▶ TlsConn (keeps its first configuration)
//!                                      ├── clone ──▶ loop 2
//!                     replace ────────▶└── one cell, shared by all clones
//! ```

use std::{
    cell::Cell,
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    Error, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::verify_server_name,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::ServerName,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    error::TlsError,
    pem::{Source, load},
};

/// The TLS configuration of a server: its certificates and keys, and whether clients must present one.
///
/// Cheap to clone; all clones share one configuration. [`replace`](Self::replace) changes it for all of them while the
/// server runs. New connections use the new one; existing connections keep theirs.
///
/// It accepts TLS 1.2 and 1.3, ALPN `http/1.1`, `http/1.0`, and `h2` where the server [speaks
/// HTTP/2](crate::Server::versions) (and [others](TlsBuilder::alpn), if named). It resumes sessions by tickets; no early
/// data.
#[derive(Clone)]
pub struct Tls {
    current: Arc<RwLock<Current>>,
}

/// The configuration of new connections.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    /// The same, with HTTP/2 among the protocols of ALPN.
    with_http2: Arc<ServerConfig>,
    /// Empty for a configuration that was made elsewhere.
    certificates: Arc<Certificates>,
}

impl Tls {
    /// Loads one certificate (with its chain, the server's own first) and its private key, from PEM files. The key may
    /// be in PKCS#8, SEC1 or PKCS#1; both may be the same file.
    ///
    /// # Errors
    /// If a file cannot be read, does not contain what it must, or certificate and key do not belong together.
    pub fn pem(cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Result<Self, TlsError> {
        Self::builder().pem(cert_file, key_file)?.build()
    }

    /// Like [`pem`](Self::pem), but from memory.
    ///
    /// # Errors
    /// Like those of [`pem`](Self::pem).
    pub fn pem_bytes(cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::builder().pem_bytes(cert, key)?.build()
    }

    /// Returns a builder: for several certificates, or to ask clients for theirs.
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    /// Makes new connections use the current configuration of `other`. Earlier sessions are not resumed (their tickets
    /// were sealed with keys that `other` does not have): their clients do a full handshake. That is intended, as
    /// `other` may require more of a client than this one did.
    pub fn replace(&self, other: &Self) {
        let other = other.current();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// Replaces all certificates by a renewed one. Everything else stays, ticket keys included, so that clients can
    /// resume their sessions.
    ///
    /// If the files are invalid, nothing changes.
    ///
    /// # Errors
    /// Like those of [`pem`](Self::pem).
    pub fn replace_pem(&self, cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Result<(), TlsError> {
        let certified = load(&Source::file(cert_file.as_ref())?, &Source::file(key_file.as_ref())?)?;
        let certificates = Arc::new(Certificates(vec![Arc::new(certified)]));
        let before = self.current();
        let renewed = |config: &ServerConfig| {
            let mut config = config.clone();
            config.cert_resolver = Arc::new(Noting(certificates.clone()));
            Arc::new(config)
        };
        let (config, with_http2) = (renewed(&before.config), renewed(&before.with_http2));
        let new = Current { config, with_http2, certificates };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Returns the certificates of new connections, each followed by its chain, in DER (RFC 5280): for example to find
    /// out when they expire. Empty for a [`ServerConfig`] that was made elsewhere.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let certified = self.current().certificates;
        certified.0.iter().flat_map(|one| one.cert.iter().map(|der| der.to_vec())).collect()
    }

    /// Returns the configuration for a new connection. `http2`: the server speaks HTTP/2.
    pub(super) fn config(&self, http2: bool) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if http2 { current.with_http2.clone() } else { current.config.clone() }
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `first`: the number of protocols that are preferred to HTTP/2; `None`: the configuration was made elsewhere, and
    /// its protocols are not changed.
    fn new(mut config: ServerConfig, certificates: Arc<Certificates>, first: Option<usize>) -> Self {
        // An observer can replay a request in early data, and nothing here would report that to the application.
        config.max_early_data_size = 0;
        config.cert_resolver = Arc::new(Noting(config.cert_resolver));
        let config = Arc::new(config);
        let with_http2 = match first.filter(|_| cfg!(feature = "http2")) {
            None => config.clone(),
            Some(first) => {
                let mut config = ServerConfig::clone(&config);
                // The application may have named it.
                if !config.alpn_protocols.iter().any(|protocol| protocol == b"h2") {
                    config.alpn_protocols.insert(first, b"h2".to_vec());
                }
                Arc::new(config)
            }
        };
        Self { current: Arc::new(RwLock::new(Current { config, with_http2, certificates })) }
    }
}

/// Takes a configuration unchanged (ALPN and tickets too), except that early data stays off.
impl From<Arc<ServerConfig>> for Tls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::new(Arc::unwrap_or_clone(config), Arc::new(Certificates(Vec::new())), None)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Builds a [`Tls`]: several certificates, client certificates, and protocols other than HTTP.
///
/// A client names the host it wants (SNI). It gets the first certificate that is valid for that name and whose key it
/// can verify. Without a name, or with one that no certificate has, it gets the first of all.
#[derive(Debug, Default)]
pub struct TlsBuilder {
    certificates: Vec<Arc<CertifiedKey>>,
    /// The roots of client certificates, and whether a client must have one.
    clients: Option<(RootCertStore, bool)>,
    /// Protocols preferred to HTTP.
    alpn: Vec<Vec<u8>>,
    /// The accepted versions; `None` for all.
    versions: Option<Vec<TlsVersion>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

impl TlsBuilder {
    /// Adds a certificate (with its chain, the server's own first) and its private key, from PEM files.
    ///
    /// # Errors
    /// If a file cannot be read, does not contain what it must, or certificate and key do not belong together.
    pub fn pem(self, cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (cert, key) = (Source::file(cert_file.as_ref())?, Source::file(key_file.as_ref())?);
        self.add(&cert, &key)
    }

    /// Like [`pem`](Self::pem), but from memory.
    ///
    /// # Errors
    /// Like those of [`pem`](Self::pem).
    pub fn pem_bytes(self, cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let (cert, key) = (Source::bytes("the given certificate", cert), Source::bytes("the given private key", key));
        self.add(&cert, &key)
    }

    /// Asks clients for a certificate signed by one of those in `ca_file` (PEM). An invalid one is always rejected. A
    /// missing one is rejected only if `required` is `true`.
    ///
    /// # Errors
    /// If the file cannot be read, or contains no certificate that can sign others.
    pub fn client_certificates(self, ca_file: impl AsRef<Path>, required: bool) -> Result<Self, TlsError> {
        self.clients(&Source::file(ca_file.as_ref())?, required)
    }

    /// Like [`client_certificates`](Self::client_certificates), but from memory.
    ///
    /// # Errors
    /// Like those of [`client_certificates`](Self::client_certificates).
    pub fn client_certificates_bytes(self, ca: &[u8], required: bool) -> Result<Self, TlsError> {
        self.clients(&Source::bytes("the given client CA", ca), required)
    }

    /// Accepts also these protocols by ALPN (RFC 7301), the preferred first, and each before HTTP.
    /// [`Handler::alpn`](crate::Handler::alpn) returns the upgrade that handles one.
    pub fn alpn<'a>(mut self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        self.alpn.extend(protocols.into_iter().map(|protocol| protocol.as_bytes().to_vec()));
        self
    }

    /// Accepts only these versions of TLS. Without it, all that [`TlsVersion`] names are accepted.
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.versions = Some(versions.into_iter().collect());
        self
    }

    /// Returns the configuration.
    ///
    /// # Errors
    /// If no certificate was added, if no version is accepted, or if rustls rejects a certificate.
    pub fn build(self) -> Result<Tls, TlsError> {
        if self.certificates.is_empty() {
            return Err(TlsError::Unusable("no certificate was added: call `pem` before `build`".into()));
        }
        let unusable = |error: Error| TlsError::Unusable(error.to_string());
        // Named explicitly: the process's default may be missing, or set by the application.
        let provider = Arc::new(default_provider());
        let versions = self.versions.unwrap_or_else(|| vec![TlsVersion::Tls12, TlsVersion::Tls13]);
        if versions.is_empty() {
            return Err(TlsError::Unusable("no version of TLS is accepted".into()));
        }
        let versions: Vec<_> = versions.into_iter().map(TlsVersion::supported).collect();
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(unusable)?;
        let config = match self.clients {
            None => config.with_no_client_auth(),
            Some((roots, required)) => {
                let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                if !required {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier = verifier.build().map_err(|error| TlsError::Unusable(error.to_string()))?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let certificates = Arc::new(Certificates(self.certificates));
        let mut config = config.with_cert_resolver(certificates.clone());
        // A client that supports only HTTP/1.0 may offer just that, and is served: without it the handshake would fail.
        let first = self.alpn.len();
        config.alpn_protocols = self.alpn;
        config.alpn_protocols.extend([b"http/1.1".to_vec(), b"http/1.0".to_vec()]);
        // Clients keep the sessions: nothing grows here, and any loop can resume a session of another.
        config.ticketer = Ticketer::new().map_err(unusable)?;
        // Every ticket costs a key derivation, a sealing and some 200 bytes; a resumed connection brings a fresh one.
        config.send_tls13_tickets = 1;
        Ok(Tls::new(config, certificates, Some(first)))
    }

    fn add(mut self, cert: &Source<'_>, key: &Source<'_>) -> Result<Self, TlsError> {
        self.certificates.push(Arc::new(load(cert, key)?));
        Ok(self)
    }

    fn clients(mut self, ca: &Source<'_>, required: bool) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for cert in ca.certificates()? {
            roots.add(cert).map_err(|error| ca.malformed(error))?;
        }
        self.clients = Some((roots, required));
        Ok(self)
    }
}

/// Selects a certificate by the name that a client requests. It is never empty.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = &self.0[..] {
            return Some(only.clone());
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        // webpki compares names, wildcards included, as the client will. Parsing a certificate takes a microsecond:
        // little beside a handshake, for as many certificates as are listed by hand.
        let has_name = |certified: &CertifiedKey| {
            let parsed = certified.cert.first().and_then(|cert| ParsedCertificate::try_from(cert).ok());
            parsed.zip(name.as_ref()).is_some_and(|(cert, name)| verify_server_name(&cert, name).is_ok())
        };
        let verifiable = |certified: &CertifiedKey| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let rank = |certified: &CertifiedKey| match (has_name(certified), verifiable(certified)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        self.0.iter().min_by_key(|certified| rank(certified)).cloned()
    }
}

thread_local! {
    /// The name in the ClientHello that this thread processed last. See [`Noting`].
    static ASKED_FOR: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Unbuffered connections do not report the name that their client asked for. But rustls selects a certificate for it
/// within the call that processes the ClientHello: the name is recorded there, and fetched when that call returns.
#[derive(Debug)]
struct Noting(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_FOR.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// Returns the name a client asked for, if records of a ClientHello were just processed on this thread.
pub(super) fn take_asked_for() -> Option<Box<str>> {
    ASKED_FOR.take()
}
