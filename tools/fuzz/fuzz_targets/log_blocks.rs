//! Hands the target `log_blocks` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cutwater_fuzz_targets::run("log_blocks", bytes));
