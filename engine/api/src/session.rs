//! A door as the pump sees it: one machine per connection, bytes in, requests out, answers in, bytes out.

use cutwater_model::{PartitionId, ShardId};

use crate::output::Output;
use crate::request::{Request, RequiredAcks, Ticket};
use crate::response::Response;

/// What a session knows of the node it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The shard that owns the connection.
    pub shard: ShardId,
    /// How many shards the node has.
    pub shards: u16,
}

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The frame is not whole: so many bytes in all, counted from the front, are needed to go on. The memory for
    /// them is taken as they arrive, not as they are promised.
    Incomplete {
        /// A lower bound of what is needed.
        bytes_needed: usize,
    },
    /// A request, of so many bytes from the front.
    Request {
        /// The bytes to drop once it is dealt with.
        consumed: usize,
        /// The peer's number for it.
        correlation: u32,
        /// The request, borrowing those bytes.
        request: Request<'a>,
    },
    /// The session has written an answer itself, or needed none.
    Done {
        /// The bytes to drop.
        consumed: usize,
    },
    /// The connection belongs to another shard: it is handed over with what is still unread after `consumed`.
    Move {
        /// The bytes to drop.
        consumed: usize,
        /// Whose it is to be.
        shard: ShardId,
    },
    /// The connection ends, after what the output holds was sent.
    Close(CloseReason),
}

/// A batch whose frame has begun to come: all that is to be known of the request before its last byte is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The peer's number for the request.
    pub correlation: u32,
    /// Where the batch goes.
    pub partition: PartitionId,
    /// Which replicas must have it.
    pub acks: RequiredAcks,
    /// How many bytes of the frame come before the batch, which ends it.
    pub batch_at: usize,
    /// How long the batch is, in bytes.
    pub batch_bytes: u32,
}

/// A batch among the bytes received, before its request is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upcoming {
    /// Where it goes.
    pub partition: PartitionId,
    /// How long it is, in bytes.
    pub bytes: u32,
}

/// Why a session ends a connection; counted, and logged at a bounded rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// Not this protocol: no preface of ours.
    NotOurProtocol,
    /// No version in common.
    Version,
    /// A length that no frame has.
    FrameLength,
    /// A frame that can't be read.
    Malformed,
    /// The peer began a frame and did not end it in time.
    ReadDeadline,
    /// The peer takes nothing although it is over its budget.
    WriteDeadline,
    /// The peer closed, or the socket failed.
    Peer,
    /// The node stops.
    Stop,
    /// Too many connections.
    Crowded,
    /// An answer could not be finished once it was begun.
    ReadFailed,
}

/// A door's machine for one connection. It lives on the shard's core, reads no clock and does no I/O.
pub trait Session {
    /// A session for a connection just accepted.
    fn new(facts: NodeFacts) -> Self
    where
        Self: Sized;

    /// Looks at the bytes received and not yet consumed, and takes at most one frame from their front.
    fn on_bytes<'a>(&mut self, bytes: &'a [u8], output: &mut Output) -> Step<'a>;

    /// What batch the frame carries that begins with these bytes and is not whole. `None`: it carries none, or has to
    /// be looked at whole.
    fn announced(&self, bytes: &[u8]) -> Option<Announced>;

    /// Which batches the whole requests at the front of some bytes are about to append, as many as there are places for.
    /// Returns how many these are. It ends before a request of another kind, or one that is wrong; what is not told costs
    /// time and nothing else.
    fn upcoming(&self, _bytes: &[u8], _into: &mut [Upcoming]) -> usize {
        0
    }

    /// Writes an answer to a request of this connection, or a push.
    fn on_response(&mut self, ticket: Ticket, response: &Response, output: &mut Output);

    /// The same connection, after [`Step::Move`], on the shard it was handed to.
    fn moved(&mut self, facts: NodeFacts);
}
