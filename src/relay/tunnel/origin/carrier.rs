//! A connection to the proxy, from its first byte: asking to be let in, then HTTP/2; or HTTP/2 at once, if ALPN has chosen
//! `rh2`.
//!
//! ```text
//!   PUT /tunnel, Bearer, Upgrade: ptth ──▶        ┌── 101 ──▶ Http2
//!   Knocking ◀── head, and a few words of a body ─┼── else ──▶ refused: told, and closed
//!   PUT /, to a proxy of 2014 ──▶                 └── 200 ──▶ Spdy
//! ```

use std::{mem, sync::Arc, task, time::Instant};

use uncork::{
    EventMask, Io, LoopHandle, PeerAddr, ReadState, Upgrade,
    h1::{HeadLimits, HeadScanner, Misbehaved, ResponseFraming, field_slots, find_response, parse_response},
};

#[cfg(feature = "spdy")]
use super::spdy::Spdy;
use super::{TunnelError, connection::OriginConnection, http2::Http2};

/// As large as any proxy's words.
const HEAD: HeadLimits = HeadLimits { head: 16 * 1024, target: 16 * 1024, fields: 100 };
/// Bytes of a refusal that are told on.
const WORDS: usize = 300;

/// How it stands with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// A ping is overdue: another connection should be begun.
    Suspect,
}

/// What is spoken when the proxy has let us in.
pub(super) trait Protocol: Send {
    /// Wakes the carrier.
    fn waker(&self) -> task::Waker;

    /// One call of the carrier's.
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask;

    /// Whether the proxy has let us in, as far as one can know.
    fn is_in(&self) -> bool {
        true
    }

    fn health(&self) -> Health;

    /// Begins no more requests; those under way are finished.
    fn leave(&mut self, now: Instant);

    fn is_leaving(&self) -> bool;

    /// What went wrong, if something did.
    fn take_error(&mut self) -> Option<TunnelError>;
}

pub(super) struct Carrier {
    line: Arc<OriginConnection>,
    generation: u64,
    here: LoopHandle,
    peer: PeerAddr,
    state: State,
    error: Option<TunnelError>,
    /// HTTP/2 was agreed upon by ALPN, and the proxy has not let us in yet.
    unanswered: bool,
    /// What a refusal asks to wait, in seconds.
    retry_after: Option<u64>,
    /// When this was last called.
    now: Option<Instant>,
}

enum State {
    Knocking {
        /// What is still to be said.
        words: Vec<u8>,
        scan: HeadScanner,
        by: Option<Instant>,
    },
    Open {
        protocol: Box<dyn Protocol>,
        /// The line knows that it stands.
        stands: bool,
    },
    Over,
}

impl Carrier {
    /// `reversed`: HTTP/2 was agreed upon.
    pub(super) fn new(
        line: Arc<OriginConnection>,
        generation: u64,
        here: LoopHandle,
        peer: PeerAddr,
        reversed: bool,
        now: Instant,
    ) -> Self {
        let hello = line.hello().filter(|_| reversed);
        let unanswered = hello.is_some();
        let state = match hello {
            Some(hello) => {
                let http2 = Http2::new(here.clone(), line.listener(), peer, line.times(), Some(hello), now);
                State::Open { protocol: Box::new(http2), stands: false }
            }
            None => State::Knocking { words: line.knock(), scan: HeadScanner::default(), by: None },
        };
        Self { line, generation, here, peer, state, error: None, unanswered, retry_after: None, now: None }
    }

    fn knock(&mut self, io: &mut Io<'_>) -> EventMask {
        let State::Knocking { words, scan, by } = &mut self.state else { return EventMask::TERMINATE };
        let now = io.now().mono;
        let by = *by.get_or_insert(now + self.line.within());
        io.set_deadline(Some(by));
        let n = io.tx.write(words);
        words.drain(..n);
        let waits = if words.is_empty() { EventMask::READ } else { EventMask::READ | EventMask::WRITE };
        let found = find_response(scan, io.rx.bytes(), &HEAD);
        let answer = match found {
            Ok(Some(end)) => Answered::read(&io.rx.bytes()[..end]).map(|answer| (end, answer)),
            Ok(None) if io.rx.state() != ReadState::Open => Err("it has hung up"),
            Ok(None) if now >= by => return self.fail(TunnelError::TimedOut),
            Ok(None) => return waits,
            Err(rule) => Err(rule.rule()),
        };
        let (end, answer) = match answer {
            Ok(answer) => answer,
            Err(rule) => return self.fail(TunnelError::NotAProxy(rule)),
        };
        if answer.status == 101 {
            if !answer.ptth {
                return self.fail(TunnelError::NotAProxy("it has switched to something else"));
            }
            io.rx.consume(end);
            let http2 = Http2::new(self.here.clone(), self.line.listener(), self.peer, self.line.times(), None, now);
            return self.open(Box::new(http2), io);
        }
        #[cfg(feature = "spdy")]
        if answer.status == 200 && self.line.is_legacy() {
            let Some(greeting) = answer.length.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= WORDS) else {
                return self.fail(TunnelError::NotAProxy("its greeting has no length"));
            };
            if io.rx.bytes().len() >= end + greeting {
                io.rx.consume(end + greeting);
                let spdy = Spdy::new(self.here.clone(), self.line.listener(), self.peer, self.line.times(), now);
                return self.open(Box::new(spdy), io);
            }
            return match io.rx.state() {
                ReadState::Open if now < by => waits,
                ReadState::Open => self.fail(TunnelError::TimedOut),
                _ => self.fail(TunnelError::NotAProxy("it has hung up")),
            };
        }
        if (100..200).contains(&answer.status) {
            io.rx.consume(end);
            *scan = HeadScanner::default();
            return self.knock(io);
        }
        // Its words are worth waiting for a little.
        let body = &io.rx.bytes()[end..];
        let all = answer.length.is_some_and(|length| body.len() as u64 >= length) || body.len() >= WORDS;
        if !all && io.rx.state() == ReadState::Open && now < by {
            return waits;
        }
        self.retry_after = answer.retry_after;
        let words = printable(&body[..body.len().min(WORDS)]);
        self.fail(TunnelError::Refused { status: answer.status, words })
    }

    fn open(&mut self, protocol: Box<dyn Protocol>, io: &mut Io<'_>) -> EventMask {
        self.state = State::Open { protocol, stands: false };
        // It may be over at once.
        self.carry(io)
    }

    fn fail(&mut self, error: TunnelError) -> EventMask {
        self.error = Some(error);
        self.state = State::Over;
        EventMask::TERMINATE
    }

    fn carry(&mut self, io: &mut Io<'_>) -> EventMask {
        let State::Open { protocol, stands } = &mut self.state else { return EventMask::TERMINATE };
        let now = io.now().mono;
        if io.events().is_stopping() || self.line.is_superseded(self.generation) {
            protocol.leave(now);
        }
        let mask = protocol.ready(io);
        self.error = self.error.take().or(protocol.take_error());
        if !*stands && self.error.is_none() && protocol.is_in() {
            *stands = true;
            self.unanswered = false;
            self.line.stood(self.generation, self.peer, protocol.waker(), now);
        }
        if protocol.health() == Health::Suspect && !protocol.is_leaving() {
            self.line.suspect(self.generation);
        }
        if mask.is_terminate() || io.events().is_error() {
            if io.events().is_error() {
                self.error.get_or_insert_with(|| TunnelError::Broken("it was reset".into()));
            }
            if let State::Open { protocol, .. } = mem::replace(&mut self.state, State::Over)
                && !protocol.is_leaving()
            {
                self.error.get_or_insert(TunnelError::Closed);
            }
        }
        mask
    }
}

impl Upgrade for Carrier {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self.now = Some(io.now().mono);
        if io.events().is_stopping() {
            self.line.stop();
        }
        match self.state {
            State::Knocking { .. } if io.events().is_stopping() => EventMask::TERMINATE,
            State::Knocking { .. } if io.events().is_error() => self.fail(TunnelError::NotAProxy("it has hung up")),
            State::Knocking { .. } => self.knock(io),
            State::Open { .. } => self.carry(io),
            State::Over => EventMask::TERMINATE,
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // However it came to its end.
        let lost = !matches!(self.state, State::Over);
        let error = self.error.take().or_else(|| lost.then(|| TunnelError::Broken("it was lost".into())));
        let unanswered = self.unanswered && !matches!(error, Some(TunnelError::Refused { .. }));
        self.line.ended(self.generation, error, self.retry_after, unanswered, self.now);
    }
}

struct Answered {
    status: u16,
    ptth: bool,
    length: Option<u64>,
    retry_after: Option<u64>,
}

impl Answered {
    fn read(head: &[u8]) -> Result<Self, &'static str> {
        let mut slots = field_slots();
        let parsed = parse_response(head, "PUT", &mut slots, &HEAD).map_err(Misbehaved::rule)?;
        let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        Ok(Self {
            status: parsed.status,
            ptth: parsed.fields.contains_token("upgrade", "ptth"),
            length: match parsed.framing {
                ResponseFraming::Length(n) => Some(n),
                ResponseFraming::None => Some(0),
                _ => None,
            },
            retry_after: parsed.fields.get("retry-after").and_then(number),
        })
    }
}

/// One line that can't do a terminal harm.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
