//! The node's own log, doubled.

use cutwater_metadata::{Command, Controller, Identity};
use cutwater_model::{
    FileName, ShardId, TopicId, checksum::digest64, limits::BLOCK_BYTES, topic::TopicConfig,
};

use super::Target;
use crate::disk::MemoryDisk;

const FRESH: Identity = Identity { cluster: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321, node: 1 };
const SHARDS: u16 = 2;
/// What opening takes whatever it meets: the space that new copies are given, several times over.
const OPEN_BYTES: usize = 64 << 20;

pub(super) const METADATA: Target = Target {
    name: "metadata",
    run: read,
    seeds: copies,
    bytes_per_byte: 4096,
    bytes_free: OPEN_BYTES,
    cost: 25,
};

/// The input is two copies, the first as long as the first byte says in blocks.
fn read(bytes: &[u8]) {
    let Some((&first_blocks, copies)) = bytes.split_first() else { return };
    let first_bytes = (usize::from(first_blocks) * BLOCK_BYTES).min(copies.len());
    let (first, second) = copies.split_at(first_bytes);
    open(first.to_vec(), second.to_vec());
    let mended = [first, second].map(|copy| {
        let mut copy = copy.to_vec();
        mend(&mut copy);
        copy
    });
    let [first, second] = mended;
    open(first, second);
}

fn open(first: Vec<u8>, second: Vec<u8>) {
    let mut disk = MemoryDisk::default();
    for (copy, mut bytes) in [(0, first), (1, second)] {
        if !bytes.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
            disk.files.insert(FileName::Metadata { copy }, bytes);
        }
    }
    let Ok((mut controller, _)) = Controller::open(&mut disk, None, FRESH, SHARDS) else { return };
    let image = controller.image().clone();
    assert_eq!(image.topics().count(), image.topic_count());
    let created = Command::CreateTopic { name: "made-after", partitions: 3, config: TopicConfig::default() };
    let _outcome = controller.apply(&mut disk, &created, TopicId(0x7777));
    let _outcome = controller.apply(&mut disk, &Command::AllocateProducerId, TopicId(0));
    let before = controller.image().clone();

    let Ok((again, _)) = Controller::open(&mut disk, None, FRESH, SHARDS) else {
        panic!("what was opened and written can't be opened again")
    };
    assert_eq!(**again.image(), *before, "a start shows what was shown before");
}

/// Makes the digests of the head and of each frame fit.
fn mend(copy: &mut [u8]) {
    if copy.len() < BLOCK_BYTES {
        return;
    }
    let (head, frames) = copy.split_at_mut(BLOCK_BYTES);
    head[16..24].fill(0);
    let digest = digest64(0, head);
    head[16..24].copy_from_slice(&digest.to_le_bytes());
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let (generation, low, high) = (number(24), number(32), number(40));
    let seed = low ^ high.rotate_left(32) ^ generation.rotate_left(40);

    let mut at = 0;
    while let Some(rest) = frames.get_mut(at..)
        && rest.len() >= 24
    {
        let payload_bytes = u32::from_le_bytes(rest[4..8].try_into().unwrap_or_default()) as usize;
        let bytes = (24 + payload_bytes).next_multiple_of(8);
        let Some(frame) = rest.get_mut(..bytes) else { return };
        if frame[..4] != *b"cwmr" {
            return;
        }
        frame[16..24].fill(0);
        let digest = digest64(seed ^ (BLOCK_BYTES + at) as u64, frame);
        frame[16..24].copy_from_slice(&digest.to_le_bytes());
        at += bytes;
    }
}

fn copies() -> Vec<Vec<u8>> {
    [0, 3, 40].map(write_copies).to_vec()
}

fn write_copies(commands: u32) -> Vec<u8> {
    let mut disk = MemoryDisk::default();
    let Ok((mut controller, _)) = Controller::open(&mut disk, None, FRESH, SHARDS) else {
        panic!("an empty disk takes metadata")
    };
    for number in 0..commands {
        let topic = TopicId(u128::from(number) + 1);
        let name = format!("topic-{number}");
        let command = match number % 8 {
            5 => Command::DeleteTopic { topic: TopicId(1) },
            6 => Command::AddPartitions { topic: TopicId(2), partitions: number },
            7 => Command::TopicGone { topic: TopicId(1), shard: ShardId((number / 8 % 2) as u16) },
            4 => Command::AllocateProducerId,
            _ => Command::CreateTopic {
                name: &name,
                partitions: 1 + number % 3,
                config: TopicConfig::default(),
            },
        };
        // Some are refused; they are part of the story.
        let _outcome = controller.apply(&mut disk, &command, topic);
    }
    let mut bytes = Vec::new();
    for copy in [0, 1] {
        let file = disk.files.remove(&FileName::Metadata { copy }).unwrap_or_default();
        // What lies behind the last frame is room for later ones.
        let used =
            file.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1).next_multiple_of(BLOCK_BYTES);
        if copy == 0 {
            bytes.push((used / BLOCK_BYTES) as u8);
        }
        bytes.extend_from_slice(&file[..used.min(file.len())]);
    }
    bytes
}
