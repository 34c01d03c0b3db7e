//! Opens connections: name resolution, then happy eyeballs (RFC 8305).
//!
//! ```text
//!   begin ─▶ a literal address, a Unix socket ──────────┐
//!        └─▶ a name ─▶ resolver's thread ─▶ its loop ───┴─▶ Race: an attempt each 250 ms, or after a failure;
//!                                                                 the first open connection wins
//! ```

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Error, Timeout, connection::Connection, exchange::Pending, permit::ConnPermit, resolve::addresses};
use crate::{
    api::{Dial, DialError, Dialed, LoopHandle, Upgrade},
    base::Moment,
    transport::{TlsClient, interface_index},
};

/// The delay between two attempts, as RFC 8305 §5 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Continues a request that has waited for its permit.
pub(super) fn resume(pending: Pending, now: Moment) {
    if let Some(permit) = pending.take_permit() {
        begin(pending, permit, now);
    }
}

/// Opens a connection for a request, on its loop.
pub(super) fn begin(pending: Pending, permit: ConnPermit, now: Moment) {
    let facts = pending.look(|x| {
        let url = &x.request.url;
        let target = (x.request.unix.clone(), url.https, url.bare_host().to_owned(), url.port);
        let target = (target, url.zone.clone());
        (x.shared.clone(), x.loop_handle.clone(), x.connection_by().0, target)
    });
    // None: the request is no longer waiting.
    let Some((shared, loop_handle, by, ((unix, https, host, port), zone))) = facts else { return };
    let literal = match (unix, zone) {
        (Some(path), _) => Some(Target::Unix(path)),
        (None, None) => host.parse::<IpAddr>().ok().map(|ip| Target::Tcp(SocketAddr::new(ip, port))),
        (None, Some(zone)) => match zoned(&host, &zone, port) {
            Some(addr) => Some(Target::Tcp(addr)),
            None => {
                drop(permit);
                let reason = "no such interface".to_owned();
                return pending.fail(Error::Resolve { host: format!("{host}%{zone}"), reason });
            }
        },
    };
    let named = literal.is_none();
    let mut race = Race {
        pending: pending.clone(),
        permit: Some(permit),
        loop_handle: loop_handle.clone(),
        by,
        rest: literal.into_iter().collect(),
        trust: None,
        attempts: 0,
        under_way: 0,
        last: None,
    };
    let trust = if https { shared.trust() } else { None };
    if !named && (!https || trust.is_some()) {
        return race.start(trust, host, now);
    }
    // Blocking work runs on a thread of the resolver.
    let resolver = shared.resolver.clone();
    let queued = resolver.run(move || {
        let trust = https.then(|| shared.load_trust());
        let mut reason = None;
        if named {
            match addresses(&host, port) {
                Ok(found) => race.rest = found.into_iter().map(Target::Tcp).collect(),
                Err(error) => reason = Some(error.to_string()),
            }
        }
        // If the loop has ended, dropping the closure reports that.
        loop_handle.at_once(move |now| match race.rest.is_empty() {
            true => race.lost(Error::Resolve { host, reason: reason.unwrap_or_else(|| "no address".to_owned()) }),
            false => race.start(trust, host, now),
        });
    });
    if !queued {
        pending.fail(Error::QueueFull);
    }
}

/// Returns the address with its zone, or `None` if there is no such interface. A number is used as it is.
fn zoned(host: &str, zone: &str, port: u16) -> Option<SocketAddr> {
    let scope = zone.parse().ok().or_else(|| interface_index(zone))?;
    Some(SocketAddrV6::new(host.parse().ok()?, port, 0, scope).into())
}

/// The address of an attempt.
#[derive(Clone)]
enum Target {
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

/// Attempts to make one connection.
struct Race {
    pending: Pending,
    /// `None` when the race is decided.
    permit: Option<ConnPermit>,
    loop_handle: LoopHandle,
    /// The deadline of the race.
    by: Instant,
    /// Addresses that are not tried yet.
    rest: VecDeque<Target>,
    trust: Option<(TlsClient, String)>,
    attempts: usize,
    under_way: usize,
    last: Option<Error>,
}

type Shared = Arc<Mutex<Race>>;

fn lock(race: &Shared) -> MutexGuard<'_, Race> {
    race.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Race {
    fn start(mut self, trust: Option<Result<TlsClient, String>>, host: String, now: Moment) {
        match trust {
            None => {}
            Some(Ok(trust)) => self.trust = Some((trust, host)),
            Some(Err(reason)) => return self.lost(Error::Tls { to: host, reason }),
        }
        attempt(&Arc::new(Mutex::new(self)), now);
    }

    fn lost(self, error: Error) {
        let Self { permit, pending, .. } = self;
        drop(permit);
        pending.fail(error);
    }
}

/// Tries the next address. If there is none, and no attempt is in progress, the race is lost.
fn attempt(race: &Shared, now: Moment) {
    let mut state = lock(race);
    if state.permit.is_none() {
        return;
    }
    let left = state.by.saturating_duration_since(now.mono);
    let next = if left.is_zero() { None } else { state.rest.pop_front() };
    let Some(target) = next else {
        if state.under_way == 0 {
            let error = state.last.take().unwrap_or(Error::TimedOut(Timeout::Connect));
            let (permit, pending) = (state.permit.take(), state.pending.clone());
            drop(state);
            drop(permit);
            pending.fail(error);
        }
        return;
    };
    state.under_way += 1;
    state.attempts += 1;
    let (number, more, loop_handle) = (state.attempts, !state.rest.is_empty(), state.loop_handle.clone());
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
fn won(race: &Shared, dialed: &Dialed<'_>) -> Option<Box<dyn Upgrade>> {
    let mut state = lock(race);
    state.under_way -= 1;
    let permit = state.permit.take()?;
    let (pending, loop_handle) = (state.pending.clone(), state.loop_handle.clone());
    drop(state);
    // If the request has just timed out, the connection serves the next one.
    Connection::new(loop_handle, dialed.waker(), permit, pending.take()).map(|connection| Box::new(connection) as _)
}

fn failed(race: &Shared, target: &Target, error: DialError) {
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
        state.under_way -= 1;
        state.last = Some(error);
        if ended {
            state.rest.clear();
        }
        state.loop_handle.clone()
    };
    let next = race.clone();
    if !loop_handle.at_once(move |now| attempt(&next, now)) {
        let mut state = lock(race);
        let (permit, pending) = (state.permit.take(), state.pending.clone());
        drop(state);
        drop(permit);
        pending.fail(Error::LoopEnded);
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

    const PATIENCE: Duration = Duration::from_secs(20);

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Races for a connection to these; what the answer's status is, or why there is none.
    fn race(targets: Vec<SocketAddr>, within: Duration) -> Result<u16, Error> {
        let running = Server::new().threads(1, |_: &mut Request<'_>| Response::new(500)).unwrap();
        let (loop_handle, client) = (running.loops().remove(0), Client::new());
        let (sender, receiver) = channel();
        let on = loop_handle.clone();
        let kept = client.clone();
        loop_handle.at_once(move |now| {
            let request = client::Request::get("http://x/").connect_timeout(within);
            let then = Completion::new(move |result: Result<client::Response, Error>| {
                sender.send(result.map(|a| a.status())).unwrap();
            });
            let exchange = Exchange::new(kept.0.clone(), request, on.clone(), then, now);
            let by = exchange.connection_by().0;
            let race = Race {
                pending: Pending::new(exchange, now),
                permit: Some(kept.0.test_permit("http://x/")),
                loop_handle: on,
                by,
                rest: targets.into_iter().map(Target::Tcp).collect(),
                trust: None,
                attempts: 0,
                under_way: 0,
                last: None,
            };
            race.start(None, String::new(), now);
        });
        let result = receiver.recv_timeout(PATIENCE).unwrap();
        running.stop().unwrap();
        assert_eq!(client.connections(), 0);
        result
    }

    #[test]
    fn the_first_that_stands_wins() {
        let server = Server::bind("127.0.0.1:0").unwrap().threads(1, |_: &mut Request<'_>| Response::new(204)).unwrap();
        let good = server.local_addr().unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Of those for documentation one hears nothing, or that there is no way.
        let nowhere = addr("192.0.2.1:9");
        for targets in [vec![good], vec![refused, good], vec![nowhere, refused, good], vec![good, nowhere, good]] {
            assert_eq!(race(targets, PATIENCE), Ok(204));
        }
        assert!(matches!(race(vec![refused, refused], PATIENCE), Err(Error::Connect { .. })));
        let late = race(vec![nowhere], Duration::from_millis(100));
        assert!(matches!(late, Err(Error::TimedOut(Timeout::Connect) | Error::Connect { .. })), "{late:?}");
        server.stop().unwrap();
    }
}
