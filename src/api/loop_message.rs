//! The messages that a loop gets from other threads, and from the application at any time.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{
    ConnectedSocket, Dial, PipeIn, PipeOut, Response, Upgrade, Upload, dial::Then, ticket::TicketCore, wake::WakeCore,
};
use crate::{
    base::{Moment, PeerAddr},
    h1::Headers,
};

pub(crate) type Later = Box<dyn FnOnce(Moment) + Send>;
pub(crate) type Fallback = Box<dyn FnOnce(Moment) -> Response + Send>;

pub(crate) enum LoopMessage {
    Wake(Arc<WakeCore>),
    Ticket(Arc<TicketCore>, TicketMessage),
    /// Serve this stream as if the listener with that index had accepted it.
    Adopt(ConnectedSocket, usize),
    /// Serve these two pipes as if they were such a stream.
    AdoptPipes(PeerAddr, Box<(PipeOut, PipeIn)>, usize),
    /// Let the upgrade handle this stream from its first byte.
    AdoptUpgrade(ConnectedSocket, Box<dyn Upgrade>),
    /// Make a connection, then call the function.
    Dial(Dial, Then),
    After(Duration, Later),
    /// Only wakes the loop: its thread must check its own state.
    Wakeup,
    /// Stop accepting, and send the listening sockets, each with the index of its listener.
    Quiesce(mpsc::Sender<Vec<(usize, OwnedFd)>>),
    /// Stop: within the grace period, or at once (`None`).
    Stop(Option<Duration>),
}

/// A message of a ticket.
pub(crate) enum TicketMessage {
    /// The action is in the ticket's core.
    Respond,
    Receive(Box<dyn Upload>),
    Informational(u16, Headers),
    Fallback(Duration, Fallback),
    /// The last ticket was dropped.
    Dropped,
}
