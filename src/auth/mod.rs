//! Authentication of requests by name and password: Basic (RFC 7617) and Digest (RFC 7616). Feature `auth`.
//!
//! ```text
//!   client ◀── 401, WWW-Authenticate ◀── Basic::response
//!                                    ◀── Digest::response ◀── a new nonce ◀── Nonces: key, binding, uses
//!                                                                               ▲
//!   client ──▶ Authorization ──▶ BasicCredentials ───▶ is(name, password)       │ opens a nonce, notes its use
//!                            └─▶ DigestCredentials ──▶ Digest::authenticate ────┘
//!                                                        ▲
//!                                                        Account ◀── the application
//! ```
//!
//! There is no I/O and no clock in it: the time comes with the request. A handler verifies, and decides:
//!
//! ```
//! use uncork::{Request, Response, auth::Basic};
//!
//! let basic = Basic::new("vault");
//! let handler = move |req: &mut Request<'_>| match basic.credentials(req) {
//!     Some(found) if found.is("alice", "open sesame") => Response::text("hello, alice\n"),
//!     _ => basic.response(),
//! };
//! # fn check(_: impl uncork::Handler) {}
//! # check(handler);
//! ```
//!
//! # Which one
//!
//! If in doubt, use Basic over TLS: the server can store hashes that are slow to guess, such as those of Argon2.
//! [`Digest`] keeps the password off the wire, so it is better than Basic where there is no TLS. It does not protect
//! the content. The server must store the password, or a [digest](Algorithm::user_digest) that is as good as the
//! password in this realm.
//!
//! # Requests with a body
//!
//! A handler should respond 401 before it receives the body: the client sends the body again with its credentials.
//! After that response the engine reads the rest of a short body, and closes the connection if the body is long.
//!
//! # Attempts
//!
//! Nothing here limits how often a client may guess. Count errors per [`PeerAddr::network`](crate::PeerAddr::network),
//! and respond 429 beyond a limit.

mod basic;
mod compare;
mod digest;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
mod params;

pub use self::{
    basic::{Basic, BasicCredentials},
    compare::constant_time_eq,
    digest::{
        Account, Algorithm, Binding, Digest, DigestCredentials, DigestError, DigestTarget, HashValue, Nonces, Qop,
        Qops, Username,
    },
};
