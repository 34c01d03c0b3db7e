//! Data of new connections, and the limits on their number.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU16,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::dispatch::Trusted;
use crate::{
    api::{PipeIn, PipeOut},
    base::{Limits, PeerAddr, lock, log_throttle::LogThrottle, time::Tick},
    transport::{Listener, Security, Socket, kernel_pipe::KernelPipes},
};

/// A connection that was admitted and has no slot yet.
pub(crate) struct Arrival {
    pub(crate) source: ConnSource,
    pub(crate) peer: Peer,
    /// The number of its listener.
    pub(crate) listener: usize,
}

/// The stream of a new connection.
pub(crate) enum ConnSource {
    Socket(Socket),
    /// The ends that it reads from and writes to.
    Pipes(Box<(PipeOut, PipeIn)>),
}

/// The peer of a connection. For an accepted connection it also counts toward the limits, until it is dropped.
pub(crate) struct Peer {
    pub(crate) addr: PeerAddr,
    /// The connection is inbound: it is served.
    is_inbound: bool,
    admission: Option<Arc<Admission>>,
    /// It counts toward the limit of its address, too. A proxy that has not named its client does not.
    counted: bool,
    /// The handler has accepted it, and learns when it ends.
    pub(super) notify_closed: bool,
    /// The number of the listener that it came through, if it is inbound.
    pub(super) listener: u16,
    /// The timeout that a handler has set for the connection, in seconds; the greatest number is none at all.
    pub(super) timeout: Option<NonZeroU16>,
}

impl Peer {
    fn new(addr: PeerAddr, is_inbound: bool, admission: Option<Arc<Admission>>) -> Self {
        Self { addr, is_inbound, admission, counted: false, notify_closed: false, listener: u16::MAX, timeout: None }
    }

    /// Returns the peer of an outbound connection, which does not count toward the limits.
    pub(super) fn dialed(addr: PeerAddr) -> Self {
        Self::new(addr, false, None)
    }

    /// Returns the peer of a connection adopted as pipes. It is served, and does not count toward the limits.
    pub(super) fn adopted(addr: PeerAddr) -> Self {
        Self::new(addr, true, None)
    }

    /// Sets the client that the proxy named. The connection then counts toward the limit of that address.
    pub(super) fn set_client(&mut self, client: PeerAddr) -> Result<(), LimitReached> {
        if let Some(admission) = &self.admission {
            admission.enter_address(&client)?;
            self.counted = true;
        }
        self.addr = client;
        Ok(())
    }

    /// Returns `true` if the connection is inbound.
    pub(super) fn is_inbound(&self) -> bool {
        self.is_inbound
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(admission) = &self.admission {
            admission.all.fetch_sub(1, Ordering::Relaxed);
            if self.counted {
                admission.leave_address(&self.addr);
            }
        }
    }
}

/// A listener of one loop. Its number is its position in the list.
pub(crate) struct LoopListener {
    /// `None` if it is closed, or exists only for adopted connections.
    pub(crate) listener: Option<Listener>,
    pub(crate) security: Security,
    /// Every peer must be a proxy that this function trusts, and must name its client.
    pub(crate) proxies: Option<Arc<Trusted>>,
    /// The system has reported connections, and accepting has not returned "none" since.
    pub(super) ready: bool,
    /// The time to accept again, after a limit or the system allowed no further connection.
    pub(super) paused: Tick,
}

impl LoopListener {
    pub(crate) fn new(listener: Option<Listener>, security: Security, proxies: Option<Arc<Trusted>>) -> Self {
        Self { listener, security, proxies, ready: true, paused: Tick::NEVER }
    }

    /// Returns `true` if there may be connections to accept.
    #[inline]
    pub(super) fn may_accept(&self, now: Tick) -> bool {
        self.ready || self.paused <= now
    }
}

/// The limits on connections, and other state shared by all loops of a server.
pub(crate) struct Admission {
    pub(super) kernel_pipes: Arc<KernelPipes>,
    most: usize,
    most_per_address: usize,
    all: AtomicUsize,
    /// Connections by [`PeerAddr::network`].
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Rate-limits the log line about connections that wait for a descriptor or memory.
    pub(super) exhausted: LogThrottle,
    /// Rate-limits the log line about admitted connections that were closed because they cannot be served.
    pub(super) unserved: LogThrottle,
    /// Rate-limits the log line about connections that were closed for their buffers.
    pub(super) relieved: LogThrottle,
}

/// The limit that a connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitReached {
    /// The limit on all connections.
    Total,
    /// The limit on connections of this address.
    Address,
}

impl LimitReached {
    /// Returns the rule that the connection breaks.
    pub(super) fn rule(&self) -> &'static str {
        match self {
            Self::Total => "too many connections in total",
            Self::Address => "too many connections from this address",
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            kernel_pipes: Arc::new(KernelPipes::new(limits.kernel_pipes)),
            most: limits.connections,
            most_per_address: match limits.connections_per_address {
                usize::MAX => usize::MAX,
                n => n.min(limits.connections.div_ceil(2)),
            },
            all: AtomicUsize::new(0),
            by_address: Mutex::default(),
            exhausted: LogThrottle::default(),
            unserved: LogThrottle::default(),
            relieved: LogThrottle::default(),
        }
    }

    /// Returns `true` if the limit on all connections allows another one.
    pub(crate) fn has_capacity(&self) -> bool {
        self.all.load(Ordering::Relaxed) < self.most
    }

    pub(crate) fn enter(self: &Arc<Self>, peer: &PeerAddr) -> Result<Peer, LimitReached> {
        let mut entered = self.enter_proxy(peer)?;
        entered.set_client(*peer)?;
        Ok(entered)
    }

    /// Admits a proxy. It counts toward the limit on all connections, but not toward that of its own address, because
    /// it may have many clients.
    pub(super) fn enter_proxy(self: &Arc<Self>, peer: &PeerAddr) -> Result<Peer, LimitReached> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(LimitReached::Total);
        }
        Ok(Peer::new(*peer, true, Some(self.clone())))
    }

    fn enter_address(&self, peer: &PeerAddr) -> Result<(), LimitReached> {
        let Some(network) = peer.network() else { return Ok(()) };
        // The count of all connections includes this one.
        let others = self.all.load(Ordering::Relaxed).saturating_sub(1);
        let share = Limits::address_share(self.most, self.most_per_address, others);
        let mut by_address = lock(&self.by_address);
        let count = by_address.get(&network).copied().unwrap_or(0);
        if count >= share {
            return Err(LimitReached::Address);
        }
        by_address.insert(network, count + 1);
        Ok(())
    }

    fn leave_address(&self, peer: &PeerAddr) {
        let Some(network) = peer.network() else { return };
        let mut by_address = lock(&self.by_address);
        if let Some(count) = by_address.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_address: usize) -> Arc<Admission> {
        Arc::new(Admission::new(&Limits { connections, connections_per_address, ..Limits::default() }))
    }

    #[test]
    fn connections_are_counted_in_all_and_per_address_until_they_end() {
        let admission = admission(4, 2);
        let enter = |peer: &PeerAddr| admission.enter(peer);
        let peer = |ip: [u8; 4]| PeerAddr::tcp((ip, 1).into());
        let (a, b, c) = (peer([10, 0, 0, 1]), peer([10, 0, 0, 2]), peer([10, 0, 0, 3]));
        let (first, second) = (enter(&a).ok(), enter(&a).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!(enter(&a).err(), Some(LimitReached::Address));
        let (third, fourth) = (enter(&b).ok(), enter(&PeerAddr::Unix).ok());
        assert!(third.is_some() && fourth.is_some());
        assert_eq!(enter(&PeerAddr::Unix).err(), Some(LimitReached::Total));
        drop(first);
        let again = enter(&c).ok();
        assert!(again.is_some() && !admission.has_capacity());
        drop((second, third, fourth, again));
        assert!(admission.has_capacity());
        assert!(admission.by_address.lock().expect("not poisoned").is_empty(), "no address is kept for ever");
    }

    #[test]
    fn a_few_addresses_leave_connections_to_others() {
        let peer = |n: u8| PeerAddr::tcp(([10, 0, 0, n], 1).into());
        for (addresses, least) in [(1, 50), (4, 20), (9, 10), (49, 2), (99, 1)] {
            let admission = admission(100, 1000);
            let mut held = Vec::new();
            // In turn, until no address is admitted any more.
            while let before = held.len()
                && {
                    held.extend((0..addresses).filter_map(|n| admission.enter(&peer(n)).ok()));
                    held.len() > before
                }
            {}
            let free = 100 - held.len();
            assert!(free >= least && held.len() >= 50, "{addresses} addresses leave {free}");
            assert!(admission.enter(&peer(200)).is_ok(), "another one is admitted");
        }
        let all = admission(100, usize::MAX);
        let held: Vec<_> = (0..100).filter_map(|_| all.enter(&peer(1)).ok()).collect();
        assert_eq!(held.len(), 100, "one address may have all");
    }

    #[test]
    fn a_connection_through_a_proxy_counts_for_its_client() {
        let admission = admission(9, 1);
        let peer = |ip: [u8; 4]| PeerAddr::tcp((ip, 1).into());
        let (proxy, client) = (peer([10, 0, 0, 1]), peer([192, 0, 2, 1]));
        let enter = || admission.enter_proxy(&proxy).expect("admitted");
        let (mut first, mut second) = (enter(), enter());
        assert_eq!(first.set_client(client), Ok(()));
        assert_eq!(second.set_client(client), Err(LimitReached::Address));
        drop((first, second));
        assert!(admission.by_address.lock().expect("not poisoned").is_empty() && admission.has_capacity());
        assert_eq!(admission.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn another_spelling_of_an_address_is_the_same_address() {
        let admission = admission(9, 1);
        let mapped = PeerAddr::tcp("[::ffff:10.0.0.1]:9".parse().expect("an address"));
        let _one = admission.enter(&PeerAddr::tcp(([10, 0, 0, 1], 1).into())).ok();
        assert_eq!(admission.enter(&mapped).err(), Some(LimitReached::Address));
    }

    #[test]
    fn all_addresses_of_a_v6_network_share_its_limit() {
        let admission = admission(9, 2);
        let enter = |text: &str| admission.enter(&PeerAddr::tcp(text.parse().expect("an address")));
        let taken = [enter("[2001:db8::1]:9").ok(), enter("[2001:db8::2]:9").ok()];
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(enter("[2001:db8::ffff:3]:9").err(), Some(LimitReached::Address));
        assert!(enter("[2001:db8:0:1::1]:9").is_ok(), "another network");
        drop(taken);
        assert!(admission.by_address.lock().expect("not poisoned").is_empty());
    }
}
