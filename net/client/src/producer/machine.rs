//! What a producer decides: which batch a record joins, when it is sealed, what is sent when. No I/O, no clock.

mod answers;
mod topics;

use core::time::Duration;
use std::collections::VecDeque;

use cutwater_api::{Produce, Request, RequiredAcks};
use cutwater_model::builder::{AppendError, Sequence};
use cutwater_model::limits::{PRODUCER_REPORTS_MAX, PRODUCER_WINDOW_BATCHES};
use cutwater_model::partitioner::{Sticky, partition_of};
use cutwater_model::{Codec, Now, PartitionIndex};

use super::lane::{Batch, Identity, Lane};
use super::{Delivery, DeliveryError, OutRecord, ProducerConfig, SendError, TopicHandle};
use crate::codec::Compressor;
use crate::error::{ClientError, LinkFault};
use crate::links::Links;
use crate::wire::Wire;

/// Tokens of requests that concern no lane; a lane's token has its number in the upper half.
const DESCRIBE_TOKEN: u64 = u64::MAX - 1;
const IDENTITY_TOKEN: u64 = u64::MAX - 2;
/// How often timeouts are looked at.
const CHECK_US: u64 = 100_000;
/// How long to wait after a failed question to the node.
const ASK_AGAIN_US: u64 = 100_000;
/// How often topics are looked up again, to learn of new partitions; Kafka's clients do it as often.
const REFRESH_US: u64 = 300_000_000;
/// Sealed batches kept for their memory.
const SPARE_BATCHES: usize = 256;

#[derive(Debug)]
struct Topic {
    name: String,
    exists: Option<bool>,
    /// The lanes of its partitions, in order.
    lanes: Vec<u32>,
    sticky: Sticky,
}

/// A question to the node that is not about records.
#[derive(Clone, Copy, Debug, Default)]
struct Question {
    is_wanted: bool,
    is_asked: bool,
    not_before_us: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    config: ProducerConfig,
    links: Links,
    topics: Vec<Topic>,
    lanes: Vec<Lane>,
    /// Lanes that have something to send now.
    ready: VecDeque<u32>,
    /// Lanes that have to wait before they send again.
    delayed: Vec<u32>,
    /// Lanes with an open batch, oldest first, and when each was opened.
    lingering: VecDeque<(u32, u64)>,
    identity: Option<Identity>,
    ask_identity: Question,
    ask_topics: Question,
    /// How many of the topics the last question was about.
    topics_asked: usize,
    compressor: Compressor,
    compressed: Vec<u8>,
    spare: Vec<Batch>,
    reports: VecDeque<Delivery>,
    buffered_bytes: usize,
    next_check_us: u64,
    refresh_at_us: u64,
}

impl Machine {
    pub(super) fn new(mut config: ProducerConfig) -> Self {
        if config.is_idempotent {
            config.in_flight_max = config.in_flight_max.min(PRODUCER_WINDOW_BATCHES);
        }
        config.in_flight_max = config.in_flight_max.max(1);
        // Without answers nothing can be sent again, so numbers would serve nobody.
        config.is_idempotent &= config.acks != RequiredAcks::None;
        Self {
            compressor: Compressor::new(config.codec),
            compressed: Vec::new(),
            config,
            links: Links::default(),
            topics: Vec::new(),
            lanes: Vec::new(),
            ready: VecDeque::new(),
            delayed: Vec::new(),
            lingering: VecDeque::new(),
            identity: None,
            ask_identity: Question::default(),
            ask_topics: Question::default(),
            topics_asked: 0,
            spare: Vec::new(),
            reports: VecDeque::new(),
            buffered_bytes: 0,
            next_check_us: 0,
            refresh_at_us: u64::MAX,
        }
    }

    pub(super) fn reports(&self) -> usize {
        self.reports.len()
    }

    pub(super) fn next_delivery(&mut self) -> Option<Delivery> {
        self.reports.pop_front()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    pub(super) fn last_fault(&self) -> Option<LinkFault> {
        self.links.last_fault()
    }

    pub(super) fn why_not(&self, wire: &impl Wire, request: &'static str, timeout: Duration) -> ClientError {
        match self.links.last_fault() {
            Some(fault) => wire.link_error(fault).into(),
            None => ClientError::Timeout {
                peer: wire.link_error(LinkFault::Closed).peer,
                request,
                timeout_ms: timeout.as_millis() as u64,
            },
        }
    }

    // Records in.

    #[inline]
    pub(super) fn send(
        &mut self,
        topic: TopicHandle,
        record: &OutRecord<'_>,
        now: Now,
    ) -> Result<(), SendError> {
        if self.buffered_bytes >= self.config.buffer_bytes_max || self.reports.len() >= PRODUCER_REPORTS_MAX {
            return Err(SendError::Full { bytes: self.buffered_bytes });
        }
        let number = self.lane_of(topic, record)?;
        let timestamp = record.timestamp.unwrap_or(now.wall);
        let mut appended = self.append(number, record, timestamp);
        if matches!(appended, Err(AppendError::Full { .. }))
            && !self.lanes[number as usize].builder.is_empty()
        {
            self.seal(number, now.mono_us);
            if record.key.is_none() && record.partition.is_none() {
                self.switch(topic);
            }
            appended = self.append(number, record, timestamp);
        }
        let lane = &mut self.lanes[number as usize];
        match appended {
            Ok(()) => {}
            Err(AppendError::Full { bytes, bytes_max }) => {
                return Err(SendError::TooLarge { bytes, bytes_max });
            }
            Err(AppendError::Timestamp) => return Err(SendError::Timestamp),
        }
        if lane.open_tokens.is_empty() {
            lane.open_since_us = now.mono_us;
            self.lingering.push_back((number, now.mono_us));
        }
        lane.open_tokens.push(record.token);
        let charged = lane.builder.len() - lane.open_charged;
        lane.open_charged += charged;
        self.buffered_bytes += charged;
        Ok(())
    }

    fn append(
        &mut self,
        number: u32,
        record: &OutRecord<'_>,
        timestamp: cutwater_model::TimestampMs,
    ) -> Result<(), AppendError> {
        let builder = &mut self.lanes[number as usize].builder;
        builder.append(timestamp, record.key, record.value, record.headers)
    }

    fn lane_of(&self, topic: TopicHandle, record: &OutRecord<'_>) -> Result<u32, SendError> {
        let topic = self.topics.get(topic.0 as usize).ok_or(SendError::NoTopic)?;
        let count = topic.lanes.len() as u32;
        let PartitionIndex(index) = match (record.partition, record.key) {
            (Some(index), _) => index,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => topic.sticky.current(count),
        };
        let lane = topic.lanes.get(index as usize).copied();
        lane.ok_or(SendError::NoPartition { index, partitions: count })
    }

    fn switch(&mut self, topic: TopicHandle) {
        if let Some(topic) = self.topics.get_mut(topic.0 as usize) {
            topic.sticky.switch(topic.lanes.len() as u32);
        }
    }

    /// Completes the open batch of a lane.
    fn seal(&mut self, number: u32, now_us: u64) {
        let Some(lane) = self.lanes.get_mut(number as usize) else { return };
        if lane.builder.is_empty() {
            return;
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.bytes.clear();
        let is_compressed = self.config.codec != Codec::None && {
            let mut compressed = core::mem::take(&mut self.compressed);
            let done = self.compressor.compress(lane.builder.section(), &mut compressed).is_ok();
            if done {
                let codec = self.config.codec;
                lane.builder.finish_compressed(Sequence::NONE, codec, &compressed, &mut batch.bytes);
            }
            self.compressed = compressed;
            done
        };
        if !is_compressed {
            batch.bytes.extend_from_slice(lane.builder.finish(Sequence::NONE));
        }
        batch.tokens.clear();
        core::mem::swap(&mut batch.tokens, &mut lane.open_tokens);
        batch.charged = lane.open_charged;
        batch.begun_us = lane.open_since_us.min(now_us);
        lane.open_charged = 0;
        lane.builder.clear();
        lane.push(batch);
        self.list(number);
    }

    pub(super) fn seal_all(&mut self, now_us: u64) {
        while let Some((number, _)) = self.lingering.pop_front() {
            self.seal(number, now_us);
        }
    }

    fn list(&mut self, number: u32) {
        if let Some(lane) = self.lanes.get_mut(number as usize).filter(|lane| !lane.is_listed) {
            lane.is_listed = true;
            self.ready.push_back(number);
        }
    }

    // Bytes out.

    /// Queues all that is due. Returns when the next thing is.
    pub(super) fn drive(&mut self, wire: &mut impl Wire, now_us: u64) -> Result<u64, ClientError> {
        let mut due_us = self.links.drive(wire, now_us)?.unwrap_or(u64::MAX);
        due_us = due_us.min(self.ask(wire, now_us));
        due_us = due_us.min(self.seal_due(now_us));
        for number in core::mem::take(&mut self.delayed) {
            if self.lanes[number as usize].retry_at_us <= now_us {
                self.list(number);
            } else {
                due_us = due_us.min(self.lanes[number as usize].retry_at_us);
                self.delayed.push(number);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { break };
            self.lanes[number as usize].is_listed = false;
            self.send_lane(wire, number, now_us);
        }
        if self.buffered_bytes > 0 {
            if self.next_check_us <= now_us {
                self.next_check_us = now_us + CHECK_US;
                self.check_timeouts(wire, now_us);
            }
            due_us = due_us.min(self.next_check_us);
        }
        Ok(due_us)
    }

    /// Seals batches that have lingered long enough. Returns when the next one has.
    fn seal_due(&mut self, now_us: u64) -> u64 {
        let linger_us = self.config.linger.as_micros() as u64;
        while let Some(&(number, opened_us)) = self.lingering.front() {
            let due_us = opened_us.saturating_add(linger_us);
            if due_us > now_us {
                return due_us;
            }
            self.lingering.pop_front();
            // The batch that was opened then may have been sealed because it was full; its successor has its own entry.
            let lane = &self.lanes[number as usize];
            if !lane.builder.is_empty() && lane.open_since_us == opened_us {
                self.seal(number, now_us);
            }
        }
        u64::MAX
    }

    fn send_lane(&mut self, wire: &mut impl Wire, number: u32, now_us: u64) {
        let config = self.config;
        let Some(lane) = self.lanes.get_mut(number as usize) else { return };
        if !lane.may_send(now_us) {
            let waits = lane.in_flight == 0;
            if waits && !self.delayed.contains(&number) {
                self.delayed.push(number);
            }
            return;
        }
        if lane.is_front_settled() {
            self.report(number);
        }
        let Some(lane) = self.lanes.get_mut(number as usize) else { return };
        if config.is_idempotent && lane.wants_identity() {
            match self.identity {
                Some(identity) if lane.in_flight == 0 => lane.identify(identity),
                _ => {
                    self.ask_identity.is_wanted = self.identity.is_none();
                    return self.list(number);
                }
            }
        }
        let Some(session) = self.links.session(lane.link, wire) else { return };
        let (partition, acks) = (lane.partition, config.acks);
        let is_answered = acks != RequiredAcks::None;
        let mut is_full = false;
        while let Some((serial, batch)) = lane.next_to_send(config.in_flight_max) {
            let token = u64::from(number) << 32 | u64::from(serial);
            if !session.produce(token, &Produce { partition, acks, batch: &batch.bytes }) {
                is_full = true;
                break;
            }
            lane.on_sent(serial, now_us, is_answered);
        }
        if is_full {
            self.list(number);
        }
        if !is_answered {
            self.report(number);
        }
    }

    /// Asks the node what is not about records. Returns when to come back for it.
    fn ask(&mut self, wire: &mut impl Wire, now_us: u64) -> u64 {
        if self.refresh_at_us <= now_us {
            self.refresh_at_us = u64::MAX;
            self.ask_topics.is_wanted = true;
        }
        let mut due_us = self.refresh_at_us;
        if self.config.is_idempotent && self.identity.is_none() && self.buffered_bytes > 0 {
            self.ask_identity.is_wanted = true;
        }
        for (question, token) in
            [(&mut self.ask_identity, IDENTITY_TOKEN), (&mut self.ask_topics, DESCRIBE_TOKEN)]
        {
            if !question.is_wanted || question.is_asked {
                continue;
            }
            if question.not_before_us > now_us {
                due_us = due_us.min(question.not_before_us);
                continue;
            }
            let Some(session) = self.links.any_session(wire) else { continue };
            question.is_asked = if token == IDENTITY_TOKEN {
                session.request(token, &Request::AllocateProducerId)
            } else {
                self.topics_asked = self.topics.len();
                let names = self.topics.iter().map(|topic| topic.name.as_str()).collect();
                session.request(token, &Request::Describe { names })
            };
        }
        due_us
    }

    fn check_timeouts(&mut self, wire: &mut impl Wire, now_us: u64) {
        let request_us = self.config.request_timeout.as_micros() as u64;
        let begun_before_us = now_us.saturating_sub(self.config.delivery_timeout.as_micros() as u64);
        for number in 0..self.lanes.len() {
            let lane = &mut self.lanes[number];
            let is_silent =
                lane.oldest_sent_us().is_some_and(|sent| sent.saturating_add(request_us) <= now_us);
            let place = lane.link;
            if lane.expire(begun_before_us) {
                if self.config.is_idempotent && lane.wants_identity() {
                    self.identity = None;
                }
                self.report(number as u32);
                self.list(number as u32);
            }
            if is_silent && self.links.is_up(place) {
                self.links.give_up(place, wire, now_us);
                self.on_link_down(place);
            }
        }
    }

    /// Moves settled batches of a lane to the reports, in order.
    fn report(&mut self, number: u32) {
        let Some(lane) = self.lanes.get_mut(number as usize) else { return };
        let partition = lane.partition;
        while let Some((batch, outcome)) = lane.pop_settled() {
            self.buffered_bytes -= batch.charged;
            for (index, &token) in (0..).zip(&batch.tokens) {
                let outcome = outcome.map(|offset| offset.map(|base| base.after(index)));
                self.reports.push_back(Delivery { token, partition, outcome });
            }
            if self.spare.len() < SPARE_BATCHES {
                self.spare.push(batch);
            }
        }
    }

    pub(super) fn close(&mut self, wire: &mut impl Wire) {
        self.links.close(wire);
        for number in 0..self.lanes.len() {
            self.lanes[number].give_up(|_| true, DeliveryError::Closed);
            self.report(number as u32);
        }
    }
}

fn ask_again(now_us: u64) -> Question {
    Question { is_wanted: true, is_asked: false, not_before_us: now_us + ASK_AGAIN_US }
}
