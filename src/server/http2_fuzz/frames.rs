//! The acts of a script: frames, valid and not, and what else happens.

use std::time::Duration;

/// What happens next.
pub(super) enum Act {
    Send(Vec<u8>),
    /// Time passes.
    Wait(Duration),
    /// The application responds to a suspended request.
    Respond(u8),
    /// The client begins to read, or stops.
    Read(bool),
    HalfClose,
}

/// Reads acts from bytes.
pub(super) struct Script<'d> {
    rest: &'d [u8],
    /// The next stream that the client opens.
    stream: u32,
    begun: bool,
}

const FIELDS: [(&str, &str); 24] = [
    ("x", "y"),
    ("content-length", "5"),
    ("content-length", "0"),
    ("expect", "100-continue"),
    ("cookie", "a=1"),
    ("cookie", "b=2"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "x"),
    ("host", "localhost"),
    ("host", "other"),
    ("X-Upper", "y"),
    ("x", " y"),
    ("x", "a\r\nb: c"),
    (":path", "/"),
    (":status", "200"),
    (":x", "y"),
    ("", "y"),
    ("x-long", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
    ("range", "bytes=0-1"),
    ("trailer", "x-sum"),
    ("sec-websocket-version", "13"),
];

fn literal(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for part in [name, value] {
        out.push(part.len() as u8);
        out.extend_from_slice(part.as_bytes());
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

impl<'d> Script<'d> {
    pub(super) fn new(rest: &'d [u8]) -> Self {
        Self { rest, stream: 1, begun: false }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn or_zero(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    /// Returns the bytes that a length announces.
    fn some(&mut self, most: usize) -> &'d [u8] {
        let n = usize::from(self.or_zero()).min(most).min(self.rest.len());
        let (some, rest) = self.rest.split_at(n);
        self.rest = rest;
        some
    }

    /// Returns a stream that was opened, or the connection, or the next one.
    fn any_stream(&mut self) -> u32 {
        match self.or_zero() {
            0 => 0,
            255 => self.stream,
            254 => self.stream + 1,
            n => (self.stream + 2).saturating_sub(2 * (u32::from(n) % 12 + 1)) | 1,
        }
    }

    fn open(&mut self) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        stream
    }

    /// Returns the header block of a request on a stream, whose path names it. The low bits of a byte say how many
    /// further fields follow.
    fn head(&mut self, stream: u32, method: &str, protocol: bool) -> Vec<u8> {
        let mut block = Vec::new();
        let choice = self.or_zero();
        literal(&mut block, ":method", method);
        if protocol {
            literal(&mut block, ":protocol", if choice & 0x40 == 0 { "echo" } else { "websocket" });
        }
        if choice & 0x80 == 0 {
            literal(&mut block, ":scheme", "https");
            literal(&mut block, ":path", &format!("/{stream}"));
            literal(&mut block, ":authority", "localhost");
        } else {
            // As a browser would: from the tables.
            block.extend([0x86, 0x04]);
            let path = format!("/{stream}");
            block.push(path.len() as u8);
            block.extend_from_slice(path.as_bytes());
            block.extend([0x41, 1, b'a']);
        }
        for _ in 0..choice & 3 {
            let (name, value) = FIELDS[usize::from(self.or_zero()) % FIELDS.len()];
            literal(&mut block, name, value);
        }
        block
    }

    pub(super) fn next(&mut self) -> Option<Act> {
        if !self.begun {
            self.begun = true;
            let mut bytes = crate::server::http2_fuzz::client::PREFACE.to_vec();
            match self.byte()? {
                0xff => {}
                n => {
                    let windows = [65_535, 0, 1, 100, 1 << 20, 0x7fff_ffff][usize::from(n) % 6];
                    let mut payload = vec![0, 4];
                    payload.extend(u32::to_be_bytes(windows));
                    bytes.extend(frame(4, 0, 0, &payload));
                    if n & 0x80 == 0 {
                        bytes.extend(frame(4, 1, 0, &[]));
                    }
                }
            }
            return Some(Act::Send(bytes));
        }
        let op = self.byte()?;
        Some(Act::Send(match op % 26 {
            0 | 1 => {
                let stream = self.open();
                let head = self.head(stream, "GET", false);
                frame(1, 5, stream, &head)
            }
            2 | 3 => {
                let stream = self.open();
                let head = self.head(stream, "POST", false);
                frame(1, 4, stream, &head)
            }
            4 => {
                let stream = self.open();
                let head = self.head(stream, "HEAD", false);
                frame(1, 5, stream, &head)
            }
            5 | 6 => {
                let stream = self.open();
                let head = self.head(stream, "CONNECT", true);
                frame(1, 4, stream, &head)
            }
            7 | 8 => {
                let (stream, len) = (self.any_stream(), usize::from(self.or_zero()));
                let len = if op >= 128 { len * 60 } else { len };
                frame(0, 0, stream, &vec![b'd'; len])
            }
            9 => {
                let (stream, len) = (self.any_stream(), usize::from(self.or_zero()));
                frame(0, 1, stream, &vec![b'e'; len])
            }
            10 => {
                let stream = self.any_stream();
                let (name, value) = FIELDS[usize::from(self.or_zero()) % FIELDS.len()];
                let mut block = Vec::new();
                literal(&mut block, name, value);
                frame(1, 5, stream, &block)
            }
            11 => {
                let stream = self.any_stream();
                frame(3, 0, stream, &[0, 0, 0, self.or_zero()])
            }
            12 | 13 => {
                let stream = self.any_stream();
                let by = u32::from(self.or_zero()) << (op / 26 * 3);
                frame(8, 0, stream, &by.to_be_bytes())
            }
            14 => {
                let mut payload = vec![0, self.or_zero() % 10];
                payload.extend((u32::from(self.or_zero()) << (op / 26 * 3)).to_be_bytes());
                frame(4, 0, 0, &payload)
            }
            15 => frame(6, op >> 7, 0, b"fuzzfuzz"),
            16 => frame(7, 0, 0, &[0, 0, 0, self.or_zero(), 0, 0, 0, op]),
            17 => {
                let stream = self.any_stream();
                frame(2, 0, stream, &[0, 0, 0, self.or_zero(), 9])
            }
            18 => {
                let (kind, flags, stream) = (self.or_zero(), self.or_zero(), self.any_stream());
                let payload = self.some(64);
                frame(kind, flags, stream, payload)
            }
            19 => {
                let stream = self.open();
                let head = self.head(stream, "GET", false);
                let at = usize::from(self.or_zero()) % head.len();
                let flags = if op < 230 { 4 } else { 0 };
                [frame(1, 1, stream, &head[..at]), frame(9, flags, stream, &head[at..])].concat()
            }
            20 => {
                let stream = self.open();
                let block = self.some(128);
                frame(1, 5 & !(op >> 7), stream, block)
            }
            21 => self.some(64).to_vec(),
            22 => return Some(Act::Wait(Duration::from_millis(u64::from(self.or_zero()) * 200))),
            23 => return Some(Act::Respond(self.or_zero())),
            24 => return Some(Act::Read(op >= 128)),
            _ if op > 200 => return Some(Act::HalfClose),
            _ => frame(4, 1, 0, &[]),
        }))
    }
}
