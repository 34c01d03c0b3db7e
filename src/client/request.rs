//! A request to send. Each part is checked when it is set.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    cancel::{CancelHandle, Stage},
    error::Error,
    settings::Settings,
    url::Url,
};
use crate::{
    api::{Body, PipeOut, response::Kind},
    base::out::Block,
    h1::{Headers, InvalidHeader, is_token, target},
};

/// A request to send.
///
/// The client writes Host, Content-Length, Transfer-Encoding, Connection and Expect itself. The application sets all
/// other fields.
///
/// A malformed request is never sent, nor one that could end a line early (a CR or LF in a value, a space in a method
/// or URL). It fails with [`Error::InvalidUrl`] or [`Error::InvalidRequest`].
///
/// ```
/// use std::time::Duration;
/// use uncork::client::Request;
/// let request = Request::post("http://127.0.0.1:8080/hook", "hello")
///     .header("Content-Type", "text/plain")
///     .timeout(Duration::from_secs(10));
/// # let _ = request;
/// ```
#[must_use = "send it with Client::send or Client::call_blocking"]
pub struct Request {
    pub(super) method: Box<str>,
    pub(super) url: Url,
    pub(super) unix: Option<Arc<Path>>,
    pub(super) authority: Option<String>,
    pub(super) headers: Headers,
    pub(super) content: Content,
    pub(super) options: Options,
    pub(super) cancel: Option<CancelHandle>,
    pub(super) informational: Option<OnInformational>,
    /// Called at the server's 100.
    pub(super) on_continue: Option<OnContinue>,
    /// The first error in it: it must not be sent.
    pub(super) fault: Option<Error>,
}

/// A callback for informational responses (1xx).
type OnInformational = Box<dyn FnMut(u16, Headers) + Send>;

/// A callback for the server's `100 Continue`.
type OnContinue = Box<dyn FnOnce() + Send>;

/// The body to send.
pub(super) enum Content {
    None,
    Memory(Bytes),
    Stream(PipeOut, Option<u64>),
}

/// A body in memory, which can be sent again.
#[derive(Clone)]
pub(super) enum Bytes {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Options {
    pub(super) total_timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) head_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_redirects: Option<u8>,
    pub(super) fresh: bool,
    pub(super) expect_continue: bool,
    pub(super) continue_timeout: Option<Duration>,
    pub(super) chunked: bool,
    pub(super) upgrade: bool,
    pub(super) repeatable: Option<bool>,
}

/// Fields that the client writes itself.
const OWN: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "expect", "te", "proxy-connection"];

impl Request {
    /// Creates a request with this method and URL.
    ///
    /// The URL begins with `http://` or `https://`. It must have neither user information nor characters that need
    /// percent-encoding. A fragment is not sent. An IPv6 address may have a zone, which is the name or number of an
    /// interface (`http://[fe80::1%eth0]/`, RFC 9844); it is not sent either. CONNECT uses only the host and port.
    pub fn new(method: &str, url: &str) -> Self {
        let mut fault = None;
        let url = Url::parse(url).unwrap_or_else(|reason| {
            fault = Some(Error::InvalidUrl(reason));
            Url { https: false, host: String::new(), zone: None, port: 0, target: String::new() }
        });
        if !is_token(method.as_bytes()) {
            fault.get_or_insert(Error::InvalidRequest(format!("invalid method {method:?}")));
        }
        Self {
            method: method.into(),
            url,
            unix: None,
            authority: None,
            headers: Headers::new(),
            content: Content::None,
            options: Options::default(),
            cancel: None,
            informational: None,
            on_continue: None,
            fault,
        }
    }

    /// Creates a GET request.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// Creates a POST request with this body.
    pub fn post(url: &str, body: impl Into<Body>) -> Self {
        Self::new("POST", url).body(body)
    }

    /// Connects to this Unix socket. The URL's host is only sent in the Host field.
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix = Some(path.into().into());
        self
    }

    /// Sends this authority in the `Host` field instead of the URL's. The client still connects to the URL's host, and
    /// verifies that host's certificate.
    pub fn authority(mut self, authority: &str) -> Self {
        match target::is_authority(authority.as_bytes()) {
            true => self.authority = Some(authority.to_owned()),
            false => self
                .invalid(Error::InvalidRequest(format!("invalid authority {authority:?}: expected HOST or HOST:PORT"))),
        }
        self
    }

    /// Adds a header field. A [singleton](crate::h1::is_singleton) such as `User-Agent` replaces an earlier value;
    /// other fields are added to those of the same name.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, |headers| headers.put(name, value))
    }

    /// Appends a header field, even if it is a [singleton](crate::h1::is_singleton) that is set already.
    pub fn append(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, |headers| headers.append(name, value))
    }

    /// Appends all of these fields, for example those of a forwarded request.
    pub fn headers(self, headers: &Headers) -> Self {
        headers.iter().fold(self, |request, (name, value)| request.append(name, value))
    }

    fn with(mut self, name: &str, add: impl FnOnce(&mut Headers) -> Result<(), InvalidHeader>) -> Self {
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            self.invalid(Error::InvalidRequest(format!("invalid header field {name:?}: the client sets it")));
        } else if let Err(error) = add(&mut self.headers) {
            self.invalid(Error::InvalidRequest(format!("invalid header field {name:?}: {error}")));
        }
        self
    }

    fn invalid(&mut self, error: Error) {
        self.fault.get_or_insert(error);
    }

    /// Returns the request as it will be sent, or its error.
    pub(super) fn ready(mut self, settings: &Settings) -> Result<Self, Error> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if let Some(value) = &settings.user_agent
            && self.headers.get("user-agent").is_none()
        {
            self.headers.append_checked(b"User-Agent", value.as_bytes());
        }
        Ok(self)
    }

    /// Sets the body, which is sent with Content-Length.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        match body.into().0 {
            Kind::Empty => self.content = Content::Memory(Bytes::Static(b"")),
            Kind::Bytes(Block::Static(bytes)) => self.content = Content::Memory(Bytes::Static(bytes)),
            Kind::Bytes(Block::Owned(bytes)) => self.content = Content::Memory(Bytes::Shared(bytes.into())),
            Kind::Bytes(Block::Shared(bytes)) => self.content = Content::Memory(Bytes::Shared(bytes)),
            Kind::File(..) | Kind::Stream(_) => {
                self.invalid(Error::InvalidRequest("a streamed body must be set with Request::stream".to_owned()));
            }
        }
        self
    }

    /// Streams the body from a pipe, with `length` in bytes, or chunked if that is `None`.
    ///
    /// If the pipe is truncated, or ends before `length`, the connection is aborted and the request fails with
    /// [`Error::UploadFailed`]. Data beyond `length` is not sent.
    pub fn stream(mut self, body: PipeOut, length: Option<u64>) -> Self {
        self.content = Content::Stream(body, length);
        self
    }

    /// Sends a body in memory chunked, without Content-Length.
    pub fn chunked(mut self) -> Self {
        self.options.chunked = true;
        self
    }

    /// Sends `Expect: 100-continue`, and the body after the server's 100 or after 1 s (RFC 9110 §10.1.1). After a 417
    /// the client repeats the request without the expectation.
    pub fn expect_continue(mut self) -> Self {
        self.options.expect_continue = true;
        self
    }

    /// Sends `Expect: 100-continue`, and calls `f` when the server's 100 arrives, on the request's loop. In `f`, a proxy
    /// can ask its own client for the body ([`Ticket::receive`](crate::Ticket::receive)). So it receives no body that the
    /// server rejects.
    ///
    /// Unlike [`expect_continue`](Self::expect_continue), the body is held until that 100, without a limit of time. Use
    /// it for servers that are known to send one, or set a [`continue_timeout`](Self::continue_timeout). If the server
    /// rejects the expectation with a 417, `f` is called when the request is repeated without it. If the response arrives first, the body is not sent, and `f` is
    /// dropped. It is dropped as well if there is no body.
    ///
    /// ```
    /// use uncork::{client::Request, pipe};
    /// let (mut inlet, outlet) = pipe(64 * 1024);
    /// let request = Request::new("PUT", "http://127.0.0.1:9000/").stream(outlet, Some(5)).on_continue(move || {
    ///     inlet.write(b"hello");
    ///     inlet.finish(None);
    /// });
    /// # let _ = request;
    /// ```
    pub fn on_continue(mut self, f: impl FnOnce() + Send + 'static) -> Self {
        self.on_continue = Some(Box::new(f));
        self.expect_continue()
    }

    /// Limits how long the body is held for [`on_continue`](Self::on_continue). Default: no limit. After this time, `f` is
    /// called although there was no 100, and the body is sent: the server may not know of it (RFC 9110 §10.1.1).
    pub fn continue_timeout(mut self, timeout: Duration) -> Self {
        self.options.continue_timeout = Some(timeout);
        self
    }

    /// Offers an upgrade to `protocol` (RFC 9110 §7.8). If the response is a 101,
    /// [`Response::switch`](super::Response::switch) hands over the stream.
    pub fn upgrade(mut self, protocol: &str) -> Self {
        self.options.upgrade = true;
        self.header("Upgrade", protocol)
    }

    /// Offers an upgrade with all fields of its handshake, for example those of
    #[cfg_attr(feature = "ws", doc = "[`ws::Offer::headers`](crate::ws::Offer::headers).")]
    #[cfg_attr(not(feature = "ws"), doc = "`ws::Offer::headers`.")]
    /// A `Connection` field among them is ignored: the client writes its own.
    pub fn upgrade_with(mut self, handshake: &Headers) -> Self {
        self.options.upgrade = true;
        let fields = handshake.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        fields.fold(self, |request, (name, value)| request.append(name, value))
    }

    /// Calls `f` with the status and fields of each informational response (1xx), for example 103 Early Hints (RFC 9110
    /// §15.2).
    ///
    /// `f` runs on the request's loop before the response is delivered, and must not block. It is not called for 100
    /// (see [`on_continue`](Self::on_continue)), or for 101, which is a response. Without this callback, informational responses
    /// are dropped. After more than 16 of them the request fails.
    pub fn on_informational(mut self, f: impl FnMut(u16, Headers) + Send + 'static) -> Self {
        self.informational = Some(Box::new(f));
        self
    }

    /// Limits the time from [`Client::send`](super::Client::send) to the last byte of the response's body. Default:
    /// none, so that only the other timeouts apply. It stops at a switch to another protocol.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.total_timeout = Some(timeout);
        self
    }

    /// Limits the time until there is a connection: the queue, name resolution, TCP and TLS together. Default:
    /// [`ClientBuilder::connect_timeout`](super::ClientBuilder::connect_timeout).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = Some(timeout);
        self
    }

    /// Limits the time from the last byte of the request to the head of the response. Default:
    /// [`ClientBuilder::head_timeout`](super::ClientBuilder::head_timeout).
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.options.head_timeout = Some(timeout);
        self
    }

    /// Limits a pause in a body, of the request or the response, while the client waits for the server. Default:
    /// [`ClientBuilder::idle_timeout`](super::ClientBuilder::idle_timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// Limits the redirects that are followed. Default:
    /// [`ClientBuilder::max_redirects`](super::ClientBuilder::max_redirects).
    pub fn max_redirects(mut self, max: u8) -> Self {
        self.options.max_redirects = Some(max);
        self
    }

    /// Uses a new connection for this request alone, and sends `Connection: close`.
    pub fn fresh(mut self) -> Self {
        self.options.fresh = true;
        self
    }

    /// Returns a handle that cancels this request from any thread, until the head of its response has been received.
    ///
    /// A proxy needs it: when its client disconnects ([`Request::on_end`](crate::Request::on_end)), the origin server
    /// must notice, and the closed connection shows it.
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.cancel.get_or_insert_with(CancelHandle::new).clone()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
    }

    /// Records its stage for [`cancel_handle`](Self::cancel_handle).
    pub(super) fn note(&self, stage: impl FnOnce() -> Option<Stage>) {
        if let Some(cancel) = &self.cancel {
            cancel.note(stage());
        }
    }

    /// Sets whether the request may be sent again if an idle connection turns out to be closed before any byte of the
    /// response.
    ///
    /// Default: by the method; GET, HEAD, OPTIONS, TRACE, PUT and DELETE may be repeated (RFC 9110 §9.2.2). Pass `true`
    /// if sending twice does no harm. A streamed body is never repeated.
    pub fn repeatable(mut self, yes: bool) -> Self {
        self.options.repeatable = Some(yes);
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.url.https { "https" } else { "http" };
        write!(f, "Request({} {scheme}://{}{})", self.method, self.url.authority(), self.url.target)
    }
}
