//! Pipes: from one connection's socket into a block, and from the block onto another's, directly.
//!
//! ```text
//!   body of known length, plain ──read──▶ ┌────────┐ ──write, behind what waits in the output──▶ socket
//!   what came with the head, TLS,         │ buffer │                                            plain, TLS, chunked
//!   chunks ──────rx──────copy───────────▶ └────────┘
//!   body of known length, plain ─splice─▶ ═ kernel ═ ─splice, when the output is empty─────────▶ plain, not chunked
//! ```
//!
//! Whoever has work takes the block out of the pipe, makes one system call, and gives it back. Which kind of block it
//! is, the pipe decides (`api/pipe.rs`); what is counted is the same. A buffer that was read into less than it had room
//! for has emptied the socket. Splicing less than was asked for says nothing: there, only a call that moves nothing does.

use std::io::IoSlice;

use super::{
    core::Core,
    dispatch,
    job::{Job, Pace, Reply, Stop, Up},
    ready::Ready,
    slot::Slot,
};
use crate::{
    api::{
        Action,
        block::Block,
        pipe::{Lent, PipeEnd, Splice},
    },
    base::{
        Ended,
        buf::Buf,
        kernel_pipe::{KERNEL_PIPE, KernelPipe},
    },
    conn::{BodyEvent, BodyOut},
    h1::write::{CHUNK_END, chunk_head},
    transport::{self, Got, Spliced},
};

/// System calls for one end of a pipe before its connection looks at whatever else there is. The other end may be at
/// work on another loop meanwhile, and then there is always more to do.
const CALLS: usize = 4;

/// What one look at the sender's side brought.
enum Filled {
    Added,
    /// It can't be spliced.
    Unable,
    NeedMore,
    Whole(Option<Box<crate::h1::Headers>>),
}

impl Job {
    /// Sender's side: the body into the block.
    pub(super) fn fill_pipe(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        let mut worked = false;
        for _ in 0..CALLS {
            let Up::Pipe { upload, pace } = &mut self.up else { return Ok(worked) };
            let Some(inlet) = dispatch::inlet(upload.as_mut())? else { return Err(Ended::Aborted.into()) };
            // Nothing of the body is left: its end needs no room, nor anybody at the other end.
            if slot.conn.is_all_in() {
                let end = slot.conn.poll_body(&mut slot.rx, &core.limits)?;
                debug_assert!(matches!(end, BodyEvent::End(None)));
                self.body_ended(slot, core, None)?;
                return Ok(true);
            }
            if *pace != Pace::Going {
                return Ok(worked);
            }
            // What came with the head goes first, and what has to be looked at can't be spliced.
            let direct = if slot.rx.is_empty() && slot.transport.is_plain() { slot.conn.direct() } else { 0 };
            let mut open = || transport::kernel_pipe(&core.kernel_pipes);
            let splice = (direct > 0).then_some(Splice { left: direct, open: &mut open });
            let mut block = match inlet.lend(splice) {
                Lent::Block(block) => block,
                Lent::NotNow => {
                    *pace = Pace::PushedBack;
                    return Ok(worked);
                }
                Lent::Over(_) => {
                    // The receiver is gone. Its end is reported to the application, whose ticket answers the sender, if
                    // there is one; nothing more is read for nobody.
                    self.up = Up::Idle;
                    match self.reply {
                        Reply::Owed => self.perform(slot, core, Action::Wait)?,
                        _ => self.leave_body(slot, core),
                    }
                    return Ok(true);
                }
            };
            let before = block.len();
            let result = match &mut block {
                Block::Buf(buf) if direct > 0 => read_block(buf, direct, slot, core),
                Block::Buf(buf) => copy_block(buf, slot, core),
                Block::Kernel(pipe) => splice_block(pipe, direct.min(inlet.room()).min(KERNEL_PIPE), slot, core),
            };
            let added = block.len() - before;
            if added > 0 && matches!(block, Block::Kernel(_)) {
                *pace = Pace::Yielding;
            }
            inlet.give_back(block, added);
            slot.note_received(core, added);
            match result? {
                Filled::Added => worked = true,
                Filled::Unable => inlet.splice_no_more(),
                Filled::NeedMore if slot.eof.is_some() => return Err(Ended::PeerLeft.into()),
                Filled::NeedMore => return Ok(worked),
                Filled::Whole(trailers) => {
                    self.body_ended(slot, core, trailers)?;
                    return Ok(true);
                }
            }
        }
        // There may be more. Others have their turn first.
        Ok(true)
    }

    /// Receiver's side: the block onto the socket, behind what waits in the output.
    pub(super) fn drain_pipe(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        let mut worked = false;
        for _ in 0..CALLS {
            let Reply::Pipe { produce, waits, announced } = &mut self.reply else { return Ok(worked) };
            if *waits || !slot.ready.has(Ready::WRITE) {
                return Ok(worked);
            }
            let Some(outlet) = dispatch::outlet(produce.as_mut())? else { return Err(Ended::Aborted.into()) };
            let mut block = match outlet.lend() {
                Lent::Block(block) => block,
                Lent::NotNow => {
                    *waits = true;
                    return Ok(worked);
                }
                Lent::Over(PipeEnd::Clean(trailers)) => {
                    self.end_reply(slot, core, trailers.as_deref())?;
                    return Ok(true);
                }
                Lent::Over(PipeEnd::Cut) => return Err(Ended::Aborted.into()),
            };
            if *announced == 0 {
                *announced = block.len();
                match slot.conn.body_out() {
                    BodyOut::Chunked => {
                        let mut head = [0; 18];
                        let n = chunk_head(block.len(), &mut head);
                        slot.open_out(core);
                        slot.out.push(&head[..n]);
                    }
                    BodyOut::Length(left) => {
                        *announced = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    }
                    BodyOut::UntilClose | BodyOut::Nothing => {}
                }
            }
            let result = match &mut block {
                Block::Buf(buf) => {
                    let result = send_block(&buf.filled()[..*announced], slot, core);
                    buf.consume(*result.as_ref().unwrap_or(&0));
                    result
                }
                Block::Kernel(pipe) => match splice_out(pipe, *announced, slot, core) {
                    Ok(None) => {
                        // What is in it comes in a buffer next time.
                        outlet.set_splices(false);
                        outlet.give_back(block, 0);
                        continue;
                    }
                    Ok(Some(n)) => Ok(n),
                    Err(why) => Err(why),
                },
            };
            let taken = *result.as_ref().unwrap_or(&0);
            outlet.give_back(block, taken);
            result?;
            *announced -= taken;
            self.written += taken as u64;
            worked |= taken > 0;
            if taken == 0 {
                return Ok(worked);
            }
            let chunked = slot.conn.body_out() == BodyOut::Chunked;
            slot.conn.wrote(taken as u64);
            if *announced == 0 && chunked {
                slot.open_out(core);
                slot.out.push(CHUNK_END);
            }
            // A body of known length ends with its last byte, whatever else is in the pipe.
            if slot.conn.body_out() == BodyOut::Nothing {
                self.end_reply(slot, core, None)?;
                return Ok(true);
            }
        }
        Ok(true)
    }
}

/// From the socket, past the input buffer.
fn read_block(buf: &mut Buf, direct: usize, slot: &mut Slot, core: &mut Core) -> Result<Filled, Stop> {
    if !slot.ready.has(Ready::READ) {
        return Ok(Filled::NeedMore);
    }
    let before = buf.len();
    match slot.transport.read(buf, direct, &mut core.pool) {
        Ok(Got::Data { drained }) => {
            if drained && !slot.ready.has(Ready::FIN) {
                slot.ready.clear(Ready::READ);
            }
            let n = buf.len() - before;
            slot.conn.took_directly(n);
            Ok(Filled::Added)
        }
        Ok(Got::Blocked) => Ok(nothing_there(slot, None)),
        Ok(Got::End { clean }) => Ok(nothing_there(slot, Some(clean))),
        Err(fault) => Err(slot.fault(core, fault).into()),
    }
}

/// From the socket, past the process.
fn splice_block(pipe: &mut KernelPipe, most: usize, slot: &mut Slot, core: &mut Core) -> Result<Filled, Stop> {
    if !slot.ready.has(Ready::READ) {
        return Ok(Filled::NeedMore);
    }
    match slot.transport.splice_in(pipe, most) {
        Ok(Spliced::Bytes(n)) => {
            slot.conn.took_directly(n);
            Ok(Filled::Added)
        }
        Ok(Spliced::Blocked) => Ok(nothing_there(slot, None)),
        Ok(Spliced::End) => Ok(nothing_there(slot, Some(true))),
        Ok(Spliced::Unable) => Ok(Filled::Unable),
        Err(fault) => Err(slot.fault(core, fault).into()),
    }
}

/// The socket is empty, for now or for good.
fn nothing_there(slot: &mut Slot, end: Option<bool>) -> Filled {
    slot.ready.clear(Ready::READ);
    slot.eof = end.or(slot.eof);
    Filled::NeedMore
}

/// From what was received already.
fn copy_block(buf: &mut Buf, slot: &mut Slot, core: &mut Core) -> Result<Filled, Stop> {
    match slot.conn.poll_body(&mut slot.rx, &core.limits)? {
        BodyEvent::Data(n) => {
            let took = {
                let spare = buf.spare();
                let took = n.min(spare.len());
                spare[..took].copy_from_slice(&slot.rx.filled()[..took]);
                took
            };
            buf.commit(took);
            slot.conn.took(&mut slot.rx, took);
            if took == 0 { Ok(Filled::NeedMore) } else { Ok(Filled::Added) }
        }
        BodyEvent::NeedMore => Ok(Filled::NeedMore),
        BodyEvent::End(trailers) => Ok(Filled::Whole(trailers)),
    }
}

/// The output first, then the block, with one call; how much of the block went.
fn send_block(bytes: &[u8], slot: &mut Slot, core: &mut Core) -> Result<usize, Stop> {
    let mut pieces = [IoSlice::new(&[]); 8];
    let mut count = slot.out.pieces::<8>(&mut pieces).min(7);
    let queued: usize = pieces[..count].iter().map(|piece| piece.len()).sum();
    let all_queued = queued == slot.out.len();
    if all_queued {
        pieces[count] = IoSlice::new(bytes);
        count += 1;
    }
    let total: usize = pieces[..count].iter().map(|piece| piece.len()).sum();
    let n = match slot.transport.write(&pieces[..count], &mut core.pool) {
        Ok(n) => n,
        Err(fault) => return Err(slot.fault(core, fault).into()),
    };
    if n < total && core.pool.has_refused() {
        core.starved.push(slot.id);
    } else if n < total {
        slot.ready.clear(Ready::WRITE);
    }
    slot.out.consume(n.min(queued));
    slot.note_sent(core, n);
    Ok(n.saturating_sub(queued))
}

/// The block to the socket, once the output is out; how much of it went. `None`: it can't be spliced.
fn splice_out(pipe: &mut KernelPipe, most: usize, slot: &mut Slot, core: &mut Core) -> Result<Option<usize>, Stop> {
    slot.flush(core)?;
    if !slot.out.is_empty() || !slot.ready.has(Ready::WRITE) {
        return Ok(Some(0));
    }
    match slot.transport.splice_out(pipe, most) {
        Ok(Spliced::Bytes(n)) => {
            slot.note_sent(core, n);
            Ok(Some(n))
        }
        Ok(Spliced::Blocked | Spliced::End) => {
            slot.ready.clear(Ready::WRITE);
            Ok(Some(0))
        }
        Ok(Spliced::Unable) => Ok(None),
        Err(fault) => Err(slot.fault(core, fault).into()),
    }
}
