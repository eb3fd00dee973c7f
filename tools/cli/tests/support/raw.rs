//! The native protocol on a bare socket, so that anything at all can be sent.

use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cutwater_api::{
    CreateTopic, Fetch, FetchPart, ListOffsets, ListOffsetsPart, OffsetSpec, Produce, Request, RequiredAcks,
};
use cutwater_model::batch;
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::limits::ANSWER_BYTES_MAX;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, PartitionId, PartitionIndex, ShardId, TimestampMs, TopicId};
use cutwater_native::frame::{self, Cut, Frame};
use cutwater_native::preface::{CLIENT_BYTES, ClientPreface, SERVER_BYTES, ServerPreface};
use cutwater_native::{Answer, request, response};

/// Nothing is expected to take as long, however noisy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    received: Vec<u8>,
}

/// A frame from the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) code: i16,
    pub(crate) correlation: u32,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn answer(&self) -> Answer<'_> {
        let frame = Frame {
            kind: self.kind,
            flags: self.flags,
            code: self.code,
            correlation: self.correlation,
            body: &self.body,
        };
        response::decode(&frame).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Raw {
    /// A socket that has said nothing.
    pub(crate) fn dial(node: SocketAddr) -> Self {
        let socket = TcpStream::connect(node).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, received: Vec::new() }
    }

    /// A connection that has been greeted.
    pub(crate) fn connect(node: SocketAddr) -> Self {
        Self::greet(node, None)
    }

    /// The same, to one shard.
    pub(crate) fn connect_to(node: SocketAddr, shard: u16) -> Self {
        Self::greet(node, Some(ShardId(shard)))
    }

    fn greet(node: SocketAddr, shard: Option<ShardId>) -> Self {
        let mut raw = Self::dial(node);
        let mut preface = Vec::with_capacity(CLIENT_BYTES);
        ClientPreface::new(shard).encode(&mut preface);
        assert!(raw.send(&preface));
        let answer = raw.server_preface().expect("an answer to the preface");
        assert!(answer.outcome.is_ok(), "{answer:?}");
        assert!(shard.is_none_or(|shard| shard == answer.shard), "{answer:?}");
        raw
    }

    /// Sends bytes; false when the node has closed the connection.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    pub(crate) fn server_preface(&mut self) -> Option<ServerPreface> {
        while self.received.len() < SERVER_BYTES {
            if !self.receive() {
                return None;
            }
        }
        let rest = self.received.split_off(SERVER_BYTES);
        let bytes = core::mem::replace(&mut self.received, rest);
        Some(ServerPreface::decode(bytes.first_chunk().unwrap()).unwrap())
    }

    /// The next frame; `None` when the node has closed the connection.
    pub(crate) fn read(&mut self) -> Option<Received> {
        loop {
            if let Cut::Whole(frame) = frame::cut(&self.received, ANSWER_BYTES_MAX).unwrap() {
                let Frame { kind, flags, code, correlation, body } = frame;
                let (bytes, body) = (frame.bytes(), body.to_vec());
                self.received.drain(..bytes);
                return Some(Received { kind, flags, code, correlation, body });
            }
            if !self.receive() {
                return None;
            }
        }
    }

    fn receive(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if matches!(error.kind(), IoErrorKind::WouldBlock | IoErrorKind::TimedOut) => {
                panic!("the node neither answers nor closes")
            }
            Err(_) => false,
        }
    }

    pub(crate) fn ask(&mut self, request: &Request<'_>) -> Received {
        assert!(self.send(&encode(request)), "the connection is closed");
        self.read().expect("an answer, not a closed connection")
    }

    pub(crate) fn ping(&mut self) {
        assert!(self.send(&PING));
        let answer = self.read().expect("a pong");
        assert!(matches!(answer.answer(), Answer::Pong), "{answer:?}");
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32, config: TopicConfig) -> TopicId {
        let answer = self.ask(&Request::CreateTopic(CreateTopic { name, partitions, config }));
        match answer.answer() {
            Answer::TopicCreated(topic) => topic,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Appends a batch: its first offset, or the code it was refused with.
    pub(crate) fn produce(&mut self, partition: PartitionId, batch: &[u8]) -> Result<i64, i16> {
        let answer = self.ask(&Request::Produce(Produce { partition, acks: RequiredAcks::All, batch }));
        match answer.answer() {
            Answer::Produced(_) if answer.code != 0 => Err(answer.code),
            Answer::Produced(_) => Ok(i64::from_le_bytes(*answer.body.first_chunk().unwrap())),
            Answer::Refused(refusal) => Err(refusal.failure.code),
            other => panic!("{other:?}"),
        }
    }

    /// The batches of a partition from an offset on: the bytes of one answer, or the code of its refusal.
    pub(crate) fn fetch(&mut self, partition: PartitionId, offset: i64) -> Result<Vec<u8>, i16> {
        let answer = self.ask(&fetch_of(partition, offset, 1 << 20, 1 << 20));
        match answer.answer() {
            Answer::Fetched(fetched) => {
                let Some(part) = fetched.parts().next() else { return Ok(Vec::new()) };
                part.failure.map_or_else(|| Ok(part.batches.to_vec()), |failure| Err(failure.code))
            }
            Answer::Refused(refusal) => Err(refusal.failure.code),
            other => panic!("{other:?}"),
        }
    }

    /// The offset behind a partition's last record.
    pub(crate) fn end_of(&mut self, partition: PartitionId) -> Result<i64, i16> {
        let parts = vec![ListOffsetsPart { partition, spec: OffsetSpec::Latest }];
        let answer = self.ask(&Request::ListOffsets(ListOffsets { parts }));
        match answer.answer() {
            Answer::ListedOffsets(_) => {
                // The body: a count, then 40 bytes each (docs/NATIVE_PROTOCOL.md, section 7).
                let code = i16::from_le_bytes([answer.body[24], answer.body[25]]);
                let offset = i64::from_le_bytes(*answer.body[28..].first_chunk().unwrap());
                if code == 0 { Ok(offset) } else { Err(code) }
            }
            Answer::Refused(refusal) => Err(refusal.failure.code),
            other => panic!("{other:?}"),
        }
    }

    /// All records of a partition as offset and value, up to its end.
    pub(crate) fn records(&mut self, partition: PartitionId) -> Vec<(i64, Vec<u8>)> {
        let end = self.end_of(partition).unwrap();
        let mut records: Vec<(i64, Vec<u8>)> = Vec::new();
        let mut next = 0;
        while next < end {
            let batches = self.fetch(partition, next).unwrap_or_else(|code| panic!("{next}: code {code}"));
            assert!(!batches.is_empty(), "nothing at {next}, and {end} is the end");
            for batch in batch::walk(&batches) {
                let batch = batch.unwrap();
                batch.check_crc().unwrap();
                for record in batch.records() {
                    let record = record.unwrap();
                    records.push((record.offset.0, record.value.unwrap_or_default().to_vec()));
                }
                next = batch.header.next_offset().0;
            }
        }
        records
    }
}

/// A whole ping.
pub(crate) const PING: [u8; 12] = [8, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0];

pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CLIENT_BYTES);
    ClientPreface::new(None).encode(&mut bytes);
    bytes
}

pub(crate) fn encode(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request::encode(&mut bytes, 7, request);
    bytes
}

pub(crate) fn produce_frame(partition: PartitionId, batch: &[u8]) -> Vec<u8> {
    encode(&Request::Produce(Produce { partition, acks: RequiredAcks::All, batch }))
}

pub(crate) fn fetch_of(
    partition: PartitionId,
    offset: i64,
    bytes_max: u32,
    part_bytes_max: u32,
) -> Request<'static> {
    let part = FetchPart { partition, offset: Offset(offset), bytes_max: part_bytes_max };
    Request::Fetch(Fetch { wait_ms_max: 0, bytes_min: 0, bytes_max, parts: vec![part] })
}

pub(crate) fn partition(topic: TopicId, index: u32) -> PartitionId {
    PartitionId { topic, index: PartitionIndex(index) }
}

pub(crate) fn now_ms() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// A batch of these values, numbered or not.
pub(crate) fn batch_of(values: &[&[u8]], sequence: Sequence) -> Vec<u8> {
    let mut builder = BatchBuilder::new(u32::MAX);
    for value in values {
        builder.append(TimestampMs(now_ms()), None, Some(value), &[]).unwrap();
    }
    builder.finish(sequence).to_vec()
}
