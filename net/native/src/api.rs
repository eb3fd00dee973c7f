//! One file per API, its layout at its head. Places are counted from the frame's beginning; frame.rs has the first 12
//! bytes.

pub mod add_partitions;
pub mod create_topic;
pub mod delete_topic;
pub mod describe;
pub mod fetch;
pub mod list_offsets;
pub mod ping;
pub mod produce;
pub mod producer_id;
pub mod refused;
pub mod subscribe;
