//! The two checksums of the engine: CRC-32C where Kafka's format asks for it, a 64 bit digest where the format is ours.

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), as RecordBatch v2 carries it.
///
/// Folds with carry-less multiplications, four times as fast from 1 KiB on as the processor's CRC instruction.
#[cfg(not(target_os = "none"))]
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), as RecordBatch v2 carries it; without an operating system, bit by bit.
#[cfg(target_os = "none")]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_bitwise(bytes)
}

/// The definition itself, for where nobody can say which instructions the processor has. Slow.
#[cfg(any(test, target_os = "none"))]
fn crc32c_bitwise(bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REFLECTED: u32 = 0x82f6_3b78;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL_REFLECTED & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

/// XXH3-64 with a seed. It finds rot and torn writes; it keeps out a forger only as long as the seed is secret (J3).
#[inline]
#[must_use]
pub fn digest64(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_known_bytes() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn crc32c_agrees_with_another_implementation_at_every_length_and_alignment() {
        let seed = 0xc4c3;
        let mut random = crate::test_random::Random::new(seed);
        let noise: alloc::vec::Vec<u8> = (0..70_000).map(|_| random.next() as u8).collect();
        for length in (0..1100).chain([4095, 4096, 16_385, 65_536]) {
            for from in [0, 1, 7, 16, 21] {
                let bytes = &noise[from..from + length];
                let crc = crc32c(bytes);
                assert_eq!(crc, crc32c::crc32c(bytes), "seed {seed:#x}, {length} bytes from {from}");
                if length < 4096 {
                    assert_eq!(crc, crc32c_bitwise(bytes), "seed {seed:#x}, {length} bytes from {from}");
                }
            }
        }
    }

    #[test]
    fn a_digest_depends_on_its_seed_and_on_every_byte() {
        assert_eq!(digest64(0, b""), 0x2d06_8005_38d3_94c2);
        let mut bytes = [7; 300];
        let before = digest64(1, &bytes);
        assert_ne!(before, digest64(2, &bytes));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_ne!(before, digest64(1, &bytes), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
