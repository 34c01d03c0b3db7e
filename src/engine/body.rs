//! Receives a request's body: into an upload, into a pipe (`pump`), or to discard it.
//!
//! ```text
//!   NotRequested ──Receive──▶ Upload ──data──▶ application ──end──▶ Over
//!         │            └───▶ Pipe ───pump───▶ block ────────end──▶ Over
//!         │                    └─ up to its limit, then Upload
//!         └──response without it──▶ Draining, a little ───────────▶ Over
//! ```

use super::{
    coalescing::Coalescing,
    conn_io::ConnIo,
    core::Core,
    dispatch,
    job::{Job, JobExit, PipeProgress, RequestBody, ResponseBody},
    pump::ROOMY,
};
use crate::{
    api::{Consumed, Upload},
    base::{EndReason, pool::LENT},
    conn::BodyEvent,
    h1::Headers,
};

impl Job {
    /// Handles the body timeout. Returns `true` if the sender is not at fault: the receiver has not consumed its bytes.
    pub(super) fn has_yielded(&mut self) -> bool {
        let RequestBody::Pipe { upload, progress, .. } = &mut self.request_body else { return false };
        let Ok(Some(inlet)) = dispatch::inlet(upload.as_mut()) else { return false };
        let full = inlet.is_full();
        if full {
            *progress = PipeProgress::PushedBack;
        }
        full
    }

    /// Returns how much input to hold while this job is at work. For a body, it is as much as one step consumes;
    /// otherwise, enough to notice that the peer disconnects, and to have its next request.
    ///
    /// The engine does not read more pipelined input. A half-close is noticed nevertheless, since the socket reports
    /// it; a close_notify without one, behind that much input, is not.
    pub(super) fn hold(&self, io: &ConnIo) -> usize {
        match &self.request_body {
            RequestBody::Upload { pushed_back: false, .. } | RequestBody::Draining(_) => LENT,
            // Filled by `pump`, past the input buffer.
            RequestBody::Pipe { .. } if io.transport.is_plain() && io.conn.direct() > 0 => 0,
            RequestBody::Pipe { progress: PipeProgress::Going, reads: true, .. } if io.conn.is_receiving() => 0,
            RequestBody::Pipe { progress: PipeProgress::Going, .. } => LENT,
            RequestBody::Upload { .. } | RequestBody::Pipe { .. } | RequestBody::NotRequested
                if io.conn.is_receiving() =>
            {
                // Over TLS the end of the stream can only be seen by reading up to it.
                usize::from(!io.transport.is_plain())
            }
            _ => 4096,
        }
    }

    /// Begins to receive the body into `upload`.
    pub(super) fn receive(
        &mut self,
        io: &mut ConnIo,
        core: &mut Core,
        mut upload: Box<dyn Upload>,
    ) -> Result<(), JobExit> {
        if io.conn.expects_continue() {
            io.open_out(core);
            io.conn.ask_for_body(&io.rx, &mut io.out);
        }
        let waker = self.waker(io, core);
        let inlet = dispatch::body_timeout(upload.as_ref()).and_then(|body_timeout| {
            if self.body_timeout != body_timeout {
                // The timeout counts from now on.
                self.body_timeout = body_timeout;
                io.stop_timeout();
            }
            dispatch::inlet(upload.as_mut())
        });
        self.request_body = match inlet {
            Ok(Some(inlet)) => {
                inlet.on_room(waker);
                let reads = inlet.room() >= ROOMY;
                RequestBody::Pipe { upload, progress: PipeProgress::Going, reads, coalescing: Coalescing::default() }
            }
            Ok(None) => RequestBody::Upload { upload, pushed_back: false },
            Err(panicked) => {
                dispatch::discard(upload);
                return Err(panicked.into());
            }
        };
        Ok(())
    }

    /// Ends the upload, whose action is carried out: the body is complete.
    pub(super) fn body_ended(
        &mut self,
        io: &mut ConnIo,
        core: &mut Core,
        trailers: Option<Box<Headers>>,
    ) -> Result<(), JobExit> {
        if let RequestBody::Upload { upload, .. } | RequestBody::Pipe { upload, .. } =
            std::mem::replace(&mut self.request_body, RequestBody::Over)
        {
            let action = dispatch::end(upload, &trailers.map_or_else(Headers::default, |trailers| *trailers))?;
            self.perform(io, core, action)?;
        }
        Ok(())
    }

    /// Advances the request's body. Returns `true` if anything changed.
    pub(super) fn drive_request_body(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let woken = std::mem::take(&mut self.woken);
        if woken {
            match &mut self.request_body {
                RequestBody::Upload { pushed_back, .. } => *pushed_back = false,
                RequestBody::Pipe { progress, .. } => *progress = PipeProgress::Going,
                RequestBody::NotRequested | RequestBody::Draining(_) | RequestBody::Over => {}
            }
            if let ResponseBody::Stream { waits, .. } | ResponseBody::Pipe { waits, .. } = &mut self.response_body {
                *waits = false;
            }
        }
        let mut worked = false;
        loop {
            match &mut self.request_body {
                RequestBody::NotRequested | RequestBody::Over => return Ok(worked),
                RequestBody::Upload { pushed_back: true, .. } => return Ok(worked),
                RequestBody::Pipe { reads, coalescing, .. } => {
                    coalescing.look_at(core.tick);
                    let news = woken && !*reads;
                    return Ok(self.fill_pipe(io, core)? || news);
                }
                RequestBody::Upload { .. } | RequestBody::Draining(_) => {}
            }
            let n = match io.conn.poll_body(&mut io.rx, &core.limits)? {
                BodyEvent::Data(n) => n,
                BodyEvent::NeedMore if io.eof.is_some() => return Err(EndReason::PeerClosed.into()),
                // A woken upload may wait for bytes that are still in the socket: another round reads them.
                BodyEvent::NeedMore => return Ok(worked || woken),
                BodyEvent::End(trailers) => {
                    self.body_ended(io, core, trailers)?;
                    return Ok(true);
                }
            };
            worked = true;
            let took = match &mut self.request_body {
                RequestBody::Upload { upload, pushed_back } => {
                    match dispatch::data(upload.as_mut(), &io.rx.filled()[..n])? {
                        Consumed::All => n,
                        Consumed::Partial(took) => {
                            *pushed_back = took < n;
                            took.min(n)
                        }
                        Consumed::Stop(action) => {
                            dispatch::discard(std::mem::replace(&mut self.request_body, RequestBody::NotRequested));
                            // The bytes are still in the input: for another upload, or to be drained.
                            self.perform(io, core, action)?;
                            if !matches!(self.response_body, ResponseBody::Owed | ResponseBody::Switch(_)) {
                                self.skip_body(io, core);
                            }
                            return Ok(true);
                        }
                    }
                }
                RequestBody::Draining(left) if n as u64 > *left => {
                    self.request_body = RequestBody::Over;
                    io.conn.forbid_keep_alive();
                    return Ok(true);
                }
                RequestBody::Draining(left) => {
                    *left -= n as u64;
                    n
                }
                _ => n,
            };
            io.conn.took(&mut io.rx, took);
            io.note_received(core, took, self.body_timeout);
        }
    }

    /// Abandons a body that is not requested, once a response has begun. A short rest is discarded; a longer one ends
    /// the connection.
    pub(super) fn skip_body(&mut self, io: &mut ConnIo, core: &Core) {
        if !io.conn.is_receiving() || !matches!(self.request_body, RequestBody::NotRequested) {
            return;
        }
        self.request_body = RequestBody::Over;
        let drain = core.limits.drain;
        if io.conn.expects_continue() || io.conn.direct() as u64 > drain || io.eof.is_some() {
            io.conn.forbid_keep_alive();
        } else if io.conn.keeps_alive() {
            self.request_body = RequestBody::Draining(drain);
        }
    }
}
