//! Compresses and inflates the records of a batch, in the framings that Kafka's clients use.
//!
//! gzip is RFC 1952, snappy the framing of snappy-java (bare blocks are read too), lz4 the LZ4 frame format, zstd
//! RFC 8878. Inflating stops at a bound, however much the bytes promise.

use std::io::{Read, Write};

use cutwater_model::Codec;

/// snappy-java's framing: this, version 1, compatible with 1, then blocks with a big-endian length each.
const SNAPPY_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
/// Kafka's default levels.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// Why a batch was not compressed or inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what the codec writes.
    #[error("the records are no valid {codec:?} data")]
    Damaged {
        /// The codec that the batch names.
        codec: Codec,
    },
    /// They inflate to more than the bound.
    #[error("the records inflate to more than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The library refused; memory is short.
    #[error("{codec:?} could not compress the records")]
    Compress {
        /// The codec.
        codec: Codec,
    },
}

/// Compresses one batch after the other, keeping its memory.
pub struct Compressor {
    codec: Codec,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    snappy: snap::raw::Encoder,
}

impl Compressor {
    /// A compressor for this codec.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let zstd = (codec == Codec::Zstd).then(|| zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()).flatten();
        Self { codec, zstd, snappy: snap::raw::Encoder::new() }
    }

    /// Replaces the contents of `into` by the compressed section.
    ///
    /// # Errors
    /// Only when memory is short.
    pub fn compress(&mut self, section: &[u8], into: &mut Vec<u8>) -> Result<(), CodecError> {
        let failed = CodecError::Compress { codec: self.codec };
        into.clear();
        match self.codec {
            Codec::None => into.extend_from_slice(section),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(into, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(section).map_err(|_| failed)?;
                encoder.finish().map_err(|_| failed)?;
            }
            Codec::Snappy => self.compress_snappy(section, into).map_err(|_| failed)?,
            Codec::Lz4 => {
                let frame = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, into);
                encoder.write_all(section).map_err(|_| failed)?;
                encoder.finish().map_err(|_| failed)?;
            }
            Codec::Zstd => {
                into.reserve(zstd::zstd_safe::compress_bound(section.len()));
                let compressor = self.zstd.as_mut().ok_or(failed)?;
                compressor.compress_to_buffer(section, into).map_err(|_| failed)?;
            }
        }
        Ok(())
    }

    fn compress_snappy(&mut self, section: &[u8], into: &mut Vec<u8>) -> Result<(), snap::Error> {
        into.extend_from_slice(&SNAPPY_HEADER);
        for block in section.chunks(SNAPPY_BLOCK_BYTES) {
            let from = into.len() + 4;
            into.resize(from + snap::raw::max_compress_len(block.len()), 0);
            let bytes = self.snappy.compress(block, &mut into[from..])?;
            into.truncate(from + bytes);
            into[from - 4..from].copy_from_slice(&(bytes as u32).to_be_bytes());
        }
        Ok(())
    }
}

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compressor").field("codec", &self.codec).finish_non_exhaustive()
    }
}

/// Inflates one batch after the other into memory that is used again.
#[derive(Debug)]
pub struct Decompressor {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Decompressor {
    /// Inflates to at most `bytes_max` bytes a batch.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// The records of a section; the section itself where it isn't compressed.
    ///
    /// # Errors
    /// If the bytes are damaged or inflate beyond the bound.
    pub fn inflate<'a>(&'a mut self, codec: Codec, section: &'a [u8]) -> Result<&'a [u8], CodecError> {
        let damaged = CodecError::Damaged { codec };
        self.bytes.clear();
        match codec {
            Codec::None => return Ok(section),
            // Several members may follow each other.
            Codec::Gzip => self.read_all(codec, flate2::read::MultiGzDecoder::new(section))?,
            Codec::Snappy => self.inflate_snappy(section)?,
            Codec::Lz4 => self.read_all(codec, lz4_flex::frame::FrameDecoder::new(section))?,
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(section).map_err(|_| damaged)?;
                self.read_all(codec, decoder)?;
            }
        }
        Ok(&self.bytes)
    }

    fn read_all(&mut self, codec: Codec, from: impl Read) -> Result<(), CodecError> {
        let bytes_max = self.bytes_max;
        // One byte more than allowed, to tell a full measure from too much.
        from.take(bytes_max as u64 + 1)
            .read_to_end(&mut self.bytes)
            .map_err(|_| CodecError::Damaged { codec })?;
        if self.bytes.len() > bytes_max { Err(CodecError::TooLarge { bytes_max }) } else { Ok(()) }
    }

    fn inflate_snappy(&mut self, section: &[u8]) -> Result<(), CodecError> {
        let damaged = CodecError::Damaged { codec: Codec::Snappy };
        // Only the magic counts; the versions after it were never anything else.
        if !section.starts_with(&SNAPPY_HEADER[..8]) {
            return self.inflate_snappy_block(section);
        }
        let mut rest = section.get(SNAPPY_HEADER.len()..).ok_or(damaged)?;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (block, after) = after.split_at_checked(length).ok_or(damaged)?;
            self.inflate_snappy_block(block)?;
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(damaged) }
    }

    fn inflate_snappy_block(&mut self, block: &[u8]) -> Result<(), CodecError> {
        let damaged = CodecError::Damaged { codec: Codec::Snappy };
        let length = snap::raw::decompress_len(block).map_err(|_| damaged)?;
        let from = self.bytes.len();
        let bytes_max = self.bytes_max;
        let end = from.checked_add(length).filter(|&end| end <= bytes_max);
        // A snappy block at its best makes 64 bytes of 3: a length beyond that is a lie, found before memory is taken.
        if length > block.len().saturating_mul(64) {
            return Err(damaged);
        }
        self.bytes.resize(end.ok_or(CodecError::TooLarge { bytes_max })?, 0);
        let mut decoder = snap::raw::Decoder::new();
        let inflated = decoder.decompress(block, &mut self.bytes[from..]).map_err(|_| damaged)?;
        if inflated == length { Ok(()) } else { Err(damaged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn sample(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at / 7 % 64) as u8 ^ (at % 11) as u8).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in CODECS {
            let mut compressor = Compressor::new(codec);
            let mut decompressor = Decompressor::new(1 << 20);
            let mut compressed = Vec::new();
            for bytes in [0, 1, 100, 32 * 1024, 32 * 1024 + 1, 300_000] {
                let section = sample(bytes);
                compressor.compress(&section, &mut compressed).unwrap();
                assert_eq!(decompressor.inflate(codec, &compressed).unwrap(), section, "{codec:?} {bytes}");
                assert!(bytes < 1000 || codec == Codec::None || compressed.len() < bytes, "{codec:?}");
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        for codec in CODECS.into_iter().skip(1) {
            let mut compressed = Vec::new();
            Compressor::new(codec).compress(&vec![0; 4 << 20], &mut compressed).unwrap();
            let mut decompressor = Decompressor::new(1 << 20);
            let error = decompressor.inflate(codec, &compressed).unwrap_err();
            assert_eq!(error, CodecError::TooLarge { bytes_max: 1 << 20 }, "{codec:?}");
            assert!(decompressor.bytes.capacity() <= 4 << 20);
        }
    }

    #[test]
    fn cut_or_changed_bytes_are_an_error_or_other_bytes_but_never_a_panic() {
        for codec in CODECS.into_iter().skip(1) {
            let section = sample(5000);
            let mut compressed = Vec::new();
            Compressor::new(codec).compress(&section, &mut compressed).unwrap();
            let mut decompressor = Decompressor::new(1 << 20);
            for at in 0..compressed.len() {
                let _ = decompressor.inflate(codec, &compressed[..at]);
                compressed[at] ^= 0x55;
                let _ = decompressor.inflate(codec, &compressed);
                compressed[at] ^= 0x55;
            }
        }
    }

    #[test]
    fn lies_about_lengths_and_frames_are_refused_before_memory_is_taken() {
        let section = sample(5000);
        let compressed = |codec| {
            let mut compressed = Vec::new();
            Compressor::new(codec).compress(&section, &mut compressed).unwrap();
            compressed
        };
        let refused = |codec, bytes: &[u8], what: &str| {
            let mut decompressor = Decompressor::new(64 << 20);
            let error = decompressor.inflate(codec, bytes).unwrap_err();
            assert_eq!(error, CodecError::Damaged { codec }, "{what}");
            assert!(decompressor.bytes.capacity() < 1 << 20, "{what}: {}", decompressor.bytes.capacity());
        };
        // 2 GiB - 1, as a varint of five bytes (CVE-2023-34455).
        let lie = [0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
        refused(Codec::Snappy, &lie, "B57: a block that claims 2 GiB");
        let framed = [&SNAPPY_HEADER[..], &7_u32.to_be_bytes(), &lie].concat();
        refused(Codec::Snappy, &framed, "B57: the same in Kafka's frame");
        let longer = [&SNAPPY_HEADER[..], &i32::MAX.to_be_bytes(), &lie].concat();
        refused(Codec::Snappy, &longer, "B57: a block longer than the section");

        let gzip = compressed(Codec::Gzip);
        refused(Codec::Gzip, &gzip[..gzip.len() - 1], "B58: cut");
        refused(Codec::Gzip, &[&gzip[..], b"behind"].concat(), "B58: bytes behind the last member");
        let two = [&gzip[..], &gzip].concat();
        assert_eq!(Decompressor::new(1 << 20).inflate(Codec::Gzip, &two).unwrap().len(), 2 * section.len());

        // The checksum of an LZ4 frame's descriptor follows magic, flags and block size, and the content's length if given.
        let mut lz4 = compressed(Codec::Lz4);
        let checksum_at = if lz4[4] & 0x08 == 0 { 6 } else { 14 };
        lz4[checksum_at] ^= 1;
        refused(Codec::Lz4, &lz4, "B59: a wrong checksum of the frame's descriptor");
    }

    #[test]
    fn bare_snappy_blocks_are_read_as_librdkafka_writes_them() {
        let section = sample(5000);
        let block = snap::raw::Encoder::new().compress_vec(&section).unwrap();
        assert_eq!(Decompressor::new(1 << 20).inflate(Codec::Snappy, &block).unwrap(), section);
    }
}
