//! The upgrade callback: after `101` the application speaks any protocol through in-memory input and output.
//!
//! ```text
//!              ┌────────── Io ──────────┐
//!   peer ──▶   │ rx: bytes, consume, end │ ──▶ Upgrade::ready ──▶ EventMask: READ │ WRITE │ EXTERNAL │ CORK
//!   peer ◀──   │ tx: room, write, finish │            └──────────▶ TERMINATE
//!              └─────────────────────────┘
//! ```
//!
//! There is no socket to be had, and that is the point: the same handler means the same over HTTP and HTTPS, in every
//! drive mode.

use std::{fmt, sync::Arc, time::Instant};

use super::{Response, Waker};
use crate::base::{
    EventMask, Moment,
    buf::Buf,
    out::{Block, Out},
};

/// A protocol spoken after an upgrade.
///
/// [`ready`](Self::ready) is called once at the start, then whenever something happened that the mask it returned last
/// asks for; always on the connection's own loop, never re-entrantly, and never again after
/// [`EventMask::TERMINATE`] or a panic. It is dropped exactly once.
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
///             (false, _) => EventMask::WRITE, // not READ: what we can't answer, we don't want to hear
///         }
///     }
/// }
/// ```
pub trait Upgrade: Send {
    /// Something happened: read, write, and say what to wait for.
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask;
}

/// A closure is an upgrade.
impl<F: FnMut(&mut Io<'_>) -> EventMask + Send> Upgrade for F {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self(io)
    }
}

/// As [`ws::Offer::accept`](crate::ws::Offer::accept) gives it, to be handed on.
impl Upgrade for Box<dyn Upgrade> {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        (**self).ready(io)
    }
}

/// One call's view of an upgraded connection.
pub struct Io<'a> {
    /// Input.
    pub rx: Rx<'a>,
    /// Output.
    pub tx: Tx<'a>,
    pub(crate) events: Events,
    pub(crate) now: Moment,
    pub(crate) waker: &'a Waker,
    pub(crate) orders: &'a mut Orders,
}

/// What the application asked for during a call; carried out after it.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) deadline: Option<Option<Instant>>,
    pub(crate) abort: bool,
    pub(crate) held: Option<usize>,
}

impl Io<'_> {
    /// Why this call: any combination.
    pub fn events(&self) -> Events {
        self.events
    }

    /// The time of this turn.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Calls [`Upgrade::ready`] again, from any thread, if the mask has `EXTERNAL`.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Has [`Upgrade::ready`] called at `at`, whatever the mask; `None` forgets it. It fires once.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.orders.deadline = Some(at);
    }

    /// Counts so many bytes, held outside of `rx` and `tx`, towards [`Limits::buffers`](crate::Limits::buffers), until
    /// the next call of this or the end. If the loop's connections hold too much, one of them is called with
    /// [`Events::shed`].
    #[cfg_attr(not(feature = "ws"), expect(dead_code, reason = "WebSockets hold messages"))]
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.orders.held = Some(bytes);
    }

    /// Breaks the connection off after this call: what is in the output is dropped, and the peer sees a reset.
    pub fn abort(&mut self) {
        self.orders.abort = true;
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("why", &self.events).field("rx", &self.rx).field("tx", &self.tx).finish()
    }
}

/// Why an upgrade is called. The first call has none of them set but perhaps `read` and `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(pub(crate) u8);

impl Events {
    pub(crate) const READ: u8 = 1;
    pub(crate) const WRITE: u8 = 2;
    pub(crate) const EXTERNAL: u8 = 4;
    pub(crate) const END: u8 = 8;
    pub(crate) const DEADLINE: u8 = 16;
    pub(crate) const STOPPING: u8 = 32;
    pub(crate) const RESET: u8 = 64;
    pub(crate) const SHED: u8 = 128;

    /// There is input not seen before.
    pub fn is_readable(self) -> bool {
        self.0 & Self::READ != 0
    }
    /// Room grew, to half the output at least.
    pub fn is_writable(self) -> bool {
        self.0 & Self::WRITE != 0
    }
    /// The waker was called.
    pub fn is_woken(self) -> bool {
        self.0 & Self::EXTERNAL != 0
    }
    /// The peer has finished, which this is the first call to say; see [`Rx::state`].
    pub fn is_read_closed(self) -> bool {
        self.0 & Self::END != 0
    }
    /// The deadline has passed.
    pub fn deadline_passed(self) -> bool {
        self.0 & Self::DEADLINE != 0
    }
    /// The server stops, and this connection has its grace time to come to an end. Told once, whatever the mask.
    pub fn is_stopping(self) -> bool {
        self.0 & Self::STOPPING != 0
    }
    /// The connection was reset, or its transport failed: nothing that is written arrives. Told once, whatever the
    /// mask; it is the last call.
    pub fn is_error(self) -> bool {
        self.0 & Self::RESET != 0
    }
    /// Too much is held by the connections of this loop, and this one is to let go: see [`Io::hold`]. What it held
    /// counts no longer. Told whatever the mask.
    pub(crate) fn shed(self) -> bool {
        self.0 & Self::SHED != 0
    }
}

/// Whether the peer has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// More may come.
    Open,
    /// It has, in order: what is in [`Rx::bytes`] is the rest.
    Eof,
    /// The stream was cut off: over TLS there was no close_notify, or the connection was reset. What came may be
    /// truncated.
    Truncated,
}

/// The input of an upgraded connection.
pub struct Rx<'a> {
    pub(crate) buf: &'a mut Buf,
    pub(crate) end: ReadState,
}

impl Rx<'_> {
    /// What was received and not consumed, contiguous. It grows up to
    /// [`Limits::upgrade_input`](crate::Limits::upgrade_input); a handler that asks for READ with a full input it
    /// consumed nothing of can never be served, and its connection is aborted.
    pub fn bytes(&self) -> &[u8] {
        self.buf.filled()
    }

    /// The same, to be changed in place: decoded where it lies. What is not consumed is found so by the next call.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buf.filled_mut()
    }

    /// The first `n` bytes (at most all of them) are done with.
    pub fn consume(&mut self, n: usize) {
        self.buf.consume(n.min(self.buf.len()));
    }

    /// Whether the peer has finished; true only once everything it sent is in [`bytes`](Self::bytes).
    pub fn state(&self) -> ReadState {
        self.end
    }
}

impl fmt::Debug for Rx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rx({} bytes, {:?})", self.buf.len(), self.end)
    }
}

/// Bounded output: of an upgraded connection, or of a streamed body.
pub struct Tx<'a> {
    pub(crate) out: &'a mut Out,
    /// `out` may hold so many bytes when the call is over,
    pub(crate) limit: usize,
    /// or, for a shared block behind which nothing else waits, so many.
    pub(crate) most: usize,
    /// If `out` holds no more than this, nothing else waits.
    pub(crate) own: usize,
    /// Set by `finish`; sticky.
    pub(crate) finished: &'a mut bool,
}

impl Tx<'_> {
    /// How many bytes [`write`](Self::write) would take now.
    pub fn room(&self) -> usize {
        if *self.finished { 0 } else { self.limit.saturating_sub(self.out.len()) }
    }

    /// Whether nothing waits: all that was written is with the system.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes what there is room for; how many bytes that was.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        self.out.push(&bytes[..n]);
        n
    }

    /// Writes all of `bytes` without copying them if they are many; any number of connections may share one
    /// allocation. All or nothing: `false` if there is no room for them. While nothing else waits in the output there
    /// always is, unless a body's announced length (or, chunked, 1 MiB) says otherwise.
    pub fn write_shared(&mut self, bytes: &Arc<[u8]>) -> bool {
        let alone = self.out.len() <= self.own && self.out.len().saturating_add(bytes.len()) <= self.most;
        let fits = self.room() >= bytes.len() || (alone && self.room() > 0);
        if fits {
            self.out.push_block(&mut Block::Shared(bytes.clone()));
        }
        fits
    }

    /// Half-close: after what was written, the peer sees the end of our side (close_notify over TLS, then FIN); it may
    /// go on sending. From now on there is no room. Of no effect in a streamed body.
    pub fn finish(&mut self) {
        *self.finished = true;
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx({} bytes of {})", self.out.len(), self.limit)
    }
}

/// An answer after which the stream belongs to another protocol (RFC 9110 §7.8).
#[must_use = "return it as an action"]
pub struct Switch {
    pub(crate) response: Response,
    /// The upgrade answers by itself.
    pub(crate) bare: bool,
    pub(crate) upgrade: Box<dyn Upgrade>,
}

impl Switch {
    /// `101 Switching Protocols` to `protocol`.
    ///
    /// The request must have come with HTTP/1.1 and ask for an upgrade
    /// ([`Request::wants_upgrade`](crate::Request::wants_upgrade)); otherwise it is answered with 426, and the upgrade
    /// is dropped uncalled. A body must be whole before the stream can change hands: for a request that has one, return
    /// the switch from [`Upload::end`](crate::Upload::end), or it is answered with 413.
    pub fn to(protocol: &str, upgrade: impl Upgrade + 'static) -> Self {
        Self::with_response(Response::with_any_status(101).header("Upgrade", protocol), upgrade)
    }

    /// `200 OK` to a CONNECT request (RFC 9110 §9.3.6).
    pub fn connect(upgrade: impl Upgrade + 'static) -> Self {
        Self::with_response(Response::new(200), upgrade)
    }

    /// A response of the application's own, 101 or 2xx to CONNECT. Its body is not sent.
    pub fn with_response(response: Response, upgrade: impl Upgrade + 'static) -> Self {
        Self { response, bare: false, upgrade: Box::new(upgrade) }
    }

    /// No answer: whatever the peer is to read, from the first byte behind its request on, is the upgrade's to write.
    ///
    /// This is for protocols that begin with something like a request and go on with something that is no HTTP, as was
    /// done before there was `Upgrade`. It is open to any request, of whose body the same holds as in [`to`](Self::to).
    /// A peer that speaks HTTP is not asked whether it understands: return it only to one that can be nobody else. In
    /// the access log its status is 200.
    pub fn without_response(upgrade: impl Upgrade + 'static) -> Self {
        Self { bare: true, ..Self::with_response(Response::new(200), upgrade) }
    }

    /// Adds a header field to the answer, as [`Response::header`] does.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { response: self.response.header(name, value), ..self }
    }

    /// Adds a header field behind the others, as [`Response::append`] does.
    pub fn append(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { response: self.response.append(name, value), ..self }
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Switch").field(&self.response).finish()
    }
}
