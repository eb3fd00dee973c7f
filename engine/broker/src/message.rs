//! What shards say to each other: fixed layouts, little-endian, inside one process.
//!
//! A message never leaves the process and both ends are the same build, so a message that can't be read is a fault
//! of ours; it is dropped and counted, never trusted.

use alloc::vec::Vec;

use cutwater_api::{
    ConnectionId, FetchPart, FetchedPart, ListOffsetsPart, ListedOffset, OffsetSpec, Produced, Ticket,
};
use cutwater_model::{ErrorKind, Offset, PartitionId, PartitionIndex, TimestampMs, TopicId};

/// One message, borrowing the bytes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Append this for a connection of mine.
    Produce { ticket: Ticket, wants_answer: bool, partition: PartitionId, batch: &'a [u8] },
    /// What became of it, told whether the peer wants to know or not; and how many bytes it had.
    Produced { ticket: Ticket, wants_answer: bool, bytes: u32, produced: Produced },
    /// Tell me whenever more bytes are ready behind these offsets. `watch` is mine to choose.
    Watch { watch: u64, parts: Vec<FetchPart> },
    /// So many bytes are ready in all, or something is to be said at once.
    Ready { watch: u64, bytes: u64, urgent: bool },
    /// Send what is ready, up to so many bytes, and go on watching behind it. The first batch may be as large as
    /// `exceed_max` where it is the first of the whole answer (B77). Each is answered by one [`Message::Collected`],
    /// whatever becomes of the watch.
    Collect { watch: u64, bytes_max: u32, exceed_max: u32 },
    /// What was ready. With `wanted` nothing was sent, because the first batch has that length and may not be so large.
    Collected { watch: u64, parts: Vec<FetchedPart>, wanted: u32 },
    /// Nobody waits any more.
    Unwatch { watch: u64 },
    /// Find offsets; `number` is mine to choose.
    ListOffsets { number: u64, parts: Vec<ListOffsetsPart> },
    /// The offsets, in the order asked.
    ListedOffsets { number: u64, found: Vec<ListedOffset> },
}

impl Message<'_> {
    /// Appends the message's bytes.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let mut out = Writer(into);
        match self {
            Self::Produce { ticket, wants_answer, partition, batch } => {
                out.u8(1);
                out.ticket(*ticket);
                out.u8(u8::from(*wants_answer));
                out.partition(*partition);
                out.0.extend_from_slice(batch);
            }
            Self::Produced { ticket, wants_answer, bytes, produced } => {
                out.u8(2);
                out.ticket(*ticket);
                out.u8(u8::from(*wants_answer));
                out.u32(*bytes);
                out.error(produced.error);
                out.i64(produced.base_offset.0);
                out.i64(produced.append_time.map_or(-1, |time| time.0));
                out.i64(produced.log_start.0);
            }
            Self::Watch { watch, parts } => {
                out.u8(3);
                out.u64(*watch);
                out.u32(parts.len() as u32);
                for part in parts {
                    out.partition(part.partition);
                    out.i64(part.offset.0);
                    out.u32(part.bytes_max);
                }
            }
            Self::Ready { watch, bytes, urgent } => {
                out.u8(4);
                out.u64(*watch);
                out.u64(*bytes);
                out.u8(u8::from(*urgent));
            }
            Self::Collect { watch, bytes_max, exceed_max } => {
                out.u8(5);
                out.u64(*watch);
                out.u32(*bytes_max);
                out.u32(*exceed_max);
            }
            Self::Collected { watch, parts, wanted } => {
                out.u8(6);
                out.u64(*watch);
                out.u32(*wanted);
                out.u32(parts.len() as u32);
                for part in parts {
                    out.partition(part.partition);
                    out.error(part.error);
                    out.i64(part.high_watermark.0);
                    out.i64(part.log_start.0);
                    out.u32(part.bytes.len() as u32);
                    out.0.extend_from_slice(&part.bytes);
                }
            }
            Self::Unwatch { watch } => {
                out.u8(7);
                out.u64(*watch);
            }
            Self::ListOffsets { number, parts } => {
                out.u8(8);
                out.u64(*number);
                out.u32(parts.len() as u32);
                for part in parts {
                    out.partition(part.partition);
                    let (spec, time) = match part.spec {
                        OffsetSpec::Earliest => (0, 0),
                        OffsetSpec::Latest => (1, 0),
                        OffsetSpec::At(time) => (2, time.0),
                    };
                    out.u8(spec);
                    out.i64(time);
                }
            }
            Self::ListedOffsets { number, found } => {
                out.u8(9);
                out.u64(*number);
                out.u32(found.len() as u32);
                for one in found {
                    out.partition(one.partition);
                    out.error(one.error);
                    out.i64(one.offset.0);
                    out.u8(u8::from(one.timestamp.is_some()));
                    out.i64(one.timestamp.map_or(0, |time| time.0));
                }
            }
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a message; `None` where the bytes are none.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut input = Reader(bytes);
        let message = match input.u8()? {
            1 => Self::Produce {
                ticket: input.ticket()?,
                wants_answer: input.u8()? != 0,
                partition: input.partition()?,
                batch: core::mem::take(&mut input.0),
            },
            2 => Self::Produced {
                ticket: input.ticket()?,
                wants_answer: input.u8()? != 0,
                bytes: input.u32()?,
                produced: Produced {
                    error: input.error()?,
                    base_offset: Offset(input.i64()?),
                    append_time: Some(input.i64()?).filter(|&time| time >= 0).map(TimestampMs),
                    log_start: Offset(input.i64()?),
                },
            },
            3 => Self::Watch { watch: input.u64()?, parts: input.list(Reader::fetch_part)? },
            4 => Self::Ready { watch: input.u64()?, bytes: input.u64()?, urgent: input.u8()? != 0 },
            5 => Self::Collect { watch: input.u64()?, bytes_max: input.u32()?, exceed_max: input.u32()? },
            6 => {
                let (watch, wanted) = (input.u64()?, input.u32()?);
                Self::Collected { watch, parts: input.list(Reader::fetched_part)?, wanted }
            }
            7 => Self::Unwatch { watch: input.u64()? },
            8 => Self::ListOffsets { number: input.u64()?, parts: input.list(Reader::list_part)? },
            9 => Self::ListedOffsets { number: input.u64()?, found: input.list(Reader::listed)? },
            _ => return None,
        };
        input.0.is_empty().then_some(message)
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn ticket(&mut self, ticket: Ticket) {
        self.u32(ticket.connection.slot);
        self.u32(ticket.connection.generation);
        self.u32(ticket.correlation);
    }

    fn partition(&mut self, id: PartitionId) {
        self.0.extend_from_slice(&id.topic.0.to_le_bytes());
        self.u32(id.index.0);
    }

    fn error(&mut self, error: Option<ErrorKind>) {
        self.0.extend_from_slice(&error.map_or(0, ErrorKind::code).to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn ticket(&mut self) -> Option<Ticket> {
        let connection = ConnectionId { slot: self.u32()?, generation: self.u32()? };
        Some(Ticket { connection, correlation: self.u32()? })
    }

    fn partition(&mut self) -> Option<PartitionId> {
        let topic = TopicId(self.array().map(u128::from_le_bytes)?);
        Some(PartitionId { topic, index: PartitionIndex(self.u32()?) })
    }

    fn error(&mut self) -> Option<Option<ErrorKind>> {
        match self.array().map(i16::from_le_bytes)? {
            0 => Some(None),
            code => ErrorKind::from_code(code).map(Some),
        }
    }

    fn fetch_part(&mut self) -> Option<FetchPart> {
        Some(FetchPart { partition: self.partition()?, offset: Offset(self.i64()?), bytes_max: self.u32()? })
    }

    fn fetched_part(&mut self) -> Option<FetchedPart> {
        let (partition, error) = (self.partition()?, self.error()?);
        let (high_watermark, log_start) = (Offset(self.i64()?), Offset(self.i64()?));
        let len = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(FetchedPart {
            partition,
            error,
            high_watermark,
            log_start,
            memory: Vec::new(),
            bytes: bytes.to_vec(),
        })
    }

    fn list_part(&mut self) -> Option<ListOffsetsPart> {
        let partition = self.partition()?;
        let (spec, time) = (self.u8()?, TimestampMs(self.i64()?));
        let spec = match spec {
            0 => OffsetSpec::Earliest,
            1 => OffsetSpec::Latest,
            _ => OffsetSpec::At(time),
        };
        Some(ListOffsetsPart { partition, spec })
    }

    fn listed(&mut self) -> Option<ListedOffset> {
        let (partition, error, offset) = (self.partition()?, self.error()?, Offset(self.i64()?));
        let (has_time, time) = (self.u8()? != 0, TimestampMs(self.i64()?));
        Some(ListedOffset { partition, error, offset, timestamp: has_time.then_some(time) })
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn messages_come_back_as_they_were_and_cut_ones_are_refused() {
        let partition = PartitionId { topic: TopicId(7 << 100), index: PartitionIndex(3) };
        let ticket = Ticket { connection: ConnectionId { slot: 1, generation: 2 }, correlation: 3 };
        let part = FetchPart { partition, offset: Offset(9), bytes_max: 10 };
        let produced = Produced {
            error: Some(ErrorKind::CorruptMessage),
            base_offset: Offset(5),
            append_time: Some(TimestampMs(0)),
            log_start: Offset(1),
        };
        let fetched = FetchedPart {
            partition,
            error: None,
            high_watermark: Offset(8),
            log_start: Offset(0),
            memory: vec![],
            bytes: vec![1, 2, 3],
        };
        let at = ListOffsetsPart { partition, spec: OffsetSpec::At(TimestampMs(77)) };
        let listed =
            ListedOffset { partition, error: None, offset: Offset(4), timestamp: Some(TimestampMs(-1)) };
        let messages = [
            Message::Produced { ticket, wants_answer: true, bytes: 8, produced },
            Message::Watch { watch: 1, parts: vec![part, part] },
            Message::Ready { watch: 1, bytes: 1 << 40, urgent: true },
            Message::Collect { watch: 1, bytes_max: 4, exceed_max: 5 },
            Message::Collected { watch: 1, parts: vec![fetched.clone(), fetched], wanted: 6 },
            Message::Unwatch { watch: 1 },
            Message::ListOffsets { number: 2, parts: vec![at] },
            Message::ListedOffsets { number: 2, found: vec![listed] },
        ];
        for message in messages {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Message::decode(&bytes), Some(message.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..cut]), None, "{message:?} cut at {cut}");
            }
        }
        let mut bytes = Vec::new();
        let message = Message::Produce { ticket, wants_answer: true, partition, batch: b"batch" };
        message.encode(&mut bytes);
        assert_eq!(Message::decode(&bytes), Some(message));
    }
}
