//! A node in memory for tests: real frames, a scripted network that cuts, delays, splits and loses, all from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use cutwater_api::{
    Fetched, FetchedPart, ListedOffset, NodeFacts, OffsetSpec, Output, PartitionView, Produce, Produced,
    Request, RequiredAcks, Response, ShardMap, SubscriptionId, TopicView, TopicsView,
};
use cutwater_model::batch::stamp;
use cutwater_model::{
    Batch, ErrorKind, LeaderEpoch, Now, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId,
    ShardId, TimestampMs, TopicId,
};
use cutwater_native::frame::{self, Cut};
use cutwater_native::request::Asked;
use cutwater_native::{ServerPreface, preface, request, response};
use cutwater_ring::Wait;

use crate::error::{ClientError, LinkError, LinkFault};
use crate::session::{Event, Session};
use crate::wire::{LinkId, Wire};

pub(crate) const TOPIC: TopicId = TopicId(0xabc);
pub(crate) const TOPIC_NAME: &str = "orders";

pub(crate) fn partition(index: u32) -> PartitionId {
    PartitionId { topic: TOPIC, index: PartitionIndex(index) }
}

/// How often, in a thousand turns or requests, things go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The connection breaks before the node has read what was sent.
    pub(crate) cut_before: u64,
    /// The connection breaks after the node has acted, before its answers arrive.
    pub(crate) cut_after: u64,
    /// The node says "not now" to a batch.
    pub(crate) not_now: u64,
    /// Nothing arrives in this turn.
    pub(crate) delay: u64,
    /// Only a part of the bytes arrives in this turn.
    pub(crate) split: u64,
}

/// A batch in the log of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) base: i64,
    pub(crate) records: i64,
    pub(crate) bytes: Vec<u8>,
}

/// One partition of the node.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<Stored>,
    /// The last batches of each producer: first number, records, base offset.
    windows: BTreeMap<i64, Vec<(i32, i32, i64)>>,
}

impl Log {
    pub(crate) fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.base + batch.records)
    }

    pub(crate) fn values(&self) -> Vec<Vec<u8>> {
        let records = self.batches.iter().flat_map(|stored| {
            let batch = Batch::read(&stored.bytes).unwrap();
            batch.records().map(|record| record.unwrap().value.unwrap().to_vec()).collect::<Vec<_>>()
        });
        records.collect()
    }

    /// Appends as the engine does: a window of five batches for each producer.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<i64, ErrorKind> {
        let batch = Batch::read(bytes).map_err(|error| error.kind())?;
        batch.check_crc().map_err(|error| error.kind())?;
        let header = batch.header;
        let base = self.end();
        if header.producer_id.is_some() {
            let window = self.windows.entry(header.producer_id.0).or_default();
            let known = window.iter().find(|(first, records, _)| {
                *first == header.base_sequence && *records == header.record_count
            });
            if let Some(&(_, _, base)) = known {
                return Ok(base);
            }
            if let Some(&(first, records, _)) = window.last()
                && header.base_sequence != first + records
            {
                let is_old = header.base_sequence < first + records;
                return Err(if is_old {
                    ErrorKind::DuplicateSequenceNumber
                } else {
                    ErrorKind::OutOfOrderSequenceNumber
                });
            }
            window.push((header.base_sequence, header.record_count, base));
            if window.len() > 5 {
                window.remove(0);
            }
        }
        let mut bytes = bytes.to_vec();
        stamp(&mut bytes, Offset(base), LeaderEpoch(0));
        self.batches.push(Stored { base, records: i64::from(header.record_count), bytes });
        Ok(base)
    }
}

#[derive(Debug)]
struct Subscription {
    id: SubscriptionId,
    credit: i64,
    positions: Vec<(PartitionId, i64)>,
}

#[derive(Debug)]
struct PeerLink {
    id: LinkId,
    session: Session,
    wanted: Option<ShardId>,
    /// Bytes that the node has not read.
    inbox: Vec<u8>,
    /// Bytes that the client has not received.
    outbox: Vec<u8>,
    is_greeted: bool,
    subscription: Option<Subscription>,
}

/// The node and the network to it. See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) faults: Faults,
    pub(crate) logs: Vec<Log>,
    pub(crate) refuse_next: Vec<ErrorKind>,
    pub(crate) is_down: bool,
    pub(crate) connections: u32,
    pub(crate) produces: u32,
    shards: u16,
    links: Vec<PeerLink>,
    lost: Vec<(LinkId, LinkFault)>,
    now_us: u64,
    next_producer_id: i64,
    random: u64,
}

impl Peer {
    pub(crate) fn new(seed: u64, partitions: u32, shards: u16) -> Self {
        Self {
            faults: Faults::default(),
            logs: (0..partitions).map(|_| Log::default()).collect(),
            refuse_next: Vec::new(),
            is_down: false,
            connections: 0,
            produces: 0,
            shards,
            links: Vec::new(),
            lost: Vec::new(),
            now_us: 1,
            next_producer_id: 100,
            random: seed | 1,
        }
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn happens(&mut self, per_thousand: u64) -> bool {
        self.draw() % 1000 < per_thousand
    }

    /// Breaks all connections.
    pub(crate) fn cut_all(&mut self) {
        for link in self.links.drain(..) {
            self.lost.push((link.id, LinkFault::Closed));
        }
    }

    fn serve(&mut self, place: usize) {
        let mut link = self.links.remove(place);
        let inbox = core::mem::take(&mut link.inbox);
        let mut at = 0;
        if !link.is_greeted && inbox.len() >= preface::CLIENT_BYTES {
            at = preface::CLIENT_BYTES;
            link.is_greeted = true;
            let shard = link.wanted.filter(|shard| shard.0 < self.shards).unwrap_or(ShardId(0));
            ServerPreface::accept(NodeFacts { shard, shards: self.shards }, 1).encode(&mut link.outbox);
        }
        while link.is_greeted {
            let Cut::Whole(frame) = frame::cut(&inbox[at..], u32::MAX).unwrap() else { break };
            at += frame.bytes();
            let answer = match request::decode(&frame).unwrap() {
                Asked::Ping => None,
                Asked::Request(request) => self.answer(&mut link, &request),
            };
            if let Some(answer) = answer {
                put(&mut link.outbox, frame.correlation, &answer);
            }
        }
        link.inbox = inbox[at..].to_vec();
        self.push(&mut link);
        self.links.insert(place, link);
    }

    fn answer(&mut self, link: &mut PeerLink, request: &Request<'_>) -> Option<Response> {
        Some(match request {
            Request::Produce(produce) => {
                let produced = self.produce(produce);
                return (produce.acks != RequiredAcks::None).then_some(Response::Produced(produced));
            }
            Request::Describe { names } => Response::Topics(self.describe(names)),
            Request::AllocateProducerId => {
                self.next_producer_id += 1;
                Response::ProducerIdAllocated(ProducerId(self.next_producer_id), ProducerEpoch(0))
            }
            Request::ListOffsets(list) => {
                let found = list.parts.iter().map(|part| {
                    let log = &self.logs[part.partition.index.0 as usize];
                    let offset = if part.spec == OffsetSpec::Earliest { 0 } else { log.end() };
                    ListedOffset {
                        partition: part.partition,
                        error: None,
                        offset: Offset(offset),
                        timestamp: None,
                    }
                });
                Response::ListedOffsets(found.collect())
            }
            Request::Subscribe(subscribe) => {
                let positions = subscribe.parts.iter().map(|part| (part.partition, part.offset.0));
                link.subscription = Some(Subscription {
                    id: subscribe.subscription,
                    credit: i64::from(subscribe.credit_bytes),
                    positions: positions.collect(),
                });
                Response::Subscribed(subscribe.subscription)
            }
            Request::AddCredit { subscription, bytes } => {
                let known = link.subscription.as_mut().filter(|known| known.id == *subscription)?;
                known.credit += i64::from(*bytes);
                return None;
            }
            Request::Unsubscribe { subscription } => {
                link.subscription = None;
                Response::Unsubscribed(*subscription)
            }
            Request::Fetch(fetch) => {
                let parts = fetch.parts.iter().map(|part| self.read(part.partition, part.offset.0));
                Response::Fetched(Fetched { parts: parts.flatten().collect() })
            }
            _ => Response::Refused(ErrorKind::InvalidRequest),
        })
    }

    fn produce(&mut self, produce: &Produce<'_>) -> Produced {
        self.produces += 1;
        let refused = self.refuse_next.pop();
        let not_now = self.happens(self.faults.not_now);
        let log = &mut self.logs[produce.partition.index.0 as usize];
        let appended = match refused {
            Some(kind) => Err(kind),
            None if not_now => Err(ErrorKind::NotReady),
            None => log.append(produce.batch),
        };
        let base_offset = Offset(appended.unwrap_or(-1));
        Produced { error: appended.err(), base_offset, append_time: None, log_start: Offset(0) }
    }

    fn describe(&self, names: &[&str]) -> TopicsView {
        let partitions = (0..self.logs.len() as u32).map(|index| PartitionView {
            index: PartitionIndex(index),
            shard: ShardId(index as u16 % self.shards),
        });
        let topic = TopicView {
            name: TOPIC_NAME.to_owned(),
            id: TOPIC,
            config: cutwater_model::topic::TopicConfig::default(),
            partitions: partitions.collect(),
        };
        let topics = if names.contains(&TOPIC_NAME) { vec![topic] } else { Vec::new() };
        TopicsView { topics, shards: ShardMap { shards: self.shards, version: 1 } }
    }

    fn read(&self, partition: PartitionId, offset: i64) -> Option<FetchedPart> {
        let log = &self.logs[partition.index.0 as usize];
        let found = log.batches.iter().find(|batch| batch.base + batch.records > offset)?;
        Some(FetchedPart {
            partition,
            error: None,
            high_watermark: Offset(log.end()),
            log_start: Offset(0),
            memory: Vec::new(),
            bytes: found.bytes.clone(),
        })
    }

    /// Pushes one batch of each partition as long as there is credit.
    fn push(&mut self, link: &mut PeerLink) {
        let Some(subscription) = &mut link.subscription else { return };
        let mut parts = Vec::new();
        for (partition, position) in &mut subscription.positions {
            if subscription.credit <= 0 {
                break;
            }
            if let Some(part) = self.read(*partition, *position) {
                *position = Batch::read(&part.bytes).unwrap().header.next_offset().0;
                subscription.credit -= part.bytes.len() as i64;
                parts.push(part);
            }
        }
        if !parts.is_empty() {
            let response = Response::Pushed { subscription: subscription.id, fetched: Fetched { parts } };
            put(&mut link.outbox, 0, &response);
        }
    }

    fn lose(&mut self, place: usize) {
        let link = self.links.remove(place);
        self.lost.push((link.id, LinkFault::Closed));
    }
}

fn put(outbox: &mut Vec<u8>, correlation: u32, response: &Response) {
    let mut output = Output::default();
    response::encode(&mut output, correlation, response);
    outbox.extend_from_slice(output.bytes());
}

impl Wire for Peer {
    fn now(&self) -> Now {
        Now { mono_us: self.now_us, wall: TimestampMs(1_700_000_000_000) }
    }

    fn open(&mut self, shard: Option<ShardId>) -> Result<LinkId, ClientError> {
        self.connections += 1;
        let id = LinkId { slot: self.connections, generation: self.connections };
        if self.is_down {
            self.lost.push((id, LinkFault::ConnectTimeout));
        } else {
            self.links.push(PeerLink {
                id,
                session: Session::new(shard),
                wanted: shard,
                inbox: Vec::new(),
                outbox: Vec::new(),
                is_greeted: false,
                subscription: None,
            });
        }
        Ok(id)
    }

    fn close(&mut self, link: LinkId) {
        self.links.retain(|known| known.id != link);
    }

    fn session(&mut self, link: LinkId) -> Option<&mut Session> {
        self.links.iter_mut().find(|known| known.id == link).map(|known| &mut known.session)
    }

    fn turn(&mut self, wait: Wait, mut on_event: impl FnMut(LinkId, Event<'_>)) -> Result<(), ClientError> {
        let mut heard = false;
        let mut place = 0;
        while place < self.links.len() {
            let output = self.links[place].session.take_output(Vec::new());
            self.links[place].inbox.extend_from_slice(&output);
            if self.happens(self.faults.cut_before) {
                self.lose(place);
                continue;
            }
            self.serve(place);
            if self.happens(self.faults.cut_after) {
                self.lose(place);
                continue;
            }
            let mut arrives = self.links[place].outbox.len();
            if self.happens(self.faults.delay) {
                arrives = 0;
            } else if arrives > 0 && self.happens(self.faults.split) {
                arrives = self.draw() as usize % arrives + 1;
            }
            let link = &mut self.links[place];
            let bytes: Vec<u8> = link.outbox.drain(..arrives).collect();
            heard |= !bytes.is_empty();
            let id = link.id;
            link.session.on_bytes(&bytes, &mut |event| on_event(id, event)).unwrap();
            place += 1;
        }
        for (link, fault) in core::mem::take(&mut self.lost) {
            heard = true;
            on_event(link, Event::Down(fault));
        }
        self.now_us += match wait {
            _ if heard => 10,
            Wait::Never => 10,
            Wait::AtMost(time) => time.min(Duration::from_secs(1)).as_micros() as u64 + 1,
            Wait::Forever => 1_000_000,
        };
        Ok(())
    }

    fn link_error(&self, fault: LinkFault) -> LinkError {
        LinkError { peer: ([127, 0, 0, 1], 9644).into(), fault }
    }
}
