//! What a daemon needs for digest authentication, as its options say.

use std::{
    ffi::c_uint,
    slice,
    sync::{Arc, OnceLock},
};

use uncork::auth::{Binding, Nonces};

/// The nonces of a daemon, and the defaults for them.
pub(crate) struct Auth {
    /// Seconds that a nonce is valid, if a function for checking gets 0.
    pub(crate) nonce_timeout: u32,
    /// How often a nonce can be used, if a function for checking gets 0.
    pub(crate) max_nonce_count: u32,
    /// Slots for nonces in use; `None` for uncork's own number.
    pub(crate) slots: Option<usize>,
    entropy: Vec<u8>,
    binding: Binding,
    /// Made when they are needed first; `None` if the system has no random bytes.
    nonces: OnceLock<Option<Arc<Nonces>>>,
}

impl Default for Auth {
    /// The numbers of the original.
    fn default() -> Self {
        Self {
            nonce_timeout: 90,
            max_nonce_count: 1000,
            slots: None,
            entropy: Vec::new(),
            binding: Binding::default(),
            nonces: OnceLock::new(),
        }
    }
}

impl Auth {
    /// Mixes random bytes of the program into the key, which is random in any case.
    ///
    /// # Safety
    /// `bytes` must be NULL, or point to `len` bytes.
    pub(crate) unsafe fn mix_in(&mut self, bytes: *const u8, len: usize) {
        if !bytes.is_null() && len > 0 {
            // SAFETY: The caller guarantees it.
            self.entropy.extend_from_slice(unsafe { slice::from_raw_parts(bytes, len) });
        }
    }

    /// Sets what nonces are valid for: the bits of `enum MHD_DAuthBindNonce`.
    pub(crate) fn bind_to(&mut self, bits: c_uint) {
        self.binding.realm = bits & 1 != 0;
        self.binding.path = bits & 2 != 0;
        self.binding.query = bits & 4 != 0;
        self.binding.address = bits & 8 != 0;
    }

    /// Returns the nonces; `None` if the system has no random bytes.
    pub(crate) fn nonces(&self) -> Option<Arc<Nonces>> {
        let slots = self.slots.unwrap_or(Nonces::DEFAULT_SLOTS);
        let make = || Nonces::with_entropy(slots, &self.entropy).ok();
        self.nonces.get_or_init(|| make().map(|nonces| Arc::new(nonces.bound_to(self.binding)))).clone()
    }
}
