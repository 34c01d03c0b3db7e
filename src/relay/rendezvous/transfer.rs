//! Transfers a body from the source's connection to those of the receivers.
//!
//! ```text
//!   one receiver:                 source ══▶ Direct ══ pipe ══▶ receiver       the engine moves it
//!   several:                      source ──▶ Fanout ─┬ pipe ══▶ receiver       as much as all can take
//!                                                    └ pipe ══▶ receiver
//!   another length was declared:  … ══ pipe ──▶ Exact ──▶ receiver             that length, or an aborted connection
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use uncork::{Action, Consumed, PipeIn, PipeOut, Produce, Produced, Response, Tx, Upload, h1::Headers};

use super::config::RendezvousConfig;

/// The source's ends of the pipes to its receivers.
pub(super) struct Inlets {
    pub(super) inlets: Vec<PipeIn>,
    /// Set when the body is complete, before the pipes are finished.
    pub(super) whole: Arc<AtomicBool>,
}

impl Inlets {
    /// Returns the upload that receives the body. `too_large` is the response to a body beyond the limit.
    pub(super) fn into_upload(mut self, config: &RendezvousConfig, too_large: Response) -> Box<dyn Upload> {
        let (limit, body_timeout) = (config.body, config.body_timeout);
        match self.inlets.pop() {
            Some(inlet) if self.inlets.is_empty() => Box::new(Direct {
                inlet: inlet.limit(limit),
                body_timeout,
                too_large: Some(too_large),
                whole: self.whole,
            }),
            last => {
                let inlets = self.inlets.into_iter().chain(last).map(|inlet| (inlet, 0)).collect();
                Box::new(Fanout { inlets, left: limit, body_timeout, too_large: Some(too_large), whole: self.whole })
            }
        }
    }
}

/// Upload to one receiver: the engine fills the pipe, up to the limit.
struct Direct {
    inlet: PipeIn,
    body_timeout: Duration,
    too_large: Option<Response>,
    whole: Arc<AtomicBool>,
}

impl Upload for Direct {
    /// Called beyond the limit. The pipe is dropped without an end, which truncates it.
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::Stop(self.too_large.take().map_or(Action::Abort, Into::into))
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        self.whole.store(true, Ordering::Release);
        self.inlet.finish(None);
        Action::Suspend
    }

    fn body_timeout(&self) -> Option<Duration> {
        Some(self.body_timeout)
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(&mut self.inlet)
    }
}

/// Upload to several receivers, at the rate of the slowest.
struct Fanout {
    /// Each inlet, with the number of bytes that it has already got of those not consumed yet.
    inlets: Vec<(PipeIn, usize)>,
    left: u64,
    body_timeout: Duration,
    too_large: Option<Response>,
    whole: Arc<AtomicBool>,
}

impl Upload for Fanout {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() as u64 > self.left {
            // The pipes are dropped without an end, which truncates them.
            return Consumed::Stop(self.too_large.take().map_or(Action::Abort, Into::into));
        }
        self.inlets.retain(|(inlet, _)| !inlet.is_closed());
        for (inlet, ahead) in &mut self.inlets {
            *ahead += inlet.write(chunk.get(*ahead..).unwrap_or_default());
        }
        let Some(taken) = self.inlets.iter().map(|(_, ahead)| *ahead).min() else {
            // All receivers have disconnected; the ends of their requests make the response to the source.
            return Consumed::Stop(Action::Suspend);
        };
        self.inlets.iter_mut().for_each(|(_, ahead)| *ahead -= taken);
        self.left -= taken as u64;
        // If this is less than all, one inlet has no room. It wakes the source when it has room or is closed.
        Consumed::Partial(taken)
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        self.whole.store(true, Ordering::Release);
        self.inlets.into_iter().for_each(|(inlet, _)| inlet.finish(None));
        Action::Suspend
    }

    fn body_timeout(&self) -> Option<Duration> {
        Some(self.body_timeout)
    }
}

/// A body whose length a client has declared, possibly wrongly. The last byte is held back until it is known to be the
/// last. A body that is too short or too long aborts the connection. If it is too long, less than the declared
/// length is sent.
pub(super) struct Exact {
    outlet: PipeOut,
    left: u64,
    last: Option<u8>,
    /// Set if the body has another length.
    wrong_length: Arc<AtomicBool>,
}

impl Exact {
    /// Creates a body of `length` bytes, which must not be 0.
    pub(super) fn new(outlet: PipeOut, length: u64, wrong_length: Arc<AtomicBool>) -> Self {
        Self { outlet, left: length, last: None, wrong_length }
    }

    fn fail(&self) -> Produced {
        self.wrong_length.store(true, Ordering::Release);
        Produced::Abort
    }
}

impl Produce for Exact {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        loop {
            let room = out.room();
            if room == 0 {
                return Produced::More;
            }
            let bytes = self.outlet.bytes();
            if bytes.is_empty() {
                if self.outlet.is_truncated() {
                    return Produced::Abort;
                }
                if !self.outlet.is_finished() {
                    return Produced::Pending;
                }
                let Some(last) = self.last.take() else { return self.fail() };
                out.write(&[last]);
                return Produced::End;
            }
            if bytes.len() as u64 > self.left {
                return self.fail();
            }
            let n = bytes.len().min(room);
            self.left -= n as u64;
            if self.left == 0 {
                self.last = bytes.get(n - 1).copied();
                out.write(&bytes[..n - 1]);
            } else {
                out.write(&bytes[..n]);
            }
            self.outlet.consume(n);
        }
    }
}
