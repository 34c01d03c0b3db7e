//! What goes out, in its order: the rest of a frame that is begun, control frames, the queue, the Close.

use std::mem;

use super::{
    CloseCause, Frame,
    clocks::Ended,
    deflate::Deflater,
    frame::{Encoded, Op, RSV1, close_payload, mask, split},
    keys,
    queue::{Core, Item, Last},
};
use crate::api::Tx;

/// Which end of the connection we are: a client masks what it sends (RFC 6455 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

pub(super) struct Outgoing {
    role: Role,
    /// Boxed, as it is rare.
    deflater: Option<Box<Deflater>>,
    /// A frame that was made for this connection, and how much of it is out.
    current: Vec<u8>,
    sent: usize,
    /// How much of the queue's first item is out.
    partly: usize,
    /// The payload of the last ping that was not answered.
    pub(super) pong: Option<Box<[u8]>>,
    /// A ping of ours is to go out.
    pub(super) ping: bool,
    /// The Close is written, and nothing is behind it.
    pub(super) closed: bool,
}

/// What became of it.
pub(super) struct Sent {
    /// Nothing is left.
    pub(super) all: bool,
    /// A message went out.
    pub(super) any: bool,
    /// The Close is ordered, if not sent.
    pub(super) closing: bool,
    /// Somebody waits for room, and there is some.
    pub(super) room: bool,
}

impl Sent {
    /// There was nothing to be sent.
    pub(super) const NOTHING: Self = Self { all: true, any: false, closing: false, room: false };
}

impl Outgoing {
    pub(super) fn new(role: Role, deflater: Option<Deflater>) -> Self {
        let deflater = deflater.map(Box::new);
        let (current, sent, partly, pong, ping, closed) = (Vec::new(), 0, 0, None, false, false);
        Self { role, deflater, current, sent, partly, pong, ping, closed }
    }

    /// Writes what there is room for. If that is all, senders have to wake us from here on.
    pub(super) fn send(&mut self, core: &Core, tx: &mut Tx<'_>) -> Result<Sent, Ended> {
        let mut queue = core.queue();
        let mut any = false;
        let all = loop {
            if queue.abort {
                return Err(Ended(CloseCause::Aborted));
            }
            if self.sent < self.current.len() {
                self.sent += tx.write(&self.current[self.sent..]);
                if self.sent < self.current.len() {
                    break false;
                }
            }
            if self.closed {
                (self.pong, self.ping) = (None, false);
            } else if self.partly == 0 {
                // Between two frames, and ahead of what waits.
                if let Some(payload) = self.pong.take() {
                    self.control(Op::Pong, &payload)?;
                    continue;
                }
                if mem::take(&mut self.ping) {
                    self.control(Op::Ping, b"")?;
                    continue;
                }
            }
            let Some((item, bytes)) = queue.front() else {
                match queue.last.as_deref() {
                    Some(Last::EndOfStream) => return Err(Ended(CloseCause::ClosedWithoutHandshake)),
                    Some(Last::Close { code, reason }) if !self.closed => {
                        self.control(Op::Close, &close_payload(*code, reason))?;
                        self.closed = true;
                        continue;
                    }
                    _ => break true,
                }
            };
            let as_it_is = self.role == Role::Server && (item.is_plain() || self.deflater.is_none());
            match item {
                Item::Small { .. } if as_it_is => {
                    self.partly += tx.write(&bytes[self.partly..]);
                    if self.partly < bytes.len() {
                        break false;
                    }
                    self.partly = 0;
                    queue.pop();
                }
                Item::Shared { frame, .. } if as_it_is => {
                    if !tx.write_shared(frame) {
                        break false;
                    }
                    queue.pop();
                }
                Item::Small { plain, .. } => {
                    self.encode(bytes, *plain)?;
                    queue.pop();
                }
                Item::Shared { frame, plain } => {
                    let (frame, plain) = (frame.clone(), *plain);
                    queue.pop();
                    // Compressing takes its time: senders need not wait for it.
                    drop(queue);
                    self.encode(&frame, plain)?;
                    queue = core.queue();
                }
            }
            any = true;
        };
        let room = !queue.on_room.is_empty() && (queue.has_room() || !queue.is_open());
        queue.asleep = all && !room;
        if all {
            queue.shrink();
        }
        Ok(Sent { all, any, closing: queue.last.is_some(), room })
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.current.capacity()
    }

    /// What was allocated for frames goes back.
    pub(super) fn shrink(&mut self) {
        if self.sent == self.current.len() && self.current.capacity() > 0 {
            self.current = Vec::new();
            self.sent = 0;
        }
    }

    /// Makes a control frame the next thing that is written.
    fn control(&mut self, op: Op, payload: &[u8]) -> Result<(), Ended> {
        self.encode(&Frame::encode(op, &[payload]).wire, true)
    }

    /// Makes one of our frames the next thing that is written, as this connection sends it.
    fn encode(&mut self, wire: &[u8], plain: bool) -> Result<(), Ended> {
        // The head is written when the payload's length is known, right before it.
        const HEAD: usize = 14;
        let (mut first, payload) = split(wire);
        let current = &mut self.current;
        current.clear();
        current.resize(HEAD, 0);
        if !plain && self.deflater.as_mut().is_some_and(|deflater| deflater.message(payload, current)) {
            first |= RSV1;
        } else {
            current.extend_from_slice(payload);
        }
        let key = match self.role {
            Role::Server => None,
            Role::Client => Some(keys::next().map_err(|_| Ended(CloseCause::NoRandom))?),
        };
        if let Some(key) = key {
            mask(&mut current[HEAD..], key, 0);
        }
        let head = Encoded::new(first, current.len() - HEAD, key);
        let head = head.as_bytes();
        self.sent = HEAD - head.len();
        current[self.sent..HEAD].copy_from_slice(head);
        Ok(())
    }
}
