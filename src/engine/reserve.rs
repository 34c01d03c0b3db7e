//! Descriptors that a loop reserves for the time when the process has no others.
//!
//! ```text
//!   accept ──EMFILE──▶ one of them is closed ──▶ accept once more        a connection ends ──▶ one is opened again
//! ```

use std::os::unix::net::UnixDatagram;

/// Unused descriptors. An unbound socket needs no file system.
pub(super) struct Reserve {
    spare: Vec<UnixDatagram>,
    most: usize,
}

impl Reserve {
    pub(super) fn new(most: usize) -> Self {
        let mut reserve = Self { spare: Vec::new(), most };
        reserve.fill();
        reserve
    }

    /// Opens as many as are configured, as far as the system allows it.
    #[inline]
    pub(super) fn fill(&mut self) {
        while self.spare.len() < self.most
            && let Ok(one) = UnixDatagram::unbound()
        {
            self.spare.push(one);
        }
    }

    /// Closes one to free it for a connection. Returns `true` if there was one.
    #[cold]
    pub(super) fn release_one(&mut self) -> bool {
        self.spare.pop().is_some()
    }
}
