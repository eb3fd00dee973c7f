//! The native door: bytes of Cutwater's own protocol to and from api values.
//!
//! docs/NATIVE_PROTOCOL.md draws every byte. Both sides share this crate: a server drives [`ServerSession`], a client
//! cuts frames with [`frame::cut`], writes with [`request`] and reads with [`response`]. Everything here is a pure
//! function of its bytes; decoding borrows, and takes memory only in proportion to what has arrived.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
extern crate alloc;

pub mod api;
pub mod error;
pub mod frame;
pub mod preface;
pub mod request;
pub mod response;
pub mod session;
mod wire;

pub use error::{DecodeError, Failure};
pub use frame::{Cut, Frame, FrameLengthError};
pub use preface::{Accepted, ClientPreface, ServerPreface};
pub use response::Answer;
pub use session::ServerSession;

#[cfg(test)]
mod tests;
