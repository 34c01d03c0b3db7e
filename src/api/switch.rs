//! The action that switches a connection to another protocol.

use std::fmt;

use super::{Response, Upgrade};
use crate::h1::Headers;

/// A response after which the connection continues in another protocol (RFC 9110 §7.8).
#[must_use = "return it as an action"]
pub struct Switch {
    pub(crate) response: Response,
    /// No response is sent.
    pub(crate) bare: bool,
    pub(crate) upgrade: Box<dyn Upgrade>,
}

impl Switch {
    /// Creates a `101 Switching Protocols` to `protocol`; over HTTP/2 it is sent as a 200 (RFC 8441 §5).
    ///
    /// The request must ask for an upgrade ([`Request::wants_upgrade`](crate::Request::wants_upgrade)), which HTTP/1.0
    /// cannot. Otherwise the response is 426, and the upgrade is dropped uncalled.
    ///
    /// A body must be complete before the protocol can change: return the switch from
    /// [`Upload::end`](crate::Upload::end). Elsewhere, a body that has arrived completely is discarded; an incomplete
    /// one makes the response a 413.
    pub fn to(protocol: &str, upgrade: impl Upgrade + 'static) -> Self {
        Self::with_response(Response::with_any_status(101).header("Upgrade", protocol), upgrade)
    }

    /// Creates a `200 OK` to a CONNECT request (RFC 9110 §9.3.6).
    pub fn connect(upgrade: impl Upgrade + 'static) -> Self {
        Self::with_response(Response::new(200), upgrade)
    }

    /// Creates a switch with another response: 101, or 2xx to CONNECT. Its body is not sent.
    pub fn with_response(response: Response, upgrade: impl Upgrade + 'static) -> Self {
        Self { response, bare: false, upgrade: Box::new(upgrade) }
    }

    /// Creates a switch without a response: the upgrade writes every byte that the peer reads after its request.
    ///
    /// Use it for protocols older than `Upgrade`, which begin with something like a request. No HTTP response is sent:
    /// the request must prove that the peer uses your protocol. Any request is allowed; a body must be complete as in
    /// [`to`](Self::to). The access log shows status 200. Over HTTP/2 it is not possible: the response is 426.
    pub fn without_response(upgrade: impl Upgrade + 'static) -> Self {
        Self { bare: true, ..Self::with_response(Response::new(200), upgrade) }
    }

    /// Adds a header field to the response, as [`Response::header`] does.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { response: self.response.header(name, value), ..self }
    }

    /// Adds a header field after the others, as [`Response::append`] does.
    pub fn append(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { response: self.response.append(name, value), ..self }
    }

    /// Sets all header fields of the response, `Upgrade` included, as [`Response::with_headers`] does.
    pub fn with_headers(self, headers: Headers) -> Self {
        Self { response: self.response.with_headers(headers), ..self }
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Switch").field(&self.response).finish()
    }
}
