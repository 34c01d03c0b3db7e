//! Fuzz targets: arbitrary input from a peer, to either role, and what must hold for it.
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

/// A frame that was sent, as the peer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// Feeds `wire` in pieces of the sizes that `size` returns. Returns what was sent, and how the session closed.
fn harness(
    setup: &Setup,
    wire: &[u8],
    now: Moment,
    mut size: impl FnMut() -> usize,
) -> (Vec<Sent>, Option<super::Closed>) {
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
    assert!(closed.len() == 1, "reported once: {closed:?}");
    (read_all(setup, &harness.sent), closed.pop())
}

/// Reads what was sent, which must be valid to the last byte.
fn read_all(setup: &Setup, sent: &[u8]) -> Vec<Sent> {
    let inflate = setup.deflate.map(|deflate| Inflate::new(deflate.own));
    let mut reader = Reader::new(setup.client, false, &config(), inflate);
    let (mut frames, mut wire, mut at) = (Vec::new(), sent.to_vec(), 0);
    loop {
        let mut used = 0;
        let event = reader.next(&mut wire[at..], &mut used).expect("our frames break no rule");
        frames.push(match event {
            None => break,
            Some(Event::Message(message)) => Sent::Message(message.kind(), message.bytes().into()),
            Some(Event::Ping(payload)) => Sent::Ping(payload.into()),
            Some(Event::Pong(payload)) => Sent::Pong(payload.into()),
            Some(Event::Close(code, reason)) => {
                assert_eq!(at + used, sent.len(), "nothing is sent behind a Close");
                frames.push(Sent::Close(code, reason.into()));
                return frames;
            }
            Some(Event::Part(_)) => unreachable!("it does not stream"),
        });
        at += used;
    }
    assert_eq!(at, sent.len(), "half a frame was sent");
    frames
}

/// Checks that splitting the input and streaming change nothing, that all output is valid and ends with a Close if
/// anything is wrong, and that the limits of memory hold.
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
    // If pings come faster than pongs can go out, only the last one gets a pong.
    let little = setup.output > 0;
    let pongs = |frames: &Sent| !little || !matches!(frames, Sent::Pong(_));
    whole.0.retain(pongs);
    for mut split in splits {
        split.0.retain(pongs);
        assert_eq!(whole, split, "the output must not depend on how bytes arrive");
    }
    bounded(&setup, wire);
    slowly(&setup, wire, now, usize::from(*size));
}

/// Feeds the pieces ten seconds apart. The clocks may end the session, and the output must still be valid.
fn slowly(setup: &Setup, wire: &[u8], now: Moment, size: usize) {
    let mut harness = Harness::new(setup, now);
    for piece in wire.chunks(size.max(1)) {
        harness.feed(piece);
        harness.pass(Duration::from_secs(10));
    }
    harness.end();
    assert!(harness.is_over() && harness.closed().len() == 1 && harness.sender.is_closed());
    read_all(setup, &harness.sent);
}

/// Checks that the reader holds no more than its limit, whatever it reads.
fn bounded(setup: &Setup, wire: &[u8]) {
    let inflate = setup.deflate.map(|deflate| Inflate::new(deflate.peer));
    let mut reader = Reader::new(!setup.client, setup.streams, &setup.config, inflate);
    let (mut wire, mut at) = (wire.to_vec(), 0);
    loop {
        let mut used = 0;
        let more = matches!(reader.next(&mut wire[at..], &mut used), Ok(Some(_)));
        at += used;
        assert!(at <= wire.len());
        // One step of the inflater may go beyond the limit, and a `Vec` doubles.
        assert!(reader.held() <= 4 * (LIMIT + 8192), "{}", reader.held());
        if !more {
            return;
        }
    }
}

/// Inflates all of it, up to 100,000 bytes: in pieces of `size`, into `room` bytes at a time. Returns the output,
/// `true` if the input was valid, and `true` if it ends with a final block.
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
        assert!(taken > 0 || made > 0, "no progress");
    }
}

/// Checks that any bytes are inflated or rejected, however they are split, and that inflating reverses deflating.
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
            assert!(!inflate.is_corrupt(), "our own output is valid");
            at += taken;
            back.extend_from_slice(&out[..made]);
            if made < out.len() && at == wire.len() {
                break;
            }
        }
        inflate.end();
        assert!(back == message, "{} bytes were inflated to {}", message.len(), back.len());
    }
}
