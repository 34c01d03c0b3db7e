//! The end of a pipe that bytes are taken out of.

use std::{fmt, io, os::fd::OwnedFd, sync::Arc, task};

use super::{
    Block, Lent, PipeCounters, PipeEnd, PipeReader,
    counters::{READER, WRITER},
    shared::{Shared, wake},
};
use crate::{
    api::{Produce, Produced, Tx},
    base::runs::Runs,
    h1::Headers,
};

/// The reading end of a pipe. Dropping it early closes the pipe ([`PipeIn::is_closed`](super::PipeIn::is_closed)).
///
/// If the writer is dropped before it has finished, the response that this end is the body of is aborted, so that a
/// truncated body never looks complete.
pub struct PipeOut {
    shared: Arc<Shared>,
    /// The block, while the application reads it.
    held: Option<Runs>,
    /// Bytes that the engine knows to have left the pipe.
    known: u64,
    /// The reader takes spliced bytes.
    splices: bool,
    /// Bytes were spliced: a socket may be lent.
    lends: bool,
    clean_if_truncated: bool,
}

impl PipeOut {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, held: None, known: 0, splices: false, lends: false, clean_if_truncated: false }
    }

    /// Returns bytes to be read: empty if there are none now, or if the other end works on the block.
    pub fn bytes(&mut self) -> &[u8] {
        self.consume(0);
        if let Lent::Block(buf) = self.lend_buf() {
            self.held = Some(buf);
        }
        self.held.as_ref().map_or(&[], |block| block.filled())
    }

    /// Removes the first `n` of [`bytes`](Self::bytes).
    pub fn consume(&mut self, n: usize) {
        if let Some(mut block) = self.held.take() {
            let n = n.min(block.len());
            block.consume(n);
            self.give_back(Block::Buf(block), n);
        }
    }

    /// Sets the waker that is called when there are bytes, or the stream has ended: a [`Waker`](crate::Waker), or any
    /// other. It replaces the one set before. Its panic is logged and goes no further.
    pub fn on_data(&mut self, waker: impl Into<task::Waker>) {
        self.shared.set_waker(READER, waker.into());
    }

    /// Returns `true` if the writer has finished and all bytes were read.
    pub fn is_finished(&mut self) -> bool {
        self.consume(0);
        let state = self.shared.state();
        matches!(state.end, Some(PipeEnd::Clean(_))) && state.block.as_ref().is_some_and(Block::is_empty)
    }

    /// Returns the trailers of [`PipeIn::finish`](super::PipeIn::finish), if there are any. They are known as soon as
    /// the writer has finished, before all bytes are read.
    pub fn trailers(&self) -> Option<Headers> {
        match &self.shared.state().end {
            Some(PipeEnd::Clean(Some(trailers))) => Some(Headers::clone(trailers)),
            _ => None,
        }
    }

    /// Returns `true` if the writer was dropped before it had finished.
    pub fn is_truncated(&self) -> bool {
        matches!(self.shared.state().end, Some(PipeEnd::Truncated))
    }

    /// Returns `true` if nothing more is put in. There may be bytes left.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.state().end.is_some()
    }

    /// Ends the response normally even if the stream is truncated. This hides the truncation from the client: use it
    /// only where that is the contract.
    pub fn end_cleanly_if_truncated(mut self) -> Self {
        self.clean_if_truncated = true;
        self
    }

    /// Returns the counters of the pipe.
    pub fn counters(&self) -> PipeCounters {
        self.shared.counters.clone()
    }

    /// Converts it into a reader that blocks until there are bytes, for code that needs [`Read`](std::io::Read):
    /// [`io::copy`](std::io::copy), `serde_json::from_reader`, decompressors.
    ///
    /// Not for the thread of a loop, in any mode: while a thread blocks, its loop receives nothing. So a handler that
    /// reads a body this way starts a thread, also with
    /// [`thread_per_connection`](crate::Server::thread_per_connection). The client is under back-pressure while the
    /// thread does not read. The thread does not wait forever: when the connection ends or exceeds a limit, reading
    /// fails with [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof). Do not respond then: the client has
    /// disconnected, or the engine sends the response for its error, such as a 413. Each read takes a lock, so put a
    /// [`BufReader`](std::io::BufReader) around it if the reads are small.
    ///
    /// ```
    /// use std::{fs::File, io, thread};
    /// use uncork::{Action, Request, Response};
    ///
    /// let save = |req: &mut Request<'_>| {
    ///     let (inlet, outlet) = uncork::pipe(256 * 1024);
    ///     let ticket = req.ticket();
    ///     let save = move || {
    ///         let saved = File::create("upload").and_then(|mut file| io::copy(&mut outlet.reader(), &mut file));
    ///         let response = match saved {
    ///             Ok(bytes) => Response::text(format!("{bytes} bytes\n")),
    ///             Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
    ///             Err(error) => Response::text(format!("{error}\n")).with_status(500),
    ///         };
    ///         let _ = ticket.respond(response); // an error: the client has disconnected
    ///     };
    ///     match thread::Builder::new().spawn(save) {
    ///         Ok(_) => Action::Receive(Box::new(inlet)),
    ///         Err(_) => Response::new(503).into(),
    ///     }
    /// };
    /// # fn check(_: impl uncork::Handler) {}
    /// # check(save);
    /// ```
    pub fn reader(self) -> PipeReader {
        PipeReader::new(self)
    }

    /// Sets whether the reader takes spliced bytes. If not, a lent socket is taken back.
    pub(crate) fn set_splices(&mut self, yes: bool) {
        if self.lends && !yes {
            self.lends = false;
            self.shared.bypass.close();
        }
        self.splices = yes;
        self.shared.state().splices = yes;
    }

    /// Lends the pipe a socket that takes spliced bytes, until [`shut_bypass`](Self::shut_bypass). The writer may send
    /// the next `max` bytes there itself; it wakes the reader when they are sent or when it cannot continue. Nothing is
    /// lent before bytes were spliced: a socket costs a descriptor.
    pub(crate) fn open_bypass(&self, max: u64, socket: impl FnOnce() -> io::Result<OwnedFd>) {
        if self.lends {
            self.shared.bypass.open(max, socket);
        }
    }

    /// Ends the loan: from now on the writer sends nothing on the reader's socket. Returns how many bytes it has sent
    /// there since the last call.
    pub(crate) fn shut_bypass(&mut self) -> u64 {
        if !self.lends {
            return 0;
        }
        self.shared.bypass.shut();
        let out = self.shared.counters.read();
        out - std::mem::replace(&mut self.known, out)
    }

    /// Returns the error that the writer got on the reader's socket, if there was one.
    pub(crate) fn bypass_fault(&self) -> Option<io::Error> {
        if self.lends { self.shared.bypass.take_fault() } else { None }
    }

    /// Takes the block out to empty it: a buffer, unless [`set_splices`](Self::set_splices) allows a kernel pipe.
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

    /// Like [`lend`](Self::lend), but always as a buffer.
    pub(crate) fn lend_buf(&mut self) -> Lent<Runs> {
        if let Some(buf) = self.held.take() {
            return Lent::Block(buf);
        }
        match self.lend_any() {
            Lent::Block(Block::Buf(buf)) => Lent::Block(buf),
            Lent::Block(Block::Kernel(pipe)) => match pipe.into_buf() {
                Ok(buf) => Lent::Block(buf),
                Err(_) => {
                    // Its bytes are lost: the stream must not look complete.
                    let mut state = self.shared.state();
                    state.block = Some(Block::Buf(Runs::default()));
                    state.end = Some(PipeEnd::Truncated);
                    Lent::Over(PipeEnd::Truncated)
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
                PipeEnd::Truncated if self.clean_if_truncated => PipeEnd::Clean(None),
                end => end.clone(),
            });
        }
        state.wants_block[READER] = true;
        Lent::NotNow
    }

    /// Gives the block back, with `taken` bytes fewer in it.
    pub(crate) fn give_back(&mut self, mut block: Block, taken: usize) {
        self.shared.counters.add(READER, taken);
        self.known += taken as u64;
        if let Block::Buf(buf) = &mut block {
            buf.leave_store();
        }
        let mut state = self.shared.state();
        let has_room = block.is_worth_filling(self.shared.room);
        state.block = Some(block);
        if has_room {
            wake(state, WRITER);
        }
    }
}

impl Drop for PipeOut {
    fn drop(&mut self) {
        self.consume(0);
        if self.lends {
            self.shared.bypass.close();
        }
        let mut state = self.shared.state();
        state.reader_dropped = true;
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
            Lent::Over(PipeEnd::Truncated) => Produced::Abort,
        }
    }

    fn pipe(&mut self) -> Option<&mut PipeOut> {
        Some(self)
    }
}

impl fmt::Debug for PipeOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeOut({} bytes)", self.shared.counters.read())
    }
}
