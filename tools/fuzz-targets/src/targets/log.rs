//! A partition's own blocks, its state in the checkpoint, and the journal entries replayed on top of it.

use std::cell::RefCell;

use cutwater_log::{
    BulkRef, Pages, Partition, ReplayEntry, Replayed, Run, SegmentIdentity, SpacePlan,
    format::{Footer, read_header, read_index_block},
};
use cutwater_model::{
    FileName, LeaderEpoch, Offset, PartitionId, PartitionIndex, ShardId, Slab, TimestampMs, TopicId,
    checksum::digest64,
    limits::{BLOCK_BYTES, SEGMENT_BYTES_LEAST},
};

use super::{Target, batch::batches};

const SLAB_BYTES: usize = 4 << 20;
const IDENTITY: SegmentIdentity = SegmentIdentity {
    partition: PartitionId { topic: TopicId(0xfeed), index: PartitionIndex(3) },
    base: Offset(0),
    generation: 0,
};

pub(super) const BLOCKS: Target = Target {
    name: "log_blocks",
    run: blocks,
    seeds: written_blocks,
    bytes_per_byte: 4,
    bytes_free: 0,
    cost: 1,
};

pub(super) const STATE: Target = Target {
    name: "log_state",
    run: state,
    seeds: states,
    bytes_per_byte: 4096,
    bytes_free: 8 << 20,
    cost: 1,
};

/// The input is one block of a segment or of an index.
fn blocks(bytes: &[u8]) {
    check_block(bytes);
    let Some(block) = bytes.get(..BLOCK_BYTES) else { return };
    let mut mended = block.to_vec();
    let (body, digest) = mended.split_at_mut(BLOCK_BYTES - 8);
    let magic = u64::from_le_bytes(body[..8].try_into().unwrap_or_default());
    digest.copy_from_slice(&digest64(magic, body).to_le_bytes());
    check_block(&mended);
}

fn check_block(block: &[u8]) {
    if let Ok(identity) = read_header(block) {
        let mut again = vec![0; BLOCK_BYTES];
        identity.write_header(&mut again);
        assert_eq!(read_header(&again), Ok(identity));
    }
    if let Ok(footer) = Footer::read(block) {
        let mut again = vec![0; BLOCK_BYTES];
        footer.write(&mut again);
        assert_eq!(Footer::read(&again), Ok(footer));
    }
    let _entries = read_index_block(&IDENTITY, block);
}

/// The input is a state after its length as `u32`, then journal entries: kind, place, arrival, length, bytes.
fn state(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let state_bytes = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (state, mut entries) = rest.split_at(state_bytes);
    with_memory(|slab, pages| {
        let Ok(mut partition) = Partition::restore(slab, pages, state, SEGMENT_BYTES_LEAST) else { return };
        while let Some(entry) = read_entry(&mut entries) {
            let mut replayed = partition.replay(slab, pages, entry);
            if replayed == Ok(Replayed::Drain) {
                carry_out(&mut partition, slab, pages);
                replayed = partition.replay(slab, pages, entry);
            }
            if replayed.is_err() {
                break;
            }
        }
        partition.end_replay(LeaderEpoch(9));
        append(&mut partition, slab, pages, &batches()[0]);
        carry_out(&mut partition, slab, pages);
        let mut again = Vec::new();
        partition.snapshot(slab, &mut again);
        let (end, id) = (partition.next_offset(), partition.id());
        let mut other_pages = Pages::new(SLAB_BYTES as u32, 0);
        match Partition::restore(slab, &mut other_pages, &again, SEGMENT_BYTES_LEAST) {
            Ok(restored) => assert!(restored.id() == id && restored.next_offset() <= end),
            Err(error) => panic!("a state that was written can't be read: {error}"),
        }
    });
}

fn read_entry<'a>(input: &mut &'a [u8]) -> Option<ReplayEntry<'a>> {
    let (head, rest) = input.split_first_chunk::<24>()?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let len = (number(0) >> 8) as usize & 0xffff;
    let (payload, rest) = rest.split_at(len.min(rest.len()));
    *input = rest;
    let segment = Offset(number(8) as i64);
    Some(match head[0] % 4 {
        0 => ReplayEntry::Data {
            segment,
            position: (number(0) >> 32) as u32,
            arrival: TimestampMs(number(16) as i64),
            batches: payload,
        },
        1 => ReplayEntry::BulkRef { payload, run: Run::Whole },
        3 => ReplayEntry::BulkRef { payload, run: Run::Read(&input[..input.len().min(2 * BLOCK_BYTES)]) },
        _ => ReplayEntry::LogStart { offset: segment },
    })
}

/// Lends memory that is kept from input to input; a slab can't be given back.
fn with_memory(run: impl FnOnce(&mut Slab, &mut Pages)) {
    thread_local! {
        static SLAB: RefCell<Slab> = RefCell::new({
            let memory = vec![0_u8; SLAB_BYTES + BLOCK_BYTES].leak();
            let skip = memory.as_ptr().align_offset(BLOCK_BYTES);
            Slab::new(&mut memory[skip..skip + SLAB_BYTES])
        });
    }
    SLAB.with_borrow_mut(|slab| run(slab, &mut Pages::new(SLAB_BYTES as u32, 256 * 1024)));
}

/// Does all that the partition asks of a disk that never fails.
fn carry_out(partition: &mut Partition, slab: &mut Slab, pages: &mut Pages) {
    for _ in 0..10_000 {
        let mut was_idle = true;
        match partition.needs_space() {
            Some(SpacePlan::Extend { base, to, .. }) => partition.grown(base, to),
            Some(SpacePlan::Spare { bytes }) => {
                partition.spare(FileName::Pooled { shard: ShardId(0), number: 0 }, bytes);
            }
            None => {}
        }
        while let Some(plan) = partition.next_opening(slab, pages) {
            partition.opened(pages, &plan);
            was_idle = false;
        }
        while let Some(plan) = partition.next_index_file() {
            partition.index_created(plan.base);
            was_idle = false;
        }
        while let Some(plan) = partition.next_write(slab, pages, 64 * 1024) {
            partition.written(pages, &plan);
            was_idle = false;
        }
        while let Some(plan) = partition.next_flush() {
            partition.flushed(&plan);
            was_idle = false;
        }
        if was_idle {
            partition.evict(slab, pages, 0);
            return;
        }
    }
    panic!("the partition asks for more and more");
}

fn append(partition: &mut Partition, slab: &mut Slab, pages: &mut Pages, batch: &[u8]) {
    for _ in 0..2 {
        if partition.append(slab, pages, batch, TimestampMs(5)).is_ok() {
            partition.set_durable(partition.end(), 1);
            return;
        }
        carry_out(partition, slab, pages);
    }
}

fn written_blocks() -> Vec<Vec<u8>> {
    let mut header = vec![0; BLOCK_BYTES];
    IDENTITY.write_header(&mut header);
    let footer = Footer {
        identity: IDENTITY,
        next_offset: Offset(1000),
        end: 70_001,
        index_entries: 2,
        first_arrival: TimestampMs(5),
        last_arrival: TimestampMs(9),
        max_timestamp: TimestampMs(8),
        digest: 42,
    };
    let mut footer_block = vec![0; BLOCK_BYTES];
    footer.write(&mut footer_block);
    // An index block is a header block under another magic, with a count and entries.
    let mut index = header.clone();
    index[..8].copy_from_slice(b"CWSEGIDX");
    index[48..52].copy_from_slice(&0_u32.to_le_bytes());
    index[52..56].copy_from_slice(&3_u32.to_le_bytes());
    vec![header, footer_block, index]
}

/// States of an empty partition, one with a segment begun, one with several, each with entries that go on from it.
fn states() -> Vec<Vec<u8>> {
    [0, 3, 60].map(write_state).to_vec()
}

fn write_state(appends: usize) -> Vec<u8> {
    let mut input = Vec::new();
    with_memory(|slab, pages| {
        let mut partition = Partition::new(IDENTITY.partition, LeaderEpoch(4), SEGMENT_BYTES_LEAST);
        let small = batches();
        let large = large_batch();
        for number in 0..appends {
            append(&mut partition, slab, pages, if appends > 10 { &large } else { &small[number % 2] });
        }
        carry_out(&mut partition, slab, pages);
        let mut state = Vec::new();
        partition.snapshot(slab, &mut state);
        input.extend_from_slice(&(state.len() as u32).to_le_bytes());
        input.extend_from_slice(&state);

        let (base, position) =
            partition.active_segment().map_or((partition.next_offset(), BLOCK_BYTES as u32), |it| {
                (it.0, (partition.end().position % u64::from(SEGMENT_BYTES_LEAST)) as u32)
            });
        let mut batch = small[0].clone();
        cutwater_model::batch::stamp(&mut batch, partition.next_offset(), LeaderEpoch(4));
        push_entry(&mut input, 0, position, base, &batch);
        push_entry(&mut input, 2, 0, Offset(1), &[]);
        let mut header = [0; 61];
        header.copy_from_slice(&batch[..61]);
        let reference = BulkRef {
            segment: base,
            run_start: position,
            position,
            digest: 7,
            whole_before: base,
            arrival: TimestampMs(9),
            header,
        };
        push_entry(&mut input, 3, 0, base, &reference.encode());
        push_entry(&mut input, 1, 0, base, &reference.encode());
    });
    input
}

fn push_entry(input: &mut Vec<u8>, kind: u64, position: u32, segment: Offset, payload: &[u8]) {
    let head = kind | (payload.len() as u64) << 8 | u64::from(position) << 32;
    input.extend_from_slice(&head.to_le_bytes());
    input.extend_from_slice(&segment.0.to_le_bytes());
    input.extend_from_slice(&9_u64.to_le_bytes());
    input.extend_from_slice(payload);
}

fn large_batch() -> Vec<u8> {
    let mut builder = cutwater_model::builder::BatchBuilder::new(1 << 20);
    let added = builder.append(TimestampMs(5), None, Some(&[9; 60_000]), &[]);
    assert!(added.is_ok(), "the record fits");
    builder.finish(cutwater_model::builder::Sequence::NONE).to_vec()
}
