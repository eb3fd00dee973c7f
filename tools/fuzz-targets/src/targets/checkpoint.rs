//! The doubled checkpoint of a shard.

use cutwater_journal::{
    checkpoint::{self, CheckpointBody, CheckpointHead, OtherCopy},
    scan,
};
use cutwater_model::{FileName, Incarnation, checksum::digest64, limits::BLOCK_BYTES};

use super::{
    Target,
    journal::{FILE_BYTES, SHARD},
};
use crate::disk::MemoryDisk;

/// What reading takes whatever it meets: pieces of the body for each copy and each pass, and the window of a scan.
const READ_BYTES: usize = 24 << 20;

pub(super) const CHECKPOINT: Target = Target {
    name: "checkpoint",
    run: read,
    seeds: copies,
    bytes_per_byte: 64,
    bytes_free: READ_BYTES,
    cost: 2,
};

/// The input is two copies, the first as long as the first byte says in blocks.
fn read(bytes: &[u8]) {
    let Some((&first_blocks, copies)) = bytes.split_first() else { return };
    let first_bytes = (usize::from(first_blocks) * BLOCK_BYTES).min(copies.len());
    let (first, second) = copies.split_at(first_bytes);
    recover(first.to_vec(), second.to_vec());
    let mended = [first, second].map(|copy| {
        let mut copy = copy.to_vec();
        mend(&mut copy);
        copy
    });
    let [first, second] = mended;
    recover(first, second);
}

fn recover(first: Vec<u8>, second: Vec<u8>) {
    let mut disk = MemoryDisk::default();
    let journal = FileName::Journal { shard: SHARD, number: 0 };
    disk.files.insert(journal, vec![0; FILE_BYTES as usize]);
    for (copy, bytes) in [(0, first), (1, second)] {
        if !bytes.is_empty() {
            disk.files.insert(FileName::Checkpoint { shard: SHARD, copy }, bytes);
        }
    }
    let Ok(Some(found)) = checkpoint::read(&mut disk, SHARD) else { return };
    let mut body = CheckpointBody::new(&found);
    let mut record = Vec::new();
    let mut total = 0;
    while let Ok(true) = body.next_record(&mut disk, &mut record) {
        total += record.len() as u64 + 4;
    }
    assert!(total <= found.head.body_bytes, "records come from the body");

    if checkpoint::repair(&mut disk, &found).is_ok() {
        let again = checkpoint::read(&mut disk, SHARD);
        assert!(
            matches!(again, Ok(Some(again)) if again.other == OtherCopy::Same && again.head == found.head)
        );
    }
    let _scanned = scan(&mut disk, SHARD, found.head.from, found.head.journal_file_bytes, |_, _| {});
}

/// Makes the digests of body and head fit.
fn mend(copy: &mut [u8]) {
    if copy.len() < BLOCK_BYTES {
        return;
    }
    let (head, body) = copy.split_at_mut(BLOCK_BYTES);
    let body_bytes = u64::from_le_bytes(head[24..32].try_into().unwrap_or_default());
    if let Some(body) = usize::try_from(body_bytes).ok().and_then(|bytes| body.get(..bytes)) {
        head[32..40].copy_from_slice(&digest64(0, body).to_le_bytes());
    }
    head[40..48].fill(0);
    let digest = digest64(0, head);
    head[40..48].copy_from_slice(&digest.to_le_bytes());
}

fn copies() -> Vec<Vec<u8>> {
    [0, 3, 500].map(write_copies).to_vec()
}

fn write_copies(records: usize) -> Vec<u8> {
    let mut disk = MemoryDisk::default();
    let Ok(head) = checkpoint::create(&mut disk, SHARD, Incarnation(0xfeed), FILE_BYTES) else {
        panic!("an empty disk takes a checkpoint")
    };
    for copy in [0, 1] {
        let head = CheckpointHead { generation: 2 + u64::from(copy), ..head };
        let mut left = records;
        let written = checkpoint::write_copy(&mut disk, copy, head, |record| {
            record.extend(std::iter::repeat_n(left as u8, left % 90 + 1));
            left = left.wrapping_sub(1);
            left < records
        });
        assert!(written.is_ok(), "there is room for a checkpoint");
    }
    let mut bytes = Vec::new();
    for copy in [0, 1] {
        let file = disk.files.remove(&FileName::Checkpoint { shard: SHARD, copy }).unwrap_or_default();
        // What lies behind the body is room for later ones.
        let body_bytes =
            file.get(24..32).map_or(0, |it| u64::from_le_bytes(it.try_into().unwrap_or_default()));
        let used = BLOCK_BYTES + body_bytes as usize;
        if copy == 0 {
            bytes.push((used / BLOCK_BYTES) as u8);
        }
        bytes.extend_from_slice(&file[..used.min(file.len())]);
    }
    bytes
}
