//! One partition of a producer: the batch being filled, and those on their way, in order.
//!
//! Nothing overtakes: batches are sent in the order they were sealed, and when one is refused for now or its
//! connection breaks, no further one is sent until all that are in flight were answered; then all unacknowledged ones
//! are sent again, oldest first, with the numbers they had. The node's window drops those it has already.
//!
//! After a refusal for good the numbers can't go on: the refused batch has left a gap, or, where the disk failed, may
//! be in the log after all. Then the lane goes on under another id, and batches whose fate nobody knows are given up,
//! because under another id the node could not tell that it has them.

use std::collections::VecDeque;

use cutwater_model::builder::{BatchBuilder, Sequence, renumber};
use cutwater_model::{ErrorKind, Offset, PartitionId, ProducerEpoch, ProducerId};
use cutwater_native::Failure;

use crate::backoff::Backoff;
use crate::producer::report::DeliveryError;

/// Who numbers a lane's batches.
pub(crate) type Identity = (ProducerId, ProducerEpoch);

/// What has become of a sealed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// To be sent, perhaps again.
    Waiting,
    /// Sent on the connection that is up.
    InFlight,
    /// Done; reported when all before it are.
    Settled(Result<Option<Offset>, DeliveryError>),
}

/// A sealed batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// What the caller gave with each record.
    pub(crate) tokens: Vec<u64>,
    /// What counts against the buffer's bound.
    pub(crate) charged: usize,
    pub(crate) begun_us: u64,
    pub(crate) sent_us: u64,
    /// The numbers it carries, if any yet.
    numbered: Option<(Identity, i32)>,
    /// Whether it was ever sent, so that the node may have it.
    pub(crate) was_sent: bool,
    /// Whether its last answer was lost with its connection.
    is_uncertain: bool,
    fate: Option<Fate>,
}

impl Batch {
    pub(crate) fn fate(&self) -> Fate {
        self.fate.unwrap_or(Fate::Waiting)
    }

    fn records(&self) -> u32 {
        self.tokens.len() as u32
    }
}

/// One partition. See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) partition: PartitionId,
    /// The place of its connection.
    pub(crate) link: usize,
    pub(crate) builder: BatchBuilder,
    pub(crate) open_tokens: Vec<u64>,
    pub(crate) open_charged: usize,
    pub(crate) open_since_us: u64,
    pub(crate) queue: VecDeque<Batch>,
    /// The serial of the batch at the front of the queue.
    pub(crate) front_serial: u32,
    pub(crate) in_flight: usize,
    /// Whether nothing is sent until what is in flight was answered.
    pub(crate) is_draining: bool,
    /// Nothing is sent before.
    pub(crate) retry_at_us: u64,
    pub(crate) backoff: Backoff,
    /// Whether the producer's list of lanes with something to send holds this one.
    pub(crate) is_listed: bool,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Whether the node has appended a batch under this identity.
    is_known: bool,
    /// The numbers can't go on: once the lane has drained it needs another identity.
    is_disowned: bool,
}

/// What else an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The shard map is stale.
    pub(crate) map_is_stale: bool,
    /// The lane needs another identity.
    pub(crate) is_disowned: bool,
}

impl Lane {
    pub(crate) fn new(partition: PartitionId, link: usize, batch_bytes_max: u32, backoff: Backoff) -> Self {
        Self {
            partition,
            link,
            builder: BatchBuilder::new(batch_bytes_max),
            open_tokens: Vec::new(),
            open_charged: 0,
            open_since_us: 0,
            queue: VecDeque::new(),
            front_serial: 0,
            in_flight: 0,
            is_draining: false,
            retry_at_us: 0,
            backoff,
            is_listed: false,
            identity: None,
            next_sequence: 0,
            is_known: false,
            is_disowned: false,
        }
    }

    /// Puts a sealed batch at the end of the queue.
    pub(crate) fn push(&mut self, mut batch: Batch) {
        batch.numbered = None;
        batch.was_sent = false;
        batch.is_uncertain = false;
        batch.fate = Some(Fate::Waiting);
        self.queue.push_back(batch);
    }

    /// The topic of that name is another one now, which knows nothing of this producer.
    pub(crate) fn move_to(&mut self, partition: PartitionId) {
        if self.partition != partition {
            self.partition = partition;
            self.is_known = false;
        }
    }

    /// Whether some batch waits to be sent.
    pub(crate) fn has_waiting(&self) -> bool {
        self.queue.iter().any(|batch| batch.fate() == Fate::Waiting)
    }

    /// Whether the next batch needs an identity that the lane does not have.
    pub(crate) fn wants_identity(&self) -> bool {
        self.identity.is_none()
    }

    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.is_known = false;
        self.is_disowned = false;
    }

    /// Whether the lane may go on sending: not while it drains, or waits after a refusal.
    pub(crate) fn may_send(&mut self, now_us: u64) -> bool {
        if self.is_draining && self.in_flight == 0 && now_us >= self.retry_at_us {
            self.is_draining = false;
            if self.is_disowned {
                self.disown();
            }
        }
        !self.is_draining
    }

    /// The next batch to send, numbered where the lane has an identity, with its serial.
    pub(crate) fn next_to_send(&mut self, in_flight_max: usize) -> Option<(u32, &mut Batch)> {
        // The node takes any number from a producer that it does not know yet. So the first batch goes alone: one
        // that overtook it, because it was refused for now, would be taken for the first.
        let in_flight_max = if self.identity.is_some() && !self.is_known { 1 } else { in_flight_max };
        if self.in_flight >= in_flight_max {
            return None;
        }
        let at = self.queue.iter().position(|batch| batch.fate() == Fate::Waiting)?;
        let serial = self.front_serial.wrapping_add(at as u32);
        let batch = self.queue.get_mut(at)?;
        if let Some(identity) = self.identity
            && batch.numbered.is_none()
        {
            number(batch, identity, self.next_sequence);
            self.next_sequence = sequence_after(self.next_sequence, batch.records());
        }
        Some((serial, batch))
    }

    /// The batch of that serial was handed to its connection.
    pub(crate) fn on_sent(&mut self, serial: u32, now_us: u64, is_answered: bool) {
        let Some(batch) = self.batch_mut(serial) else { return };
        batch.sent_us = now_us;
        batch.was_sent = true;
        batch.fate = Some(if is_answered { Fate::InFlight } else { Fate::Settled(Ok(None)) });
        self.in_flight += usize::from(is_answered);
    }

    /// The node has answered for a batch.
    pub(crate) fn on_answer(&mut self, serial: u32, answer: Result<Offset, Failure>, now_us: u64) -> Hint {
        let position = serial.wrapping_sub(self.front_serial) as usize;
        let Some(batch) = self.queue.get(position).filter(|batch| batch.fate() == Fate::InFlight) else {
            return Hint::default();
        };
        let (is_numbered, is_uncertain) = (batch.numbered.is_some(), batch.is_uncertain);
        self.in_flight -= 1;
        let failure = match answer {
            Ok(offset) => {
                self.backoff.reset();
                self.is_known = true;
                self.settle(position, Ok(Some(offset)));
                return Hint::default();
            }
            Err(failure) => failure,
        };
        let kind = failure.kind();
        // A gap is the echo of a refusal before it: that one is sent again first, then this.
        let is_echo = kind == Some(ErrorKind::OutOfOrderSequenceNumber)
            && (self.is_draining || self.has_unsettled_before(position));
        if kind == Some(ErrorKind::DuplicateSequenceNumber) {
            self.is_known = true;
            self.settle(position, Ok(None));
        } else if failure.is_retriable || is_echo {
            self.set_waiting(position, is_echo);
            let wait_us = if is_echo { 0 } else { self.backoff.next_us() };
            self.drain_until(now_us + wait_us);
        } else {
            // An earlier try may have been appended before it was refused this time.
            let error = if is_uncertain { DeliveryError::Unknown } else { DeliveryError::Refused(failure) };
            self.settle(position, Err(error));
            if is_numbered {
                self.is_disowned = true;
                self.drain_until(now_us);
            }
        }
        let map_is_stale = kind == Some(ErrorKind::NotLeaderOrFollower);
        Hint { map_is_stale, is_disowned: self.is_disowned }
    }

    /// The connection broke: whatever was in flight is sent again once it stands again.
    pub(crate) fn on_link_down(&mut self) {
        for batch in &mut self.queue {
            if batch.fate() == Fate::InFlight {
                batch.fate = Some(Fate::Waiting);
                batch.is_uncertain = true;
            }
        }
        self.in_flight = 0;
        self.is_draining = self.is_disowned;
    }

    /// Settles what was begun before `begun_before_us` as failed. Returns whether any was.
    pub(crate) fn expire(&mut self, begun_before_us: u64) -> bool {
        let Some(front) = self.queue.iter().find(|batch| !matches!(batch.fate(), Fate::Settled(_))) else {
            return false;
        };
        if front.begun_us >= begun_before_us {
            return false;
        }
        if front.was_sent {
            // Nobody knows which of those that were sent the node has, so none of them may be sent under other
            // numbers: all are given up, and what follows begins anew with another id.
            self.give_up(|batch| batch.was_sent, DeliveryError::Unknown);
            self.identity = None;
            for batch in &mut self.queue {
                batch.numbered = None;
            }
        } else {
            self.give_up(|batch| !batch.was_sent && batch.begun_us < begun_before_us, DeliveryError::NotSent);
        }
        true
    }

    /// Settles all that match as failed.
    pub(crate) fn give_up(&mut self, which: impl Fn(&Batch) -> bool, error: DeliveryError) {
        for batch in &mut self.queue {
            if matches!(batch.fate(), Fate::Settled(_)) || !which(batch) {
                continue;
            }
            self.in_flight -= usize::from(batch.fate() == Fate::InFlight);
            batch.fate = Some(Fate::Settled(Err(error)));
        }
    }

    /// When the oldest batch in flight was sent.
    pub(crate) fn oldest_sent_us(&self) -> Option<u64> {
        self.queue.iter().find(|batch| batch.fate() == Fate::InFlight).map(|batch| batch.sent_us)
    }

    /// Whether the batch at the front has something to report.
    pub(crate) fn is_front_settled(&self) -> bool {
        self.queue.front().is_some_and(|batch| matches!(batch.fate(), Fate::Settled(_)))
    }

    /// Takes the batch at the front if it is settled, so that reports come in order.
    pub(crate) fn pop_settled(&mut self) -> Option<(Batch, Result<Option<Offset>, DeliveryError>)> {
        let Fate::Settled(outcome) = self.queue.front()?.fate() else { return None };
        self.front_serial = self.front_serial.wrapping_add(1);
        Some((self.queue.pop_front()?, outcome))
    }

    fn batch_mut(&mut self, serial: u32) -> Option<&mut Batch> {
        self.queue.get_mut(serial.wrapping_sub(self.front_serial) as usize)
    }

    fn settle(&mut self, position: usize, outcome: Result<Option<Offset>, DeliveryError>) {
        if let Some(batch) = self.queue.get_mut(position) {
            batch.fate = Some(Fate::Settled(outcome));
        }
    }

    /// `is_absent`: the node has said that it does not have the batch, whatever became of earlier tries.
    fn set_waiting(&mut self, position: usize, is_absent: bool) {
        if let Some(batch) = self.queue.get_mut(position) {
            batch.is_uncertain &= !is_absent;
            batch.fate = Some(Fate::Waiting);
        }
    }

    fn has_unsettled_before(&self, position: usize) -> bool {
        self.queue.iter().take(position).any(|batch| !matches!(batch.fate(), Fate::Settled(_)))
    }

    fn drain_until(&mut self, at_us: u64) {
        self.is_draining = true;
        self.retry_at_us = self.retry_at_us.max(at_us);
    }

    /// Gives up the identity, and what the node may have under it.
    fn disown(&mut self) {
        self.identity = None;
        self.is_disowned = false;
        self.give_up(|batch| batch.is_uncertain, DeliveryError::Unknown);
        for batch in &mut self.queue {
            batch.numbered = None;
        }
    }
}

fn number(batch: &mut Batch, identity: Identity, base_sequence: i32) {
    let (producer_id, producer_epoch) = identity;
    if batch.numbered != Some((identity, base_sequence)) {
        renumber(&mut batch.bytes, Sequence { producer_id, producer_epoch, base_sequence });
        batch.numbered = Some((identity, base_sequence));
    }
}

/// Numbers go on with 0 after the largest one.
const fn sequence_after(sequence: i32, records: u32) -> i32 {
    ((sequence as u32).wrapping_add(records) & i32::MAX as u32) as i32
}
