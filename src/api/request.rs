//! A request, as its handler sees it, and its end.

use std::{borrow::Cow, fmt, os::fd::BorrowedFd, sync::Arc, time::Duration};

use super::{LoopHandle, Ticket, Waker, loop_message::LoopMessage, ticket::TicketCore};
use crate::{
    base::{ConnId, EndReason, Moment, PeerAddr, RequestId, mailbox::Mailbox},
    h1::{Framing, Headers, HeadersRef, RequestHead, Version},
    transport::Socket,
};

/// A request whose head is complete. It borrows the head from the input buffer; [`head`](Self::head) returns an owned
/// copy.
pub struct Request<'a> {
    pub(crate) head: &'a RequestHead<'a>,
    pub(crate) context: &'a RequestContext<'a>,
    pub(crate) hooks: &'a mut Option<Box<RequestHooks>>,
}

/// The connection and the time of a request.
pub(crate) struct RequestContext<'a> {
    pub(crate) id: RequestId,
    pub(crate) peer: &'a PeerAddr,
    pub(crate) listener: usize,
    pub(crate) now: Moment,
    pub(crate) mailbox: &'a Arc<Mailbox<LoopMessage>>,
    pub(crate) tls_info: Option<TlsInfo<'a>>,
    pub(crate) socket: &'a Socket,
}

/// What the handler has attached to a request: ticket, waker, end callbacks, overrides. Allocated only if needed.
#[derive(Default)]
pub(crate) struct RequestHooks {
    pub(crate) ticket: Option<Arc<TicketCore>>,
    pub(crate) waker: Option<Waker>,
    pub(crate) on_end: Vec<OnEnd>,
    /// The client on whose behalf the connection's peer sends the request.
    pub(crate) peer: Option<PeerAddr>,
    /// `true` if that client uses HTTPS.
    pub(crate) https: Option<bool>,
    /// The timeout of the connection, from this request on.
    pub(crate) timeout: Option<Duration>,
}

pub(crate) type OnEnd = Box<dyn FnOnce(&RequestEnd) + Send>;

impl RequestHooks {
    pub(crate) fn waker(&mut self, id: RequestId, mailbox: &Arc<Mailbox<LoopMessage>>) -> &Waker {
        self.waker.get_or_insert_with(|| Waker::new(id, mailbox.clone()))
    }
}

impl<'a> Request<'a> {
    /// Returns the method, as sent: methods are case-sensitive (RFC 9110 §9.1).
    pub fn method(&self) -> &'a str {
        self.head.method
    }

    /// Returns the request target as it stands in the request line (RFC 9112 §3.2).
    pub fn target(&self) -> &'a str {
        self.head.target
    }

    /// Returns the path of the target, still percent-encoded; "*" for the asterisk form, "" for the authority form
    /// (CONNECT).
    pub fn path(&self) -> &'a str {
        self.head.path()
    }

    /// Returns the query of the target, after its "?", still percent-encoded.
    pub fn query(&self) -> Option<&'a str> {
        self.head.query()
    }

    /// Returns the names and values in the query, decoded as `application/x-www-form-urlencoded` (WHATWG URL, §5.1): "+"
    /// is a space, "%41" is "A". Bytes that are not UTF-8 become U+FFFD.
    ///
    /// ```
    /// use uncork::{Request, Response};
    ///
    /// let search = |req: &mut Request<'_>| {
    ///     match req.query_pairs().find(|(name, _)| name == "q") {
    ///         Some((_, text)) => Response::text(format!("searching for {text}\n")),
    ///         None => Response::text("the query has no q\n").with_status(400),
    ///     }
    /// };
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(search);
    /// ```
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// Returns the path with its percent-encoding decoded; `None` if the result is not UTF-8. "%2F" becomes a "/", too:
    /// split [`path`](Self::path) first if the parts matter, and never use the result as a path of the file system
    /// without a check.
    pub fn decoded_path(&self) -> Option<Cow<'a, str>> {
        percent_encoding::percent_decode_str(self.path()).decode_utf8().ok()
    }

    /// Returns the host and port that the request is for: from the target if it is in absolute or authority form, from
    /// the Host field otherwise (RFC 9110 §7.2).
    pub fn authority(&self) -> Option<&'a str> {
        self.head.authority()
    }

    /// Returns the version of the request. It prints as `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Returns the header fields.
    pub fn headers(&self) -> HeadersRef<'a> {
        self.head.fields
    }

    /// Returns the value of the first field with this name (in any case).
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.get(name)
    }

    /// Like [`header`](Self::header), but `None` if the value is not UTF-8.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the length of the body in bytes; `None` if there is no body, or if it is chunked.
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Length(n) => Some(n),
            _ => None,
        }
    }

    /// Returns `true` if there is a body to receive, even an empty one.
    pub fn has_body(&self) -> bool {
        !matches!(self.head.framing, Framing::None)
    }

    /// Returns `true` if the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.head.expect_continue
    }

    /// Returns `true` if the client requests an upgrade to this protocol: `Upgrade` names it, and `Connection` contains
    /// `upgrade`. Over HTTP/2 an extended CONNECT requests it (RFC 8441 §4), which has `:protocol` instead of the fields.
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        self.head.upgrade && self.head.fields.contains_token("upgrade", protocol)
    }

    /// Returns an owned copy of the head.
    pub fn head(&self) -> Head {
        Head::copy(self.head)
    }

    /// Returns the address of the client: the connection's peer, unless [`set_peer`](Self::set_peer) has overridden it.
    pub fn peer(&self) -> &PeerAddr {
        self.hooks.as_ref().and_then(|hooks| hooks.peer.as_ref()).unwrap_or(self.context.peer)
    }

    /// Overrides the peer address for this request, for inner handlers and the access log. Use it behind a trusted
    /// proxy that names the client in a field. Connection limits were applied to the TCP peer and do not change; with
    /// [`Listen::proxy_protocol`](crate::Listen::proxy_protocol) they apply to the client.
    pub fn set_peer(&mut self, peer: PeerAddr) {
        self.hooks().peer = Some(peer);
    }

    /// Returns the index of the listener that accepted the connection, from 0, in the order in which
    /// [`Server::listen`](crate::Server::listen) added them.
    pub fn listener_index(&self) -> usize {
        self.context.listener
    }

    /// Returns information about the connection's TLS; `None` on a plain connection.
    pub fn tls_info(&self) -> Option<TlsInfo<'a>> {
        self.context.tls_info
    }

    /// Returns the connection's socket, to ask the system about it: the credentials of a process on a Unix socket, for
    /// example. `None` if the connection is [made of pipes](LoopHandle::adopt_pipes).
    ///
    /// The loop reads and writes it, waits for it and closes it: do none of that, and change no option that it relies
    /// on, such as non-blocking mode.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use uncork::{Request, Response};
    ///
    /// let which = |req: &mut Request<'_>| match req.socket() {
    ///     Some(socket) => Response::text(format!("descriptor {}\n", socket.as_raw_fd())),
    ///     None => Response::text("no socket\n"),
    /// };
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(which);
    /// ```
    pub fn socket(&self) -> Option<BorrowedFd<'a>> {
        self.context.socket.fd().ok()
    }

    /// Returns the scheme that the client uses, "https" or "http" (RFC 9110 §4.2). It depends on the connection's own
    /// TLS, unless [`set_https`](Self::set_https) has overridden it. Links and cookies depend on it.
    pub fn scheme(&self) -> &'static str {
        let set = self.hooks.as_ref().and_then(|hooks| hooks.https);
        if set.unwrap_or(self.context.tls_info.is_some()) { "https" } else { "http" }
    }

    /// Overrides the [`scheme`](Self::scheme) for this request: "https" if `https` is `true`. Use it behind a trusted
    /// proxy that terminates TLS and reports it in a field.
    pub fn set_https(&mut self, https: bool) {
        self.hooks().https = Some(https);
    }

    /// Returns the time of this turn of the loop.
    pub fn now(&self) -> Moment {
        self.context.now
    }

    /// Returns the id of the connection.
    pub fn conn(&self) -> ConnId {
        self.context.id.conn
    }

    /// Returns the id of this request.
    pub fn id(&self) -> RequestId {
        self.context.id
    }

    /// Returns the handle of the loop that serves this request.
    pub fn loop_handle(&self) -> LoopHandle {
        LoopHandle(self.context.mailbox.clone())
    }

    /// Returns a ticket, which acts on this request later, from any thread. Can be called several times; only one of
    /// the tickets can respond.
    pub fn ticket(&mut self) -> Ticket {
        let waker = self.waker();
        self.hooks().ticket.get_or_insert_with(|| TicketCore::new(waker)).ticket()
    }

    /// Returns a waker that has this request's upload or producer called again.
    pub fn waker(&mut self) -> Waker {
        let (id, mailbox) = (self.context.id, self.context.mailbox);
        self.hooks().waker(id, mailbox).clone()
    }

    /// Calls `f` when this request has ended, exactly once, however it ends. It is never called inside another call of
    /// the application, so never while this thread holds a lock of the application. Several functions are called in the
    /// order in which they were added. They run before the access log and before
    /// [`Handler::closed`](crate::Handler::closed).
    pub fn on_end(&mut self, f: impl FnOnce(&RequestEnd) + Send + 'static) {
        self.hooks().on_end.push(Box::new(f));
    }

    /// Sets a timeout for this connection, from now on and for its later requests: the connection ends after that time
    /// without progress. It replaces the head, idle, body and send timeouts and the least rate of
    /// [`Limits`](crate::Limits); each byte that is received or sent restarts it. It is rounded up to whole seconds, and
    /// more than 65,534 of them are no timeout. A suspended request and an upgraded connection have none of these
    /// timeouts, as always.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.hooks().timeout = Some(timeout);
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

/// Information about a TLS connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TlsInfo<'a> {
    /// The version of the protocol, "TLSv1.2" or "TLSv1.3".
    pub version: &'static str,
    /// The cipher suite, by rustls's name for it: "TLS13_AES_128_GCM_SHA256" for example.
    pub cipher_suite: &'static str,
    /// The server name that the client requested (SNI).
    pub server_name: Option<&'a str>,
    /// The verified certificate of the peer (DER), if it was requested and sent.
    pub peer_certificate: Option<&'a [u8]>,
}

/// The end of a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestEnd {
    /// The reason for its end.
    pub reason: EndReason,
    /// Bytes of the request's body that were received, decoded.
    pub received: u64,
    /// Bytes of the response's body that were handed to the transport.
    pub written: u64,
    /// The least number of these bytes that the peer's TCP has acknowledged; `None` where the system cannot report it.
    /// Under TLS and chunking it is rounded down. Acknowledged means received by the peer's system, not read by its
    /// application. It is the final number only with [`Response::wait_for_ack`](crate::Response::wait_for_ack).
    pub acked: Option<u64>,
    /// The time of this turn of the loop.
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

    /// Returns the method.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// Returns the request target as it stands in the request line.
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// Returns the version of the request. It prints as `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Returns the header fields.
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({} {})", self.method(), self.target())
    }
}
