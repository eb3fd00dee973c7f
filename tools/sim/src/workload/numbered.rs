//! A producer that numbers its batches and sends again whatever has no answer, in order, through every crash.

use std::collections::VecDeque;
use std::sync::Arc;

use cutwater_api::{Produced, RequiredAcks, Response};
use cutwater_model::builder::Sequence;
use cutwater_model::{ErrorKind, Offset, PartitionId, ProducerEpoch, ProducerId};

use super::payload::{AttemptId, build};
use super::{Client, Hands, Refused, misfit};
use crate::finding::{Checked, Finding};
use crate::oracle::{Attempt, Oracle, StreamId};
use crate::request::Sent;

/// Batches without an answer at a time: what Kafka's clients allow, and what a window remembers.
const IN_FLIGHT_MAX: usize = 5;

/// One batch on its way.
#[derive(Debug)]
struct Out {
    attempt: AttemptId,
    batch: Arc<[u8]>,
    /// Its request, while one is under way.
    correlation: Option<u32>,
}

/// Who it is for now: one id, one partition, one order.
#[derive(Debug)]
struct Identity {
    producer: ProducerId,
    epoch: ProducerEpoch,
    partition: PartitionId,
    stream: StreamId,
    place: u64,
    next_sequence: i32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Numbered {
    identity: Option<Identity>,
    asks_id: Option<u32>,
    window: VecDeque<Out>,
    /// Something was refused or lost: when all answers are in, everything is sent again.
    stalled: bool,
    /// The last batch that was acknowledged, and where.
    last: Option<(Arc<[u8]>, Offset)>,
    /// A batch that was sent again although it was acknowledged, on purpose.
    again: Option<(u32, Offset)>,
}

impl Numbered {
    fn begin(&mut self, producer: ProducerId, epoch: ProducerEpoch, hands: &mut Hands<'_>) {
        if let Some(partition) = hands.pick_partition() {
            let stream = hands.oracle.new_stream();
            self.identity = Some(Identity { producer, epoch, partition, stream, place: 0, next_sequence: 0 });
        }
    }

    /// What was sent under this identity stays in doubt; the next one is a new producer.
    fn give_up(&mut self) {
        *self = Self::default();
    }

    fn send_new(&mut self, hands: &mut Hands<'_>) {
        let Some(identity) = &mut self.identity else { return };
        let attempt = hands.oracle.next_attempt();
        let sequence = Sequence {
            producer_id: identity.producer,
            producer_epoch: identity.epoch,
            base_sequence: identity.next_sequence,
        };
        let bytes = hands.pick_bytes();
        let filling = hands.pick_filling();
        let (batch, records) = build(attempt, bytes, filling, sequence, hands.now.wall, hands.random);
        identity.place += 1;
        identity.next_sequence += records as i32;
        hands.oracle.sent(Attempt {
            partition: identity.partition,
            stream: identity.stream,
            place: identity.place,
            numbered: true,
            records,
            batch: batch.clone(),
            acked_us: None,
            bound: None,
            refused: false,
        });
        let mut out = Out { attempt, batch, correlation: None };
        Self::send(&mut out, identity.partition, hands);
        self.window.push_back(out);
    }

    fn send(out: &mut Out, partition: PartitionId, hands: &mut Hands<'_>) {
        let batch = out.batch.clone();
        out.correlation = Some(hands.ask(Sent::Produce { partition, acks: RequiredAcks::All, batch }));
    }

    fn send_all_again(&mut self, hands: &mut Hands<'_>) {
        let Some(identity) = &self.identity else { return };
        self.stalled = false;
        for out in &mut self.window {
            Self::send(out, identity.partition, hands);
        }
    }

    fn send_last_again(&mut self, hands: &mut Hands<'_>) {
        if let (Some(identity), Some((batch, base))) = (&self.identity, &self.last) {
            let sent = Sent::Produce {
                partition: identity.partition,
                acks: RequiredAcks::All,
                batch: batch.clone(),
            };
            self.again = Some((hands.ask(sent), *base));
        }
    }

    fn in_flight(&self) -> usize {
        self.window.iter().filter(|out| out.correlation.is_some()).count()
    }

    fn on_refused(&mut self, index: usize, kind: ErrorKind, hands: &mut Hands<'_>) -> Checked {
        let Some(identity) = &self.identity else { return Ok(()) };
        let partition = identity.partition;
        let is_durable = hands.oracle.is_durable(partition);
        let is_alive = hands.oracle.live_topics().any(|(id, _)| id == partition.topic);
        self.window[index].correlation = None;
        match kind {
            ErrorKind::OutOfOrderSequenceNumber | ErrorKind::UnknownProducerId if self.stalled => {}
            ErrorKind::OutOfOrderSequenceNumber | ErrorKind::UnknownProducerId
                if !is_durable || hands.oracle.rotten || hands.habits.disk_fails =>
            {
                self.give_up();
            }
            ErrorKind::UnknownTopicId | ErrorKind::UnknownTopicOrPartition if !is_alive => self.give_up(),
            ErrorKind::OutOfOrderSequenceNumber
            | ErrorKind::UnknownProducerId
            | ErrorKind::DuplicateSequenceNumber
            | ErrorKind::InvalidProducerEpoch => {
                let seen = format!("{kind:?} for {:?} of {partition}", self.window[index].attempt);
                return Err(Finding::new("retries neither duplicate nor lose", seen));
            }
            _ => match hands.judge_refusal(kind, partition)? {
                Refused::Retry => self.stalled = true,
                Refused::InDoubt => self.give_up(),
            },
        }
        Ok(())
    }

    fn on_again(&mut self, base: Offset, produced: Produced, hands: &Hands<'_>) -> Checked {
        let Some(identity) = &self.identity else { return Ok(()) };
        let partition = identity.partition;
        match produced.error {
            None if produced.base_offset == base => Ok(()),
            None => {
                let seen = format!("{partition}: {base:?} the first time, then {:?}", produced.base_offset);
                Err(Finding::new("retries neither duplicate nor lose", seen))
            }
            Some(
                ErrorKind::OutOfOrderSequenceNumber
                | ErrorKind::DuplicateSequenceNumber
                | ErrorKind::UnknownProducerId,
            ) if hands.oracle.is_durable(partition) && !hands.oracle.rotten && !hands.habits.disk_fails => {
                let seen = format!("{partition}: {base:?} the first time, then {:?}", produced.error);
                Err(Finding::new("retries neither duplicate nor lose", seen))
            }
            Some(_) => Ok(()),
        }
    }
}

impl Client for Numbered {
    fn kind(&self) -> &'static str {
        "numbered producer"
    }

    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked {
        if self.identity.is_none() {
            if self.asks_id.is_none() && !hands.winding_down {
                self.asks_id = Some(hands.ask(Sent::AllocateProducerId));
            }
            hands.rest();
            return Ok(());
        }
        if self.stalled {
            if self.in_flight() == 0 && self.again.is_none() {
                self.send_all_again(hands);
            }
        } else if hands.winding_down {
            if self.window.is_empty() {
                return Ok(());
            }
        } else if self.window.is_empty() && self.again.is_none() && hands.random.one_in(4) {
            self.send_last_again(hands);
        } else if self.again.is_none() {
            for _ in 0..hands.random.between(1, 3) {
                if self.window.len() < IN_FLIGHT_MAX {
                    self.send_new(hands);
                }
            }
        }
        if self.window.is_empty() && self.again.is_none() && hands.random.one_in(30) {
            self.give_up();
        }
        hands.leaves = !hands.winding_down && hands.random.one_in(40);
        hands.rest();
        Ok(())
    }

    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked {
        if self.asks_id == Some(correlation) {
            self.asks_id = None;
            match response {
                Response::ProducerIdAllocated(producer, epoch) => {
                    hands.oracle.on_producer(producer, epoch)?;
                    self.begin(producer, epoch, hands);
                }
                Response::Refused(_) => {}
                other => return Err(misfit("allocate producer id", &other)),
            }
            return Ok(());
        }
        let produced = match response {
            Response::Produced(produced) => produced,
            Response::Refused(kind) => Produced {
                error: Some(kind),
                base_offset: Offset(-1),
                append_time: None,
                log_start: Offset(0),
            },
            other => return Err(misfit("produce", &other)),
        };
        if let Some((_, base)) = self.again.take_if(|(number, _)| *number == correlation) {
            return self.on_again(base, produced, hands);
        }
        let Some(index) = self.window.iter().position(|out| out.correlation == Some(correlation)) else {
            // An answer to an identity that was given up.
            return Ok(());
        };
        match produced.error {
            None => {
                let Some(out) = self.window.remove(index) else { return Ok(()) };
                hands.oracle.on_acked(out.attempt, produced.base_offset, hands.now.mono_us)?;
                self.last = Some((out.batch, produced.base_offset));
                Ok(())
            }
            Some(kind) => self.on_refused(index, kind, hands),
        }
    }

    fn gone(&mut self, oracle: &mut Oracle) {
        // What a memory topic or a rotten journal has may be lost, and is new then when it is sent again.
        let may_be_lost = |it: &Identity| oracle.rotten || !oracle.is_durable(it.partition);
        self.last.take_if(|_| self.identity.as_ref().is_some_and(may_be_lost));
        self.asks_id = None;
        self.again = None;
        for out in &mut self.window {
            out.correlation = None;
        }
        self.stalled = !self.window.is_empty();
    }

    fn is_done(&self) -> bool {
        self.window.is_empty() && self.asks_id.is_none() && self.again.is_none()
    }
}
