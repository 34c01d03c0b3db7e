//! The end of a connection. It sends the output and a half-close, then reads for a while what the peer still sends:
//! otherwise a reset could destroy the last bytes of the output.

use super::{
    conn_io::ConnIo,
    core::Core,
    job::Job,
    phase::{Closing, Phase, Stage, Step},
    ready::Ready,
};
use crate::base::EndReason;

impl Closing {
    pub(super) fn is_lingering(&self) -> bool {
        self.stage == Stage::Linger
    }

    pub(super) fn into_job(self) -> Option<Box<Job>> {
        self.job
    }

    /// Returns the first stage of closing. `linger`: the peer may still be sending.
    pub(super) fn new(reason: EndReason, linger: bool) -> Self {
        Self { reason, linger, stage: Stage::Flush, job: None, unacknowledged: u64::MAX }
    }

    /// Handles the linger timeout. Returns `true` if it restarts because the peer is still receiving: a reset would
    /// destroy the rest.
    pub(super) fn lingers_on(&mut self, io: &mut ConnIo) -> bool {
        let queued = io.transport.unacknowledged().unwrap_or(0);
        queued > 0 && queued < std::mem::replace(&mut self.unacknowledged, queued)
    }

    /// Advances closing.
    #[inline(never)]
    pub(super) fn drive(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Step, EndReason> {
        let reason = self.reason;
        if self.stage == Stage::Flush {
            if !io.out.is_empty() || io.transport.has_pending() {
                return Ok(Step::Idle);
            }
            if let Some(job) = self.job.take() {
                io.end_job(core, *job, reason);
                return Ok(Step::Progress);
            }
            let lingers = self.linger && io.eof.is_none();
            // Dropping the socket half-closes too, with one system call less.
            if lingers || !io.transport.is_plain() {
                match io.transport.finish(&mut core.pool) {
                    Ok(true) => {}
                    Ok(false) => {
                        io.ready.remove(Ready::WRITE);
                        return Ok(Step::Idle);
                    }
                    Err(_) => return Ok(Step::Closed(reason)),
                }
            }
            if !lingers {
                return Ok(Step::Closed(reason));
            }
            self.stage = Stage::Linger;
        }
        io.rx.consume(io.rx.len());
        // Errors no longer matter: the connection has ended.
        let Ok(more) = io.fill(core, usize::MAX, usize::MAX) else { return Ok(Step::Closed(reason)) };
        if io.eof.is_some() {
            return Ok(Step::Closed(reason));
        }
        io.rx.consume(io.rx.len());
        Ok(Step::progress(more))
    }
}

impl ConnIo {
    /// Returns the step that begins to close the connection. `linger`: the peer may still be sending.
    pub(super) fn closing(&mut self, reason: EndReason, linger: bool) -> Step {
        self.stop_timeout();
        Step::Become(Phase::Closing(Box::new(Closing::new(reason, linger))))
    }
}
