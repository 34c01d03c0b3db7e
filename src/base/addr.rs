//! Who is at the other end.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddr {
    /// A TCP peer. The address is canonical: `::ffff:192.0.2.1` is reported as `192.0.2.1`, so that a rule about
    /// addresses cannot be passed by in another spelling.
    Tcp(SocketAddr),
    /// A peer on a Unix socket. It has no address worth the name.
    Unix,
}

impl PeerAddr {
    /// A TCP peer, its address made canonical.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// The canonical IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) => Some(addr.ip()),
            Self::Unix => None,
        }
    }

    /// Whether the peer is on this very machine.
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_reported_as_the_v4_address_it_is() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:80".parse().expect("an address");
        let peer = PeerAddr::tcp(mapped);
        assert_eq!(peer.ip(), Some(IpAddr::from([127, 0, 0, 1])));
        assert!(peer.is_local());
        assert_eq!(peer.to_string(), "127.0.0.1:80");
    }
}
