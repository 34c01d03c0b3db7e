//! Two ends of pipes that form a connection, for [`LoopHandle::adopt_pipes`](super::LoopHandle::adopt_pipes).
//!
//! ```text
//!   PipeIn  ──▶ [ block ] ──▶ input: PipeOut ──read──▶  engine
//!   PipeOut ◀── [ block ] ◀── output: PipeIn ◀──write── engine
//!   the application's ends        Ends
//! ```
//! A pipe that is empty or full notes under its lock that this end must be woken. So an event follows every later
//! change, as with a socket.

use std::io::{self, IoSlice};

use super::{
    PipeIn, PipeOut, Waker,
    pipe::{Block, Lent, PipeEnd},
};
use crate::base::duplex::{Duplex, PeerSide};

#[derive(Debug)]
pub(crate) struct Ends {
    input: PipeOut,
    /// `None`: finished, or truncated.
    output: Option<PipeIn>,
}

impl Ends {
    /// Creates the connection. `waker` is called for later changes; the caller must check the state at the start.
    pub(crate) fn new(mut input: PipeOut, mut output: PipeIn, waker: &Waker) -> Self {
        input.on_data(waker.clone());
        output.on_room(waker.clone());
        Self { input, output: Some(output) }
    }
}

impl Duplex for Ends {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < into.len() {
            match self.input.lend_buf() {
                Lent::Block(mut buf) => {
                    // It may have more, in further pieces.
                    let filled = buf.filled();
                    let took = filled.len().min(into.len() - n);
                    into[n..n + took].copy_from_slice(&filled[..took]);
                    buf.consume(took);
                    self.input.give_back(Block::Buf(buf), took);
                    n += took;
                }
                _ if n > 0 => break,
                Lent::NotNow => return Err(io::ErrorKind::WouldBlock.into()),
                Lent::Over(PipeEnd::Clean(_)) => break,
                Lent::Over(PipeEnd::Truncated) => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        Ok(n)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(output) = &mut self.output else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut written = 0;
        for piece in pieces {
            let n = output.write(piece);
            written += n;
            if n < piece.len() {
                break;
            }
        }
        if written > 0 || pieces.iter().all(|piece| piece.is_empty()) {
            return Ok(written);
        }
        let kind = if output.is_closed() { io::ErrorKind::BrokenPipe } else { io::ErrorKind::WouldBlock };
        Err(kind.into())
    }

    fn finish(&mut self) {
        if let Some(output) = self.output.take() {
            output.finish(None);
        }
    }

    fn cut(&mut self) {
        self.output = None;
    }

    fn peer_side(&self) -> PeerSide {
        if self.input.is_truncated() || self.output.as_ref().is_some_and(PipeIn::is_closed) {
            PeerSide::Reset
        } else if self.input.has_ended() {
            PeerSide::Finished
        } else {
            PeerSide::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::pipe,
        base::{
            ConnId, RequestId,
            mailbox::{Mailbox, Notifier},
        },
    };

    struct Silent;
    impl Notifier for Silent {
        fn notify(&self) {}
    }

    fn ends(room: usize) -> (PipeIn, PipeOut, Ends) {
        let ((ours, input), (output, theirs)) = (pipe(room), pipe(room));
        let id = RequestId { conn: ConnId::new(0, 0, 0), number: 0 };
        let waker = Waker::new(id, Arc::new(Mailbox::new(Box::new(Silent))));
        (ours, theirs, Ends::new(input, output, &waker))
    }

    fn kind(result: io::Result<usize>) -> io::ErrorKind {
        result.expect_err("an error").kind()
    }

    #[test]
    fn it_reads_and_writes_like_a_socket() {
        let (mut ours, mut theirs, mut ends) = ends(12);
        let mut into = [0; 5];
        assert_eq!(kind(ends.read(&mut into)), io::ErrorKind::WouldBlock);
        ours.write(b"hello!");
        assert_eq!((ends.read(&mut into).expect("bytes"), &into), (5, b"hello"));
        assert_eq!((ends.read(&mut into).expect("bytes"), into[0]), (1, b'!'));
        let pieces = [IoSlice::new(b"good "), IoSlice::new(b""), IoSlice::new(b"evening")];
        assert_eq!(ends.write(&pieces).expect("bytes"), 12);
        assert_eq!(kind(ends.write(&pieces[2..])), io::ErrorKind::WouldBlock);
        assert_eq!(theirs.bytes(), b"good evening");
        assert_eq!(ends.peer_side(), PeerSide::Open);
    }

    #[test]
    fn an_end_in_order_follows_the_data() {
        let (mut ours, mut theirs, mut ends) = ends(8);
        ours.write(b"hello");
        ours.finish(None);
        assert_eq!(ends.peer_side(), PeerSide::Finished);
        let mut into = [0; 9];
        assert_eq!(ends.read(&mut into).expect("bytes"), 5);
        assert_eq!(ends.read(&mut into).expect("the end"), 0);
        ends.finish();
        ends.finish();
        assert!(theirs.is_finished());
        assert_eq!(kind(ends.write(&[IoSlice::new(b"more")])), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_dropped_pipe_is_detected_on_either_side() {
        let (ours, _theirs, mut connection) = ends(8);
        drop(ours);
        assert_eq!(connection.peer_side(), PeerSide::Reset);
        assert_eq!(kind(connection.read(&mut [0; 9])), io::ErrorKind::ConnectionReset);
        let (_ours, theirs, mut connection) = ends(8);
        drop(theirs);
        assert_eq!(connection.peer_side(), PeerSide::Reset);
        assert_eq!(kind(connection.write(&[IoSlice::new(b"more")])), io::ErrorKind::BrokenPipe);
        let (_ours, theirs, mut connection) = ends(8);
        connection.cut();
        assert!(theirs.is_truncated());
        drop(theirs);
        assert_eq!(connection.peer_side(), PeerSide::Open, "after an abort the peer need not read");
    }
}
