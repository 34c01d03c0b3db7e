//! A client on a blocking socket, plain or TLS. It sends exactly the bytes of the test and shows exactly what it
//! received.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, Socket, Type};

pub(crate) use self::message::TestResponse;

#[path = "message.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod message;

/// The timeout of reads and writes: longer than any test step takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: Stream,
    /// Received, but not read by the test.
    rest: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self::connect_from(None, addr, tls)
    }

    /// Like [`connect`](Self::connect), but from this address of the machine, which has all of 127.0.0.0/8.
    pub(crate) fn connect_from(from: Option<IpAddr>, addr: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self::try_connect_from(from, addr, tls).expect("the server listens")
    }

    /// Like [`connect_from`](Self::connect_from), but for a server that may have stopped.
    pub(crate) fn try_connect_from(
        from: Option<IpAddr>,
        addr: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        // Small buffers: back-pressure shows before the system has buffered everything.
        socket.set_recv_buffer_size(128 * 1024).expect("set");
        socket.set_send_buffer_size(128 * 1024).expect("set");
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this machine");
        }
        socket.connect(&addr.into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true).expect("set");
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let conn = ClientConnection::new(config, name).expect("a connection");
                Stream::Tls(Box::new(StreamOwned::new(conn, socket)))
            }
        };
        let client = Self { stream, rest: Vec::new() };
        client.set_timeout(TIMEOUT);
        Ok(client)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("sent");
        self.stream.flush().expect("flushed");
        self
    }

    /// Like [`send`](Self::send), but for a peer that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends up to `bytes.len()` bytes and returns the number; `None` if the peer accepted none for `timeout`.
    pub(crate) fn push(&mut self, bytes: &[u8], timeout: Duration) -> Option<usize> {
        self.set_timeout(timeout);
        let mut result = self.stream.write(bytes);
        while result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            result = self.stream.write(bytes);
        }
        self.set_timeout(TIMEOUT);
        match result {
            Ok(0) => None,
            Ok(n) => Some(n),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("pushing: {error}"),
        }
    }

    /// Sets the timeout of both directions: TLS may have to read before it can write.
    fn set_timeout(&self, timeout: Duration) {
        self.stream.socket().set_read_timeout(Some(timeout)).expect("set");
        self.stream.socket().set_write_timeout(Some(timeout)).expect("set");
    }

    /// Sends a request without a body, such as `GET /path`, with these field lines.
    pub(crate) fn request(&mut self, line: &str, fields: &[&str]) -> &mut Self {
        self.send(message::request(line, fields))
    }

    /// Sends a request with a body.
    pub(crate) fn post(&mut self, path: &str, fields: &[&str], body: &[u8]) -> &mut Self {
        self.send(message::post(path, fields, body.len())).send(body)
    }

    /// Sends a chunk; an empty chunk is the last.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> &mut Self {
        self.try_chunk(data).expect("sent");
        self
    }

    /// Like [`chunk`](Self::chunk), but for a peer that may have closed the connection.
    pub(crate) fn try_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        self.try_send(message::chunk(data))
    }

    fn more(&mut self) -> io::Result<()> {
        match message::read_once(&mut self.stream, &mut self.rest)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = message::take_line(&mut self.rest) {
                return line;
            }
            self.more()?;
        }
    }

    /// Receives the next head, final or informational (1xx).
    #[track_caller]
    pub(crate) fn head(&mut self) -> TestResponse {
        self.try_head().expect("a response")
    }

    pub(crate) fn try_head(&mut self) -> io::Result<TestResponse> {
        message::read_head(|| self.line())
    }

    /// Receives up to `n` bytes of a body of known length, at least one.
    pub(crate) fn some(&mut self, n: usize) -> io::Result<Vec<u8>> {
        if self.rest.is_empty() {
            self.more()?;
        }
        let n = n.min(self.rest.len());
        Ok(self.take(n))
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let rest = self.rest.split_off(n);
        std::mem::replace(&mut self.rest, rest)
    }

    pub(crate) fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < n {
            self.more()?;
        }
        Ok(self.take(n))
    }

    /// Receives the next chunk; `None` for the last chunk, without trailer fields.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
        let data = self.exactly(size)?;
        match self.line()?.as_str() {
            "" => Ok((size > 0).then_some(data)),
            other => Err(io::Error::other(format!("after a chunk: {other:?}"))),
        }
    }

    /// Receives the body that belongs to a head.
    pub(crate) fn body(&mut self, head: &TestResponse) -> io::Result<Vec<u8>> {
        if head.is_chunked() {
            let mut body = Vec::new();
            while let Some(chunk) = self.next_chunk()? {
                body.extend_from_slice(&chunk);
            }
            return Ok(body);
        }
        let length = head.get("content-length").map_or(0, |n| n.parse().expect("a length"));
        self.exactly(length)
    }

    /// Receives the next complete response.
    #[track_caller]
    pub(crate) fn response(&mut self) -> TestResponse {
        let mut head = self.head();
        assert!(head.status >= 200, "not final: {head:?}");
        head.body = self.body(&head).expect("the body");
        head
    }

    /// Returns `true` if nothing is received within `time`.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        if !self.rest.is_empty() {
            return false;
        }
        self.set_timeout(time);
        let silent = matches!(self.more(), Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.set_timeout(TIMEOUT);
        silent
    }

    /// Returns `true` if the peer ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && self.more().is_err()
    }

    /// Like [`is_closed`](Self::is_closed), but the peer must end it as the transport prescribes.
    #[allow(dead_code)] // the rendezvous' tests do
    pub(crate) fn is_closed_normally(&mut self) -> bool {
        // Over TLS, an end without close_notify is an error.
        self.rest.is_empty() && matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// Half-closes the connection, over TLS after a close_notify. The client can still receive.
    pub(crate) fn finish(&mut self) {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            stream.flush().expect("sent");
        }
        let _ = self.stream.socket().shutdown(Shutdown::Write); // after close_notify the peer may have closed already
    }

    /// Receives everything up to the peer's end.
    #[allow(dead_code)] // tests/examples does
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more() {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(std::mem::take(&mut self.rest)),
                result => result?,
            }
        }
    }

    /// Closes at once. Unread input makes this a reset.
    pub(crate) fn leave(self) {
        let _ = self.stream.socket().shutdown(Shutdown::Both);
    }
}
