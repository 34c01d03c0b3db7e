//! The address of a peer.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// The address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddr {
    /// A TCP peer. The address is canonical: `::ffff:192.0.2.1` is reported as `192.0.2.1`, so that another spelling
    /// cannot evade a rule about addresses.
    Tcp(SocketAddr),
    /// A peer on a Unix socket, which has no useful address.
    Unix,
}

impl PeerAddr {
    /// Creates the address of a TCP peer, and makes it canonical.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// Returns the canonical IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) => Some(addr.ip()),
            Self::Unix => None,
        }
    }

    /// Returns the network that limits count this peer by, see [`network_of`](Self::network_of); `None` for a Unix
    /// socket.
    pub fn network(&self) -> Option<IpAddr> {
        self.ip().map(Self::network_of)
    }

    /// Returns the network that limits count an address by: the IPv4 address itself, or the first address of the /64
    /// network of an IPv6 address.
    ///
    /// A client that has one address of a /64 network has all of them (RFC 4291 §2.5.4), so a limit per IPv6 address
    /// would limit nothing. A v4-mapped IPv6 address counts as the IPv4 address.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use uncork::PeerAddr;
    /// let network = |text: &str| text.parse().map(PeerAddr::network_of);
    /// assert_eq!(network("2001:db8::1:2:3:4")?, "2001:db8::".parse::<IpAddr>()?);
    /// assert_eq!(network("::ffff:192.0.2.1")?, IpAddr::from([192, 0, 2, 1]));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn network_of(ip: IpAddr) -> IpAddr {
        match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        }
    }

    /// Returns `true` if the peer is on this machine: a loopback address, or a Unix socket.
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

    #[test]
    fn limits_count_a_v4_address_and_a_v6_network() {
        let network = |text: &str| PeerAddr::tcp(text.parse().expect("an address")).network();
        let ip = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(network("192.0.2.1:80"), ip("192.0.2.1"));
        assert_eq!(network("[::ffff:192.0.2.1]:80"), ip("192.0.2.1"));
        assert_eq!(network("[2001:db8:0:1:ffff::9]:80"), ip("2001:db8:0:1::"));
        assert_eq!(network("[2001:db8:0:1::]:1"), network("[2001:db8:0:1:8000::]:2"));
        assert_ne!(network("[2001:db8:0:1::1]:1"), network("[2001:db8:0:2::1]:1"));
        assert_eq!(PeerAddr::Unix.network(), None);
    }
}
