//! Durations and sizes as people write them.

use core::time::Duration;

/// Reads `10s`, `250ms`, `50us`, `2m`, `1h`, or a bare number of seconds.
///
/// # Errors
/// When it is none of these, in words for the command line.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no time; write 10s, 250ms or 2m"))?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1e3,
        "us" => number / 1e6,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time; use us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{text}`: {error}"))
}

/// Reads `65536`, `64KiB`, `1MiB`, `2GiB`, or `kB`, `MB`, `GB` as powers of 1000.
///
/// # Errors
/// When it is none of these, in words for the command line.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is no size; write 65536, 64KiB or 1MB"))?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{unit}` is no unit of size; use KiB, MiB, GiB, kB, MB or GB")),
    };
    let bytes = number * factor;
    if (0.0..=1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(format!("`{text}` is out of bounds")) }
}

/// The same for sizes that fit 32 bits.
///
/// # Errors
/// When it is no size, or a larger one.
pub fn bytes_u32(text: &str) -> Result<u32, String> {
    u32::try_from(bytes(text)?).map_err(|_| format!("`{text}` is more than 4 GiB"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim(), text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_or_refused_with_a_hint() {
        assert_eq!(duration("10").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert!(duration("-1s").is_err() && duration("s").is_err() && duration("1 year").is_err());
        assert_eq!(bytes("64KiB").unwrap(), 65536);
        assert_eq!(bytes("1 MB").unwrap(), 1_000_000);
        assert!(bytes("-1").is_err() && bytes("12 apples").is_err() && bytes_u32("8GiB").is_err());
    }
}
