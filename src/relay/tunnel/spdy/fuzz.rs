//! Fuzz targets: any input of a peer, for either role, and two of our sessions against each other.
//!
//! ```text
//!   spdy:   f s <rest …>
//!           │ └ seed: sizes of pieces
//!           └ flags: role; whether the rest is bytes, a script of frames, or acts of two sessions
//! ```

use std::collections::BTreeMap;

use super::{
    deflater::Deflater,
    fault::Fault,
    frame::{Code, Decoder, Piece, Syn},
    head::{ReplyHead, RequestHead},
    headers::Inflater,
    session::{Event, Role, Session},
    stream::WINDOW,
    write,
};
use uncork::h1::Headers;

/// Checks that no input panics, that splitting it changes nothing, that all output is valid, and that memory is
/// bounded.
#[doc(hidden)]
pub fn spdy(data: &[u8]) {
    let [flags, seed, rest @ ..] = data else { return };
    let role = if flags & 1 == 0 { Role::Client } else { Role::Server };
    match flags >> 1 & 3 {
        0 => hostile(role, rest, *seed),
        1 => hostile(role, &scripted(rest, flags >> 3), *seed),
        _ => pair(rest, *seed),
    }
}

/// A pseudo-random generator.
struct Random(u32);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % n.max(1)
    }
}

fn get(method: &str) -> RequestHead {
    let (path, host, scheme) = ("/".to_owned(), "localhost:1443".to_owned(), "https".to_owned());
    RequestHead { method: method.to_owned(), path, host, scheme, fields: Headers::new() }
}

/// The results of some input for the session's user.
#[derive(Debug, PartialEq, Eq)]
struct Results {
    events: Vec<Event>,
    fault: Option<Fault>,
    output: Vec<u8>,
}

/// Feeds a peer's bytes to one session. Its user acts only when all of them have arrived.
fn hostile(role: Role, wire: &[u8], seed: u8) {
    let mut random = Random(u32::from(seed));
    let (whole, mut session) = run(role, wire, || usize::MAX);
    for pieces in [1, 7, usize::from(seed) + 1] {
        let (split, _) = run(role, wire, || random.below(pieces) + 1);
        assert_eq!(whole, split, "results must not depend on how bytes arrive");
    }
    let mut held = BTreeMap::<u32, usize>::new();
    for event in &whole.events {
        if let Event::Data { stream, bytes, .. } = event {
            *held.entry(*stream).or_default() += bytes.len();
        }
    }
    assert!(held.values().all(|n| *n <= WINDOW as usize), "more than the window: {held:?}");
    for event in &whole.events {
        match event {
            Event::Opened { stream, .. } => {
                session.reply(*stream, &ReplyHead { status: 200, fields: Headers::new() }, false);
                session.data(*stream, &[0; 1000], true);
            }
            Event::Data { stream, bytes, .. } => session.release(*stream, bytes.len()),
            Event::Replied { stream, .. } if stream % 4 == 1 => session.reset(*stream, Code::CANCEL),
            _ => {}
        }
    }
    session.ping();
    session.close();
    let sent = [&whole.output, session.output()].concat();
    check_output(&sent);
}

fn run(role: Role, wire: &[u8], mut size: impl FnMut() -> usize) -> (Results, Session) {
    let mut session = Session::new(role, 8);
    if role == Role::Client {
        for (method, end) in [("GET", true), ("HEAD", true), ("POST", false), ("PUT", false)] {
            assert!(session.open(&get(method), end).is_ok());
        }
        session.data(5, b"hello", false);
    }
    let mut results = Results { events: Vec::new(), fault: None, output: Vec::new() };
    let mut rest = wire;
    while results.fault.is_none() && !rest.is_empty() {
        let mut piece = &rest[..size().min(rest.len())];
        rest = &rest[piece.len()..];
        loop {
            match session.handle_input(piece) {
                Ok(n) => piece = &piece[n..],
                Err(fault) => results.fault = Some(fault),
            }
            let mut has_event = false;
            while let Some(event) = session.poll_event() {
                has_event = true;
                results.add(event);
            }
            let n = session.output().len();
            results.output.extend_from_slice(session.output());
            session.consume(n);
            if piece.is_empty() || results.fault.is_some() {
                break;
            }
            assert!(has_event || n > 0, "no input is taken, without a reason");
        }
    }
    (results, session)
}

impl Results {
    /// Joins data that comes in pieces.
    fn add(&mut self, event: Event) {
        if let (Some(Event::Data { stream: a, bytes, end }), Event::Data { stream: b, bytes: more, end: last }) =
            (self.events.last_mut(), &event)
            && a == b
            && !*end
        {
            bytes.extend_from_slice(more);
            *end = *last;
        } else {
            self.events.push(event);
        }
    }
}

/// Checks that the output is valid SPDY to the last byte, without HEADERS.
fn check_output(mut sent: &[u8]) {
    let (mut decoder, mut inflater) = (Decoder::new(), Inflater::new());
    while let Some(piece) = decoder.next(&mut sent).expect("our output breaks no rule") {
        match piece {
            Piece::Block { bytes, end } => {
                inflater.feed(bytes).expect("our output can be inflated");
                if end {
                    assert!(inflater.end().expect("the lengths match").is_some());
                }
            }
            Piece::Syn { syn, .. } => assert!(syn != Syn::More),
            _ => {}
        }
    }
    assert!(decoder.is_between_frames(), "the last frame is incomplete");
}

/// Builds frames by a script, with header blocks compressed like those of spdy-proxy.
fn scripted(mut script: &[u8], level: u8) -> Vec<u8> {
    #[rustfmt::skip]
    const NAMES: [&str; 12] = [
        ":method", ":path", ":version", ":host", ":scheme", ":status", "content-length", "cookie", "connection", "x-a",
        "Upper", "",
    ];
    #[rustfmt::skip]
    const VALUES: [&str; 12] = [
        "GET", "/", "HTTP/1.1", "localhost", "https", "200 OK", "5", "a\0b", "a\r\nb: c", "304", "", "HEAD",
    ];
    let mut codec = Deflater::new(u32::from(level % 10));
    let mut out = Vec::new();
    let mut byte = || {
        let (first, rest) = script.split_first()?;
        script = rest;
        Some(*first)
    };
    while let Some(op) = byte() {
        let stream = u32::from(byte().unwrap_or(1) & 0x3f);
        let fin = op & 0x10 != 0;
        match op & 0x0f {
            kind @ 0..=4 => {
                let pairs: Vec<_> = (0..byte().unwrap_or(0) & 15)
                    .map(|_| {
                        (NAMES[usize::from(byte().unwrap_or(0) % 12)], VALUES[usize::from(byte().unwrap_or(0) % 12)])
                    })
                    .collect();
                let block = |out: &mut Vec<u8>| out.extend(codec.block(&pairs));
                match kind {
                    0 | 1 => write::syn_stream(&mut out, stream, fin, block),
                    2 | 3 => write::syn_reply(&mut out, stream, fin, block),
                    _ => {
                        let at = out.len();
                        write::syn_reply(&mut out, stream, fin, block);
                        out[at + 3] = 8; // HEADERS looks the same.
                    }
                }
            }
            5..=8 => {
                let len = usize::from(byte().unwrap_or(5)) * if op & 0x20 != 0 { 300 } else { 1 };
                write::data(&mut out, stream, fin, &vec![b'x'; len]);
            }
            9 => write::reset(&mut out, stream, Code(u32::from(op))),
            10 => write::ping(&mut out, stream),
            11 => write::goaway(&mut out, stream, 0),
            12 => write::window_update(&mut out, stream, u32::from(byte().unwrap_or(0)) << (op >> 3)),
            13 => {
                let at = out.len();
                write::goaway(&mut out, stream, 0);
                out[at + 3] = 4; // SETTINGS, or an unknown type.
            }
            _ => out.extend((0..op >> 4).filter_map(|_| byte())),
        }
    }
    out
}

/// Connects two sessions by a wire that splits their bytes at random. Each end receives what the other sends, in order
/// and complete. No rule is broken, and all streams end.
fn pair(acts: &[u8], seed: u8) {
    let mut random = Random(u32::from(seed));
    let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
    for act in acts.iter().take(150) {
        let end = if act & 1 == 0 { &mut client } else { &mut server };
        match act >> 1 & 7 {
            0 | 1 if act & 1 == 0 => {
                if let Ok(stream) =
                    client.session.open(&get(["GET", "POST"][usize::from(act >> 4 & 1)]), act & 0x10 == 0)
                {
                    client.sent.insert(stream, Vec::new());
                    client.ended.insert(stream, act & 0x10 == 0);
                }
            }
            0..=3 => end.send(usize::from(act >> 4), random.below(20_000), act & 2 != 0),
            4 => end.release(),
            5 => end.session.ping(),
            _ => exchange(&mut client, &mut server, &mut random),
        }
    }
    // All streams are sent to their end.
    for _ in 0..1000 {
        for end in [&mut client, &mut server] {
            for i in 0..16 {
                end.send(i, 0, true);
            }
            end.release();
        }
        exchange(&mut client, &mut server, &mut random);
        let left = |end: &End| end.session.streams() + end.session.output().len();
        if left(&client) + left(&server) == 0 {
            break;
        }
    }
    assert_eq!((client.session.streams(), server.session.streams()), (0, 0), "a stream did not end");
    assert_eq!(client.sent, server.received, "requests' bodies");
    assert_eq!(server.sent, client.received, "replies' bodies");
}

/// A session and its user, which records everything.
struct End {
    session: Session,
    sent: BTreeMap<u32, Vec<u8>>,
    /// `true` if the last part was sent.
    ended: BTreeMap<u32, bool>,
    received: BTreeMap<u32, Vec<u8>>,
    held: Vec<(u32, usize)>,
}

impl End {
    fn new(role: Role) -> Self {
        let sent = BTreeMap::new();
        let session = Session::new(role, 8);
        Self { session, sent, ended: BTreeMap::new(), received: BTreeMap::new(), held: Vec::new() }
    }

    fn send(&mut self, which: usize, len: usize, end: bool) {
        let open: Vec<u32> = self.ended.iter().filter(|(_, ended)| !**ended).map(|(stream, _)| *stream).collect();
        let Some(stream) = open.get(which % open.len().max(1)) else { return };
        let sent = self.sent.entry(*stream).or_default();
        let bytes: Vec<u8> = (0..len).map(|i| (sent.len() + i) as u8).collect();
        let (n, ended) = self.session.data(*stream, &bytes, end);
        sent.extend_from_slice(&bytes[..n]);
        self.ended.insert(*stream, ended);
    }

    fn release(&mut self) {
        for (stream, n) in self.held.drain(..) {
            self.session.release(stream, n);
        }
    }

    fn receive(&mut self, mut bytes: &[u8]) {
        loop {
            let n = self.session.handle_input(bytes).expect("our output breaks no rule");
            self.events();
            bytes = &bytes[n..];
            if bytes.is_empty() {
                return;
            }
            assert!(n > 0, "both ends wait for each other");
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened { stream, .. } => {
                    assert!(self.session.reply(stream, &ReplyHead { status: 200, fields: Headers::new() }, false));
                    self.sent.insert(stream, Vec::new());
                    self.ended.insert(stream, false);
                    self.received.insert(stream, Vec::new());
                }
                Event::Replied { stream, .. } => drop(self.received.insert(stream, Vec::new())),
                Event::Data { stream, bytes, .. } => {
                    self.received.entry(stream).or_default().extend_from_slice(&bytes);
                    self.held.push((stream, bytes.len()));
                }
                Event::Writable { .. } | Event::Pong | Event::GoAway => {}
                // The other end still holds data of a stream that is over here, and is at its limit of streams.
                Event::Reset { stream, code: Code::REFUSED_STREAM } => {
                    self.sent.remove(&stream);
                    self.ended.remove(&stream);
                }
                Event::Reset { .. } => panic!("no end has reset a stream"),
            }
        }
    }
}

/// Passes what each end has sent to the other, in pieces.
fn exchange(client: &mut End, server: &mut End, random: &mut Random) {
    for turn in 0..2 {
        let (from, to) = if turn == 0 { (&mut *client, &mut *server) } else { (&mut *server, &mut *client) };
        let n = random.below(100_000).min(from.session.output().len());
        let sent = from.session.output()[..n].to_vec();
        from.session.consume(n);
        let (a, b) = sent.split_at(random.below(sent.len() + 1));
        to.receive(a);
        to.receive(b);
    }
}
