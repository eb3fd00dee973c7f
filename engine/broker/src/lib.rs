//! broker.
#![no_std]
extern crate alloc;
