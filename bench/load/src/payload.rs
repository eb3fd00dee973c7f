//! What the generator sends, made so that whatever comes back can be checked.
//!
//! Each value begins with a stamp of 40 bytes, little-endian:
//! ```text
//!  0 u64 run            drawn anew for each run
//!  8 u32 connection     that sent it
//! 12 u32 partition      among all partitions of the run
//! 16 u64 sequence       of that connection in that partition, from 0, without gaps
//! 24 u64 intended send  ns on this machine's monotonic clock
//! 32 u64 digest         of the 32 bytes before
//! ```
//! The rest is filler: the same for all values of a run, or, in batches that are compressed before it, another for each,
//! so that they compress as real records would.

use cutwater_client::{CodecError, Compressor};
use cutwater_model::builder::{AppendError, BatchBuilder, Sequence};
use cutwater_model::checksum::{crc32c, digest64};
use cutwater_model::limits::BATCH_BYTES_MAX;
use cutwater_model::{Batch, Codec, TimestampMs};

/// The stamp's length; a value is no shorter.
pub const STAMP_BYTES: usize = 40;
const DIGESTED_BYTES: usize = 32;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
/// Producer id, producer epoch and base sequence of a batch.
const NUMBERS_AT: usize = 43;
/// Batches that are compressed before a run, so that not every one is the same.
const COMPRESSED_BATCHES: u64 = 16;
/// The connection in stamps of batches that are sent again and again.
pub const REPEATED: u32 = u32::MAX;

/// Who sent a value, when, and the how manieth it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of which run.
    pub run: u64,
    /// By which connection; [`REPEATED`] where the batch was made before the run.
    pub connection: u32,
    /// Into which partition.
    pub partition: u32,
    /// Counted from 0 for each connection and partition.
    pub sequence: u64,
    /// When it was to be sent, in ns.
    pub intended_ns: u64,
}

impl Stamp {
    /// Writes it over the beginning of a value.
    #[inline]
    pub fn write(&self, value: &mut [u8]) {
        let Some(stamp) = value.first_chunk_mut::<STAMP_BYTES>() else { return };
        stamp[0..8].copy_from_slice(&self.run.to_le_bytes());
        stamp[8..12].copy_from_slice(&self.connection.to_le_bytes());
        stamp[12..16].copy_from_slice(&self.partition.to_le_bytes());
        stamp[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        stamp[24..32].copy_from_slice(&self.intended_ns.to_le_bytes());
        let digest = digest64(0, &stamp[..DIGESTED_BYTES]);
        stamp[32..40].copy_from_slice(&digest.to_le_bytes());
    }

    /// Reads it; `None` where its digest doesn't fit.
    #[inline]
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        let stamp = value.first_chunk::<STAMP_BYTES>()?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&stamp[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let both = word(8);
        (digest64(0, &stamp[..DIGESTED_BYTES]) == word(32)).then_some(Self {
            run: word(0),
            connection: both as u32,
            partition: (both >> 32) as u32,
            sequence: word(16),
            intended_ns: word(24),
        })
    }
}

/// Batches to send: one that is stamped in place for each request, or some that were compressed before.
#[derive(Clone, Debug)]
pub struct Template {
    /// The whole batch.
    bytes: Vec<u8>,
    /// Where each value begins.
    values: Vec<usize>,
    /// Compressed batches to be sent as they are.
    compressed: Vec<Vec<u8>>,
    /// The filler of stamped values, or the fillers of compressed ones, one after the other.
    fillers: Vec<u8>,
    filler_bytes: usize,
}

/// Why no batch can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The value has no room for its stamp.
    #[error(
        "a record of {record_bytes} bytes has no room for its stamp; give --record-bytes {STAMP_BYTES} or more"
    )]
    TooSmall {
        /// The length asked for.
        record_bytes: u32,
    },
    /// The batch is larger than any topic takes.
    #[error("{0}; give fewer --records-per-batch or --record-bytes")]
    TooLarge(#[from] AppendError),
    /// The codec refuses.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Template {
    /// Batches of so many records, each with this key if any.
    ///
    /// # Errors
    /// If a value has no room for its stamp, or the batch is larger than any topic takes.
    pub fn new(
        run: u64,
        seed: u64,
        records: u32,
        record_bytes: u32,
        key: Option<&[u8]>,
        codec: Codec,
        now: TimestampMs,
    ) -> Result<Self, TemplateError> {
        if (record_bytes as usize) < STAMP_BYTES {
            return Err(TemplateError::TooSmall { record_bytes });
        }
        let mut value = vec![0; record_bytes as usize];
        let mut noise = Noise(seed | 1);
        noise.fill(&mut value[STAMP_BYTES..]);
        let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
        let mut template = Self {
            bytes: Vec::new(),
            values: Vec::new(),
            compressed: Vec::new(),
            fillers: Vec::new(),
            filler_bytes: value.len() - STAMP_BYTES,
        };
        for _ in 0..records.max(1) {
            builder.append(now, key, Some(&value), &[])?;
            // After the value comes only the count of headers, one byte.
            template.values.push(builder.len() - 1 - value.len());
        }
        template.bytes = builder.finish(Sequence::NONE).to_vec();
        match codec {
            Codec::None => template.fillers = value.split_off(STAMP_BYTES),
            _ => template.compress(run, &mut noise, value, key, codec, now)?,
        }
        Ok(template)
    }

    fn compress(
        &mut self,
        run: u64,
        noise: &mut Noise,
        mut value: Vec<u8>,
        key: Option<&[u8]>,
        codec: Codec,
        now: TimestampMs,
    ) -> Result<(), TemplateError> {
        let mut compressor = Compressor::new(codec);
        let records = self.values.len() as u64;
        for batch in 0..COMPRESSED_BATCHES {
            let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
            for record in 0..records {
                noise.fill(&mut value[STAMP_BYTES..]);
                self.fillers.extend_from_slice(&value[STAMP_BYTES..]);
                let sequence = batch * records + record;
                let stamp = Stamp { run, connection: REPEATED, partition: 0, sequence, intended_ns: 0 };
                stamp.write(&mut value);
                builder.append(now, key, Some(&value), &[])?;
            }
            let (mut section, mut bytes) = (Vec::new(), Vec::new());
            compressor.compress(builder.section(), &mut section)?;
            builder.finish_compressed(Sequence::NONE, codec, &section, &mut bytes);
            self.compressed.push(bytes);
        }
        Ok(())
    }

    /// The batch for the request of that number, and whether it is to be stamped.
    #[inline]
    #[must_use]
    pub fn batch(&self, number: u64) -> (&[u8], bool) {
        match self.compressed.len() as u64 {
            0 => (&self.bytes, true),
            count => (&self.compressed[(number % count) as usize], false),
        }
    }

    /// How many records a batch has.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.values.len() as u32
    }

    /// Stamps each value of a copy of the batch, numbers going up from `stamp.sequence`, and computes its CRC again.
    #[inline]
    pub fn stamp(&self, copy: &mut [u8], mut stamp: Stamp) {
        for &at in &self.values {
            if let Some(value) = copy.get_mut(at..) {
                stamp.write(value);
            }
            stamp.sequence += 1;
        }
        let crc = crc32c(&copy[CRC_FROM..]);
        copy[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    }

    /// Numbers a copy of the batch; [`Template::stamp`] follows, which computes its CRC.
    #[inline]
    pub fn number(copy: &mut [u8], sequence: Sequence) {
        let Some(numbers) = copy.get_mut(NUMBERS_AT..NUMBERS_AT + 14) else { return };
        numbers[0..8].copy_from_slice(&sequence.producer_id.0.to_be_bytes());
        numbers[8..10].copy_from_slice(&sequence.producer_epoch.0.to_be_bytes());
        numbers[10..14].copy_from_slice(&sequence.base_sequence.to_be_bytes());
    }

    /// Whether a value's filler is what was sent with this stamp.
    #[inline]
    #[must_use]
    pub fn has_filler(&self, value: &[u8], stamp: &Stamp) -> bool {
        let number = if stamp.connection == REPEATED { stamp.sequence as usize } else { 0 };
        let from = number.saturating_mul(self.filler_bytes);
        let expected = self.fillers.get(from..from.saturating_add(self.filler_bytes));
        expected.is_some_and(|expected| value.get(STAMP_BYTES..) == Some(expected))
    }
}

/// Half noise, half repetition: bytes that compress to roughly half, as text of logs does less and noise does more.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, filler: &mut [u8]) {
        for piece in filler.chunks_mut(16) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let mut half = *b"........abcdefgh";
            half[..8].copy_from_slice(&self.0.to_le_bytes());
            piece.copy_from_slice(&half[..piece.len()]);
        }
    }
}

/// Whether these bytes are one whole batch with a true CRC.
#[must_use]
pub fn is_sound(batch: &[u8]) -> bool {
    Batch::read(batch).is_ok_and(|batch| batch.check_crc().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 9, connection: 3, partition: 5, sequence: 70, intended_ns: 123_456 };

    #[test]
    fn a_stamp_is_read_back_and_any_changed_bit_of_it_is_seen() {
        let mut value = [7; 64];
        STAMP.write(&mut value);
        assert_eq!(Stamp::read(&value), Some(STAMP));
        for bit in 0..STAMP_BYTES * 8 {
            value[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&value), None, "bit {bit}");
            value[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Stamp::read(&value[..39]), None);
    }

    #[test]
    fn a_stamped_batch_is_sound_and_numbers_its_records() {
        for (records, record_bytes) in [(1, 100), (1000, 100), (70, 1000), (3, 40)] {
            let key = (records == 70).then_some(b"key".as_slice());
            let template =
                Template::new(9, 1, records, record_bytes, key, Codec::None, TimestampMs(5)).unwrap();
            let (bytes, is_stamped) = template.batch(17);
            assert!(is_stamped);
            let mut copy = bytes.to_vec();
            template.stamp(&mut copy, STAMP);
            assert!(is_sound(&copy));
            let batch = Batch::read(&copy).unwrap();
            let mut expected = STAMP;
            for record in batch.records() {
                let value = record.unwrap().value.unwrap();
                assert_eq!(Stamp::read(value), Some(expected));
                assert!(template.has_filler(value, &expected));
                expected.sequence += 1;
            }
            assert_eq!(expected.sequence, STAMP.sequence + u64::from(records));
        }
    }

    #[test]
    fn compressed_batches_are_sound_smaller_and_not_stamped() {
        let template = Template::new(9, 1, 100, 1000, None, Codec::Zstd, TimestampMs(5)).unwrap();
        let (bytes, is_stamped) = template.batch(3);
        assert!(!is_stamped && is_sound(bytes));
        assert!((30_000..80_000).contains(&bytes.len()), "{} bytes of 100,000", bytes.len());
        let mut decompressor = cutwater_client::Decompressor::new(1 << 20);
        let batch = Batch::read(bytes).unwrap();
        let section = decompressor.inflate(Codec::Zstd, batch.section()).unwrap();
        for record in cutwater_model::record::Records::decompressed(&batch.header, section) {
            let value = record.unwrap().value.unwrap();
            let stamp = Stamp::read(value).unwrap();
            assert!(template.has_filler(value, &stamp));
            assert!(!template.has_filler(value, &Stamp { sequence: stamp.sequence + 1, ..stamp }));
        }
        assert_ne!(template.batch(3).0, template.batch(4).0);
    }

    #[test]
    fn impossible_batches_are_refused() {
        let new = |records, bytes| Template::new(1, 1, records, bytes, None, Codec::None, TimestampMs(0));
        assert_eq!(new(1, 39).unwrap_err(), TemplateError::TooSmall { record_bytes: 39 });
        assert!(matches!(new(100_000, 1000).unwrap_err(), TemplateError::TooLarge(_)));
    }
}
