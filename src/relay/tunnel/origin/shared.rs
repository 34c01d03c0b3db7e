//! The state that all connections of one tunnel share: the checked configuration.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use uncork::TlsClient;

use super::{
    event::{Observer, TunnelEvent},
    protocol::Timeouts,
    targets::Targets,
    upgrade_request::{self, Proof},
};
use crate::relay::{
    lock::lock,
    tunnel::{address::Address, labels::Inner},
};

/// How long a node that has failed is avoided, in first backoffs: 15 s by default.
const AVOID: u32 = 30;

/// The longest backoff before a connection is opened again.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    /// The nodes, and which connection goes to which of them.
    pub(super) targets: Mutex<Targets>,
    pub(super) tls: TlsClient,
    /// Offers `http/1.1` only: for an attempt that must use an upgrade.
    pub(super) tls_upgrade: TlsClient,
    /// What the request for a tunnel says.
    pub(super) registration: Registration,
    /// The response to the proxy's question after ALPN. `None`: only a client certificate identifies this side, and
    /// HTTP/2 alone does not carry it.
    pub(super) hello_response: Option<Bytes>,
    pub(super) timeouts: Timeouts,
    pub(super) healthy_after: Duration,
    pub(super) listener: usize,
    pub(super) backoff: Duration,
    pub(super) observer: Option<Arc<Observer>>,
}

/// What the request for a tunnel says.
pub(super) struct Registration {
    pub(super) path: String,
    pub(super) proof: Option<Proof>,
    pub(super) hosts: Vec<String>,
    /// The protocols that are served.
    pub(super) inner: &'static [Inner],
    /// The proxy is a spdy-proxy.
    pub(super) legacy: bool,
    /// Other nodes are used, if the proxy names some.
    pub(super) uses_nodes: bool,
}

impl Registration {
    /// Returns the request for a tunnel to this proxy, as it is sent.
    ///
    /// # Errors
    /// Returns an error if a part has a character that HTTP does not allow there.
    pub(super) fn request(&self, to: &Address) -> Result<Vec<u8>, String> {
        match self.legacy {
            true => Ok(upgrade_request::legacy(&to.host, to.port)),
            false => upgrade_request::build(
                &to.host,
                to.port,
                &self.path,
                self.proof.as_ref(),
                &self.hosts,
                self.inner,
                self.uses_nodes,
            ),
        }
    }
}

impl Shared {
    pub(super) fn lock_targets(&self) -> MutexGuard<'_, Targets> {
        lock(&self.targets)
    }

    /// Returns the time for which a node that has failed is avoided.
    pub(super) fn avoidance(backoff: Duration) -> Duration {
        backoff.saturating_mul(AVOID)
    }

    /// Returns the delay before a connection looks for a better node again. It is random, so that not all connections
    /// move at once.
    pub(super) fn recheck_delay(&self) -> Duration {
        let least = Self::avoidance(self.backoff);
        least + least.mul_f64(random_part())
    }

    /// Passes an event to the application's callback, or logs it.
    pub(super) fn report(&self, event: &TunnelEvent<'_>) {
        match &self.observer {
            Some(observer) => observer(event),
            None if matches!(event, TunnelEvent::Down { .. }) => log::warn!(target: "uncork::relay", "{event}"),
            None => log::info!(target: "uncork::relay", "{event}"),
        }
    }

    /// Returns the delay before the next attempt after this many failures in a row. It has full jitter, so that origin
    /// servers that one event has disconnected do not all reconnect at the same moment.
    pub(super) fn backoff_delay(&self, failures: u32, retry_after: Option<u64>) -> Duration {
        let max = self.backoff.saturating_mul(1 << failures.min(16)).min(MAX_BACKOFF);
        let min = Duration::from_secs(retry_after.unwrap_or(0)).min(MAX_BACKOFF);
        min + max.mul_f64(random_part())
    }
}

/// Returns a random number.
pub(super) fn random() -> Option<u32> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).ok().map(|()| u32::from_ne_bytes(random))
}

/// Returns a random part of a delay. Without random bytes the delay is the longest one.
fn random_part() -> f64 {
    random().map_or(1.0, |random| f64::from(random) / 2f64.powi(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let tls = TlsClient::builder().pin([0; 32]).build().expect("a pin");
        let second = Duration::from_secs(1);
        let address = Address::parse("a").expect("an address");
        Shared {
            targets: Mutex::new(Targets::new(address, 1, second)),
            tls: tls.clone(),
            tls_upgrade: tls,
            registration: Registration {
                path: "/".into(),
                proof: None,
                hosts: Vec::new(),
                inner: &Inner::ALL,
                legacy: false,
                uses_nodes: true,
            },
            hello_response: None,
            timeouts: Timeouts { ping_interval: second, drain_timeout: second, connect_timeout: second },
            healthy_after: second,
            listener: 0,
            backoff: second / 2,
            observer: None,
        }
    }

    #[test]
    fn delays_grow_to_a_minute_and_are_random() {
        let shared = shared();
        for (failures, max) in [(0, 0.5), (1, 1.0), (3, 4.0), (7, 60.0), (1000, 60.0)] {
            let delays: Vec<f64> = (0..200).map(|_| shared.backoff_delay(failures, None).as_secs_f64()).collect();
            assert!(delays.iter().all(|delay| *delay <= max), "{failures}");
            let spread = |from: f64, to: f64| delays.iter().any(|delay| (from * max..to * max).contains(delay));
            assert!(spread(0.0, 0.2) && spread(0.4, 0.6) && spread(0.8, 1.0), "{failures}");
        }
        let delay = shared.backoff_delay(0, Some(5));
        assert!(delay >= Duration::from_secs(5) && delay <= Duration::from_millis(5500));
        assert!(shared.backoff_delay(0, Some(u64::MAX)) <= Duration::from_millis(60_500));
    }
}
