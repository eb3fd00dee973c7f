//! Asks a node one thing after the other and waits for each answer: topics, offsets, the shard map.
//!
//! One connection, made when it is first needed and again after it broke. For producing and consuming there are
//! [`crate::Producer`] and [`crate::Consumer`].

use core::time::Duration;

use cutwater_api::{CreateTopic, ListOffsets, ListOffsetsPart, OffsetSpec, Request, TopicView, TopicsView};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{Offset, PartitionId, ProducerEpoch, ProducerId, TimestampMs, TopicId};
use cutwater_native::{Answer, Failure};
use cutwater_ring::Wait;

use crate::config::ClientConfig;
use crate::error::{ClientError, LinkFault};
use crate::session::{Event, Session};
use crate::transport::Transport;
use crate::wire::{LinkId, Wire};

/// One offset found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The partition asked about.
    pub partition: PartitionId,
    /// The offset, or why there is none.
    pub offset: Result<Offset, Failure>,
    /// The timestamp of the record found by time.
    pub timestamp: Option<TimestampMs>,
}

/// See the module.
#[derive(Debug)]
pub struct Client<W: Wire = Transport> {
    wire: W,
    timeout: Duration,
    link: Option<LinkId>,
    requests: u64,
}

/// An answer that outlives its frame.
enum Owned {
    Pong,
    Topics(TopicsView),
    Topic(TopicId),
    Producer(ProducerId, ProducerEpoch),
    Offsets(Vec<FoundOffset>),
    Refused(Failure, String),
}

impl Client {
    /// A client of the node at `config.server`. Nothing is sent yet.
    ///
    /// # Errors
    /// When io_uring does not work here.
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        Ok(Self::over(Transport::new(config)?, config.timeout))
    }
}

impl<W: Wire> Client<W> {
    /// A client over any wire, whose calls wait so long.
    pub fn over(wire: W, timeout: Duration) -> Self {
        Self { wire, timeout, link: None, requests: 0 }
    }

    /// Waits until the node answers at all.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        match self.call_by("a ping", |session, token| session.ping(token))? {
            Owned::Pong => Ok(()),
            other => Err(self.refusal("a ping", other)),
        }
    }

    /// The topics of these names that exist, all where none is named, and the shard map.
    ///
    /// # Errors
    /// When the node refuses or doesn't answer.
    pub fn describe(&mut self, names: &[&str]) -> Result<TopicsView, ClientError> {
        let asked = "a description of topics";
        match self.call(asked, &Request::Describe { names: names.to_vec() })? {
            Owned::Topics(topics) => Ok(topics),
            other => Err(self.refusal(asked, other)),
        }
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// When there is none, or the node refuses or doesn't answer.
    pub fn topic(&mut self, name: &str) -> Result<TopicView, ClientError> {
        let found = self.describe(&[name])?.topics.into_iter().find(|topic| topic.name == name);
        found.ok_or_else(|| ClientError::UnknownTopic { peer: self.peer(), name: name.to_owned() })
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When the node refuses or doesn't answer.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<TopicId, ClientError> {
        self.change("to create the topic", &Request::CreateTopic(CreateTopic { name, partitions, config }))
    }

    /// Removes a topic and its data.
    ///
    /// # Errors
    /// When the node refuses or doesn't answer.
    pub fn delete_topic(&mut self, topic: TopicId) -> Result<TopicId, ClientError> {
        self.change("to delete the topic", &Request::DeleteTopic { topic })
    }

    /// Gives a topic more partitions, so many in all.
    ///
    /// # Errors
    /// When the node refuses or doesn't answer.
    pub fn add_partitions(&mut self, topic: TopicId, partitions: u32) -> Result<TopicId, ClientError> {
        self.change("to add partitions", &Request::AddPartitions { topic, partitions })
    }

    /// Draws an id for a producer that numbers its batches.
    ///
    /// # Errors
    /// When the node refuses or doesn't answer.
    pub fn allocate_producer_id(&mut self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let asked = "a producer id";
        match self.call(asked, &Request::AllocateProducerId)? {
            Owned::Producer(id, epoch) => Ok((id, epoch)),
            other => Err(self.refusal(asked, other)),
        }
    }

    /// The same offset of several partitions, in the order asked.
    ///
    /// # Errors
    /// When the node refuses or doesn't answer; what is wrong with one partition is told in its place.
    pub fn list_offsets(
        &mut self,
        partitions: &[PartitionId],
        spec: OffsetSpec,
    ) -> Result<Vec<FoundOffset>, ClientError> {
        let asked = "a search for offsets";
        let parts = partitions.iter().map(|&partition| ListOffsetsPart { partition, spec }).collect();
        match self.call(asked, &Request::ListOffsets(ListOffsets { parts }))? {
            Owned::Offsets(found) => Ok(found),
            other => Err(self.refusal(asked, other)),
        }
    }

    fn change(&mut self, asked: &'static str, request: &Request<'_>) -> Result<TopicId, ClientError> {
        match self.call(asked, request)? {
            Owned::Topic(id) => Ok(id),
            other => Err(self.refusal(asked, other)),
        }
    }

    /// Sends a request, waits for its answer. A call that may have been carried out is never sent twice.
    fn call(&mut self, asked: &'static str, request: &Request<'_>) -> Result<Owned, ClientError> {
        self.call_by(asked, |session, token| session.request(token, request))
    }

    fn call_by(
        &mut self,
        asked: &'static str,
        ask: impl FnOnce(&mut Session, u64) -> bool,
    ) -> Result<Owned, ClientError> {
        let deadline_us = self.wire.now().mono_us + self.timeout.as_micros() as u64;
        self.requests += 1;
        let token = self.requests;
        // A connection that broke since the last call is only noticed by using the wire.
        self.turn(Wait::Never, token, &mut None)?;
        let link = match self.link {
            Some(link) => link,
            None => self.wire.open(None)?,
        };
        self.link = Some(link);
        let queued = self.wire.session(link).is_some_and(|session| ask(session, token));
        if !queued {
            return Err(self.wire.link_error(LinkFault::Closed).into());
        }
        let mut answer = None;
        loop {
            let now_us = self.wire.now().mono_us;
            if now_us >= deadline_us {
                // A late answer must not be taken for that of the next call.
                self.wire.close(link);
                self.link = None;
                let timeout_ms = self.timeout.as_millis() as u64;
                return Err(ClientError::Timeout { peer: self.peer(), request: asked, timeout_ms });
            }
            let fault =
                self.turn(Wait::AtMost(Duration::from_micros(deadline_us - now_us)), token, &mut answer)?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if let Some(fault) = fault {
                return Err(self.wire.link_error(fault).into());
            }
        }
    }

    fn turn(
        &mut self,
        wait: Wait,
        wanted: u64,
        answer: &mut Option<Owned>,
    ) -> Result<Option<LinkFault>, ClientError> {
        let current = self.link;
        let mut fault = None;
        self.wire.turn(wait, |link, event| match event {
            Event::Answered { token, answer: found } if token == wanted => *answer = to_owned(&found),
            Event::Down(why) if Some(link) == current => fault = Some(why),
            _ => {}
        })?;
        if fault.is_some() {
            self.link = None;
        }
        Ok(fault)
    }

    fn refusal(&mut self, request: &'static str, answer: Owned) -> ClientError {
        match answer {
            Owned::Refused(failure, text) => {
                ClientError::Refused { peer: self.peer(), request, failure, text }
            }
            _ => self.unexpected(),
        }
    }

    fn unexpected(&mut self) -> ClientError {
        if let Some(link) = self.link.take() {
            self.wire.close(link);
        }
        self.wire.link_error(LinkFault::Unasked { kind: 0 }).into()
    }

    fn peer(&self) -> std::net::SocketAddr {
        self.wire.link_error(LinkFault::Closed).peer
    }
}

fn to_owned(answer: &Answer<'_>) -> Option<Owned> {
    Some(match answer {
        Answer::Pong => Owned::Pong,
        Answer::Topics(topics) => Owned::Topics(topics.clone()),
        Answer::TopicCreated(id) | Answer::TopicDeleted(id) | Answer::PartitionsAdded(id) => {
            Owned::Topic(*id)
        }
        Answer::ProducerIdAllocated(id, epoch) => Owned::Producer(*id, *epoch),
        Answer::ListedOffsets(listed) => Owned::Offsets(
            listed
                .parts()
                .map(|part| FoundOffset {
                    partition: part.partition,
                    offset: part.failure.map_or(Ok(part.offset), Err),
                    timestamp: part.timestamp,
                })
                .collect(),
        ),
        Answer::Refused(refusal) => Owned::Refused(refusal.failure, refusal.text.escape_debug().to_string()),
        _ => return None,
    })
}
