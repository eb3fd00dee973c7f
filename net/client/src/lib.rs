//! The native client: what a service embeds to produce and consume.
//!
//! Everything is driven by the caller's thread through `poll`; there is no thread of ours. [`Session`] is the pure half
//! of one connection (requests in, bytes out; bytes in, answers out). [`Transport`] carries many of them on one io_uring
//! of its own. [`Client`] asks and waits; [`Producer`] and [`Consumer`] are built on the [`Wire`] that a transport is, so
//! that their tests run against a scripted peer in memory. After warm-up nothing here allocates per record.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backoff;
mod client;
mod codec;
mod config;
pub mod consumer;
mod error;
mod links;
mod pending;
pub mod producer;
mod session;
#[cfg(test)]
mod test_peer;
mod transport;
mod wire;

pub use client::{Client, FoundOffset};
pub use codec::{CodecError, Compressor, Decompressor};
pub use config::{ClientConfig, resolve};
pub use consumer::{Consumer, ConsumerConfig, StartAt};
pub use error::{ClientError, LinkError, LinkFault};
pub use producer::{Delivery, DeliveryError, Producer, ProducerConfig, SendError};
pub use session::{Event, NO_TOKEN, Session};
pub use transport::Transport;
pub use wire::{LinkId, Wire};

pub use cutwater_api::RequiredAcks;
pub use cutwater_ring::Wait;
