//! docs/NATIVE_PROTOCOL.md, held against the code: every example is a sample's bytes, every sample has its example.

use alloc::vec::Vec;

use cutwater_model::ErrorKind;

use super::samples::encoded;
use crate::frame::kind;

const DOCUMENT: &str = include_str!("../../../../docs/NATIVE_PROTOCOL.md");

/// The examples: what stands between a line "```example NAME" and the next "```".
///
/// A line is `place: hex bytes | what they are`; the place must be the number of bytes before it.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let mut examples = Vec::new();
    let mut open: Option<(&str, Vec<u8>)> = None;
    for line in DOCUMENT.lines() {
        if let Some((name, bytes)) = &mut open {
            if line == "```" {
                examples.extend(open.take());
                continue;
            }
            let (place, rest) = line.split_once(':').unwrap_or_else(|| panic!("{name}: no place in: {line}"));
            assert_eq!(place.trim().parse(), Ok(bytes.len()), "{name}: {line}");
            let hex = rest.split('|').next().unwrap_or_default();
            bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        } else if let Some(name) = line.strip_prefix("```example ") {
            open = Some((name, Vec::new()));
        }
    }
    assert!(open.is_none(), "the last example has an end");
    examples
}

#[test]
fn every_example_is_what_the_code_writes_and_nothing_lacks_one() {
    let examples = examples();
    let samples = encoded();
    for (name, bytes) in &samples {
        let (_, example) =
            examples.iter().find(|it| it.0 == *name).unwrap_or_else(|| panic!("{name} has no example"));
        assert_eq!(example, bytes, "{name}");
    }
    assert_eq!(examples.len(), samples.len(), "no example is without its sample");
}

#[test]
fn every_kind_is_in_the_table_of_kinds() {
    for kind in (kind::PING..=kind::ALLOCATE_PRODUCER_ID).chain([kind::PUSHED, kind::REFUSED]) {
        let row = alloc::format!("| {kind} |");
        assert!(DOCUMENT.lines().any(|line| line.starts_with(&row)), "kind {kind}");
    }
}

#[test]
fn every_error_is_in_the_table_of_codes() {
    for error in ErrorKind::ALL {
        let retriable = if error.is_retriable() { " yes " } else { "  " };
        let row = alloc::format!("| {} | {error:?} |{retriable}| {error} |", error.code());
        assert!(DOCUMENT.lines().any(|line| line == row), "no row: {row}");
    }
}
