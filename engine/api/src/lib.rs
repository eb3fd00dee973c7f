//! The one seam between doors and engine.
#![no_std]
extern crate alloc;
