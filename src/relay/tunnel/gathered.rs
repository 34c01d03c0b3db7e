//! The part of a body that was taken out of h2 and does not fit into its pipe yet.
//!
//! ```text
//!   h2 ── DATA frames ──▶ gather ──▶ [ large | many small ones, as one | large ] ──▶ front ──▶ a pipe
//! ```
//! h2 ends a whole connection if too many small frames wait in it, because each costs it more memory than its bytes.
//! One client that sends byte by byte to a handler that does not read could end the streams of all others. So could a
//! client that does not read a response of small pieces. So no frames are left in h2: small ones are joined here. This
//! needs no more memory: the window is returned only when bytes leave for the pipe, and it bounds what is held.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;

/// Size from which a frame is kept as it is. A smaller one is copied, which frees the buffer that it came in.
const LARGE: usize = 1024;

/// Bytes of a body, in order.
#[derive(Default)]
pub(super) struct Gathered {
    front: Bytes,
    pieces: VecDeque<Bytes>,
    small: BytesMut,
}

impl Gathered {
    /// Returns the next bytes; empty if nothing is held. [`advance`](Self::advance) removes them.
    pub(super) fn front(&mut self) -> &[u8] {
        if self.front.is_empty() {
            self.front = match self.pieces.pop_front() {
                Some(piece) => piece,
                None if self.small.is_empty() => return &[],
                None => std::mem::take(&mut self.small).freeze(),
            };
        }
        &self.front
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.front.advance(n);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.pieces.is_empty() && self.small.is_empty()
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if self.is_empty() {
            self.front = data;
        } else if data.len() < LARGE {
            self.small.extend_from_slice(&data);
        } else {
            if !self.small.is_empty() {
                self.pieces.push_back(std::mem::take(&mut self.small).freeze());
            }
            self.pieces.push_back(data);
        }
    }

    /// Takes all data out of h2, behind what is held already. A later call of `poll_data` finds an end or an error
    /// again.
    pub(super) fn gather(&mut self, recv: &mut RecvStream, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(Ok(data))) = recv.poll_data(cx) {
            self.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_small_frames_are_put_together() {
        let mut held = Gathered::default();
        let sizes = [3, 5, 2000, 1, 1, 1023, 1024, 4096, 7];
        let all: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
        let mut rest = Bytes::copy_from_slice(&all);
        for size in sizes {
            held.push(rest.split_to(size));
        }
        let (mut out, mut pieces) = (Vec::new(), Vec::new());
        while !held.front().is_empty() {
            let n = held.front().len();
            pieces.push(n);
            // As a pipe takes it: some, then the rest.
            out.extend_from_slice(&held.front()[..n / 2]);
            held.advance(n / 2);
            let rest = held.front().to_vec();
            out.extend_from_slice(&rest);
            held.advance(rest.len());
        }
        assert_eq!(pieces, [3, 5, 2000, 1025, 1024, 4096, 7]);
        assert!(held.is_empty() && out == all);
    }
}
