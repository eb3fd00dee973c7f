//! The one seam between doors and engine: what a door may ask, what it is answered, and the machine it is.
//!
//! A door implements [`Session`], a machine per connection that turns bytes into [`Request`]s and [`Response`]s into
//! bytes. The pump in `engine/node` owns the sockets and is generic over it; the broker sees only requests. Requests
//! borrow the bytes they came in, so nothing is copied before the broker decides where a batch goes.
#![no_std]
extern crate alloc;

pub mod output;
pub mod request;
pub mod response;
pub mod session;

pub use output::{Output, Piece};
pub use request::{
    ConnectionId, CreateTopic, Fetch, FetchPart, ListOffsets, ListOffsetsPart, OffsetSpec, Produce, Request,
    RequiredAcks, Subscribe, SubscriptionId, Ticket,
};
pub use response::{
    Fetched, FetchedPart, ListedOffset, PartitionView, Produced, Response, ShardMap, TopicView, TopicsView,
};
pub use session::{Announced, CloseReason, NodeFacts, Session, Step, Upcoming};
