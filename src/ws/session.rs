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
    /// Until it was told that it is over.
    handler: Option<Box<dyn Handler>>,
    reader: Reader,
    outgoing: Outgoing,
    /// From the first Close on, in either direction. Boxed, so that an idle connection is small.
    close: Option<Box<Closing>>,
    config: Config,
    /// From the first call on.
    clocks: Option<Clocks>,
    /// The speaker was not done when we were left.
    held: bool,
    /// Nothing was to be sent when we were left.
    quiet: bool,
    /// Bytes of the message that is arriving, as the loop was told.
    assembled: usize,
}

/// How far the close handshake is.
#[derive(Default)]
struct Closing {
    /// The peer's code and reason.
    received: Option<(u16, String)>,
    /// The peer's came first.
    by_peer: bool,
    /// The peer broke a rule: its answer is not waited for.
    fault: Option<Fault>,
    /// When it is given up.
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

    /// Everything that can be done now: what is waited for then. `quiet`: nothing is to be sent, as far as we know, and
    /// whoever changes that wakes us.
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

    /// Everything was read that is there: whether the message that is arriving has taken too long.
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

    /// Tells the loop how much is held, if that has changed.
    #[inline]
    fn count(&mut self, io: &mut Io<'_>) {
        let assembled = self.assembled();
        if assembled != self.assembled {
            self.assembled = assembled;
            io.hold(assembled);
        }
    }

    /// Bytes held for the message that is arriving.
    pub(super) fn assembled(&self) -> usize {
        self.reader.assembled()
    }

    /// Bytes allocated for messages, in either direction.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.reader.held() + self.outgoing.held() + self.core.queue().held()
    }

    // Reading.

    /// Whether the next event may be told.
    fn reads(&self) -> bool {
        let hears = |close: &Closing| close.received.is_none() && close.fault.is_none();
        self.close.as_deref().is_none_or(hears) && self.core.is_free()
    }

    /// Tells the speaker one thing. `false`: more input is needed for that.
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
                    // Only the last one is answered if there are several (§5.5.3): a flood of them costs one pong.
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
                // What is queued goes first; then its own code goes back.
                queue.last.get_or_insert_with(|| Box::new(Last::Close { code, reason: String::new() }));
                drop(queue);
                self.reader.abandon();
            }
        }
        io.rx.consume(used);
        true
    }

    /// The peer is told so (§7.1.7), behind what is queued, and not heard any more.
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

    /// Everything is sent: whether nothing is left to be waited for.
    fn is_complete(&self, io: &Io<'_>) -> bool {
        let Some(close) = self.close.as_deref().filter(|_| self.outgoing.closed) else { return false };
        // The server ends the stream first (§7.1.1), so that it is the client whose port can be used again at once.
        let ended = self.role == Role::Server || io.rx.state() != ReadState::Open;
        close.fault.is_some() || (close.received.is_some() && ended)
    }

    /// A client waits for the server to end the stream.
    fn awaits_end(&self) -> bool {
        self.role == Role::Client && self.close.as_ref().is_some_and(|close| close.received.is_some())
    }

    /// How it ended, when both sides have said that it has.
    fn cause(&self) -> CloseCause {
        match self.close.as_deref() {
            Some(Closing { fault: Some(fault), .. }) => CloseCause::Rejected { code: fault.code, rule: fault.rule },
            Some(Closing { received: Some(_), by_peer: true, .. }) => CloseCause::PeerClosed,
            Some(Closing { received: Some(_), .. }) => CloseCause::LocalClosed,
            _ => CloseCause::NoCloseFrame,
        }
    }

    /// Both sides have said that it has ended.
    fn is_agreed(&self) -> bool {
        self.outgoing.closed && self.close.as_ref().is_some_and(|close| close.received.is_some())
    }

    /// Tells the speaker, once.
    fn ended(&mut self, cause: CloseCause) {
        let Some(mut handler) = self.handler.take() else { return };
        // §7.1.4: then it was closed cleanly, whatever becomes of the stream. Many servers reset it.
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

    /// Looks at the clocks, and sets the next one.
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
            // While the speaker was at work the peer was not heard, through no fault of its own.
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
        if events.is_stopping() && self.core.queue().is_open() {
            self.closes(1001, "");
        }
        if self.awaits_end() {
            io.rx.consume(usize::MAX);
        }
        let quiet = self.quiet && !due && events.is_readable() && !(events.is_woken() || events.is_stopping());
        let result = match events.is_error() {
            true => Err(Ended(CloseCause::Reset)),
            false => if due { self.check_clocks(io) } else { Ok(()) }.and_then(|()| self.advance(io, quiet)),
        };
        self.held = !self.core.is_free();
        if self.held
            && let Some(clocks) = &mut self.clocks
        {
            // We do not read: the peer cannot help it.
            clocks.arriving(now, None);
        }
        let cause = match result {
            Ok(mask) => return mask,
            Err(Ended(cause)) => cause,
        };
        if matches!(cause, CloseCause::Aborted | CloseCause::NoRandom)
            || (cause == CloseCause::CloseTimeout && !self.outgoing.closed)
        {
            io.abort();
        }
        self.ended(cause);
        EventMask::TERMINATE
    }
}

/// The engine drops it without another word: a panic, the end of the grace time, a peer that takes nothing.
impl Drop for Session {
    fn drop(&mut self) {
        self.ended(CloseCause::Dropped);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
