//! What a shard is told about itself when it starts.

use cutwater_model::{ShardId, limits};

/// Sizes and bounds of one shard. The defaults are those of a real node; the simulator uses small ones.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// The length of one journal file.
    pub journal_file_bytes: u64,
    /// How many journal files the shard comes to have; the first is there at start, the rest are made meanwhile.
    pub journal_files: u32,
    /// The largest group.
    pub group_bytes_max: u32,
    /// Buffers for groups that are filled, wait or are in flight.
    pub group_buffers: usize,
    /// Groups in flight at once.
    pub groups_in_flight_max: usize,
    /// A group smaller than this waits while another is in flight.
    pub group_bytes_eager: u32,
    /// From this size on a run of batches goes straight to its segment.
    pub bulk_bytes_least: u32,
    /// A checkpoint is due after so many bytes of journal.
    pub checkpoint_bytes: u64,
    /// A checkpoint is due after so many bytes of large batches, whose references the journal has (C4).
    pub checkpoint_bulk_bytes: u64,
    /// A checkpoint is due after so much time with anything unsettled, microseconds.
    pub checkpoint_us: u64,
    /// A partition with so many settled bytes has them written back without waiting for a checkpoint.
    pub writeback_bytes_least: u32,
    /// Write-backs in flight at once.
    pub writebacks_in_flight_max: usize,
    /// Flushes of segments in flight at once (C4).
    pub syncs_in_flight_max: usize,
    /// Cold reads in flight at once.
    pub cold_reads_in_flight_max: usize,
    /// Files kept for the next use.
    pub pool_files_max: usize,
    /// Whether a journal with a hole in its middle is served all the same: an operator's explicit word (R3).
    pub accepts_loss: bool,
    /// Part of the payload memory above which pages that are flushed are given up, in percent. What is used again
    /// soon is in the caches, and memory that was never used costs a fault a page.
    pub memory_soft_percent: u32,
    /// Part of it above which pages are written and flushed so that they can be given up.
    pub memory_high_percent: u32,
}

impl Config {
    /// What a real node runs with.
    #[must_use]
    pub fn new(shard: ShardId, shards: u16, journal_bytes: u64) -> Self {
        let files = (journal_bytes / limits::JOURNAL_FILE_BYTES) as u32;
        let journal_files = files.max(limits::JOURNAL_FILES_LEAST);
        let eighth = u64::from(journal_files) * limits::JOURNAL_FILE_BYTES / 8;
        let checkpoint_bytes = eighth.min(limits::CHECKPOINT_BYTES_MAX);
        Self {
            shard,
            shards,
            journal_file_bytes: limits::JOURNAL_FILE_BYTES,
            journal_files,
            group_bytes_max: limits::GROUP_BYTES_MAX,
            group_buffers: 8,
            groups_in_flight_max: limits::GROUPS_IN_FLIGHT_MAX,
            group_bytes_eager: 128 * 1024,
            bulk_bytes_least: limits::BULK_BYTES_LEAST,
            checkpoint_bytes,
            checkpoint_bulk_bytes: limits::CHECKPOINT_BULK_BYTES_MAX,
            checkpoint_us: 10_000_000,
            writeback_bytes_least: 256 * 1024,
            writebacks_in_flight_max: 32,
            syncs_in_flight_max: 8,
            cold_reads_in_flight_max: 16,
            pool_files_max: 16,
            accepts_loss: false,
            memory_soft_percent: 25,
            memory_high_percent: 80,
        }
    }
}
