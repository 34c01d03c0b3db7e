//! The sender's side of a pipe: from the socket into the block.

use super::CALLS;
use crate::{
    api::{
        Action, PipeIn,
        pipe::{Block, Lent, Splice},
    },
    base::{EndReason, pool::LENT, runs::Runs},
    conn::BodyEvent,
    engine::{
        conn_io::ConnIo,
        core::Core,
        dispatch,
        job::{Job, JobExit, PipeProgress, RequestBody, ResponseBody},
        ready::Ready,
    },
    transport::{
        self, Got, Spliced,
        kernel_pipe::{KERNEL_PIPE, KernelPipe},
    },
};

/// The most that a TLS read may bring beyond the requested size.
const RECORD: usize = 16 * 1024;

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
    pub(in crate::engine) fn fill_pipe(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let mut worked = false;
        for _ in 0..CALLS {
            let RequestBody::Pipe { upload, progress, reads, coalescing } = &mut self.request_body else {
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
            if *progress != PipeProgress::Going {
                return Ok(worked);
            }
            let allowed = inlet.allowed();
            if allowed == 0 {
                // The pipe's limit is reached. The upload decides about further bytes.
                if let RequestBody::Pipe { upload, .. } =
                    std::mem::replace(&mut self.request_body, RequestBody::NotRequested)
                {
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
                    *progress = PipeProgress::PushedBack;
                    return Ok(worked);
                }
                Lent::Over(_) => {
                    // The receiver has disconnected. The application learns of that end; its ticket, if there is one,
                    // responds to the sender. No more is read.
                    self.request_body = RequestBody::NotRequested;
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
                *progress = PipeProgress::Yielding;
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
                // The next splice must wait until the kernel pipe is empty, except at the end of the body.
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
            if drained && !io.ready.contains(Ready::READ_CLOSED) {
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
