//! The application, as a loop sees it.

use super::{Request, Response, Switch, Upgrade, Upload};
use crate::base::{ConnId, EndReason, PeerAddr};

/// Application code for one event loop: `&mut self`, no locks. The threaded modes clone it, once for each loop or
/// connection, so a service is usually `Clone` around an `Arc`; [`Server::external`](crate::Server::external) asks for
/// neither `Clone` nor `Send` nor `'static`.
///
/// A closure is a handler:
///
/// ```
/// use uncork::{Request, Response};
/// let handler = |req: &mut Request<'_>| match req.path() {
///     "/" => Response::text("Hello, world!"),
///     _ => Response::new(404),
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(handler);
/// ```
///
/// Whoever mounts another handler inside his own forwards every method, those with a default too.
pub trait Handler {
    /// Called exactly once for each request, when its head is complete. What is returned happens after the call.
    ///
    /// Must not block, except thread per connection: the loop's other connections wait for it. A panic costs this
    /// connection a 500, and nobody else anything.
    fn request(&mut self, req: &mut Request<'_>) -> Action;

    /// Whether to talk to this peer at all: asked before TLS, behind a [proxy](crate::Server::proxy_protocol) about the
    /// client it names. A peer that is turned away sees its connection closed.
    fn accept(&mut self, peer: &PeerAddr) -> bool {
        let _ = peer;
        true
    }

    /// TLS has agreed, by ALPN (RFC 7301), on `protocol`, which is neither `http/1.1` nor `http/1.0`: who speaks it? What
    /// is returned is called as after a `101`, from the first byte behind the handshake. With `None`, as without this
    /// method, the connection is closed.
    ///
    /// Asked only where [`TlsBuilder::alpn`](crate::TlsBuilder::alpn) has named such protocols.
    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        let _ = (protocol, peer);
        None
    }

    /// A connection this handler accepted is over.
    fn closed(&mut self, conn: ConnId, why: &EndReason) {
        let _ = (conn, why);
    }

    /// The server stops: answer what waits, start nothing new.
    fn stopping(&mut self) {}
}

impl<F, A> Handler for F
where
    F: FnMut(&mut Request<'_>) -> A,
    A: Into<Action>,
{
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self(req).into()
    }
}

/// What shall happen with a request.
#[must_use = "an action is only carried out when it is returned"]
pub enum Action {
    /// Answer. A body that was not received is read and thrown away if it is short
    /// ([`Limits::drain`](crate::Limits)) and the peer does not wait for `100 Continue`; otherwise the connection is
    /// closed after the answer, with a linger.
    Respond(Response),
    /// Receive the body; `100 Continue` goes out now if the peer waits for it. [`Upload::end`] gives the answer,
    /// unless a [`Ticket`](crate::Ticket) begins it earlier.
    Receive(Box<dyn Upload>),
    /// A [`Ticket`](crate::Ticket) of this request answers. If there is none, the answer is 500; if the last one was dropped, 503.
    Suspend,
    /// Answer `101` (or 2xx to CONNECT) and hand the stream over.
    Switch(Switch),
    /// Break the connection off, without a word. What was sent so far is not to be taken for the whole.
    Abort,
}

impl From<Response> for Action {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

impl From<Switch> for Action {
    fn from(switch: Switch) -> Self {
        Self::Switch(switch)
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
            Self::Receive(_) => f.write_str("Receive(..)"),
            Self::Suspend => f.write_str("Wait"),
            Self::Switch(_) => f.write_str("Switch(..)"),
            Self::Abort => f.write_str("Abort"),
        }
    }
}
