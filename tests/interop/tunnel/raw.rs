//! An origin server made of frames by hand (RFC 9113): it sends what a test needs, forbidden or not.
//!
//! Its heads are literals. It does not decode received heads: the test knows which request is on which stream.

use std::{
    future::Future,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{client::Client, world::World};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Error codes of RST_STREAM.
    pub(crate) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("four bytes"))
    }
}

pub(crate) struct RawOrigin {
    client: Client,
    /// All bytes of the proxy, from the preface on.
    received: Vec<u8>,
}

/// Returns the request for a tunnel.
pub(crate) fn tunnel_request(token: &str, hosts: &str) -> String {
    format!(
        "PUT /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: ptth\r\nALPN: h2\r\n\
         Authorization: Bearer {token}\r\nUncork-Hosts: {hosts}\r\n\r\n"
    )
}

impl RawOrigin {
    /// Connects an accepted origin server that has announced its limit of streams.
    pub(crate) fn new(world: &World, token: &str, hosts: &str) -> Self {
        let before = world.proxy.counts().connections_total;
        let mut origin = Self::silent(world, token, hosts);
        // MAX_CONCURRENT_STREAMS, and ENABLE_CONNECT_PROTOCOL.
        origin.frame(SETTINGS, 0, 0, [0, 3, 0, 0, 3, 232, 0, 8, 0, 0, 0, 1]);
        // The settings apply once they are acknowledged.
        origin.expect(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0);
        world.wait_until("the origin server is connected", |counts| {
            counts.connections_total > before && counts.connections > 0
        });
        origin
    }

    /// Connects one by ALPN, and sends `hello` to the proxy's question for the credential.
    pub(crate) fn by_alpn(world: &World, hello: &str) -> Self {
        Self::by_label(world, b"rh2", hello)
    }

    /// Like [`by_alpn`](Self::by_alpn), with this name in TLS.
    pub(crate) fn by_label(world: &World, label: &[u8], hello: &str) -> Self {
        let mut client = world.alpn_from(1, label);
        client.send([]);
        let preface = client.exactly(24).expect("the preface");
        assert_eq!(preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut origin = Self { client, received: preface };
        origin.frame(SETTINGS, 0, 0, [0, 8, 0, 0, 0, 1]);
        let stream = origin.request();
        assert_eq!(origin.heads()[0].uri().path(), "/.well-known/uncork/hello");
        origin.head(stream, 200, &[("content-type", "application/json")], false);
        for piece in hello.as_bytes().chunks(16_000) {
            origin.data(stream, piece, false);
        }
        origin.data(stream, "", true);
        origin
    }

    /// Connects an accepted one that sends nothing.
    pub(crate) fn silent(world: &World, token: &str, hosts: &str) -> Self {
        let mut client = world.origin();
        client.send(tunnel_request(token, hosts));
        let head = client.head();
        assert_eq!((head.status, head.get("upgrade"), head.get("alpn")), (101, Some("ptth"), Some("h2")), "{head:?}");
        let preface = client.exactly(24).expect("the preface");
        assert_eq!(preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self { client, received: preface }
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> &mut Self {
        self.try_frame(kind, flags, stream, payload).expect("sent");
        self
    }

    /// Like [`frame`](Self::frame), but for a proxy that may have closed the connection.
    pub(crate) fn try_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> io::Result<()> {
        let payload = payload.as_ref();
        let mut frame = u32::try_from(payload.len()).expect("a short payload").to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.client.try_send(frame)
    }

    /// Sends the head of a response.
    pub(crate) fn head(&mut self, stream: u32, status: u16, fields: &[(&str, &str)], end: bool) -> &mut Self {
        let status = status.to_string();
        let all = [(":status", status.as_str())].into_iter().chain(fields.iter().copied());
        self.fields(stream, &literals(all), end)
    }

    /// Sends a head as it is.
    pub(crate) fn fields(&mut self, stream: u32, block: &[u8], end: bool) -> &mut Self {
        self.frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, block)
    }

    pub(crate) fn data(&mut self, stream: u32, data: impl AsRef<[u8]>, end: bool) -> &mut Self {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, data)
    }

    /// Sends an informational head (1xx) to a proxy that may have closed the connection.
    pub(crate) fn try_head(&mut self, stream: u32, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        let status = status.to_string();
        let all = [(":status", status.as_str())].into_iter().chain(fields.iter().copied());
        self.try_frame(HEADERS, END_HEADERS, stream, literals(all))
    }

    /// Enlarges a window by this many bytes; stream 0 is the connection.
    pub(crate) fn open_window(&mut self, stream: u32, by: u32) -> &mut Self {
        self.frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> &mut Self {
        self.frame(RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub(crate) fn go_away(&mut self, last: u32, code: u32) -> &mut Self {
        self.frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// Receives the next frame of any type. Acknowledges settings.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        let head = self.client.exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        let frame = Frame { kind: head[3], flags: head[4], stream, payload: self.client.exactly(length)? };
        self.received.extend_from_slice(&head);
        self.received.extend_from_slice(&frame.payload);
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.frame(SETTINGS, ACK, 0, []);
        }
        Ok(frame)
    }

    /// Receives the next frame for which `is` is true, and skips others.
    #[track_caller]
    pub(crate) fn expect(&mut self, is: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().expect("another frame");
            if is(&frame) {
                return frame;
            }
        }
    }

    /// Returns the stream of the next request.
    #[track_caller]
    pub(crate) fn request(&mut self) -> u32 {
        self.expect(|frame| frame.kind == HEADERS).stream
    }

    /// Expects the connection's end, without a request before it.
    #[track_caller]
    pub(crate) fn ended(&mut self) {
        let error = loop {
            match self.next() {
                Ok(frame) => assert_ne!(frame.kind, HEADERS, "a request"),
                Err(error) => break error,
            }
        };
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "the connection continues");
    }

    /// Like [`ended`](Self::ended), but for an origin server that sends nothing meanwhile.
    #[track_caller]
    pub(crate) fn ended_silently(&mut self) {
        let error = loop {
            if let Err(error) = self.client.some(usize::MAX) {
                break error;
            }
        };
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "the connection continues");
    }

    /// Returns the heads of all requests so far, in order of arrival, as h2's server reads them.
    pub(crate) fn heads(&self) -> Vec<http::Request<()>> {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut greeting = h2::server::Builder::new();
        greeting.enable_connect_protocol();
        let mut greeting = pin!(greeting.handshake::<_, bytes::Bytes>(Replay(self.received.clone(), 0)));
        let Poll::Ready(Ok(mut server)) = greeting.as_mut().poll(cx) else { panic!("no preface and settings") };
        let mut heads = Vec::new();
        while let Poll::Ready(Some(Ok((request, _)))) = server.poll_accept(cx) {
            heads.push(request.map(drop));
        }
        heads
    }

    pub(crate) fn leave(self) {
        self.client.leave();
    }

    pub(crate) fn is_silent(&mut self, time: std::time::Duration) -> bool {
        self.client.is_silent(time)
    }
}

/// Replays received bytes, and then is silent. Discards written bytes.
struct Replay(Vec<u8>, usize);

impl AsyncRead for Replay {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = into.remaining().min(self.0.len() - self.1);
        if n == 0 {
            return Poll::Pending;
        }
        into.put_slice(&self.0[self.1..self.1 + n]);
        self.1 += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Encodes fields as literals without indexing (RFC 7541 §6.2.2).
pub(crate) fn literals<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Seven bits of the length, then the rest of it (§5.1).
            match u8::try_from(text.len()) {
                Ok(short @ 0..127) => block.push(short),
                _ => {
                    block.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        block.push((rest % 128 + 128) as u8);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
