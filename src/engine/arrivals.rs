//! New connections: who is let in, and how many.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    base::{Limits, PeerAddr, kernel_pipe::KernelPipes, time::Tick},
    transport::{Listener, Security, Socket},
};

/// A connection that was let in and has no slot yet. The place it holds is given back by [`Admission::leave`].
pub(crate) struct Arrival {
    pub(crate) socket: Socket,
    pub(crate) peer: PeerAddr,
    pub(crate) port: usize,
}

/// One listener of a loop; its number is its place in the list.
pub(crate) struct Port {
    /// `None`: closed, or there only for what is adopted.
    pub(crate) listener: Option<Listener>,
    pub(crate) security: Security,
    /// The system has told of connections, and not been found without any since.
    pub(super) ready: bool,
    /// There is no place or no descriptor: look again then.
    pub(super) paused: Tick,
}

impl Port {
    pub(crate) fn new(listener: Option<Listener>, security: Security) -> Self {
        Self { listener, security, ready: true, paused: Tick::NEVER }
    }
}

/// Places, shared by all loops of a server; and what else they share.
pub(crate) struct Admission {
    pub(super) kernel_pipes: Arc<KernelPipes>,
    most: usize,
    most_per_address: usize,
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// None at all.
    House,
    /// None for this address.
    Address,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            kernel_pipes: Arc::new(KernelPipes::new(limits.kernel_pipes)),
            most: limits.connections,
            most_per_address: limits.connections_per_address,
            all: AtomicUsize::new(0),
            by_address: Mutex::default(),
        }
    }

    /// Whether there is a place for anybody.
    pub(crate) fn has_place(&self) -> bool {
        self.all.load(Ordering::Relaxed) < self.most
    }

    pub(crate) fn enter(&self, peer: &PeerAddr) -> Result<(), Full> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::House);
        }
        let Some(ip) = peer.ip() else { return Ok(()) };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(ip).or_insert(0);
        if *count >= self.most_per_address {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Address);
        }
        *count += 1;
        Ok(())
    }

    pub(crate) fn leave(&self, peer: &PeerAddr) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        let Some(ip) = peer.ip() else { return };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_per_address_and_given_back() {
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let admission = Admission::new(&limits);
        let peer = |ip: [u8; 4]| PeerAddr::tcp((ip, 1).into());
        let (a, b) = (peer([10, 0, 0, 1]), peer([10, 0, 0, 2]));
        assert_eq!((admission.enter(&a), admission.enter(&a)), (Ok(()), Ok(())));
        assert_eq!(admission.enter(&a), Err(Full::Address));
        assert_eq!((admission.enter(&b), admission.enter(&PeerAddr::Unix)), (Ok(()), Err(Full::House)));
        admission.leave(&a);
        assert_eq!(admission.enter(&a), Ok(()));
        for peer in [a, a, b] {
            admission.leave(&peer);
        }
        assert!(admission.by_address.lock().expect("not poisoned").is_empty(), "no address is remembered for ever");
    }

    #[test]
    fn another_spelling_of_an_address_is_the_same_address() {
        let limits = Limits { connections_per_address: 1, ..Limits::default() };
        let admission = Admission::new(&limits);
        let mapped = PeerAddr::tcp("[::ffff:10.0.0.1]:9".parse().expect("an address"));
        assert_eq!(admission.enter(&PeerAddr::tcp(([10, 0, 0, 1], 1).into())), Ok(()));
        assert_eq!(admission.enter(&mapped), Err(Full::Address));
    }
}
