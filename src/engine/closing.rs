//! How a connection comes to its end: what is left goes out, then our FIN, then we listen for a while to what the
//! peer still says, so that our last words are not lost to a reset.

use super::{
    core::Core,
    job::Job,
    ready::Ready,
    slot::{Phase, Slot},
};
use crate::base::Ended;

pub(super) struct Closing {
    why: Ended,
    linger: bool,
    stage: Stage,
    /// A request that is over when the last byte is out.
    job: Option<Box<Job>>,
    /// What the peer's system had not acknowledged when that was last looked at.
    unacknowledged: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Sending what is left, and the end of our side.
    Flush,
    /// Our side is closed; input is thrown away.
    Linger,
}

impl Closing {
    pub(super) fn is_lingering(&self) -> bool {
        self.stage == Stage::Linger
    }

    pub(super) fn into_job(self) -> Option<Box<Job>> {
        self.job
    }
}

impl Slot {
    /// Begins to close. `linger`: the peer may still be sending.
    pub(super) fn close(&mut self, why: Ended, linger: bool) {
        self.close_with(why, linger, None);
    }

    /// The same; `job` is over when the last byte is out.
    pub(super) fn close_with(&mut self, why: Ended, linger: bool, job: Option<Box<Job>>) {
        self.stop_clock();
        self.phase = Phase::Closing(Closing { why, linger, stage: Stage::Flush, job, unacknowledged: u64::MAX });
    }

    /// The time to linger is over. Whether it begins again, because the peer is still receiving: until it has
    /// everything, a reset would destroy the rest.
    pub(super) fn lingers_on(&mut self) -> bool {
        let queued = self.transport.unacknowledged().unwrap_or(0);
        let Phase::Closing(closing) = &mut self.phase else { return false };
        queued > 0 && queued < std::mem::replace(&mut closing.unacknowledged, queued)
    }

    /// Goes on with closing; the end is an error, as all ends are.
    #[inline(never)]
    pub(super) fn drive_closing(&mut self, core: &mut Core) -> Result<bool, Ended> {
        let Phase::Closing(closing) = &mut self.phase else { return Ok(false) };
        let why = closing.why;
        if closing.stage == Stage::Flush {
            if !self.out.is_empty() || self.transport.has_pending() {
                return Ok(false);
            }
            if let Some(job) = closing.job.take() {
                self.end_job(core, *job, why);
                return Ok(true);
            }
            let lingers = closing.linger && self.eof.is_none();
            // Dropping the socket says FIN as well, at the price of one call less.
            if lingers || !self.transport.is_plain() {
                match self.transport.finish(&mut core.pool) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.ready.clear(Ready::WRITE);
                        return Ok(false);
                    }
                    Err(_) => return Err(why),
                }
            }
            if !lingers {
                return Err(why);
            }
            closing.stage = Stage::Linger;
        }
        self.rx.consume(self.rx.len());
        // Whatever goes wrong now, the connection was over before.
        let more = self.fill(core, usize::MAX, usize::MAX).map_err(|_| why)?;
        if self.eof.is_some() {
            return Err(why);
        }
        self.rx.consume(self.rx.len());
        Ok(more)
    }
}
