//! micro.
