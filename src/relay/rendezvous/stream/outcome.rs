//! The outcome of a stream: its name in `/status`, and the error for the other side.

use uncork::EndReason;

use super::super::faults::{self, Fault};

/// The outcome of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Finished,
    SourceClosed,
    SourceFailed,
    DestinationClosed,
    DestinationFailed,
    NeitherConnected,
    NoSource,
    NoDestination,
    ClientError,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Finished => "FINISHED",
            Self::SourceClosed => "SRC_DISCONNECTED",
            Self::SourceFailed => "SRC_ERROR",
            Self::DestinationClosed => "DST_DISCONNECTED",
            Self::DestinationFailed => "DST_ERROR",
            Self::NeitherConnected => "TIMEOUT_NO_SRC_NO_DST",
            Self::NoSource => "TIMEOUT_NO_SRC",
            Self::NoDestination => "TIMEOUT_NO_DST",
            Self::ClientError => "CLIENT_ERROR",
        }
    }

    /// Returns the error for `/status` and for the other side.
    pub(super) fn fault(self) -> Option<Fault> {
        Some(match self {
            Self::SourceClosed => faults::SOURCE_CLOSED,
            Self::SourceFailed => faults::SOURCE_ERROR,
            Self::DestinationClosed => faults::DESTINATION_CLOSED,
            Self::DestinationFailed => faults::DESTINATION_ERROR,
            _ => return None,
        })
    }

    pub(super) fn of_source(reason: EndReason) -> Self {
        if reason == EndReason::PeerClosed { Self::SourceClosed } else { Self::SourceFailed }
    }

    pub(super) fn of_destination(reason: EndReason) -> Self {
        if reason == EndReason::PeerClosed { Self::DestinationClosed } else { Self::DestinationFailed }
    }
}
