//! Servers that are trusted for their key, not for the signer of their certificate.
//!
//! ```text
//!   certificate ──▶ SubjectPublicKeyInfo ──SHA-256─▶ among the pins?   ──and, if there are roots──▶ signed by one, for
//!                                                                                                    this name, now
//! ```
//! The signature of the handshake is checked in any case: a server must have the key of its certificate.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::error::TlsError;

#[derive(Debug)]
pub(super) struct Pinned {
    pins: Vec<[u8; 32]>,
    /// The verifier that must agree as well.
    signed: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    pub(super) fn new(
        pins: Vec<[u8; 32]>,
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let signed = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|error| TlsError::Unusable(error.to_string()))?,
            ),
        };
        Ok(Self { pins, signed, algorithms: provider.signature_verification_algorithms })
    }
}

/// Returns the SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4); `None` if the certificate is malformed.
pub(super) fn key_hash(cert: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let cert = ParsedCertificate::try_from(cert).ok()?;
    let hash = TLS13_AES_128_GCM_SHA256.tls13()?.common.hash_provider;
    hash.hash(&cert.subject_public_key_info()).as_ref().try_into().ok()
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash = key_hash(end_entity).ok_or(rustls::CertificateError::BadEncoding)?;
        if !self.pins.contains(&hash) {
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Error::General(format!("the server's key is not the pinned one: its SHA-256 is {hex}")));
        }
        match &self.signed {
            Some(signed) => signed.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
