//! See `src/auth/fuzz.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::auth(data, std::time::Instant::now()));
