//! SPDY/3.1 as the programs of spdy-proxy use it: frames and zlib blocks for both peers.
//!
//! Nothing here uses the code under test: the bytes were recorded from the programs of spdy-proxy.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use uncork::relay::tunnel::{Credential, ProxyConfig};

use super::{
    client::Client,
    world::{World, config},
};

/// The zlib dictionary of SPDY/3: 1,423 bytes.
const DICTIONARY: &[u8] = include_bytes!("spdy.dictionary");

pub(crate) const SYN_STREAM: u16 = 1;
pub(crate) const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const PING: u16 = 6;
pub(crate) const GOAWAY: u16 = 7;
pub(crate) const WINDOW_UPDATE: u16 = 9;
/// Programs of spdy-proxy panic on it.
pub(crate) const HEADERS: u16 = 8;

/// The initial flow-control window of SPDY/3.1 in bytes.
pub(crate) const WINDOW: usize = 65_536;

/// Returns the handshake of an origin program of spdy-proxy that dials this authority.
pub(crate) fn handshake(authority: &str) -> String {
    format!(
        "PUT / HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 12\r\n\r\nHello from C"
    )
}

/// The response of a proxy program of spdy-proxy.
pub(crate) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\nContent-Length: 12\r\n\r\nHello from P";

/// The two zlib streams of a connection, with the parameters of spdy-proxy's Go library.
pub(crate) struct Zlib {
    pub(crate) deflate: Compress,
    inflate: Decompress,
}

impl Zlib {
    pub(crate) fn new() -> Self {
        let mut deflate = Compress::new(Compression::best(), true);
        assert_eq!(deflate.set_dictionary(DICTIONARY).expect("set"), 0xe3c6_a7c2);
        Self { deflate, inflate: Decompress::new(true) }
    }

    pub(crate) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = u32::try_from(fields.len()).expect("few").to_be_bytes().to_vec();
        for text in fields.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 1000);
        self.deflate.compress_vec(&plain, &mut block, FlushCompress::Sync).expect("deflated");
        assert!(block.len() < block.capacity(), "the block fits");
        block
    }

    pub(crate) fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut plain = Vec::with_capacity(1 << 20);
        let before = self.inflate.total_in();
        if self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).is_err() {
            self.inflate.set_dictionary(DICTIONARY).expect("the dictionary of SPDY/3");
            let done = (self.inflate.total_in() - before) as usize;
            self.inflate.decompress_vec(&block[done..], &mut plain, FlushDecompress::Sync).expect("inflated");
        }
        assert_eq!(self.inflate.total_in() - before, block.len() as u64, "the whole block is read at once");
        let mut rest = &plain[..];
        let number = |rest: &mut &[u8]| {
            let (number, behind) = rest.split_first_chunk::<4>().expect("a number");
            *rest = behind;
            u32::from_be_bytes(*number) as usize
        };
        let count = number(&mut rest);
        let text = |rest: &mut &[u8]| {
            let len = number(rest);
            let (text, behind) = rest.split_at(len);
            *rest = behind;
            String::from_utf8(text.to_vec()).expect("text")
        };
        let fields = (0..count).map(|_| (text(&mut rest), text(&mut rest))).collect();
        assert!(rest.is_empty());
        fields
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The type of a control frame; 0 for data.
    pub(crate) kind: u16,
    pub(crate) fin: bool,
    /// The stream of a data frame. The payload of a control frame names its stream.
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Parses the 8 bytes of a frame's head; the payload is empty. Returns the length of the payload, too.
    pub(crate) fn read(head: &[u8]) -> (Self, usize) {
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (first, second) = (word(0), word(4));
        let control = first >> 31 == 1;
        assert!(!control || first >> 16 == 0x8003, "{first:x}");
        let kind = if control { first as u16 } else { 0 };
        let frame = Self { kind, fin: second >> 24 & 1 == 1, stream: first & 0x7fff_ffff, payload: Vec::new() };
        (frame, (second & 0xff_ffff) as usize)
    }

    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

pub(crate) fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = 0x8003u16.to_be_bytes().to_vec();
    frame.extend(kind.to_be_bytes());
    frame.extend((u32::from(flags) << 24 | u32::try_from(payload.len()).expect("short")).to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn data(stream: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend((u32::from(fin) << 24 | u32::try_from(bytes.len()).expect("short")).to_be_bytes());
    frame.extend(bytes);
    frame
}

pub(crate) fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A program of spdy-proxy that receives frames from the code under test.
pub(crate) trait Peer {
    /// Kinds of frames that this program must never receive.
    const FORBIDDEN: &'static [u16];

    /// Receives exactly `n` bytes.
    fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>>;

    /// Receives the next frame.
    fn next(&mut self) -> io::Result<Frame> {
        let head = self.exactly(8)?;
        let (mut frame, len) = Frame::read(&head);
        frame.payload = self.exactly(len)?;
        assert!(!Self::FORBIDDEN.contains(&frame.kind), "a forbidden frame: {frame:?}");
        assert!(frame.kind > 0 || len <= 32 * 1024, "a data frame of {len} bytes");
        Ok(frame)
    }

    /// Receives the next frame of that kind. Skips other frames; panics on a request.
    #[track_caller]
    fn expect(&mut self, kind: u16) -> Frame {
        loop {
            let frame = self.next().expect("another frame");
            if frame.kind == kind {
                return frame;
            }
            assert_ne!(frame.kind, SYN_STREAM, "{frame:?}");
        }
    }
}

/// Returns a configuration that accepts spdy-proxy's origin programs from this machine, for every host that no other
/// credential names.
pub(crate) fn legacy() -> ProxyConfig {
    let mut config = config();
    let is_local = |peer: &uncork::PeerAddr| peer.ip().is_some_and(|ip| ip.is_loopback());
    config.credentials.push(Credential::allow_legacy_unauthenticated("old", is_local).host("*").expect("a pattern"));
    config
}

/// The authority that the origin program names in its handshake; nothing depends on it.
pub(crate) const AUTHORITY: &str = "localhost:1444";

/// An origin program of spdy-proxy.
pub(crate) struct Origin {
    pub(crate) client: Client,
    pub(crate) zlib: Zlib,
}

/// A request, as the origin program receives it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) stream: u32,
    pub(crate) fin: bool,
    pub(crate) fields: Vec<(String, String)>,
}

impl Peer for Origin {
    const FORBIDDEN: &'static [u16] = &[HEADERS];

    fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.client.exactly(n)
    }
}

impl Received {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Origin {
    /// Connects one, which the proxy accepts.
    pub(crate) fn new(world: &World) -> Self {
        let before = world.proxy.counts().connections_total;
        let mut client = world.origin();
        client.send(handshake(AUTHORITY));
        assert_eq!(client.exactly(ESTABLISHED.len()).expect("a response"), ESTABLISHED);
        world.wait_until("the origin server is connected", |counts| {
            counts.connections_total > before && counts.connections == 1
        });
        Self { client, zlib: Zlib::new() }
    }

    #[track_caller]
    pub(crate) fn request(&mut self) -> Received {
        let frame = self.expect(SYN_STREAM);
        assert_eq!((frame.number(4), &frame.payload[8..10]), (0, &[0, 0][..]), "no associated stream, no priority");
        let fields = self.zlib.fields(&frame.payload[10..]);
        Received { stream: frame.number(0), fin: frame.fin, fields }
    }

    pub(crate) fn reply(&mut self, stream: u32, fin: bool, fields: &[(&str, &str)]) -> &mut Self {
        let block = self.zlib.block(fields);
        let reply = control(SYN_REPLY, u8::from(fin), &[&numbers(&[stream])[..], &block].concat());
        self.client.send(reply);
        self
    }

    pub(crate) fn data(&mut self, stream: u32, fin: bool, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.client.send(data(stream, fin, bytes.as_ref()));
        self
    }

    pub(crate) fn control(&mut self, kind: u16, numbers: &[u32]) -> &mut Self {
        self.client.send(control(kind, 0, &self::numbers(numbers)));
        self
    }

    /// Expects the connection's end, without a request before it.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        while let Ok(frame) = self.next() {
            assert_ne!(frame.kind, SYN_STREAM, "a request");
        }
    }
}

/// Returns a proxy and its only origin server.
pub(crate) fn world_and_origin() -> (World, Origin) {
    let world = World::with(legacy());
    let origin = Origin::new(&world);
    (world, origin)
}

/// Sends a request for the origin server.
pub(crate) fn get(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: old.example\r\n\r\n"));
}

pub(crate) const OK: (&str, &str) = (":status", "200 OK");
pub(crate) const VERSION: (&str, &str) = (":version", "HTTP/1.1");
