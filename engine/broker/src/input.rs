//! Everything that can happen to a shard: a closed list, so that it can be logged and replayed.

use alloc::sync::Arc;

use cutwater_api::{ConnectionId, Produce, Request, Response, Ticket};
use cutwater_metadata::Image;
use cutwater_model::ShardId;
use cutwater_model::storage::StorageErrorKind;

use crate::effect::{OpId, Pin};
use crate::landing::LandingId;

/// One thing that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A peer connected.
    Opened(ConnectionId),
    /// A peer sends no more requests. The shard closes the connection ([`crate::Effect::Close`]) when all are answered;
    /// fetches do not wait any longer for that.
    Ended(ConnectionId),
    /// A connection is gone; nothing more comes from it and nothing more can be sent to it. Pins of answers that were
    /// not sent come back by [`Input::SendDone`] all the same.
    Closed(ConnectionId),
    /// A peer asks for something. `bytes` is how long its frame was, for the budgets.
    Request {
        /// Names the answer.
        ticket: Ticket,
        /// What is asked.
        request: Request<'a>,
    },
    /// A peer appends a batch: the same as a request for that, but left where it was decoded. There are millions a second,
    /// and a value that is moved right after it was put together makes the processor wait for its own stores.
    Produce {
        /// Names the answer.
        ticket: Ticket,
        /// What is asked.
        produce: &'a Produce<'a>,
    },
    /// A batch is whole in the memory that [`crate::Shard::land`] gave.
    Landed {
        /// Names the answer.
        ticket: Ticket,
        /// Which.
        landing: LandingId,
    },
    /// A batch will not become whole, and the kernel fills its memory no more.
    Abandoned(LandingId),
    /// The kernel no longer holds the memory of an answer.
    SendDone(Pin),
    /// A disk operation ended: with the bytes it moved, or 0 where it moves none. Short counts were gone on with by
    /// the shell (E1), so a success is a whole success.
    DiskDone {
        /// Which.
        op: OpId,
        /// How.
        result: Result<u32, StorageErrorKind>,
    },
    /// Bytes of another shard, one message after the other, as that shard's effects wrote them.
    ShardMessages {
        /// Whose.
        from: ShardId,
        /// One whole message.
        message: &'a [u8],
    },
    /// The node's metadata has a new image, durable already.
    Metadata(Arc<Image>),
    /// The control thread has an answer to what [`crate::Effect::Control`] asked.
    ControlDone {
        /// Whose answer.
        ticket: Ticket,
        /// The answer.
        response: Response,
    },
    /// Time passed; given at the deadline the shard asked for, and at least every 100 ms.
    Tick,
    /// A turn's inputs are all in: groups are closed, longer work goes on.
    Continue,
    /// The node stops: no new request follows. The shard answers what it can, checkpoints, and then says
    /// [`crate::Effect::Stopped`].
    Stop,
}
