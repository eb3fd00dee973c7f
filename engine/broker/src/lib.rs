//! All that one core owns, as a pure machine: inputs and the time go in, effects come out.
#![no_std]
extern crate alloc;

pub mod effect;
pub mod input;

pub use effect::{Ack, ControlCommand, Effect, Effects, OpId, Pin};
pub use input::Input;
