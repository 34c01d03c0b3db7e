//! A request's body on its way in: to an upload, into a pipe (`pump`), or thrown away.
//!
//! ```text
//!   Idle ──Receive──▶ Upload ──data──▶ application ──end──▶ Over
//!    │          └───▶ Pipe ───pump───▶ block ────────end──▶ Over
//!    │                  └─ up to its limit, then Upload
//!    └──answered without it──▶ Draining, a little ─────────▶ Over
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
    /// The time for the body is up. Whether that is no fault of the sender's: what it sent waits for the receiver.
    pub(super) fn has_yielded(&mut self) -> bool {
        let RequestBody::Pipe { upload, pace, .. } = &mut self.request_body else { return false };
        let Ok(Some(inlet)) = dispatch::inlet(upload.as_mut()) else { return false };
        let full = inlet.is_full();
        if full {
            *pace = PipeProgress::PushedBack;
        }
        full
    }

    /// How much input to hold while this job is at work: the body's as it is taken; otherwise just enough to notice
    /// that the peer leaves, and to be ready for its next request.
    ///
    /// A client that pipelines more than that is not read any further. Its FIN shows nevertheless, as the socket tells of
    /// it; a close_notify behind so much, without a FIN, does not.
    pub(super) fn hold(&self, io: &ConnIo) -> usize {
        match &self.request_body {
            RequestBody::Upload { pushed_back: false, .. } | RequestBody::Draining(_) => LENT,
            // Filled by `pump`, past the input buffer.
            RequestBody::Pipe { .. } if io.transport.is_plain() && io.conn.direct() > 0 => 0,
            RequestBody::Pipe { pace: PipeProgress::Going, reads: true, .. } if io.conn.is_receiving() => 0,
            RequestBody::Pipe { pace: PipeProgress::Going, .. } => LENT,
            RequestBody::Upload { .. } | RequestBody::Pipe { .. } | RequestBody::Idle if io.conn.is_receiving() => {
                // Over TLS the end of the stream can only be seen by reading up to it.
                usize::from(!io.transport.is_plain())
            }
            _ => 4096,
        }
    }

    /// The application wants the body, and takes it in this way.
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
        let inlet = dispatch::body_timeout(upload.as_ref()).and_then(|patience| {
            if self.body_timeout != patience {
                // From here on, and so from now.
                self.body_timeout = patience;
                io.stop_clock();
            }
            dispatch::inlet(upload.as_mut())
        });
        self.request_body = match inlet {
            Ok(Some(inlet)) => {
                inlet.on_room(waker);
                let reads = inlet.room() >= ROOMY;
                RequestBody::Pipe { upload, pace: PipeProgress::Going, reads, coalescing: Coalescing::default() }
            }
            Ok(None) => RequestBody::Upload { upload, pushed_back: false },
            Err(panicked) => {
                dispatch::discard(upload);
                return Err(panicked.into());
            }
        };
        Ok(())
    }

    /// The body is whole: the upload has the last word.
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

    /// Moves the request's body on. Whether anything changed.
    pub(super) fn drive_request_body(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let woken = std::mem::take(&mut self.woken);
        if woken {
            match &mut self.request_body {
                RequestBody::Upload { pushed_back, .. } => *pushed_back = false,
                RequestBody::Pipe { pace, .. } => *pace = PipeProgress::Going,
                RequestBody::Idle | RequestBody::Draining(_) | RequestBody::Over => {}
            }
            if let ResponseBody::Stream { waits, .. } | ResponseBody::Pipe { waits, .. } = &mut self.response_body {
                *waits = false;
            }
        }
        let mut worked = false;
        loop {
            match &mut self.request_body {
                RequestBody::Idle | RequestBody::Over => return Ok(worked),
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
                // Who was woken may want what is still in the socket: that is read in another round.
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
                            dispatch::discard(std::mem::replace(&mut self.request_body, RequestBody::Idle));
                            // What was shown is still there: for another upload, or to be drained.
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

    /// There is an answer, and nobody asks for the body: what is left of it is thrown away if it is short, and ends the
    /// connection otherwise.
    pub(super) fn skip_body(&mut self, io: &mut ConnIo, core: &Core) {
        if !io.conn.is_receiving() || !matches!(self.request_body, RequestBody::Idle) {
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
