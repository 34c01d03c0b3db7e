//! The reverse tunnel.

pub(crate) mod spdy;
