//! Masking keys: unpredictable (RFC 6455 §10.3), and not a system call each.

use std::cell::RefCell;

struct Keys {
    bytes: [u8; 256],
    used: usize,
}

thread_local! {
    static KEYS: RefCell<Keys> = const { RefCell::new(Keys { bytes: [0; 256], used: 256 }) };
}

/// Returns a new random key.
pub(crate) fn next() -> Result<[u8; 4], getrandom::Error> {
    KEYS.with_borrow_mut(|keys| {
        if keys.used >= keys.bytes.len() {
            getrandom::fill(&mut keys.bytes)?;
            keys.used = 0;
        }
        let mut key = [0; 4];
        key.copy_from_slice(&keys.bytes[keys.used..keys.used + 4]);
        keys.used += 4;
        Ok(key)
    })
}
