//! One WebSocket: an [`Upgrade`] that joins reader, queue and handler.
//!
//! ```text
//!   each call: events ─▶ ┌ send: pong, ping, queue, then Close ◀───────┐
//!                        └ read: one event ─▶ handler ─▶ done? ────yes─┘
//!                                                         └─no, or nothing more ─▶ mask, deadline
//!
//!   Open ──close called, rule violated, server stops──▶ Close sent ──▶ the peer's Close received ──▶ ended
//!     └────the peer's Close received───────────────────────▶ Close sent ────────────────────────────────▲
//! ```

use std::{mem, sync::Arc, time::Instant};

use super::{
    CloseCause, Closed, Config, Done, Handler, Sender,
    clocks::{Clocks, Ended},
    deflate::{Deflater, Inflate},
    frame::Fault,
    handshake::Agreed,
    outgoing::{Outgoing, Role, Sent},
    queue::{Core, Last},
    reader::{Event, Reader},
};
use crate::{
    api::{Io, ReadState, Upgrade},
    base::EventMask,
};

pub(super) struct Session {
    role: Role,
    core: Arc<Core>,
    /// Until `closed` is called.
    handler: Option<Box<dyn Handler>>,
    reader: Reader,
    outgoing: Outgoing,
    /// Set from the first Close, in either direction. Boxed, so that an idle connection is small.
    close: Option<Box<Closing>>,
    config: Config,
    /// Set in the first call.
    clocks: Option<Clocks>,
    /// The handler was not done at the end of the last call.
    held: bool,
    /// Nothing was left to send at the end of the last call.
    quiet: bool,
    /// Bytes of the arriving message, as last reported to the loop.
    assembled: usize,
}

/// The state of the close handshake.
#[derive(Default)]
struct Closing {
    /// The peer's code and reason.
    received: Option<(u16, String)>,
    /// The peer's Close came first.
    by_peer: bool,
    /// The peer violated a rule: its Close is not waited for.
    fault: Option<Fault>,
    /// The deadline of the close handshake.
    until: Option<Instant>,
}

impl Session {
    pub(super) fn new(
        role: Role,
        config: Config,
        agreed: Option<&Agreed>,
        handler: impl Handler + 'static,
    ) -> (Self, Sender) {
        let core = Core::new(&config);
        let inflate = agreed.map(|agreed| Inflate::new(agreed.0.peer));
        let session = Self {
            role,
            core: core.clone(),
            reader: Reader::new(role == Role::Server, handler.streams(), &config, inflate),
            outgoing: Outgoing::new(role, agreed.map(|agreed| Deflater::new(&agreed.0))),
            handler: Some(Box::new(handler)),
            close: None,
            config,
            clocks: None,
            held: false,
            quiet: false,
            assembled: 0,
        };
        (session, Sender(core))
    }

    /// Does everything that can be done now, and returns the mask. `quiet`: nothing is left to send; a sender that
    /// changes that wakes the session.
    fn advance(&mut self, io: &mut Io<'_>, quiet: bool) -> Result<EventMask, Ended> {
        let mut sent = if quiet { Sent::NOTHING } else { self.send(io)? };
        loop {
            if sent.room {
                let waiting = mem::take(&mut self.core.queue().on_room);
                waiting.into_iter().for_each(|f| f());
            } else if sent.all && self.is_complete(io) {
                return Err(Ended(self.cause()));
            } else if !self.reads() {
                break;
            } else if !self.read(io) {
                if io.rx.state() != ReadState::Open {
                    return Err(Ended(CloseCause::NoCloseFrame));
                }
                if !self.is_late(io)? {
                    break;
                }
                self.reject(Fault::policy("message too slow"));
            }
            sent = self.send(io)?;
        }
        self.reader.shrink();
        self.count(io);
        if sent.closing && self.close.as_ref().is_none_or(|close| close.until.is_none()) {
            let now = io.now().mono;
            let until = now.checked_add(self.config.0.close_timeout).unwrap_or(now);
            self.close.get_or_insert_default().until = Some(until);
            self.check_clocks(io)?;
        }
        let mut mask = EventMask::EXTERNAL;
        if self.reads() || self.awaits_end() {
            mask |= EventMask::READ;
        }
        if sent.all {
            self.outgoing.shrink();
        } else {
            mask |= EventMask::WRITE;
        }
        self.quiet = sent.all;
        Ok(mask)
    }

    fn send(&mut self, io: &mut Io<'_>) -> Result<Sent, Ended> {
        let sent = self.outgoing.send(&self.core, &mut io.tx)?;
        if let (true, Some(clocks)) = (sent.any, &mut self.clocks) {
            clocks.sent(io.now().mono);
        }
        Ok(sent)
    }

    /// Returns `true` if the arriving message has exceeded its timeout. Call it when all input has been read.
    fn is_late(&mut self, io: &mut Io<'_>) -> Result<bool, Ended> {
        let (now, progress) = (io.now().mono, self.reader.progress());
        let Some(clocks) = &mut self.clocks else { return Ok(false) };
        let starts = clocks.arriving(now, progress);
        let late = clocks.is_late(now);
        if starts {
            self.check_clocks(io)?;
        }
        Ok(late)
    }

    /// Reports the held bytes to the loop, if they have changed.
    #[inline]
    fn count(&mut self, io: &mut Io<'_>) {
        let assembled = self.assembled();
        if assembled != self.assembled {
            self.assembled = assembled;
            io.hold(assembled);
        }
    }

    /// Returns the bytes held for the arriving message.
    pub(super) fn assembled(&self) -> usize {
        self.reader.assembled()
    }

    /// Returns the bytes allocated for messages, in either direction.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.reader.held() + self.outgoing.held() + self.core.queue().held()
    }

    // Reading.

    /// Returns `true` if the next event may be delivered.
    fn reads(&self) -> bool {
        let is_receiving = |close: &Closing| close.received.is_none() && close.fault.is_none();
        self.close.as_deref().is_none_or(is_receiving) && self.core.is_free()
    }

    /// Delivers one event to the handler. Returns `false` if it needs more input.
    fn read(&mut self, io: &mut Io<'_>) -> bool {
        let Some(handler) = &mut self.handler else { return false };
        let mut used = 0;
        let event = match self.reader.next(io.rx.bytes_mut(), &mut used) {
            Ok(None) => {
                io.rx.consume(used);
                return false;
            }
            Ok(Some(event)) => event,
            Err(fault) => {
                self.reject(fault);
                return true;
            }
        };
        match event {
            Event::Message(message) => {
                self.core.calls();
                handler.message(message, Done(self.core.clone()));
                self.core.returned();
            }
            Event::Part(part) => {
                self.core.calls();
                handler.part(part, Done(self.core.clone()));
                self.core.returned();
            }
            Event::Ping(payload) => {
                if !self.outgoing.closed {
                    // Only the last one gets a pong if there are several (§5.5.3): a flood of them costs one pong.
                    self.outgoing.pong = Some(payload.into());
                }
                handler.ping(payload);
            }
            Event::Pong(payload) => handler.pong(payload),
            Event::Close(code, reason) => {
                let mut queue = self.core.queue();
                let close = self.close.get_or_insert_default();
                close.received = Some((code, reason.to_owned()));
                close.by_peer = queue.last.is_none();
                // The queue is sent first, then a Close with the peer's code.
                queue.last.get_or_insert_with(|| Box::new(Last::Close { code, reason: String::new() }));
                drop(queue);
                self.reader.abandon();
            }
        }
        io.rx.consume(used);
        true
    }

    /// Sends a Close for a violated rule (§7.1.7) after the queue, and reads no more messages.
    #[cold]
    fn reject(&mut self, fault: Fault) {
        self.close.get_or_insert_default().fault = Some(fault);
        self.closes(fault.code, fault.rule);
        self.reader.abandon();
    }

    fn closes(&self, code: u16, reason: &str) {
        let mut queue = self.core.queue();
        if queue.last.as_deref() != Some(&Last::EndOfStream) {
            queue.last = Some(Box::new(Last::Close { code, reason: reason.to_owned() }));
        }
    }

    // Ending.

    /// Returns `true` if, after everything is sent, there is nothing to wait for.
    fn is_complete(&self, io: &Io<'_>) -> bool {
        let Some(close) = self.close.as_deref().filter(|_| self.outgoing.closed) else { return false };
        // The server ends the stream first (§7.1.1), so that it is the client whose port can be used again at once.
        let ended = self.role == Role::Server || io.rx.state() != ReadState::Open;
        close.fault.is_some() || (close.received.is_some() && ended)
    }

    /// Returns `true` for a client that waits for the server to end the stream.
    fn awaits_end(&self) -> bool {
        self.role == Role::Client && self.close.as_ref().is_some_and(|close| close.received.is_some())
    }

    /// Returns the cause of the end, after both sides have sent a Close.
    fn cause(&self) -> CloseCause {
        match self.close.as_deref() {
            Some(Closing { fault: Some(fault), .. }) => CloseCause::Rejected { code: fault.code, rule: fault.rule },
            Some(Closing { received: Some(_), by_peer: true, .. }) => CloseCause::PeerClosed,
            Some(Closing { received: Some(_), .. }) => CloseCause::LocalClosed,
            _ => CloseCause::NoCloseFrame,
        }
    }

    /// Returns `true` if both sides have sent a Close.
    fn is_agreed(&self) -> bool {
        self.outgoing.closed && self.close.as_ref().is_some_and(|close| close.received.is_some())
    }

    /// Calls the handler's `closed`, once.
    fn ended(&mut self, cause: CloseCause) {
        let Some(mut handler) = self.handler.take() else { return };
        // §7.1.4: closed cleanly, regardless of the end of the stream. Many servers reset it.
        let cause = match cause {
            CloseCause::Reset | CloseCause::CloseTimeout | CloseCause::Dropped if self.is_agreed() => self.cause(),
            cause => cause,
        };
        let mut queue = self.core.queue();
        queue.ended = true;
        let unsent = queue.len();
        queue.clear();
        let waiting = mem::take(&mut queue.on_room);
        drop(queue);
        waiting.into_iter().for_each(|f| f());
        let (code, reason) = match (cause, self.close.take().and_then(|close| close.received)) {
            (CloseCause::Rejected { code, rule }, _) => (code, rule.to_owned()),
            (_, Some(received)) => received,
            (_, None) => (1006, String::new()),
        };
        handler.closed(&Closed { code, reason, cause, unsent });
    }

    // Time.

    /// Checks the clocks, and sets the next deadline.
    fn check_clocks(&mut self, io: &mut Io<'_>) -> Result<(), Ended> {
        let now = io.now().mono;
        let next = match (self.close.as_ref().and_then(|close| close.until), &mut self.clocks) {
            (Some(until), _) if now >= until => return Err(Ended(CloseCause::CloseTimeout)),
            (Some(until), _) => Some(until),
            (None, Some(clocks)) => {
                let waits = !io.tx.is_empty() || !self.core.queue().is_empty();
                let (ping, next) = clocks.check(now, waits)?;
                self.outgoing.ping |= ping;
                next
            }
            (None, None) => None,
        };
        io.set_deadline(next);
        Ok(())
    }
}

impl Upgrade for Session {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let (now, events) = (io.now().mono, io.events());
        let mut due = events.deadline_passed();
        match &mut self.clocks {
            // While the handler was busy, nothing was read from the peer, which does not count against it.
            Some(clocks) if events.is_readable() || self.held => due |= clocks.received(now),
            Some(_) => {}
            None => {
                due = true;
                self.clocks = Some(Clocks::new(&self.config, now));
                self.core.opens(io.waker());
                let sender = Sender(self.core.clone());
                if let Some(handler) = &mut self.handler {
                    handler.open(&sender);
                }
            }
        }
        if events.shed() {
            self.assembled = 0;
            if !self.reader.is_idle() {
                self.reject(Fault::later("too many messages are arriving"));
            }
        }
        if let Some(clocks) = &mut self.clocks {
            let stops = events.is_stopping() && clocks.stopping(now);
            due |= events.is_stopping();
            if (stops || (due && clocks.closes(now))) && self.core.queue().is_open() {
                self.closes(1001, "");
            }
        }
        if self.awaits_end() {
            io.rx.consume(usize::MAX);
        }
        let others = events.is_woken() || events.is_stopping() || events.shed();
        let quiet = self.quiet && !due && events.is_readable() && !others;
        let result = match events.is_error() {
            true => Err(Ended(CloseCause::Reset)),
            false => if due { self.check_clocks(io) } else { Ok(()) }.and_then(|()| self.advance(io, quiet)),
        };
        self.held = !self.core.is_free();
        if self.held
            && let Some(clocks) = &mut self.clocks
        {
            // Nothing is read: that does not count against the peer.
            clocks.arriving(now, None);
        }
        let cause = match result {
            Ok(mask) => return mask,
            Err(Ended(cause)) => cause,
        };
        if matches!(cause, CloseCause::Aborted | CloseCause::RandomUnavailable)
            || (cause == CloseCause::CloseTimeout && !self.outgoing.closed)
        {
            io.abort();
        }
        self.ended(cause);
        EventMask::TERMINATE
    }
}

/// The engine drops it without a call: after a panic, when the grace period has ended, or if the peer reads nothing.
impl Drop for Session {
    fn drop(&mut self) {
        self.ended(CloseCause::Dropped);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
