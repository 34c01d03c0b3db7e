//! Pipes: from one connection's socket into a block, and from the block directly to another socket.
//!
//! ```text
//!   body of known length, plain ──read───▶ ┌────────┐ ──write, after what waits in the output───▶ socket
//!   chunks, TLS, what came with            │ buffer │                                            plain, TLS, chunked
//!   the head ──read, sorted out in there─▶ └────────┘
//!   body of known length, plain ──splice─▶ ═ kernel ═ ──splice, when the output is empty────────▶ plain, not chunked
//!                                              └────────splice, by the sender, while the receiver waits──────▲
//! ```
//!
//! The end that has work takes the block out of the pipe, makes one system call, and returns the block. The pipe knows
//! which kind of block it is and whose socket is lent (`api/pipe`); the counters are the same. A read that did not fill
//! the buffer has emptied the socket. A splice that moved less than requested may have more: it is tried again.
//!
//! Bytes are read into the block with their framing, which is then marked where it lies. Bytes of the next request
//! return to the input. Only into a small pipe, or when much has arrived with the head, bytes are copied from the
//! input.

use std::io::IoSlice;

use super::{
    conn_io::ConnIo,
    core::Core,
    dispatch,
    job::{Job, JobExit, PipeProgress, RequestBody, ResponseBody},
    ready::Ready,
};
use crate::{
    api::{
        Action, PipeIn,
        pipe::{Block, Lent, PipeEnd, Splice},
    },
    base::{EndReason, pool::LENT, runs::Runs},
    conn::{BodyEvent, BodyOut},
    h1::write::{CHUNK_END, chunk_head},
    transport::{
        self, Got, Spliced,
        kernel_pipe::{KERNEL_PIPE, KernelPipe},
    },
};

/// System calls for one end of a pipe before its connection does anything else. The other end may work on another loop
/// at the same time, and then there is always more to do.
const CALLS: usize = 4;
/// From this size on, a pipe takes framing together with the bytes: there is always space for a line or a TLS record.
pub(super) const ROOMY: usize = 64 * 1024;
/// The most that a TLS read may bring beyond the requested size.
const RECORD: usize = 16 * 1024;
/// Pieces of a block that one call writes.
const PIECES: usize = 64;
/// Pieces of the output that go with them.
const QUEUED: usize = 8;

/// The result of one read on the sender's side.
enum Filled {
    /// Some bytes were read, of the body or of its framing.
    Added,
    /// The socket cannot be spliced.
    Unable,
    NeedMore,
    Whole(Option<Box<crate::h1::Headers>>),
}

impl Job {
    /// Moves the body into the block: the sender's side.
    pub(super) fn fill_pipe(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let mut worked = false;
        for _ in 0..CALLS {
            let RequestBody::Pipe { upload, pace, reads, coalescing } = &mut self.request_body else {
                return Ok(worked);
            };
            let Some(inlet) = dispatch::inlet(upload.as_mut())? else { return Err(EndReason::Aborted.into()) };
            // The body is complete: its end needs neither free space nor a receiver.
            if io.conn.is_all_in() {
                let end = io.conn.poll_body(&mut io.rx, &core.limits)?;
                debug_assert!(matches!(end, BodyEvent::End(None)));
                self.body_ended(io, core, None)?;
                return Ok(true);
            }
            if *pace != PipeProgress::Going {
                return Ok(worked);
            }
            let allowed = inlet.allowed();
            if allowed == 0 {
                // The pipe's limit is reached. The upload decides about further bytes.
                if let RequestBody::Pipe { upload, .. } = std::mem::replace(&mut self.request_body, RequestBody::Idle) {
                    self.request_body = RequestBody::Upload { upload, pushed_back: false };
                }
                return Ok(true);
            }
            let reads = *reads;
            // Bytes that arrived with the head go first. Bytes that must be parsed cannot be spliced.
            let direct = if io.rx.is_empty() && io.transport.is_plain() { io.conn.direct() } else { 0 };
            let direct = direct.min(allowed);
            let mut open = || transport::kernel_pipe(&core.kernel_pipes);
            let splice = (direct > 0).then_some(Splice { left: direct, open: &mut open });
            let mut block = match inlet.lend(splice) {
                Lent::Block(Block::Buf(mut buf)) => {
                    // The received bytes must fit in, and one TLS record. If memory is short, the block has space for
                    // no more than that.
                    let least = if reads && direct == 0 { io.rx.len() + RECORD } else { 0 };
                    buf.make_room_for(inlet.room(), least, inlet.room(), |size| core.pool.block(size));
                    if buf.spare().is_empty() {
                        // It cannot grow. It is lent again after it was emptied.
                        inlet.give_back(Block::Buf(buf));
                        continue;
                    }
                    Block::Buf(buf)
                }
                Lent::Block(block) => block,
                Lent::NotNow => {
                    *pace = PipeProgress::PushedBack;
                    return Ok(worked);
                }
                Lent::Over(_) => {
                    // The receiver has disconnected. The application learns of that end; its ticket, if there is one,
                    // responds to the sender. No more is read.
                    self.request_body = RequestBody::Idle;
                    match self.response_body {
                        ResponseBody::Owed => self.perform(io, core, Action::Suspend)?,
                        _ => self.skip_body(io, core),
                    }
                    return Ok(true);
                }
            };
            let before = block.len();
            let (added, result) = match &mut block {
                Block::Kernel(pipe) => splice_blocks(pipe, direct, inlet, io, core),
                Block::Buf(buf) => {
                    let result = if direct > 0 {
                        read_block(buf, direct, io, core)
                    } else if reads && io.rx.len() <= buf.spare().len() {
                        sort_block(buf, allowed, io, core)
                    } else {
                        copy_block(buf, allowed, io, core)
                    };
                    inlet.count(buf.len() - before);
                    (buf.len() - before, result)
                }
            };
            // A kernel pipe takes more only when it is empty: wait for that.
            let spliced = matches!(block, Block::Kernel(_));
            let waits = spliced && !block.is_empty();
            if waits {
                *pace = PipeProgress::Yielding;
            }
            if let Block::Buf(buf) = &mut block
                && buf.is_empty()
            {
                // Nothing arrived: a pipe that waits for long must not hold memory.
                core.pool.take_back_block(buf.take_store());
            }
            inlet.give_back(block);
            if direct > 0 && io.transport.has_low_water() {
                coalescing.note(core.tick, added);
            }
            io.note_received(core, added, self.body_timeout);
            match result? {
                // The pump must wait until it is out, except at the body's end.
                Filled::Added if spliced => return Ok(!waits || io.conn.is_all_in()),
                Filled::Added => worked = true,
                Filled::Unable => inlet.splice_no_more(),
                Filled::NeedMore if io.eof.is_some() => return Err(EndReason::PeerClosed.into()),
                Filled::NeedMore => return Ok(worked),
                Filled::Whole(trailers) => {
                    self.body_ended(io, core, trailers)?;
                    return Ok(true);
                }
            }
        }
        // There may be more. Other connections have their turn first.
        Ok(true)
    }

    /// Moves the block to the socket, behind the output: the receiver's side. Returns `true` if there may be more to
    /// do: not if the pipe is empty or the socket full, which both report when that changes.
    pub(super) fn drain_pipe(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        for _ in 0..CALLS {
            if self.note_bypassed(io, core)? {
                self.end_response_body(io, core, None)?;
                return Ok(true);
            }
            let ResponseBody::Pipe { produce, waits, announced } = &mut self.response_body else { return Ok(false) };
            if *waits || !io.ready.contains(Ready::WRITE) {
                return Ok(false);
            }
            let Some(outlet) = dispatch::outlet(produce.as_mut())? else { return Err(EndReason::Aborted.into()) };
            let mut block = match outlet.lend() {
                Lent::Block(block) => block,
                Lent::NotNow => {
                    *waits = true;
                    if io.out.is_empty() {
                        let most = match io.conn.body_out() {
                            BodyOut::Length(left) => left,
                            BodyOut::UntilClose => u64::MAX,
                            BodyOut::Chunked | BodyOut::Nothing => 0,
                        };
                        outlet.open_bypass(most, || io.transport.lend());
                    }
                    self.note_mark(io);
                    return Ok(false);
                }
                Lent::Over(PipeEnd::Clean(trailers)) => {
                    self.end_response_body(io, core, trailers.as_deref())?;
                    return Ok(true);
                }
                Lent::Over(PipeEnd::Truncated) => return Err(EndReason::Aborted.into()),
            };
            let mut chunk_end: &[u8] = &[];
            if io.conn.body_out() == BodyOut::Chunked {
                chunk_end = CHUNK_END;
                if *announced == 0 {
                    let mut head = [0; 18];
                    let n = chunk_head(block.len(), &mut head);
                    io.open_out(core);
                    io.out.push(&head[..n]);
                }
            }
            if *announced == 0 {
                *announced = match io.conn.body_out() {
                    BodyOut::Length(left) => block.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
                    BodyOut::Chunked | BodyOut::UntilClose | BodyOut::Nothing => block.len(),
                };
            }
            let result = match &mut block {
                Block::Buf(buf) => {
                    let result = send_block(buf, *announced, chunk_end, io, core);
                    buf.consume(*result.as_ref().unwrap_or(&0));
                    result
                }
                Block::Kernel(pipe) => match splice_out(pipe, *announced, io, core) {
                    Ok(None) => {
                        // Next time its bytes come in a buffer.
                        outlet.set_splices(false);
                        outlet.give_back(block, 0);
                        continue;
                    }
                    Ok(Some(n)) => Ok(n),
                    Err(reason) => Err(reason),
                },
            };
            let taken = *result.as_ref().unwrap_or(&0);
            outlet.give_back(block, taken);
            result?;
            *announced -= taken;
            self.written += taken as u64;
            if taken == 0 {
                return Ok(false);
            }
            io.conn.wrote(taken as u64);
            // A body of known length ends with its last byte, whatever else is in the pipe.
            if io.conn.body_out() == BodyOut::Nothing {
                self.end_response_body(io, core, None)?;
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Counts what the sender's loop has written to our socket, and stops it from writing until the receiver waits
    /// again. Returns `true` if that was the last of the body.
    fn note_bypassed(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let ResponseBody::Pipe { produce, .. } = &mut self.response_body else { return Ok(false) };
        let Some(outlet) = dispatch::outlet(produce.as_mut())? else { return Err(EndReason::Aborted.into()) };
        let passed = outlet.shut_bypass();
        let fault = outlet.bypass_fault();
        self.written += passed;
        io.sent += passed;
        io.conn.wrote(passed);
        if let Some(error) = fault {
            return Err(io.fault(core, error.into()).into());
        }
        Ok(passed > 0 && io.conn.body_out() == BodyOut::Nothing)
    }

    /// Returns `true` if the response of a connection that has ended is complete, by what the sender's loop has
    /// written.
    pub(super) fn is_out_by_now(&mut self, io: &mut ConnIo, core: &mut Core) -> bool {
        let whole = matches!(self.note_bypassed(io, core), Ok(true));
        self.take_socket_back();
        whole && self.end_response_body(io, core, None).is_ok() && self.is_complete(io, core)
    }

    /// Takes the socket back: from now on only this loop writes to it, whatever becomes of the pipe.
    pub(super) fn take_socket_back(&mut self) {
        if let ResponseBody::Pipe { produce, .. } = &mut self.response_body
            && let Ok(Some(outlet)) = dispatch::outlet(produce.as_mut())
        {
            outlet.set_splices(false);
        }
    }
}

/// Reads from the socket, past the input buffer: data only.
fn read_block(block: &mut Runs, direct: usize, io: &mut ConnIo, core: &mut Core) -> Result<Filled, JobExit> {
    let filled = read_raw(block, direct, io, core)?;
    let n = block.raw().len();
    block.is_data(n);
    io.conn.took_directly(n);
    Ok(filled)
}

/// Reads after the block's bytes, with one system call. Returns `Added` if that brought anything.
fn read_raw(block: &mut Runs, most: usize, io: &mut ConnIo, core: &mut Core) -> Result<Filled, JobExit> {
    if !io.ready.contains(Ready::READ) || io.eof.is_some() {
        return Ok(Filled::NeedMore);
    }
    let got = block.read_raw(|buf| io.transport.read(buf, most, &mut core.pool));
    match got {
        Ok(Got::Data { drained }) => {
            if drained && !io.ready.contains(Ready::FIN) {
                io.ready.remove(Ready::READ);
            }
            Ok(Filled::Added)
        }
        Ok(Got::Starved) => {
            core.starved.push(io.id);
            Ok(Filled::NeedMore)
        }
        Ok(Got::Blocked) => Ok(nothing_there(io, None)),
        Ok(Got::End { clean }) => Ok(nothing_there(io, Some(clean))),
        Err(fault) => Err(io.fault(core, fault).into()),
    }
}

/// Reads into the block what has arrived and what the socket has, then marks data and framing. The input must fit in.
fn sort_block(block: &mut Runs, most: usize, io: &mut ConnIo, core: &mut Core) -> Result<Filled, JobExit> {
    block.read_raw(|buf| buf.push(io.rx.filled()));
    io.rx.consume(io.rx.len());
    let mut filled = sort_out(block, most, io, core);
    if let Ok(Filled::NeedMore) = filled {
        // In a small block there may be space for one record only: that arrives if no size is requested.
        let beyond = if io.transport.has_records() { RECORD } else { 0 };
        let spare = block.spare().len().saturating_sub(beyond);
        filled = match read_raw(block, spare, io, core) {
            Ok(Filled::Added) => sort_out(block, most, io, core).map(|filled| match filled {
                // More may follow.
                Filled::NeedMore => Filled::Added,
                filled => filled,
            }),
            other => other,
        };
    }
    block.take_raw(|rest| {
        // Usually this is an incomplete line, which takes no buffer of the loop.
        if rest.len() > LENT / 4 {
            core.pool.lend(&mut io.rx);
        }
        io.rx.reserve(rest.len());
        io.rx.push(rest);
    });
    filled
}

/// Marks raw bytes as data or framing, but takes at most `most` bytes of data. Bytes left raw are incomplete, or do not
/// belong to the body.
fn sort_out(block: &mut Runs, most: usize, io: &mut ConnIo, core: &mut Core) -> Result<Filled, JobExit> {
    let mut taken = 0;
    while taken < most && !(taken > 0 && block.raw().is_empty()) {
        let (framing, event) = io.conn.look_at_body(block.raw(), &core.limits)?;
        block.is_framing(framing);
        match event {
            BodyEvent::Data(n) => {
                let n = n.min(most - taken);
                block.is_data(n);
                io.conn.took_directly(n);
                taken += n;
            }
            BodyEvent::NeedMore if taken == 0 => return Ok(Filled::NeedMore),
            BodyEvent::NeedMore => break,
            BodyEvent::End(trailers) => return Ok(Filled::Whole(trailers)),
        }
    }
    Ok(Filled::Added)
}

/// Splices from the socket, and on to the receiver's socket as long as that takes everything. Returns the number of
/// bytes that arrived, and the result of the last splice.
fn splice_blocks(
    pipe: &mut KernelPipe,
    direct: usize,
    inlet: &mut PipeIn,
    io: &mut ConnIo,
    core: &mut Core,
) -> (usize, Result<Filled, JobExit>) {
    let mut came = 0;
    for _ in 0..CALLS {
        let most = (direct - came).min(inlet.room()).min(KERNEL_PIPE);
        if most == 0 {
            break;
        }
        match splice_block(pipe, most, io, core) {
            Ok(Filled::Added) => {}
            other => return (came, other),
        }
        came += pipe.len();
        inlet.count(pipe.len());
        inlet.pass_on(pipe, transport::pass_on);
        if !pipe.is_empty() {
            break;
        }
    }
    (came, Ok(Filled::Added))
}

/// Splices once from the socket.
fn splice_block(pipe: &mut KernelPipe, most: usize, io: &mut ConnIo, core: &mut Core) -> Result<Filled, JobExit> {
    if !io.ready.contains(Ready::READ) {
        return Ok(Filled::NeedMore);
    }
    match io.transport.splice_in(pipe, most) {
        Ok(Spliced::Bytes(n)) => {
            io.conn.took_directly(n);
            Ok(Filled::Added)
        }
        Ok(Spliced::Blocked) => Ok(nothing_there(io, None)),
        Ok(Spliced::End) => Ok(nothing_there(io, Some(true))),
        Ok(Spliced::Unable) => Ok(Filled::Unable),
        Err(fault) => Err(io.fault(core, fault).into()),
    }
}

/// Records that the socket is empty, for now or for good.
fn nothing_there(io: &mut ConnIo, end: Option<bool>) -> Filled {
    io.ready.remove(Ready::READ);
    io.eof = end.or(io.eof);
    Filled::NeedMore
}

/// Copies from the input.
fn copy_block(block: &mut Runs, most: usize, io: &mut ConnIo, core: &mut Core) -> Result<Filled, JobExit> {
    match io.conn.poll_body(&mut io.rx, &core.limits)? {
        BodyEvent::Data(n) => {
            let took = block.push(&io.rx.filled()[..n.min(most)]);
            io.conn.took(&mut io.rx, took);
            if took == 0 { Ok(Filled::NeedMore) } else { Ok(Filled::Added) }
        }
        BodyEvent::NeedMore => Ok(Filled::NeedMore),
        BodyEvent::End(trailers) => Ok(Filled::Whole(trailers)),
    }
}

/// Writes with one call: the output, then the first `most` bytes of the block, then `tail` if those are all of them.
/// Returns how many bytes of the block were written.
fn send_block(block: &Runs, most: usize, tail: &[u8], io: &mut ConnIo, core: &mut Core) -> Result<usize, JobExit> {
    let mut pieces = [IoSlice::new(&[]); QUEUED + PIECES + 1];
    let mut count = pieces.first_chunk_mut::<QUEUED>().map_or(0, |first| io.out.pieces(first));
    let len = |pieces: &[IoSlice<'_>]| pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let queued = len(&pieces[..count]);
    let mut of_block = 0;
    if queued == io.out.len() {
        let from = count;
        count += block.pieces(most, &mut pieces[from..from + PIECES]);
        of_block = len(&pieces[from..count]);
        if of_block == most && !tail.is_empty() {
            pieces[count] = IoSlice::new(tail);
            count += 1;
        }
    }
    let total = len(&pieces[..count]);
    let n = match io.transport.write(&pieces[..count], &mut core.pool) {
        Ok(n) => n,
        Err(fault) => return Err(io.fault(core, fault).into()),
    };
    if n < total && io.transport.lacks_buffer(&core.pool) {
        core.starved.push(io.id);
    } else if n < total {
        io.ready.remove(Ready::WRITE);
    }
    io.out.consume(n.min(queued));
    io.note_sent(core, n);
    let taken = n.saturating_sub(queued).min(of_block);
    if taken == most {
        let of_tail = n - queued - taken;
        if of_tail < tail.len() {
            io.open_out(core);
            io.out.push(&tail[of_tail..]);
        }
    }
    Ok(taken)
}

/// Splices the block to the socket once the output is out. Returns the number of bytes; `None` if the socket cannot be
/// spliced.
fn splice_out(pipe: &mut KernelPipe, most: usize, io: &mut ConnIo, core: &mut Core) -> Result<Option<usize>, JobExit> {
    io.flush(core)?;
    if !io.out.is_empty() || !io.ready.contains(Ready::WRITE) {
        return Ok(Some(0));
    }
    match io.transport.splice_out(pipe, most) {
        Ok(Spliced::Bytes(n)) => {
            io.note_sent(core, n);
            Ok(Some(n))
        }
        Ok(Spliced::Blocked | Spliced::End) => {
            io.ready.remove(Ready::WRITE);
            Ok(Some(0))
        }
        Ok(Spliced::Unable) => Ok(None),
        Err(fault) => Err(io.fault(core, fault).into()),
    }
}
