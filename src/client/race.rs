//! Happy eyeballs (RFC 8305): an attempt each 250 ms, or after a failure. The first open connection wins.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{connection::Connection, error::Error, exchange::Pending, pool::ConnPermit};
use crate::{
    api::{Dial, DialError, Dialed, LoopHandle, Upgrade},
    base::{Moment, Timeout, lock},
    transport::TlsClient,
};

/// The delay between two attempts, as RFC 8305 §5 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The address of an attempt.
#[derive(Clone)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The attempts to open one connection.
pub(super) struct Race {
    pending: Pending,
    /// `None` when the race is decided.
    permit: Option<ConnPermit>,
    loop_handle: LoopHandle,
    /// The deadline of the race.
    by: Instant,
    /// Addresses that are not tried yet.
    pub(super) targets: VecDeque<Target>,
    trust: Option<(TlsClient, String)>,
    attempts: usize,
    in_progress: usize,
    last_error: Option<Error>,
}

type SharedRace = Arc<Mutex<Race>>;

impl Race {
    pub(super) fn new(pending: Pending, permit: ConnPermit, loop_handle: LoopHandle, by: Instant) -> Self {
        Self {
            pending,
            permit: Some(permit),
            loop_handle,
            by,
            targets: VecDeque::new(),
            trust: None,
            attempts: 0,
            in_progress: 0,
            last_error: None,
        }
    }

    /// Starts the attempts, with TLS to `host` if there is a `trust`.
    pub(super) fn start(mut self, trust: Option<Result<TlsClient, String>>, host: String, now: Moment) {
        match trust {
            None => {}
            Some(Ok(trust)) => self.trust = Some((trust, host)),
            Some(Err(reason)) => return self.lose(Error::Tls { to: host, reason }),
        }
        attempt(&Arc::new(Mutex::new(self)), now);
    }

    /// Ends the race without a connection.
    pub(super) fn lose(self, error: Error) {
        let Self { permit, pending, .. } = self;
        drop(permit);
        pending.fail(error);
    }
}

/// Ends a race that others may still refer to.
fn lose(race: &SharedRace, error: Error) {
    let (permit, pending) = {
        let mut race = lock(race);
        (race.permit.take(), race.pending.clone())
    };
    drop(permit);
    pending.fail(error);
}

/// Tries the next address. If there is none, and no attempt is in progress, the race is lost.
fn attempt(race: &SharedRace, now: Moment) {
    let mut state = lock(race);
    if state.permit.is_none() {
        return;
    }
    let left = state.by.saturating_duration_since(now.mono);
    let next = if left.is_zero() { None } else { state.targets.pop_front() };
    let Some(target) = next else {
        if state.in_progress == 0 {
            let error = state.last_error.take().unwrap_or(Error::TimedOut(Timeout::Connect));
            drop(state);
            lose(race, error);
        }
        return;
    };
    state.in_progress += 1;
    state.attempts += 1;
    let (number, more, loop_handle) = (state.attempts, !state.targets.is_empty(), state.loop_handle.clone());
    let dial = match &target {
        Target::Tcp(addr) => Dial::tcp(*addr),
        Target::Unix(path) => Dial::unix(&**path),
    };
    let dial = match &state.trust {
        Some((trust, host)) => dial.tls(trust, host),
        None => dial,
    };
    drop(state);
    let then = race.clone();
    loop_handle.dial(dial.timeout(left), move |result| match result {
        Ok(dialed) => won(&then, &dialed),
        Err(error) => {
            failed(&then, &target, error);
            None
        }
    });
    if more {
        let race = race.clone();
        loop_handle.after(ATTEMPT_DELAY, move |now| {
            let is_latest = lock(&race).attempts == number;
            if is_latest {
                attempt(&race, now);
            }
        });
    }
}

/// Takes an open connection, or drops it if it is not the first.
fn won(race: &SharedRace, dialed: &Dialed<'_>) -> Option<Box<dyn Upgrade>> {
    let mut state = lock(race);
    state.in_progress -= 1;
    let permit = state.permit.take()?;
    let (pending, loop_handle) = (state.pending.clone(), state.loop_handle.clone());
    drop(state);
    // If the request has just timed out, the connection serves the next one.
    Some(Box::new(Connection::new(loop_handle, dialed.waker(), permit, pending.take())))
}

fn failed(race: &SharedRace, target: &Target, error: DialError) {
    let to = target.to_string();
    let ended = matches!(error, DialError::LoopEnded);
    let error = match error {
        DialError::Io(error) => Error::Connect { to, kind: error.kind(), reason: error.to_string() },
        DialError::TimedOut => Error::TimedOut(Timeout::Connect),
        DialError::Tls(reason) => Error::Tls { to, reason },
        DialError::BadName(name) => Error::Tls { to, reason: format!("invalid server name {name:?}") },
        DialError::LoopEnded => Error::LoopEnded,
    };
    let loop_handle = {
        let mut state = lock(race);
        state.in_progress -= 1;
        state.last_error = Some(error);
        if ended {
            state.targets.clear();
        }
        state.loop_handle.clone()
    };
    let next = race.clone();
    if !loop_handle.at_once(move |now| attempt(&next, now)) {
        lose(race, Error::LoopEnded);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::mpsc::channel};

    use super::*;
    use crate::{
        Request, Response, Server,
        client::{self, Client, exchange::Exchange, response::Completion},
    };

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Races for a connection to these addresses. Returns the status of the response, or the error.
    fn race(targets: Vec<SocketAddr>, timeout: Duration) -> Result<u16, Error> {
        let running = Server::new().threads(1, |_: &mut Request<'_>| Response::new(500)).unwrap();
        let (loop_handle, client) = (running.loops().remove(0), Client::new());
        let (sender, receiver) = channel();
        let (on, pool) = (loop_handle.clone(), client.pool().clone());
        loop_handle.at_once(move |now| {
            let request = client::Request::get("http://x/").connect_timeout(timeout);
            let then = Completion::new(move |result: Result<client::Response, Error>| {
                sender.send(result.map(|response| response.status())).unwrap();
            });
            let exchange = Exchange::new(request, &pool.settings, on.clone(), then, now);
            let by = exchange.connection_by().0;
            let mut race = Race::new(Pending::new(exchange, now), pool.test_permit("http://x/"), on, by);
            race.targets.extend(targets.into_iter().map(Target::Tcp));
            race.start(None, String::new(), now);
        });
        let result = receiver.recv_timeout(TIMEOUT).unwrap();
        running.stop_now().unwrap();
        assert_eq!(client.connections(), 0);
        result
    }

    #[test]
    fn the_first_open_connection_wins() {
        let server = Server::bind("127.0.0.1:0").unwrap().threads(1, |_: &mut Request<'_>| Response::new(204)).unwrap();
        let good = server.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // An address for documentation: no response, or no route.
        let silent = addr("192.0.2.1:9");
        for targets in [vec![good], vec![closed, good], vec![silent, closed, good], vec![good, silent, good]] {
            assert_eq!(race(targets, TIMEOUT), Ok(204));
        }
        assert!(matches!(race(vec![closed, closed], TIMEOUT), Err(Error::Connect { .. })));
        let late = race(vec![silent], Duration::from_millis(100));
        assert!(matches!(late, Err(Error::TimedOut(Timeout::Connect) | Error::Connect { .. })), "{late:?}");
        server.stop_now().unwrap();
    }
}
