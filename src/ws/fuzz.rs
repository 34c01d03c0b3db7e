//! Fuzz bodies: whatever a peer sends, to either role, and what must hold for all of it.
//!
//! ```text
//!   websocket:   s 7 <wire …>             inflate:   k <bytes …>
//!                │ └ size of a piece                 └ flags: context, window
//!                └ flags: role, streamed, compressed, context, little output
//! ```

use std::time::Duration;

use super::{
    Config, Deflate, MessageKind,
    deflate::{Deflater, Half, Inflate, TAIL},
    reader::{Event, Reader},
    server_harness::{Harness, Setup},
};
use crate::base::Moment;

const LIMIT: usize = 3000;

fn config() -> Config {
    Config::new().message(LIMIT as u64).frame(2000).fragments(10)
}

/// What was sent, as the peer understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// Plays `wire` in pieces, each as large as `size` says next; what comes of it.
fn harness(
    setup: &Setup,
    wire: &[u8],
    now: Moment,
    mut size: impl FnMut() -> usize,
) -> (Vec<Said>, Option<super::Closed>) {
    let mut harness = Harness::new(setup, now);
    let mut rest = wire;
    while !rest.is_empty() && !harness.is_over() {
        let (piece, behind) = rest.split_at(size().clamp(1, rest.len()));
        harness.feed(piece);
        rest = behind;
    }
    harness.end();
    assert!(harness.is_over(), "the peer has ended the stream: {:?}", harness.mask);
    assert!(!harness.aborted && harness.sender.is_closed());
    let mut closed = harness.closed();
    assert!(closed.len() == 1, "told once: {closed:?}");
    (understood(setup, &harness.sent), closed.pop())
}

/// Reads what was sent, which must be right to the last byte.
fn understood(setup: &Setup, sent: &[u8]) -> Vec<Said> {
    let inflate = setup.deflate.map(|deflate| Inflate::new(deflate.own));
    let mut reader = Reader::new(setup.client, false, &config(), inflate);
    let (mut said, mut wire, mut at) = (Vec::new(), sent.to_vec(), 0);
    loop {
        let mut used = 0;
        let event = reader.next(&mut wire[at..], &mut used).expect("what we send breaks no rule");
        said.push(match event {
            None => break,
            Some(Event::Message(message)) => Said::Message(message.kind(), message.bytes().into()),
            Some(Event::Ping(payload)) => Said::Ping(payload.into()),
            Some(Event::Pong(payload)) => Said::Pong(payload.into()),
            Some(Event::Close(code, reason)) => {
                assert_eq!(at + used, sent.len(), "nothing is sent behind a Close");
                said.push(Said::Close(code, reason.into()));
                return said;
            }
            Some(Event::Part(_)) => unreachable!("it does not stream"),
        });
        at += used;
    }
    assert_eq!(at, sent.len(), "half a frame was sent");
    said
}

/// Splitting the input changes nothing; streaming changes nothing; all that is sent is right, and ends with a Close if
/// anything is wrong; nothing is held beyond the limits.
#[doc(hidden)]
pub fn websocket(data: &[u8], now: Moment) {
    let [flags, size, wire @ ..] = data else { return };
    let on = |bit: u8| flags & (1 << bit) != 0;
    let deflate = Deflate::new().level(1).at_least(1).keep_own_context(on(3)).keep_peer_context(on(3));
    let setup = Setup {
        client: on(0),
        streams: on(1),
        deflate: on(2).then_some(deflate),
        config: config(),
        output: if on(4) { 20 } else { 0 },
    };
    let mut whole = harness(&setup, wire, now, || usize::MAX);
    let other = Setup { streams: !setup.streams, ..setup.clone() };
    let mut random = u32::from(*size);
    let any = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 27) as usize
    };
    let splits = [
        harness(&setup, wire, now, || 1),
        harness(&setup, wire, now, || usize::from(*size)),
        harness(&setup, wire, now, any),
        harness(&other, wire, now, || usize::MAX),
        harness(&other, wire, now, || 1),
    ];
    // Of pings that come faster than they can be answered, the last is.
    let little = setup.output > 0;
    let pongs = |said: &Said| !little || !matches!(said, Said::Pong(_));
    whole.0.retain(pongs);
    for mut split in splits {
        split.0.retain(pongs);
        assert_eq!(whole, split, "what is said must not depend on how bytes arrive");
    }
    bounded(&setup, wire);
    slowly(&setup, wire, now, usize::from(*size));
}

/// With ten seconds between two pieces: the clocks may end it, and what is sent is right all the same.
fn slowly(setup: &Setup, wire: &[u8], now: Moment, size: usize) {
    let mut harness = Harness::new(setup, now);
    for piece in wire.chunks(size.max(1)) {
        harness.feed(piece);
        harness.pass(Duration::from_secs(10));
    }
    harness.end();
    assert!(harness.is_over() && harness.closed().len() == 1 && harness.sender.is_closed());
    understood(setup, &harness.sent);
}

/// What a reader holds has its limit, whatever it is told.
fn bounded(setup: &Setup, wire: &[u8]) {
    let inflate = setup.deflate.map(|deflate| Inflate::new(deflate.peer));
    let mut reader = Reader::new(!setup.client, setup.streams, &setup.config, inflate);
    let (mut wire, mut at) = (wire.to_vec(), 0);
    loop {
        let mut used = 0;
        let more = matches!(reader.next(&mut wire[at..], &mut used), Ok(Some(_)));
        at += used;
        assert!(at <= wire.len());
        // One step of the inflater may be looked at beyond the limit, and a `Vec` doubles.
        assert!(reader.held() <= 4 * (LIMIT + 8192), "{}", reader.held());
        if !more {
            return;
        }
    }
}

/// Inflates all of it, in pieces of `size`, into `room` bytes at a time; up to 100,000. Whether that went well, and
/// whether it ends with a final block.
fn inflated(half: Half, mut bytes: &[u8], size: usize, room: usize) -> (Vec<u8>, bool, bool) {
    let mut inflate = Inflate::new(half);
    let (mut all, mut out) = (Vec::new(), vec![0; room]);
    loop {
        let piece = &bytes[..size.min(bytes.len())];
        let (taken, made) = inflate.step(piece, &mut out);
        all.extend_from_slice(&out[..made]);
        bytes = &bytes[taken..];
        if all.len() > 100_000 {
            all.truncate(100_000);
            return (all, true, false);
        }
        if inflate.is_corrupt() {
            return (all, false, false);
        }
        if made == 0 && bytes.is_empty() {
            return (all, true, inflate.is_finished());
        }
        assert!(taken > 0 || made > 0, "it neither takes nor gives");
    }
}

/// Any bytes are inflated or refused, the same however they are cut; what was deflated is inflated to what it was.
#[doc(hidden)]
pub fn inflate(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    let half = Half { bits: 9 + flags % 7, context: flags & 0x80 != 0 };
    let whole = inflated(half, bytes, usize::MAX, 8192);
    for (size, room) in [(1, 8192), (7, 100), (usize::MAX, 33)] {
        let split = inflated(half, bytes, size, room);
        assert!(whole == split, "pieces of {size} and {room}: {} and {} bytes", whole.0.len(), split.0.len());
    }
    let deflate = Deflate::new().level(u32::from(flags >> 4) + 1).own_window(half.bits).keep_own_context(half.context);
    let (mut deflater, mut inflate) = (Deflater::new(&deflate.at_least(1)), Inflate::new(half));
    for message in bytes.chunks(1000).chain([bytes]).filter(|message| !message.is_empty()) {
        let mut wire = Vec::new();
        assert!(deflater.message(message, &mut wire));
        wire.extend_from_slice(&TAIL);
        let (mut back, mut at, mut out) = (Vec::new(), 0, [0; 512]);
        loop {
            let (taken, made) = inflate.step(&wire[at..], &mut out);
            assert!(!inflate.is_corrupt(), "what we deflate is deflate");
            at += taken;
            back.extend_from_slice(&out[..made]);
            if made < out.len() && at == wire.len() {
                break;
            }
        }
        inflate.end();
        assert!(back == message, "{} bytes came back as {}", message.len(), back.len());
    }
}
