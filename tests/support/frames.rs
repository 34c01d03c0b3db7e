//! WebSocket frames as a client sends them, correct or not, and as it receives them.

use crate::wire::Wire;

/// The fields of every handshake.
pub(crate) const HANDSHAKE: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// Returns a masked frame that begins with this byte.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let (payload, key) = (payload.as_ref(), [0x12, 0x34, 0x56, 0x78]);
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i & 3]));
    frame
}

/// Receives the next frame of a server, which does not mask: its first byte and its payload.
#[track_caller]
pub(crate) fn next(wire: &mut Wire) -> (u8, Vec<u8>) {
    let [first, second] = wire.exactly(2)[..] else { unreachable!("two bytes") };
    let len = match second {
        126 => wire.exactly(2).iter().fold(0, |n, b| n << 8 | usize::from(*b)),
        127 => wire.exactly(8).iter().fold(0, |n, b| n << 8 | usize::from(*b)),
        n => n.into(),
    };
    assert!(second & 0x80 == 0 && len < 1 << 30, "a server does not mask");
    (first, wire.exactly(len))
}
