//! The phases of a connection, and the result of a step.

use std::time::Instant;

use super::{
    super::pool::{ConnPermit, Permitted},
    work::Work,
};
use crate::{api::Upgrade, base::EventMask};

pub(super) enum Phase {
    /// It may serve the next request.
    Free(ConnPermit),
    /// It will serve this request.
    Start(Permitted),
    Busy(Box<Work>),
    /// Until this time.
    Idle(Option<Instant>),
    HandedOver(Box<dyn Upgrade>),
    Closed,
}

/// The result of a step.
pub(super) enum Step {
    Become(Phase),
    /// Waits for these events, or until this time.
    Wait(EventMask, Option<Instant>),
    /// Closes the connection normally.
    Close,
    /// Aborts the connection.
    Abort,
}
