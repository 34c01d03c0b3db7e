//! See `src/relay/tunnel/spdy/fuzz.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::spdy(data));
