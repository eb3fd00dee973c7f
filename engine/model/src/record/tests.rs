use alloc::vec::Vec;

use super::*;
use crate::{
    batch::Batch,
    builder::{BatchBuilder, Sequence},
};

#[test]
fn what_was_built_is_read() {
    let mut builder = BatchBuilder::new(4096);
    let headers =
        [RecordHeader { key: b"a", value: None }, RecordHeader { key: b"", value: Some(b"long value") }];
    builder.append(TimestampMs(1000), Some(b"key"), Some(&[5; 300]), &headers).unwrap();
    builder.append(TimestampMs(7), None, None, &[]).unwrap();
    let bytes = builder.finish(Sequence::NONE);
    let batch = Batch::read(bytes).unwrap();

    let records: Vec<_> = iter(&batch.header, bytes).map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].offset, records[0].timestamp), (Offset(0), TimestampMs(1000)));
    assert_eq!((records[0].key, records[0].value), (Some(&b"key"[..]), Some(&[5; 300][..])));
    assert_eq!(records[0].headers.collect::<Vec<_>>(), headers);
    assert_eq!((records[1].offset, records[1].timestamp), (Offset(1), TimestampMs(7)));
    assert_eq!((records[1].key, records[1].value), (None, None));
    assert!(records[1].headers.is_empty());
}

#[test]
fn a_section_with_too_few_or_too_many_records_says_so() {
    let mut builder = BatchBuilder::new(4096);
    builder.append(TimestampMs(0), None, None, &[]).unwrap();
    builder.append(TimestampMs(0), None, None, &[]).unwrap();
    let header = Batch::read(builder.finish(Sequence::NONE)).unwrap().header;
    let section = builder.section();
    let one = &section[..section.len() / 2];
    let read: Vec<_> = Records::decompressed(&header, one).collect();
    assert!(matches!(read[..], [Ok(_), Err(RecordFault::Missing)]));
    let surplus = [section, one].concat();
    let read: Vec<_> = Records::decompressed(&header, &surplus).collect();
    assert!(matches!(read[..], [Ok(_), Ok(_), Err(RecordFault::Surplus)]));
}
