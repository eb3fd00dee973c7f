//! Zigzag varints as records carry them (Protocol Buffers' `sint32` and `sint64`; KIP-98).
//!
//! Reading takes a slice and moves it on. A number that ends beyond its bits is refused, never cut.

use alloc::vec::Vec;

/// Why no number could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end inside the number.
    #[error("the bytes end inside a number")]
    Cut,
    /// The number has more bits than its type.
    #[error("a number has more bits than its type")]
    Overflow,
}

/// Reads a signed 32 bit number of 1 to 5 bytes.
///
/// # Errors
/// If the bytes end inside the number, or it doesn't fit 32 bits; `input` is then where it was.
#[inline]
pub fn read_i32(input: &mut &[u8]) -> Result<i32, VarintError> {
    let raw = match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            u32::from(first)
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *input = rest;
            u32::from(first & 0x7f) | u32::from(second) << 7
        }
        _ => {
            let raw = read_long(input, 5, 0x0f)?;
            raw as u32
        }
    };
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a signed 64 bit number of 1 to 10 bytes.
///
/// # Errors
/// If the bytes end inside the number, or it doesn't fit 64 bits; `input` is then where it was.
#[inline]
pub fn read_i64(input: &mut &[u8]) -> Result<i64, VarintError> {
    let raw = match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            u64::from(first)
        }
        _ => read_long(input, 10, 0x01)?,
    };
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Reads up to `bytes_max` bytes, of which the last possible one may hold no bit outside `last_mask`.
fn read_long(input: &mut &[u8], bytes_max: usize, last_mask: u8) -> Result<u64, VarintError> {
    let mut raw = 0;
    for (index, &byte) in input.iter().take(bytes_max).enumerate() {
        if index + 1 == bytes_max && byte & !last_mask != 0 {
            return Err(VarintError::Overflow);
        }
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(raw);
        }
    }
    Err(VarintError::Cut)
}

/// Appends a signed 32 bit number.
#[inline]
pub fn write_i32(into: &mut Vec<u8>, number: i32) {
    write_u64(into, u64::from(zigzag_i32(number)));
}

/// Appends a signed 64 bit number.
#[inline]
pub fn write_i64(into: &mut Vec<u8>, number: i64) {
    write_u64(into, zigzag_i64(number));
}

/// How many bytes [`write_i32`] appends.
#[inline]
#[must_use]
pub const fn length_i32(number: i32) -> usize {
    length_u64(zigzag_i32(number) as u64)
}

/// How many bytes [`write_i64`] appends.
#[inline]
#[must_use]
pub const fn length_i64(number: i64) -> usize {
    length_u64(zigzag_i64(number))
}

#[inline]
fn write_u64(into: &mut Vec<u8>, mut raw: u64) {
    while raw >= 0x80 {
        into.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    into.push(raw as u8);
}

const fn length_u64(raw: u64) -> usize {
    let bits = 64 - (raw | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

const fn zigzag_i32(number: i32) -> u32 {
    (number << 1) as u32 ^ (number >> 31) as u32
}

const fn zigzag_i64(number: i64) -> u64 {
    (number << 1) as u64 ^ (number >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_have_their_length() {
        let mut bytes = Vec::new();
        for bits in 0..64 {
            for near in [-1_i64, 0, 1] {
                for number in
                    [(1_i64 << bits).wrapping_add(near), (1_i64 << bits).wrapping_neg().wrapping_add(near)]
                {
                    bytes.clear();
                    write_i64(&mut bytes, number);
                    assert_eq!(bytes.len(), length_i64(number), "{number}");
                    let mut input = bytes.as_slice();
                    assert_eq!(read_i64(&mut input), Ok(number));
                    assert!(input.is_empty());

                    let number = number as i32;
                    bytes.clear();
                    write_i32(&mut bytes, number);
                    assert_eq!(bytes.len(), length_i32(number), "{number}");
                    let mut input = bytes.as_slice();
                    assert_eq!(read_i32(&mut input), Ok(number));
                    assert!(input.is_empty());
                }
            }
        }
    }

    #[test]
    fn known_bytes() {
        let mut bytes = Vec::new();
        for (number, expected) in
            [(0, &[0][..]), (-1, &[1]), (1, &[2]), (63, &[0x7e]), (-64, &[0x7f]), (64, &[0x80, 0x01])]
        {
            bytes.clear();
            write_i32(&mut bytes, number);
            assert_eq!(bytes, expected, "{number}");
        }
        assert_eq!(read_i32(&mut &[0xfe, 0xff, 0xff, 0xff, 0x0f][..]), Ok(i32::MAX));
        assert_eq!(read_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Ok(i32::MIN));
    }

    #[test]
    fn cut_and_overlong_numbers_are_refused() {
        for length in 0..5 {
            assert_eq!(read_i32(&mut &[0xff; 5][..length]), Err(VarintError::Cut));
        }
        assert_eq!(read_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), Err(VarintError::Overflow));
        assert_eq!(read_i32(&mut &[0xff; 11][..]), Err(VarintError::Overflow));
        assert_eq!(read_i64(&mut &[0xff; 11][..]), Err(VarintError::Overflow));
        let mut input = &[0x80, 0x80][..];
        assert_eq!(read_i64(&mut input), Err(VarintError::Cut));
        assert_eq!(input.len(), 2, "a refused number leaves the input alone");
    }
}
