//! metadata.
#![no_std]
extern crate alloc;

/// What the node knows of its topics.
#[derive(Debug, Default)]
pub struct Image {}
