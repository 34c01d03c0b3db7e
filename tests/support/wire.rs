//! One end of a connection, plain or TLS, on a blocking socket, or of a stream of HTTP/2. It sends exactly the bytes
//! of the test, can end its side in every way, and shows what it received and how the connection ended.

use std::{
    io::{self, ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, SockRef, Socket, Type};

pub(crate) use self::message::{TestResponse, request};
use self::records::Counted;

#[path = "message.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod message;
#[path = "records.rs"]
mod records;

/// The timeout of reads and writes: longer than any test step takes, so that a hang becomes a failure.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(8);

/// Bytes of plaintext in the largest record.
const RECORD: usize = 16 * 1024;

/// One connection.
pub(crate) struct Wire {
    stream: Stream,
    /// Received, but not read by the test.
    rest: Vec<u8>,
    /// The timeouts of a carried wire.
    read_timeout: Duration,
    write_timeout: Duration,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Counted>>),
    Carried(Box<dyn Carrier>),
}

/// Another transport, which carries the HTTP/1.1 that a test writes and reads. See `support/http2`.
pub(crate) trait Carrier: Send {
    /// Writes some bytes. `WouldBlock`: the server takes none for that time.
    fn write(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<usize>;
    fn flush(&mut self);
    /// Appends what has arrived. 0: the end.
    fn read(&mut self, rest: &mut Vec<u8>, timeout: Duration) -> io::Result<usize>;
    /// Half-closes.
    fn finish(&mut self);
    /// Sends a FIN only.
    fn end_tcp(&mut self);
    fn reset(self: Box<Self>);
}

/// The way in which the server ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Normally: FIN, and over TLS a close_notify before it.
    Clean,
    /// FIN without a close_notify. On a plain connection this is [`Clean`](Self::Clean).
    Truncated,
    /// A reset.
    Reset,
}

impl Wire {
    /// Connects. `receive_buffer` limits about how much the client's system holds for a test that does not read.
    pub(crate) fn connect(
        addr: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        receive_buffer: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket.connect(&addr.into())?;
        Self::over(TcpStream::from(socket), tls)
    }

    /// Continues on a stream that may have carried data already; with TLS, if given.
    pub(crate) fn over(tcp: TcpStream, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        tcp.set_nodelay(true)?;
        let Some(config) = tls else { return Ok(Self::new(Stream::Plain(tcp))) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let conn = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(conn, Counted::new(tcp));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::new(Stream::Tls(Box::new(stream))))
    }

    /// Continues over another transport.
    #[allow(dead_code, reason = "tests over HTTP/2 do")]
    pub(crate) fn carried(carrier: Box<dyn Carrier>) -> Self {
        Self::new(Stream::Carried(carrier))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, rest: Vec::new(), read_timeout: TIMEOUT, write_timeout: TIMEOUT }
    }

    /// Returns the socket; `None` if another transport has it.
    fn socket(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(tcp) => Some(tcp),
            Stream::Tls(stream) => Some(&stream.sock.tcp),
            Stream::Carried(_) => None,
        }
    }

    #[track_caller]
    fn tcp(&self) -> &TcpStream {
        self.socket().expect("a socket of its own")
    }

    fn set_read_timeout(&mut self, timeout: Duration) {
        self.read_timeout = timeout;
        if let Some(tcp) = self.socket() {
            tcp.set_read_timeout(Some(timeout)).expect("set");
        }
    }

    fn set_write_timeout(&mut self, timeout: Duration) {
        self.write_timeout = timeout;
        if let Some(tcp) = self.socket() {
            tcp.set_write_timeout(Some(timeout)).expect("set");
        }
    }

    // Sending.

    /// Sends bytes with one call. Over TLS they are one record, if they fit.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("sent");
        self
    }

    /// Like [`send`](Self::send), but for a server that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            rest = &rest[self.write(rest)?..];
        }
        self.flush()
    }

    /// Writes some bytes. rustls's own stream also reads if it cannot write.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Stream::Carried(carrier) = &mut self.stream {
            return carrier.write(bytes, self.write_timeout);
        }
        self.flush()?;
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Carried(_) => unreachable!("see above"),
            Stream::Tls(stream) => {
                let n = stream.conn.writer().write(&bytes[..bytes.len().min(RECORD)])?;
                // rustls has the bytes; the next call reports an error of the socket.
                let _ = self.flush();
                Ok(n)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => {}
            Stream::Carried(carrier) => carrier.flush(),
            Stream::Tls(stream) => {
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock)?;
                }
            }
        }
        Ok(())
    }

    /// Sends pieces as one segment if possible; over TLS each is a record of its own.
    #[track_caller]
    pub(crate) fn send_together(&mut self, pieces: &[&[u8]]) -> &mut Self {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(&pieces.concat()).expect("sent"),
            Stream::Carried(_) => {
                for piece in pieces {
                    self.send(piece);
                }
            }
            Stream::Tls(stream) => {
                let mut records = Vec::new();
                for piece in pieces {
                    stream.conn.writer().write_all(piece).expect("room in rustls");
                    while stream.conn.wants_write() {
                        stream.conn.write_tls(&mut records).expect("a record");
                    }
                }
                stream.sock.write_all(&records).expect("sent");
            }
        }
        self
    }

    /// Sends bytes without TLS.
    #[track_caller]
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let mut tcp = self.tcp();
        tcp.write_all(bytes).expect("sent");
    }

    /// Sends until the peer accepts nothing for `timeout`. Returns the number of bytes (over TLS: approximately).
    pub(crate) fn push(&mut self, bytes: &[u8], timeout: Duration) -> usize {
        self.set_write_timeout(timeout);
        let mut sent = 0;
        while sent < bytes.len() {
            match self.write(&bytes[sent..]) {
                Ok(0) => break,
                Ok(n) => sent += n,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("pushing: {error}"),
            }
        }
        self.set_write_timeout(TIMEOUT);
        let _ = self.flush();
        sent
    }

    /// Sends a request without a body, such as `GET /path`, with these field lines.
    #[track_caller]
    pub(crate) fn request(&mut self, line: &str, fields: &[&str]) -> &mut Self {
        self.send(request(line, fields))
    }

    /// Sends a request with a body of known length.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, fields: &[&str], body: &[u8]) -> &mut Self {
        self.send(message::post(path, fields, body.len())).send(body)
    }

    /// Sends a chunk; an empty chunk is the last.
    #[track_caller]
    pub(crate) fn chunk(&mut self, data: &[u8]) -> &mut Self {
        self.send(message::chunk(data))
    }

    /// Requests an upgrade, and receives the 101.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> &mut Self {
        self.send(UPGRADE).head().is(101);
        self
    }

    /// Half-closes the connection, over TLS after a close_notify. The server's remaining output can still be received.
    pub(crate) fn finish(&mut self) -> &mut Self {
        match &mut self.stream {
            Stream::Plain(_) => {}
            Stream::Tls(stream) => stream.conn.send_close_notify(),
            Stream::Carried(carrier) => {
                carrier.finish();
                return self;
            }
        }
        self.flush().expect("flushed");
        self.end_tcp()
    }

    /// Sends a close_notify without a FIN. Returns `false` on a plain connection, which has no equivalent.
    #[allow(dead_code, reason = "the matrix does")]
    pub(crate) fn send_close_notify(&mut self) -> bool {
        let Stream::Tls(stream) = &mut self.stream else { return false };
        stream.conn.send_close_notify();
        self.flush().expect("flushed");
        true
    }

    /// Sends a FIN only.
    pub(crate) fn end_tcp(&mut self) -> &mut Self {
        match &mut self.stream {
            Stream::Carried(carrier) => carrier.end_tcp(),
            // The server may have closed first.
            _ => drop(self.tcp().shutdown(Shutdown::Write)),
        }
        self
    }

    /// Resets the connection, or the stream.
    pub(crate) fn reset(self) {
        if let Stream::Carried(carrier) = self.stream {
            return carrier.reset();
        }
        SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)).expect("set");
    }

    /// Changes the keys of our direction, and requests new keys for the other. Returns `false` on a plain connection.
    pub(crate) fn rekey(&mut self) -> bool {
        let Stream::Tls(stream) = &mut self.stream else { return false };
        stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        self.flush().expect("flushed");
        true
    }

    // Receiving.

    /// Reads once. Returns the number of bytes.
    fn more(&mut self) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(tcp) => message::read_once(tcp, &mut self.rest),
            Stream::Tls(stream) => message::read_once(&mut **stream, &mut self.rest),
            Stream::Carried(carrier) => carrier.read(&mut self.rest, self.read_timeout),
        }
    }

    fn must_have_more(&mut self) -> io::Result<()> {
        match self.more()? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Returns the number of TLS records received; 0 on other transports.
    pub(crate) fn records(&self) -> usize {
        match &self.stream {
            Stream::Plain(_) | Stream::Carried(_) => 0,
            Stream::Tls(stream) => stream.sock.records,
        }
    }

    /// Returns the bytes of one read.
    #[track_caller]
    pub(crate) fn once(&mut self) -> Vec<u8> {
        assert!(self.rest.is_empty(), "unread bytes: {}", self.rest.escape_ascii());
        self.more().expect("something");
        std::mem::take(&mut self.rest)
    }

    #[track_caller]
    pub(crate) fn exactly(&mut self, n: usize) -> Vec<u8> {
        self.try_exactly(n).expect("that many bytes")
    }

    fn try_exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < n {
            self.must_have_more()?;
        }
        Ok(self.rest.drain(..n).collect())
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let got = self.exactly(bytes.as_ref().len());
        assert_eq!(got.escape_ascii().to_string(), bytes.as_ref().escape_ascii().to_string());
        self
    }

    /// Receives everything up to the end, and returns how the connection ended.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> (Vec<u8>, Finish) {
        let finish = loop {
            match self.more() {
                Ok(0) => break Finish::Clean,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::UnexpectedEof => break Finish::Truncated,
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => break Finish::Reset,
                    _ => panic!("neither data nor an end: {error}"),
                },
            }
        };
        (std::mem::take(&mut self.rest), finish)
    }

    /// Asserts that the server ends its side now, without another byte.
    #[track_caller]
    pub(crate) fn ends(&mut self, finish: Finish) {
        let (rest, how) = self.until_end();
        assert_eq!((rest.escape_ascii().to_string().as_str(), how), ("", finish));
    }

    /// Returns `true` if nothing is received within `time`.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time);
        let result = self.more();
        self.set_read_timeout(TIMEOUT);
        let waited = result.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        waited && self.rest.is_empty()
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = message::take_line(&mut self.rest) {
                return line;
            }
            self.must_have_more()?;
        }
    }

    /// Receives the next head, final or informational (1xx).
    #[track_caller]
    pub(crate) fn head(&mut self) -> TestResponse {
        self.try_head().expect("a response")
    }

    fn try_head(&mut self) -> io::Result<TestResponse> {
        message::read_head(|| self.line())
    }

    /// Receives the next chunk. The last is empty, and its trailer fields are skipped.
    #[track_caller]
    pub(crate) fn next_chunk(&mut self) -> Vec<u8> {
        self.try_chunk().expect("a chunk")
    }

    fn try_chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let data = self.try_exactly(size)?;
        while !self.line()?.is_empty() {}
        Ok(data)
    }

    /// Receives the next complete response. Fails if it is truncated.
    pub(crate) fn try_response(&mut self) -> io::Result<TestResponse> {
        let mut response = self.try_head()?;
        if response.get("transfer-encoding") == Some("chunked") {
            loop {
                match self.try_chunk()? {
                    chunk if chunk.is_empty() => return Ok(response),
                    chunk => response.body.extend_from_slice(&chunk),
                }
            }
        }
        let length = response.get("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        response.body = self.try_exactly(length)?;
        Ok(response)
    }

    #[track_caller]
    pub(crate) fn response(&mut self) -> TestResponse {
        self.try_response().expect("a response")
    }
}

/// A request for an upgrade to `test`.
pub(crate) const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n";
