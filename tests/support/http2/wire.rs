//! HTTP/2 for tests that write and read HTTP/1.1: requests become streams, and responses become text again.
//!
//! ```text
//!   GET /up, Upgrade: test   ──▶  :method CONNECT, :protocol test         101  ◀──  :status 200
//!   POST, Content-Length │ chunks ──▶ HEADERS, DATA, trailers         chunks   ◀──  DATA without Content-Length
//!   bytes of another protocol ──▶ DATA             finish ──▶ END_STREAM          reset ──▶ RST_STREAM
//! ```
//! So a test of the matrix means the same over HTTP/2. Requests that are sent one after the other are streams at the
//! same time; their responses are shown in the order of the requests.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rustls::ClientConfig;

use super::{Client, End, Exchange};
use crate::wire::{Carrier, Wire};

/// Connections with a stream that was reset. They stay open, so that the server has nothing but that to notice.
static KEPT: Mutex<Vec<Client>> = Mutex::new(Vec::new());

/// Returns a wire over HTTP/2. `window`: bytes of DATA that the server may send before the test reads.
pub(crate) fn connect(addr: SocketAddr, tls: Option<Arc<ClientConfig>>, window: Option<u32>) -> io::Result<Wire> {
    let mut settings = super::settings();
    settings.initial_window_size(window.unwrap_or(1 << 20));
    let client = Client::connect_with(addr, tls, &settings)?;
    Ok(Wire::carried(Box::new(Carried { client, shown: VecDeque::new(), text: Vec::new(), input: Input::Head })))
}

struct Carried {
    client: Client,
    /// The exchanges whose responses were not shown completely.
    shown: VecDeque<Shown>,
    /// Text that is incomplete.
    text: Vec<u8>,
    input: Input,
}

/// What the next bytes of the test are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Head,
    Body(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    /// Another protocol.
    Raw,
}

struct Shown {
    exchange: Exchange,
    /// The protocol of an upgrade.
    protocol: Option<String>,
    connect: bool,
    head_only: bool,
    /// The bytes of the response are another protocol's.
    raw: bool,
    chunked: bool,
    /// The end was shown.
    ended: bool,
}

impl Carried {
    /// Begins the request of a head.
    fn begin(&mut self, head: &str) -> io::Result<()> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
        let value = |name: &str| fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let authority = value("host").unwrap_or("localhost");
        let protocol = value("upgrade").map(str::to_owned);
        let uri = if method == "CONNECT" { target.to_owned() } else { format!("http://{authority}{target}") };
        let mut request = Request::builder().method(if protocol.is_some() { "CONNECT" } else { method }).uri(uri);
        if let Some(protocol) = &protocol {
            request = request.extension(h2::ext::Protocol::from(protocol.as_str()));
        }
        for (name, value) in &fields {
            let own = ["host", "connection", "upgrade", "transfer-encoding", "sec-websocket-key"];
            if !own.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                request = request.header(*name, *value);
            }
        }
        let length = value("content-length").map(|length| length.parse().expect("a length"));
        let connect = method == "CONNECT";
        self.input = match (protocol.is_some() || connect, length) {
            (true, _) => Input::Raw,
            (false, Some(0)) => Input::Head,
            (false, Some(length)) => Input::Body(length),
            (false, None) if value("transfer-encoding").is_some() => Input::ChunkSize,
            (false, None) => Input::Head,
        };
        if protocol.is_some() && !self.client.can_upgrade() {
            return Err(io::Error::new(ErrorKind::ConnectionReset, "no extended CONNECT"));
        }
        let request = request.body(()).map_err(io::Error::other)?;
        // What the test sends with it goes out with it.
        self.client.holds = true;
        let exchange = self.client.try_request(request, self.input == Input::Head).map_err(failed)?;
        let head_only = method == "HEAD";
        let shown = Shown { exchange, protocol, connect, head_only, raw: false, chunked: false, ended: false };
        self.shown.push_back(shown);
        Ok(())
    }

    /// Takes a line from `bytes`. Returns the number of bytes used, and the line if it is complete.
    fn line(&mut self, bytes: &[u8], end: &[u8]) -> (usize, Option<String>) {
        for (n, byte) in bytes.iter().enumerate() {
            self.text.push(*byte);
            if self.text.ends_with(end) {
                let text = std::mem::take(&mut self.text);
                return (n + 1, Some(String::from_utf8_lossy(&text[..text.len() - end.len()]).into_owned()));
            }
        }
        (bytes.len(), None)
    }

    /// Sends bytes of a body or of another protocol. Returns the number that was sent.
    fn data(&mut self, bytes: &[u8], raw: bool, timeout: Duration) -> io::Result<usize> {
        let Some(shown) = self.shown.back_mut() else { return Ok(bytes.len()) };
        match shown.exchange.push(&mut self.client, &bytes[..bytes.len().min(16 * 1024)], timeout) {
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            Ok(n) => Ok(n),
            // A server that does not want a body resets the stream. HTTP/1.1's clients do not learn of that so soon.
            Err(_) if !raw && self.client.over.is_none() => Ok(bytes.len()),
            Err(error) => Err(failed(error)),
        }
    }

    fn end(&mut self, trailers: HeaderMap) {
        if let Some(shown) = self.shown.back_mut() {
            let send = &mut shown.exchange.send;
            // The server may have reset it.
            let _ = match trailers.is_empty() {
                true => send.send_data(Bytes::new(), true),
                false => send.send_trailers(trailers),
            };
        }
        self.input = Input::Head;
    }

    fn raw(&mut self) -> Option<&mut Shown> {
        self.shown.front_mut().filter(|shown| shown.raw || shown.protocol.is_some() || shown.connect)
    }
}

impl Carrier for Carried {
    fn write(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<usize> {
        match self.input {
            Input::Head => {
                let (n, head) = self.line(bytes, b"\r\n\r\n");
                head.map_or(Ok(()), |head| self.begin(&head))?;
                Ok(n)
            }
            Input::Body(left) => {
                let n = self.data(&bytes[..bytes.len().min(left)], false, timeout)?;
                self.input = Input::Body(left - n);
                if left == n {
                    self.end(HeaderMap::new());
                }
                Ok(n)
            }
            Input::ChunkSize => {
                let (n, line) = self.line(bytes, b"\r\n");
                if let Some(line) = line {
                    let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                    self.input = if size == 0 { Input::Trailers } else { Input::Chunk(size) };
                }
                Ok(n)
            }
            Input::Chunk(left) => {
                let n = self.data(&bytes[..bytes.len().min(left)], false, timeout)?;
                self.input = if left == n { Input::ChunkEnd } else { Input::Chunk(left - n) };
                Ok(n)
            }
            Input::ChunkEnd => {
                let (n, line) = self.line(bytes, b"\r\n");
                if line.is_some() {
                    self.input = Input::ChunkSize;
                }
                Ok(n)
            }
            Input::Trailers => {
                let mut trailers = HeaderMap::new();
                let (n, line) = self.line(bytes, b"\r\n");
                if let Some(line) = line {
                    // Tests send one trailer at most, and its line with the empty one.
                    if let Some((name, value)) = line.split_once(": ") {
                        let name = name.parse::<http::HeaderName>().map_err(io::Error::other)?;
                        trailers.insert(name, value.parse().map_err(io::Error::other)?);
                        self.end(trailers);
                        return Ok(n + self.line(&bytes[n..], b"\r\n").0);
                    }
                    self.end(trailers);
                }
                Ok(n)
            }
            Input::Raw => self.data(bytes, true, timeout),
        }
    }

    fn flush(&mut self) {
        self.client.holds = false;
        self.client.flush();
    }

    fn read(&mut self, rest: &mut Vec<u8>, timeout: Duration) -> io::Result<usize> {
        let (shown, before) = (&mut self.shown, rest.len());
        let result = self.client.until(timeout, |client, cx| {
            while let Some(front) = shown.front_mut() {
                match front.show(rest, cx) {
                    Poll::Ready(Err(error)) => {
                        if !front.raw {
                            shown.pop_front();
                        }
                        return Poll::Ready(Err(error));
                    }
                    Poll::Ready(Ok(())) if front.ended && !front.raw => drop(shown.pop_front()),
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
                if rest.len() > before {
                    return Poll::Ready(Ok(()));
                }
            }
            match client.link.end() {
                Some(End::Clean) => Poll::Ready(Ok(())),
                Some(End::Truncated) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Some(End::Reset) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
                None => Poll::Pending,
            }
        });
        result.unwrap_or(Err(ErrorKind::WouldBlock.into())).map(|()| rest.len() - before)
    }

    fn finish(&mut self) {
        match self.raw() {
            Some(shown) => drop(shown.exchange.send.send_data(Bytes::new(), true)),
            None => {
                self.client.flush();
                return self.client.link.finish(true);
            }
        }
        self.client.flush();
    }

    fn end_tcp(&mut self) {
        self.client.flush();
        self.client.link.finish(false);
    }

    fn reset(self: Box<Self>) {
        let Self { mut client, shown, .. } = *self;
        if shown.is_empty() {
            return client.link.reset();
        }
        shown.into_iter().for_each(|shown| shown.exchange.reset(&mut client));
        client.flush();
        KEPT.lock().expect("whole").push(client);
    }
}

impl Shown {
    /// Appends the next part of the response.
    fn show(&mut self, rest: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        if !self.exchange.has_head() {
            let (head, informs) = std::task::ready!(self.exchange.poll_head(cx)).map_err(failed)?;
            self.show_head(&head, informs, rest);
            return Poll::Ready(Ok(()));
        }
        let data = loop {
            match std::task::ready!(self.exchange.poll_data(cx)).transpose().map_err(failed)? {
                // An empty chunk would be the end.
                Some(data) if data.is_empty() => {}
                data => break data,
            }
        };
        match data {
            Some(data) if self.chunked => {
                let _ = write!(rest, "{:x}\r\n", data.len());
                rest.extend_from_slice(&data);
                rest.extend_from_slice(b"\r\n");
            }
            Some(data) => rest.extend_from_slice(&data),
            None => {
                let trailers = std::task::ready!(self.exchange.poll_trailers(cx)).map_err(failed)?;
                self.ended = true;
                if self.chunked {
                    rest.extend_from_slice(b"0\r\n");
                    show_fields(&trailers.unwrap_or_default(), rest);
                    rest.extend_from_slice(b"\r\n");
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn show_head(&mut self, head: &Response<()>, informs: bool, rest: &mut Vec<u8>) {
        let status = head.status().as_u16();
        self.raw = !informs && status == 200 && (self.protocol.is_some() || self.connect);
        let shown = if self.raw && self.protocol.is_some() { 101 } else { status };
        let _ = write!(rest, "HTTP/1.1 {shown} \r\n");
        show_fields(head.headers(), rest);
        if let Some(protocol) = self.protocol.as_ref().filter(|_| self.raw) {
            let _ = write!(rest, "connection: upgrade\r\nupgrade: {protocol}\r\n");
        }
        let bodiless = informs || self.raw || self.head_only || matches!(status, 204 | 304);
        self.chunked = !bodiless && !head.headers().contains_key("content-length");
        if self.chunked {
            rest.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        rest.extend_from_slice(b"\r\n");
    }
}

fn show_fields(fields: &HeaderMap, rest: &mut Vec<u8>) {
    for (name, value) in fields {
        let _ = write!(rest, "{name}: ");
        rest.extend_from_slice(value.as_bytes());
        rest.extend_from_slice(b"\r\n");
    }
}

/// Returns the error of a stream or a connection as that of a socket.
fn failed(error: h2::Error) -> io::Error {
    let kind = match error.get_io() {
        Some(error) => error.kind(),
        None => ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, error)
}
