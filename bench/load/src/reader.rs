//! Checks everything that is read: checksums, offsets, stamps, order, and that nothing comes twice or is left out.

use cutwater_client::Decompressor;
use cutwater_model::batch;
use cutwater_model::limits::INFLATED_BYTES_MAX;
use cutwater_model::record::Records;
use cutwater_model::{BatchError, Codec, Offset};

use crate::payload::{REPEATED, Stamp, Template};

/// What is wrong with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// A batch is damaged.
    #[error("a batch is damaged: {0}")]
    Batch(#[from] BatchError),
    /// An offset is missing, or came again.
    #[error("the batch at offset {} came where {} was to come", .found.0, .expected.0)]
    Offset {
        /// Where the batch begins.
        found: Offset,
        /// Where it should.
        expected: Offset,
    },
    /// A record's contents are not what was sent.
    #[error("the record at offset {} does not hold what was sent", .offset.0)]
    Content {
        /// Which.
        offset: Offset,
    },
    /// Records of one connection came out of order, twice, or not at all.
    #[error("offset {}: record {found} of connection {connection} came where {expected} was to come", .offset.0)]
    Order {
        /// Which record.
        offset: Offset,
        /// Who sent it.
        connection: u32,
        /// Its number.
        found: u64,
        /// The number that was to come.
        expected: u64,
    },
    /// The node refuses to read.
    #[error("the node refuses to read: code {code}")]
    Refused {
        /// The error's code.
        code: i16,
    },
}

/// What is known of one partition while it is read.
#[derive(Clone, Debug)]
pub struct PartitionCheck {
    /// The offset that comes next.
    pub next: Offset,
    /// The number that comes next of each connection.
    sequences: Vec<u64>,
}

impl PartitionCheck {
    /// Nothing read yet, from this offset on.
    #[must_use]
    pub fn new(next: Offset, connections: u32) -> Self {
        Self { next, sequences: vec![0; connections as usize] }
    }
}

/// Checks batches against the template they were made from.
#[derive(Debug)]
pub struct Checker {
    run: u64,
    template: Template,
    decompressor: Decompressor,
}

impl Checker {
    /// A checker for the records of this run.
    #[must_use]
    pub fn new(run: u64, template: Template) -> Self {
        Self { run, template, decompressor: Decompressor::new(INFLATED_BYTES_MAX) }
    }

    /// Checks batches that follow what was read of the partition of that number; tells the stamp of each record.
    /// Returns how many records there were.
    ///
    /// # Errors
    /// At the first thing that is wrong.
    pub fn check(
        &mut self,
        number: u32,
        partition: &mut PartitionCheck,
        batches: &[u8],
        mut on_record: impl FnMut(&Stamp),
    ) -> Result<u64, ReadFault> {
        let mut records = 0;
        for found in batch::walk(batches) {
            let found = found.map_err(|walk| walk.error)?;
            found.check_crc()?;
            let header = found.header;
            if header.base_offset != partition.next {
                return Err(ReadFault::Offset { found: header.base_offset, expected: partition.next });
            }
            let codec = Codec::from_id(header.codec_id()).unwrap_or_default();
            let content = |offset| ReadFault::Content { offset };
            let section =
                self.decompressor.inflate(codec, found.section()).map_err(|_| content(header.base_offset))?;
            for record in Records::decompressed(&header, section) {
                let offset = partition.next;
                let record = record.map_err(|_| content(offset))?;
                let value = record.value.unwrap_or_default();
                let stamp = Stamp::read(value).filter(|stamp| stamp.run == self.run);
                let stamp =
                    stamp.filter(|stamp| self.template.has_filler(value, stamp)).ok_or(content(offset))?;
                if stamp.connection != REPEATED {
                    check_order(number, &mut partition.sequences, &stamp, offset)?;
                }
                on_record(&stamp);
                records += 1;
                partition.next = offset.after(1);
            }
        }
        Ok(records)
    }
}

#[inline]
fn check_order(number: u32, sequences: &mut [u64], stamp: &Stamp, offset: Offset) -> Result<(), ReadFault> {
    let Some(expected) = sequences.get_mut(stamp.connection as usize).filter(|_| stamp.partition == number)
    else {
        return Err(ReadFault::Content { offset });
    };
    if stamp.sequence != *expected {
        let (connection, found, expected) = (stamp.connection, stamp.sequence, *expected);
        return Err(ReadFault::Order { offset, connection, found, expected });
    }
    *expected += 1;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cutwater_model::batch::stamp as stamp_offset;
    use cutwater_model::{LeaderEpoch, TimestampMs};

    use super::*;

    fn batch(template: &Template, offset: i64, connection: u32, sequence: u64) -> Vec<u8> {
        let mut bytes = template.batch(0).0.to_vec();
        template.stamp(&mut bytes, Stamp { run: 1, connection, partition: 0, sequence, intended_ns: 0 });
        stamp_offset(&mut bytes, Offset(offset), LeaderEpoch(0));
        bytes
    }

    fn check(batches: &[Vec<u8>]) -> Result<u64, ReadFault> {
        let template = template();
        let mut checker = Checker::new(1, template);
        checker.check(0, &mut PartitionCheck::new(Offset(0), 2), &batches.concat(), |_| {})
    }

    fn template() -> Template {
        Template::new(1, 1, 2, 100, None, Codec::None, TimestampMs(0)).unwrap()
    }

    #[test]
    fn records_in_order_pass_and_are_counted() {
        let t = template();
        assert_eq!(check(&[batch(&t, 0, 0, 0), batch(&t, 2, 1, 0), batch(&t, 4, 0, 2)]), Ok(6));
    }

    #[test]
    fn a_lost_a_doubled_a_swapped_and_a_changed_batch_are_found() {
        let t = template();
        let lost = check(&[batch(&t, 0, 0, 0), batch(&t, 2, 0, 4)]);
        assert!(matches!(lost, Err(ReadFault::Order { found: 4, expected: 2, .. })));
        let doubled = check(&[batch(&t, 0, 0, 0), batch(&t, 2, 0, 0)]);
        assert!(matches!(doubled, Err(ReadFault::Order { found: 0, expected: 2, .. })));
        assert!(matches!(check(&[batch(&t, 0, 0, 2)]), Err(ReadFault::Order { .. })));
        assert!(matches!(check(&[batch(&t, 3, 0, 0)]), Err(ReadFault::Offset { .. })));
        let mut changed = batch(&t, 0, 0, 0);
        changed[150] ^= 1;
        assert!(matches!(check(&[changed]), Err(ReadFault::Batch(_))));
        let foreign = Template::new(2, 7, 2, 100, None, Codec::None, TimestampMs(0)).unwrap();
        assert!(matches!(check(&[batch(&foreign, 0, 0, 0)]), Err(ReadFault::Content { .. })));
    }
}
