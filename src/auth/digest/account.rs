//! The user whose request is verified.

use std::fmt;

use super::algorithm::{Algorithm, HashValue};

/// A user's name and secret. It prints as the name, and `Debug` does not print the secret.
#[derive(Clone)]
pub struct Account {
    name: Box<[u8]>,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Password(Box<[u8]>),
    Digest(HashValue),
}

impl Account {
    /// Creates the account of a user whose password is known.
    pub fn with_password(name: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> Self {
        Self { name: name.as_ref().into(), secret: Secret::Password(password.as_ref().into()) }
    }

    /// Creates the account of a user whose [user digest](Algorithm::user_digest) is stored. It must be the one for the
    /// credentials' [algorithm](super::DigestCredentials::algorithm); another one is never accepted.
    pub fn with_digest(name: impl AsRef<[u8]>, digest: HashValue) -> Self {
        Self { name: name.as_ref().into(), secret: Secret::Digest(digest) }
    }

    /// Returns the user digest.
    pub(super) fn digest(&self, realm: &[u8], algorithm: Algorithm) -> HashValue {
        match &self.secret {
            Secret::Password(password) => algorithm.user_digest(&self.name, realm, password),
            Secret::Digest(digest) => *digest,
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.name))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account(\"{}\")", self.name.escape_ascii())
    }
}
