//! Hands the target `journal_group` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cutwater_fuzz_targets::run("journal_group", bytes));
