//! See `src/h1/head.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::head(data));
