//! One bounded block of bytes between two connections, on any two loops and transports.
//!
//! ```text
//!   sender's loop                                            receiver's loop
//!   socket ──read──▶ PipeIn ──▶ [ one block, `room` bytes ] ──▶ PipeOut ──write──▶ socket
//!                       ▲  on_room ◀────────────┘ └────────────▶ on_data
//! ```
//!
//! The engine reads into the block and writes from it directly. Whoever works on the block has taken it out, so the
//! lock is never held over a system call; who finds it gone is woken when it is back. Bytes are not moved within the
//! block, not even to close the gaps that framing leaves between them ([`Runs`]): it is filled again when it is empty,
//! or while its rear half is free. (Passing through smaller blocks, or through two, was measured at 1.2 to 2.8 times the
//! cost of a bare copy loop.) A block that is empty and stays so has no store: a stream that rests holds no memory. All
//! blocks of the process together have a limit ([`set_pipe_memory_limit`]); beyond it they are small.
//!
//! Where both sockets are plain and no framing has to be put between the bytes, they need not enter the process: the
//! block is a pipe of the system then, spliced into and out of.
//!
//! ```text
//!                      the receiver takes spliced bytes, and much of a body is left on the sender's plain socket
//!   [ buffer ] ── empty ──────────────────────────────────────────────────────────────────────────▶ [ kernel pipe ]
//!              ◀───────────────────────────────────────────────────────────────────────── empty ──
//!                      the sender's bytes have to be looked at, or are written by hand
//! ```
//!
//! That is decided here, in [`PipeIn::lend`], and nowhere else. The writer changes the kind of an empty block only. A
//! reader that can't take spliced bytes, because it works by hand or goes on over TLS, is given what is in a kernel
//! pipe in a buffer: so whatever becomes of the ends, no order of events can lose bytes or show them to the wrong one.
//!
//! While the receiver has nothing else to send, it lends the pipe its socket ([`PipeOut::open_bypass`]): the sender's
//! loop, whichever that is, puts what it has spliced there by itself, and nobody has to be woken for it. For so long, and
//! only for that, somebody is waited for: the socket has a lock of its own, and who takes it back waits for one call.
//!
//! ```text
//!   sender's socket ══▶ [ kernel pipe ] ══▶ receiver's socket, a second descriptor       all on the sender's loop
//!                              └─ socket full, body over, something wrong ─▶ on_data     the receiver takes over
//! ```

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task,
};

use super::{Action, Consumed, Produce, Produced, Tx, Upload, block::Block};
use crate::{
    base::{
        pipe_memory::{self, Share},
        runs::Runs,
    },
    h1::Headers,
    transport::kernel_pipe::KernelPipe,
};

/// Fewer bytes than these, or through a smaller pipe, are copied: the system calls would cost more than the copies.
const WORTH_SPLICING: usize = 64 * 1024;

/// A pipe of `room` bytes. [`PipeIn`] is an [`Upload`] and [`PipeOut`] a [`Produce`]: given to the engine as such, it
/// moves the bytes itself. Either end can also be worked by hand.
///
/// ```
/// let (mut inlet, mut outlet) = uncork::pipe(4096);
/// assert_eq!(inlet.write(b"hello"), 5);
/// inlet.finish(None);
/// assert_eq!(outlet.bytes(), b"hello");
/// outlet.consume(5);
/// assert!(outlet.is_finished());
/// ```
pub fn pipe(room: usize) -> (PipeIn, PipeOut) {
    pipe_with_share(room, Share::default())
}

/// Returns how many bytes the blocks of all pipes of the process hold at this moment. Blocks of up to 16 KiB are not
/// counted.
pub fn pipe_memory() -> usize {
    pipe_memory::PROCESS.held()
}

/// Sets the limit of [`pipe_memory`], for the whole process: a pipe belongs to no server. The default is 256 MiB, which is
/// 1,024 full pipes of the relays.
///
/// Beyond the limit, a pipe gets a block of 16 KiB instead of its full room (32 KiB for a body that comes over TLS or in
/// chunks). Nothing is refused and nothing waits: such pipes move fewer bytes with each system call. Blocks that are
/// larger already stay so until they are empty.
///
/// Without a limit, one client could have a pipe for each of its connections, and fill all of them.
pub fn set_pipe_memory_limit(bytes: usize) {
    pipe_memory::PROCESS.set_limit(bytes);
}

fn pipe_with_share(room: usize, share: Share) -> (PipeIn, PipeOut) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            block: Some(Block::Buf(Runs::with_share(share))),
            splices: false,
            end: None,
            reader_gone: false,
            wants_block: [false; 2],
            wakers: [None, None],
        }),
        bypass: Mutex::default(),
        room: room.clamp(1, 1 << 30),
        moved: PipeCounters(Arc::default()),
    });
    let outlet =
        PipeOut { shared: shared.clone(), held: None, known: 0, splices: false, lends: false, clean_when_cut: false };
    (PipeIn { shared, finished: false, allowed: u64::MAX }, outlet)
}

struct Shared {
    state: Mutex<State>,
    bypass: Mutex<Bypass>,
    room: usize,
    moved: PipeCounters,
}

/// The receiver's socket, while the sender's loop may write to it. Unlike the state, it is locked while that is done: who
/// takes the socket back can be sure that nothing follows, and that all that went before is counted.
#[derive(Default)]
struct Bypass {
    socket: Option<OwnedFd>,
    /// How much may go there.
    left: u64,
    /// Why nothing can.
    fault: Option<io::Error>,
}

struct State {
    /// `None` while one of the ends works on it.
    block: Option<Block>,
    /// The reader takes spliced bytes, and the system has not refused to splice them.
    splices: bool,
    end: Option<PipeEnd>,
    reader_gone: bool,
    /// Who found the block out, full or empty: to be woken (writer, reader).
    wants_block: [bool; 2],
    wakers: [Option<task::Waker>; 2],
}

#[derive(Clone)]
pub(crate) enum PipeEnd {
    /// Everything was put in.
    Clean(Option<Box<Headers>>),
    /// The writer was dropped before it had finished.
    Cut,
}

const WRITER: usize = 0;
const READER: usize = 1;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bypass(&self) -> MutexGuard<'_, Bypass> {
        self.bypass.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes that end, if it waits; without the lock, as the waker may be anybody's.
fn wake(mut state: MutexGuard<'_, State>, who: usize) {
    let waker = if std::mem::take(&mut state.wants_block[who]) { state.wakers[who].clone() } else { None };
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Bytes that have left a pipe, readable from any thread while it moves and afterwards.
#[derive(Clone, Debug, Default)]
pub struct PipeCounters(Arc<[AtomicU64; 2]>);

impl PipeCounters {
    /// Bytes put into the pipe so far.
    pub fn written(&self) -> u64 {
        self.0[WRITER].load(Ordering::Relaxed)
    }

    /// Bytes taken out of the pipe so far.
    pub fn read(&self) -> u64 {
        self.0[READER].load(Ordering::Relaxed)
    }

    fn add(&self, who: usize, n: usize) {
        self.0[who].fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// What an end finds when it wants to work on the block.
pub(crate) enum Lent<B = Block> {
    /// Here it is; give it back.
    Block(B),
    /// Not now: full, empty, or the other end has it. The waker of this end is called when that changes.
    NotNow,
    /// Never again: the other end is gone, or everything was taken out.
    Over(PipeEnd),
}

/// What a writer offers who can splice.
pub(crate) struct Splice<'a> {
    /// Bytes that are still to come, and need not be looked at.
    pub(crate) left: usize,
    /// Makes a kernel pipe, if there may be one more.
    pub(crate) open: &'a mut dyn FnMut() -> Option<KernelPipe>,
}

/// The end that bytes are put into. Dropped before [`finish`](Self::finish), it cuts the pipe off.
pub struct PipeIn {
    shared: Arc<Shared>,
    finished: bool,
    /// How much more the engine may put in.
    allowed: u64,
}

impl PipeIn {
    /// Puts in what there is room for; how many bytes that was. Fewer than all: try again after
    /// [`on_room`](Self::on_room) woke you. 0 for ever, if the other end is gone ([`is_abandoned`](Self::is_closed)).
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        // Until there is nothing left or no room: only a refusal notes that the writer is to be woken, and so it can't
        // miss a reader that makes room meanwhile.
        while written < bytes.len()
            && let Lent::Block(mut block) = self.lend(None)
        {
            let mut n = 0;
            if let Block::Buf(buf) = &mut block {
                let bytes = &bytes[written..];
                buf.see_to_store(bytes.len(), 0, self.shared.room, |size| vec![0; size].into_boxed_slice());
                n = buf.push(bytes);
            }
            self.count(n);
            self.give_back(block);
            written += n;
        }
        written
    }

    /// That was all.
    pub fn finish(mut self, trailers: Option<Headers>) {
        self.end(PipeEnd::Clean(trailers.filter(|t| !t.is_empty()).map(Box::new)));
    }

    /// Whom to wake when there is room: a [`Waker`](crate::Waker), or any other.
    pub fn on_room(&mut self, waker: impl Into<task::Waker>) {
        let waker = Some(waker.into());
        let old = std::mem::replace(&mut self.shared.state().wakers[WRITER], waker);
        // Anybody's as well: not under the lock.
        drop(old);
    }

    /// Of the body of a request, the engine puts in this much at the most. What is beyond that is shown to the upload's
    /// own [`data`](Upload::data), which can [stop](Consumed::Stop) it, with a 413 for instance: for bodies that do not say
    /// how long they are. Whoever works this end by hand is not held to it.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.allowed = bytes;
        self
    }

    /// How much more the engine may put in.
    pub(crate) fn allowed(&self) -> usize {
        usize::try_from(self.allowed).unwrap_or(usize::MAX)
    }

    /// Whether the other end was dropped: nothing that is put in arrives anywhere.
    pub fn is_closed(&self) -> bool {
        self.shared.state().reader_gone
    }

    /// The pipe's counters.
    pub fn counters(&self) -> PipeCounters {
        self.shared.moved.clone()
    }

    fn end(&mut self, end: PipeEnd) {
        if !std::mem::replace(&mut self.finished, true) {
            let mut state = self.shared.state();
            state.end = Some(end);
            state.wants_block[READER] = true;
            wake(state, READER);
        }
    }

    /// Takes the block out to fill it: a buffer, whose store the writer sees to, unless the writer offers to splice.
    ///
    /// This is the one place where it is decided whether bytes pass through the process.
    pub(crate) fn lend(&mut self, splice: Option<Splice<'_>>) -> Lent {
        let mut state = self.shared.state();
        if state.reader_gone {
            return Lent::Over(PipeEnd::Cut);
        }
        let room = self.shared.room;
        let ready = state.block.as_mut().is_some_and(|block| block.is_worth_filling(room));
        let Some(block) = state.block.take_if(|_| ready) else {
            state.wants_block[WRITER] = true;
            return Lent::NotNow;
        };
        let splices = state.splices;
        drop(state);
        Lent::Block(match (block, splice) {
            (Block::Kernel(pipe), Some(_)) if splices => Block::Kernel(pipe),
            (Block::Buf(buf), Some(Splice { left, open }))
                if splices && buf.is_empty() && left.min(room) >= WORTH_SPLICING =>
            {
                open().map_or_else(
                    || {
                        // There are enough of them, or the system refuses: not to be asked again for each block.
                        self.splice_no_more();
                        Block::Buf(buf)
                    },
                    Block::Kernel,
                )
            }
            (Block::Buf(buf), _) => Block::Buf(buf),
            (Block::Kernel(_), _) => Block::Buf(Runs::default()),
        })
    }

    /// Whether there is no room at this moment; then the writer is woken when there is.
    pub(crate) fn is_full(&mut self) -> bool {
        let (mut state, room) = (self.shared.state(), self.shared.room);
        let full = state.block.as_mut().is_none_or(|block| !block.is_worth_filling(room));
        state.wants_block[WRITER] |= full;
        full
    }

    /// The system does not splice these sockets: from here on bytes are copied.
    pub(crate) fn splice_no_more(&mut self) {
        self.shared.state().splices = false;
    }

    /// How much the pipe holds at the most.
    pub(crate) fn room(&self) -> usize {
        self.shared.room
    }

    /// So many bytes were put into the block that is lent: to be counted before anybody can take them out.
    pub(crate) fn count(&mut self, added: usize) {
        self.allowed = self.allowed.saturating_sub(added as u64);
        self.shared.moved.add(WRITER, added);
    }

    /// Sends on what was just spliced into the kernel pipe, if the receiver has lent its socket: as much as `send` can get
    /// rid of. The rest is the receiver's business, and so is an error: the system tells it once, and we are who was told.
    pub(crate) fn pass_on(
        &self,
        pipe: &mut KernelPipe,
        send: impl FnOnce(BorrowedFd<'_>, &mut KernelPipe, usize) -> io::Result<usize>,
    ) {
        let mut bypass = self.shared.bypass();
        let most = pipe.len().min(usize::try_from(bypass.left).unwrap_or(usize::MAX));
        let Some(socket) = bypass.socket.as_ref().filter(|_| most > 0) else { return };
        match send(socket.as_fd(), pipe, most) {
            Ok(n) => {
                bypass.left -= n as u64;
                self.shared.moved.add(READER, n);
            }
            Err(error) => {
                bypass.left = 0;
                bypass.fault = Some(error);
            }
        }
        let over = bypass.left == 0;
        drop(bypass);
        if over {
            let mut state = self.shared.state();
            state.wants_block[READER] = true;
            wake(state, READER);
        }
    }

    /// Gives the block back, with what was [counted](Self::count). If it was spliced, the writer is woken when it is out.
    pub(crate) fn give_back(&mut self, block: Block) {
        let mut state = self.shared.state();
        let news = !block.is_empty();
        state.wants_block[WRITER] |= news && matches!(block, Block::Kernel(_));
        state.block = Some(block);
        if news {
            wake(state, READER);
        }
    }
}

impl Drop for PipeIn {
    fn drop(&mut self) {
        self.end(PipeEnd::Cut);
    }
}

impl Upload for PipeIn {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        Consumed::Partial(self.write(chunk))
    }

    /// Finishes the pipe and waits: a ticket answers.
    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        self.finish(Some(trailers.clone()));
        Action::Suspend
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(self)
    }
}

/// The end that bytes are taken out of. Dropped early, it tells the other end ([`PipeIn::is_closed`]).
///
/// When the pipe was cut off, the receiver's connection is aborted: it must not take a part for the whole.
pub struct PipeOut {
    shared: Arc<Shared>,
    /// The block, while it is looked at by hand.
    held: Option<Runs>,
    /// Bytes of which the engine knows that they are out.
    known: u64,
    /// Who drains it takes spliced bytes.
    splices: bool,
    /// Something was spliced: a socket may be lent.
    lends: bool,
    clean_when_cut: bool,
}

impl PipeOut {
    /// What is there; empty if there is nothing now, or the other end is at work.
    pub fn bytes(&mut self) -> &[u8] {
        self.consume(0);
        if let Lent::Block(buf) = self.lend_buf() {
            self.held = Some(buf);
        }
        self.held.as_ref().map_or(&[], |block| block.filled())
    }

    /// The first `n` of [`bytes`](Self::bytes) are done with.
    pub fn consume(&mut self, n: usize) {
        if let Some(mut block) = self.held.take() {
            let n = n.min(block.len());
            block.consume(n);
            self.give_back(Block::Buf(block), n);
        }
    }

    /// Whom to wake when there is something to take out, or the pipe has ended: a [`Waker`](crate::Waker), or any
    /// other.
    pub fn on_data(&mut self, waker: impl Into<task::Waker>) {
        let waker = Some(waker.into());
        let old = std::mem::replace(&mut self.shared.state().wakers[READER], waker);
        drop(old);
    }

    /// Whether everything was put in and taken out.
    pub fn is_finished(&mut self) -> bool {
        self.consume(0);
        let state = self.shared.state();
        matches!(state.end, Some(PipeEnd::Clean(_))) && state.block.as_ref().is_some_and(Block::is_empty)
    }

    /// The trailers it was finished with, if there are any. Known as soon as it was finished, be everything taken out or
    /// not.
    pub fn trailers(&self) -> Option<Headers> {
        match &self.shared.state().end {
            Some(PipeEnd::Clean(Some(trailers))) => Some(Headers::clone(trailers)),
            _ => None,
        }
    }

    /// Whether the writer was dropped before it had finished.
    pub fn is_truncated(&self) -> bool {
        matches!(self.shared.state().end, Some(PipeEnd::Cut))
    }

    /// Whether nothing more is put in: there may be bytes before that.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.state().end.is_some()
    }

    /// When the pipe is cut off, ends the response in order, as if that had been all. It hides a truncation from the
    /// receiver; only where that is the contract.
    pub fn end_cleanly_if_truncated(mut self) -> Self {
        self.clean_when_cut = true;
        self
    }

    /// The pipe's counters.
    pub fn counters(&self) -> PipeCounters {
        self.shared.moved.clone()
    }

    /// Whether who drains it takes spliced bytes. If not, a socket that was lent comes back.
    pub(crate) fn set_splices(&mut self, yes: bool) {
        if self.lends && !yes {
            self.lends = false;
            *self.shared.bypass() = Bypass::default();
        }
        self.splices = yes;
        self.shared.state().splices = yes;
    }

    /// Lends the pipe a socket that takes spliced bytes, until [`shut_bypass`](Self::shut_bypass): the writer may put the
    /// next `most` of them there by itself, and wakes the reader when these are out or it can't go on. Nothing is lent
    /// before something was spliced: a socket costs a descriptor.
    pub(crate) fn open_bypass(&self, most: u64, socket: impl FnOnce() -> io::Result<OwnedFd>) {
        if !self.lends {
            return;
        }
        let mut bypass = self.shared.bypass();
        if bypass.socket.is_none() {
            // Without a descriptor for it, the reader goes on as before.
            bypass.socket = socket().ok();
        }
        bypass.left = most;
    }

    /// From here on the writer puts nothing on the reader's socket. How much has gone there without the reader, since it
    /// last asked.
    pub(crate) fn shut_bypass(&mut self) -> u64 {
        if !self.lends {
            return 0;
        }
        self.shared.bypass().left = 0;
        let out = self.shared.moved.read();
        out - std::mem::replace(&mut self.known, out)
    }

    /// What the system said to the writer about the reader's socket, if that was an error.
    pub(crate) fn bypass_fault(&self) -> Option<io::Error> {
        if self.lends { self.shared.bypass().fault.take() } else { None }
    }

    /// Takes the block out to empty it: a buffer, unless [`set_splices`](Self::set_splices) allowed for more.
    pub(crate) fn lend(&mut self) -> Lent {
        if self.splices && self.held.is_none() {
            let lent = self.lend_any();
            self.lends |= matches!(lent, Lent::Block(Block::Kernel(_)));
            return lent;
        }
        match self.lend_buf() {
            Lent::Block(buf) => Lent::Block(Block::Buf(buf)),
            Lent::NotNow => Lent::NotNow,
            Lent::Over(end) => Lent::Over(end),
        }
    }

    /// The same, as a buffer in any case.
    pub(crate) fn lend_buf(&mut self) -> Lent<Runs> {
        if let Some(buf) = self.held.take() {
            return Lent::Block(buf);
        }
        match self.lend_any() {
            Lent::Block(Block::Buf(buf)) => Lent::Block(buf),
            Lent::Block(Block::Kernel(pipe)) => match pipe.into_buf() {
                Ok(buf) => Lent::Block(buf),
                Err(_) => {
                    // What was in there is lost: nothing may look like the whole.
                    let mut state = self.shared.state();
                    state.block = Some(Block::Buf(Runs::default()));
                    state.end = Some(PipeEnd::Cut);
                    Lent::Over(PipeEnd::Cut)
                }
            },
            Lent::NotNow => Lent::NotNow,
            Lent::Over(end) => Lent::Over(end),
        }
    }

    fn lend_any(&mut self) -> Lent {
        let mut state = self.shared.state();
        if let Some(block) = state.block.take_if(|block| !block.is_empty()) {
            return Lent::Block(block);
        }
        if state.block.is_some()
            && let Some(end) = &state.end
        {
            return Lent::Over(match end {
                PipeEnd::Cut if self.clean_when_cut => PipeEnd::Clean(None),
                end => end.clone(),
            });
        }
        state.wants_block[READER] = true;
        Lent::NotNow
    }

    /// Gives it back, with `taken` bytes fewer in it.
    pub(crate) fn give_back(&mut self, mut block: Block, taken: usize) {
        self.shared.moved.add(READER, taken);
        self.known += taken as u64;
        if let Block::Buf(buf) = &mut block {
            buf.leave_store();
        }
        let mut state = self.shared.state();
        let room = block.is_worth_filling(self.shared.room);
        state.block = Some(block);
        if room {
            wake(state, WRITER);
        }
    }
}

impl Drop for PipeOut {
    fn drop(&mut self) {
        self.consume(0);
        if self.lends {
            *self.shared.bypass() = Bypass::default();
        }
        let mut state = self.shared.state();
        state.reader_gone = true;
        state.wants_block[WRITER] = true;
        wake(state, WRITER);
    }
}

impl Produce for PipeOut {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        match self.lend_buf() {
            Lent::Block(mut block) => {
                let n = out.write(block.filled());
                block.consume(n);
                self.give_back(Block::Buf(block), n);
                Produced::More
            }
            Lent::NotNow => Produced::Pending,
            Lent::Over(PipeEnd::Clean(None)) => Produced::End,
            Lent::Over(PipeEnd::Clean(Some(trailers))) => Produced::Trailers(*trailers),
            Lent::Over(PipeEnd::Cut) => Produced::Abort,
        }
    }

    fn pipe(&mut self) -> Option<&mut PipeOut> {
        Some(self)
    }
}

impl fmt::Debug for PipeIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeIn({} bytes)", self.shared.moved.written())
    }
}

impl fmt::Debug for PipeOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeOut({} bytes)", self.shared.moved.read())
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
