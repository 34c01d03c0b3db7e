//! The receiver's side of a pipe: from the block to the socket, behind the output.

use std::io::IoSlice;

use super::CALLS;
use crate::{
    api::pipe::{Block, Lent, PipeEnd},
    base::{EndReason, runs::Runs},
    conn::BodyOut,
    engine::{
        conn_io::ConnIo,
        core::Core,
        dispatch,
        job::{Job, JobExit, ResponseBody},
        ready::Ready,
    },
    h1::write::{CHUNK_END, chunk_head},
    transport::{Spliced, kernel_pipe::KernelPipe},
};

/// Pieces of a block that one call writes.
const PIECES: usize = 64;
/// Pieces of the output that go with them.
const QUEUED: usize = 8;

impl Job {
    /// Moves the block to the socket, behind the output: the receiver's side. Returns `true` if there may be more to
    /// do; `false` if the pipe is empty or the socket is full: both cause an event.
    pub(in crate::engine) fn drain_pipe(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
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

    /// Counts what the sender's loop has written to this socket, and stops it from writing until the receiver waits
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
    pub(in crate::engine) fn is_out_by_now(&mut self, io: &mut ConnIo, core: &mut Core) -> bool {
        let whole = matches!(self.note_bypassed(io, core), Ok(true));
        self.take_socket_back();
        whole && self.end_response_body(io, core, None).is_ok() && self.is_complete(io, core)
    }

    /// Takes the socket back: from now on only this loop writes to it, whatever becomes of the pipe.
    pub(in crate::engine) fn take_socket_back(&mut self) {
        if let ResponseBody::Pipe { produce, .. } = &mut self.response_body
            && let Ok(Some(outlet)) = dispatch::outlet(produce.as_mut())
        {
            outlet.set_splices(false);
        }
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
