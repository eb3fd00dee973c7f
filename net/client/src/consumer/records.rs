//! Batches as they are handed to the caller: borrowed, checked, inflated.

use cutwater_model::batch::{self, Header};
use cutwater_model::record::{Record, Records};
use cutwater_model::{Codec, Offset, PartitionId};

use super::error::ReadFault;
use crate::codec::Decompressor;

/// The records of one batch of one partition, from the position on. Iterate over it.
#[derive(Clone, Debug)]
pub struct BatchRecords<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// The header of the batch.
    pub header: Header,
    /// The offset below which records are committed, as told with this batch.
    pub high_watermark: Offset,
    from: Offset,
    records: Records<'a>,
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        // The records were walked before they were handed out, so there is no fault any more.
        let from = self.from;
        self.records.by_ref().map_while(Result::ok).find(|record| record.offset >= from)
    }
}

/// What is asked of batches, and the memory they are inflated into.
#[derive(Debug)]
pub(super) struct BatchReader {
    pub(super) decompressor: Decompressor,
    pub(super) checks_crc: bool,
    pub(super) wants_dense: bool,
}

impl BatchReader {
    /// Reads the batches of one partition that follow `position`, which moves on with each that was handed out.
    pub(super) fn read(
        &mut self,
        partition: PartitionId,
        batches: &[u8],
        high_watermark: Offset,
        position: &mut Offset,
        on_batch: &mut impl FnMut(BatchRecords<'_>),
    ) -> Result<(), ReadFault> {
        for found in batch::walk(batches) {
            let found = found.map_err(|walk| walk.error)?;
            if self.checks_crc {
                found.check_crc()?;
            }
            let header = found.header;
            let from = *position;
            let end = header.next_offset();
            if end <= from {
                return Err(ReadFault::WentBack { end });
            }
            if header.base_offset > from && self.wants_dense {
                return Err(ReadFault::Gap { found: header.base_offset });
            }
            let id = header.codec_id();
            let codec = Codec::from_id(id).ok_or(ReadFault::UnknownCodec { id })?;
            let section = self.decompressor.inflate(codec, found.section())?;
            let records = Records::decompressed(&header, section);
            // The node has walked what wasn't compressed; what was, nobody has yet.
            if codec != Codec::None {
                records.clone().try_for_each(|record| record.map(drop))?;
            }
            on_batch(BatchRecords { partition, header, high_watermark, from, records });
            *position = end;
        }
        Ok(())
    }
}
