//! A real node in this process, on a folder and ports of its own, and a plain blocking peer that speaks to it.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use cutwater_api::{CreateTopic, Fetch, FetchPart, Produce, Request, RequiredAcks};
use cutwater_model::builder::{BatchBuilder, Sequence};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, PartitionId, PartitionIndex, ShardId, TimestampMs, TopicId};
use cutwater_native::frame::{self, Cut};
use cutwater_native::{Answer, ClientPreface, ServerPreface, preface, request, response};
use cutwater_node::{Addresses, IdlePolicy, NodeConfig, NodeError, StopHandle};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A folder below the build's own: that is on a disk, where the system's temporary folder may not be.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = path.join(format!("node-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Node {
    pub(crate) addresses: Addresses,
    stop: StopHandle,
    thread: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    pub(crate) fn start(folder: &Folder, shards: u16) -> Self {
        let config = NodeConfig {
            data: folder.0.join("data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            shards,
            cores: Vec::new(),
            idle: IdlePolicy::Park,
            journal_bytes: 192 << 20,
            memory_bytes: u64::from(shards) * (64 << 20),
            memory_ready_bytes: 0,
            accepts_loss: false,
        };
        let stop = StopHandle::default();
        let (serving, addresses) = mpsc::channel();
        let thread = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                cutwater_node::run::<cutwater_native::ServerSession>(&config, stop, |addresses| {
                    serving.send(addresses).unwrap();
                })
            })
        };
        match addresses.recv() {
            Ok(addresses) => Self { addresses, stop, thread },
            Err(_) => panic!("the node did not start: {:?}", thread.join()),
        }
    }

    pub(crate) fn stop(self) {
        self.stop.stop();
        self.thread.join().unwrap().unwrap();
    }

    pub(crate) fn stopping(&self) {
        self.stop.stop();
    }

    pub(crate) fn wait(self) {
        self.thread.join().unwrap().unwrap();
    }

    /// One metric, summed over shards and labels that hold `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.get("/metrics");
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addresses.admin).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until a metric is as wanted; the test's own time limit is generous because nothing depends on it.
    pub(crate) fn wait_for(&self, name: &str, label: &str, is_right: impl Fn(f64) -> bool) {
        for _ in 0..600 {
            if is_right(self.metric(name, label)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{name} {label} stays at {}", self.metric(name, label));
    }
}

/// A peer on one connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) shard: ShardId,
    received: Vec<u8>,
    correlation: u32,
}

/// An answer, its batches copied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Produced { error: Option<i16>, base: i64 },
    Fetched { batches: Vec<u8>, high_watermark: i64 },
    Created(TopicId),
    Refused(i16),
    Other(String),
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr, shard: Option<ShardId>) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut peer = Self { stream, shard: ShardId(0), received: Vec::new(), correlation: 0 };
        let mut bytes = Vec::new();
        ClientPreface::new(shard).encode(&mut bytes);
        peer.stream.write_all(&bytes).unwrap();
        let mut answer = [0; preface::SERVER_BYTES];
        peer.stream.read_exact(&mut answer).unwrap();
        let answer = ServerPreface::decode(&answer).unwrap();
        answer.outcome.unwrap();
        peer.shard = answer.shard;
        peer
    }

    pub(crate) fn encode(&mut self, request: &Request<'_>) -> Vec<u8> {
        self.correlation += 1;
        let mut bytes = Vec::new();
        request::encode(&mut bytes, self.correlation, request);
        bytes
    }

    pub(crate) fn send(&mut self, request: &Request<'_>) -> u32 {
        let bytes = self.encode(request);
        self.stream.write_all(&bytes).unwrap();
        self.correlation
    }

    pub(crate) fn ask(&mut self, request: &Request<'_>) -> Got {
        let sent = self.send(request);
        let (correlation, got) = self.receive().unwrap();
        assert_eq!(correlation, sent);
        got
    }

    /// The next answer; an error when the connection is gone.
    pub(crate) fn receive(&mut self) -> std::io::Result<(u32, Got)> {
        loop {
            if let Cut::Whole(frame) = frame::cut(&self.received, u32::MAX).unwrap() {
                let got = (frame.correlation, got(response::decode(&frame).unwrap()));
                let bytes = frame.bytes();
                self.received.drain(..bytes);
                return Ok(got);
            }
            let mut bytes = [0; 64 * 1024];
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&bytes[..count]);
        }
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let create = CreateTopic { name, partitions, config: TopicConfig::default() };
        match self.ask(&Request::CreateTopic(create)) {
            Got::Created(topic) => topic,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn produce(&mut self, partition: PartitionId, batch: &[u8]) -> Got {
        self.ask(&produce(partition, batch))
    }

    /// Everything of a partition from its beginning.
    pub(crate) fn read_all(&mut self, partition: PartitionId) -> Vec<u8> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let Got::Fetched { batches, high_watermark } = self.ask(&fetch(partition, offset)) else {
                panic!("no answer to a fetch")
            };
            offset = next_offset(&batches).unwrap_or(offset);
            all.extend_from_slice(&batches);
            if offset >= high_watermark {
                return all;
            }
        }
    }
}

fn got(answer: Answer<'_>) -> Got {
    match answer {
        Answer::Produced(it) => {
            Got::Produced { error: it.failure.map(|failure| failure.code), base: it.base_offset.0 }
        }
        Answer::Fetched(it) => Got::Fetched {
            batches: it.batches().to_vec(),
            high_watermark: it.parts().next().map_or(0, |part| part.high_watermark.0),
        },
        Answer::TopicCreated(topic) => Got::Created(topic),
        Answer::Refused(refusal) => Got::Refused(refusal.failure.code),
        other => Got::Other(format!("{other:?}")),
    }
}

pub(crate) fn partition(topic: TopicId, index: u32) -> PartitionId {
    PartitionId { topic, index: PartitionIndex(index) }
}

pub(crate) fn produce(partition: PartitionId, batch: &[u8]) -> Request<'_> {
    Request::Produce(Produce { partition, acks: RequiredAcks::All, batch })
}

pub(crate) fn fetch(partition: PartitionId, offset: i64) -> Request<'static> {
    Request::Fetch(Fetch {
        wait_ms_max: 0,
        bytes_min: 1,
        bytes_max: 1 << 20,
        parts: vec![FetchPart { partition, offset: Offset(offset), bytes_max: 1 << 20 }],
    })
}

/// One batch of one record.
pub(crate) fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(8 << 20);
    builder.append(TimestampMs(1_700_000_000_000), None, Some(value), &[]).unwrap();
    builder.finish(Sequence::NONE).to_vec()
}

/// The values of all records, in order; each batch has one record.
pub(crate) fn values(batches: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    walk(batches, |batch| {
        for record in batch.records() {
            values.push(record.unwrap().value.unwrap_or_default().to_vec());
        }
    });
    values
}

fn next_offset(batches: &[u8]) -> Option<i64> {
    let mut next = None;
    walk(batches, |batch| next = Some(batch.header.next_offset().0));
    next
}

fn walk(bytes: &[u8], mut see: impl FnMut(&cutwater_model::Batch<'_>)) {
    for batch in cutwater_model::batch::walk(bytes) {
        see(&batch.unwrap());
    }
}
