//! One connection to the engine, without I/O.
//!
//! ```text
//!   receive(bytes) ──▶ Decoder ──▶ handshake, then the oldest command in flight ──▶ poll(): Event
//!   take(queue) ─────▶ in flight ──▶ output() ──▶ written(n)
//!   tick(now) ───────▶ deadlines, PING                                            ──▶ failure()
//! ```
//! Replies come in the order of the commands. A call whose deadline has passed keeps its place, and its replies are
//! discarded when they arrive.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    command::{Outcome, Pipeline, Then, encode_words},
    decode::{Decoder, Frame},
    handshake::{Handshake, Purpose, Setup},
    queue::Queue,
    reply::{Reply, Unavailable, printable},
};

/// Limit in bytes for one reply, and for all replies to a pipeline. The engine's own limit for a value is 512 MiB.
pub(super) const MAX_REPLY: usize = 64 << 20;
/// Pipelines are taken until the output has this many bytes.
const ENOUGH_OUTPUT: usize = 64 * 1024;

/// What has happened, in order.
pub(super) enum Event {
    /// The handshake is complete. In RESP2 no channel is subscribed.
    Open { resp3: bool },
    /// A message of a channel (with the prefix).
    Message { channel: Vec<u8>, payload: Vec<u8> },
    /// The time from a PING to its reply.
    RoundTrip(Duration),
    /// A pipeline is complete, or will never be.
    Done(Then, Outcome),
}

pub(super) struct Connection {
    setup: Arc<Setup>,
    decoder: Decoder,
    output: Vec<u8>,
    /// How much of the output is written.
    written: usize,
    handshake: Option<Handshake>,
    handshake_deadline: Instant,
    /// Sent, or about to be, the oldest first.
    in_flight: VecDeque<InFlight>,
    /// How many of the oldest need no deadline: no function waits for them.
    given_up: usize,
    /// Commands in flight, without PING.
    commands: usize,
    last_received: Instant,
    next_ping: Instant,
    ping_sent: Option<Instant>,
    events: VecDeque<Event>,
    failure: Option<String>,
    /// The engine has said so: it is there, and trying again soon has little use.
    is_rejected: bool,
}

enum InFlight {
    Ping,
    Pipeline {
        left: usize,
        replies: Vec<Reply>,
        size: usize,
        not_now: Option<String>,
        then: Option<Then>,
        deadline: Instant,
    },
}

impl Connection {
    pub(super) fn new(setup: Arc<Setup>, now: Instant) -> Self {
        let mut output = Vec::new();
        let handshake = Handshake::begin(setup.clone(), &mut output);
        Self {
            decoder: Decoder::new(MAX_REPLY),
            output,
            written: 0,
            handshake: Some(handshake),
            handshake_deadline: now + setup.handshake_timeout,
            in_flight: VecDeque::new(),
            given_up: 0,
            commands: 0,
            last_received: now,
            next_ping: now + setup.ping_interval,
            ping_sent: None,
            events: VecDeque::new(),
            failure: None,
            is_rejected: false,
            setup,
        }
    }

    /// Reads all of `bytes`.
    pub(super) fn receive(&mut self, mut bytes: &[u8], now: Instant) {
        if !bytes.is_empty() {
            self.last_received = now;
        }
        while self.failure.is_none() {
            match self.decoder.next(&mut bytes) {
                Ok(Some(frame)) => self.frame(frame, now),
                Ok(None) => return,
                Err(rule) => self.reject(format!("it does not speak the protocol: {rule}")),
            }
        }
    }

    /// Takes pipelines from the queue, as much as is sent soon.
    pub(super) fn take(&mut self, queue: &mut Queue) {
        while self.is_open() && self.output().len() < ENOUGH_OUTPUT {
            let Some((Pipeline { wire, commands, then, .. }, deadline)) = queue.take() else { break };
            self.output.extend_from_slice(&wire);
            self.commands += commands;
            let replies = Vec::with_capacity(commands.min(1024));
            let then = Some(then);
            self.in_flight.push_back(InFlight::Pipeline {
                left: commands,
                replies,
                size: 0,
                not_now: None,
                then,
                deadline,
            });
        }
        queue.set_in_flight(self.commands);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.failure.is_some() {
            return;
        }
        if self.handshake.is_some() {
            if now >= self.handshake_deadline {
                self.fail(format!("the handshake took longer than {:?}", self.setup.handshake_timeout));
            }
            return;
        }
        let timeout = self.setup.command_timeout;
        while let Some(oldest) = self.in_flight.get_mut(self.given_up) {
            match oldest {
                InFlight::Ping => {}
                InFlight::Pipeline { deadline, then, replies, .. } if *deadline <= now => {
                    *replies = Vec::new();
                    let error = Unavailable(format!("the engine did not reply within {timeout:?}"));
                    self.events.extend(then.take().map(|then| Event::Done(then, Err(error))));
                }
                InFlight::Pipeline { .. } => break,
            }
            self.given_up += 1;
        }
        if self.ping_deadline().is_some_and(|deadline| deadline <= now) {
            self.fail(format!("no reply to PING within {timeout:?}"));
        } else if self.ping_sent.is_none() && now >= self.next_ping {
            encode_words(&[b"PING"], &mut self.output);
            self.in_flight.push_back(InFlight::Ping);
            self.ping_sent = Some(now);
            self.next_ping = now + self.setup.ping_interval;
        }
    }

    /// Returns the time of the next [`tick`](Self::tick).
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.failure.is_some() {
            return None;
        }
        if self.handshake.is_some() {
            return Some(self.handshake_deadline);
        }
        let oldest = self.in_flight.range(self.given_up..).find_map(|in_flight| match in_flight {
            InFlight::Pipeline { deadline, .. } => Some(*deadline),
            InFlight::Ping => None,
        });
        let ping = self.ping_deadline().unwrap_or(self.next_ping);
        Some(oldest.map_or(ping, |oldest| oldest.min(ping)))
    }

    /// The engine has this long to send anything: the reply to a PING may be behind a large one.
    fn ping_deadline(&self) -> Option<Instant> {
        self.ping_sent.map(|sent| sent.max(self.last_received) + self.setup.command_timeout)
    }

    /// Returns the next event.
    pub(super) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the bytes to send.
    pub(super) fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// Removes the first bytes of the output.
    pub(super) fn written(&mut self, n: usize) {
        self.written += n;
        if self.written >= self.output.len() {
            // An idle connection holds no buffer.
            self.output = Vec::new();
            self.written = 0;
        } else if self.written >= self.output.len() / 2 {
            self.output.drain(..mem::take(&mut self.written));
        }
    }

    /// Returns `true` if the handshake is complete and nothing has failed.
    pub(super) fn is_open(&self) -> bool {
        self.handshake.is_none() && self.failure.is_none()
    }

    /// Returns `true` if no command is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.commands == 0
    }

    /// Returns the reason why the connection cannot be used any longer.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Returns `true` if the engine has rejected the connection. If it is away, or says "not now", it has not.
    pub(super) fn is_rejected(&self) -> bool {
        self.is_rejected
    }

    /// Gives the connection up because of what the engine has said.
    fn reject(&mut self, reason: String) {
        self.is_rejected |= self.failure.is_none();
        self.fail(reason);
    }

    /// Gives the connection up. Only the first reason counts.
    pub(super) fn fail(&mut self, reason: impl Into<String>) {
        if self.failure.is_some() {
            return;
        }
        let reason = reason.into();
        for in_flight in mem::take(&mut self.in_flight) {
            if let InFlight::Pipeline { then: Some(then), .. } = in_flight {
                self.events.push_back(Event::Done(then, Err(Unavailable(reason.clone()))));
            }
        }
        self.failure = Some(reason);
        (self.output, self.written, self.given_up, self.commands) = (Vec::new(), 0, 0, 0);
    }

    fn frame(&mut self, frame: Frame, now: Instant) {
        if frame.is_push || self.is_push_of_resp2(&frame.reply) {
            return self.push(frame.reply);
        }
        if let Some(handshake) = &mut self.handshake {
            if let Err(reason) = handshake.reply(&frame.reply, &mut self.output) {
                let is_final = matches!(frame.reply, Reply::Error(_)) && frame.reply.not_now().is_none();
                return if is_final { self.reject(reason) } else { self.fail(reason) };
            }
            return self.check_handshake(now);
        }
        self.reply(frame, now);
    }

    /// Returns `true` for a message in RESP2: there it looks like a reply.
    fn is_push_of_resp2(&self, reply: &Reply) -> bool {
        let Reply::Array(parts) = reply else { return false };
        let kind = parts.first().and_then(Reply::bytes);
        self.setup.purpose == Purpose::Messages && kind != Some(b"pong")
    }

    fn push(&mut self, push: Reply) {
        let Reply::Array(parts) = push else { return };
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Reply::Bytes(kind)), Some(Reply::Bytes(channel)), Some(Reply::Bytes(payload)))
                if kind == b"message" =>
            {
                self.events.push_back(Event::Message { channel, payload });
            }
            (Some(Reply::Bytes(kind)), ..) if kind == b"subscribe" => {
                if let Some(handshake) = &mut self.handshake {
                    handshake.confirmed();
                    self.check_handshake(self.last_received);
                }
            }
            // About something that this connection has not asked for.
            _ => {}
        }
    }

    fn check_handshake(&mut self, now: Instant) {
        if let Some(handshake) = self.handshake.take_if(|handshake| handshake.is_done()) {
            // At once: operators see the time that it takes.
            self.next_ping = now;
            self.events.push_back(Event::Open { resp3: handshake.resp3() });
        }
    }

    /// Handles the reply to the oldest command in flight.
    fn reply(&mut self, Frame { reply, size: reply_size, .. }: Frame, now: Instant) {
        // The caller follows those of a cluster that it knows.
        let redirects = self.setup.purpose == Purpose::ClusterNode;
        let is_complete = match self.in_flight.front_mut() {
            None => return self.fail(unexpected(&reply)),
            Some(InFlight::Ping) => {
                if let Some(sent) = self.ping_sent.take() {
                    self.events.push_back(Event::RoundTrip(now.saturating_duration_since(sent)));
                }
                true
            }
            Some(InFlight::Pipeline { left, replies, size, not_now, then, .. }) => {
                *left -= 1;
                self.commands -= 1;
                *size += reply_size;
                if *size > MAX_REPLY {
                    return self.fail("the replies to a pipeline are too large");
                }
                match &reply {
                    Reply::Error(text) if reply.not_now().is_some() || !redirects && reply.is_redirection() => {
                        not_now.get_or_insert_with(|| printable(text.as_bytes()));
                    }
                    _ => {}
                }
                let is_read_only = reply.is_read_only();
                let is_complete = *left == 0;
                if then.is_some() {
                    replies.push(reply);
                }
                if is_complete && let Some(then) = then.take() {
                    let outcome = not_now.take().map_or_else(|| Ok(mem::take(replies)), |text| Err(Unavailable(text)));
                    self.events.push_back(Event::Done(then, outcome));
                }
                if is_read_only {
                    // Its master may have another address now.
                    return self.fail("it is a replica now (READONLY)");
                }
                is_complete
            }
        };
        if is_complete {
            self.in_flight.pop_front();
            self.given_up = self.given_up.saturating_sub(1);
        }
    }
}

/// The engine says why it closes a connection, unasked: it has too many clients, or its output is too large.
fn unexpected(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => printable(text.as_bytes()),
        _ => "it has sent a reply without a command".into(),
    }
}
