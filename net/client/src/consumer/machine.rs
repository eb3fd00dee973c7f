//! What a consumer decides: what to ask on which connection, and where each partition goes on. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};

use cutwater_api::{
    Fetch, FetchPart, ListOffsets, ListOffsetsPart, OffsetSpec, Request, Subscribe, SubscriptionId,
};
use cutwater_model::{ErrorKind, Offset, PartitionId, ShardId};
use cutwater_native::api::fetch::FetchedView;
use cutwater_native::api::list_offsets::ListedOffsetsView;
use cutwater_native::{Answer, Failure};

use super::config::{ConsumerConfig, StartAt};
use super::error::{ReadError, ReadFault};
use super::records::{BatchReader, BatchRecords};
use crate::codec::Decompressor;
use crate::error::{ClientError, LinkFault};
use crate::links::Links;
use crate::session::Event;
use crate::wire::{LinkId, Wire};

/// Kinds of requests, in the upper half of a token; the lower half is the round they belong to.
const UNSUBSCRIBE: u64 = 0;
const OFFSETS: u64 = 1;
const SUBSCRIBE: u64 = 2;
const FETCH: u64 = 3;
/// How long to wait before a partition, or a connection's reading, that was refused for now is tried again.
const RETRY_US: u64 = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The offset is to be looked up.
    Unresolved(StartAt),
    /// Read from its position.
    Reading,
    /// Stopped by an error until the caller seeks.
    Stopped,
}

#[derive(Debug)]
struct Part {
    partition: PartitionId,
    link: usize,
    state: State,
    is_paused: bool,
    position: Offset,
    high_watermark: Option<Offset>,
}

impl Part {
    fn is_read(&self) -> bool {
        self.state == State::Reading && !self.is_paused
    }
}

/// The reading of one connection. Whatever changes what is read begins another round; what belongs to an older one is
/// dropped when it comes.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    round: u32,
    /// The request of this round was sent.
    is_asked: bool,
    /// A subscription of this connection's life stands, or was asked for.
    subscribed: Option<SubscriptionId>,
    /// Offsets were asked for and not yet told.
    asks_offsets: bool,
    /// Bytes dealt with that the node has not been told of.
    owed_bytes: u32,
    not_before_us: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    config: ConsumerConfig,
    links: Links,
    readings: Vec<Reading>,
    parts: Vec<Part>,
    places: BTreeMap<PartitionId, usize>,
    reader: BatchReader,
    errors: VecDeque<ReadError>,
}

impl Machine {
    pub(super) fn new(config: ConsumerConfig) -> Self {
        Self {
            config,
            links: Links::default(),
            readings: Vec::new(),
            parts: Vec::new(),
            places: BTreeMap::new(),
            reader: BatchReader {
                decompressor: Decompressor::new(config.inflated_bytes_max),
                checks_crc: config.checks_crc,
                wants_dense: config.wants_dense,
            },
            errors: VecDeque::new(),
        }
    }

    // What is read.

    pub(super) fn assign(&mut self, partition: PartitionId, shard: ShardId, start: StartAt) {
        if self.places.contains_key(&partition) {
            return self.seek(partition, start);
        }
        let link = self.links.place_of(Some(shard));
        self.readings.resize(self.links.len(), Reading::default());
        self.places.insert(partition, self.parts.len());
        let (state, position) = begin(start);
        self.parts.push(Part { partition, link, state, is_paused: false, position, high_watermark: None });
        self.restart(link);
    }

    pub(super) fn unassign(&mut self, partition: PartitionId) {
        let Some(place) = self.places.remove(&partition) else { return };
        let part = self.parts.swap_remove(place);
        if let Some(moved) = self.parts.get(place) {
            self.places.insert(moved.partition, place);
        }
        self.restart(part.link);
    }

    pub(super) fn seek(&mut self, partition: PartitionId, start: StartAt) {
        if let Some(part) = self.part_mut(partition) {
            (part.state, part.position) = begin(start);
            let link = part.link;
            self.restart(link);
        }
    }

    pub(super) fn set_paused(&mut self, partition: PartitionId, is_paused: bool) {
        if let Some(part) = self.part_mut(partition).filter(|part| part.is_paused != is_paused) {
            part.is_paused = is_paused;
            let link = part.link;
            self.restart(link);
        }
    }

    pub(super) fn position(&self, partition: PartitionId) -> Option<Offset> {
        let part = &self.parts[*self.places.get(&partition)?];
        (!matches!(part.state, State::Unresolved(_))).then_some(part.position)
    }

    pub(super) fn high_watermark(&self, partition: PartitionId) -> Option<Offset> {
        self.parts[*self.places.get(&partition)?].high_watermark
    }

    pub(super) fn next_error(&mut self) -> Option<ReadError> {
        self.errors.pop_front()
    }

    pub(super) fn last_fault(&self) -> Option<LinkFault> {
        self.links.last_fault()
    }

    fn part_mut(&mut self, partition: PartitionId) -> Option<&mut Part> {
        self.parts.get_mut(*self.places.get(&partition)?)
    }

    /// Begins another round on a connection.
    fn restart(&mut self, link: usize) {
        let reading = &mut self.readings[link];
        reading.round = reading.round.wrapping_add(1);
        reading.is_asked = false;
        reading.asks_offsets = false;
        reading.owed_bytes = 0;
    }

    // Bytes out.

    /// Queues all that is due. Returns when the next thing is.
    pub(super) fn drive(&mut self, wire: &mut impl Wire, now_us: u64) -> Result<u64, ClientError> {
        let mut due_us = self.links.drive(wire, now_us)?.unwrap_or(u64::MAX);
        for link in 0..self.readings.len() {
            let reading = self.readings[link];
            if reading.not_before_us > now_us {
                due_us = due_us.min(reading.not_before_us);
            } else if self.links.is_up(link) {
                self.ask_offsets(link, wire);
                self.ask_records(link, wire);
                self.give_credit(link, wire);
            }
        }
        Ok(due_us)
    }

    fn ask_offsets(&mut self, link: usize, wire: &mut impl Wire) {
        if self.readings[link].asks_offsets {
            return;
        }
        let unresolved = self.parts.iter().filter(|part| part.link == link);
        let parts: Vec<ListOffsetsPart> = unresolved
            .filter_map(|part| {
                let State::Unresolved(start) = part.state else { return None };
                let spec = match start {
                    StartAt::Latest => OffsetSpec::Latest,
                    StartAt::Time(time) => OffsetSpec::At(time),
                    StartAt::Earliest | StartAt::Offset(_) => OffsetSpec::Earliest,
                };
                Some(ListOffsetsPart { partition: part.partition, spec })
            })
            .collect();
        if parts.is_empty() {
            return;
        }
        let token = token(OFFSETS, self.readings[link].round);
        if let Some(session) = self.links.session(link, wire) {
            self.readings[link].asks_offsets =
                session.request(token, &Request::ListOffsets(ListOffsets { parts }));
        }
    }

    fn ask_records(&mut self, link: usize, wire: &mut impl Wire) {
        let reading = &mut self.readings[link];
        // While offsets are looked up the round is about to change.
        if reading.is_asked || reading.asks_offsets {
            return;
        }
        let Some(session) = self.links.session(link, wire) else { return };
        if let Some(subscription) = reading.subscribed.take() {
            session.request(token(UNSUBSCRIBE, reading.round), &Request::Unsubscribe { subscription });
        }
        let bytes_max = self.config.partition_bytes_max;
        let read = self.parts.iter().filter(|part| part.link == link && part.is_read());
        let parts: Vec<FetchPart> = read
            .map(|part| FetchPart { partition: part.partition, offset: part.position, bytes_max })
            .collect();
        reading.is_asked = true;
        if parts.is_empty() {
            return;
        }
        if self.config.is_pushed {
            let subscription = SubscriptionId(reading.round);
            let credit_bytes = self.config.credit_bytes;
            let request = Request::Subscribe(Subscribe { subscription, credit_bytes, parts });
            reading.is_asked = session.request(token(SUBSCRIBE, reading.round), &request);
            reading.subscribed = Some(subscription);
        } else {
            let wait_ms_max = self.config.fetch_wait.as_millis() as u32;
            let bytes_max = self.config.credit_bytes;
            let request = Request::Fetch(Fetch { wait_ms_max, bytes_min: 1, bytes_max, parts });
            reading.is_asked = session.request(token(FETCH, reading.round), &request);
        }
    }

    /// Tells the node what was dealt with, in portions worth a frame.
    fn give_credit(&mut self, link: usize, wire: &mut impl Wire) {
        let reading = &mut self.readings[link];
        let Some(subscription) = reading.subscribed else { return };
        if reading.owed_bytes < self.config.credit_bytes / 4 || reading.owed_bytes == 0 {
            return;
        }
        if let Some(session) = self.links.session(link, wire) {
            session.request(0, &Request::AddCredit { subscription, bytes: reading.owed_bytes });
            reading.owed_bytes = 0;
        }
    }

    pub(super) fn close(&mut self, wire: &mut impl Wire) {
        self.links.close(wire);
    }

    // Answers in.

    pub(super) fn on_event(
        &mut self,
        link: LinkId,
        event: Event<'_>,
        now_us: u64,
        on_batch: &mut impl FnMut(BatchRecords<'_>),
    ) {
        let Some(place) = self.links.place(link) else { return };
        match event {
            Event::Up(preface) => {
                self.links.on_up(link, &preface);
            }
            Event::Down(fault) => {
                self.links.on_down(link, fault, now_us);
                self.readings[place].subscribed = None;
                self.restart(place);
            }
            Event::Pushed { subscription, fetched } => {
                let reading = &mut self.readings[place];
                if reading.subscribed == Some(subscription) && reading.is_asked {
                    reading.owed_bytes = reading.owed_bytes.saturating_add(fetched.batches().len() as u32);
                    self.on_fetched(place, fetched, now_us, on_batch);
                }
            }
            Event::Answered { token, answer } => {
                self.links.on_answer(place);
                let (kind, round) = (token >> 32, token as u32);
                if round == self.readings[place].round && matches!(kind, OFFSETS | SUBSCRIBE | FETCH) {
                    self.on_answer(place, kind, &answer, now_us, on_batch);
                }
            }
        }
    }

    fn on_answer(
        &mut self,
        place: usize,
        kind: u64,
        answer: &Answer<'_>,
        now_us: u64,
        on_batch: &mut impl FnMut(BatchRecords<'_>),
    ) {
        match *answer {
            Answer::ListedOffsets(listed) if kind == OFFSETS => self.on_offsets(place, listed, now_us),
            Answer::Fetched(fetched) if kind == FETCH => {
                self.readings[place].is_asked = false;
                self.on_fetched(place, fetched, now_us, on_batch);
            }
            Answer::Refused(refusal) => self.on_refused(place, refusal.failure, now_us),
            _ => {}
        }
    }

    /// A whole request was refused: later again, or all partitions of the connection stop.
    fn on_refused(&mut self, place: usize, failure: Failure, now_us: u64) {
        self.readings[place].subscribed = None;
        if failure.is_retriable {
            self.retry(place, now_us);
            return;
        }
        for number in 0..self.parts.len() {
            if self.parts[number].link == place && self.parts[number].state != State::Stopped {
                self.stop(number, ReadFault::Refused(failure));
            }
        }
    }

    fn on_offsets(&mut self, place: usize, listed: ListedOffsetsView<'_>, now_us: u64) {
        for found in listed.parts() {
            let Some(&number) = self.places.get(&found.partition) else { continue };
            let part = &mut self.parts[number];
            if part.link != place || !matches!(part.state, State::Unresolved(_)) {
                continue;
            }
            match found.failure {
                None => {
                    part.position = found.offset;
                    part.state = State::Reading;
                }
                Some(failure) if failure.is_retriable => {
                    self.readings[place].not_before_us = now_us + RETRY_US
                }
                Some(failure) => self.stop(number, ReadFault::Refused(failure)),
            }
        }
        self.restart(place);
    }

    fn on_fetched(
        &mut self,
        place: usize,
        fetched: FetchedView<'_>,
        now_us: u64,
        on_batch: &mut impl FnMut(BatchRecords<'_>),
    ) {
        for found in fetched.parts() {
            let Some(&number) = self.places.get(&found.partition) else { continue };
            let part = &mut self.parts[number];
            if part.link != place || !part.is_read() {
                continue;
            }
            if let Some(failure) = found.failure {
                self.on_part_refused(number, failure, now_us);
                continue;
            }
            part.high_watermark = Some(found.high_watermark);
            let read = self.reader.read(
                found.partition,
                found.batches,
                found.high_watermark,
                &mut part.position,
                on_batch,
            );
            if let Err(fault) = read {
                self.stop(number, fault);
                // What the subscription still pushes of it can't be used.
                self.restart(place);
            }
        }
    }

    fn on_part_refused(&mut self, number: usize, failure: Failure, now_us: u64) {
        let place = self.parts[number].link;
        match self.config.out_of_range {
            _ if failure.is_retriable => self.retry(place, now_us),
            Some(start) if failure.kind() == Some(ErrorKind::OffsetOutOfRange) => {
                let part = &mut self.parts[number];
                (part.state, part.position) = begin(start);
                self.restart(place);
            }
            _ => {
                self.stop(number, ReadFault::Refused(failure));
                self.restart(place);
            }
        }
    }

    fn retry(&mut self, place: usize, now_us: u64) {
        self.restart(place);
        self.readings[place].not_before_us = now_us + RETRY_US;
    }

    fn stop(&mut self, number: usize, fault: ReadFault) {
        let part = &mut self.parts[number];
        part.state = State::Stopped;
        self.errors.push_back(ReadError { partition: part.partition, offset: part.position, fault });
    }
}

fn begin(start: StartAt) -> (State, Offset) {
    match start {
        StartAt::Offset(offset) => (State::Reading, offset),
        other => (State::Unresolved(other), Offset(0)),
    }
}

fn token(kind: u64, round: u32) -> u64 {
    kind << 32 | u64::from(round)
}
