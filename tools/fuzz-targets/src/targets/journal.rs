//! A shard's journal, as a crash, rot or an older life may have left it.

use cutwater_journal::{
    EntryHead, EntryKind, GROUP_BUFFER_BYTES, GroupBuilder, Journal, ReplayPlace,
    group::{GROUP_HEADER_BYTES, GroupHeader},
    scan,
};
use cutwater_model::{FileName, Incarnation, Offset, ShardId, checksum::digest64, limits::BLOCK_BYTES};

use super::Target;
use crate::disk::MemoryDisk;

pub(super) const SHARD: ShardId = ShardId(3);
const ORIGIN: Incarnation = Incarnation(0xfeed_0000_0000_0000_0000_0000_0000_beef);
pub(super) const FILE_BYTES: u64 = 32 * 1024;
const FILES: u32 = 4;
/// What a scan takes whatever it meets: its window.
const SCAN_BYTES: usize = 8 << 20;

pub(super) const GROUP: Target =
    Target { name: "journal_group", run: group, seeds: journals, bytes_per_byte: 2, bytes_free: 0, cost: 1 };

pub(super) const SCAN: Target = Target {
    name: "journal_scan",
    run: scan_files,
    seeds: journals,
    bytes_per_byte: 64,
    bytes_free: 2 * SCAN_BYTES,
    cost: 1,
};

/// The input is one group, or what pretends to be one.
fn group(bytes: &[u8]) {
    let Ok(header) = GroupHeader::decode(bytes) else { return };
    let mut bytes = bytes.to_vec();
    let _fits = header.digest_fits(&mut bytes);
    let mut entries = header.entries(&bytes);
    let mut payload_bytes = 0;
    for entry in entries.by_ref() {
        payload_bytes += entry.payload.len();
    }
    assert!(payload_bytes <= bytes.len().saturating_sub(GROUP_HEADER_BYTES));
    let _next = header.next_place();
}

/// The input is the files of a journal, one after the other. They are scanned as they are, and once more with every
/// digest and every link of the chain made to fit.
fn scan_files(bytes: &[u8]) {
    replay(&disk_of(bytes));
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    replay(&disk_of(&mended));
}

fn disk_of(bytes: &[u8]) -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    for (number, chunk) in (0..FILES).zip(bytes.chunks(FILE_BYTES as usize)) {
        let mut file = chunk.to_vec();
        file.resize(FILE_BYTES as usize, 0);
        disk.files.insert(FileName::Journal { shard: SHARD, number }, file);
    }
    disk
}

fn replay(disk: &MemoryDisk) {
    let mut scanned_disk = disk.clone();
    let mut bytes = 0;
    let scanned = scan(&mut scanned_disk, SHARD, ReplayPlace::first(ORIGIN), FILE_BYTES, |info, entry| {
        assert!(entry.payload.len() < info.header.bytes as usize);
        bytes += entry.payload.len() as u64;
    });
    assert_eq!(scanned_disk.files, disk.files, "a scan changes nothing");
    let Ok(scanned) = scanned else { return };
    assert!(bytes <= scanned.bytes && scanned.bytes <= FILE_BYTES * u64::from(FILES));
    // A new life must be able to begin where the scan ended, or say that it has no room.
    let mut journal = scanned.journal(Incarnation(0x1234));
    let mut block = vec![0; BLOCK_BYTES];
    if let Ok(write) = journal.start(&mut block) {
        assert!(write.place.at + u64::from(write.bytes) <= FILE_BYTES);
        assert_eq!(write.sequence, scanned.end.sequence());
    }
}

/// Follows the groups from the first file's beginning and makes each name the one before it and carry its own digest.
fn mend(bytes: &mut [u8]) {
    let (mut at, mut previous_digest) = (0, 0);
    // Each group has a block at least, so there are no more groups than blocks.
    for _ in 0..bytes.len() / BLOCK_BYTES {
        let Some(rest) = bytes.get_mut(at..) else { return };
        let Ok(header) = GroupHeader::decode(rest) else { return };
        let Some(group) = rest.get_mut(..header.bytes as usize) else { return };
        group[40..48].copy_from_slice(&u64::to_le_bytes(previous_digest));
        group[48..56].fill(0);
        let incarnation = header.life.incarnation.0;
        let seed = (incarnation as u64) ^ ((incarnation >> 64) as u64).rotate_left(32);
        previous_digest = digest64(seed, group);
        group[48..56].copy_from_slice(&previous_digest.to_le_bytes());
        at = match header.next_file {
            Some(file) => (file as usize).saturating_mul(FILE_BYTES as usize),
            None => at + header.bytes as usize,
        };
    }
}

/// Journals of one life and of several.
fn journals() -> Vec<Vec<u8>> {
    let mut journals = [(1, 2), (1, 12), (3, 4)].map(|(lives, groups)| write_journal(lives, groups)).to_vec();
    // A group whose place was read as the last byte there is: where it ends was computed beyond 64 bits once.
    let mut far = journals[0].clone();
    far[96..104].fill(0xff);
    journals.push(far);
    journals
}

fn write_journal(lives: u32, groups: u32) -> Vec<u8> {
    let mut disk = MemoryDisk::default();
    for number in 0..FILES {
        disk.files.insert(FileName::Journal { shard: SHARD, number }, vec![0; FILE_BYTES as usize]);
    }
    let mut buffer = vec![0; GROUP_BUFFER_BYTES];
    for life in 0..lives {
        let scanned = scan(&mut disk, SHARD, ReplayPlace::first(ORIGIN), FILE_BYTES, |_, _| {});
        let Ok(scanned) = scanned else { panic!("the journal just written is whole") };
        let mut journal = scanned.journal(Incarnation(u128::from(life) + 1));
        let Ok(start) = journal.start(&mut buffer) else { panic!("there is room for the start group") };
        let mut writes = vec![(start, buffer.clone())];
        for number in 0..groups {
            fill_and_submit(&mut journal, &mut buffer, number, &mut writes);
        }
        for (write, bytes) in writes {
            let name = FileName::Journal { shard: SHARD, number: write.place.file };
            let file = disk.files.entry(name).or_default();
            let group = &bytes[write.from as usize..][..write.bytes as usize];
            file[write.place.at as usize..][..group.len()].copy_from_slice(group);
        }
    }
    disk.files.into_values().collect::<Vec<_>>().concat()
}

fn fill_and_submit(
    journal: &mut Journal,
    buffer: &mut [u8],
    number: u32,
    writes: &mut Vec<(cutwater_journal::JournalWrite, Vec<u8>)>,
) {
    const KINDS: [EntryKind; 4] =
        [EntryKind::Data, EntryKind::BulkRef, EntryKind::LogStart, EntryKind::Adopt];
    let mut group = GroupBuilder::default();
    group.begin(buffer);
    for at in 0..=number % 4 {
        let head = EntryHead {
            kind: KINDS[at as usize],
            base_offset: Offset(i64::from(number)),
            last_offset: Offset(i64::from(number)),
            ..EntryHead::default()
        };
        let payload = vec![number as u8; 37 * (number + at) as usize];
        assert!(group.push(buffer, &head, &[&payload]).is_some(), "a small entry fits");
    }
    if let Ok(submission) = journal.submit(&mut group, buffer) {
        for write in submission.skip.into_iter().chain([submission.group]) {
            writes.push((write, buffer.to_vec()));
            journal.complete(write.sequence);
        }
    }
}
