//! A client of HTTP/2 that sends exactly the frames of the test, valid or not, and shows what it receives.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;
/// The flags of a request without a body.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// The codes of RFC 9113 §7.
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The timeout of reads and writes: longer than any test step takes, so that a hang becomes a failure.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Returns a frame with any flags and payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Returns a frame of SETTINGS with these identifiers and values.
pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect();
    frame(SETTINGS, 0, 0, payload)
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// Returns a field as a literal that is not indexed, with a name of its own (RFC 7541 §6.2.2).
pub(crate) fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![0];
    for part in [name.as_ref(), value.as_ref()] {
        integer(&mut out, 0, 7, part.len());
        out.extend(part);
    }
    out
}

/// Appends an integer (RFC 7541 §5.1), with `first` in the bits before its prefix.
pub(crate) fn integer(out: &mut Vec<u8>, first: u8, prefix: u8, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Returns a header block of these fields.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// Returns the header block of a request, with further fields.
pub(crate) fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    [fields(&own), fields(more)].concat()
}

/// Returns a request without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, head("GET", path, &[]))
}

/// Returns the head of a request with a body.
pub(crate) fn post(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, head("POST", path, more))
}

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Returns the status of a response, the first on its connection: no field of it is in the dynamic table.
    pub(crate) fn status(&self) -> u16 {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let block = &self.payload;
        match block[0] {
            first @ 0x88..=0x8e => INDEXED[usize::from(first - 0x88)],
            0x48 | 0x08 => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
            other => panic!("a response begins with {other:#x}"),
        }
    }
}

/// Returns the number that three digits stand for, in Huffman's code (RFC 7541, appendix B).
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    let (mut at, mut number) = (0, 0);
    let take = |from: usize, n: usize| bits[from..from + n].iter().fold(0, |sum, bit| sum << 1 | u16::from(*bit));
    for _ in 0..3 {
        let (digit, len) = match take(at, 5) {
            short @ 0..=2 => (short, 5),
            _ => (take(at, 6) - 0x19 + 3, 6),
        };
        at += len;
        number = number * 10 + digit;
    }
    number
}

/// One connection.
pub(crate) struct Peer {
    tcp: TcpStream,
    rest: Vec<u8>,
}

impl Peer {
    /// Connects, and sends nothing.
    pub(crate) fn silent(addr: SocketAddr) -> Self {
        let tcp = TcpStream::connect(addr).expect("connected");
        tcp.set_read_timeout(Some(TIMEOUT)).expect("set");
        tcp.set_write_timeout(Some(TIMEOUT)).expect("set");
        tcp.set_nodelay(true).expect("set");
        Self { tcp, rest: Vec::new() }
    }

    /// Connects, and exchanges the SETTINGS, of which these are the client's.
    pub(crate) fn with(addr: SocketAddr, own: &[(u16, u32)]) -> Self {
        let mut peer = Self::silent(addr);
        peer.send([PREFACE, &settings(own)].concat());
        let first = peer.next().expect("the server's SETTINGS");
        assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0), "the server's preface");
        peer.until(|frame| frame.kind == SETTINGS && frame.flags == ACK);
        peer.send(frame(SETTINGS, ACK, 0, []));
        peer
    }

    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::with(addr, &[])
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sent");
    }

    /// Like [`send`](Self::send), to a server that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.tcp.write_all(bytes.as_ref())
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < n {
            let mut block = [0; 64 * 1024];
            match self.tcp.read(&mut block)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => self.rest.extend_from_slice(&block[..got]),
            }
        }
        let rest = self.rest.split_off(n);
        Ok(std::mem::replace(&mut self.rest, rest))
    }

    /// Receives the next frame; `None` at the end of the connection. Fails if there is none for 8 s.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.within(TIMEOUT).expect("a frame, or the end of the connection")
    }

    /// Like [`next`](Self::next), but fails after another time.
    pub(crate) fn within(&mut self, timeout: Duration) -> io::Result<Option<Frame>> {
        self.tcp.set_read_timeout(Some(timeout)).expect("set");
        let ended = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(None),
            _ => Err(error),
        };
        let head = match self.exactly(9) {
            Ok(head) => head,
            Err(error) => return ended(error),
        };
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        match self.exactly(len) {
            Ok(payload) => Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload })),
            Err(error) => ended(error),
        }
    }

    /// Receives frames until there is one like this.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut seen = Vec::new();
        while let Some(frame) = self.next() {
            if wanted(&frame) {
                return frame;
            }
            seen.push((frame.kind, frame.stream, frame.flags));
        }
        panic!("the connection ends before the frame: {seen:?}");
    }

    /// Sends PING and waits for its response: the server has handled all that was sent before.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(frame(PING, 0, 0, *b"are you "));
        self.until(|frame| frame.kind == PING && frame.flags == ACK && frame.payload == b"are you ");
    }

    /// Receives the rest. Returns `true` if the connection has ended in time.
    pub(crate) fn ends(&mut self) -> bool {
        loop {
            match self.within(TIMEOUT) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}
