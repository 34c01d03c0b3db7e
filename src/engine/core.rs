//! State shared by all connections of one loop.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{deadlines::Deadlines, dispatch::AccessLog, held::Held, reserve::Reserve};
use crate::{
    api::loop_message::LoopMessage,
    base::{ConnId, Limits, Moment, mailbox::Mailbox, pool::Pool, time::Tick},
    h1::{DateCache, HeadLimits, KnownHost},
    transport::kernel_pipe::KernelPipes,
};

/// The versions of HTTP that clients may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Versions {
    /// HTTP/1.1, and HTTP/1.0.
    pub(crate) http1: bool,
    /// Never without the feature `http2`.
    pub(crate) http2: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self { http1: true, http2: cfg!(feature = "http2") }
    }
}

pub(super) struct Core {
    pub(super) mailbox: Arc<Mailbox<LoopMessage>>,
    pub(super) limits: Limits,
    pub(super) head_limits: HeadLimits,
    pub(super) known_host: KnownHost,
    pub(super) pool: Pool,
    pub(super) reserve: Reserve,
    pub(super) held: Held,
    pub(super) kernel_pipes: Arc<KernelPipes>,
    pub(super) date: DateCache,
    pub(super) deadlines: Deadlines,
    /// Connections to drive in this turn.
    pub(super) run: VecDeque<ConnId>,
    /// Connections that wait for a buffer.
    pub(super) starved: Vec<ConnId>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) versions: Versions,
    /// The instant at tick 0.
    pub(super) start: Instant,
    pub(super) now: Moment,
    pub(super) tick: Tick,
    /// The end of the grace period, if the server stops.
    pub(super) stopping: Option<Tick>,
}

impl Core {
    pub(super) fn new(
        mailbox: Arc<Mailbox<LoopMessage>>,
        limits: Limits,
        reserve: Reserve,
        kernel_pipes: Arc<KernelPipes>,
        now: Moment,
    ) -> Self {
        Self {
            mailbox,
            head_limits: HeadLimits { head: limits.head, target: limits.target, fields: limits.fields },
            known_host: KnownHost::default(),
            pool: Pool::new(limits.buffers),
            reserve,
            held: Held::new(limits.buffers / 2),
            kernel_pipes,
            limits,
            date: DateCache::default(),
            deadlines: Deadlines::default(),
            run: VecDeque::new(),
            starved: Vec::new(),
            access_log: None,
            versions: Versions::default(),
            start: now.mono,
            now,
            tick: Tick::since(now.mono, now.mono),
            stopping: None,
        }
    }

    /// Returns `true` if the grace period is over. No request begins any more.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.is_some_and(|until| until <= self.tick)
    }

    pub(super) fn set_now(&mut self, now: Moment) {
        self.now = now;
        self.tick = Tick::since(self.start, now.mono);
    }
}
