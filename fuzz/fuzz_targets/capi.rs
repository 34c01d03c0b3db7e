//! See `capi/tests/interface/calls.rs`.
#![no_main]
#[path = "../../capi/tests/interface/calls.rs"]
mod calls;
libfuzzer_sys::fuzz_target!(|data: &[u8]| calls::drive(data));
