//! The journal of a running shard: chain, ring and groups in flight under one hand.
//!
//! The shard fills a group, submits it, issues the writes that come back, and reports each completion. The first thing
//! a life submits is its start group (J6); nothing is served before that is durable. Lives on the shard's core.

use cutwater_model::limits::{BLOCK_BYTES, GROUPS_IN_FLIGHT_MAX};
use cutwater_model::{Incarnation, ShardId};

use crate::group::{GroupBuilder, GroupHeader, GroupKind, seal_empty};
use crate::in_flight::InFlight;
use crate::place::{ChainEnd, Life, Place, ReplayPlace, Sequence};
use crate::ring::JournalRing;

/// There is no room for the group until a checkpoint frees a file; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal of shard {} has no room for {bytes} bytes until a checkpoint frees a file", shard.0)]
pub struct JournalFull {
    /// Whose journal.
    pub shard: ShardId,
    /// How many bytes the group has.
    pub bytes: u32,
}

/// One write to issue: whole blocks, O_DIRECT, durable (J2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalWrite {
    /// Which group it is.
    pub sequence: Sequence,
    /// Where it goes.
    pub place: Place,
    /// Its first byte, from the beginning of the buffer that was sealed.
    pub from: u32,
    /// How many bytes it has.
    pub bytes: u32,
}

/// The writes of a submitted group; they may be issued and complete in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The skip group before it, in the first block of the buffer.
    pub skip: Option<JournalWrite>,
    /// The group. Its entries are durable when the durable prefix reaches its sequence.
    pub group: JournalWrite,
}

/// The journal of one running shard.
#[derive(Clone, Debug)]
pub struct Journal {
    shard: ShardId,
    /// The last group submitted.
    end: ChainEnd,
    /// The life that writes; `end` belongs to an earlier one until the start group is submitted.
    life: Life,
    ring: JournalRing,
    in_flight: InFlight,
    /// Where replay begins from each copy of the checkpoint.
    checkpoints: [ReplayPlace; 2],
}

impl Journal {
    /// Goes on where `next` says, under a new incarnation. `used` are the files from the one of `checkpoint`, which
    /// both copies of the checkpoint name, to that of `next`, oldest first. Other files are added by
    /// [`Journal::add_file`].
    ///
    /// `life_number_max` is the highest number of a life that was met in the journal, at least that of `next`.
    #[must_use]
    pub fn new(
        shard: ShardId,
        file_bytes: u64,
        checkpoint: ReplayPlace,
        next: ReplayPlace,
        used: impl IntoIterator<Item = u32>,
        life_number_max: u32,
        incarnation: Incarnation,
    ) -> Self {
        let number = life_number_max.max(next.after.life.number).saturating_add(1);
        Self {
            shard,
            end: next.after,
            life: Life { origin: next.after.life.origin, incarnation, number },
            ring: JournalRing::new(file_bytes, used, checkpoint.place.at, next.place),
            in_flight: InFlight::new(next.after.sequence),
            checkpoints: [checkpoint; 2],
        }
    }

    /// Submits the start group of this life, in the first block of the buffer (J6). Serve when it is durable.
    ///
    /// # Errors
    /// [`JournalFull`] after many crashes in a row: write a checkpoint that begins at [`Journal::next_place`] first.
    pub fn start(&mut self, buffer: &mut [u8]) -> Result<JournalWrite, JournalFull> {
        let Some((place, next_file)) = self.ring.place_start() else {
            return Err(JournalFull { shard: self.shard, bytes: BLOCK_BYTES as u32 });
        };
        let header = GroupHeader { kind: GroupKind::Start, next_file, ..self.header(place) };
        Ok(self.submit_block(buffer, header))
    }

    /// Whether one more group may be in flight.
    #[must_use]
    pub const fn can_submit(&self) -> bool {
        self.in_flight.count() < GROUPS_IN_FLIGHT_MAX && self.in_flight.has_room()
    }

    /// Seals a group and takes its place and number. The group's bytes lie behind the first block of the buffer; that
    /// one holds the skip group, if there is one. The buffer must not change until the group is durable.
    ///
    /// # Errors
    /// [`JournalFull`]; the group stays open, try again when a checkpoint has freed a file.
    pub fn submit(&mut self, group: &mut GroupBuilder, buffer: &mut [u8]) -> Result<Submission, JournalFull> {
        debug_assert!(self.end.life == self.life, "the first group of a life is its start group (J6)");
        let bytes = group.bytes();
        let Some(placement) = self.ring.place(u64::from(bytes)) else {
            return Err(JournalFull { shard: self.shard, bytes });
        };
        let skip = placement.skip.map(|at| {
            let next_file = Some(placement.place.file);
            let header = GroupHeader { kind: GroupKind::Skip, next_file, ..self.header(at) };
            self.submit_block(buffer, header)
        });
        let header = GroupHeader { kind: GroupKind::Ordinary, ..self.header(placement.place) };
        let sealed = group.seal(buffer, header);
        self.end = ChainEnd { sequence: sealed.sequence, digest: sealed.digest, life: self.life };
        let sequence = self.in_flight.submit();
        let group =
            JournalWrite { sequence, place: placement.place, from: BLOCK_BYTES as u32, bytes: sealed.bytes };
        Ok(Submission { skip, group })
    }

    /// All bytes of one write are on stable storage. Returns the last group of the durable prefix: acks up to it may
    /// leave (J4).
    pub const fn complete(&mut self, sequence: Sequence) -> Sequence {
        self.in_flight.complete(sequence)
    }

    /// The last group of the durable prefix.
    #[must_use]
    pub const fn durable(&self) -> Sequence {
        self.in_flight.durable()
    }

    /// The last group submitted.
    #[must_use]
    pub const fn submitted(&self) -> Sequence {
        self.in_flight.submitted()
    }

    /// Where the next group begins: what a checkpoint names that covers every entry submitted so far. It may be
    /// written only once [`Journal::durable`] has reached [`Journal::submitted`] of now (C2).
    #[must_use]
    pub fn next_place(&self) -> ReplayPlace {
        ReplayPlace { place: self.ring.next_place(), after: self.end }
    }

    /// A copy of the checkpoint, 0 or 1, that begins its replay at `from`, was written and flushed. Files before the
    /// earlier beginning of both copies are free (C2).
    pub fn checkpointed(&mut self, copy: u8, from: ReplayPlace) {
        self.checkpoints[usize::from(copy & 1)] = from;
        let [first, second] = &self.checkpoints;
        let earlier = if first.after.sequence <= second.after.sequence { first } else { second };
        self.ring.release_before(earlier.place);
    }

    /// A file was written with zeros, flushed, and its name made durable.
    pub fn add_file(&mut self, number: u32) {
        self.ring.add_file(number);
    }

    /// How many files there are.
    #[must_use]
    pub fn files(&self) -> u32 {
        self.ring.files()
    }

    /// The bytes that replay would read now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.ring.used_bytes()
    }

    /// The bytes of all files there are.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.ring.total_bytes()
    }

    /// The longest group that can be placed, header and padding included: how far the buffer may be filled.
    #[must_use]
    pub const fn group_bytes_max(&self) -> u64 {
        self.ring.group_bytes_max()
    }

    fn submit_block(&mut self, block: &mut [u8], header: GroupHeader) -> JournalWrite {
        let sealed = seal_empty(block, header);
        self.end = ChainEnd { sequence: sealed.sequence, digest: sealed.digest, life: self.life };
        JournalWrite { sequence: self.in_flight.submit(), place: header.place, from: 0, bytes: sealed.bytes }
    }

    fn header(&self, place: Place) -> GroupHeader {
        GroupHeader {
            shard: self.shard,
            place,
            sequence: self.end.sequence.next(),
            durable: self.in_flight.durable(),
            previous_digest: self.end.digest,
            life: self.life,
            ..GroupHeader::default()
        }
    }
}
