//! One loop without threads, sockets and clocks, for fuzz targets: its connections are pipes, and the time is an
//! argument.
//!
//! ```text
//!   fuzz target ──handle──▶ adopt_pipes: connections
//!               ──turn(now)──▶ Engine::turn, once
//! ```

use std::{io, sync::Arc, time::Duration};

use crate::{
    api::{Handler, LoopHandle},
    base::{Limits, Moment},
    engine::{Admission, Engine, Setup, Versions},
};

pub(crate) struct ManualLoop(Engine<'static>);

impl ManualLoop {
    /// Creates a loop without listeners, with the default limits.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub(crate) fn new(handler: Box<dyn Handler>, now: Moment) -> io::Result<Self> {
        let limits = Limits::default();
        let admission = Arc::new(Admission::new(&limits));
        let (listeners, versions) = (Vec::new(), Versions::default());
        let setup = Setup { handler, listeners, limits, admission, access_log: None, versions, hand_off: None };
        Ok(Self(Engine::new(setup, now)?))
    }

    pub(crate) fn handle(&self) -> LoopHandle {
        self.0.handle()
    }

    /// Does what can be done now. Returns whether more is left for this time, and whether there is no connection.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub(crate) fn turn(&mut self, now: Moment) -> io::Result<(bool, bool)> {
        self.0.poll(Some(Duration::ZERO))?;
        let due = self.0.turn(now);
        Ok((self.0.is_due(due), self.0.is_vacant()))
    }
}
