//! See `src/ws/fuzz.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::workbench::inflate(data));
