//! See `src/ws/fuzz.rs`.
#![no_main]
use std::time::{Instant, SystemTime};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let now = uncork::Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    uncork::__fuzzing::websocket(data, now);
});
