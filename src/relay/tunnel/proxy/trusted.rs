//! Peers that are trusted.

use std::{fmt, sync::Arc};

use uncork::PeerAddr;

/// The peers that are trusted proxies in front of this one.
#[derive(Clone)]
pub struct Trusted(Arc<dyn Fn(&PeerAddr) -> bool + Send + Sync>);

impl Trusted {
    /// Trusts no peer.
    pub fn none() -> Self {
        Self::peers(|_| false)
    }

    /// Trusts the peers for which `f` returns `true`.
    pub fn peers(f: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    pub(super) fn has(&self, peer: &PeerAddr) -> bool {
        (self.0)(peer)
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trusted(..)")
    }
}
