//! The requests of a session: those that wait, and the messages that are being transferred.

use std::net::IpAddr;

use uncork::{PipeCounters, RequestId, Ticket};

use crate::relay::wire::CorsHeaders;

/// A side of a session. The host has its cookie; every other client is a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Host,
    Guest,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Host => Self::Guest,
            Self::Guest => Self::Host,
        }
    }
}

/// A suspended request.
pub(super) struct Poll {
    pub(super) id: RequestId,
    pub(super) ticket: Ticket,
    pub(super) peer: Option<IpAddr>,
    pub(super) cors: CorsHeaders,
}

/// A message that waits for a receiver; its body was not read.
pub(super) struct Message {
    pub(super) content_type: Option<Box<[u8]>>,
    pub(super) body: MessageBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageBody {
    None,
    Length(u64),
    Chunked,
}

/// A POST: it waits for a receiver, or its message is being transferred.
pub(super) enum Sender {
    Waiting(Poll, Message),
    Sending(Poll, Transfer),
}

/// A message that is being transferred.
pub(super) struct Transfer {
    /// The receiver's request. Its end makes the response to the sender.
    pub(super) receiver: RequestId,
    pub(super) body: MessageBody,
    /// The pipe's counters, if there is a body.
    pub(super) counters: Option<PipeCounters>,
}

impl Sender {
    pub(super) fn poll(&self) -> &Poll {
        match self {
            Self::Waiting(poll, _) | Self::Sending(poll, ..) => poll,
        }
    }
}

/// A value for each side.
pub(super) struct Sides<T>(pub(super) [T; 2]);

impl<T> std::ops::Index<Side> for Sides<T> {
    type Output = T;
    fn index(&self, side: Side) -> &T {
        &self.0[side as usize]
    }
}

impl<T> std::ops::IndexMut<Side> for Sides<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}
