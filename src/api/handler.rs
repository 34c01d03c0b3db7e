//! The application's entry point: a handler, and the actions it returns.

use std::os::fd::BorrowedFd;

use super::{Consumed, Request, Response, Switch, Upgrade, Upload};
use crate::{
    base::{ConnId, EndReason, PeerAddr},
    h1::{Headers, Misbehaved},
};

/// Application code for one event loop: `&mut self`, no locks. The threaded modes clone it, once for each loop or
/// connection, so a service is usually `Clone` around an `Arc`. [`Server::external`](crate::Server::external) requires
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
/// Its parameter needs the type: of `|req|` alone, the compiler says that "implementation of `FnOnce` is not general
/// enough". It returns a [`Response`], a [`Switch`] or an [`Action`]. If it returns several of them, it names `Action`
/// as its result, and converts each:
///
/// ```
/// use uncork::{Action, Request, Response};
/// let handler = |req: &mut Request<'_>| -> Action {
///     match req.method() {
///         "GET" => Response::text("Hello, world!").into(),
///         "POST" => Action::receive_whole(1000, |body| Response::text(body)),
///         _ => Response::new(405).header("Allow", "GET, POST").into(),
///     }
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(handler);
/// ```
///
/// If you wrap another handler, forward every method, including those with default implementations.
///
/// # Order of calls
///
/// For one connection: [`accept`](Self::accept), [`opened`](Self::opened), then [`request`](Self::request) for each
/// request, then [`closed`](Self::closed). All of them run on the loop of that connection, on the clone of the handler
/// that belongs to the loop. In thread-per-connection mode, another clone runs `accept`, on the loop that accepts,
/// except behind [`Listen::proxy_protocol`](crate::Listen::proxy_protocol), where the connection's own clone does.
pub trait Handler {
    /// Handles one request. Called exactly once for each request, when its head is complete. The returned action is
    /// performed after the call.
    ///
    /// Must not block, except in thread-per-connection mode: the loop's other connections wait for it. A panic becomes
    /// a 500 on this connection, and affects no other.
    fn request(&mut self, req: &mut Request<'_>) -> Action;

    /// Returns `true` to serve this peer, `false` to close its connection. Called before TLS. Behind a
    /// [proxy](crate::Listen::proxy_protocol), `peer` is the client that the proxy names.
    fn accept(&mut self, peer: &PeerAddr) -> bool {
        let _ = peer;
        true
    }

    /// Selects the protocol after ALPN (RFC 7301) has chosen one other than `http/1.1` or `http/1.0`. Return the
    /// [`Upgrade`] that will handle the connection from the first byte after the handshake, or `None` (the default) to
    /// close it.
    ///
    /// Called only if [`TlsBuilder::alpn`](crate::TlsBuilder::alpn) has named such protocols.
    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        let _ = (protocol, peer);
        None
    }

    /// Reports that an accepted connection begins: create the state of a connection here. Called once, on the
    /// connection's own loop, before TLS and before its first request. [`closed`](Self::closed) is called for the same
    /// connections. Behind a
    /// [proxy](crate::Listen::proxy_protocol), `peer` is the client that the proxy names. `socket` is the connection's,
    /// for options of the system, as [`Request::socket`] returns it. Does nothing by default.
    fn opened(&mut self, conn: ConnId, peer: &PeerAddr, socket: Option<BorrowedFd<'_>>) {
        let _ = (conn, peer, socket);
    }

    /// Reports that a connection has ended. Called once for each connection that [`opened`](Self::opened) reported, on
    /// its own loop, after [`Request::on_end`] and the access log of its last request. Upgraded connections are
    /// reported too. Dialled ones, and those of [`LoopHandle::adopt_upgrade`](crate::LoopHandle::adopt_upgrade), are
    /// not.
    fn closed(&mut self, conn: ConnId, reason: &EndReason) {
        let _ = (conn, reason);
    }

    /// Reports a connection that was not accepted, and is closed unread. Called once for it, on the clone of the handler
    /// that runs [`accept`](Self::accept); [`opened`](Self::opened) and [`closed`](Self::closed) are not called. `peer`
    /// is the client if it is known, else the proxy. Does nothing by default. The reasons:
    ///
    /// - `accept` returned `false`.
    /// - The address has as many connections as it may have
    ///   ([`Limits::connections_per_address`](crate::Limits::connections_per_address)). At the limit on all connections
    ///   none is rejected as a rule: they wait in the system's queue.
    /// - `peer` is not a trusted proxy ([`Listen::proxy_protocol`](crate::Listen::proxy_protocol)), or it named no client
    ///   in time.
    fn rejected(&mut self, peer: &PeerAddr, reason: &EndReason) {
        let _ = (peer, reason);
    }

    /// Reports that the server stops: respond to suspended requests, and start nothing new. Called once on each loop,
    /// so once for each clone of the handler. [`request`](Self::request) may still be called afterwards, for requests
    /// that are on their way within the grace period.
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

/// The action that a handler returns for a request.
#[must_use = "an action is only carried out when it is returned"]
pub enum Action {
    /// Sends a response. A body that was not received is read and discarded if it is short
    /// ([`Limits::drain`](crate::Limits)) and the client does not wait for `100 Continue`. Otherwise the connection
    /// closes after the response, see [`Limits::linger_timeout`](crate::Limits::linger_timeout).
    Respond(Response),
    /// Receives the body; sends `100 Continue` now if the client waits for it. [`Upload::end`] returns the response,
    /// unless a [`Ticket`](crate::Ticket) responds earlier.
    Receive(Box<dyn Upload>),
    /// Suspends the request until a [`Ticket`](crate::Ticket) responds. Without a ticket the response is 500; if the
    /// last ticket was dropped, it is 503.
    Suspend,
    /// Sends `101` (or 2xx to CONNECT) and hands the stream over to an upgrade.
    Switch(Switch),
    /// Aborts the connection without a response. The client sees a reset, so that a truncated body never looks
    /// complete.
    Abort,
}

impl Action {
    /// Receives the whole body, then performs the action that `then` returns for it. A body of more than `limit` bytes
    /// gets a 413 (Content Too Large). If the body is incomplete, `then` is not called. A request without a body has an
    /// empty one.
    ///
    /// ```
    /// use uncork::{Action, Request, Response};
    ///
    /// let upper = |_: &mut Request<'_>| {
    ///     Action::receive_whole(64 * 1024, |body| Response::text(body.to_ascii_uppercase()))
    /// };
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(upper);
    /// ```
    pub fn receive_whole<A: Into<Self>>(limit: usize, then: impl FnOnce(Vec<u8>) -> A + Send + 'static) -> Self {
        Self::Receive(Box::new(Whole { body: Vec::new(), limit, then }))
    }
}

/// Collects a body for [`Action::receive_whole`].
struct Whole<F> {
    body: Vec<u8>,
    limit: usize,
    then: F,
}

/// Returns the response to a body beyond a limit of the application, like the one for a limit of the engine.
pub(crate) fn too_large() -> Response {
    let rule = Misbehaved::BodyTooLarge;
    Response::text(format!("{rule}\n")).with_status(rule.status())
}

impl<A: Into<Action>, F: FnOnce(Vec<u8>) -> A + Send> Upload for Whole<F> {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() > self.limit - self.body.len() {
            return Consumed::Stop(too_large().into());
        }
        self.body.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        (self.then)(self.body).into()
    }
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
            Self::Suspend => f.write_str("Suspend"),
            Self::Switch(_) => f.write_str("Switch(..)"),
            Self::Abort => f.write_str("Abort"),
        }
    }
}
