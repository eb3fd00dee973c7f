//! The first bytes of a connection, one fixed block in each direction.
//!
//! Client to server, 24 bytes:
//! ```text
//!  0 8 bytes magic      "CUTWATER"
//!  8 u16 version, the lowest the client speaks
//! 10 u16 version, the highest
//! 12 u16 shard wanted   65535: any
//! 14 u16 reserved       0
//! 16 u64 features wanted; none are defined in version 1, unknown ones aren't granted
//! ```
//! Server to client, 40 bytes:
//! ```text
//!  0 8 bytes magic      "CUTWATER"
//!  8 u16 version        the one spoken from here on; 0 where refused
//! 10 i16 code           0, or why the connection is refused
//! 12 u16 shard          that serves the connection
//! 14 u16 shards         of the node
//! 16 u64 features       granted
//! 24 u32 length max     of a request's frame
//! 28 u32 requests       that may wait for their answer before the server stops reading
//! 32 u32 request bytes  that may
//! 36 u16 version, the lowest the server speaks
//! 38 u16 version, the highest
//! ```

use alloc::vec::Vec;

use cutwater_api::NodeFacts;
use cutwater_model::{
    ErrorKind, ShardId,
    limits::{FRAME_BYTES_MAX, REQUEST_BYTES_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX},
};

use crate::{
    error::{DecodeError, Failure},
    wire::Reader,
};

/// What both sides begin with.
pub const MAGIC: [u8; 8] = *b"CUTWATER";
/// The lowest version spoken here.
pub const VERSION_LEAST: u16 = 1;
/// The highest version spoken here.
pub const VERSION_MOST: u16 = 1;
/// The length of a client's preface.
pub const CLIENT_BYTES: usize = 24;
/// The length of a server's preface.
pub const SERVER_BYTES: usize = 40;
/// Wanted by a client that any shard may serve.
const ANY_SHARD: u16 = u16::MAX;

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPreface {
    /// The lowest version it speaks.
    pub version_least: u16,
    /// The highest version it speaks.
    pub version_most: u16,
    /// The shard that is to serve the connection, or any.
    pub shard: Option<ShardId>,
    /// Features wanted; none are defined yet.
    pub features: u64,
}

impl ClientPreface {
    /// What this crate's client says.
    #[must_use]
    pub const fn new(shard: Option<ShardId>) -> Self {
        Self { version_least: VERSION_LEAST, version_most: VERSION_MOST, shard, features: 0 }
    }

    /// Appends the 24 bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&MAGIC);
        into.extend_from_slice(&self.version_least.to_le_bytes());
        into.extend_from_slice(&self.version_most.to_le_bytes());
        into.extend_from_slice(&self.shard.map_or(ANY_SHARD, |shard| shard.0).to_le_bytes());
        into.extend_from_slice(&[0; 2]);
        into.extend_from_slice(&self.features.to_le_bytes());
    }

    /// Reads exactly 24 bytes.
    ///
    /// # Errors
    /// If they aren't a preface.
    pub fn decode(bytes: &[u8; CLIENT_BYTES]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_magic(&mut reader)?;
        let (version_least, version_most) = (reader.u16()?, reader.u16()?);
        let shard = Some(reader.u16()?).filter(|&shard| shard != ANY_SHARD).map(ShardId);
        reader.reserved(2)?;
        Ok(Self { version_least, version_most, shard, features: reader.u64()? })
    }
}

/// What a server answers to a preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerPreface {
    /// What was agreed on, or why the connection is refused.
    pub outcome: Result<Accepted, Failure>,
    /// The shard that answers.
    pub shard: ShardId,
    /// How many shards the node has.
    pub shards: u16,
    /// The lowest version the server speaks.
    pub version_least: u16,
    /// The highest version the server speaks.
    pub version_most: u16,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The version spoken from here on.
    pub version: u16,
    /// Features granted.
    pub features: u64,
    /// The largest length that a request's frame may have.
    pub frame_bytes_max: u32,
    /// Requests that may wait for their answer before the server stops reading.
    pub requests_in_flight_max: u32,
    /// Request bytes that may.
    pub request_bytes_in_flight_max: u32,
}

impl ServerPreface {
    /// A server's answer that grants what this version has.
    #[must_use]
    pub const fn accept(facts: NodeFacts, version: u16) -> Self {
        let accepted = Accepted {
            version,
            features: 0,
            frame_bytes_max: FRAME_BYTES_MAX,
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX,
            request_bytes_in_flight_max: REQUEST_BYTES_IN_FLIGHT_MAX,
        };
        Self { outcome: Ok(accepted), ..Self::base(facts) }
    }

    /// A server's refusal.
    #[must_use]
    pub fn refuse(facts: NodeFacts, kind: ErrorKind) -> Self {
        Self { outcome: Err(kind.into()), ..Self::base(facts) }
    }

    const fn base(facts: NodeFacts) -> Self {
        Self {
            outcome: Err(Failure { code: 0, is_retriable: false }),
            shard: facts.shard,
            shards: facts.shards,
            version_least: VERSION_LEAST,
            version_most: VERSION_MOST,
        }
    }

    /// Appends the 40 bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let refused = Accepted {
            version: 0,
            features: 0,
            frame_bytes_max: 0,
            requests_in_flight_max: 0,
            request_bytes_in_flight_max: 0,
        };
        let accepted = self.outcome.unwrap_or(refused);
        let code = self.outcome.err().map_or(0, |failure| failure.code);
        into.extend_from_slice(&MAGIC);
        into.extend_from_slice(&accepted.version.to_le_bytes());
        into.extend_from_slice(&code.to_le_bytes());
        into.extend_from_slice(&self.shard.0.to_le_bytes());
        into.extend_from_slice(&self.shards.to_le_bytes());
        into.extend_from_slice(&accepted.features.to_le_bytes());
        into.extend_from_slice(&accepted.frame_bytes_max.to_le_bytes());
        into.extend_from_slice(&accepted.requests_in_flight_max.to_le_bytes());
        into.extend_from_slice(&accepted.request_bytes_in_flight_max.to_le_bytes());
        into.extend_from_slice(&self.version_least.to_le_bytes());
        into.extend_from_slice(&self.version_most.to_le_bytes());
    }

    /// Reads exactly 40 bytes. Whether a refusal is retriable follows from its kind.
    ///
    /// # Errors
    /// If they aren't a preface.
    pub fn decode(bytes: &[u8; SERVER_BYTES]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_magic(&mut reader)?;
        let version = reader.u16()?;
        let code = reader.i16()?;
        let (shard, shards) = (ShardId(reader.u16()?), reader.u16()?);
        let accepted = Accepted {
            version,
            features: reader.u64()?,
            frame_bytes_max: reader.u32()?,
            requests_in_flight_max: reader.u32()?,
            request_bytes_in_flight_max: reader.u32()?,
        };
        let is_retriable = ErrorKind::from_code(code).is_some_and(ErrorKind::is_retriable);
        let outcome = Failure::of(code, is_retriable).map_or(Ok(accepted), Err);
        Ok(Self { outcome, shard, shards, version_least: reader.u16()?, version_most: reader.u16()? })
    }
}

/// Whether these bytes, as far as they go, can be the beginning of a preface.
#[must_use]
pub fn may_begin(bytes: &[u8]) -> bool {
    bytes.iter().zip(&MAGIC).all(|(byte, expected)| byte == expected)
}

fn read_magic(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    if reader.take(MAGIC.len())? == MAGIC { Ok(()) } else { Err(DecodeError::Value { field: "magic" }) }
}
