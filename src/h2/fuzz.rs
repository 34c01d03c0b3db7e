//! Fuzz target of the client's side: random frames of a server, with an application that behaves at random. (That of the
//! server's side is in `server/http2_fuzz`, with the engine around it.)
//!
//! ```text
//!   data ──▶ [ what │ how ] … ──┬─▶ frames of a server ──▶ receive ──▶ heads, bodies, ends
//!                               └─▶ begin, write, take, release, go away
//!   out  ──▶ checked: streams in order, DATA within the windows, nothing behind an end
//! ```

use std::{collections::BTreeMap, io::IoSlice};

use super::{
    client::MayBegin,
    connection::Connection,
    frame::{self, HEAD, Head},
    hpack::Encoder,
    settings::{Options, Side},
    state::Fault,
};
use crate::base::Limits;

/// Bytes of the connection's window, for what the server sends.
const WINDOW: u32 = 4 * 64 * 1024;

/// What was sent on a stream, as its frames say.
#[derive(Default)]
struct Sent {
    ended: bool,
    /// Bytes of DATA, and by how much the server has opened the window.
    data: i64,
    more: i64,
}

struct World {
    client: Connection,
    encoder: Encoder,
    /// Bytes of the server that the client has not taken.
    input: Vec<u8>,
    sent: BTreeMap<u32, Sent>,
    /// Streams that the application has not released.
    held: Vec<u32>,
    /// The largest INITIAL_WINDOW_SIZE so far, and the bytes that the connection may send.
    initial: i64,
    connection: i64,
    /// A GOAWAY with an error was sent.
    over: bool,
    begun: bool,
}

/// Does what `data` says, and checks that the client breaks no rule, that no truncated response looks whole, and that
/// nothing is left in the end.
///
/// # Panics
/// If something does not hold.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let limits = Limits { head: 2000, fields: 20, ..Limits::default() };
    let options = Options { side: Side::Client, streams: 0, connection_window: WINDOW, ..Options::server(&limits) };
    let mut world = World {
        client: Connection::new(&options),
        encoder: Encoder::new(),
        input: Vec::new(),
        sent: BTreeMap::new(),
        held: Vec::new(),
        initial: 65_535,
        connection: 65_535,
        over: false,
        begun: false,
    };
    world.frame(frame::SETTINGS, 0, 0, &[]);
    for act in data.chunks(4).take(500) {
        let &[what, a, b, c] = act else { break };
        world.act(what, a, b, c);
        world.receive();
        world.check_output();
    }
    world.end();
}

impl World {
    /// Adds a frame of the server.
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.input.extend(Head { len: payload.len(), kind, flags, stream }.bytes());
        self.input.extend(payload);
    }

    fn act(&mut self, what: u8, a: u8, b: u8, c: u8) {
        let stream = u32::from(a % 16) * 2 + 1;
        match what % 16 {
            0 => self.begin(a),
            1 => self.head(stream, b, c),
            2 => {
                let payload = vec![c; usize::from(b) * 64];
                self.frame(frame::DATA, c & (frame::END_STREAM | frame::PADDED), stream, &payload);
            }
            3 => self.frame(frame::RST_STREAM, 0, stream, &u32::from(b).to_be_bytes()),
            4 => {
                let more = u32::from(b) << (c % 24);
                self.connection += if a == 0 { i64::from(more) } else { 0 };
                if let Some(sent) = self.sent.get_mut(&stream) {
                    sent.more += i64::from(more);
                }
                self.frame(frame::WINDOW_UPDATE, 0, if a == 0 { 0 } else { stream }, &more.to_be_bytes());
            }
            5 => {
                let [value0, value1, value2, value3] = (u32::from(b) << (c % 24)).to_be_bytes();
                if a % 9 == 4 {
                    self.initial = self.initial.max(i64::from(u32::from(b) << (c % 24)));
                }
                self.frame(frame::SETTINGS, 0, 0, &[0, a % 9, value0, value1, value2, value3]);
            }
            6 => self.frame(frame::GOAWAY, 0, 0, &[0, 0, 0, b, 0, 0, 0, c & 1]),
            7 => self.frame(frame::PING, c & 1, 0, b"measures"),
            // Anything.
            8 => self.frame(a % 12, b, u32::from(c % 32), &[a, b, c][..usize::from(c % 4)]),
            9 => self.input.extend([a, b, c]),
            10 => {
                self.client.wake(stream);
                let _ = self.client.write(stream, &[IoSlice::new(&vec![b; usize::from(c) * 256])]);
            }
            11 => self.client.finish(stream, None),
            12 => self.take(stream, usize::from(b) * 16),
            13 => {
                self.held.retain(|held| *held != stream);
                self.client.release(stream);
            }
            14 if c == 0 => self.client.shut_down(),
            14 => drop(self.client.ping()),
            _ => {
                let mut woken = Vec::new();
                self.client.take_woken(&mut woken);
                self.client.wake_waiting();
                self.client.rest();
            }
        }
    }

    fn begin(&mut self, how: u8) {
        if self.client.may_begin() == MayBegin::Now && self.held.len() < 20 {
            let method: &[u8] = if how & 2 == 0 { b"POST" } else { b"HEAD" };
            let fields: [(&[u8], &[u8]); 2] = [(b":method", method), (b"x-a", &[b'a'; 40])];
            self.held.push(self.client.begin(fields.into_iter(), how & 1 == 0, how & 2 != 0));
        }
    }

    /// Adds the head of a response, or trailers.
    fn head(&mut self, stream: u32, how: u8, length: u8) {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        match how % 8 {
            0 => self.encoder.status(103, &mut block),
            1 => self.encoder.field(b"x-trailer", b"1", &mut block),
            2 => block.extend([how, length]),
            _ => self.encoder.status(if how & 64 == 0 { 200 } else { 204 }, &mut block),
        }
        if how & 8 != 0 {
            self.encoder.field(b"content-length", (u64::from(length) * 64).to_string().as_bytes(), &mut block);
        }
        let end = if how & 16 == 0 { 0 } else { frame::END_STREAM };
        if how & 32 == 0 {
            return self.frame(frame::HEADERS, frame::END_HEADERS | end, stream, &block);
        }
        let (first, rest) = block.split_at(block.len() / 2);
        self.frame(frame::HEADERS, end, stream, first);
        self.frame(frame::CONTINUATION, frame::END_HEADERS, stream, rest);
    }

    /// The application takes the head of a response, some of its body, and its end.
    fn take(&mut self, stream: u32, most: usize) {
        while let Some(head) = self.client.take_head(stream) {
            assert!(head.status >= 100 && head.status != 101);
        }
        self.client.take_with(stream, most, <[u8]>::len);
        if self.client.take_end(stream).is_some() {
            assert_eq!((self.client.held(stream), self.client.fault(stream)), (0, None));
            let left = self.client.state(stream).and_then(|state| state.left_in).unwrap_or(0);
            assert_eq!(left, 0, "a truncated response looks whole");
        }
    }

    fn receive(&mut self) {
        let (n, _) = self.client.receive(&self.input);
        self.input.drain(..n);
        let open = self.client.streams.iter().filter(|(_, state)| state.is_open()).count();
        assert_eq!(open, self.client.open as usize, "the number of open streams");
        let held: usize = self.client.streams.iter().map(|(_, state)| state.held.len()).sum();
        assert!(held <= WINDOW as usize, "{held} bytes are held");
    }

    /// Checks the frames that the client sends.
    fn check_output(&mut self) {
        let mut bytes = Vec::new();
        self.client.drain(|piece| {
            bytes.extend_from_slice(piece);
            piece.len()
        });
        let mut rest = &bytes[..];
        if !std::mem::replace(&mut self.begun, true) {
            rest = rest.strip_prefix(super::PREFACE).expect("the preface comes first");
        }
        while let Some(head) = Head::parse(rest) {
            assert!(!self.over || head.kind == frame::GOAWAY, "a frame behind the last GOAWAY: {}", head.kind);
            self.check(&head, &rest[HEAD..HEAD + head.len]);
            rest = &rest[HEAD + head.len..];
        }
        assert!(rest.is_empty());
    }

    fn check(&mut self, head: &Head, payload: &[u8]) {
        match head.kind {
            frame::HEADERS => {
                let last = self.sent.keys().next_back().copied().unwrap_or(0);
                assert!(head.stream > last && head.stream % 2 == 1, "streams begin in order");
                let sent = Sent { ended: head.has(frame::END_STREAM), data: 0, more: 0 };
                self.sent.insert(head.stream, sent);
            }
            frame::DATA => {
                let sent = self.sent.get_mut(&head.stream).expect("a stream that has begun");
                assert!(!sent.ended, "DATA behind the end");
                sent.data += head.len as i64;
                sent.ended = head.has(frame::END_STREAM);
                self.connection -= head.len as i64;
                assert!(sent.data <= self.initial + sent.more, "more than the stream's window");
                assert!(self.connection >= 0, "more than the connection's window");
            }
            frame::RST_STREAM => self.sent.get_mut(&head.stream).expect("a stream that has begun").ended = true,
            frame::GOAWAY => {
                assert!(matches!(frame::number(payload), 0 | frame::GREATEST), "a server begins no streams");
                self.over = payload[4..8] != [0; 4];
            }
            frame::WINDOW_UPDATE => assert!((1..=frame::GREATEST).contains(&frame::number(payload))),
            frame::SETTINGS | frame::PING => assert_eq!(head.stream, 0),
            kind => panic!("a frame of type {kind}"),
        }
    }

    /// The application leaves: nothing is left, and every byte of the window is accounted for.
    fn end(mut self) {
        for stream in std::mem::take(&mut self.held) {
            let fault = self.client.fault(stream);
            self.client.release(stream);
            assert_eq!(self.client.fault(stream), Some(Fault::Gone), "{fault:?}");
        }
        assert_eq!((self.client.streams.len(), self.client.open), (0, 0));
        assert!(self.client.waiting.is_empty());
        self.check_output();
        assert!(self.client.recv_window.is_whole(self.client.windows.connection(), self.client.data_left()));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_holds_for_random_acts() {
        let mut seed = 1u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        for _ in 0..3000 {
            // Begin, respond and take more often than the rest, and with valid numbers.
            let data: Vec<u8> = (0..60)
                .flat_map(|_| {
                    let (what, a, b, c) = (next(), next(), next(), next());
                    let what = [0, 0, 1, 1, 2, 10, 11, 12, 12, what, what][usize::from(what) % 11];
                    [what, a % 4, b, c]
                })
                .collect();
            super::fuzz(&data);
        }
    }
}
