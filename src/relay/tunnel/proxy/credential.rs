//! Credentials of origin servers: proof, names and limits.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
#[cfg(feature = "spdy")]
use uncork::PeerAddr;

#[cfg(feature = "spdy")]
use super::trusted::Trusted;
use crate::relay::{ConfigError, tunnel::pattern::Pattern};

/// An origin server's credential: its proof, its names and its limits.
#[derive(Clone, Debug)]
pub struct Credential {
    pub(super) name: String,
    pub(super) proof: Proof,
    pub(super) hosts: Vec<Pattern>,
    pub(super) body: u64,
    pub(super) rate: Option<u64>,
    /// Addresses that are allowed for origin servers without a proof.
    #[cfg(feature = "spdy")]
    pub(super) sources: Option<Trusted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// SHA-256 of the token.
    Token([u8; 32]),
    /// SHA-256 of the certificate, in DER.
    Certificate([u8; 32]),
    /// None: the address is enough.
    #[cfg(feature = "spdy")]
    Address,
}

impl Proof {
    pub(super) fn of_token(token: &[u8]) -> Self {
        Self::Token(Sha256::digest(token).into())
    }

    /// Returns the proof by a certificate in DER.
    pub(super) fn of_certificate(certificate: &[u8]) -> Self {
        Self::Certificate(Sha256::digest(certificate).into())
    }

    /// Returns `true` if a peer has shown this proof. Hashes are compared in constant time.
    pub(super) fn is_same(&self, shown: &Self) -> bool {
        match (self, shown) {
            (Self::Token(a), Self::Token(b)) | (Self::Certificate(a), Self::Certificate(b)) => a.ct_eq(b).into(),
            _ => false,
        }
    }
}

impl Credential {
    /// Creates the credential for a token, by the token's SHA-256 in hexadecimal. The token itself should be 256 random
    /// bits. It is not stored here, so a reader of the configuration cannot impersonate the origin server. `name` is
    /// for logs and statistics.
    ///
    /// # Errors
    /// Returns an error if `hash` is not 64 hexadecimal digits.
    pub fn token(name: impl Into<String>, hash: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(name.into(), Proof::Token(sha256(hash)?)))
    }

    /// Creates the credential for a client certificate, by the SHA-256 of its DER in hexadecimal, with or without
    /// colons (as `openssl x509 -fingerprint -sha256` prints it). The listener must request and so verify client
    /// certificates ([`TlsBuilder::client_certificates`](uncork::TlsBuilder::client_certificates)).
    ///
    /// # Errors
    /// Returns an error if `hash` is not 64 hexadecimal digits.
    pub fn certificate(name: impl Into<String>, hash: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(name.into(), Proof::Certificate(sha256(&hash.replace(':', ""))?)))
    }

    fn new(name: String, proof: Proof) -> Self {
        Self {
            name,
            proof,
            hosts: Vec::new(),
            body: 1 << 30,
            rate: None,
            #[cfg(feature = "spdy")]
            sources: None,
        }
    }

    /// Accepts origin servers of spdy-proxy (`PUT /`, then SPDY) from the peers for which `sources` returns `true`.
    /// **This is not authentication**: any peer that can connect from there receives the requests of clients, and
    /// responds to them. So it is never on by default, and should be limited to single addresses. There is at most one
    /// such credential, and one origin server of it at a time: the newest. It serves all the names that are given here;
    /// `*` makes it serve all hosts that nothing else has registered.
    #[cfg(feature = "spdy")]
    pub fn allow_legacy_unauthenticated(
        name: impl Into<String>,
        sources: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { sources: Some(Trusted::peers(sources)), ..Self::new(name.into(), Proof::Address) }
    }

    /// Allows this name: `app.example`; `*.dev.example` for all names below `dev.example`, and for such patterns; `*`
    /// for all. Each may have a path, for what lies below it: `app.example/api`.
    ///
    /// # Errors
    /// Returns an error if it is not one of these.
    pub fn host(mut self, pattern: &str) -> Result<Self, ConfigError> {
        let pattern = Pattern::parse(pattern)
            .map_err(|expected| ConfigError::of(None, format!("invalid host name {pattern:?}: {expected}")))?;
        self.hosts.push(pattern);
        Ok(self)
    }

    /// Sets the maximum size of a request's body, in bytes. A larger one is rejected with 413. Default: 1 GiB.
    pub fn body(self, max: u64) -> Self {
        Self { body: max, ..self }
    }

    /// Sets how many bytes per second its connections may carry together, in both directions. Default: no limit.
    pub fn rate(self, limit: impl Into<Option<u64>>) -> Self {
        Self { rate: limit.into(), ..self }
    }

    /// Returns `true` if the credential may register this name.
    pub(super) fn allows(&self, claim: &Pattern) -> bool {
        self.hosts.iter().any(|host| host.covers(claim))
    }
}

fn sha256(hex: &str) -> Result<[u8; 32], ConfigError> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
            _ => None,
        })
        .collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(ConfigError::new("invalid SHA-256: expected 64 hexadecimal digits"))
}
