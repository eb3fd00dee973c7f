//! What a shard counts. Single writer: the shard's core; the control thread reads copies.

/// Totals since the shard started, unless a line says it is a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests taken, of every kind.
    pub requests: u64,
    /// Batches appended.
    pub batches_appended: u64,
    /// Records appended.
    pub records_appended: u64,
    /// Bytes of batches appended.
    pub bytes_appended: u64,
    /// Bytes of batches acknowledged as durable.
    pub bytes_acknowledged: u64,
    /// Batches refused.
    pub batches_refused: u64,
    /// Retries answered from a producer's window.
    pub batches_duplicate: u64,
    /// Batches that had to wait for room.
    pub batches_deferred: u64,
    /// Batches that were received straight into the pages of their partition's tail.
    pub batches_landed: u64,
    /// Groups written.
    pub groups: u64,
    /// Bytes of groups written, headers and padding included.
    pub group_bytes: u64,
    /// Bulk runs written.
    pub bulk_runs: u64,
    /// Bytes of bulk runs written.
    pub bulk_bytes: u64,
    /// Bytes written back to segments.
    pub writeback_bytes: u64,
    /// Flushes of segments asked for.
    pub segment_syncs: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Bytes of batches handed to readers from memory.
    pub bytes_read_hot: u64,
    /// Bytes of batches handed to readers from disk.
    pub bytes_read_cold: u64,
    /// Stored ranges found damaged.
    pub damaged_ranges: u64,
    /// Requests sent on to another shard.
    pub requests_forwarded: u64,
    /// Level: bytes of the journal that no checkpoint has freed.
    pub journal_used_bytes: u64,
    /// Level: bytes the journal can hold.
    pub journal_total_bytes: u64,
    /// Level: payload memory in use.
    pub memory_used_bytes: u64,
    /// Level: partitions owned.
    pub partitions: u64,
    /// Level: 1 where the shard takes no appends any more.
    pub fenced: u64,
}
