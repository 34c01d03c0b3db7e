//! See `src/relay/nodes/fuzz.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::node(data));
