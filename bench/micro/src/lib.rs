//! What the micro benches share: batches of the shapes that the figures name.
//!
//! Each bench measures one step of the hot path alone. They explain a figure that moved; the gate decides whether it may.
#![cfg_attr(test, allow(clippy::expect_used))]

pub mod rig;

use cutwater_model::TimestampMs;
use cutwater_model::builder::{AppendError, BatchBuilder, Sequence};
use cutwater_model::limits::BATCH_BYTES_MAX;

/// Records per batch and bytes per value.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How the shape is called in the names of benches.
    pub name: &'static str,
    /// Records in one batch.
    pub records: u32,
    /// Bytes in the value of each.
    pub value_bytes: usize,
}

/// One small record, a thousand small ones, a thousand of a kilobyte.
pub const SHAPES: [Shape; 3] = [
    Shape { name: "1x100B", records: 1, value_bytes: 100 },
    Shape { name: "1000x100B", records: 1_000, value_bytes: 100 },
    Shape { name: "1000x1kB", records: 1_000, value_bytes: 1_000 },
];

/// A batch of that shape, as a producer without an id sends it.
///
/// # Errors
/// If the shape doesn't fit into one batch.
pub fn batch(shape: Shape) -> Result<Vec<u8>, AppendError> {
    let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
    fill(&mut builder, shape)?;
    Ok(builder.finish(Sequence::NONE).to_vec())
}

/// Adds the records of a shape to `builder`.
///
/// # Errors
/// If they don't fit.
pub fn fill(builder: &mut BatchBuilder, shape: Shape) -> Result<(), AppendError> {
    let value = vec![0x5a; shape.value_bytes];
    for _ in 0..shape.records {
        builder.append(TimestampMs(1_700_000_000_000), None, Some(&value), &[])?;
    }
    Ok(())
}
