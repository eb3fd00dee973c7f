//! What peers ask, and what they were answered.

use alloc::vec;
use alloc::vec::Vec;

use cutwater_api::{Announced, Fetch, FetchPart, Produce, Produced, Request, RequiredAcks, Response, Ticket};
use cutwater_model::{ErrorKind, Offset, PartitionId};

use super::shell::memory_of;
use super::{Answer, Peer, Read, Rig, offsets_in};
use crate::{Input, Landing};

impl Rig {
    /// A request, and the end of its turn.
    pub(crate) fn ask(&mut self, peer: Peer, request: Request<'_>) -> Ticket {
        let ticket = self.ask_within_turn(peer, request);
        self.turn();
        ticket
    }

    /// A request; more follows in the same turn.
    pub(crate) fn ask_within_turn(&mut self, peer: Peer, request: Request<'_>) -> Ticket {
        self.asked += 1;
        let ticket = Ticket { connection: peer.connection, correlation: self.asked };
        self.hand(peer.shard, Input::Request { ticket, request });
        ticket
    }

    /// Appends a batch to the first partition.
    pub(crate) fn produce(&mut self, batch: &[u8]) -> Ticket {
        self.produce_to(self.partition(0), batch)
    }

    pub(crate) fn produce_to(&mut self, partition: PartitionId, batch: &[u8]) -> Ticket {
        self.produce_with(self.peer, partition, RequiredAcks::Leader, batch)
    }

    pub(crate) fn produce_with(
        &mut self,
        peer: Peer,
        partition: PartitionId,
        acks: RequiredAcks,
        batch: &[u8],
    ) -> Ticket {
        self.ask(peer, Request::Produce(Produce { partition, acks, batch }))
    }

    /// A large batch begins to come to the first partition: its memory, if there is some for it.
    pub(crate) fn land(&mut self, batch: &[u8], come: usize) -> Option<Landing> {
        let partition = self.partition(0);
        let batch_bytes = batch.len() as u32;
        let announced =
            Announced { correlation: 0, partition, acks: RequiredAcks::Leader, batch_at: 32, batch_bytes };
        self.seats[0].shard.land(&announced, &batch[..come])
    }

    /// The rest of it has come.
    pub(crate) fn landed(&mut self, landing: Landing, batch: &[u8]) -> Ticket {
        let come = batch.len() - landing.missing.len as usize;
        self.seats[0].shard.slab().get_mut(landing.missing).copy_from_slice(&batch[come..]);
        self.asked += 1;
        let ticket = Ticket { connection: self.peer.connection, correlation: self.asked };
        self.hand(0, Input::Landed { ticket, landing: landing.id });
        self.turn();
        ticket
    }

    /// Reads the first partition from an offset, without waiting for more.
    pub(crate) fn fetch(&mut self, offset: i64) -> Ticket {
        let parts = vec![self.part(0, offset)];
        self.fetch_with(self.peer, Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts })
    }

    /// Reads the first partition from an offset and waits up to a second for the first byte.
    pub(crate) fn poll(&mut self, offset: i64) -> Ticket {
        let parts = vec![self.part(0, offset)];
        self.fetch_with(self.peer, Fetch { wait_ms_max: 1000, bytes_min: 1, bytes_max: 1 << 20, parts })
    }

    pub(crate) fn fetch_with(&mut self, peer: Peer, fetch: Fetch) -> Ticket {
        self.ask(peer, Request::Fetch(fetch))
    }

    /// One partition of a fetch, without a bound of its own.
    pub(crate) fn part(&self, partition: u32, offset: i64) -> FetchPart {
        FetchPart { partition: self.partition(partition), offset: Offset(offset), bytes_max: 1 << 20 }
    }

    /// The base offsets of all batches of a partition, read to its end with everything carried out.
    pub(crate) fn read_all(&mut self, partition: PartitionId) -> Vec<i64> {
        let mut offsets: Vec<i64> = Vec::new();
        let mut offset = Offset(0);
        loop {
            let parts = vec![FetchPart { partition, offset, bytes_max: 1 << 20 }];
            let fetch = Fetch { wait_ms_max: 0, bytes_min: 1, bytes_max: 1 << 20, parts };
            let ticket = self.fetch_with(self.peer, fetch);
            self.complete_all();
            let read = self.fetched(ticket).expect("a fetch that doesn't wait is answered").remove(0);
            self.sent(ticket);
            assert_eq!(read.error, None, "{partition} is read at {offset:?}");
            let Some((_, next)) = offsets_in(&read.bytes).last().copied() else { return offsets };
            offset = Offset(next);
            offsets.extend(read.offsets);
        }
    }

    /// What became of a batch: its offset, or why it was refused. `None`: it has no answer yet.
    pub(crate) fn produced(&self, ticket: Ticket) -> Option<Result<i64, ErrorKind>> {
        let produced = self.produced_whole(ticket)?;
        Some(produced.error.map_or(Ok(produced.base_offset.0), Err))
    }

    pub(crate) fn produced_whole(&self, ticket: Ticket) -> Option<Produced> {
        match self.answer(ticket)? {
            Response::Produced(produced) => Some(*produced),
            other => panic!("{other:?} is no answer to a batch"),
        }
    }

    pub(crate) fn answer(&self, ticket: Ticket) -> Option<&Response> {
        self.answers.iter().find(|answer| answer.ticket == ticket).map(|answer| &answer.response)
    }

    /// The tickets of all answers, in the order they left.
    pub(crate) fn answered(&self) -> Vec<Ticket> {
        self.answers.iter().map(|answer| answer.ticket).collect()
    }

    /// What a fetch was answered, by partition. `None`: it has no answer yet.
    pub(crate) fn fetched(&mut self, ticket: Ticket) -> Option<Vec<Read>> {
        let answer = self.answers.iter().find(|answer| answer.ticket == ticket)?;
        let Response::Fetched(fetched) = &answer.response else {
            panic!("{answer:?} is no answer to a fetch")
        };
        let slab = self.seats[answer.shard].shard.slab();
        let reads = fetched.parts.iter().map(|part| {
            let mut bytes: Vec<u8> = part.memory.iter().flat_map(|range| slab.get(*range)).copied().collect();
            bytes.extend_from_slice(&part.bytes);
            Read {
                partition: part.partition,
                error: part.error,
                high_watermark: part.high_watermark.0,
                offsets: offsets_in(&bytes).iter().map(|(base, _)| *base).collect(),
                bytes,
            }
        });
        Some(reads.collect())
    }

    /// Batch bytes in the answers of a shard that were not taken.
    pub(crate) fn untaken_bytes(&self, shard: usize) -> usize {
        let answers = self.answers.iter().filter(|answer| answer.shard == shard);
        answers.map(|answer| bytes_of(&answer.response)).sum()
    }

    /// The peers of a shard take all their answers: each with its batches.
    pub(crate) fn take_answers(&mut self, shard: usize) -> Vec<(Ticket, Response, Vec<u8>)> {
        let is_its = |answer: &Answer| answer.shard == shard;
        let (its, others) = core::mem::take(&mut self.answers).into_iter().partition(is_its);
        self.answers = others;
        self.release(its)
    }

    /// Answers that nobody will ask for again are sent, or dropped.
    pub(super) fn release(&mut self, answers: Vec<Answer>) -> Vec<(Ticket, Response, Vec<u8>)> {
        let mut released = Vec::new();
        for Answer { shard, ticket, response, pin } in answers {
            let mut bytes = self.bytes_of(shard, &memory_of(&response));
            if let Some((pin, before)) = pin {
                assert_eq!(bytes, before, "memory stays as it is until it is sent");
                self.hand(shard, Input::SendDone(pin));
            }
            if let Response::Fetched(fetched) | Response::Pushed { fetched, .. } = &response {
                fetched.parts.iter().for_each(|part| bytes.extend_from_slice(&part.bytes));
            }
            self.taken.insert(ticket);
            released.push((ticket, response, bytes));
        }
        self.turn();
        released
    }

    /// Whether a connection is paused now.
    pub(crate) fn is_paused(&self, peer: Peer) -> bool {
        let pauses = &self.seats[peer.shard].pauses;
        pauses.iter().rev().find(|(connection, _)| *connection == peer.connection).is_some_and(|it| it.1)
    }

    /// An answer was sent: its memory is not needed any more.
    pub(crate) fn sent(&mut self, ticket: Ticket) {
        let answer = self.answers.iter_mut().find(|answer| answer.ticket == ticket).expect("it was answered");
        let shard = answer.shard;
        let Some((pin, before)) = answer.pin.take() else { return };
        let ranges = memory_of(&answer.response);
        assert_eq!(self.bytes_of(shard, &ranges), before, "memory stays as it is until it is sent");
        self.hand(shard, Input::SendDone(pin));
        self.turn();
    }
}

/// Bytes of batches in an answer.
fn bytes_of(response: &Response) -> usize {
    match response {
        Response::Fetched(fetched) | Response::Pushed { fetched, .. } => {
            fetched.parts.iter().map(cutwater_api::FetchedPart::len).sum()
        }
        _ => 0,
    }
}
