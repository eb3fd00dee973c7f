//! What a seed is about: sizes, lives, faults. Everything is drawn here, before anything runs.

use cutwater_broker::Config;
use cutwater_model::ShardId;

use crate::disk::{Device, Faults};
use crate::random::Random;
use crate::workload::Habits;

const KIB: u64 = 1024;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is told to stop, and says when it has.
    Stop,
    /// It is killed; what is under way may still reach the disk, and the device's cache lives on.
    Kill,
    /// The power goes.
    PowerCut,
    /// It is killed, and a moment later, within the next start, the power goes too.
    KillThenPowerCut,
}

/// One life of the node.
#[derive(Clone, Debug)]
pub struct Life {
    /// How many shards it has.
    pub shards: u16,
    /// How long it lasts, microseconds.
    pub lasts_us: u64,
    /// How it ends.
    pub end: End,
    /// What goes wrong meanwhile.
    pub faults: Faults,
    /// How large the disk is in its first half, in bytes.
    pub capacity_bytes: u64,
    /// Starts that die at some call before one succeeds.
    pub broken_starts: u32,
    /// Whether everything is read before the clients come.
    pub audited: bool,
    /// A bit of a journal file is flipped before it starts.
    pub rots: bool,
}

/// A whole seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The kind of device.
    pub device: Device,
    /// Sizes of a shard; shard and number of shards are those of each life.
    pub config: Config,
    /// Payload memory of one shard, in bytes.
    pub memory_bytes: usize,
    /// What the clients are like.
    pub habits: Habits,
    /// How many of each kind of client there are: plain, numbered, reader, subscriber, admin.
    pub clients: [u64; 5],
    /// How long a disk operation takes, microseconds: mostly up to the first, once in a while up to the second.
    pub disk_us: [u64; 2],
    /// The lives, one after the other. The last one has no faults and is audited to the end.
    pub lives: Vec<Life>,
}

/// A disk large enough for everything.
pub const ROOMY_BYTES: u64 = 512 << 20;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let device = if random.one_in(4) { Device::WholeCache } else { Device::WriteThrough };
        let segment_bytes = [64 * KIB, 128 * KIB, 256 * KIB, 1024 * KIB][random.below(4) as usize] as u32;
        // A quarter of the seeds has no faults of the disk but those of a crash.
        let disk_fails = random.one_in(5);
        let disk_fills = random.one_in(5);
        let rots = !disk_fails && random.one_in(8);
        let count = random.between(2, 5);
        let mut lives: Vec<Life> = (0..count).map(|_| life(random, disk_fails, disk_fills)).collect();
        if rots && let Some(life) = lives.last_mut() {
            life.rots = true;
        }
        lives.push(Life {
            shards: random.between(1, 3) as u16,
            lasts_us: 300_000,
            end: End::Stop,
            faults: Faults::default(),
            capacity_bytes: ROOMY_BYTES,
            broken_starts: 0,
            audited: true,
            rots: false,
        });
        let habits = Habits {
            batch_bytes_max: [20_000, 60_000, 200_000][random.below(3) as usize]
                .min(u64::from(segment_bytes) / 2),
            rest_us: [300, 2_000, 10_000][random.below(3) as usize],
            partitions_max: [2, 4, 12][random.below(3) as usize],
            segment_bytes,
            memory_percent: [0, 20, 50][random.below(3) as usize],
            disk_fails,
            disk_fills,
        };
        Self {
            seed,
            device,
            config: config(random),
            memory_bytes: [(2 * 1024 * KIB) as usize, (4 * 1024 * KIB) as usize][random.below(2) as usize],
            habits,
            clients: [
                random.between(0, 3),
                random.between(1, 3),
                random.between(1, 2),
                random.between(0, 2),
                1,
            ],
            disk_us: [[100, 2_000], [400, 30_000], [50, 500_000]][random.below(3) as usize],
            lives,
        }
    }
}

impl Plan {
    /// The same without errors of the disk, without want of space, without rot.
    pub fn without_faults(&mut self) {
        self.habits.disk_fails = false;
        self.habits.disk_fills = false;
        for life in &mut self.lives {
            life.faults = Faults::default();
            life.capacity_bytes = ROOMY_BYTES;
            life.rots = false;
        }
    }
}

fn life(random: &mut Random, disk_fails: bool, disk_fills: bool) -> Life {
    let end = match random.below(10) {
        0 => End::Stop,
        1..4 => End::Kill,
        4..6 => End::KillThenPowerCut,
        _ => End::PowerCut,
    };
    let mut faults = Faults::default();
    if disk_fails {
        faults.read_error_one_in = [0, 30][random.below(2) as usize];
        faults.segment_write_error_one_in = [0, 0, 200][random.below(3) as usize];
        faults.segment_flush_error_one_in = [0, 0, 100][random.below(3) as usize];
        faults.journal_write_error_one_in = [0, 0, 400][random.below(3) as usize];
        faults.checkpoint_error_one_in = [0, 0, 50][random.below(3) as usize];
    }
    if disk_fills {
        faults.full_one_in = [0, 3, 20][random.below(3) as usize];
    }
    Life {
        shards: random.between(1, 3) as u16,
        lasts_us: [5_000, 60_000, 300_000, 1_200_000][random.below(4) as usize],
        end,
        faults,
        capacity_bytes: if disk_fills && random.one_in(2) { random.between(2, 8) << 20 } else { ROOMY_BYTES },
        broken_starts: random.below(6).saturating_sub(3) as u32,
        audited: random.one_in(2),
        rots: false,
    }
}

/// Small sizes, so that every seed laps its journal, rolls, recycles, evicts and goes bulk.
fn config(random: &mut Random) -> Config {
    let group_bytes_max = [16 * KIB, 32 * KIB][random.below(2) as usize] as u32;
    Config {
        journal_file_bytes: 64 * KIB,
        journal_files: 3,
        group_bytes_max,
        group_buffers: random.between(3, 8) as usize,
        groups_in_flight_max: random.between(1, 4) as usize,
        group_bytes_eager: [1, 4 * KIB, 12 * KIB][random.below(3) as usize] as u32,
        bulk_bytes_least: group_bytes_max / 2,
        checkpoint_bytes: [16 * KIB, 48 * KIB, 96 * KIB][random.below(3) as usize],
        checkpoint_bulk_bytes: [128 * KIB, 2048 * KIB][random.below(2) as usize],
        checkpoint_us: [3_000, 50_000, 10_000_000][random.below(3) as usize],
        writeback_bytes_least: [4 * KIB, 32 * KIB][random.below(2) as usize] as u32,
        writebacks_in_flight_max: random.between(1, 8) as usize,
        syncs_in_flight_max: random.between(1, 8) as usize,
        cold_reads_in_flight_max: random.between(1, 8) as usize,
        pool_files_max: random.between(0, 4) as usize,
        memory_soft_percent: random.between(10, 30) as u32,
        memory_high_percent: random.between(30, 80) as u32,
        ..Config::new(ShardId(0), 1, 0)
    }
}
