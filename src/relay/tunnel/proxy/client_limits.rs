//! Limits the requests that each client address has in progress.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::config::ProxyConfig;
use crate::relay::addresses::{Addresses, Allowance};

/// Addresses that may have requests in progress at the same time.
const ADDRESSES: usize = 65_536;

/// Time for which a request that ended before its complete response still counts. Such an end is a reset stream for the
/// origin server. So an address causes as many resets a second as it may have requests, and not as many as it can send.
const KEPT: Duration = Duration::from_secs(1);

/// Counts the requests that each address has in progress.
pub(super) struct ClientLimits {
    addresses: Addresses,
    /// Requests that count until the given time, in order of time.
    kept: VecDeque<(Instant, IpAddr)>,
}

impl ClientLimits {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_address = config.streams_per_address;
        let addresses = Addresses::new(Allowance { slots: ADDRESSES, per_address, per_minute: 0, burst: 1 });
        Self { addresses, kept: VecDeque::new() }
    }

    /// Counts one more request of this address. Returns `false`, and counts nothing, at the limit.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        while let Some(&(until, ended)) = self.kept.front()
            && until <= now
        {
            self.kept.pop_front();
            self.addresses.release(ended);
        }
        self.addresses.admit(ip, now).is_ok()
    }

    /// Counts one request less. `keep_from`: it ended early at that time, and counts for [`KEPT`] more.
    pub(super) fn release(&mut self, ip: IpAddr, keep_from: Option<Instant>) {
        match keep_from {
            Some(end) => self.kept.push_back((end + KEPT, ip)),
            None => self.addresses.release(ip),
        }
    }
}
