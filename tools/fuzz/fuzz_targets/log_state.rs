//! Hands the target `log_state` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cutwater_fuzz_targets::run("log_state", bytes));
