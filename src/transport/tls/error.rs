//! The errors of a TLS configuration.

use std::{fmt, io};

/// The reason why certificates or keys cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing, or cannot be read.
    Unreadable {
        /// The file.
        file: String,
        /// The system's error.
        error: io::Error,
    },
    /// The file contains no certificate.
    NoCertificate {
        /// The file.
        file: String,
    },
    /// The file contains no private key.
    NoKey {
        /// The file.
        file: String,
    },
    /// The private key is protected by a password.
    EncryptedKey {
        /// The file.
        file: String,
    },
    /// The file is malformed.
    Malformed {
        /// The file.
        file: String,
        /// The malformed part.
        what: String,
    },
    /// The private key is not the certificate's.
    Mismatch {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// The key belongs to a certificate further down in the file.
        out_of_order: bool,
    },
    /// The parts do not form a valid configuration.
    Unusable(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "{file}: no such file")
            }
            Self::Unreadable { file, error } => write!(f, "cannot read {file}: {error}"),
            Self::NoCertificate { file } => write!(
                f,
                "{file}: no certificate in it; give a PEM file with a line -----BEGIN CERTIFICATE----- \
                 (a DER file is converted by `openssl x509 -inform der`)"
            ),
            Self::NoKey { file } => write!(
                f,
                "{file}: no private key in it; give a PEM file with a line -----BEGIN PRIVATE KEY----- \
                 (or EC PRIVATE KEY, or RSA PRIVATE KEY)"
            ),
            Self::EncryptedKey { file } => {
                write!(f, "{file}: the private key is encrypted; provide an unencrypted one (`openssl pkey` writes it)")
            }
            Self::Malformed { file, what } => write!(f, "{file}: malformed: {what}"),
            Self::Mismatch { certificate, key, out_of_order: false } => write!(
                f,
                "{key}: this private key does not belong to the certificate in {certificate}; \
                 give the key the certificate was requested with"
            ),
            Self::Mismatch { certificate, key, out_of_order: true } => write!(
                f,
                "{certificate}: the private key in {key} belongs to a later certificate of this file; \
                 put the server's own certificate first, then those that signed it"
            ),
            Self::Unusable(what) => write!(f, "cannot set up TLS: {what}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            _ => None,
        }
    }
}
