//! The Sentinels: one of them is asked where the master is, every 5 s and when it says that something has changed.
//!
//! ```text
//!   watch ─▶ resolve ─▶ dial ─▶ Link: handshake, SUBSCRIBE +switch-master ─▶ question ─▶ the master's address
//!     ▲         └─────────┴──────────┴── failed: the next Sentinel                │            │ another one
//!     └── after all have failed: a random part of 0.1 s, 0.2 s … ◀────────────────┘            ▼
//!                                                                      the connection for commands is made anew
//! ```
//! A message has the question asked at once; the address in it is not used. In RESP2 there is only the question.

use std::{
    mem,
    sync::{Arc, Mutex},
    task,
    time::{Duration, Instant},
};

use uncork::{DialError, LoopHandle, Upgrade};

use super::{
    command::{Command, Outcome, Pipeline, Then},
    config::Server,
    connect::{PING_INTERVAL, attempt},
    connection::Connection,
    engine::{EngineState, Shared},
    handshake::{Purpose, Setup},
    link::{End, Link, Role, Turn},
    queue::Queue,
    reply::{Reply, Unavailable, printable},
    route::{Address, Failure, Failures, dial, resolve},
    url::Place,
};
use crate::relay::lock::lock;

/// The time from one question to the next.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The Sentinels publish on it, for all of their masters.
const CHANNEL: &[u8] = b"+switch-master";

/// Asks the Sentinels from now on. Runs on the loop.
pub(super) fn watch(shared: Arc<Shared>, on: LoopHandle) {
    Watch { shared, on, next: 0, tried: 0, failure: Failure::Rejected, failures: Failures::default() }.next();
}

struct Watch {
    shared: Arc<Shared>,
    on: LoopHandle,
    /// The number of the Sentinel.
    next: usize,
    /// Sentinels in a row that gave no address, since the last pause.
    tried: usize,
    /// `Away` if one of them was.
    failure: Failure,
    failures: Failures,
}

impl Watch {
    fn sentinels(&self) -> &[Server] {
        self.shared.settings.sentinels.as_ref().map_or(&[], |(servers, _)| servers)
    }

    fn next(self) {
        let state = self.shared.lock();
        let is_over = state.stopped || state.stopping;
        drop(state);
        let count = self.sentinels().len().max(1);
        let Some(server) = self.sentinels().get(self.next % count).cloned() else { return };
        if is_over {
            return;
        }
        let on = self.on.clone();
        resolve(&server.place.clone(), &on, move |resolved| match resolved {
            Ok(addresses) => self.dial(server, addresses.into()),
            Err(reason) => self.over(&server.place, &reason, Failure::Away),
        });
    }

    fn dial(self, server: Server, mut addresses: Vec<Address>) {
        let address = addresses.remove(0);
        let settings = self.shared.settings.clone();
        let to = dial(&address, &server.place, &server, settings.connect_timeout);
        let on = self.on.clone();
        on.dial(to, move |result| match result {
            Ok(dialed) => {
                let setup = Setup {
                    purpose: Purpose::Sentinel,
                    name: settings.client_name.clone(),
                    user: server.user.clone(),
                    password: server.password.clone(),
                    database: 0,
                    channels: vec![CHANNEL.to_vec()],
                    handshake_timeout: settings.connect_timeout,
                    command_timeout: settings.command_timeout,
                    ping_interval: PING_INTERVAL,
                };
                self.shared.lock().sentinel_waker = Some(dialed.waker().into());
                let connection = Connection::new(Arc::new(setup), dialed.now().mono);
                let role = Asking {
                    place: server.place,
                    watch: Some(self),
                    queue: Queue::new(16),
                    next_question: None,
                    answer: Arc::default(),
                    has_rejected: false,
                    waker: None,
                };
                Some(Box::new(Link::new(connection, role)) as Box<dyn Upgrade>)
            }
            Err(DialError::LoopEnded) => None,
            Err(error) => {
                match addresses.is_empty() {
                    true => self.over(&server.place, &error.to_string(), Failure::Away),
                    false => self.dial(server, addresses),
                }
                None
            }
        });
    }

    /// This Sentinel cannot be used, or its connection has ended.
    fn over(mut self, place: &Place, reason: &str, failure: Failure) {
        let state = self.shared.lock();
        let is_over = state.stopped || state.stopping;
        drop(state);
        if is_over {
            return;
        }
        self.shared.failed(format!("Sentinel {place}: {reason}"));
        self.next = self.next.wrapping_add(1);
        self.tried += 1;
        if failure == Failure::Away {
            self.failure = failure;
        }
        // The others are tried at once.
        let delay = if self.tried < self.sentinels().len() {
            Duration::ZERO
        } else {
            self.tried = 0;
            let failure = mem::replace(&mut self.failure, Failure::Rejected);
            self.failures.add(failure)
        };
        let on = self.on.clone();
        on.after(delay, move |_| self.next());
    }
}

/// The link to a Sentinel.
struct Asking {
    place: Place,
    /// `None` after the end.
    watch: Option<Watch>,
    queue: Queue,
    /// `None` until the handshake is complete.
    next_question: Option<Instant>,
    /// The reply to the last question.
    answer: Arc<Mutex<Option<Outcome>>>,
    /// It does not know the master.
    has_rejected: bool,
    waker: Option<task::Waker>,
}

impl Asking {
    /// Appends the question to the queue.
    fn ask(&mut self, master: &str) {
        let mut wire = Vec::new();
        Command::new("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).encode("", &mut wire);
        let (answer, waker) = (self.answer.clone(), self.waker.clone());
        let then = Then::new(move |outcome| {
            *lock(&answer) = Some(outcome);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        // There is room: each question ends before the next.
        drop(self.queue.push(Pipeline { wire, commands: 1, is_hint: false, then }));
    }
}

impl Role for Asking {
    fn turn(&mut self, connection: &mut Connection, now: Instant) -> Turn {
        let Some(watch) = &mut self.watch else { return Turn::default() };
        let shared = watch.shared.clone();
        let mut state = shared.lock();
        if state.stopped || (state.stopping && state.phase == EngineState::Disconnected) {
            connection.fail("it was stopped");
        }
        let ask_now = mem::take(&mut state.ask_sentinel);
        drop(state);
        let Some((_, master)) = &shared.settings.sentinels else { return Turn::default() };
        let answer = lock(&self.answer).take();
        match answer.map(|outcome| (outcome.is_ok(), address(master, outcome))) {
            None => {}
            Some((_, Ok(place))) => {
                (watch.tried, watch.failure, watch.failures) = (0, Failure::Rejected, Failures::default());
                found(&shared, place);
            }
            Some((has_replied, Err(reason))) => {
                self.has_rejected = has_replied;
                connection.fail(reason);
            }
        }
        if ask_now && let Some(next) = &mut self.next_question {
            *next = now;
        }
        if self.next_question.is_some_and(|next| next <= now) {
            self.next_question = Some(now + POLL_INTERVAL);
            self.ask(master);
        }
        let timeout = shared.settings.command_timeout;
        self.queue.set_deadlines(now + timeout);
        let expired = self.queue.expired(now).into_iter();
        let done = expired.map(|then| (then, Err(Unavailable(format!("no reply within {timeout:?}"))))).collect();
        connection.take(&mut self.queue);
        Turn { done, deadline: [self.queue.deadline(), self.next_question].into_iter().flatten().min() }
    }

    fn opened(&mut self, _: &mut Connection, _: bool, waker: task::Waker, now: Instant) {
        // The turn may be over: there will be another one.
        waker.wake_by_ref();
        self.waker = Some(waker);
        self.next_question = Some(now);
    }

    fn message(&mut self, _: &[u8], _: &[u8]) {
        if let Some(watch) = &self.watch {
            watch.shared.lock().ask_sentinel = true;
        }
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn stopping(&mut self, connection: &mut Connection, _: Instant) {
        if let Some(watch) = &self.watch {
            let mut state = watch.shared.lock();
            state.stopping = true;
            if state.phase == EngineState::Disconnected {
                connection.fail("the server stops");
            }
        }
    }

    fn ended(&mut self, end: End) {
        self.queue.drain();
        if let Some(watch) = self.watch.take() {
            watch.shared.lock().sentinel_waker = None;
            let failure = if end.is_rejected || self.has_rejected { Failure::Rejected } else { Failure::Away };
            watch.over(&self.place, &end.reason, failure);
        }
    }
}

/// Returns the address in a Sentinel's reply.
fn address(master: &str, outcome: Outcome) -> Result<Place, String> {
    match outcome.map_err(|unavailable| unavailable.0)?.pop() {
        Some(Reply::Array(parts)) => {
            let mut text = parts.iter().filter_map(Reply::bytes).map(std::str::from_utf8);
            let (Some(Ok(host)), Some(Ok(port))) = (text.next(), text.next()) else {
                return Err("its reply is invalid".into());
            };
            let port = port.parse::<u16>().map_err(|_| "its reply is invalid")?;
            Ok(Place::Tcp(host.to_owned(), port))
        }
        Some(Reply::Nil) => Err(format!("it has no master {master:?}")),
        Some(Reply::Error(text)) => Err(printable(text.as_bytes())),
        _ => Err("its reply is invalid".into()),
    }
}

/// Has the connection for commands made anew if this is another address.
fn found(shared: &Arc<Shared>, place: Place) {
    let mut state = shared.lock();
    if state.stopped || state.master.as_ref() == Some(&place) {
        return;
    }
    log::info!(target: "uncork::relay", "directory: the master is at {place}");
    state.master = Some(place);
    if let Some(waker) = state.waker.clone() {
        // The link sees that it is not the master's; its end begins an attempt.
        drop(state);
        return waker.wake();
    }
    state.generation += 1;
    state.failures = Failures::default();
    let (generation, started) = (state.generation, state.started.clone());
    drop(state);
    if let Some(started) = started {
        attempt(shared.clone(), started, generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_one() {
        let bytes = |text: &str| Reply::Bytes(text.into());
        let of = |reply: Reply| address("m", Ok(vec![reply]));
        assert_eq!(of(Reply::Array(vec![bytes("::1"), bytes("7")])), Ok(Place::Tcp("::1".into(), 7)));
        assert_eq!(of(Reply::Nil), Err("it has no master \"m\"".into()));
        assert_eq!(of(Reply::Error("NOPERM x".into())), Err("NOPERM x".into()));
        for invalid in [vec![], vec![bytes("a")], vec![bytes("a"), bytes("65536")], vec![Reply::Int(1), bytes("1")]] {
            assert_eq!(of(Reply::Array(invalid)), Err("its reply is invalid".into()));
        }
        assert_eq!(address("m", Err(Unavailable("x".into()))), Err("x".into()));
    }
}
