//! The upgrade callback: after `101` the application speaks any protocol through in-memory input and output.
//!
//! ```text
//!              ┌────────── Io ─────────────┐
//!   peer ──▶   │ rx: bytes, consume, state │ ──▶ Upgrade::ready ──▶ EventMask: READ │ WRITE │ EXTERNAL │ CORK
//!   peer ◀──   │ tx: room, write, finish   │            └──────────▶ TERMINATE
//!              └───────────────────────────┘
//! ```
//!
//! The application never gets the socket. So the same handler behaves the same over HTTP and HTTPS, in every mode.

use std::{fmt, sync::Arc, time::Instant};

use bitflags::bitflags;

use super::{Waker, splicer::Splicer};
use crate::{
    base::{
        EventMask, Moment,
        buf::Buf,
        out::{Block, Out},
    },
    h1::write::Sink,
};

/// A protocol that takes over a connection after an upgrade.
///
/// [`ready`](Self::ready) is called once at the start, then for each event that the mask it returned last includes. It
/// runs on the connection's own loop, never re-entrantly, and never again after [`EventMask::TERMINATE`] or a panic.
/// The value is dropped exactly once. Like an [`Upload`](crate::Upload), it is `Send` in every mode.
///
/// ```
/// use uncork::{EventMask, Io, ReadState, Upgrade};
/// struct Echo;
/// impl Upgrade for Echo {
///     fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
///         let n = io.tx.write(io.rx.bytes());
///         io.rx.consume(n);
///         match (io.rx.bytes().is_empty(), io.rx.state()) {
///             (true, ReadState::Open) => EventMask::READ,
///             (true, _) => EventMask::TERMINATE,
///             (false, _) => EventMask::WRITE, // not READ: no more input before this is sent
///         }
///     }
/// }
/// ```
pub trait Upgrade: Send {
    /// Handles events: reads, writes, and returns the events to wait for.
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask;
}

/// A closure is an upgrade.
impl<F: FnMut(&mut Io<'_>) -> EventMask + Send> Upgrade for F {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self(io)
    }
}

/// A boxed upgrade, as [`ws::Offer::accept`](crate::ws::Offer::accept) returns it.
impl Upgrade for Box<dyn Upgrade> {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        (**self).ready(io)
    }
}

/// The view of an upgraded connection during one call.
pub struct Io<'a> {
    /// Input.
    pub rx: Rx<'a>,
    /// Output.
    pub tx: Tx<'a>,
    pub(crate) events: Events,
    pub(crate) now: Moment,
    pub(crate) waker: &'a Waker,
    /// The socket, if it is plain.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "the client splices bodies"))]
    pub(crate) splicer: Option<&'a mut dyn Splicer>,
    pub(crate) commands: &'a mut IoCommands,
}

/// What the application has asked for during a call; carried out after it.
#[derive(Default)]
pub(crate) struct IoCommands {
    pub(crate) deadline: Option<Option<Instant>>,
    pub(crate) abort: bool,
    pub(crate) held: Option<usize>,
    pub(crate) patient: bool,
    /// The upgrade reads from the socket itself, by the splicer: nothing enters the input, and READ means that the socket
    /// may have bytes. Until the next call.
    pub(crate) splices_in: bool,
    /// Like `splices_in`, but for the output: WRITE means that it was sent, and the socket takes more.
    pub(crate) splices_out: bool,
}

impl Io<'_> {
    /// Returns the events of this call, in any combination.
    pub fn events(&self) -> Events {
        self.events
    }

    /// Returns the time of this turn of the loop.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Returns a waker that has [`Upgrade::ready`] called again, from any thread, if the mask has `EXTERNAL`.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Has [`Upgrade::ready`] called once at this time, whatever the mask. `None` cancels it.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.commands.deadline = Some(at);
    }

    /// Counts bytes that are held outside of `rx` and `tx` toward [`Limits::buffers`](crate::Limits::buffers), until
    /// the next call of this function or the end. If the connections of the loop hold too much, one of them is called
    /// with [`Events::shed`].
    #[cfg_attr(not(feature = "ws"), expect(dead_code, reason = "WebSockets hold messages"))]
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.commands.held = Some(bytes);
    }

    /// Prepares the first call of another upgrade on this connection: events that it cannot know about are removed.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "the client hands connections over"))]
    pub(crate) fn restarted(&mut self, stopping: bool) {
        self.events.0 &= EventBits::READ | EventBits::READ_CLOSED | EventBits::RESET;
        self.events.0.set(EventBits::STOPPING, stopping);
    }

    /// Removes the send timeout of this connection ([`Limits::send_timeout`](crate::Limits::send_timeout)), from now
    /// on until [`EventMask::TERMINATE`]: the peer may leave its output unread as long as it likes. Use it for a peer
    /// that you trust, such as another part of the program behind a socket pair.
    ///
    /// Without it, the connection ends when the peer accepts none of its output for that time.
    pub fn remove_send_timeout(&mut self) {
        self.commands.patient = true;
    }

    /// Aborts the connection after this call: the output is dropped, and the peer sees a reset.
    pub fn abort(&mut self) {
        self.commands.abort = true;
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("events", &self.events).field("rx", &self.rx).field("tx", &self.tx).finish()
    }
}

bitflags! {
    /// The bits of [`Events`]. Private: the public type has no way from an integer, and no second spelling of a bit.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct EventBits: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXTERNAL = 4;
        const READ_CLOSED = 8;
        const DEADLINE = 16;
        const STOPPING = 32;
        const RESET = 64;
        const SHED = 128;
    }
}

/// The events of one call. Several can be set. The first call may have none; of the events it can only have
/// [`is_readable`](Self::is_readable), [`is_read_closed`](Self::is_read_closed) and [`is_stopping`](Self::is_stopping).
///
/// | method | bit of [`bits`](Self::bits) |
/// |---|---|
/// | [`is_readable`](Self::is_readable) | 1 |
/// | [`is_writable`](Self::is_writable) | 2 |
/// | [`is_woken`](Self::is_woken) | 4 |
/// | [`is_read_closed`](Self::is_read_closed) | 8 |
/// | [`deadline_passed`](Self::deadline_passed) | 16 |
/// | [`is_stopping`](Self::is_stopping) | 32 |
/// | [`is_error`](Self::is_error) | 64 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(EventBits);

impl Events {
    pub(crate) const NONE: Self = Self(EventBits::empty());
    pub(crate) const READ: Self = Self(EventBits::READ);
    pub(crate) const WRITE: Self = Self(EventBits::WRITE);
    pub(crate) const EXTERNAL: Self = Self(EventBits::EXTERNAL);
    pub(crate) const READ_CLOSED: Self = Self(EventBits::READ_CLOSED);
    pub(crate) const DEADLINE: Self = Self(EventBits::DEADLINE);
    pub(crate) const STOPPING: Self = Self(EventBits::STOPPING);
    pub(crate) const RESET: Self = Self(EventBits::RESET);
    pub(crate) const SHED: Self = Self(EventBits::SHED);

    /// Adds the events of `other`.
    #[inline]
    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Returns `true` if there is any event.
    #[inline]
    pub(crate) fn any(self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the bits, with the values of the table above. They never change; bit 128 is reserved and must be
    /// ignored.
    pub const fn bits(self) -> u8 {
        self.0.bits()
    }

    /// Returns `true` if there is input that the handler has not seen before.
    pub fn is_readable(self) -> bool {
        self.0.contains(EventBits::READ)
    }

    /// Returns `true` if free space in the output grew, to at least half of it.
    pub fn is_writable(self) -> bool {
        self.0.contains(EventBits::WRITE)
    }

    /// Returns `true` if a waker was called.
    pub fn is_woken(self) -> bool {
        self.0.contains(EventBits::EXTERNAL)
    }

    /// Returns `true` on the first call with READ in the mask after the peer has finished sending; see [`Rx::state`].
    pub fn is_read_closed(self) -> bool {
        self.0.contains(EventBits::READ_CLOSED)
    }

    /// Returns `true` if the deadline has passed, see [`Io::set_deadline`].
    pub fn deadline_passed(self) -> bool {
        self.0.contains(EventBits::DEADLINE)
    }

    /// Returns `true` if the server stops: the connection has the grace period to end. Set once, whatever the mask.
    pub fn is_stopping(self) -> bool {
        self.0.contains(EventBits::STOPPING)
    }

    /// Returns `true` if the connection was reset or its transport failed. Nothing that is written arrives, and this is
    /// the last call. Set once, whatever the mask.
    pub fn is_error(self) -> bool {
        self.0.contains(EventBits::RESET)
    }

    /// Returns `true` if the connections of this loop hold too much and this one must release what it holds, see
    /// [`Io::hold`]. What it held is no longer counted. Set whatever the mask.
    pub(crate) fn shed(self) -> bool {
        self.0.contains(EventBits::SHED)
    }
}

/// The state of the peer's side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// More input may arrive.
    Open,
    /// The peer has half-closed, or closed normally: [`Rx::bytes`] has the rest.
    Eof,
    /// The stream is truncated: over TLS there was no close_notify, or the connection was reset. The input may be
    /// incomplete.
    Truncated,
}

/// The input of an upgraded connection.
pub struct Rx<'a> {
    pub(crate) buf: &'a mut Buf,
    pub(crate) state: ReadState,
}

impl Rx<'_> {
    /// Returns the input that was received and not consumed, contiguous. It grows up to
    /// [`Limits::upgrade_input`](crate::Limits::upgrade_input). If the input is full, and a call returns READ without
    /// consuming any of it, the connection is aborted: no more could be read.
    pub fn bytes(&self) -> &[u8] {
        self.buf.filled()
    }

    /// Like [`bytes`](Self::bytes), but mutable, to decode in place. The next call finds unconsumed bytes as changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buf.filled_mut()
    }

    /// Removes the first `n` bytes (at most all of them).
    pub fn consume(&mut self, n: usize) {
        self.buf.consume(n.min(self.buf.len()));
    }

    /// Returns the state of the peer's side. It leaves [`ReadState::Open`] only when everything that the peer sent is
    /// in [`bytes`](Self::bytes).
    pub fn state(&self) -> ReadState {
        self.state
    }
}

impl fmt::Debug for Rx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rx({} bytes, {:?})", self.buf.len(), self.state)
    }
}

/// Bounded output: of an upgraded connection, or of a streamed body.
pub struct Tx<'a> {
    pub(crate) out: &'a mut Out,
    /// The number of bytes that `out` may hold after the call.
    pub(crate) limit: usize,
    /// Like `limit`, but for a shared block with nothing else in front of it.
    pub(crate) shared_limit: usize,
    /// If `out` holds no more than this, nothing is in front of a shared block.
    pub(crate) own: usize,
    /// Set by `finish`; sticky.
    pub(crate) finished: &'a mut bool,
}

impl Tx<'_> {
    /// Returns how many bytes [`write`](Self::write) would take now.
    pub fn room(&self) -> usize {
        if *self.finished { 0 } else { self.limit.saturating_sub(self.out.len()) }
    }

    /// Returns `true` if everything that was written was passed to the system.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes as much as there is room for, and returns how many bytes that is.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        self.out.push(&bytes[..n]);
        n
    }

    /// Lets `fill` write into free memory of the output, which saves a copy. It gets [`room`](Self::room) bytes, at most
    /// `most`, with arbitrary content, and returns how many of them it has written, from the first one on. Returns that
    /// number; what `fill` returns beyond its memory does not count.
    ///
    /// ```
    /// use uncork::{EventMask, Io};
    /// fn count_down(io: &mut Io<'_>) -> EventMask {
    ///     io.tx.write_with(3, |room| {
    ///         room.iter_mut().zip(b"321").for_each(|(to, digit)| *to = *digit);
    ///         room.len()
    ///     });
    ///     EventMask::TERMINATE
    /// }
    /// # fn check(_: impl uncork::Upgrade) {}
    /// # check(count_down);
    /// ```
    pub fn write_with(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let most = most.min(self.room());
        let mut written = 0;
        self.out.put_with(most, |room| {
            written = fill(room).min(most);
            written
        });
        written
    }

    /// Writes all of `bytes`, or nothing: returns `false` if there is no room for them. Many bytes are not copied, and
    /// any number of connections can share one allocation. There is always room while the output is empty, up to the
    /// set length of a body (in a chunked body, 1 MiB).
    pub fn write_shared(&mut self, bytes: &Arc<[u8]>) -> bool {
        let alone = self.out.len() <= self.own && self.out.len().saturating_add(bytes.len()) <= self.shared_limit;
        let fits = self.room() >= bytes.len() || (alone && self.room() > 0);
        if fits {
            self.out.push_block(&mut Block::Shared(bytes.clone()));
        }
        fits
    }

    /// Returns the output for writers that keep their own bound: it takes everything, beyond [`room`](Self::room) too.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "the client writes heads and chunks"))]
    pub(crate) fn sink(&mut self) -> &mut impl Sink {
        self.out
    }

    /// Half-closes: after the written bytes, the peer sees the end of this side (close_notify over TLS, then FIN). The
    /// peer can still send. From now on there is no room. Has no effect in a streamed body.
    pub fn finish(&mut self) {
        *self.finished = true;
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx({} bytes of {})", self.out.len(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_events_are_those_of_the_table() {
        let all = [
            Events::READ,
            Events::WRITE,
            Events::EXTERNAL,
            Events::READ_CLOSED,
            Events::DEADLINE,
            Events::STOPPING,
            Events::RESET,
            Events::SHED,
        ];
        assert_eq!(all.map(Events::bits), [1, 2, 4, 8, 16, 32, 64, 128]);
        let mut events = Events::NONE;
        assert!(!events.any());
        events.add(Events::READ);
        events.add(Events::RESET);
        assert!(events.any() && events.is_readable() && events.is_error() && !events.is_writable());
        assert_eq!(events.bits(), 65);
    }

    #[test]
    fn what_is_written_in_place_is_bounded_by_the_room() {
        let (mut out, mut finished) = (Out::default(), false);
        let mut tx = Tx { out: &mut out, limit: 8, shared_limit: 8, own: 0, finished: &mut finished };
        let fill = |room: &mut [u8]| {
            room.fill(b'x');
            room.len()
        };
        assert_eq!((tx.write(b"abc"), tx.write_with(2, fill), tx.write_with(100, fill)), (3, 2, 3));
        assert_eq!((tx.write_with(100, fill), tx.write_with(0, fill), tx.room()), (0, 0, 0));
        assert_eq!(out.only_piece(), Some(&b"abcxxxxx"[..]));
        let mut tx = Tx { out: &mut out, limit: 12, shared_limit: 12, own: 0, finished: &mut finished };
        assert_eq!(tx.write_with(4, |_| usize::MAX), 4, "no more than there is");
        tx.finish();
        assert_eq!(tx.write_with(4, fill), 0);
    }
}
