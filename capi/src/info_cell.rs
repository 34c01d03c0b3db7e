//! Where the results of information calls are kept: unions of C.

use std::sync::atomic::{AtomicU64, Ordering};

use libc::{sockaddr_storage, socklen_t};

/// A union of C: every member begins at its first byte.
#[derive(Debug, Default)]
pub(crate) struct Info(AtomicU64);

impl Info {
    pub(crate) fn set(&self, bytes: &[u8]) -> *const Self {
        let mut all = [0; 8];
        all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.0.store(u64::from_ne_bytes(all), Ordering::Release);
        self
    }

    pub(crate) fn set_pointer<T>(&self, pointer: *const T) -> *const Self {
        self.set(&pointer.expose_provenance().to_ne_bytes())
    }
}

/// What was asked about a daemon, by type.
pub(crate) type DaemonInfos = [Info; 8];

/// What was asked about a connection, by type. The results stay as long as the connection.
pub(crate) struct ConnectionInfos {
    pub(crate) by_type: [Info; 12],
    pub(crate) address: (sockaddr_storage, socklen_t),
}
