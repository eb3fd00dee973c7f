//! All that one core owns, and the one door into it: [`Shard::handle`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use cutwater_api::{ConnectionId, Request, Response, Ticket};
use cutwater_journal::Sequence;
use cutwater_log::Pages;
use cutwater_metadata::Image;
use cutwater_model::storage::StorageErrorKind;
use cutwater_model::{ErrorKind, Now, Slab};

use crate::checkpoint::Checkpoints;
use crate::commit::Commit;
use crate::config::Config;
use crate::connection::Connections;
use crate::counters::Counters;
use crate::effect::{Effect, Effects, OpId, Pin};
use crate::files::Files;
use crate::input::Input;
use crate::landing::Landings;
use crate::ops::Ops;
use crate::partition::{Partitions, Slot};
use crate::pins::Pins;
use crate::readers::{ReaderId, Readers};
use crate::settle::Settle;
use crate::stages::Stages;
use crate::topics::Departures;

/// All that one core owns: partitions, journal, payload memory, and who waits for what.
///
/// It does no I/O, reads no clock and waits for nothing: the pump of its core hands it inputs and carries out the
/// effects. It owns its slab; the shell touches only ranges that an effect in flight names.
#[derive(Debug)]
pub struct Shard {
    pub(crate) config: Config,
    pub(crate) slab: Slab,
    pub(crate) pages: Pages,
    pub(crate) partitions: Partitions,
    pub(crate) commit: Commit,
    pub(crate) connections: Connections,
    pub(crate) readers: Readers,
    pub(crate) searches: crate::list_offsets::Searches,
    /// Room for what other shards bring.
    pub(crate) room: crate::collect::Room,
    pub(crate) pins: Pins,
    pub(crate) ops: Ops<Purpose>,
    pub(crate) files: Files,
    pub(crate) settle: Settle,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) departures: Departures,
    pub(crate) image: Arc<Image>,
    pub(crate) counters: Counters,
    pub(crate) stages: Stages,
    /// Partitions whose high watermark has moved and that somebody watches.
    pub(crate) woken: Vec<Slot>,
    /// Partitions with batches that wait for room.
    pub(crate) deferring: Vec<Slot>,
    /// What these batches take.
    pub(crate) deferred_bytes: u64,
    /// Partitions whose durable bulk batches wait for room in a group.
    pub(crate) referring: Vec<Slot>,
    pub(crate) landings: Landings,
    pub(crate) scratch: Vec<u8>,
    /// The moment of the input that is being handled.
    pub(crate) now: Now,
    pub(crate) reads_in_flight: usize,
    pub(crate) is_stopping: bool,
    pub(crate) has_stopped: bool,
}

/// What a disk operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A group of the journal.
    Group(Sequence),
    /// A write of a large batch of a partition.
    Bulk(Slot, u32, u32),
    /// Making files: segments, journal files, pool.
    Files(crate::files::Step),
    /// Write-backs and flushes of segments.
    Settle(crate::settle::Step),
    /// Part of a checkpoint.
    Checkpoint(crate::checkpoint::Step),
    /// A cold read.
    Read(ReaderId, u32),
    /// A cold read of a search for an offset.
    Search(u64),
}

impl Shard {
    #[allow(clippy::too_many_arguments, reason = "the parts a start has made, each once")]
    pub(crate) fn new(
        config: Config,
        slab: Slab,
        pages: Pages,
        partitions: Partitions,
        commit: Commit,
        files: Files,
        checkpoints: Checkpoints,
        now: Now,
    ) -> Self {
        Self {
            config,
            slab,
            pages,
            partitions,
            commit,
            connections: Connections::default(),
            readers: Readers::default(),
            searches: crate::list_offsets::Searches::default(),
            room: crate::collect::Room::new(config.shards),
            landings: Landings::default(),
            pins: Pins::default(),
            ops: Ops::default(),
            files,
            settle: Settle::default(),
            checkpoints,
            departures: Departures::default(),
            image: Arc::new(Image::default()),
            counters: Counters::default(),
            stages: Stages::default(),
            woken: Vec::new(),
            deferring: Vec::new(),
            deferred_bytes: 0,
            referring: Vec::new(),
            scratch: Vec::new(),
            now,
            reads_in_flight: 0,
            is_stopping: false,
            has_stopped: false,
        }
    }

    /// Takes one input and appends what is to be done.
    ///
    /// Never panics on anything a peer or the disk may say. `now` must not go back on its monotonic clock.
    pub fn handle(&mut self, input: Input<'_>, now: Now, effects: &mut Effects) {
        self.now = now;
        match input {
            Input::Produce { ticket, produce } => self.produce(ticket, produce, now, effects),
            Input::Request { ticket, request } => self.on_request(ticket, request, now, effects),
            Input::DiskDone { op, result } => self.on_disk_done(op, result, now, effects),
            Input::Landed { ticket, landing } => self.on_landed(ticket, landing, now, effects),
            Input::Abandoned(landing) => self.on_abandoned(landing),
            Input::SendDone(pin) => self.on_send_done(pin, effects),
            Input::ShardMessages { from, message } => self.on_message(from, message, now, effects),
            Input::Opened(connection) => self.connections.open(connection),
            Input::Ended(connection) => self.on_ended(connection, now, effects),
            Input::Closed(connection) => self.on_closed(connection, effects),
            Input::Metadata(image) => self.on_metadata(image, now, effects),
            Input::ControlDone { ticket, response } => self.answer(ticket, response, None, effects),
            Input::Tick => self.on_tick(now, effects),
            Input::Continue => self.on_continue(now, effects),
            Input::Stop => self.on_stop(now, effects),
        }
    }

    #[inline]
    fn on_request(&mut self, ticket: Ticket, request: Request<'_>, now: Now, effects: &mut Effects) {
        if let Request::Produce(produce) = &request {
            self.produce(ticket, produce, now, effects);
            return;
        }
        self.counters.requests += 1;
        self.connections.request_begins(ticket.connection, effects);
        if self.is_stopping {
            self.answer(ticket, Response::Refused(ErrorKind::NotReady), None, effects);
            return;
        }
        match request {
            Request::Produce(_) => {}
            Request::Fetch(fetch) => self.on_fetch(ticket, fetch, now, effects),
            Request::Subscribe(subscribe) => self.on_subscribe(ticket, subscribe, now, effects),
            Request::AddCredit { subscription, bytes } => {
                self.on_credit(ticket, subscription, bytes, now, effects)
            }
            Request::Unsubscribe { subscription } => self.on_unsubscribe(ticket, subscription, effects),
            Request::ListOffsets(list) => self.on_list_offsets(ticket, list, effects),
            Request::Describe { names } => self.on_describe(ticket, &names, effects),
            Request::CreateTopic(create) => self.on_create_topic(ticket, &create, effects),
            Request::DeleteTopic { topic } => self.on_delete_topic(ticket, topic, effects),
            Request::AddPartitions { topic, partitions } => {
                self.on_add_partitions(ticket, topic, partitions, effects);
            }
            Request::AllocateProducerId => self.on_allocate_producer_id(ticket, effects),
        }
    }

    fn on_disk_done(
        &mut self,
        op: OpId,
        result: Result<u32, StorageErrorKind>,
        now: Now,
        effects: &mut Effects,
    ) {
        match self.ops.finish(op) {
            Some(Purpose::Group(sequence)) => self.on_group_done(sequence, result, now, effects),
            Some(Purpose::Bulk(slot, number, index)) => {
                self.on_bulk_done(slot, number, index, result, now, effects);
            }
            Some(Purpose::Files(step)) => self.on_files_done(step, result, now, effects),
            Some(Purpose::Settle(step)) => self.on_settle_done(step, result, now, effects),
            Some(Purpose::Checkpoint(step)) => self.on_checkpoint_done(step, result, now, effects),
            Some(Purpose::Read(reader, part)) => self.on_read_done(reader, part, result, now, effects),
            Some(Purpose::Search(number)) => self.on_search_read(number, result, now, effects),
            None => debug_assert!(false, "{op:?} is done twice, or was never asked for"),
        }
    }

    /// The turn's inputs are all in.
    fn on_continue(&mut self, now: Now, effects: &mut Effects) {
        self.submit_groups(now, effects);
        self.retry_references();
        self.retry_all_deferred(now, effects);
        self.serve_line(effects);
        self.serve_stalled(now, effects);
        self.wake_readers(now, effects);
        self.tend(now, effects);
        self.submit_groups(now, effects);
        self.stop_if_done(effects);
        self.ask_for_tick(now, effects);
    }

    fn on_tick(&mut self, now: Now, effects: &mut Effects) {
        self.expire_readers(now, effects);
        self.look_at_unsettled();
        self.on_continue(now, effects);
    }

    fn on_stop(&mut self, now: Now, effects: &mut Effects) {
        if !self.is_stopping {
            self.is_stopping = true;
            // Two, so that both copies name the end and nothing is left to replay (C1).
            self.checkpoints.wanted = 2;
        }
        self.answer_all_readers(now, effects);
        self.on_continue(now, effects);
    }

    /// Everything is durable, settled and named: the shell may end.
    fn stop_if_done(&mut self, effects: &mut Effects) {
        if !self.is_stopping || self.has_stopped {
            return;
        }
        let has_failed = self.commit.has_failed || self.checkpoints.has_failed();
        let is_done = self.commit.is_idle()
            && self.deferring.is_empty()
            && self.checkpoints.is_idle()
            && self.checkpoints.wanted == 0
            && self.settle.is_idle()
            && self.files.is_idle()
            && self.ops.len() == 0;
        if is_done || has_failed {
            self.has_stopped = true;
            effects.push(Effect::Stopped);
        }
    }

    fn ask_for_tick(&mut self, now: Now, effects: &mut Effects) {
        if let Some(deadline_us) = self.readers.next_deadline_us() {
            effects.wake_at(deadline_us);
        }
        if self.checkpoints.is_idle()
            && let Some(due_us) = self.checkpoint_due_us()
        {
            effects.wake_at(due_us.max(now.mono_us + 1000));
        }
    }

    fn on_closed(&mut self, connection: ConnectionId, effects: &mut Effects) {
        let Some(closed) = self.connections.close(connection) else { return };
        for reader in closed.readers {
            self.end_reader(reader, effects);
        }
    }

    fn on_send_done(&mut self, pin: Pin, effects: &mut Effects) {
        let Some(pinned) = self.pins.take(pin) else { return };
        for held in pinned.held {
            self.release_held(held);
        }
        self.room.release(pinned.remote_bytes);
        effects.more |= pinned.remote_bytes > 0;
        self.connections.uncharge(pinned.connection, pinned.bytes, effects);
    }

    /// Sends an answer, and counts the request as dealt with.
    pub(crate) fn answer(
        &mut self,
        ticket: Ticket,
        response: Response,
        pin: Option<Pin>,
        effects: &mut Effects,
    ) {
        self.connections.request_ends(ticket.connection, effects);
        effects.push(Effect::Reply { ticket, response: alloc::boxed::Box::new(response), pin });
    }

    /// What the shard has counted so far; levels as of now.
    pub fn counters(&mut self) -> &Counters {
        self.counters.journal_used_bytes = self.commit.journal.used_bytes();
        self.counters.journal_total_bytes = self.commit.journal.total_bytes();
        self.counters.memory_used_bytes = u64::from(self.pages.used_bytes());
        self.counters.partitions = self.partitions.len() as u64;
        &self.counters
    }

    /// How long the stages of appends took.
    #[must_use]
    pub const fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Disk operations under way.
    #[must_use]
    pub fn ops_in_flight(&self) -> usize {
        self.ops.len()
    }

    /// Answers on their way to peers that hold payload memory.
    #[must_use]
    pub fn pins_held(&self) -> usize {
        self.pins.len()
    }

    /// Whether nobody waits: no request, no batch, no group, no checkpoint is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.ops.len() == 0
            && self.pins.len() == 0
            && self.commit.is_idle()
            && self.deferring.is_empty()
            && self.referring.is_empty()
            && self.checkpoints.is_idle()
            && self.settle.is_idle()
            && self.files.is_idle()
    }

    /// The payload memory, for the shell.
    #[must_use]
    pub const fn slab(&mut self) -> &mut Slab {
        &mut self.slab
    }
}
