//! A request to be sent: what the application says of it, checked as it is said.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{CancelHandle, Error, builder::Settings, cancel::Stage, url::Url};
use crate::{
    api::{Body, PipeOut, response::Kind},
    base::out::Block,
    h1::{Headers, InvalidHeader, is_token, target},
};

/// A request to be sent. The client writes Host, Content-Length, Transfer-Encoding, Connection and Expect itself;
/// everything else is the application's.
///
/// What is malformed, or could end a line (a CR or LF in a value, a space in a method or URL), is never sent: the call
/// fails with [`Error::Url`] or [`Error::InvalidRequest`].
///
/// ```
/// use std::time::Duration;
/// use uncork::client::Request;
/// let call = Request::post("http://127.0.0.1:8080/hook", "hello")
///     .header("Content-Type", "text/plain")
///     .timeout(Duration::from_secs(10));
/// # let _ = call;
/// ```
#[must_use = "a call is made by Client::send or Client::call"]
pub struct Request {
    pub(super) method: Box<str>,
    pub(super) url: Url,
    pub(super) unix: Option<Arc<Path>>,
    pub(super) host: Option<String>,
    pub(super) headers: Headers,
    pub(super) content: Content,
    pub(super) options: Options,
    pub(super) cancel: Option<CancelHandle>,
    pub(super) interim: Option<Interim>,
    /// Why it must not be sent.
    pub(super) fault: Option<Error>,
}

/// Called with each interim response.
type Interim = Box<dyn FnMut(u16, Headers) + Send>;

/// What is to be sent.
pub(super) enum Content {
    None,
    Whole(Bytes),
    Stream(PipeOut, Option<u64>),
}

/// A whole body, which can be sent again.
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
    pub(super) whole: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) head: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) redirects: Option<u8>,
    pub(super) fresh: bool,
    pub(super) expect: bool,
    pub(super) chunked: bool,
    pub(super) upgrade: bool,
    pub(super) repeatable: Option<bool>,
}

/// Fields the client writes itself.
const OWN: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "expect", "te", "proxy-connection"];

impl Request {
    /// A request of this method for this URL: `http://` or `https://`, with neither user information nor characters
    /// that would have to be percent-encoded; a fragment is left out. An IPv6 address may have a zone, the name or number
    /// of an interface (`http://[fe80::1%eth0]/`, RFC 9844): it is not sent. With CONNECT, only its host and port count.
    pub fn new(method: &str, url: &str) -> Self {
        let mut fault = None;
        let url = Url::parse(url).unwrap_or_else(|error| {
            fault = Some(error);
            Url { https: false, host: String::new(), zone: None, port: 0, target: String::new() }
        });
        if !is_token(method.as_bytes()) {
            fault.get_or_insert(Error::InvalidRequest(format!("{method:?} is no method")));
        }
        Self {
            method: method.into(),
            url,
            unix: None,
            host: None,
            headers: Headers::new(),
            content: Content::None,
            options: Options::default(),
            cancel: None,
            interim: None,
            fault,
        }
    }

    /// GET.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// POST with this body.
    pub fn post(url: &str, body: impl Into<Body>) -> Self {
        Self::new("POST", url).body(body)
    }

    /// Sends it to whoever listens on this Unix socket, whatever host the URL names; that goes into the Host field.
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix = Some(path.into().into());
        self
    }

    /// Names this host, and perhaps a port, in the Host field instead of the URL's. The connection goes to the URL's,
    /// and over TLS it is the URL's name that is verified.
    pub fn host(mut self, host: &str) -> Self {
        match target::is_host(host.as_bytes()) {
            true => self.host = Some(host.to_owned()),
            false => self.broken(Error::InvalidRequest(format!("{host:?} is no host"))),
        }
        self
    }

    /// Adds a header field. One that [may stand once](crate::h1::is_singleton), such as `User-Agent`, takes the place of
    /// what was there; others stand beside it.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, |headers| headers.put(name, value))
    }

    /// Adds a header field behind the others, whether or not it may stand once.
    pub fn append(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, |headers| headers.append(name, value))
    }

    /// Appends all of these fields: those of a request that is passed on, for instance.
    pub fn headers(self, headers: &Headers) -> Self {
        headers.iter().fold(self, |call, (name, value)| call.append(name, value))
    }

    fn with(mut self, name: &str, add: impl FnOnce(&mut Headers) -> Result<(), InvalidHeader>) -> Self {
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            self.broken(Error::InvalidRequest(format!("header field {name:?} is written by the client itself")));
        } else if let Err(error) = add(&mut self.headers) {
            self.broken(Error::InvalidRequest(format!("header field {name:?}: {error}")));
        }
        self
    }

    fn broken(&mut self, error: Error) {
        self.fault.get_or_insert(error);
    }

    /// As it is sent; or why it is not.
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

    /// Sends this body, with its length.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        match body.into().0 {
            Kind::Empty => self.content = Content::Whole(Bytes::Static(b"")),
            Kind::Bytes(Block::Static(bytes)) => self.content = Content::Whole(Bytes::Static(bytes)),
            Kind::Bytes(Block::Owned(bytes)) => self.content = Content::Whole(Bytes::Shared(bytes.into())),
            Kind::Bytes(Block::Shared(bytes)) => self.content = Content::Whole(Bytes::Shared(bytes)),
            Kind::File(..) | Kind::Stream(_) => {
                self.broken(Error::InvalidRequest("a streamed body comes out of a pipe: Call::stream".to_owned()));
            }
        }
        self
    }

    /// Sends what comes out of a pipe, as it comes; in chunks, unless its length is told. If the pipe is cut off, or ends
    /// before that length, the connection is broken off and the call fails with [`Error::UploadFailed`]; what is in it
    /// beyond that length is not sent.
    pub fn stream(mut self, body: PipeOut, length: Option<u64>) -> Self {
        self.content = Content::Stream(body, length);
        self
    }

    /// Sends a whole body in chunks, without its length.
    pub fn chunked(mut self) -> Self {
        self.options.chunked = true;
        self
    }

    /// Sends the head first, and the body when the server asks for it, or after a second (RFC 9110 §10.1.1). A 417 makes
    /// the client repeat the request without asking.
    pub fn expect_continue(mut self) -> Self {
        self.options.expect = true;
        self
    }

    /// Offers to go on in another protocol (RFC 9110 §7.8): the answer may be a 101, and then
    /// [`Response::switch`](super::Response::switch) takes the stream over.
    pub fn upgrade(mut self, protocol: &str) -> Self {
        self.options.upgrade = true;
        self.header("Upgrade", protocol)
    }

    /// Offers to go on in another protocol, with all fields of its handshake: those of
    #[cfg_attr(feature = "ws", doc = "[`ws::Offer::headers`](crate::ws::Offer::headers), for instance.")]
    #[cfg_attr(not(feature = "ws"), doc = "`ws::Offer::headers`, for instance.")]
    /// `Connection`, which may be among them, is written by the client all the same.
    pub fn upgrade_with(mut self, handshake: &Headers) -> Self {
        self.options.upgrade = true;
        let fields = handshake.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        fields.fold(self, |call, (name, value)| call.append(name, value))
    }

    /// Calls `f` with status and fields of each interim response (RFC 9110 §15.2), for instance 103 Early Hints, on the
    /// call's loop and before the response; it must not block. Not with 100, which the client handles itself, nor with
    /// 101, which is a response. By default they are dropped. More than 16 break the call off.
    pub fn on_interim(mut self, f: impl FnMut(u16, Headers) + Send + 'static) -> Self {
        self.interim = Some(Box::new(f));
        self
    }

    /// The whole call, from now to the last byte of the answer's body, takes no longer. Not set: no limit but the others.
    /// For a stream that was switched to another protocol it ends with the switch.
    pub fn timeout(mut self, whole: Duration) -> Self {
        self.options.whole = Some(whole);
        self
    }

    /// Waiting for a place, resolving the name, TCP and TLS take no longer together.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.options.connect = Some(time);
        self
    }

    /// The head of the answer comes no later than this after the last byte of the request.
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.options.head = Some(time);
        self
    }

    /// No body stands still for longer while the server is the one who is waited for.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.options.idle = Some(time);
        self
    }

    /// Follows so many redirects at the most.
    pub fn max_redirects(mut self, most: u8) -> Self {
        self.options.redirects = Some(most);
        self
    }

    /// On a connection of its own, which is closed afterwards: says `Connection: close`.
    pub fn fresh(mut self) -> Self {
        self.options.fresh = true;
        self
    }

    /// Returns a handle that gives this call up until the head of its response is there, from any thread. A proxy needs
    /// it: when the client that has asked leaves ([`Request::on_end`](crate::Request::on_end)), the server behind it is
    /// to be told, which the closed connection does.
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.cancel.get_or_insert_with(CancelHandle::new).clone()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
    }

    /// Notes where it is, for [`cancel_handle`](Self::cancel_handle).
    pub(super) fn note(&self, stage: impl FnOnce() -> Option<Stage>) {
        if let Some(cancel) = &self.cancel {
            cancel.note(stage());
        }
    }

    /// Whether the request may be sent again, if a kept connection turns out to be closed before anything of the answer
    /// has come. Without this word, that depends on the method: GET, HEAD, OPTIONS, TRACE, PUT and DELETE may (RFC 9110
    /// §9.2.2). Say yes where sending twice does no harm. A streamed body can't be repeated in any case.
    pub fn repeatable(mut self, yes: bool) -> Self {
        self.options.repeatable = Some(yes);
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.url.https { "https" } else { "http" };
        write!(f, "Call({} {scheme}://{}{})", self.method, self.url.authority(), self.url.target)
    }
}
