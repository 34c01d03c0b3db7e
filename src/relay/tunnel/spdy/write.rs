//! Appends frames to a buffer.

use super::frame::{Code, FIN, kind};

fn control(out: &mut Vec<u8>, kind: u16, flags: u8, words: &[u32]) {
    out.extend_from_slice(&[0x80, 3]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&((u32::from(flags) << 24) | (words.len() as u32 * 4)).to_be_bytes());
    words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
}

/// Writes the head, `fixed`, and what `block` appends.
fn syn(out: &mut Vec<u8>, kind: u16, fin: bool, fixed: &[u8], block: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    control(out, kind, if fin { FIN } else { 0 }, &[]);
    out.extend_from_slice(fixed);
    block(out);
    // The caller limits a block to far less than 24 bits.
    let len = (out.len() - start - 8) as u32;
    out[start + 5..start + 8].copy_from_slice(&len.to_be_bytes()[1..]);
}

/// The priority is 0, like in spdy-proxy.
pub(super) fn syn_stream(out: &mut Vec<u8>, stream: u32, fin: bool, block: impl FnOnce(&mut Vec<u8>)) {
    let [a, b, c, d] = stream.to_be_bytes();
    syn(out, kind::SYN_STREAM, fin, &[a, b, c, d, 0, 0, 0, 0, 0, 0], block);
}

pub(super) fn syn_reply(out: &mut Vec<u8>, stream: u32, fin: bool, block: impl FnOnce(&mut Vec<u8>)) {
    syn(out, kind::SYN_REPLY, fin, &stream.to_be_bytes(), block);
}

/// The number of `bytes` must fit into 24 bits.
pub(super) fn data(out: &mut Vec<u8>, stream: u32, fin: bool, bytes: &[u8]) {
    let flags = if fin { u32::from(FIN) << 24 } else { 0 };
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&(flags | bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    control(out, kind::RST_STREAM, 0, &[stream, code.0]);
}

pub(super) fn ping(out: &mut Vec<u8>, id: u32) {
    control(out, kind::PING, 0, &[id]);
}

/// `status`: 0 for a normal end, 1 if the peer broke a rule.
pub(super) fn goaway(out: &mut Vec<u8>, last: u32, status: u32) {
    control(out, kind::GOAWAY, 0, &[last, status]);
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, delta: u32) {
    control(out, kind::WINDOW_UPDATE, 0, &[stream, delta]);
}
