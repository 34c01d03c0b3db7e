//! See `src/h1/framing.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::workbench::framing(data));
