//! A client of HTTP/2 that a test drives by hand, by the `h2` crate: the test decides what is sent and what is read,
//! and what it does not read holds the server back by the windows.
//!
//! ```text
//!   test ──▶ Exchange (a stream) ──▶ h2 ◀──▶ link ◀──▶ socket
//! ```

#![expect(clippy::disallowed_methods, reason = "a step has a timeout")]

mod link;
pub(crate) mod wire;

use std::{
    future::Future,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response};
use rustls::ClientConfig;

pub(crate) use self::link::End;
use self::link::{Link, Memory};

/// The timeout of a step: longer than any takes, so that a hang becomes a failure.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(8);

/// A connection.
pub(crate) struct Client {
    pub(crate) link: Link,
    connection: Connection<Memory, Bytes>,
    requests: SendRequest<Bytes>,
    /// Frames are held back: what follows goes out with them.
    pub(crate) holds: bool,
    /// The result of the connection, when it is over.
    pub(crate) over: Option<Result<(), h2::Error>>,
}

/// The bytes of a body, and the trailers.
type Body = (Vec<u8>, Option<HeaderMap>);

/// A stream: a request and its response.
pub(crate) struct Exchange {
    response: Option<ResponseFuture>,
    pub(crate) send: SendStream<Bytes>,
    recv: Option<RecvStream>,
    /// The response is complete, without trailers.
    ended: bool,
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl Client {
    /// Connects with the usual windows; without TLS with prior knowledge.
    pub(crate) fn connect(addr: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        Self::connect_with(addr, tls, &settings())
    }

    pub(crate) fn connect_with(
        addr: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        settings: &Builder,
    ) -> io::Result<Self> {
        let (mut link, memory) = Link::connect(addr, tls)?;
        let by = Instant::now() + TIMEOUT;
        while !link.is_ready() && Instant::now() < by {
            if !(link.flush() | link.fill()) {
                link.wait(Duration::from_millis(100));
            }
            if let Some(end) = link.end() {
                return Err(io::Error::new(ErrorKind::ConnectionReset, format!("{end:?} during the handshake")));
            }
        }
        let (requests, connection) =
            now(settings.handshake(memory)).expect("the preface fits").map_err(io::Error::other)?;
        let mut client = Self { link, connection, requests, holds: false, over: None };
        client.drive();
        Ok(client)
    }

    /// Has h2 read and write, once. Returns `true` if bytes were moved.
    pub(crate) fn drive(&mut self) -> bool {
        self.poll();
        if self.holds {
            return false;
        }
        let sent = self.link.flush();
        let received = self.link.fill();
        if received {
            self.poll();
            self.link.flush();
        }
        sent || received
    }

    /// Waits until the system has all that may be sent, or the connection is over.
    pub(crate) fn flush(&mut self) {
        self.until(TIMEOUT, |client, _| match client.over.is_none() && client.link.has_output() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        });
    }

    /// Has h2 write, without reading from the socket.
    #[allow(dead_code, reason = "the tests of HTTP/2 do")]
    pub(crate) fn write_only(&mut self) {
        self.poll();
        self.link.flush();
    }

    fn poll(&mut self) {
        if self.over.is_none()
            && let Poll::Ready(result) = Pin::new(&mut self.connection).poll(&mut Context::from_waker(Waker::noop()))
        {
            self.over = Some(result);
        }
    }

    /// Drives the connection until `done`, for at most `time`.
    pub(crate) fn until<T>(
        &mut self,
        time: Duration,
        mut done: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let by = Instant::now() + time;
        loop {
            let moved = self.drive();
            if let Poll::Ready(result) = done(self, &mut Context::from_waker(Waker::noop())) {
                // What that has written.
                self.drive();
                return Some(result);
            }
            self.holds = false;
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            if !moved && !self.drive() {
                self.link.wait(left);
            }
        }
    }

    /// Waits until the server has told that it accepts extended CONNECT.
    pub(crate) fn can_upgrade(&mut self) -> bool {
        self.until(TIMEOUT, |client, _| match client.requests.is_extended_connect_protocol_enabled() {
            true => Poll::Ready(true),
            false if client.over.is_some() => Poll::Ready(false),
            false => Poll::Pending,
        })
        .unwrap_or(false)
    }

    /// Begins a request, when the server's limit of streams allows it. `ended`: it has no body. It is sent with the
    /// next call that drives the connection.
    pub(crate) fn try_request(&mut self, request: Request<()>, ended: bool) -> Result<Exchange, h2::Error> {
        self.until(TIMEOUT, |client, cx| client.requests.poll_ready(cx)).expect("ready for a request")?;
        let (response, send) = self.requests.send_request(request, ended)?;
        Ok(Exchange { response: Some(response), send, recv: None, ended: false })
    }

    #[track_caller]
    pub(crate) fn request(&mut self, request: Request<()>, ended: bool) -> Exchange {
        let exchange = self.try_request(request, ended).expect("a stream");
        self.flush();
        exchange
    }

    /// Requests without a body.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Exchange {
        self.request(get(path), true)
    }

    /// Requests and receives.
    #[track_caller]
    pub(crate) fn fetch(&mut self, path: &str) -> (Response<()>, Vec<u8>) {
        let mut exchange = self.get(path);
        let head = exchange.head(self);
        let body = exchange.body(self).expect("a complete body").0;
        (head, body)
    }

    /// Waits for the server to end the connection. Returns how.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> End {
        self.until(TIMEOUT, |client, _| client.link.end().map_or(Poll::Pending, Poll::Ready)).expect("an end")
    }

    /// Reads nothing but frames of control, for a while.
    pub(crate) fn pause(&mut self, time: Duration) {
        self.until(time, |_, _| Poll::<()>::Pending);
    }
}

/// Returns the usual settings, with the limit of streams that RFC 9113 §6.5.2 recommends until the server names its
/// own.
pub(crate) fn settings() -> Builder {
    let mut settings = Builder::new();
    // A stream that the test does not read stalls no other.
    settings.initial_max_send_streams(100).initial_connection_window_size(1 << 24);
    settings
}

/// Returns a request without fields.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://localhost{path}")).body(()).expect("a request")
}

/// Returns a request that may have a body.
pub(crate) fn post(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://localhost{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

impl Exchange {
    /// Looks for an informational response (`Some(true)`), and for the final one.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Response<()>, bool), h2::Error>> {
        let response = self.response.as_mut().expect("the head was not received yet");
        if let Poll::Ready(Some(result)) = response.poll_informational(cx) {
            return Poll::Ready(result.map(|head| (head, true)));
        }
        let result = std::task::ready!(Pin::new(response).poll(cx));
        self.response = None;
        Poll::Ready(result.map(|response| {
            let (parts, recv) = response.into_parts();
            self.recv = Some(recv);
            (Response::from_parts(parts, ()), false)
        }))
    }

    /// Returns `true` if the final head was received.
    pub(crate) fn has_head(&self) -> bool {
        self.response.is_none()
    }

    /// Receives the next informational response.
    #[track_caller]
    pub(crate) fn informed(&mut self, client: &mut Client) -> Response<()> {
        let (head, informs) = client.until(TIMEOUT, |_, cx| self.poll_head(cx)).expect("a head").expect("a response");
        assert!(informs, "{head:?}");
        head
    }

    /// Receives the head of the response.
    #[track_caller]
    pub(crate) fn head(&mut self, client: &mut Client) -> Response<()> {
        self.try_head(client).expect("a response")
    }

    pub(crate) fn try_head(&mut self, client: &mut Client) -> Result<Response<()>, h2::Error> {
        let head = client.until(TIMEOUT, |_, cx| self.poll_head(cx)).expect("a head in time")?;
        assert!(!head.1, "informational: {head:?}");
        Ok(head.0)
    }

    /// Looks for DATA, which counts as read: the server may send more. `None`: the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let recv = self.recv.as_mut().expect("the head was received");
        if self.ended {
            return Poll::Ready(None);
        }
        let data = std::task::ready!(recv.poll_data(cx));
        // h2 forgets an END_STREAM when the stream is reset behind it, or the connection ends.
        self.ended = recv.is_end_stream();
        if matches!(&data, Some(Err(error)) if error.is_remote() && error.reason() == Some(Reason::NO_ERROR)) {
            self.ended = true;
            return Poll::Ready(None);
        }
        if let Some(Ok(data)) = &data {
            let _ = recv.flow_control().release_capacity(data.len());
        }
        Poll::Ready(data)
    }

    pub(crate) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        self.recv.as_mut().expect("the head was received").poll_trailers(cx)
    }

    /// Receives the next DATA, `None` at the end.
    #[track_caller]
    pub(crate) fn data(&mut self, client: &mut Client) -> Option<Result<Bytes, h2::Error>> {
        client.until(TIMEOUT, |_, cx| self.poll_data(cx)).expect("data, or an end")
    }

    /// Receives the rest of the body, and the trailers.
    #[track_caller]
    pub(crate) fn body(&mut self, client: &mut Client) -> Result<Body, (Vec<u8>, h2::Error)> {
        let mut body = Vec::new();
        while let Some(data) = self.data(client) {
            match data {
                Ok(data) => body.extend_from_slice(&data),
                Err(error) => return Err((body, error)),
            }
        }
        match client.until(TIMEOUT, |_, cx| self.poll_trailers(cx)).expect("the end") {
            Ok(trailers) => Ok((body, trailers)),
            Err(error) => Err((body, error)),
        }
    }

    /// Sends as much as the windows allow within `time`. Returns the number of bytes.
    pub(crate) fn push(&mut self, client: &mut Client, bytes: &[u8], time: Duration) -> Result<usize, h2::Error> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.send.reserve_capacity((bytes.len() - sent).min(64 * 1024));
            let room = client.until(time, |_, cx| match self.send.capacity() {
                0 => match self.send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(0))) => Poll::Pending,
                    room => room,
                },
                room => Poll::Ready(Some(Ok(room))),
            });
            let n = match room {
                None => break,
                Some(None) => return Err(Reason::STREAM_CLOSED.into()),
                Some(Some(room)) => room?.min(bytes.len() - sent),
            };
            self.send.send_data(Bytes::copy_from_slice(&bytes[sent..sent + n]), false)?;
            sent += n;
        }
        Ok(sent)
    }

    /// Sends all bytes.
    #[track_caller]
    pub(crate) fn write(&mut self, client: &mut Client, bytes: &[u8]) -> &mut Self {
        assert_eq!(self.push(client, bytes, TIMEOUT).expect("sent"), bytes.len());
        client.flush();
        self
    }

    /// Ends the request, or our direction of another protocol.
    pub(crate) fn finish(&mut self, client: &mut Client) {
        let _ = self.send.send_data(Bytes::new(), true);
        client.flush();
    }

    /// Ends the request with trailers.
    pub(crate) fn finish_with(&mut self, client: &mut Client, name: &'static str, value: &'static str) {
        let trailers = [(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))];
        self.send.send_trailers(trailers.into_iter().collect()).expect("sent");
        client.flush();
    }

    /// Resets the stream.
    pub(crate) fn reset(mut self, client: &mut Client) {
        self.send.send_reset(Reason::CANCEL);
        client.flush();
    }

    /// Waits for the server's reset.
    #[track_caller]
    pub(crate) fn is_reset(&mut self, client: &mut Client) -> Reason {
        client.until(TIMEOUT, |_, cx| self.send.poll_reset(cx)).expect("a reset").expect("a reason")
    }
}
