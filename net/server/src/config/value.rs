//! Values as people write them: sizes with units, lists of cores, addresses. Errors say what would do.

use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("use a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "use an address and a port, such as 127.0.0.1:7171 or [::1]:7171".to_owned())
}

pub(super) fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("use a number from {least} to {most}"))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}

/// A size: a number of bytes, or one with KiB, MiB, GiB or TiB behind it.
pub(super) fn bytes(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let number: Option<u64> = digits.trim().parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| (least..=most).contains(bytes))
        .ok_or_else(|| format!("use a size from {} to {}, such as 2GiB", size(least), size(most)))
}

fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// Cores: numbers and ranges, such as `1,2,4-7`.
pub(super) fn cores(text: &str) -> Result<Vec<usize>, String> {
    let expected = || "use numbers of cores, each once, such as 1,2 or 4-7".to_owned();
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| expected())?;
        let last: usize = last.parse().map_err(|_| expected())?;
        if first > last || last >= 4096 {
            return Err(expected());
        }
        cores.extend(first..=last);
    }
    let mut sorted = cores.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() == cores.len() { Ok(cores) } else { Err(expected()) }
}

/// A value of the file as the other sources would spell it.
pub(super) fn of_toml(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(of_toml).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(bytes("2GiB", 0, u64::MAX), Ok(2 << 30));
        assert_eq!(bytes("512 MiB", 0, u64::MAX), Ok(512 << 20));
        assert_eq!(bytes("4096", 0, u64::MAX), Ok(4096));
        for wrong in ["-1", "", "2GB", "1.5GiB", "99999999999TiB", "GiB"] {
            assert!(bytes(wrong, 0, u64::MAX).is_err(), "{wrong}");
        }
        assert_eq!(
            bytes("1KiB", 1 << 20, 1 << 30),
            Err("use a size from 1MiB to 1GiB, such as 2GiB".to_owned())
        );
    }

    #[test]
    fn cores_are_numbers_and_ranges_without_repetition() {
        assert_eq!(cores("1, 4-6"), Ok(vec![1, 4, 5, 6]));
        for wrong in ["", "a", "3-1", "1,1", "1-3,2", "99999"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
    }
}
