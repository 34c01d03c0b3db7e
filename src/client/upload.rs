//! Writes the request's body into the output.

use std::time::Instant;

use super::{
    error::Error,
    request::{Bytes, Content},
};
use crate::{
    api::{
        PipeOut, Tx, Waker,
        pipe::{Block, Lent, PipeEnd},
        splicer::Splicer,
    },
    conn::{BodyOut, client::ClientConn},
    h1::{
        Headers,
        write::{CHUNK_END, Sink, chunk_head},
    },
    transport::Spliced,
};

/// Splices in one call, before other connections have their turn.
const SPLICES: u32 = 8;

/// Bytes around the data of a chunk: its size line and its end.
const CHUNK_OVERHEAD: usize = 20;

/// The part of the body that is left to send.
pub(super) enum Upload {
    /// Nothing, or a rest that the server does not want.
    Done,
    /// Held until the server sends 100, or until this time if there is one.
    Held(Content, Option<Instant>),
    Memory(Bytes, usize),
    /// `true` unless the system does not splice to the socket.
    Stream(PipeOut, bool),
}

/// The reason for a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The body is sent.
    Done,
    /// There is no room in the output.
    Room,
    /// Bytes in a kernel pipe wait until the output is sent, and the socket takes more.
    Socket,
    /// The application's pipe is empty.
    Pipe,
    /// It is held, until this time if there is one.
    Held(Option<Instant>),
}

impl Upload {
    pub(super) fn of(content: Content, waker: &Waker) -> Self {
        match content {
            Content::None => Self::Done,
            Content::Memory(bytes) => Self::Memory(bytes, 0),
            Content::Stream(mut pipe, _) => {
                pipe.on_data(waker.clone());
                Self::Stream(pipe, true)
            }
        }
    }

    /// Starts to send a body that was held.
    pub(super) fn start(&mut self, waker: &Waker) {
        if let Some(content) = self.take_held() {
            *self = Self::of(content, waker);
        }
    }

    /// Returns `true` if it is held, and the time for that has passed.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self, Self::Held(_, Some(until)) if now >= *until)
    }

    /// Takes the body that is held, to send it another time.
    pub(super) fn take_held(&mut self) -> Option<Content> {
        match std::mem::replace(self, Self::Done) {
            Self::Held(content, _) => Some(content),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Writes as much as fits. Returns the number of body bytes, and the reason for the pause.
    pub(super) fn send(
        &mut self,
        conn: &mut ClientConn,
        tx: &mut Tx<'_>,
        splicer: &mut Option<&mut dyn Splicer>,
        waker: &Waker,
        now: Instant,
    ) -> Result<(usize, Pause), Error> {
        if let Self::Held(_, until) = self {
            if until.is_none_or(|until| now < until) {
                return Ok((0, Pause::Held(*until)));
            }
            self.start(waker);
        }
        let (mut sent, mut spliced) = (0, 0);
        while conn.is_sending() {
            let chunked = conn.body_out() == BodyOut::Chunked;
            let room = tx.room().saturating_sub(if chunked { CHUNK_OVERHEAD } else { 0 });
            let wanted = match conn.body_out() {
                BodyOut::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).min(room),
                _ => room,
            };
            match self {
                Self::Done | Self::Held(..) => return Ok((sent, Pause::Done)),
                _ if room == 0 => return Ok((sent, Pause::Room)),
                Self::Memory(bytes, at) => {
                    let rest = &bytes.as_slice()[*at..];
                    let n = rest.len().min(wanted);
                    put(conn, tx, &rest[..n]);
                    *at += n;
                    sent += n;
                    if n == rest.len() {
                        end(conn, tx, None)?;
                    }
                }
                Self::Stream(pipe, splices) => match lend(pipe, *splices && !chunked && splicer.is_some()) {
                    Lent::Block(Block::Kernel(mut kernel)) => {
                        let left = match conn.body_out() {
                            BodyOut::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
                            _ => usize::MAX,
                        };
                        let most = kernel.len().min(left);
                        let moved = match splicer {
                            Some(splicer) if tx.is_empty() && spliced < SPLICES => {
                                splicer.splice_out(&mut kernel, most)
                            }
                            _ => Spliced::Blocked,
                        };
                        let n = if let Spliced::Bytes(n) = moved { n } else { 0 };
                        conn.wrote(n as u64);
                        pipe.give_back(Block::Kernel(kernel), n);
                        sent += n;
                        spliced += 1;
                        match moved {
                            Spliced::Bytes(_) => {}
                            Spliced::Blocked | Spliced::End => return Ok((sent, Pause::Socket)),
                            // Next time its bytes come in a buffer.
                            Spliced::Unable => *splices = false,
                        }
                    }
                    Lent::Block(Block::Buf(mut block)) => {
                        // The block may have more, in further pieces.
                        let filled = block.filled();
                        let n = filled.len().min(wanted);
                        put(conn, tx, &filled[..n]);
                        block.consume(n);
                        pipe.give_back(Block::Buf(block), n);
                        sent += n;
                    }
                    Lent::NotNow => return Ok((sent, Pause::Pipe)),
                    Lent::Over(PipeEnd::Clean(trailers)) => end(conn, tx, trailers.as_deref())?,
                    Lent::Over(PipeEnd::Truncated) => return Err(Error::UploadFailed),
                },
            }
        }
        // Data beyond the announced length stays in the pipe.
        *self = Self::Done;
        Ok((sent, Pause::Done))
    }
}

/// Takes the block of the pipe out: a kernel pipe only if it may be spliced.
fn lend(pipe: &mut PipeOut, splices: bool) -> Lent {
    pipe.set_splices(splices);
    pipe.lend()
}

/// Writes part of the body, as a chunk if the body is chunked.
fn put(conn: &mut ClientConn, tx: &mut Tx<'_>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if conn.body_out() == BodyOut::Chunked {
        let mut head = [0; 18];
        let n = chunk_head(bytes.len(), &mut head);
        let out = tx.sink();
        out.put(&head[..n]);
        out.put(bytes);
        out.put(CHUNK_END);
    } else {
        tx.sink().put(bytes);
    }
    conn.wrote(bytes.len() as u64);
}

/// Ends the body.
fn end(conn: &mut ClientConn, tx: &mut Tx<'_>, trailers: Option<&Headers>) -> Result<(), Error> {
    match conn.end_body(trailers, tx.sink()) {
        true => Ok(()),
        false => Err(Error::UploadFailed),
    }
}
