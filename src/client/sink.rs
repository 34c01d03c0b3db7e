//! The destination of a response's body.

use std::sync::Arc;

use super::{
    error::{Error, TooLargePart},
    intake::Intake,
    response::{Choice, Completion, FullResponse},
};
use crate::{
    api::{
        PipeIn, Waker,
        pipe::{Block, Lent, Splice},
        splicer::Splicer,
    },
    h1::Headers,
    transport::{Spliced, kernel_pipe::KERNEL_PIPE, pass_on},
};

/// Bytes of an unwanted body that are read to keep the connection: about the cost of a new one.
const DISCARD_MAX: u64 = 64 * 1024;

/// Bytes that are allocated at most for a body before it arrives.
const AHEAD_MAX: u64 = 256 * 1024;

pub(super) enum Sink {
    Collect {
        full: Box<FullResponse>,
        limit: usize,
        then: Completion<FullResponse>,
    },
    Pipe(PipeIn),
    Feed(Arc<Intake>),
    /// Dropped, up to this many bytes.
    Discard(u64),
}

/// The result of [`Sink::splice`].
pub(super) enum Direct {
    /// This many bytes were moved.
    Bytes(usize),
    /// The socket has none now.
    Blocked,
    /// The waker is called when there is room.
    Full,
    /// The receiver was dropped.
    Closed,
    /// Bytes must be copied.
    Copy,
}

/// The result of [`Sink::take`].
pub(super) enum Taken {
    /// This many were taken.
    Bytes(usize),
    /// The receiver was dropped.
    Closed,
}

impl Sink {
    pub(super) fn discard() -> Self {
        Self::Discard(DISCARD_MAX)
    }

    /// Returns the sink for a choice, if it reads the body.
    pub(super) fn of(choice: Choice, announced: Option<u64>, waker: &Waker) -> Option<Self> {
        Some(match choice {
            Choice::Collect { mut full, limit, then } => {
                let ahead = announced.unwrap_or(0).min(AHEAD_MAX).min(limit as u64);
                full.body.reserve_exact(usize::try_from(ahead).unwrap_or(0));
                Self::Collect { full, limit, then }
            }
            Choice::Pipe(mut inlet) => {
                inlet.on_room(waker.clone());
                Self::Pipe(inlet)
            }
            Choice::Feed(intake) => Self::Feed(intake),
            Choice::Discard => Self::discard(),
            Choice::Switch(_) | Choice::Close => return None,
        })
    }

    /// Returns `true` if a body of this announced length exceeds its limit.
    pub(super) fn is_too_small_for(&self, announced: Option<u64>) -> bool {
        match (self, announced) {
            (Self::Collect { limit, .. }, Some(n)) => n > *limit as u64,
            (Self::Discard(left), Some(n)) => n > *left,
            _ => false,
        }
    }

    /// Takes part of the body. If it does not take all of it, the waker is called when there is room.
    pub(super) fn take(&mut self, bytes: &[u8], waker: &Waker) -> Result<Taken, Error> {
        Ok(Taken::Bytes(match self {
            Self::Collect { full, limit, .. } => {
                if bytes.len() > *limit - full.body.len() {
                    return Err(Error::TooLarge(TooLargePart::Body));
                }
                full.body.extend_from_slice(bytes);
                bytes.len()
            }
            Self::Pipe(inlet) if inlet.is_closed() => return Ok(Taken::Closed),
            Self::Pipe(inlet) => inlet.write(bytes),
            Self::Feed(intake) => match intake.put(bytes, waker) {
                Some(n) => n,
                None => return Ok(Taken::Closed),
            },
            Self::Discard(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(Error::TooLarge(TooLargePart::Body))?;
                bytes.len()
            }
        }))
    }

    /// Has the system move part of the body from the socket to the receiver's pipe. `left`: bytes of the body that
    /// follow without framing.
    pub(super) fn splice(&mut self, left: usize, splicer: &mut Option<&mut dyn Splicer>) -> Direct {
        let (Self::Pipe(inlet), Some(splicer)) = (self, splicer) else { return Direct::Copy };
        let mut open = || splicer.open();
        let mut pipe = match inlet.lend_kernel(Splice { left, open: &mut open }) {
            Lent::Block(Some(pipe)) => pipe,
            Lent::Block(None) => return Direct::Copy,
            Lent::NotNow => return Direct::Full,
            Lent::Over(_) => return Direct::Closed,
        };
        let spliced = splicer.splice_in(&mut pipe, left.min(inlet.room()).min(KERNEL_PIPE));
        if let Spliced::Bytes(n) = spliced {
            inlet.count(n);
            inlet.pass_on(&mut pipe, pass_on);
        }
        inlet.give_back(Block::Kernel(pipe));
        match spliced {
            Spliced::Bytes(n) => Direct::Bytes(n),
            Spliced::Blocked | Spliced::End => Direct::Blocked,
            Spliced::Unable => {
                inlet.splice_no_more();
                Direct::Copy
            }
        }
    }

    /// Returns `true` if the application wants the body. An unwanted body has one timeout as a whole. Otherwise a
    /// server that sends one byte at a time could hold the connection, and a redirected request, without limit.
    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self, Self::Discard(_))
    }

    /// Returns `true` if the receiver was dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Pipe(inlet) => inlet.is_closed(),
            Self::Feed(intake) => intake.is_abandoned(),
            Self::Collect { .. } | Self::Discard(_) => false,
        }
    }

    /// Reports the end of the body, or its error.
    pub(super) fn end(self, result: Result<Option<Box<Headers>>, Error>) {
        match (self, result) {
            (Self::Collect { mut full, then, .. }, Ok(trailers)) => {
                full.trailers = trailers.map(|boxed| *boxed).unwrap_or_default();
                then.complete(Ok(*full));
            }
            (Self::Collect { then, .. }, Err(error)) => then.complete(Err(error)),
            (Self::Pipe(inlet), Ok(trailers)) => inlet.finish(trailers.map(|boxed| *boxed)),
            // Dropping it truncates the pipe.
            (Self::Pipe(_), Err(_)) => {}
            (Self::Feed(intake), result) => intake.end(result.map(|_| ())),
            (Self::Discard(_), _) => {}
        }
    }
}
