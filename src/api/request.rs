//! One request, as its handler sees it; and how it ended.

use std::{fmt, sync::Arc};

use super::{LoopHandle, Ticket, Waker, loop_message::LoopMessage, ticket::TicketCore};
use crate::{
    base::{ConnId, EndReason, Moment, PeerAddr, RequestId, mailbox::Mailbox},
    h1::{Framing, Headers, HeadersRef, RequestHead, Version},
};

/// A request whose head is complete. It borrows the head where it was received; [`head`](Self::head) makes a copy to
/// keep.
pub struct Request<'a> {
    pub(crate) head: &'a RequestHead<'a>,
    pub(crate) context: &'a RequestContext<'a>,
    pub(crate) hooks: &'a mut Option<Box<RequestHooks>>,
}

/// What a request is surrounded by.
pub(crate) struct RequestContext<'a> {
    pub(crate) id: RequestId,
    pub(crate) peer: &'a PeerAddr,
    pub(crate) listener: usize,
    pub(crate) now: Moment,
    pub(crate) mailbox: &'a Arc<Mailbox<LoopMessage>>,
    pub(crate) secure: Option<TlsInfo<'a>>,
}

/// What the application asked to be told or given, beside the action. Allocated only if it asked.
#[derive(Default)]
pub(crate) struct RequestHooks {
    pub(crate) ticket: Option<Arc<TicketCore>>,
    pub(crate) waker: Option<Waker>,
    pub(crate) on_end: Vec<OnEnd>,
    /// On whose behalf the connection's peer asks.
    pub(crate) peer: Option<PeerAddr>,
    /// Whether that one speaks HTTPS.
    pub(crate) https: Option<bool>,
}

pub(crate) type OnEnd = Box<dyn FnOnce(&RequestEnd) + Send>;

impl RequestHooks {
    pub(crate) fn waker(&mut self, id: RequestId, mailbox: &Arc<Mailbox<LoopMessage>>) -> &Waker {
        self.waker.get_or_insert_with(|| Waker::new(id, mailbox.clone()))
    }
}

impl<'a> Request<'a> {
    /// The method, as sent: methods are case-sensitive (RFC 9110 §9.1).
    pub fn method(&self) -> &'a str {
        self.head.method
    }

    /// The request target as it stood in the request line (RFC 9112 §3.2).
    pub fn target(&self) -> &'a str {
        self.head.target
    }

    /// The path of the target, still percent-encoded; "*" for the asterisk form, "" for the authority form (CONNECT).
    pub fn path(&self) -> &'a str {
        self.head.path()
    }

    /// What follows the "?" of the target, still percent-encoded.
    pub fn query(&self) -> Option<&'a str> {
        self.head.query()
    }

    /// Host and port the request is for: from the target if it is in absolute or authority form, from the Host field
    /// otherwise (RFC 9110 §7.2).
    pub fn authority(&self) -> Option<&'a str> {
        self.head.authority()
    }

    /// Returns the version of the request. It prints as `HTTP/1.1` or `HTTP/1.0`.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The header fields.
    pub fn headers(&self) -> HeadersRef<'a> {
        self.head.fields
    }

    /// The value of the first field of that name (any case).
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.get(name)
    }

    /// The same, if it is text.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The body's length in bytes; `None` if there is no body, or it is chunked.
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Length(n) => Some(n),
            _ => None,
        }
    }

    /// Whether there is a body to receive, be it an empty one.
    pub fn has_body(&self) -> bool {
        !matches!(self.head.framing, Framing::None)
    }

    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.head.expect_continue
    }

    /// Whether the peer asks to go on in the protocol of this name (`Upgrade` names it, `Connection` has `upgrade`).
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        self.head.upgrade && self.head.fields.contains_token("upgrade", protocol)
    }

    /// A copy of the head, to keep.
    pub fn head(&self) -> Head {
        Head::copy(self.head)
    }

    /// Who asks: the connection's peer, unless somebody has [said](Self::set_peer) that it asks for another.
    pub fn peer(&self) -> &PeerAddr {
        self.hooks.as_ref().and_then(|asks| asks.peer.as_ref()).unwrap_or(self.context.peer)
    }

    /// From now on this request is seen as coming from `peer`: by whoever it is passed on to, and by the access log. For
    /// handlers that mount others behind a proxy they trust, and know from a field who asks in truth. What was counted
    /// when the connection came, counts for the connection's own peer
    /// (see [`Server::proxy_protocol`](crate::Server::proxy_protocol) for a way to know before).
    pub fn set_peer(&mut self, peer: PeerAddr) {
        self.hooks().peer = Some(peer);
    }

    /// The number of the listener the connection came in on, from 0, in the order they were given to the server.
    pub fn listener_index(&self) -> usize {
        self.context.listener
    }

    /// The connection's TLS facts; `None` on a plain one.
    pub fn tls_info(&self) -> Option<TlsInfo<'a>> {
        self.context.secure
    }

    /// By which scheme the client came, "https" or "http" (RFC 9110 §4.2): by the connection's own TLS, unless somebody has
    /// [said](Self::set_https) otherwise. What links and cookies depend on.
    pub fn scheme(&self) -> &'static str {
        let said = self.hooks.as_ref().and_then(|asks| asks.https);
        if said.unwrap_or(self.context.secure.is_some()) { "https" } else { "http" }
    }

    /// From now on this request is seen as one by HTTPS, or not, as [`scheme`](Self::scheme) tells it. For handlers that
    /// mount others behind a proxy they trust, which speaks TLS in their place, and says so in a field.
    pub fn set_https(&mut self, https: bool) {
        self.hooks().https = Some(https);
    }

    /// The time of this turn.
    pub fn now(&self) -> Moment {
        self.context.now
    }

    /// The connection.
    pub fn conn(&self) -> ConnId {
        self.context.id.conn
    }

    /// This request.
    pub fn id(&self) -> RequestId {
        self.context.id
    }

    /// The loop this request is served by.
    pub fn loop_handle(&self) -> LoopHandle {
        LoopHandle(self.context.mailbox.clone())
    }

    /// The right to act on this request later, from any thread. May be called several times; all tickets of a request
    /// share one right to answer.
    pub fn ticket(&mut self) -> Ticket {
        let waker = self.waker();
        self.hooks().ticket.get_or_insert_with(|| TicketCore::new(waker)).ticket()
    }

    /// Wakes this request's upload or producer.
    pub fn waker(&mut self) -> Waker {
        let (id, mailbox) = (self.context.id, self.context.mailbox);
        self.hooks().waker(id, mailbox).clone()
    }

    /// Calls `f` when this request is over, exactly once, however it ends; never inside another call of yours, and
    /// never while a lock of yours is held by the same thread. Several are called in the order they were given.
    pub fn on_end(&mut self, f: impl FnOnce(&RequestEnd) + Send + 'static) {
        self.hooks().on_end.push(Box::new(f));
    }

    fn hooks(&mut self) -> &mut RequestHooks {
        self.hooks.get_or_insert_default()
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {} {})", self.context.id, self.method(), self.target())
    }
}

/// Facts of a TLS connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TlsInfo<'a> {
    /// The protocol's version, "TLSv1.2" or "TLSv1.3".
    pub version: &'static str,
    /// The name the client asked for (SNI).
    pub server_name: Option<&'a str>,
    /// The client's own certificate (DER), if it was asked for one and sent it; verified.
    pub peer_certificate: Option<&'a [u8]>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestEnd {
    /// Why it is over.
    pub reason: EndReason,
    /// Bytes of its body that were received, decoded.
    pub received: u64,
    /// Bytes of the answer's body that were handed to the transport.
    pub written: u64,
    /// How many of these the peer's TCP has acknowledged, at the least; `None` where the system can't tell. Under TLS
    /// and chunking it is rounded down. Acknowledged by the peer's system: not read by its application. It is all of
    /// them only if [`Response::wait_for_ack`](crate::Response::wait_for_ack) asked to wait for that.
    pub acked: Option<u64>,
    /// The time of this turn.
    pub now: Moment,
}

/// An owned copy of a request's head.
#[derive(Clone)]
pub struct Head(Arc<Parts>);

struct Parts {
    method: Box<str>,
    target: Box<str>,
    version: Version,
    headers: Headers,
}

impl Head {
    pub(crate) fn copy(head: &RequestHead<'_>) -> Self {
        Self(Arc::new(Parts {
            method: head.method.into(),
            target: head.target.into(),
            version: head.version,
            headers: head.fields.to_owned(),
        }))
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// The request target as it stood in the request line.
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// Returns the version of the request. It prints as `HTTP/1.1` or `HTTP/1.0`.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({} {})", self.method(), self.target())
    }
}
