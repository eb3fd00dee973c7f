//! Everybody who reads: waiting fetches, subscriptions, and other shards on behalf of theirs.
//!
//! The shard of the connection owns a reader. For its own partitions the reader watches them directly; for those of
//! another shard it has that shard watch, by a reader of kind [`Kind::Shard`] there. When enough is ready, or the
//! deadline comes, everything ready is gathered in the order asked, within the budget, and answered at once.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use cutwater_api::{FetchPart, FetchedPart, SubscriptionId, Ticket};
use cutwater_log::ReadHint;
use cutwater_model::{Now, ShardId};

use crate::gather::Gather;
use crate::partition::Slot;

/// A reader's slot and life; a name of an ended life finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReaderId {
    slot: u32,
    life: u32,
}

/// On whose behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One answer, then it ends.
    Fetch { ticket: Ticket, deadline_us: u64, bytes_min: u64, bytes_max: u32 },
    /// Pushes as long as there is credit.
    Subscription { ticket: Ticket, id: SubscriptionId, credit_bytes: i64 },
    /// A reader of another shard.
    Shard { from: ShardId, watch: u64 },
}

/// Where a part's partition lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// On this shard.
    Here(Slot),
    /// On another one.
    There(ShardId),
    /// Nowhere: there is no such partition.
    Nowhere,
}

/// One partition of a reader.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) wanted: FetchPart,
    pub(crate) home: Home,
    /// Where the last read stopped.
    pub(crate) hint: ReadHint,
    /// Bytes that were ready when last looked.
    pub(crate) ready_bytes: u64,
    /// Its error was reported; nothing more comes of it.
    pub(crate) has_ended: bool,
}

/// What another shard said is ready there.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) shard: ShardId,
    /// How many of the reader's parts are there.
    pub(crate) parts: u32,
    pub(crate) ready_bytes: u64,
    pub(crate) is_urgent: bool,
}

/// One reader.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) id: ReaderId,
    pub(crate) kind: Kind,
    pub(crate) parts: Vec<Part>,
    pub(crate) remotes: Vec<Remote>,
    /// Set while it gathers.
    pub(crate) gather: Option<Box<Gather>>,
    /// Where the next gathering begins, so that no partition always comes last.
    pub(crate) rotation: usize,
    /// It stands in its connection's line, and looks again when some of what the peer is sent has left.
    pub(crate) is_stalled: bool,
    /// A fetch whose time has come: it is answered with whatever there is.
    pub(crate) is_due: bool,
    /// Nobody wants it any more; it ends when its disk reads and the shards it asked have come back.
    pub(crate) is_ending: bool,
}

impl Kind {
    /// The request that made it, for readers of this shard's connections.
    pub(crate) const fn ticket(&self) -> Option<Ticket> {
        match *self {
            Self::Fetch { ticket, .. } | Self::Subscription { ticket, .. } => Some(ticket),
            Self::Shard { .. } => None,
        }
    }
}

impl Reader {
    /// Bytes ready, here and elsewhere.
    pub(crate) fn ready_bytes(&self) -> u64 {
        let here: u64 = self.parts.iter().map(|part| part.ready_bytes).sum();
        here + self.remotes.iter().map(|remote| remote.ready_bytes).sum::<u64>()
    }

    /// Whether something must be said at once: an error.
    pub(crate) fn is_urgent(&self) -> bool {
        self.remotes.iter().any(|remote| remote.is_urgent)
            || self.parts.iter().any(|part| part.ready_bytes == URGENT_BYTES && !part.has_ended)
    }
}

/// Stands for "look at this part at once": its error is to be reported.
pub(crate) const URGENT_BYTES: u64 = 1 << 40;

/// A partition's note of who waits for more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watcher {
    pub(crate) reader: ReaderId,
    pub(crate) part: u32,
}

/// All readers of one shard.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    slots: Vec<(u32, Option<Box<Reader>>)>,
    free: Vec<u32>,
    deadlines: BTreeSet<(u64, ReaderId)>,
    watches: BTreeMap<(ShardId, u64), ReaderId>,
    /// Readers to look at before the turn ends.
    pub(crate) woken: Vec<ReaderId>,
    /// Readers for which memory was short, to look at with the next tick.
    pub(crate) hungry: Vec<ReaderId>,
}

impl Readers {
    /// A new reader; not watching anything yet.
    pub(crate) fn add(&mut self, kind: Kind, parts: Vec<Part>, remotes: Vec<Remote>) -> ReaderId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (life, place) = &mut self.slots[slot as usize];
        *life += 1;
        let id = ReaderId { slot, life: *life };
        *place = Some(Box::new(Reader {
            id,
            kind,
            parts,
            remotes,
            gather: None,
            rotation: 0,
            is_stalled: false,
            is_due: false,
            is_ending: false,
        }));
        match kind {
            Kind::Fetch { deadline_us, .. } => {
                self.deadlines.insert((deadline_us, id));
            }
            Kind::Shard { from, watch } => {
                self.watches.insert((from, watch), id);
            }
            Kind::Subscription { .. } => {}
        }
        id
    }

    /// The reader, if that life of it goes on.
    pub(crate) fn get_mut(&mut self, id: ReaderId) -> Option<&mut Reader> {
        match self.slots.get_mut(id.slot as usize) {
            Some((life, Some(reader))) if *life == id.life => Some(reader),
            _ => None,
        }
    }

    /// Takes the reader out, to work on it and the shard at once; [`Readers::put_back`] follows, or it has ended.
    pub(crate) fn take(&mut self, id: ReaderId) -> Option<Box<Reader>> {
        self.get_mut(id)?;
        self.slots[id.slot as usize].1.take()
    }

    /// Puts back what was taken.
    pub(crate) fn put_back(&mut self, reader: Box<Reader>) {
        let slot = reader.id.slot as usize;
        self.slots[slot].1 = Some(reader);
    }

    /// Ends a reader that was taken.
    pub(crate) fn end(&mut self, reader: &Reader) {
        match reader.kind {
            Kind::Fetch { deadline_us, .. } => {
                self.deadlines.remove(&(deadline_us, reader.id));
            }
            Kind::Shard { from, watch } => {
                self.watches.remove(&(from, watch));
            }
            Kind::Subscription { .. } => {}
        }
        self.free.push(reader.id.slot);
    }

    /// The reader of another shard's watch.
    pub(crate) fn of_watch(&self, from: ShardId, watch: u64) -> Option<ReaderId> {
        self.watches.get(&(from, watch)).copied()
    }

    /// Fetches whose deadline has come, each once.
    pub(crate) fn expired(&mut self, now: Now) -> Option<ReaderId> {
        let &(deadline_us, id) = self.deadlines.first()?;
        if deadline_us > now.mono_us {
            return None;
        }
        self.deadlines.pop_first();
        Some(id)
    }

    /// When the next deadline comes.
    pub(crate) fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.first().map(|&(deadline_us, _)| deadline_us)
    }

    /// All readers there are.
    pub(crate) fn ids(&self) -> Vec<ReaderId> {
        self.slots.iter().filter_map(|(_, reader)| reader.as_ref().map(|reader| reader.id)).collect()
    }
}

/// An empty answer about a partition, to be filled.
pub(crate) fn nothing_of(part: &Part) -> FetchedPart {
    FetchedPart {
        partition: part.wanted.partition,
        error: None,
        high_watermark: cutwater_model::Offset(-1),
        log_start: cutwater_model::Offset(-1),
        memory: Vec::new(),
        bytes: Vec::new(),
    }
}

impl ReaderId {
    /// As one number, for other shards.
    pub(crate) const fn number(self) -> u64 {
        (self.slot as u64) << 32 | self.life as u64
    }

    /// Back from one number.
    pub(crate) const fn from_number(number: u64) -> Self {
        Self { slot: (number >> 32) as u32, life: number as u32 }
    }
}
