//! What clients do: each is a small machine that asks, checks its answers against the oracle, and asks again.

pub mod payload;
