//! Writes the output in order: the rest of a started frame, control frames, the queue, the Close.

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

/// The role of this side: a client masks its frames (RFC 6455 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

pub(super) struct Outgoing {
    role: Role,
    /// Boxed, as it is rare.
    deflater: Option<Box<Deflater>>,
    /// A frame encoded for this connection, and how much of it is sent.
    current: Vec<u8>,
    sent: usize,
    /// The number of bytes of the queue's first item that are sent.
    partly: usize,
    /// The payload of the last ping that got no pong yet.
    pub(super) pong: Option<Box<[u8]>>,
    /// A ping is due.
    pub(super) ping: bool,
    /// The Close is written; nothing follows it.
    pub(super) closed: bool,
}

/// The result of [`Outgoing::send`].
pub(super) struct Sent {
    /// Nothing is left.
    pub(super) all: bool,
    /// A message went out.
    pub(super) any: bool,
    /// The Close is requested or sent.
    pub(super) closing: bool,
    /// There is room, and a callback waits for it.
    pub(super) room: bool,
}

impl Sent {
    /// Nothing to send.
    pub(super) const NOTHING: Self = Self { all: true, any: false, closing: false, room: false };
}

impl Outgoing {
    pub(super) fn new(role: Role, deflater: Option<Deflater>) -> Self {
        let deflater = deflater.map(Box::new);
        let (current, sent, partly, pong, ping, closed) = (Vec::new(), 0, 0, None, false, false);
        Self { role, deflater, current, sent, partly, pong, ping, closed }
    }

    /// Writes what fits. If nothing is left, senders must wake the session from now on.
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
                // Between two frames, before the queue.
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
                    // Without the lock, since compression takes time.
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

    /// Frees the memory for frames.
    pub(super) fn shrink(&mut self) {
        if self.sent == self.current.len() && self.current.capacity() > 0 {
            self.current = Vec::new();
            self.sent = 0;
        }
    }

    /// Encodes a control frame as the next to write.
    fn control(&mut self, op: Op, payload: &[u8]) -> Result<(), Ended> {
        self.encode(&Frame::encode(op, &[payload]).wire, true)
    }

    /// Encodes a queued frame for this connection, as the next to write.
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
            Role::Client => Some(keys::next().map_err(|_| Ended(CloseCause::RandomUnavailable))?),
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
