//! Digest authentication (RFC 7616), on the server's side.

mod account;
mod algorithm;
mod credentials;
mod error;
mod nonce;
mod realm;
mod replay;
mod target;
#[cfg(test)]
mod tests;

pub use self::{
    account::Account,
    algorithm::{Algorithm, HashValue},
    credentials::{DigestCredentials, Qop, Username},
    error::DigestError,
    nonce::{Binding, Nonces},
    realm::{Digest, Qops},
    target::DigestTarget,
};
