//! What a pump counts, in memory that any thread may read: relaxed atomics with one writer each.
//!
//! Nobody has to ask the pump, so a stuck one can't hide: its turn counter stands still for all to see.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cutwater_api::CloseReason;
use cutwater_broker::stages::{STAGE_BUCKETS, StageHistogram};
use cutwater_broker::{Counters, Stages};
use cutwater_model::ErrorKind;
use cutwater_ring::RingStats;

/// What one pump counts.
#[derive(Debug)]
pub struct ShardMeters {
    turns: AtomicU64,
    parks: AtomicU64,
    accepts: AtomicU64,
    /// Level.
    connections: AtomicU64,
    assembly_bytes: AtomicU64,
    descriptors: AtomicU64,
    fenced: AtomicU64,
    closes: [AtomicU64; CLOSE_REASONS.len()],
    refusals: [AtomicU64; ErrorKind::ALL.len()],
    ring: [AtomicU64; RING.len()],
    core: [AtomicU64; CORE.len()],
    /// From the arrival of a request's bytes to its hand-over to the core.
    pub(crate) receive: Histogram,
    /// From the core's answer to the end of the send that carried it.
    pub(crate) send: Histogram,
    /// The core's own stages: see [`Stages`].
    pub(crate) gather: Histogram,
    pub(crate) flush: Histogram,
    pub(crate) bulk: Histogram,
}

/// A name, what it means, and how it is read.
pub(crate) struct Line<T> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) is_level: bool,
    pub(crate) read: fn(&T) -> u64,
}

const fn total<T>(name: &'static str, help: &'static str, read: fn(&T) -> u64) -> Line<T> {
    Line { name, help, is_level: false, read }
}

const fn level<T>(name: &'static str, help: &'static str, read: fn(&T) -> u64) -> Line<T> {
    Line { name, help, is_level: true, read }
}

/// What the core counts.
pub(crate) const CORE: [Line<Counters>; 24] = [
    total("requests_total", "Requests taken, of every kind.", |c| c.requests),
    total("batches_appended_total", "Batches appended.", |c| c.batches_appended),
    total("records_appended_total", "Records appended.", |c| c.records_appended),
    total("appended_bytes_total", "Bytes of batches appended.", |c| c.bytes_appended),
    total("acknowledged_bytes_total", "Bytes of batches acknowledged.", |c| c.bytes_acknowledged),
    total("batches_refused_total", "Batches refused.", |c| c.batches_refused),
    total("batches_duplicate_total", "Retries answered from a producer's window.", |c| c.batches_duplicate),
    total("batches_deferred_total", "Batches that had to wait for room.", |c| c.batches_deferred),
    total("batches_landed_total", "Large batches received where they stay.", |c| c.batches_landed),
    total("journal_groups_total", "Groups written to the journal.", |c| c.groups),
    total("journal_bytes_total", "Bytes of groups, headers and padding included.", |c| c.group_bytes),
    total("bulk_runs_total", "Runs written straight to their segment.", |c| c.bulk_runs),
    total("bulk_bytes_total", "Bytes of those runs.", |c| c.bulk_bytes),
    total("writeback_bytes_total", "Bytes written back to segments.", |c| c.writeback_bytes),
    total("segment_syncs_total", "Flushes of segments asked for.", |c| c.segment_syncs),
    total("checkpoints_total", "Checkpoints completed.", |c| c.checkpoints),
    total("read_hot_bytes_total", "Bytes handed to readers from memory.", |c| c.bytes_read_hot),
    total("read_cold_bytes_total", "Bytes handed to readers from disk.", |c| c.bytes_read_cold),
    total("requests_forwarded_total", "Requests sent on to another shard.", |c| c.requests_forwarded),
    level("journal_used_bytes", "Journal bytes that no checkpoint has freed.", |c| c.journal_used_bytes),
    level("journal_size_bytes", "Journal bytes there are.", |c| c.journal_total_bytes),
    level("memory_used_bytes", "Payload memory in use.", |c| c.memory_used_bytes),
    level("partitions", "Partitions owned.", |c| c.partitions),
    level("fenced", "1 where the shard takes no appends any more.", |c| c.fenced),
];

/// What the ring counts.
pub(crate) const RING: [Line<RingStats>; 10] = [
    total("ring_enters_total", "System calls of the ring.", |r| r.enters),
    total("ring_waits_total", "Those of them that were allowed to wait.", |r| r.waits),
    total("ring_submitted_total", "Operations submitted.", |r| r.submitted),
    total("ring_completed_total", "Completions reaped.", |r| r.completed),
    total("received_bytes_total", "Bytes received from sockets.", |r| r.received_bytes),
    total("sent_bytes_total", "Bytes sent to sockets.", |r| r.sent_bytes),
    total("file_read_bytes_total", "Bytes read from files.", |r| r.read_bytes),
    total("file_written_bytes_total", "Bytes written to files.", |r| r.written_bytes),
    total("ring_short_total", "Operations that moved fewer bytes than asked.", |r| r.short),
    total("ring_starved_total", "Receives that found no free buffer.", |r| r.starved),
];

/// Why connections close, by the name the metric has.
pub(crate) const CLOSE_REASONS: [(CloseReason, &str); 11] = [
    (CloseReason::NotOurProtocol, "not_our_protocol"),
    (CloseReason::Version, "version"),
    (CloseReason::FrameLength, "frame_length"),
    (CloseReason::Malformed, "malformed"),
    (CloseReason::ReadDeadline, "read_deadline"),
    (CloseReason::WriteDeadline, "write_deadline"),
    (CloseReason::Peer, "peer"),
    (CloseReason::Stop, "stop"),
    (CloseReason::Crowded, "crowded"),
    (CloseReason::ReadFailed, "read_failed"),
    // Room for a reason this list does not know yet; never counted under a wrong name.
    (CloseReason::ReadFailed, "other"),
];

impl Default for ShardMeters {
    fn default() -> Self {
        Self {
            turns: AtomicU64::new(0),
            parks: AtomicU64::new(0),
            accepts: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            assembly_bytes: AtomicU64::new(0),
            descriptors: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            closes: [const { AtomicU64::new(0) }; CLOSE_REASONS.len()],
            refusals: [const { AtomicU64::new(0) }; ErrorKind::ALL.len()],
            ring: [const { AtomicU64::new(0) }; RING.len()],
            core: [const { AtomicU64::new(0) }; CORE.len()],
            receive: Histogram::default(),
            send: Histogram::default(),
            gather: Histogram::default(),
            flush: Histogram::default(),
            bulk: Histogram::default(),
        }
    }
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl ShardMeters {
    #[inline]
    pub(crate) fn turn(&self) {
        add(&self.turns, 1);
    }

    pub(crate) fn add_park(&self) {
        add(&self.parks, 1);
    }

    pub(crate) fn add_accept(&self) {
        add(&self.accepts, 1);
    }

    /// So many requests were handed over, this long after their bytes came.
    #[inline]
    pub(crate) fn add_requests(&self, requests: u32, waited_us: u64) {
        if requests > 0 {
            self.receive.add(waited_us, u64::from(requests));
        }
    }

    #[inline]
    pub(crate) fn add_sent(&self, _bytes: u64, took_us: u64) {
        self.send.add(took_us, 1);
    }

    pub(crate) fn add_close(&self, reason: CloseReason) {
        let known = CLOSE_REASONS.iter().position(|(known, _)| *known == reason);
        add(&self.closes[known.unwrap_or(CLOSE_REASONS.len() - 1)], 1);
    }

    pub(crate) fn add_refusal(&self, kind: ErrorKind) {
        if let Some(index) = ErrorKind::ALL.iter().position(|known| *known == kind) {
            add(&self.refusals[index], 1);
        }
    }

    pub(crate) fn set_fenced(&self) {
        self.fenced.store(1, Relaxed);
    }

    pub(crate) fn set_connections(&self, count: u64) {
        self.connections.store(count, Relaxed);
    }

    pub(crate) fn set_assembly_bytes(&self, bytes: u64) {
        self.assembly_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn set_descriptors(&self, count: u64) {
        self.descriptors.store(count, Relaxed);
    }

    pub(crate) fn set_ring(&self, stats: &RingStats) {
        for (line, place) in RING.iter().zip(&self.ring) {
            place.store((line.read)(stats), Relaxed);
        }
    }

    /// Takes over what the core has counted.
    pub fn set_core(&self, counters: &Counters) {
        for (line, place) in CORE.iter().zip(&self.core) {
            place.store((line.read)(counters), Relaxed);
        }
    }

    /// Takes over how long the core's stages took.
    pub fn set_stages(&self, stages: &Stages) {
        self.gather.set(&stages.gather);
        self.flush.set(&stages.flush);
        self.bulk.set(&stages.bulk);
    }

    /// How many turns the pump has done.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// Whether the shard takes no appends any more.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Relaxed) != 0
    }

    /// The totals and levels that have no list of their own.
    pub(crate) fn own(&self) -> [(Line<Self>, u64); 6] {
        let lines: [Line<Self>; 6] = [
            total("turns_total", "Turns of the pump; one that stands still is stuck.", |m| {
                m.turns.load(Relaxed)
            }),
            total("parks_total", "How often the pump slept.", |m| m.parks.load(Relaxed)),
            total("connections_accepted_total", "Connections accepted.", |m| m.accepts.load(Relaxed)),
            level("connections", "Connections there are.", |m| m.connections.load(Relaxed)),
            level("assembly_bytes", "Bytes that unfinished frames hold.", |m| m.assembly_bytes.load(Relaxed)),
            level("descriptors", "Descriptors of files kept open.", |m| m.descriptors.load(Relaxed)),
        ];
        lines.map(|line| {
            let value = (line.read)(self);
            (line, value)
        })
    }

    pub(crate) fn ring_values(&self) -> impl Iterator<Item = u64> {
        self.ring.iter().map(|value| value.load(Relaxed))
    }

    pub(crate) fn core_values(&self) -> impl Iterator<Item = u64> {
        self.core.iter().map(|value| value.load(Relaxed))
    }

    pub(crate) fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLOSE_REASONS.iter().zip(&self.closes).map(|((_, name), count)| (*name, count.load(Relaxed)))
    }

    pub(crate) fn refusals(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.iter().zip(&self.refusals).map(|(kind, count)| (*kind, count.load(Relaxed)))
    }
}

/// Microseconds, counted in buckets a quarter of a doubling wide.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; STAGE_BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; STAGE_BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    #[inline]
    fn add(&self, value_us: u64, times: u64) {
        add(&self.counts[bucket_of(value_us)], times);
        add(&self.sum_us, value_us.saturating_mul(times));
    }

    fn set(&self, from: &StageHistogram) {
        for (place, count) in self.counts.iter().zip(&from.counts) {
            place.store(*count, Relaxed);
        }
        self.sum_us.store(from.sum_us, Relaxed);
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(|count| count.load(Relaxed))
    }

    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }
}

/// The bucket that [`StageHistogram::bucket_end_us`] bounds: eight single values, then four for each doubling.
#[inline]
const fn bucket_of(value_us: u64) -> usize {
    if value_us < 8 {
        return value_us as usize;
    }
    let octave = value_us.ilog2() as usize;
    let bucket = 4 * octave - 4 + ((value_us >> (octave - 2)) as usize & 3);
    if bucket < STAGE_BUCKETS { bucket } else { STAGE_BUCKETS - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_bucket_whose_end_is_the_first_not_below_it() {
        for value in (0..5_000).chain([100_000, 1 << 20, (1 << 20) - 1, 29_000_000]) {
            let bucket = bucket_of(value);
            assert!(value <= StageHistogram::bucket_end_us(bucket), "{value}");
            assert!(bucket == 0 || value > StageHistogram::bucket_end_us(bucket - 1), "{value}");
        }
    }

    #[test]
    fn closes_and_refusals_are_counted_under_their_own_names() {
        let meters = ShardMeters::default();
        meters.add_close(CloseReason::ReadDeadline);
        meters.add_refusal(ErrorKind::DiskFull);
        let closes: Vec<_> = meters.closes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(closes, [("read_deadline", 1)]);
        let refusals: Vec<_> = meters.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refusals, [(ErrorKind::DiskFull, 1)]);
    }
}
