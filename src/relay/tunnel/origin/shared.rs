//! The state that all connections of one tunnel share: the checked configuration.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uncork::TlsClient;

use super::{
    event::{Observer, TunnelEvent},
    protocol::Timeouts,
};

/// The ALPN name of HTTP/2 with the roles reversed, from the first byte after the TLS handshake.
pub(super) const REVERSED: &[u8] = b"rh2";

/// The longest backoff before a connection is opened again.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) tls: TlsClient,
    /// Offers `http/1.1` only: for an attempt that must use an upgrade.
    pub(super) tls_upgrade: TlsClient,
    /// The request for a tunnel, as it is sent.
    pub(super) upgrade_request: Vec<u8>,
    /// The response to the proxy's question after ALPN. `None`: only a client certificate identifies this side, and
    /// HTTP/2 alone does not carry it.
    pub(super) hello_response: Option<Bytes>,
    pub(super) timeouts: Timeouts,
    pub(super) healthy_after: Duration,
    pub(super) listener: usize,
    /// The proxy is a spdy-proxy.
    #[cfg(feature = "spdy")]
    pub(super) legacy: bool,
    pub(super) backoff: Duration,
    pub(super) observer: Option<Arc<Observer>>,
}

impl Shared {
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
        let mut random = [0; 4];
        // Without random bytes the delay is the longest one.
        let part = if getrandom::fill(&mut random).is_ok() {
            f64::from(u32::from_ne_bytes(random)) / 2f64.powi(32)
        } else {
            1.0
        };
        let min = Duration::from_secs(retry_after.unwrap_or(0)).min(MAX_BACKOFF);
        min + max.mul_f64(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let tls = TlsClient::builder().pin([0; 32]).build().expect("a pin");
        let second = Duration::from_secs(1);
        Shared {
            host: "a".into(),
            port: 443,
            tls: tls.clone(),
            tls_upgrade: tls,
            upgrade_request: Vec::new(),
            hello_response: None,
            timeouts: Timeouts { ping_interval: second, drain_timeout: second, connect_timeout: second },
            healthy_after: second,
            listener: 0,
            #[cfg(feature = "spdy")]
            legacy: false,
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
