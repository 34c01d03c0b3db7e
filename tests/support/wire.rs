//! One end of a connection, plain or TLS, on a blocking socket: sends exactly what it is told, when it is told, ends
//! its side in every way there is, and shows what came and how that ended.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, SockRef, Socket, Type};

use self::records::Counted;
pub(crate) use self::response::Answer;

#[path = "records.rs"]
mod records;
#[path = "response.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod response;

/// Longer than anything takes, so that a hang becomes a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Bytes of plaintext in the largest record.
const RECORD: usize = 16 * 1024;

/// One connection.
pub(crate) struct Wire {
    stream: Stream,
    /// Received and not looked at.
    rest: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Counted>>),
}

/// How the server's side came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// In order: FIN; over TLS with a close_notify before it.
    Clean,
    /// FIN without a close_notify. (Plain connections can't tell.)
    Cut,
    /// A reset.
    Reset,
}

impl Wire {
    /// Connects; `receive_buffer` makes the peer's system hold no more than about that much for us.
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

    /// Goes on with a stream on which something may have been said already; by TLS, if that is given.
    pub(crate) fn over(tcp: TcpStream, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let Some(config) = tls else { return Ok(Self { stream: Stream::Plain(tcp), rest: Vec::new() }) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let conn = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(conn, Counted::new(tcp));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)), rest: Vec::new() })
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(stream) => &stream.sock.tcp,
        }
    }

    // Sending.

    /// Sends bytes with one call; over TLS they are one record, if they fit into one.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("sent");
        self
    }

    /// The same, where the server may have closed.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            rest = &rest[self.write(rest)?..];
        }
        self.flush()
    }

    /// Writes some. rustls's own stream would read, too, if it can't write.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Tls(stream) => {
                let n = stream.conn.writer().write(&bytes[..bytes.len().min(RECORD)])?;
                // It has taken them over; whether they are out is the next call's affair.
                let _ = self.flush();
                Ok(n)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Stream::Tls(stream) = &mut self.stream {
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock)?;
            }
        }
        Ok(())
    }

    /// Sends pieces as one segment as far as possible; over TLS each is a record of its own.
    #[track_caller]
    pub(crate) fn send_together(&mut self, pieces: &[&[u8]]) -> &mut Self {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(&pieces.concat()).expect("sent"),
            Stream::Tls(stream) => {
                let mut records = Vec::new();
                for piece in pieces {
                    stream.conn.writer().write_all(piece).expect("taken");
                    while stream.conn.wants_write() {
                        stream.conn.write_tls(&mut records).expect("a record");
                    }
                }
                stream.sock.write_all(&records).expect("sent");
            }
        }
        self
    }

    /// Sends bytes past TLS.
    #[track_caller]
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let mut tcp = self.tcp();
        tcp.write_all(bytes).expect("sent");
    }

    /// Sends until nothing more was taken for `time`; how many bytes went (over TLS about).
    pub(crate) fn push(&mut self, bytes: &[u8], time: Duration) -> usize {
        self.tcp().set_write_timeout(Some(time)).expect("set");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.write(&bytes[sent..]) {
                Ok(0) => break,
                Ok(n) => sent += n,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("pushing: {error}"),
            }
        }
        self.tcp().set_write_timeout(Some(PATIENCE)).expect("set");
        sent
    }

    /// A request without a body: `GET /path`, and field lines.
    #[track_caller]
    pub(crate) fn request(&mut self, line: &str, fields: &[&str]) -> &mut Self {
        self.send(request(line, fields))
    }

    /// A request with a body of known length.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, fields: &[&str], body: &[u8]) -> &mut Self {
        let length = format!("Content-Length: {}", body.len());
        let fields: Vec<&str> = fields.iter().copied().chain([length.as_str()]).collect();
        self.request(&format!("POST {path}"), &fields).send(body)
    }

    /// A chunk; an empty one is the last.
    #[track_caller]
    pub(crate) fn chunk(&mut self, data: &[u8]) -> &mut Self {
        self.send([format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat())
    }

    /// Asks for an upgrade, and takes the 101.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> &mut Self {
        self.send(UPGRADE).head().is(101);
        self
    }

    /// Ends our side in order; what the server still sends can be read.
    pub(crate) fn finish(&mut self) -> &mut Self {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
        }
        self.flush().expect("flushed");
        self.cut()
    }

    /// Ends our side with a close_notify, and no FIN. `false` on a plain connection, which has nothing like it.
    #[allow(dead_code, reason = "tests/matrix does")]
    pub(crate) fn say_goodbye(&mut self) -> bool {
        let Stream::Tls(stream) = &mut self.stream else { return false };
        stream.conn.send_close_notify();
        self.flush().expect("flushed");
        true
    }

    /// Ends our side with a FIN and nothing else.
    pub(crate) fn cut(&mut self) -> &mut Self {
        // The server may have been faster.
        let _ = self.tcp().shutdown(Shutdown::Write);
        self
    }

    /// Breaks the connection off.
    pub(crate) fn reset(self) {
        SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)).expect("set");
    }

    /// New keys for our direction, and a request for new ones in the other. `false` on a plain connection.
    pub(crate) fn rekey(&mut self) -> bool {
        let Stream::Tls(stream) = &mut self.stream else { return false };
        stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        self.flush().expect("flushed");
        true
    }

    // Receiving.

    /// Reads once; how many bytes came.
    fn more(&mut self) -> io::Result<usize> {
        let mut block = [0; 16 * 1024];
        let n = loop {
            let result = match &mut self.stream {
                Stream::Plain(tcp) => tcp.read(&mut block),
                Stream::Tls(stream) => stream.read(&mut block),
            };
            match result {
                // A machine that is paused interrupts a read that has a time limit; it says nothing about the peer.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.rest.extend_from_slice(&block[..n]);
        Ok(n)
    }

    fn must_have_more(&mut self) -> io::Result<()> {
        match self.more()? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// How many TLS records have come; 0 on a plain connection.
    pub(crate) fn records(&self) -> usize {
        match &self.stream {
            Stream::Plain(_) => 0,
            Stream::Tls(stream) => stream.sock.records,
        }
    }

    /// What one read brings.
    #[track_caller]
    pub(crate) fn once(&mut self) -> Vec<u8> {
        assert!(self.rest.is_empty(), "something is left: {}", self.rest.escape_ascii());
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

    /// Everything that is still to come, and how it ends.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> (Vec<u8>, Finish) {
        let finish = loop {
            match self.more() {
                Ok(0) => break Finish::Clean,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::UnexpectedEof => break Finish::Cut,
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => break Finish::Reset,
                    _ => panic!("neither data nor an end: {error}"),
                },
            }
        };
        (std::mem::take(&mut self.rest), finish)
    }

    /// The server ends its side now, without another byte.
    #[track_caller]
    pub(crate) fn ends(&mut self, finish: Finish) {
        let (rest, how) = self.until_end();
        assert_eq!((rest.escape_ascii().to_string().as_str(), how), ("", finish));
    }

    /// Whether nothing comes within `time`.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.tcp().set_read_timeout(Some(time)).expect("set");
        let result = self.more();
        self.tcp().set_read_timeout(Some(PATIENCE)).expect("set");
        let waited = result.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        waited && self.rest.is_empty()
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.rest.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            self.must_have_more()?;
        }
    }

    /// The next head, be it an interim one.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Answer {
        self.try_head().expect("an answer")
    }

    fn try_head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(line))?;
        let mut fields = Vec::new();
        loop {
            match self.line()?.split_once(": ") {
                Some((name, value)) => fields.push((name.into(), value.into())),
                None => return Ok(Answer { status, fields, body: Vec::new() }),
            }
        }
    }

    /// The next chunk; the last is empty, and its trailers are skipped.
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

    /// The next answer, whole; an error if it is broken off.
    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.try_head()?;
        if answer.get("transfer-encoding") == Some("chunked") {
            loop {
                match self.try_chunk()? {
                    chunk if chunk.is_empty() => return Ok(answer),
                    chunk => answer.body.extend_from_slice(&chunk),
                }
            }
        }
        let length = answer.get("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        answer.body = self.try_exactly(length)?;
        Ok(answer)
    }

    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }
}

/// A request for an upgrade to `test`.
pub(crate) const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n";

/// A request's head.
pub(crate) fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}
