//! One WebSocket: an [`Upgrade`] that joins reader, queue and speaker.
//!
//! ```text
//!   each call:   why? ─▶ ┌ send: pong, ping, queue, then Close ◀───────┐
//!                        └ read: one event ─▶ speaker ─▶ done? ────yes─┘
//!                                                         └─no, or nothing more ─▶ mask, deadline
//!
//!   Open ──Close ordered, a rule broken, the server stops──▶ ours is sent ──▶ the peer's has come ──▶ over
//!     └────the peer's Close has come────────────────────────────▶ ours is sent ──────────────────────▲
//! ```

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Closed, Config, Done, Frame, How, Sender, Speaker,
    deflate::{Deflater, Inflate},
    frame::{Encoded, Fault, Op, RSV1, close_payload, mask, split},
    handshake::Agreed,
    keys,
    queue::{Core, Item, Last},
    reader::{Event, Reader},
};
use crate::{
    api::{Io, RxEnd, Upgrade},
    base::EventMask,
};

/// Which end of the connection we are: a client masks what it sends (RFC 6455 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

pub(super) struct Session {
    role: Role,
    core: Arc<Core>,
    /// Until it was told that it is over.
    speaker: Option<Box<dyn Speaker>>,
    reader: Reader,
    deflater: Option<Deflater>,
    /// A frame that was compressed or masked, and how much of it is out.
    current: Vec<u8>,
    sent: usize,
    /// How much of the queue's first item is out.
    partly: usize,
    /// The payload of the last ping that was not answered.
    pong: Option<Box<[u8]>>,
    /// A ping of ours is to go out.
    ping: bool,
    close: Closing,
    clocks: Clocks,
    opened: bool,
    /// The speaker was not done when we were left.
    held: bool,
}

/// How far the close handshake is.
#[derive(Default)]
struct Closing {
    /// The peer's code and reason.
    received: Option<(u16, String)>,
    /// Ours was sent.
    sent: Option<u16>,
    /// The peer's came first.
    by_peer: bool,
    /// The peer broke a rule: its answer is not waited for.
    fault: Option<Fault>,
    /// When it is given up.
    until: Option<Instant>,
}

struct Clocks {
    ping_every: Option<Duration>,
    pong_within: Duration,
    close_within: Duration,
    idle_timeout: Option<Duration>,
    /// When something was received.
    heard: Option<Instant>,
    /// When something was received, or a message was sent.
    active: Option<Instant>,
    /// When a ping was sent, if nothing was received since.
    pinged: Option<Instant>,
    /// For when we are called.
    armed: Option<Instant>,
}

/// It can't go on.
struct Over(How);

impl Session {
    pub(super) fn new(
        role: Role,
        config: &Config,
        agreed: Option<&Agreed>,
        speaker: impl Speaker + 'static,
    ) -> (Self, Sender) {
        let core = Core::new(config);
        let inflate = agreed.map(|agreed| Inflate::new(agreed.0.peer));
        let session = Self {
            role,
            core: core.clone(),
            reader: Reader::new(role == Role::Server, speaker.streams(), config, inflate),
            speaker: Some(Box::new(speaker)),
            deflater: agreed.map(|agreed| Deflater::new(&agreed.0)),
            current: Vec::new(),
            sent: 0,
            partly: 0,
            pong: None,
            ping: false,
            close: Closing::default(),
            clocks: Clocks {
                ping_every: config.ping_every,
                pong_within: config.pong_within,
                close_within: config.close_within,
                idle_timeout: config.idle_timeout,
                heard: None,
                active: None,
                pinged: None,
                armed: None,
            },
            opened: false,
            held: false,
        };
        (session, Sender(core))
    }

    /// Everything that can be done now: what is waited for then.
    fn work(&mut self, io: &mut Io<'_>, now: Instant) -> Result<EventMask, Over> {
        loop {
            let drained = self.send(io, now)?;
            if self.gives_room() {
                continue;
            }
            if drained && self.is_complete(io) {
                return Err(Over(self.how()));
            }
            if self.reads() {
                if self.read(io) {
                    continue;
                }
                if io.rx.end() != RxEnd::NotYet {
                    return Err(Over(How::PeerLeft));
                }
            }
            if drained && !self.sleeps() {
                continue;
            }
            self.reader.shrink();
            let mut mask = EventMask::EXTERNAL;
            if self.reads() || self.awaits_end() {
                mask |= EventMask::READ;
            }
            if !drained {
                mask |= EventMask::WRITE;
            }
            return Ok(mask);
        }
    }

    // Sending.

    /// Writes what there is room for. Whether nothing is left.
    fn send(&mut self, io: &mut Io<'_>, now: Instant) -> Result<bool, Over> {
        loop {
            if self.sent < self.current.len() {
                self.sent += io.tx.write(&self.current[self.sent..]);
                if self.sent < self.current.len() {
                    return Ok(false);
                }
                self.clocks.active = Some(now);
            }
            if self.partly == 0 && self.close.sent.is_none() {
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
            let mut queue = self.core.queue();
            if queue.kill {
                return Err(Over(How::Killed));
            }
            let Some((item, bytes)) = queue.front() else {
                let (code, reason) = match &queue.last {
                    Some(Last::HangUp) => return Err(Over(How::HungUp)),
                    Some(Last::Close { code, reason }) if self.close.sent.is_none() => (*code, reason.clone()),
                    _ => return Ok(true),
                };
                drop(queue);
                self.control(Op::Close, &close_payload(code, &reason))?;
                self.close.sent = Some(code);
                continue;
            };
            let as_it_is = self.role == Role::Server && (item.is_plain() || self.deflater.is_none());
            match item {
                Item::Small { .. } if as_it_is => {
                    self.partly += io.tx.write(&bytes[self.partly..]);
                    if self.partly < bytes.len() {
                        return Ok(false);
                    }
                    self.partly = 0;
                    queue.pop();
                }
                Item::Shared { frame, .. } if as_it_is => {
                    if !io.tx.write_shared(frame) {
                        return Ok(false);
                    }
                    queue.pop();
                }
                Item::Small { plain, .. } => {
                    let plain = *plain;
                    encode(self.role, bytes, plain, &mut self.deflater, &mut self.current, &mut self.sent)?;
                    queue.pop();
                }
                Item::Shared { frame, plain } => {
                    // Compressing takes its time: not under the lock.
                    let (frame, plain) = (frame.clone(), *plain);
                    queue.pop();
                    drop(queue);
                    encode(self.role, &frame, plain, &mut self.deflater, &mut self.current, &mut self.sent)?;
                }
            }
            self.clocks.active = Some(now);
        }
    }

    /// Makes a control frame the next thing that is written.
    fn control(&mut self, op: Op, payload: &[u8]) -> Result<(), Over> {
        let frame = Frame::encode(op, &[payload]);
        encode(self.role, &frame.wire, true, &mut None, &mut self.current, &mut self.sent)
    }

    /// Calls those who wait for room, if there is some. Whether there were any.
    fn gives_room(&self) -> bool {
        let mut queue = self.core.queue();
        if queue.on_room.is_empty() || (queue.is_open() && !queue.has_room()) {
            return false;
        }
        let waiting = mem::take(&mut queue.on_room);
        drop(queue);
        waiting.into_iter().for_each(|f| f());
        true
    }

    /// Nothing is left to be sent. Whether that is still so; if it is, senders have to wake us.
    fn sleeps(&mut self) -> bool {
        let mut queue = self.core.queue();
        let ordered = queue.kill || (queue.last.is_some() && self.close.sent.is_none());
        if !queue.is_empty() || ordered || !queue.on_room.is_empty() {
            return false;
        }
        queue.asleep = true;
        queue.shrink();
        drop(queue);
        if self.current.capacity() > 0 {
            self.current = Vec::new();
        }
        self.sent = 0;
        true
    }

    // Reading.

    /// Whether the next event may be told.
    fn reads(&self) -> bool {
        self.close.received.is_none() && self.close.fault.is_none() && self.core.is_free()
    }

    /// Tells the speaker one thing. `false`: more input is needed for that.
    fn read(&mut self, io: &mut Io<'_>) -> bool {
        let Some(speaker) = &mut self.speaker else { return false };
        let mut used = 0;
        let event = match self.reader.next(io.rx.bytes_mut(), &mut used) {
            Ok(None) => {
                io.rx.consume(used);
                return false;
            }
            Ok(Some(event)) => event,
            Err(fault) => {
                self.fails(fault);
                return true;
            }
        };
        match event {
            Event::Message(message) => {
                self.core.calls();
                speaker.message(message, Done(self.core.clone()));
                self.core.returned();
            }
            Event::Part(part) => {
                self.core.calls();
                speaker.part(part, Done(self.core.clone()));
                self.core.returned();
            }
            Event::Ping(payload) => {
                // Only the last one is answered if there are several (§5.5.3): a flood of them costs one pong.
                self.pong = Some(payload.into());
                speaker.ping(payload);
            }
            Event::Pong(payload) => speaker.pong(payload),
            Event::Close(code, reason) => {
                self.close.received = Some((code, reason.to_owned()));
                let mut queue = self.core.queue();
                self.close.by_peer = queue.last.is_none();
                // What is queued goes first; then its own code goes back.
                queue.last.get_or_insert_with(|| Last::Close { code, reason: String::new() });
            }
        }
        io.rx.consume(used);
        true
    }

    /// The peer has broken a rule (§7.1.7): it is told so behind what is queued, and not heard any more.
    fn fails(&mut self, fault: Fault) {
        self.close.fault = Some(fault);
        self.closes(fault.code, fault.rule);
    }

    fn closes(&self, code: u16, reason: &str) {
        let mut queue = self.core.queue();
        if queue.last != Some(Last::HangUp) {
            queue.last = Some(Last::Close { code, reason: reason.to_owned() });
        }
    }

    // Ending.

    /// Everything is sent: whether nothing is left to be waited for.
    fn is_complete(&self, io: &Io<'_>) -> bool {
        if self.close.sent.is_none() {
            return false;
        }
        // The server ends the stream first (§7.1.1), so that it is the client whose port can be used again at once.
        let ended = self.role == Role::Server || io.rx.end() != RxEnd::NotYet;
        self.close.fault.is_some() || (self.close.received.is_some() && ended)
    }

    /// A client waits for the server to end the stream.
    fn awaits_end(&self) -> bool {
        self.role == Role::Client && self.close.received.is_some()
    }

    /// How it ended, when both sides have said that it has.
    fn how(&self) -> How {
        match (&self.close.fault, &self.close.received, self.close.sent) {
            (Some(fault), ..) => How::Refused { code: fault.code, rule: fault.rule },
            (None, Some(_), Some(_)) if self.close.by_peer => How::PeerClosed,
            (None, Some(_), Some(_)) => How::WeClosed,
            _ => How::PeerLeft,
        }
    }

    /// Tells the speaker, once.
    fn over(&mut self, how: How) {
        let Some(mut speaker) = self.speaker.take() else { return };
        let mut queue = self.core.queue();
        queue.over = true;
        let unsent = queue.len();
        queue.clear();
        let waiting = mem::take(&mut queue.on_room);
        drop(queue);
        waiting.into_iter().for_each(|f| f());
        let (code, reason) = match (how, self.close.received.take()) {
            (How::Refused { code, rule }, _) => (code, rule.to_owned()),
            (_, Some(received)) => received,
            (_, None) => (1006, String::new()),
        };
        speaker.closed(&Closed { code, reason, how, unsent });
    }

    // Time.

    /// Looks at the clocks if one of them has run out; sets the next one.
    fn clocks(&mut self, io: &mut Io<'_>, now: Instant) -> Result<(), Over> {
        let closing = self.close.until.is_none() && (self.close.received.is_some() || self.core.queue().last.is_some());
        if closing {
            self.close.until = Some(now.checked_add(self.clocks.close_within).unwrap_or(now));
        } else if self.clocks.armed.is_some() && !io.why().deadline() {
            return Ok(());
        }
        let next = match self.close.until {
            Some(until) if now >= until => return Err(Over(How::NoClose)),
            Some(until) => Some(until),
            None => {
                let waits = !io.tx.is_empty() || !self.core.queue().is_empty();
                let (ping, next) = self.clocks.next(now, waits)?;
                self.ping |= ping;
                next
            }
        };
        self.clocks.armed = next;
        io.set_deadline(next);
        Ok(())
    }
}

impl Clocks {
    /// Whether a ping is due, and when to look again. `waits`: output of ours is still on its way, and a ping behind it.
    fn next(&mut self, now: Instant, waits: bool) -> Result<(bool, Option<Instant>), Over> {
        let after = |since: Instant, time: Option<Duration>| time.and_then(|time| since.checked_add(time));
        let idle = after(self.active.unwrap_or(now), self.idle_timeout);
        if idle.is_some_and(|idle| now >= idle) {
            return Err(Over(How::Idle));
        }
        let mut ping = false;
        let mut pong = self.pinged.and_then(|pinged| after(pinged, Some(self.pong_within)));
        if pong.is_some_and(|pong| now >= pong) {
            if !waits {
                return Err(Over(How::NoPong));
            }
            self.pinged = Some(now);
            pong = after(now, Some(self.pong_within));
        } else if self.pinged.is_none() {
            pong = after(self.heard.unwrap_or(now), self.ping_every);
            if pong.is_some_and(|due| now >= due) {
                ping = true;
                self.pinged = Some(now);
                pong = after(now, Some(self.pong_within));
            }
        }
        Ok((ping, [idle, pong].into_iter().flatten().min()))
    }

    fn heard(&mut self, now: Instant) {
        (self.heard, self.active, self.pinged) = (Some(now), Some(now), None);
    }
}

impl Upgrade for Session {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let (now, why) = (io.now().mono, io.why());
        if !self.opened {
            self.opened = true;
            self.core.opens(io.waker());
            self.clocks.heard(now);
            let sender = Sender(self.core.clone());
            if let Some(speaker) = &mut self.speaker {
                speaker.open(&sender);
            }
        }
        if why.read() || mem::take(&mut self.held) {
            // While the speaker was at work the peer was not heard, through no fault of its own.
            self.clocks.heard(now);
        }
        if why.stopping() && self.core.queue().is_open() {
            self.closes(1001, "");
        }
        if self.awaits_end() {
            io.rx.consume(usize::MAX);
        }
        let result = match why.reset() {
            true => Err(Over(How::Reset)),
            false => self.clocks(io, now).and_then(|()| self.work(io, now)).and_then(|mask| {
                // What was read may have begun the close handshake.
                self.clocks(io, now).map(|()| mask)
            }),
        };
        self.held = !self.core.is_free();
        let how = match result {
            Ok(mask) => return mask,
            Err(Over(how)) => how,
        };
        if matches!(how, How::Killed | How::NoRandom) || (how == How::NoClose && self.close.sent.is_none()) {
            io.abort();
        }
        self.over(how);
        EventMask::TERMINATE
    }
}

/// The engine drops it without another word: a panic, the end of the grace time, a peer that takes nothing.
impl Drop for Session {
    fn drop(&mut self) {
        self.over(How::Dropped);
    }
}

/// Makes `current`, from `sent` on, the frame as this connection sends it.
fn encode(
    role: Role,
    wire: &[u8],
    plain: bool,
    deflater: &mut Option<Deflater>,
    current: &mut Vec<u8>,
    sent: &mut usize,
) -> Result<(), Over> {
    // The head is written when the payload's length is known, right before it.
    const HEAD: usize = 14;
    let (mut first, payload) = split(wire);
    current.clear();
    current.resize(HEAD, 0);
    if !plain && deflater.as_mut().is_some_and(|deflater| deflater.message(payload, current)) {
        first |= RSV1;
    } else {
        current.extend_from_slice(payload);
    }
    let key = match role {
        Role::Server => None,
        Role::Client => Some(keys::next().map_err(|_| Over(How::NoRandom))?),
    };
    if let Some(key) = key {
        mask(&mut current[HEAD..], key, 0);
    }
    let head = Encoded::new(first, current.len() - HEAD, key);
    let head = head.as_bytes();
    *sent = HEAD - head.len();
    current[*sent..HEAD].copy_from_slice(head);
    Ok(())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
