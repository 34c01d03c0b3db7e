//! See `src/form/fuzz.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::form(data));
