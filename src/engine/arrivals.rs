//! New connections: who is let in, and how many.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::dispatch::Trusted;
use crate::{
    api::{PipeIn, PipeOut},
    base::{Limits, PeerAddr, seldom::Seldom, time::Tick},
    transport::{Listener, Security, Socket, kernel_pipe::KernelPipes},
};

/// A connection that was let in and has no slot yet.
pub(crate) struct Arrival {
    pub(crate) source: ConnSource,
    pub(crate) peer: Peer,
    pub(crate) port: usize,
}

/// What it is a connection by.
pub(crate) enum ConnSource {
    Socket(Socket),
    /// What it reads from and writes to.
    Pipes(Box<(PipeOut, PipeIn)>),
}

/// Who is at the other end; and, if the connection has come to us from outside, one of the places there are for such,
/// which is given back when this is dropped.
pub(crate) struct Peer {
    pub(crate) addr: PeerAddr,
    /// It asks, and we answer.
    is_inbound: bool,
    admission: Option<Arc<Admission>>,
    /// It has one of its address's places, too. A proxy that has not said yet for whom it comes has none.
    counted: bool,
}

impl Peer {
    /// Of a connection of our own making: it takes nobody's place.
    pub(super) fn dialed(addr: PeerAddr) -> Self {
        Self { addr, is_inbound: false, admission: None, counted: false }
    }

    /// Of a connection that the application has brought along: it is served, and takes nobody's place.
    pub(super) fn adopted(addr: PeerAddr) -> Self {
        Self { addr, is_inbound: true, admission: None, counted: false }
    }

    /// The proxy has said for whom it comes: one of that address's places is taken.
    pub(super) fn set_client(&mut self, client: PeerAddr) -> Result<(), Full> {
        if let Some(admission) = &self.admission {
            admission.enter_address(&client)?;
            self.counted = true;
        }
        self.addr = client;
        Ok(())
    }

    /// Whether the connection is served.
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

/// One listener of a loop; its number is its place in the list.
pub(crate) struct LoopListener {
    /// `None`: closed, or there only for what is adopted.
    pub(crate) listener: Option<Listener>,
    pub(crate) security: Security,
    /// Everybody who comes has to be a proxy whom this believes, and to say for whom it speaks.
    pub(crate) proxies: Option<Arc<Trusted>>,
    /// The system has told of connections, and not been found without any since.
    pub(super) ready: bool,
    /// There is no place or no descriptor: look again then.
    pub(super) paused: Tick,
}

impl LoopListener {
    pub(crate) fn new(listener: Option<Listener>, security: Security, proxies: Option<Arc<Trusted>>) -> Self {
        Self { listener, security, proxies, ready: true, paused: Tick::NEVER }
    }

    /// Whether it is worth looking for connections.
    #[inline]
    pub(super) fn may_accept(&self, now: Tick) -> bool {
        self.ready || self.paused <= now
    }
}

/// Places, shared by all loops of a server; and what else they share.
pub(crate) struct Admission {
    pub(super) kernel_pipes: Arc<KernelPipes>,
    most: usize,
    most_per_address: usize,
    all: AtomicUsize,
    /// By [`PeerAddr::network`].
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Connections that wait, because there is no descriptor or memory for them.
    pub(super) exhausted: Seldom,
    /// Connections that were let in, and closed since they can't be served.
    pub(super) unserved: Seldom,
    /// Connections that were closed for their buffers.
    pub(super) relieved: Seldom,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// None at all.
    Total,
    /// None for this address.
    Address,
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
            exhausted: Seldom::default(),
            unserved: Seldom::default(),
            relieved: Seldom::default(),
        }
    }

    /// Whether there is a place for anybody.
    pub(crate) fn has_capacity(&self) -> bool {
        self.all.load(Ordering::Relaxed) < self.most
    }

    pub(crate) fn enter(self: &Arc<Self>, peer: &PeerAddr) -> Result<Peer, Full> {
        let mut entered = self.enter_proxy(peer)?;
        entered.set_client(*peer)?;
        Ok(entered)
    }

    /// A proxy has a place among all, and none of its own address: many may come at once who speak for many.
    pub(super) fn enter_proxy(self: &Arc<Self>, peer: &PeerAddr) -> Result<Peer, Full> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Total);
        }
        Ok(Peer { addr: *peer, is_inbound: true, admission: Some(self.clone()), counted: false })
    }

    fn enter_address(&self, peer: &PeerAddr) -> Result<(), Full> {
        let Some(network) = peer.network() else { return Ok(()) };
        // This connection is among all already.
        let others = self.all.load(Ordering::Relaxed).saturating_sub(1);
        let share = Limits::address_share(self.most, self.most_per_address, others);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.get(&network).copied().unwrap_or(0);
        if count >= share {
            return Err(Full::Address);
        }
        by_address.insert(network, count + 1);
        Ok(())
    }

    fn leave_address(&self, peer: &PeerAddr) {
        let Some(network) = peer.network() else { return };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn places_are_counted_in_all_and_per_address_and_given_back() {
        let admission = admission(4, 2);
        let enter = |peer: &PeerAddr| admission.enter(peer);
        let peer = |ip: [u8; 4]| PeerAddr::tcp((ip, 1).into());
        let (a, b, c) = (peer([10, 0, 0, 1]), peer([10, 0, 0, 2]), peer([10, 0, 0, 3]));
        let (first, second) = (enter(&a).ok(), enter(&a).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!(enter(&a).err(), Some(Full::Address));
        let (third, fourth) = (enter(&b).ok(), enter(&PeerAddr::Unix).ok());
        assert!(third.is_some() && fourth.is_some());
        assert_eq!(enter(&PeerAddr::Unix).err(), Some(Full::Total));
        drop(first);
        let again = enter(&c).ok();
        assert!(again.is_some() && !admission.has_capacity());
        drop((second, third, fourth, again));
        assert!(admission.has_capacity());
        assert!(admission.by_address.lock().expect("not poisoned").is_empty(), "no address is remembered for ever");
    }

    #[test]
    fn a_few_addresses_leave_places_to_others() {
        let peer = |n: u8| PeerAddr::tcp(([10, 0, 0, n], 1).into());
        for (addresses, least) in [(1, 50), (4, 20), (9, 10), (49, 2), (99, 1)] {
            let admission = admission(100, 1000);
            let mut held = Vec::new();
            // In turn, until none of them gets in any more.
            while let before = held.len()
                && {
                    held.extend((0..addresses).filter_map(|n| admission.enter(&peer(n)).ok()));
                    held.len() > before
                }
            {}
            let free = 100 - held.len();
            assert!(free >= least && held.len() >= 50, "{addresses} addresses leave {free}");
            assert!(admission.enter(&peer(200)).is_ok(), "another one gets in");
        }
        let all = admission(100, usize::MAX);
        let held: Vec<_> = (0..100).filter_map(|_| all.enter(&peer(1)).ok()).collect();
        assert_eq!(held.len(), 100, "it was said that one may have all");
    }

    #[test]
    fn a_proxy_takes_the_place_of_whom_it_speaks_for() {
        let admission = admission(9, 1);
        let peer = |ip: [u8; 4]| PeerAddr::tcp((ip, 1).into());
        let (proxy, client) = (peer([10, 0, 0, 1]), peer([192, 0, 2, 1]));
        let enter = || admission.enter_proxy(&proxy).expect("a place");
        let (mut first, mut second) = (enter(), enter());
        assert_eq!(first.set_client(client), Ok(()));
        assert_eq!(second.set_client(client), Err(Full::Address));
        drop((first, second));
        assert!(admission.by_address.lock().expect("not poisoned").is_empty() && admission.has_capacity());
        assert_eq!(admission.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn another_spelling_of_an_address_is_the_same_address() {
        let admission = admission(9, 1);
        let mapped = PeerAddr::tcp("[::ffff:10.0.0.1]:9".parse().expect("an address"));
        let _one = admission.enter(&PeerAddr::tcp(([10, 0, 0, 1], 1).into())).ok();
        assert_eq!(admission.enter(&mapped).err(), Some(Full::Address));
    }

    #[test]
    fn all_addresses_of_a_v6_network_share_its_places() {
        let admission = admission(9, 2);
        let enter = |text: &str| admission.enter(&PeerAddr::tcp(text.parse().expect("an address")));
        let taken = [enter("[2001:db8::1]:9").ok(), enter("[2001:db8::2]:9").ok()];
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(enter("[2001:db8::ffff:3]:9").err(), Some(Full::Address));
        assert!(enter("[2001:db8:0:1::1]:9").is_ok(), "another network");
        drop(taken);
        assert!(admission.by_address.lock().expect("not poisoned").is_empty());
    }
}
