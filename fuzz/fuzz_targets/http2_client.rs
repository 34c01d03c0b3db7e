//! See `src/h2/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::http2_client(data));
