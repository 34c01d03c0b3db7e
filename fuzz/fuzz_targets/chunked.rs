//! See `src/h1/chunked.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::workbench::chunked(data));
