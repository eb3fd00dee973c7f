//! Segments and indexes whose bytes have changed since they were written (B144 to B149): each row damages a copy of one
//! data folder that was stopped cleanly. What is damaged is refused and named by its file; what is not is read as ever;
//! nothing is ever read that was not written, and no offset moves.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cutwater_model::batch;
use cutwater_model::builder::Sequence;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, TopicId};

use super::disk::{BLOCK, flip, open, start_in, zero};
use super::support::Folder;
use super::support::node::Node;
use super::support::raw::{Raw, batch_of, partition};

const PARTITIONS: u32 = 2;
/// Batches of each partition, and records of each batch.
const BATCHES: i64 = 80;
const RECORDS: i64 = 10;
const VALUE_BYTES: usize = 3000;
/// So that each partition has two that are sealed and one that is written.
const SEGMENT_BYTES: u32 = 1 << 20;

/// What must come of some damage.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// All is read as before: what is damaged is not needed, or made again.
    All,
    /// Of partition 0 at least one batch and at most so many are refused, and the file is named.
    Refused(usize),
    /// As many as that, or all is read: who looks need not meet the damage.
    RefusedOrAll(usize),
}

struct Base {
    folder: Folder,
    topic: TopicId,
}

impl Base {
    fn stopped(name: &str) -> Self {
        let folder = Folder::new(name);
        let node = Node::start(&start_in(folder.path(), "base"));
        let mut raw = Raw::connect(node.address());
        let config = TopicConfig { segment_bytes: SEGMENT_BYTES, ..TopicConfig::default() };
        let topic = raw.create_topic("rot", PARTITIONS, config);
        for number in 0..BATCHES {
            for index in 0..PARTITIONS {
                let offset = raw.produce(partition(topic, index), &batch(index, number));
                assert_eq!(offset, Ok(number * RECORDS));
            }
        }
        node.stop();
        let base = Self { folder, topic };
        for index in 0..PARTITIONS {
            let segments = base.files(&base.folder.path().join("base/data"), index, "log");
            assert!(segments.len() >= 2, "{segments:?}");
        }
        base
    }

    /// The files of a partition, sorted by the offset they begin with.
    fn files(&self, data: &Path, index: u32, kind: &str) -> Vec<PathBuf> {
        let folder = data.join(format!("topics/{}/{index}", self.topic));
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == kind));
        files.sort();
        files
    }

    /// Damages a copy, starts a node on it and reads everything.
    fn check(&self, name: &str, damage: impl FnOnce(&Self, &Path), expect: Expect) {
        let (from, to) = (self.folder.path().join("base"), self.folder.path().join("copy"));
        let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(&to).status().unwrap();
        assert!(copied.success());
        damage(self, &to.join("data"));
        let node = Node::start(&start_in(self.folder.path(), "copy"));
        let mut raw = Raw::connect(node.address());
        for index in 0..PARTITIONS {
            let here = partition(self.topic, index);
            assert_eq!(raw.end_of(here), Ok(BATCHES * RECORDS), "{name}: no offset moves");
            let refused = (0..BATCHES).filter(|&number| !is_there(name, &mut raw, self.topic, index, number));
            let refused = refused.count();
            let (least, most) = match expect {
                Expect::Refused(most) if index == 0 => (1, most),
                Expect::RefusedOrAll(most) if index == 0 => (0, most),
                _ => (0, 0),
            };
            assert!((least..=most).contains(&refused), "{name}: {refused} batches of {here} are refused");
            let offset = raw.produce(here, &batch(index, BATCHES));
            assert_eq!(offset, Ok(BATCHES * RECORDS), "{name}: appends go on");
            if refused > 0 {
                let said = node.said();
                assert!(said.contains("damaged") && said.contains(".log"), "{name}: {said}");
            }
        }
        node.stop();
        fs::remove_dir_all(to).unwrap();
    }
}

/// The batch of that number: each value says where it belongs.
fn batch(index: u32, number: i64) -> Vec<u8> {
    let values: Vec<Vec<u8>> = (0..RECORDS)
        .map(|record| {
            let mut value = vec![number as u8 ^ record as u8; VALUE_BYTES];
            value[..8].copy_from_slice(&(number * RECORDS + record).to_le_bytes());
            value[8..12].copy_from_slice(&index.to_le_bytes());
            value
        })
        .collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    batch_of(&values, Sequence::NONE)
}

/// Whether a batch is read as it was written; if not, it must be refused as damaged.
fn is_there(name: &str, raw: &mut Raw, topic: TopicId, index: u32, number: i64) -> bool {
    let offset = number * RECORDS;
    let batches = match raw.fetch(partition(topic, index), offset) {
        Ok(batches) => batches,
        Err(code) => {
            assert_eq!(code, ErrorKind::DamagedRange.code(), "{name}: offset {offset}");
            return false;
        }
    };
    let first =
        batch::walk(&batches).next().unwrap_or_else(|| panic!("{name}: nothing at {offset}")).unwrap();
    first.check_crc().unwrap_or_else(|error| panic!("{name}: {offset}: {error}"));
    assert_eq!(first.header.base_offset.0, offset, "{name}");
    for (record, expected) in first.records().zip(offset..) {
        let record = record.unwrap();
        let value = record.value.unwrap();
        assert_eq!(record.offset.0, expected, "{name}");
        assert_eq!(value[..8], expected.to_le_bytes(), "{name}: the record of another offset");
        assert_eq!(value[8..12], index.to_le_bytes(), "{name}: the record of another partition");
    }
    true
}

/// Where the batch of that number lies in a segment that begins with batch 0.
fn place_of(segment: &Path, number: usize) -> u64 {
    let bytes = fs::read(segment).unwrap();
    let data = &bytes[BLOCK as usize..];
    let lengths = batch::walk(data).take(number).map(|batch| batch.unwrap().header.bytes() as u64);
    BLOCK + lengths.sum::<u64>()
}

fn put(path: &Path, at: u64, bytes: &[u8]) {
    open(path).write_all_at(bytes, at).unwrap();
}

fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

#[test]
fn damaged_segments_are_refused_by_range_and_named_and_nothing_false_is_read() {
    /// Of a segment of 1 MiB, what lies between two entries of its index, and a batch on either side.
    const NEAR: usize = 8;
    const SEGMENT: usize = 40;
    let base = Base::stopped("rot");
    base.check("nothing", |_, _| {}, Expect::All);
    let first = |base: &Base, data: &Path| base.files(data, 0, "log")[0].clone();
    let at = |base: &Base, data: &Path, within: u64| {
        let segment = first(base, data);
        let place = place_of(&segment, 10) + within;
        (segment, place)
    };
    let rows: [(&str, u64, &[u8]); 5] = [
        ("B146: a length that reaches far ahead", 8, &i32::MAX.to_be_bytes()),
        ("B146: a length that is too short", 8, &100_i32.to_be_bytes()),
        ("B146: a negative length", 8, &(-1_i32).to_be_bytes()),
        ("B144: another base offset", 0, &101_i64.to_be_bytes()),
        ("B144: another magic", 16, &[3]),
    ];
    for (name, within, bytes) in rows {
        let damage = |base: &Base, data: &Path| {
            let (segment, place) = at(base, data, within);
            put(&segment, place, bytes);
        };
        base.check(name, damage, Expect::Refused(NEAR));
    }
    for (name, within) in
        [("B144: a flipped bit of a value", 5000), ("B144: a flipped bit of a checksum", 18)]
    {
        let damage = |base: &Base, data: &Path| {
            let (segment, place) = at(base, data, within);
            flip(&segment, place);
        };
        base.check(name, damage, Expect::Refused(NEAR));
    }
    base.check(
        "B144: a block of zeros",
        |base, data| {
            let (segment, place) = at(base, data, 0);
            zero(&segment, place / BLOCK * BLOCK, BLOCK);
        },
        Expect::Refused(NEAR),
    );
    base.check(
        "B147: the header of a segment is zeros",
        |base, data| zero(&first(base, data), 0, BLOCK),
        Expect::RefusedOrAll(SEGMENT),
    );
    base.check(
        "B149: two segments have each other's names",
        |base, data| {
            let segments = base.files(data, 0, "log");
            swap(&segments[0], &segments[1]);
        },
        Expect::Refused(BATCHES as usize),
    );
}

#[test]
fn a_segment_of_another_partition_is_refused() {
    let base = Base::stopped("foreign-segment");
    base.check(
        "B149: a segment of another partition",
        |base, data| {
            let (own, foreign) = (&base.files(data, 0, "log")[0], &base.files(data, 1, "log")[0]);
            fs::copy(foreign, own).unwrap();
        },
        Expect::Refused(BATCHES as usize),
    );
}

#[test]
fn an_index_that_is_gone_or_wrong_costs_no_record() {
    let base = Base::stopped("rotten-indexes");
    let first = |base: &Base, data: &Path| base.files(data, 0, "index")[0].clone();
    base.check("B148: missing", |base, data| fs::remove_file(first(base, data)).unwrap(), Expect::All);
    base.check("B148: empty", |base, data| open(&first(base, data)).set_len(0).unwrap(), Expect::All);
    base.check(
        "B148: zeros",
        |base, data| {
            let index = first(base, data);
            zero(&index, 0, fs::metadata(&index).unwrap().len());
        },
        Expect::All,
    );
    base.check(
        "B148: noise",
        |base, data| {
            let index = first(base, data);
            let len = fs::metadata(&index).unwrap().len() as usize;
            let noise: Vec<u8> =
                (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
            put(&index, 0, &noise);
        },
        Expect::All,
    );
    base.check("B148: a flipped bit", |base, data| flip(&first(base, data), 100), Expect::All);
    base.check(
        "B148: of another segment",
        |base, data| {
            let indexes = base.files(data, 0, "index");
            swap(&indexes[0], &indexes[1]);
        },
        Expect::All,
    );
    base.check(
        "B148: of another partition",
        |base, data| {
            fs::copy(&base.files(data, 1, "index")[0], first(base, data)).unwrap();
        },
        Expect::All,
    );
}
