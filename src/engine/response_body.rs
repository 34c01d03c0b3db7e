//! A request's response: begun by `respond`, then made by a producer, drained from a pipe (`pump`), or read from a
//! file.

use std::{os::unix::fs::FileExt, time::Duration};

use log::error;

use super::{
    conn_io::ConnIo,
    core::Core,
    dispatch,
    job::{Job, JobExit, PANICKED, ResponseBody},
    ready::Ready,
};
use crate::{
    api::{PipeOut, Produced, Response, Tx, response::Kind},
    base::{EndReason, time::Tick},
    conn::BodyOut,
    h1::Headers,
};

impl Job {
    /// Begins the response.
    pub(super) fn respond(&mut self, io: &mut ConnIo, core: &mut Core, response: Response) {
        let mut response = io.checked(response);
        if matches!(self.response_body, ResponseBody::Switch(_)) {
            dispatch::discard(std::mem::replace(&mut self.response_body, ResponseBody::Owed));
        }
        let mut piped = false;
        if let Kind::Stream(produce) = &mut response.body.0 {
            match dispatch::outlet(produce.as_mut()) {
                Ok(None) => {}
                Ok(Some(outlet)) => {
                    PipeOut::on_data(outlet, self.waker(io, core));
                    piped = true;
                }
                Err(_) => dispatch::discard(std::mem::replace(&mut response, ConnIo::mistake(PANICKED).close())),
            }
        }
        self.allow_half_close = response.allow_half_close;
        if let Some(ticket) = &self.hooks.ticket {
            ticket.claim();
            self.allow_half_close |= ticket.allows_half_close();
        }
        self.fallback = None;
        self.status = response.status;
        if response.close {
            self.close_after = true;
            io.conn.forbid_keep_alive();
        }
        self.skip_body(io, core);
        self.ack_check = response.wait_for_ack.then_some((Tick::NEVER, Duration::from_millis(1)));
        let out = io.write_head(core, &response, &[]);
        let body = std::mem::take(&mut response.body).0;
        if out == BodyOut::Nothing {
            dispatch::discard(body);
            self.response_body = ResponseBody::Sent;
            return;
        }
        self.response_body = match body {
            Kind::Empty => ResponseBody::Sent,
            Kind::Bytes(mut block) => {
                self.written += block.bytes().len() as u64;
                io.conn.wrote(block.bytes().len() as u64);
                io.out.push_block(&mut block);
                ResponseBody::Sent
            }
            Kind::File(file, range) => ResponseBody::File { file, at: range.start },
            Kind::Stream(mut produce) if piped => {
                // Between the bytes of a chunked body there would have to be framing.
                let splices = io.transport.is_plain() && out != BodyOut::Chunked;
                // If it is no longer a pipe, or panics, draining detects that.
                if let Ok(Some(outlet)) = dispatch::outlet(produce.as_mut()) {
                    outlet.set_splices(splices);
                }
                ResponseBody::Pipe { produce, waits: false, announced: 0 }
            }
            Kind::Stream(produce) => ResponseBody::Stream { produce, waits: false },
        };
    }

    /// Records a (wire offset, body offset) mark when the output is empty. Skipped on plain, unchunked connections,
    /// where the two are equal.
    pub(super) fn note_mark(&mut self, io: &ConnIo) {
        if self.written == 0 || !io.out.is_empty() || self.hooks.on_end.is_empty() {
            return;
        }
        let bare = io.transport.is_plain() && io.conn.body_out() != BodyOut::Chunked;
        if !bare || !self.marks.is_empty() {
            self.marks.note(io.transport.on_wire(io.sent), self.written);
        }
    }

    /// Advances the response. Returns `true` if anything changed.
    pub(super) fn drive_response_body(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        self.note_mark(io);
        match &mut self.response_body {
            ResponseBody::Owed | ResponseBody::Switch(_) | ResponseBody::Sent => Ok(false),
            ResponseBody::Stream { .. } => self.drive_stream(io, core),
            ResponseBody::Pipe { .. } => self.drain_pipe(io, core),
            ResponseBody::File { .. } => self.drive_file(io, core),
        }
    }

    fn drive_stream(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        // The size of a chunk is patched in when it is known; five digits hold what one call may write.
        const SIZE: &[u8] = b"00000\r\n";
        let room = core.limits.output / 2;
        let mut worked = false;
        loop {
            let ResponseBody::Stream { produce, waits } = &mut self.response_body else { return Ok(worked) };
            if *waits || io.out.len() > room {
                return Ok(worked);
            }
            io.open_out(core);
            let framing = io.conn.body_out();
            let at = io.out.buf.len();
            if framing == BodyOut::Chunked {
                io.out.push(SIZE);
            }
            let most = match framing {
                BodyOut::Chunked => 0xf_ffff,
                BodyOut::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
                BodyOut::UntilClose | BodyOut::Nothing => usize::MAX,
            };
            let before = io.out.len();
            let mut finished = false;
            let mut tx = Tx {
                out: &mut io.out,
                limit: before + most.min(room),
                shared_limit: before.saturating_add(most),
                own: before,
                finished: &mut finished,
            };
            let produced = dispatch::produce(produce.as_mut(), &mut tx)?;
            let n = io.out.len() - before;
            if framing == BodyOut::Chunked {
                if n == 0 {
                    io.out.buf.unfill(SIZE.len());
                } else {
                    io.out.buf.patch(at, &five_digits(n));
                    io.out.push(b"\r\n");
                }
            }
            io.conn.wrote(n as u64);
            self.written += n as u64;
            worked |= n > 0;
            match produced {
                Produced::Abort => return Err(EndReason::Aborted.into()),
                Produced::Pending => *waits = true,
                // It wrote nothing although there was space. It must be woken: calling it again would never end.
                Produced::More if n == 0 => {
                    *waits = io.out.is_empty();
                    return Ok(worked);
                }
                Produced::More => {}
                Produced::End | Produced::Trailers(_) => {
                    let trailers = if let Produced::Trailers(trailers) = &produced { Some(trailers) } else { None };
                    self.end_response_body(io, core, trailers)?;
                    return Ok(true);
                }
            }
        }
    }

    /// Ends the response's body.
    pub(super) fn end_response_body(
        &mut self,
        io: &mut ConnIo,
        core: &mut Core,
        trailers: Option<&Headers>,
    ) -> Result<(), JobExit> {
        self.take_socket_back();
        dispatch::discard(std::mem::replace(&mut self.response_body, ResponseBody::Sent));
        io.open_out(core);
        if !io.conn.end_body(trailers, &mut io.out) {
            error!(target: "uncork::engine", "{}: the body is shorter than its announced length", io.request_id());
            return Err(EndReason::Aborted.into());
        }
        Ok(())
    }

    fn drive_file(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let ResponseBody::File { file, at } = &mut self.response_body else { return Ok(false) };
        let mut worked = false;
        // One system call per round: other connections wait.
        if let BodyOut::Length(left) = io.conn.body_out() {
            let n = if io.transport.is_plain() {
                if !io.out.is_empty() || !io.ready.contains(Ready::WRITE) {
                    return Ok(false);
                }
                let n = io.transport.sendfile(file, *at, left).map_err(|error| io.fault(core, error.into()))?;
                if n == 0 {
                    io.ready.remove(Ready::WRITE);
                }
                io.note_sent(core, usize::try_from(n).unwrap_or(0));
                n
            } else {
                if !io.out.is_empty() && io.sent > 0 && io.is_blocked(false) {
                    return Ok(false);
                }
                io.open_out(core);
                if io.out.is_empty() && io.out.buf.spare().is_empty() {
                    // No buffer is left to read into.
                    core.starved.push(io.id);
                    return Ok(false);
                }
                let spare = io.out.buf.spare();
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(spare.len());
                let n = file.read_at(&mut spare[..most], *at).map_err(|error| io.fault(core, error.into()))?;
                if n == 0 && most > 0 {
                    error!(target: "uncork::engine", "{}: the file was truncated while it was sent", io.request_id());
                    return Err(EndReason::Aborted.into());
                }
                io.out.buf.commit(n);
                n as u64
            };
            *at += n;
            self.written += n;
            io.conn.wrote(n);
            worked = n > 0;
        }
        if io.conn.body_out() == BodyOut::Nothing {
            self.response_body = ResponseBody::Sent;
            return Ok(true);
        }
        Ok(worked)
    }
}

fn five_digits(n: usize) -> [u8; 5] {
    std::array::from_fn(|i| b"0123456789abcdef"[n >> (4 * (4 - i)) & 0xf])
}
