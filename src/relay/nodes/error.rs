//! The responses that a node makes itself, instead of the owner. Each service writes them in its own form.

use super::proof::Rejection;

/// The reason why a request for another node's id has no response of that node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum NodeError {
    /// The other node cannot be reached, is not in the list, or has rejected this node.
    Unreachable,
    /// The URL has characters that must be percent-encoded.
    Invalid,
    /// This node is stopping.
    Stopping,
    /// The request has been forwarded before.
    Loop,
    /// A node has sent a request whose id is not of this node, or that has none.
    NotHere,
}

impl NodeError {
    pub(in crate::relay) fn status(self) -> u16 {
        match self {
            Self::Unreachable => 502,
            Self::Invalid => 400,
            Self::Stopping => 503,
            Self::Loop => Rejection::Loop.status(),
            Self::NotHere => Rejection::NotHere.status(),
        }
    }

    pub(in crate::relay) fn message(self) -> &'static str {
        match self {
            Self::Unreachable => "The node that this id belongs to cannot be reached",
            Self::Invalid => "The URL must be percent-encoded",
            Self::Stopping => "The server is stopping",
            Self::Loop => "The request was already forwarded by a node",
            Self::NotHere => "The request belongs to another node",
        }
    }

    /// Returns the rejection that it is, if a node has sent the request.
    pub(super) fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Loop => Some(Rejection::Loop),
            Self::NotHere => Some(Rejection::NotHere),
            Self::Unreachable | Self::Invalid | Self::Stopping => None,
        }
    }
}
