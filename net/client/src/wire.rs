//! What carries sessions: the seam between the client's machines and the network.

use cutwater_model::{Now, ShardId};
use cutwater_ring::Wait;

use crate::error::{ClientError, LinkError, LinkFault};
use crate::session::{Event, Session};

/// One connection of a [`Wire`]. A slot is used again; the generation tells its lives apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    /// Place in the wire's table.
    pub slot: u32,
    /// Counts the lives of the slot.
    pub generation: u32,
}

/// Makes connections to one node and moves their bytes. [`crate::Transport`] is the real one.
pub trait Wire {
    /// Both clocks.
    fn now(&self) -> Now;

    /// Begins a connection that `shard`, or any, is to serve. [`Event::Up`] or [`Event::Down`] follows.
    ///
    /// # Errors
    /// When this machine has no socket for it.
    fn open(&mut self, shard: Option<ShardId>) -> Result<LinkId, ClientError>;

    /// Ends a connection at once; no event follows.
    fn close(&mut self, link: LinkId);

    /// The session of a connection, to queue requests on; `None` when it is gone. What is queued is sent by the next
    /// [`Wire::turn`], all of one connection with one operation.
    fn session(&mut self, link: LinkId) -> Option<&mut Session>;

    /// Sends what is queued, waits as told for anything to happen, and tells what has.
    ///
    /// # Errors
    /// When this machine can't go on. The failure of a connection is an event, not an error.
    fn turn(&mut self, wait: Wait, on_event: impl FnMut(LinkId, Event<'_>)) -> Result<(), ClientError>;

    /// Names the peer in an error.
    fn link_error(&self, fault: LinkFault) -> LinkError;
}
