//! See `src/conn/listen.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| uncork::workbench::response(data));
