//! Programs of 2014, played by frames made here, with a zlib of their own: an original origin at our proxy.
//!
//! Nothing here is of the code under test: the bytes are those that were heard from the originals.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use uncork::relay::tunnel::{Credential, ProxyConfig};

use super::{
    client::Client,
    world::{World, config},
};

/// SPDY/3's, of 1,423 bytes.
const DICTIONARY: &[u8] = include_bytes!("spdy.dictionary");

pub(crate) const SYN_STREAM: u16 = 1;
pub(crate) const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const PING: u16 = 6;
pub(crate) const GOAWAY: u16 = 7;
pub(crate) const WINDOW_UPDATE: u16 = 9;

const WINDOW: usize = 65_536;

/// What an original sends first, and what it is answered.
const PUT: &str = "PUT / HTTP/1.1\r\nHost: localhost:1444\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 12\r\n\r\nHello from C";
pub(crate) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\nContent-Length: 12\r\n\r\nHello from P";

/// The two zlib streams of a connection, as Go's had them in 2014.
pub(crate) struct Zlib {
    deflate: Compress,
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
        assert!(block.len() < block.capacity(), "all of it");
        block
    }

    pub(crate) fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut plain = Vec::with_capacity(1 << 20);
        let before = self.inflate.total_in();
        if self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).is_err() {
            self.inflate.set_dictionary(DICTIONARY).expect("the dictionary that is asked for");
            let done = (self.inflate.total_in() - before) as usize;
            self.inflate.decompress_vec(&block[done..], &mut plain, FlushDecompress::Sync).expect("inflated");
        }
        assert_eq!(self.inflate.total_in() - before, block.len() as u64, "all of it, at once");
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
    /// 0 for data.
    pub(crate) kind: u16,
    pub(crate) fin: bool,
    /// The stream of data; else the payload says it.
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Of 8 bytes.
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

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An original origin.
struct Original {
    client: Client,
    zlib: Zlib,
}

/// A request, as it sees it.
#[derive(Debug)]
struct Asked {
    stream: u32,
    fin: bool,
    fields: Vec<(String, String)>,
}

impl Asked {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Original {
    /// One that is let in.
    fn new(world: &World) -> Self {
        let links = world.proxy.counts().connections_total;
        let mut client = world.origin();
        client.send(PUT);
        assert_eq!(client.exactly(ESTABLISHED.len()).expect("an answer"), ESTABLISHED);
        world.until("the origin is connected", |counts| counts.connections_total > links && counts.connections == 1);
        Self { client, zlib: Zlib::new() }
    }

    fn next(&mut self) -> std::io::Result<Frame> {
        let head = self.client.exactly(8)?;
        let (mut frame, len) = Frame::read(&head);
        frame.payload = self.client.exactly(len)?;
        // It would break down.
        assert_ne!(frame.kind, 8, "HEADERS are not sent to an original");
        Ok(frame)
    }

    /// The next frame of that kind; others are passed over, but for requests.
    #[track_caller]
    fn expect(&mut self, kind: u16) -> Frame {
        loop {
            let frame = self.next().expect("a frame that is waited for");
            if frame.kind == kind {
                return frame;
            }
            assert_ne!(frame.kind, SYN_STREAM, "{frame:?}");
        }
    }

    #[track_caller]
    fn request(&mut self) -> Asked {
        let frame = self.expect(SYN_STREAM);
        assert_eq!((frame.number(4), &frame.payload[8..10]), (0, &[0, 0][..]), "no associated stream, no priority");
        let fields = self.zlib.fields(&frame.payload[10..]);
        Asked { stream: frame.number(0), fin: frame.fin, fields }
    }

    fn reply(&mut self, stream: u32, fin: bool, fields: &[(&str, &str)]) -> &mut Self {
        let block = self.zlib.block(fields);
        let reply = control(SYN_REPLY, u8::from(fin), &[&words(&[stream])[..], &block].concat());
        self.client.send(reply);
        self
    }

    fn data(&mut self, stream: u32, fin: bool, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.client.send(data(stream, fin, bytes.as_ref()));
        self
    }

    fn control(&mut self, kind: u16, numbers: &[u32]) -> &mut Self {
        self.client.send(control(kind, 0, &words(numbers)));
        self
    }

    /// The connection's end, without a request before it.
    #[track_caller]
    fn ended(&mut self) {
        while let Ok(frame) = self.next() {
            assert_ne!(frame.kind, SYN_STREAM, "a request");
        }
    }
}

/// Originals may come from this machine, and are asked for everything that nobody else is.
pub(crate) fn legacy() -> ProxyConfig {
    let mut config = config();
    let here = |peer: &uncork::PeerAddr| peer.ip().is_some_and(|ip| ip.is_loopback());
    config.credentials.push(Credential::allow_legacy_unauthenticated("old", here).host("*").expect("a pattern"));
    config
}

fn one() -> (World, Original) {
    let world = World::with(legacy());
    let origin = Original::new(&world);
    (world, origin)
}

fn get(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: old.example\r\n\r\n"));
}

const OK: (&str, &str) = (":status", "200 OK");
const VERSION: (&str, &str) = (":version", "HTTP/1.1");

#[test]
fn a_request_goes_to_an_original_and_its_answer_back() {
    let (world, mut origin) = one();
    for (n, (mut client, scheme)) in
        [(world.client(), "http"), (world.secure_client(), "https")].into_iter().enumerate()
    {
        client.send(
            "GET /a?b HTTP/1.1\r\nHost: old.example\r\nAccept: text/html\r\naccept: image/png\r\nX-Forwarded-For: 1.2.3.4\r\n\
             Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: websocket\r\n\r\n",
        );
        let asked = origin.request();
        assert_eq!((asked.stream, asked.fin), (n as u32 * 2 + 1, true));
        let start: Vec<(&str, &str)> =
            asked.fields.iter().take(5).map(|(name, value)| (&name[..], &value[..])).collect();
        let want = [(":method", "GET"), (":path", "/a?b"), VERSION, (":host", "old.example"), (":scheme", scheme)];
        assert_eq!(start, want);
        assert_eq!(asked.get("accept"), Some("text/html\0image/png"));
        assert_eq!(asked.get("x-forwarded-for"), Some("127.0.0.1"), "{asked:?}");
        assert!(asked.get("via").is_some_and(|via| via.starts_with("1.1 uncork-")), "{asked:?}");
        for hop in ["connection", "x-hop", "keep-alive", "upgrade", "host", "transfer-encoding"] {
            assert_eq!(asked.get(hop), None, "{hop}");
        }
        let part = [
            (":status", "206 Partial Content"),
            VERSION,
            ("content-range", "bytes 0-4/9"),
            ("content-length", "5"),
            ("connection", "x-a"),
            ("x-a", "secret"),
            ("via", "1.1 a\x001.1 b"),
        ];
        origin.reply(asked.stream, false, &part).data(asked.stream, false, "hello").data(asked.stream, true, "");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text(), answer.get("content-range")), (206, "hello", Some("bytes 0-4/9")));
        assert_eq!(answer.get("x-a"), None, "{answer:?}");
        assert!(answer.get("via").is_some_and(|via| via.starts_with("1.1 a, 1.1 b, 1.1 uncork-")), "{answer:?}");
    }
    // They are counted behind the call that passes them on.
    world.until("both are counted", |counts| counts.bytes_down == 10);
}

#[test]
fn a_body_goes_to_an_original_as_its_window_has_it() {
    let (world, mut origin) = one();
    let body: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    for chunked in [false, true] {
        let (mut client, sent) = (world.client(), body.clone());
        let sender = std::thread::spawn(move || {
            let head = "POST / HTTP/1.1\r\nHost: old.example\r\n";
            match chunked {
                true => client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).chunk(&sent).send("0\r\n\r\n"),
                false => client.send(format!("{head}Content-Length: {}\r\n\r\n", sent.len())).send(sent),
            };
            client.answer()
        });
        let asked = origin.request();
        assert_eq!((asked.fin, asked.get("content-length")), (false, (!chunked).then_some("200000")));
        let mut got = Vec::new();
        while got.len() < WINDOW {
            got.extend(origin.expect(0).payload);
        }
        assert_eq!(got.len(), WINDOW, "to the byte");
        assert!(origin.client.is_silent(Duration::from_millis(100)), "the window is used up");
        let mut fin = false;
        while !fin {
            origin.control(WINDOW_UPDATE, &[asked.stream, 50_000]).control(WINDOW_UPDATE, &[0, 50_000]);
            let frame = origin.expect(0);
            fin = frame.fin;
            got.extend(frame.payload);
        }
        assert!(got == body);
        origin.reply(asked.stream, false, &[(":status", "201 Created"), VERSION]).data(asked.stream, true, "");
        sender.join().expect("no panic").assert(201);
    }
}

#[test]
fn a_slow_client_stops_its_own_stream_only() {
    let (world, mut origin) = one();
    let mut slow = world.client();
    get(&mut slow, "/big");
    let big = origin.request().stream;
    origin.reply(big, false, &[OK, VERSION]);
    // Two windows go through: into the pipe and the sockets. Whoever does not read stops it there.
    let (mut sent, mut window) = (0, WINDOW);
    let stuck = Instant::now() + Duration::from_secs(10);
    loop {
        while window >= 16_384 {
            origin.data(big, false, [7; 16_384]);
            (sent, window) = (sent + 16_384, window - 16_384);
        }
        if origin.client.is_silent(Duration::from_millis(200)) {
            break;
        }
        assert!(Instant::now() < stuck, "{sent} bytes were taken, and nobody reads");
        let frame = origin.expect(WINDOW_UPDATE);
        if frame.number(0) == big {
            window += frame.number(4) as usize;
        }
    }
    let mut client = world.client();
    get(&mut client, "/small");
    let small = origin.request().stream;
    origin.reply(small, false, &[OK, VERSION, ("content-length", "2")]).data(small, true, "ok");
    assert_eq!(client.answer().text(), "ok");
    slow.head();
    let mut got = 0;
    while got < sent {
        got += slow.next_chunk().expect("a chunk").expect("not the last").len();
    }
    origin.data(big, true, "");
    assert_eq!(slow.next_chunk().expect("the last"), None);
}

#[test]
fn answers_without_a_body_are_in_step() {
    let (world, mut origin) = one();
    let mut client = world.client();
    for (method, status, length) in
        [("HEAD", "200 OK", "1234"), ("GET", "304 Not Modified", "1234"), ("DELETE", "204 No Content", "0")]
    {
        client.send(format!("{method} / HTTP/1.1\r\nHost: old.example\r\n\r\n"));
        let stream = origin.request().stream;
        origin.reply(stream, false, &[(":status", status), VERSION, ("content-length", length)]).data(stream, true, "");
        let head = client.head();
        assert_eq!(head.status.to_string(), status[..3]);
        assert_eq!(head.get("content-length"), (method == "HEAD").then_some(length));
    }
    get(&mut client, "/");
    let stream = origin.request().stream;
    origin.reply(stream, false, &[OK, VERSION]).data(stream, false, "ok").data(stream, true, "");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn clients_are_told_what_an_original_would_not_have_told_them() {
    let config = ProxyConfig { response_timeout: Duration::from_millis(300), ..legacy() };
    let world = World::with(config);
    let mut client = world.client();
    get(&mut client, "/");
    assert_eq!(client.answer().status, 404, "nobody is there for it, nor ever was");
    let mut origin = Original::new(&world);
    // It never answers.
    get(&mut client, "/");
    let stream = origin.request().stream;
    assert_eq!(client.answer().status, 504);
    let reset = origin.expect(RST_STREAM);
    assert_eq!((reset.number(0), reset.number(4)), (stream, 5), "CANCEL");
    // It dies in the middle.
    get(&mut client, "/");
    let stream = origin.request().stream;
    origin.reply(stream, false, &[OK, VERSION, ("content-length", "10")]).data(stream, false, "half");
    let head = client.head();
    assert_eq!(client.exactly(4).expect("half"), b"half");
    origin.client.leave();
    let error = client.body(&head).expect_err("cut short");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    world.until("it is gone", |counts| counts.connections == 0);
    // It was there, and may be back.
    let mut client = world.client();
    get(&mut client, "/");
    let answer = client.answer();
    assert_eq!((answer.status, answer.get("retry-after")), (502, Some("5")));
}

#[test]
fn a_client_that_leaves_resets_its_stream() {
    let (world, mut origin) = one();
    for answered in [false, true] {
        let mut client = world.client();
        get(&mut client, "/");
        let stream = origin.request().stream;
        if answered {
            origin.reply(stream, false, &[OK, VERSION]).data(stream, false, "half");
            client.head();
            client.next_chunk().expect("a chunk");
        }
        client.leave();
        let reset = origin.expect(RST_STREAM);
        assert_eq!((reset.number(0), reset.number(4)), (stream, 5));
    }
    // In the middle of a body of known length; one that half-closes looks like one that leaves.
    for (mut client, leaves) in [(world.client(), true), (world.secure_client(), true), (world.client(), false)] {
        get(&mut client, "/");
        let stream = origin.request().stream;
        origin.reply(stream, false, &[OK, VERSION, ("content-length", "100")]).data(stream, false, "half");
        client.head();
        client.exactly(4).expect("half");
        let kept = if leaves {
            client.leave();
            None
        } else {
            client.finish();
            Some(client)
        };
        let reset = origin.expect(RST_STREAM);
        assert_eq!((reset.number(0), reset.number(4)), (stream, 5));
        drop(kept);
    }
    world.until("all are gone", |counts| counts.active == 0 && counts.disconnected == 5);
}

/// At this rate, what has come may be moved in some minutes: a client that leaves is not waited for so long.
#[test]
fn a_client_that_leaves_does_not_wait_for_the_rate() {
    let mut config = config();
    let here = |peer: &uncork::PeerAddr| peer.ip().is_some_and(|ip| ip.is_loopback());
    let old = Credential::allow_legacy_unauthenticated("old", here).host("*").expect("a pattern");
    config.credentials.push(old.rate(100));
    let world = World::with(config);
    let mut origin = Original::new(&world);
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request().stream;
    origin.reply(stream, false, &[OK, VERSION, ("content-length", "60000")]).data(stream, false, vec![7; 30_000]);
    client.head();
    client.exactly(30_000).expect("half");
    origin.data(stream, false, vec![7; 1000]);
    // It has been heard of when this is answered.
    origin.control(PING, &[2]);
    while origin.expect(PING).number(0) != 2 {}
    client.leave();
    let reset = origin.expect(RST_STREAM);
    assert_eq!((reset.number(0), reset.number(4)), (stream, 5));
    world.until("it is gone", |counts| counts.active == 0 && counts.disconnected == 1);
}

#[test]
fn a_new_original_takes_the_place_of_the_last() {
    let (world, mut first) = one();
    let mut client = world.client();
    get(&mut client, "/");
    first.request();
    let mut second = Original::new(&world);
    assert_eq!(client.answer().status, 502, "what the first had begun is lost");
    first.ended();
    get(&mut client, "/");
    let stream = second.request().stream;
    second.reply(stream, false, &[OK, VERSION, ("content-length", "6")]).data(stream, true, "second");
    assert_eq!(client.answer().text(), "second");
    let names: Vec<String> = world.proxy.connections().into_iter().map(|link| link.credential).collect();
    assert_eq!(names, ["old"]);
}

#[test]
fn an_original_that_goes_away_is_not_asked_again() {
    let (world, mut origin) = one();
    let (mut one, mut two) = (world.client(), world.client());
    get(&mut one, "/");
    let first = origin.request().stream;
    get(&mut two, "/");
    origin.request();
    origin.control(GOAWAY, &[first, 0]);
    // The second was not begun, and there is nobody else.
    assert!(matches!(two.answer().status, 502 | 503));
    origin.reply(first, false, &[OK, VERSION, ("content-length", "4")]).data(first, true, "done");
    assert_eq!(one.answer().text(), "done");
    origin.ended();
    world.until("it is gone", |counts| counts.connections == 0);
}

#[test]
fn pings_are_answered_and_silence_is_found() {
    let world = World::with(ProxyConfig { ping_interval: Duration::from_millis(300), ..legacy() });
    let mut origin = Original::new(&world);
    origin.control(PING, &[2]);
    assert_eq!(origin.expect(PING).number(0), 2, "it is echoed");
    let ours = origin.expect(PING).number(0);
    assert_eq!(ours % 2, 1, "a proxy's are odd");
    origin.control(PING, &[ours]);
    // It is alive, and is asked again; then it says nothing.
    origin.expect(PING);
    origin.ended();
    world.until("it is gone", |counts| counts.connections == 0 && counts.silent == 1);
}

#[test]
fn who_was_not_listed_is_refused() {
    // Without the flag it is like any other request for something else.
    let world = World::new();
    let mut client = world.origin();
    client.send(PUT);
    assert_eq!(client.head().status, 404);
    // With it, from elsewhere.
    let mut config = config();
    config.credentials.push(Credential::allow_legacy_unauthenticated("old", |_| false).host("*").expect("a pattern"));
    let world = World::with(config);
    let mut client = world.origin();
    client.send(PUT);
    assert_eq!(client.head().status, 403);
    // A token, or an upgrade, or another path: that is none of 2014.
    let world = World::with(legacy());
    for (from, to) in [
        ("User-Agent", "Authorization"),
        ("User-Agent", "Upgrade"),
        ("PUT / ", "PUT /x "),
        ("PUT / ", "DELETE / "),
        ("PUT / ", "PUT /?a "),
    ] {
        let mut client = world.origin();
        client.send(PUT.replace(from, to));
        assert_eq!(client.head().status, 404, "{to}");
    }
    let mut client = world.origin();
    client.send(PUT.replace(": 12", ": 2000"));
    assert_eq!(client.head().status, 413);
    let mut client = world.origin();
    client.send(PUT.replace("Content-Length: 12", "Transfer-Encoding: chunked").replace("Hello from C", ""));
    client.chunk(&[b'x'; 1000]);
    let _ = client.try_chunk(&[b'x'; 1000]);
    assert_eq!(client.head().status, 413);
    let counts = world.proxy.counts();
    assert_eq!((counts.connections_total, counts.connections), (0, 0));
    // And it has not cost its right to whoever is.
    drop(Original::new(&world));
}

/// Each costs the answer it stands in, and that is a 502.
#[test]
fn what_makes_no_sense_is_not_passed_on() {
    let (world, mut origin) = one();
    let mut client = world.client();
    let wrong: &[&[(&str, &str)]] = &[
        &[OK, VERSION, ("x", "a\r\nSet-Cookie: b=c")],
        &[OK, VERSION, ("x\r\ny", "z")],
        &[OK, VERSION, ("content-length", "1\x002")],
        &[OK, VERSION, ("content-length", "1, 1")],
        &[VERSION],
        &[("", "x")],
        &[(":status", "200\r\nx: y")],
        &[(":status", "101 Switching Protocols"), ("upgrade", "x")],
        &[(":status", "099")],
    ];
    for fields in wrong {
        get(&mut client, "/");
        let stream = origin.request().stream;
        origin.reply(stream, false, fields);
        assert_eq!(client.answer().status, 502, "{fields:?}");
        assert_eq!(origin.expect(RST_STREAM).number(0), stream);
    }
    // A length that is not kept: the client must not take it for the whole.
    for (length, sent) in [("5", "hell"), ("4", "hello")] {
        get(&mut client, "/");
        let stream = origin.request().stream;
        origin.reply(stream, false, &[OK, VERSION, ("content-length", length)]).data(stream, true, sent);
        // Its head may not even have been sent.
        if let Ok(head) = client.try_head() {
            client.body(&head).expect_err("cut short");
        }
        client = world.client();
    }
    // Framing that is ours to say is not the origin's.
    get(&mut client, "/");
    let stream = origin.request().stream;
    let fields = [OK, VERSION, ("transfer-encoding", "chunked"), ("connection", "close"), ("content-length", "2")];
    origin.reply(stream, false, &fields).data(stream, true, "ok");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.get("transfer-encoding"), answer.get("connection")), ("ok", None, None));
}

/// Each costs the connection it comes on, and nobody else anything.
#[test]
fn hostile_originals_are_shown_the_door() {
    let bomb = |zlib: &mut Zlib| {
        let block = zlib.block(&[("x", &"x".repeat(3_000_000))]);
        control(SYN_REPLY, 0, &[&words(&[1])[..], &block].concat())
    };
    type Wire<'a> = &'a dyn Fn(&mut Zlib) -> Vec<u8>;
    let wires: [(&str, Wire<'_>); 9] = [
        ("a bomb", &bomb),
        ("no zlib", &|_| control(SYN_REPLY, 0, &[&words(&[1])[..], b"GET / HTTP/1.1"].concat())),
        ("a stream of its own", &|zlib| {
            control(SYN_STREAM, 0, &[&words(&[2, 0])[..], &[0, 0], &zlib.block(&[])].concat())
        }),
        ("a stream that never existed", &|_| data(99, false, b"x")),
        ("data on stream 0", &|_| data(0, false, b"x")),
        ("HTTP", &|_| b"GET / HTTP/1.1\r\nHost: old.example\r\n\r\n".to_vec()),
        ("a long ping", &|_| control(PING, 0, &[0; 100])),
        ("a block of 16 MiB", &|_| control(SYN_REPLY, 0, &[])[..5].iter().copied().chain([0xff; 3]).collect()),
        ("a count of 2^32", &|zlib| {
            let mut block = Vec::with_capacity(100);
            zlib.deflate.compress_vec(&[0xff; 4], &mut block, FlushCompress::Sync).expect("deflated");
            control(SYN_REPLY, 0, &[&words(&[1])[..], &block].concat())
        }),
    ];
    let world = World::with(legacy());
    let mut other = super::raw::RawOrigin::new(&world, "app", "app.example");
    for (name, wire) in wires {
        let mut client = world.client();
        let mut origin = {
            let mut client = world.origin();
            client.send(PUT);
            assert_eq!(client.exactly(ESTABLISHED.len()).expect("an answer"), ESTABLISHED);
            Original { client, zlib: Zlib::new() }
        };
        world.until("both are there", |counts| counts.connections == 2);
        get(&mut client, "/");
        origin.request();
        let bytes = wire(&mut origin.zlib);
        origin.client.send(bytes);
        assert_eq!(client.answer().status, 502, "{name}");
        origin.ended();
        world.until("it is gone", |counts| counts.connections == 1);
    }
    let mut client = world.client();
    super::proxy::get(&mut client, "/");
    let stream = other.request();
    other.head(stream, 200, &[], true);
    client.answer().assert(200);
}

/// Whoever does not read what we say is not read either: what he may make us hold is bounded.
#[test]
fn a_flood_of_pings_is_pushed_back() {
    let (world, mut origin) = one();
    let pings: Vec<u8> = (0..10_000).flat_map(|_| control(PING, 0, &words(&[2]))).collect();
    let (mut sent, end) = (0, Instant::now() + Duration::from_secs(20));
    while let Some(n) = origin.client.push(&pings[sent % 12..], Duration::from_millis(500)) {
        sent += n;
        assert!(sent < 64 << 20 && Instant::now() < end, "it takes all there is: {sent}");
    }
    drop(world);
}
