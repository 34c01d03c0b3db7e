//! See `src/relay/tunnel/http1_fuzz/mod.rs`.
#![no_main]
use std::time::{Instant, SystemTime};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let now = uncork::Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    uncork::__fuzzing::tunnel_http1(data, now);
});
