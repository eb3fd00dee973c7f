//! Work that shards do for each other's connections.

use alloc::vec::Vec;

use cutwater_api::{Produce, RequiredAcks};
use cutwater_model::{ErrorKind, Now, PartitionId, ShardId};

use crate::effect::Effects;
use crate::message::Message;
use crate::produce::{Asker, Incoming, Origin};
use crate::readers::{Home, Kind, ReaderId};
use crate::shard::Shard;

impl Shard {
    /// Where a partition lives, by the image.
    pub(crate) fn home_of(&self, partition: PartitionId) -> Home {
        if let Some(slot) = self.partitions.slot_of(partition) {
            return Home::Here(slot);
        }
        match self.image.shard_of(partition) {
            Some(shard) if shard != self.config.shard && shard.0 < self.config.shards => Home::There(shard),
            _ => Home::Nowhere,
        }
    }

    /// A batch for a partition that is not here goes to its shard, or is refused where there is none.
    #[cold]
    pub(crate) fn forward_produce(&mut self, asker: Asker, produce: &Produce<'_>, effects: &mut Effects) {
        let Home::There(shard) = self.home_of(produce.partition) else {
            self.refuse(asker, ErrorKind::UnknownTopicOrPartition, effects);
            return;
        };
        self.counters.requests_forwarded += 1;
        // What waits there counts here, where the connection can be paused.
        self.connections.weigh(asker.ticket.connection, produce.batch.len() as u64, effects);
        let message = Message::Produce {
            ticket: asker.ticket,
            wants_answer: produce.acks != RequiredAcks::None,
            partition: produce.partition,
            batch: produce.batch,
        };
        self.send(shard, &message, effects);
    }

    /// Sends a message to another shard.
    pub(crate) fn send(&mut self, to: ShardId, message: &Message<'_>, effects: &mut Effects) {
        let bytes = &mut effects.to_shards[usize::from(to.0)];
        let at = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        message.encode(bytes);
        let len = (bytes.len() - at - 4) as u32;
        bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// A message of another shard.
    pub(crate) fn on_message(&mut self, from: ShardId, bytes: &[u8], now: Now, effects: &mut Effects) {
        let Some(message) = Message::decode(bytes) else {
            debug_assert!(false, "shard {} sent what is no message", from.0);
            return;
        };
        match message {
            Message::Produce { ticket, wants_answer, partition, batch } => {
                let forwarded_bytes = batch.len() as u32;
                let asker = Asker { ticket, origin: Origin { shard: from, wants_answer, forwarded_bytes } };
                match self.partitions.slot_of(partition) {
                    Some(slot) => {
                        self.produce_here(asker, slot, Incoming::Received(batch), now, effects);
                    }
                    None => self.refuse(asker, ErrorKind::UnknownTopicOrPartition, effects),
                }
            }
            Message::Produced { ticket, wants_answer, bytes, produced } => {
                self.connections.unweigh(ticket.connection, u64::from(bytes), effects);
                if wants_answer {
                    self.connections.request_ends(ticket.connection, effects);
                    effects.acks.push(crate::effect::Ack { ticket, produced });
                }
            }
            Message::Watch { watch, parts } => {
                let reader = self.add_reader(Kind::Shard { from, watch }, parts, effects);
                self.readers.woken.push(reader);
            }
            Message::Ready { watch, bytes, urgent } => self.on_ready(from, watch, bytes, urgent),
            Message::Collect { watch, bytes_max, exceed_max } => match self.readers.of_watch(from, watch) {
                Some(id) => self.begin_gather(id, bytes_max, exceed_max, now, effects),
                None => self.send_nothing_collected(from, watch, effects),
            },
            Message::Collected { watch, parts, wanted } => {
                self.on_collected(from, watch, parts, wanted, now, effects);
            }
            Message::Unwatch { watch } => {
                if let Some(reader) = self.readers.of_watch(from, watch) {
                    self.end_reader(reader, effects);
                }
            }
            Message::ListOffsets { number, parts } => self.on_remote_search(from, number, parts, effects),
            Message::ListedOffsets { number, found } => self.on_remote_found(number, found, effects),
        }
    }

    /// Answers a shard that asked for a reader that is gone, or goes.
    pub(crate) fn send_nothing_collected(&mut self, to: ShardId, watch: u64, effects: &mut Effects) {
        self.send(to, &Message::Collected { watch, parts: Vec::new(), wanted: 0 }, effects);
    }

    fn on_ready(&mut self, from: ShardId, watch: u64, bytes: u64, urgent: bool) {
        let id = ReaderId::from_number(watch);
        let Some(reader) = self.readers.get_mut(id) else { return };
        for remote in reader.remotes.iter_mut().filter(|remote| remote.shard == from) {
            remote.ready_bytes = bytes;
            remote.is_urgent = urgent;
        }
        self.readers.woken.push(id);
    }

    /// Takes the message out of the way for a reader's watch on another shard.
    pub(crate) fn watch_elsewhere(&mut self, id: ReaderId, effects: &mut Effects) {
        let Some(reader) = self.readers.take(id) else { return };
        for remote in &reader.remotes {
            let there = reader.parts.iter().filter(|part| part.home == Home::There(remote.shard));
            let parts = there.map(|part| part.wanted).collect();
            self.send(remote.shard, &Message::Watch { watch: id.number(), parts }, effects);
        }
        self.readers.put_back(reader);
    }
}

#[cfg(test)]
mod tests;
