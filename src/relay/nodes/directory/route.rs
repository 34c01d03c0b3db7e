//! From a place to a connected socket: names, addresses, and the time between attempts.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{Dial, LoopHandle};

use super::{config::Server, url::Place};
use crate::relay::lock::lock;

/// The longest time before the first attempt after a failure. It doubles with each failure.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// The longest time between two attempts, if the engine rejects connections, or ends them too early.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The same, if the engine is away. Everything must be registered again within 5 s of its return, and an attempt costs
/// an engine that is away nothing. An attempt that began before the return has up to a second until it is noticed: the
/// system repeats a lost SYN after 1 s.
const MAX_BACKOFF_AWAY: Duration = Duration::from_secs(2);
/// The number of failures after which it is the longest time for an engine that is away.
const FAILURES_AWAY: u32 = 5;

/// An address of a server.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The addresses of a server, or the reason why there is none.
pub(super) type Resolved = Result<VecDeque<Address>, String>;

/// Calls `then` on the loop with all addresses of a server; never with an empty list. Names are resolved by a thread,
/// since that blocks.
pub(super) fn resolve(place: &Place, on: &LoopHandle, then: impl FnOnce(Resolved) + Send + 'static) {
    let (host, port) = match place {
        Place::Unknown => return then(Err("the Sentinels have named no master yet".into())),
        Place::Unix(path) => return then(Ok([Address::Unix(path.clone())].into())),
        Place::Tcp(host, port) => (host.clone(), *port),
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return then(Ok([Address::Tcp(SocketAddr::new(ip, port))].into()));
    }
    let handle = on.clone();
    // Outside of the thread: it may not start.
    let then = Arc::new(Mutex::new(Some(then)));
    let call = then.clone();
    let work = move || {
        let resolved = match (host.as_str(), port).to_socket_addrs() {
            Ok(found) => Ok(found.map(Address::Tcp).collect::<VecDeque<_>>()),
            Err(cause) => Err(format!("cannot resolve {host}: {cause}")),
        };
        let resolved = resolved.and_then(|found| match found.is_empty() {
            true => Err(format!("cannot resolve {host}: it has no address")),
            false => Ok(found),
        });
        handle.after(Duration::ZERO, move |_| take(&call).map_or((), |then| then(resolved)));
    };
    if let Err(cause) = std::thread::Builder::new().name("uncork-names".into()).spawn(work)
        && let Some(then) = take(&then)
    {
        then(Err(format!("cannot start a thread to resolve a name: {cause}")));
    }
}

fn take<T>(then: &Mutex<Option<T>>) -> Option<T> {
    lock(then).take()
}

/// Returns the connection to make. `place` is what a certificate must be for.
pub(super) fn dial(address: &Address, place: &Place, server: &Server, timeout: Duration) -> Dial {
    let dial = match address {
        Address::Tcp(address) => Dial::tcp(*address),
        Address::Unix(path) => Dial::unix(path),
    };
    let dial = dial.timeout(timeout);
    match (&server.tls, place) {
        (Some(tls), Place::Tcp(host, _)) => dial.tls(tls, host),
        _ => dial,
    }
}

/// Why an attempt has failed, or its connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The name is unknown, there is no connection or no reply, the engine is a replica, or it says "not now". Also a
    /// connection that was used until the engine went away.
    Away,
    /// The engine is there and says no: to the password, to one client more, …
    Rejected,
    /// The connection was lost before everything was registered.
    Lost,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// Counts a failure, and returns the time before the next attempt.
    pub(super) fn add(&mut self, failure: Failure) -> Duration {
        let (max, next) = match failure {
            // Not for each attempt: however long it was away, nothing is known about how it is after its return.
            Failure::Away => (MAX_BACKOFF_AWAY, self.0.max(self.0.saturating_add(1).min(FAILURES_AWAY))),
            Failure::Rejected | Failure::Lost => (MAX_BACKOFF, self.0.saturating_add(1)),
        };
        let delay = backoff(self.0, max);
        self.0 = next;
        delay
    }
}

/// Returns the time before the next attempt after this many failures in a row. It has full jitter, so that nodes that
/// one event has disconnected do not all reconnect at the same moment.
fn backoff(failures: u32, max: Duration) -> Duration {
    let max = MIN_BACKOFF.saturating_mul(1 << failures.min(16)).min(max);
    let mut random = [0; 4];
    // Without random bytes it is the longest one.
    let part = match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / 2f64.powi(32),
        Err(_) => 1.0,
    };
    max.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(time: impl Fn() -> Duration, max: f64) {
        let times: Vec<f64> = (0..200).map(|_| time().as_secs_f64()).collect();
        assert!(times.iter().all(|time| *time <= max), "{max}");
        let spread = |from: f64, to: f64| times.iter().any(|time| (from * max..to * max).contains(time));
        assert!(spread(0.0, 0.2) && spread(0.4, 0.6) && spread(0.8, 1.0), "{max}");
    }

    #[test]
    fn the_time_between_attempts_grows_and_is_random() {
        for failure in [Failure::Rejected, Failure::Lost] {
            for (failures, max) in [(0, 0.1), (1, 0.2), (3, 0.8), (7, 10.0), (u32::MAX, 10.0)] {
                spread(|| Failures(failures).add(failure), max);
            }
        }
    }

    #[test]
    fn an_engine_that_was_away_is_found_within_two_seconds() {
        for (failures, max) in [(0, 0.1), (1, 0.2), (4, 1.6), (5, 2.0), (u32::MAX, 2.0)] {
            spread(|| Failures(failures).add(Failure::Away), max);
        }
        let mut failures = Failures::default();
        for _ in 0..1000 {
            failures.add(Failure::Away);
        }
        // Its first connection ends too early.
        spread(|| { failures }.add(Failure::Lost), 3.2);
    }
}
