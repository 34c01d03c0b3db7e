//! Bodies that show lost, doubled and moved bytes.

use std::time::Duration;

use super::Client;

/// A peer that accepts no byte for this long is stuck.
const STUCK: Duration = Duration::from_millis(200);

/// Returns bytes that show a lost, doubled or moved one.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    let one: Vec<u8> = (0..251).map(|i| ((from + i) % 251) as u8).collect();
    let mut all = one.repeat(len.div_ceil(251));
    all.truncate(len);
    all
}

/// Sends until the peer accepts no more. Returns the number of bytes sent.
pub(crate) fn push_until_stuck(source: &mut Client, total: usize) -> usize {
    let block = pattern(0, 251 * 1024);
    let mut sent = 0;
    while sent < total {
        let from = sent % 251;
        let n = (total - sent).min(block.len() - from);
        match source.push(&block[from..from + n], STUCK) {
            Some(n) => sent += n,
            None => break,
        }
    }
    sent
}

/// Receives `total` bytes of the pattern.
pub(crate) fn receive(receiver: &mut Client, total: usize) {
    let (expected, mut got) = (pattern(0, 251 + (64 << 10)), 0);
    while got < total {
        let bytes = receiver.some((total - got).min(64 << 10)).expect("more");
        assert!(bytes == expected[got % 251..][..bytes.len()], "wrong within {} from {got}", bytes.len());
        got += bytes.len();
    }
}
