//! Hands the target `native_session` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cutwater_fuzz_targets::run("native_session", bytes));
