//! A response: status, header fields, body.

use std::{fmt, fs::File, ops::Range, sync::Arc};

use super::Produce;
use crate::{
    base::out::Block,
    h1::{Headers, InvalidHeader, write::is_written_here},
};

/// The response to a request.
///
/// The engine adds `Date`, `Connection` and the framing fields. Names and values are checked when they are added, so
/// application data cannot split a response: an invalid name or value makes the whole response a 500. The log contains
/// the reason; in a debug build, so does the body of that 500.
///
/// ```
/// use uncork::Response;
/// let plain = Response::text("Hello, world!");
/// let page = Response::new(404).header("Content-Type", "text/html").body("<h1>Not found</h1>");
/// # let _ = (plain, page);
/// ```
#[must_use = "return it as an action"]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    pub(crate) length: Option<u64>,
    pub(crate) close: bool,
    pub(crate) wait_for_ack: bool,
    pub(crate) allow_half_close: bool,
    /// The error that turns it into a 500.
    pub(crate) fault: Option<Box<Fault>>,
}

#[derive(Debug)]
pub(crate) enum Fault {
    Header(String, InvalidHeader),
    /// A field that only the engine may write.
    Reserved(String),
    Status(u16),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, error) => write!(f, "header field {name:?}: {error}"),
            Self::Reserved(name) => write!(
                f,
                "header field {name:?} is written by the engine: use Response::length, stream or close instead"
            ),
            Self::Status(status) => write!(f, "{status} is not the status of a final response (200 to 999)"),
        }
    }
}

/// The body of a response: empty, bytes, a part of a file, or a stream that is produced as the client takes it.
///
/// It is sent after the handler has returned. So what is borrowed, for instance from the request, is copied into it:
///
/// ```
/// use uncork::{Request, Response};
/// let agent = |req: &mut Request<'_>| Response::text(req.header("user-agent").unwrap_or_default().to_vec());
/// # fn check(_: impl uncork::Handler) {}
/// # check(agent);
/// ```
#[derive(Default)]
pub struct Body(pub(crate) Kind);

#[derive(Default)]
pub(crate) enum Kind {
    #[default]
    Empty,
    Bytes(Block),
    File(File, Range<u64>),
    Stream(Box<dyn Produce>),
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self(Kind::Bytes(Block::Static(text.as_bytes())))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Kind::Bytes(Block::Static(bytes)))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Bytes(Block::Owned(bytes)))
    }
}

/// Any number of responses can share one allocation.
impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Kind::Bytes(Block::Shared(bytes)))
    }
}

impl Response {
    /// Creates a response without a body. `status` must be 200 to 999 (RFC 9110 §15); any other is sent as a 500.
    pub fn new(status: u16) -> Self {
        let mut response = Self::with_any_status(status);
        if !(200..=999).contains(&status) {
            response.fault = Some(Box::new(Fault::Status(status)));
        }
        response
    }

    pub(crate) fn with_any_status(status: u16) -> Self {
        Self::made_of(status, Headers::new(), Body(Kind::Empty))
    }

    /// Returns `true` if dropping it frees nothing.
    #[inline]
    pub(crate) fn owns_nothing(&self) -> bool {
        let body = matches!(self.body.0, Kind::Empty | Kind::Bytes(Block::Static(_)));
        body && self.fault.is_none() && !self.headers.is_on_heap()
    }

    fn made_of(status: u16, headers: Headers, body: Body) -> Self {
        Self {
            status,
            headers,
            body,
            length: None,
            close: false,
            wait_for_ack: false,
            allow_half_close: false,
            fault: None,
        }
    }

    /// Creates a 200 with a body of type `text/plain; charset=utf-8`.
    pub fn text(body: impl Into<Body>) -> Self {
        const TEXT: Headers = Headers::constant(b"Content-Type: text/plain; charset=utf-8\r\n");
        Self::made_of(200, TEXT, body.into())
    }

    /// Creates a 200 with a body of type `text/html; charset=utf-8`. What is inserted into the page must be escaped.
    ///
    /// ```
    /// use uncork::Response;
    /// let page = Response::html("<!doctype html><title>Hello</title>");
    /// assert_eq!(page.headers().get("content-type"), Some(&b"text/html; charset=utf-8"[..]));
    /// ```
    pub fn html(body: impl Into<Body>) -> Self {
        const HTML: Headers = Headers::constant(b"Content-Type: text/html; charset=utf-8\r\n");
        Self::made_of(200, HTML, body.into())
    }

    /// Creates a 200 with a body of type `application/json`: text that is JSON already, for example from `serde_json`.
    pub fn json(body: impl Into<Body>) -> Self {
        const JSON: Headers = Headers::constant(b"Content-Type: application/json\r\n");
        Self::made_of(200, JSON, body.into())
    }

    /// Creates a redirect with `Location`: a 303, after which the client sends a GET (RFC 9110 §15.4.4). For one that
    /// keeps the method, add `.with_status(307)`, or 308 if it is permanent.
    ///
    /// ```
    /// use uncork::Response;
    /// let moved = Response::redirect("/new").with_status(308);
    /// assert_eq!((moved.status(), moved.headers().get("location")), (308, Some(&b"/new"[..])));
    /// ```
    pub fn redirect(location: impl AsRef<[u8]>) -> Self {
        Self::new(303).header("Location", location)
    }

    /// Creates a 200 with a body that is produced as the client takes it. The body is chunked, unless
    /// [`length`](Self::length) sets its length. For an HTTP/1.0 client, closing the connection ends it.
    ///
    /// While the body has nothing to send ([`Produced::Pending`](crate::Produced::Pending), an empty
    /// [`pipe`](crate::pipe)), end-of-file from the client means that it has disconnected: the request ends at once
    /// with [`EndReason::PeerClosed`](crate::EndReason::PeerClosed). Closing and half-closing look alike on the wire.
    /// So a client that half-closes after its request (`nc -N`, for example) gets the body only up to its first pause,
    /// however short. [`allow_half_close`](Self::allow_half_close) serves such clients to the end.
    ///
    /// Complete bodies ([`text`](Self::text), [`body`](Self::body), [`file`](Self::file)) have no pauses. A
    /// client that half-closes gets all of them.
    ///
    /// Server-sent events from any thread, by a queue and a [`Waker`](crate::Waker) for each client. A client that does
    /// not read has 64 events at most in its queue; then its response ends. `examples/events.rs` is the whole program.
    ///
    /// ```
    /// use std::sync::{
    ///     Arc, Mutex,
    ///     mpsc::{SyncSender, TryRecvError, sync_channel},
    /// };
    /// use uncork::{Produced, Request, Response, Tx, Waker};
    ///
    /// type Event = Arc<[u8]>; // encoded once for all clients
    /// static CLIENTS: Mutex<Vec<(SyncSender<Event>, Waker)>> = Mutex::new(Vec::new());
    ///
    /// fn publish(text: &str) {
    ///     let event = Event::from(format!("data: {text}\n\n").as_bytes());
    ///     CLIENTS.lock().unwrap().retain(|(queue, waker)| {
    ///         let is_kept = queue.try_send(event.clone()).is_ok(); // else it has disconnected, or does not read
    ///         waker.wake();
    ///         is_kept
    ///     });
    /// }
    ///
    /// let events = |req: &mut Request<'_>| {
    ///     let (queue, events) = sync_channel::<Event>(64);
    ///     CLIENTS.lock().unwrap().push((queue, req.waker()));
    ///     let mut unsent = None;
    ///     let produce = move |out: &mut Tx<'_>| loop {
    ///         match unsent.take().map_or_else(|| events.try_recv(), Ok) {
    ///             Ok(event) if out.write_shared(&event) => {}
    ///             Ok(event) => {
    ///                 unsent = Some(event); // this is called again when there is room
    ///                 return Produced::More;
    ///             }
    ///             Err(TryRecvError::Empty) => return Produced::Pending,
    ///             Err(TryRecvError::Disconnected) => return Produced::End,
    ///         }
    ///     };
    ///     Response::stream(produce).header("Content-Type", "text/event-stream")
    /// };
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(events);
    /// # publish("hello");
    /// ```
    pub fn stream(produce: impl Produce + 'static) -> Self {
        Self { body: Body(Kind::Stream(Box::new(produce))), ..Self::new(200) }
    }

    /// Creates a 200 with a range of a file, which the system sends itself on a plain connection. If the file is
    /// shorter than the range, the connection is aborted.
    pub fn file(file: File, range: Range<u64>) -> Self {
        Self { body: Body(Kind::File(file, range)), ..Self::new(200) }
    }

    /// Sets the status. It must be 200 to 999 (RFC 9110 §15); any other is sent as a 500.
    pub fn with_status(self, status: u16) -> Self {
        let fault = self.fault.or_else(|| Self::new(status).fault);
        Self { status, fault, ..self }
    }

    /// Sets the body. With a status that has none (204, 304), and in a response to HEAD, the body is dropped.
    pub fn body(self, body: impl Into<Body>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Adds a header field. A field that [may occur only once](crate::h1::is_singleton), such as `Content-Type`,
    /// replaces the earlier one; others, such as `Set-Cookie` and `Vary`, are added. The engine writes `Date`,
    /// `Content-Length`, `Transfer-Encoding` and `Connection` itself, from [`length`](Self::length) and
    /// [`close`](Self::close); setting one of them makes the response a 500.
    ///
    /// ```
    /// use uncork::Response;
    /// let page = Response::text("<h1>Hello</h1>").header("Content-Type", "text/html");
    /// assert_eq!(page.headers().len(), 1);
    /// ```
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, |headers| headers.put(name, value))
    }

    /// Like [`header`](Self::header), but always adds the field after the others, even if it may occur only once. Use
    /// it to pass on the fields of another server unchanged.
    pub fn append(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, |headers| headers.append(name, value))
    }

    /// Sets all header fields, in place of those added so far. A list that is made once, and cloned for each response,
    /// is checked and written once. A field that the engine writes itself (see [`header`](Self::header)) makes the
    /// response a 500.
    ///
    /// ```
    /// use uncork::{Request, Response, h1::Headers};
    /// let mut headers = Headers::new();
    /// headers.append("Content-Type", "text/css")?;
    /// headers.append("Cache-Control", "max-age=3600")?;
    /// let handler = move |_: &mut Request<'_>| Response::new(200).with_headers(headers.clone()).body("body {}");
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(handler);
    /// # Ok::<(), uncork::h1::InvalidHeader>(())
    /// ```
    pub fn with_headers(mut self, headers: Headers) -> Self {
        if headers.is_reserved() {
            let name = headers.iter().map(|(name, _)| name).find(|name| is_written_here(name)).unwrap_or_default();
            self.fault.get_or_insert_with(|| Box::new(Fault::Reserved(name.to_owned())));
        }
        Self { headers, ..self }
    }

    fn with(mut self, name: &str, add: impl FnOnce(&mut Headers) -> Result<(), InvalidHeader>) -> Self {
        if is_written_here(name) {
            self.fault.get_or_insert_with(|| Box::new(Fault::Reserved(name.to_owned())));
        } else if let Err(error) = add(&mut self.headers) {
            self.fault.get_or_insert_with(|| Box::new(Fault::Header(name.to_owned(), error)));
        }
        self
    }

    /// Sets the length of a streamed body in bytes, if it is known. No byte beyond it is sent; if the body ends
    /// earlier, the connection is aborted. In a response to HEAD, it is the length that the body would have.
    pub fn length(self, length: impl Into<Option<u64>>) -> Self {
        Self { length: length.into(), ..self }
    }

    /// Closes the connection after this response, even if the rest of the request's body has not arrived. Over HTTP/2
    /// only the stream ends: other requests of the client go on.
    pub fn close(self) -> Self {
        Self { close: true, ..self }
    }

    /// Delays the end of the request until the peer's TCP has acknowledged every byte, or the connection has ended.
    /// Then [`RequestEnd::acked`](crate::RequestEnd::acked) is final.
    pub fn wait_for_ack(self) -> Self {
        Self { wait_for_ack: true, ..self }
    }

    /// Serves a client that half-closes until the streamed body ends, however long the body pauses. By default,
    /// end-of-file while the body has nothing to send means that the client has disconnected: see
    /// [`stream`](Self::stream).
    ///
    /// With this, a client that closes during a pause is noticed only when the body continues. A reset still ends the
    /// request at once.
    pub fn allow_half_close(self) -> Self {
        Self { allow_half_close: true, ..self }
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the header fields added so far.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Body(empty)"),
            Kind::Bytes(block) => write!(f, "Body({} bytes)", block.bytes().len()),
            Kind::File(_, range) => write!(f, "Body(file {range:?})"),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}
