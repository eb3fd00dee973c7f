//! What can go wrong between a client and a node, with the peer and what to do about it.

use std::net::SocketAddr;

use cutwater_native::frame::FrameLengthError;
use cutwater_native::{DecodeError, Failure};
use cutwater_ring::socket::SocketError;
use cutwater_ring::{Errno, RingError};

/// Why a connection does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// It could not be made.
    #[error("cannot connect: {0}; is a node running there (`cutwater serve`), and is the address right?")]
    Connect(Errno),
    /// It could not be made in time.
    #[error("no answer while connecting; check the address, firewalls and whether the node is overloaded")]
    ConnectTimeout,
    /// The peer closed it.
    #[error("the node closed the connection; its log says why")]
    Closed,
    /// The socket failed.
    #[error("the connection failed: {0}; it is made again where possible")]
    Io(Errno),
    /// A request was not answered in time, so the connection was given up.
    #[error("the node did not answer in time; it is stuck, overloaded or cut off")]
    Silent,
    /// The peer speaks something else.
    #[error("the peer is no Cutwater node (or this is not its native port)")]
    NotCutwater,
    /// The node refused the connection.
    #[error(
        "the node refused the connection: {}; it speaks versions {version_least} to {version_most}",
        describe(.failure)
    )]
    Refused {
        /// Why.
        failure: Failure,
        /// The lowest version it speaks.
        version_least: u16,
        /// The highest version it speaks.
        version_most: u16,
    },
    /// The peer sent a frame that can't be read.
    #[error("the node sent a frame that can't be read: {0}; client and node are of different releases?")]
    Malformed(#[from] DecodeError),
    /// The peer sent a frame with an impossible length.
    #[error("the node sent {0}")]
    FrameLength(#[from] FrameLengthError),
    /// The peer answered what nobody asked.
    #[error("the node sent an answer of kind {kind} to no request")]
    Unasked {
        /// The kind of the frame.
        kind: u8,
    },
}

/// A connection that does not stand, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{peer}: {fault}")]
pub struct LinkError {
    /// The node's address.
    pub peer: SocketAddr,
    /// What happened.
    pub fault: LinkFault,
}

/// Why a call of a client failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// io_uring does not work here.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// No socket could be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The name of the server can't be resolved.
    #[error("cannot resolve `{server}`: {reason}; give it as HOST:PORT, for example 127.0.0.1:9644")]
    Resolve {
        /// As it was given.
        server: String,
        /// Why not.
        reason: String,
    },
    /// The connection does not stand.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The node did not answer in time.
    #[error(
        "{peer}: no answer to {request} within {timeout_ms} ms; give a longer timeout or look at the node"
    )]
    Timeout {
        /// The node's address.
        peer: SocketAddr,
        /// What was asked, in words.
        request: &'static str,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The node refused the request.
    #[error("{peer} refused {request}: {}", explain(.failure, .text))]
    Refused {
        /// The node's address.
        peer: SocketAddr,
        /// What was asked, in words.
        request: &'static str,
        /// Why.
        failure: Failure,
        /// What the node said, escaped for a terminal.
        text: String,
    },
    /// There is no such topic.
    #[error(
        "{peer} has no topic `{name}`; `cutwater topic create {name}` makes it, `cutwater topic list` shows all"
    )]
    UnknownTopic {
        /// The node's address.
        peer: SocketAddr,
        /// The name asked for.
        name: String,
    },
    /// The topic has fewer partitions.
    #[error("topic `{name}` has {partitions} partitions, numbered from 0; there is no partition {index}")]
    UnknownPartition {
        /// The topic's name.
        name: String,
        /// The number asked for.
        index: u32,
        /// How many it has.
        partitions: u32,
    },
}

/// A failure in words, also where its code is of a later release.
pub(crate) fn describe(failure: &Failure) -> String {
    match failure.kind() {
        Some(kind) => format!("{kind} (code {})", failure.code),
        None => format!("code {}, unknown to this client", failure.code),
    }
}

/// The node's own text where it says more than the kind does.
fn explain(failure: &Failure, text: &str) -> String {
    match failure.kind() {
        Some(kind) if text.is_empty() || text == kind.to_string() => describe(failure),
        _ if text.is_empty() => describe(failure),
        _ => format!("{text} (code {})", failure.code),
    }
}
