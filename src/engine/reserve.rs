//! Descriptors that a loop keeps for the time when the process has no others.
//!
//! ```text
//!   accept ──EMFILE──▶ one of them is closed ──▶ accept once more        a connection ends ──▶ one is opened again
//! ```

use std::os::unix::net::UnixDatagram;

/// Descriptors without a use. A socket that is bound to nothing needs no file system.
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

    /// Takes as many as it should have, as far as there are any.
    #[inline]
    pub(super) fn fill(&mut self) {
        while self.spare.len() < self.most
            && let Ok(one) = UnixDatagram::unbound()
        {
            self.spare.push(one);
        }
    }

    /// Frees one for a connection. Returns `true` if there was one.
    #[cold]
    pub(super) fn release_one(&mut self) -> bool {
        self.spare.pop().is_some()
    }
}
