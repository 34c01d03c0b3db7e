//! See `src/relay/nodes/directory/fuzz.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::__fuzzing::engine(data, std::time::Instant::now()));
