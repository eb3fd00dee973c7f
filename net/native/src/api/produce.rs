//! Produce, kind 2: append one batch to one partition.
//!
//! Request, 32 bytes and the batch, which thus begins at a multiple of 8:
//! ```text
//!  6 i16  acks         the header's code: 0 none, no answer comes; 1 the leader; -1 all
//! 12 u128 topic id
//! 28 u32  partition
//! 32      the batch    one RecordBatch v2, to the frame's end
//! ```
//! Answer, kind 130, 28 bytes, or 36 where flag bit 1 (2) is set:
//! ```text
//!  5 u8   flags        bit 0 retriable, bit 1: an append time follows
//!  6 i16  code         0, or why the batch was not appended
//! 12 i64  base offset  of the batch; -1 where it was not appended
//! 20 i64  log start    the first offset there is
//! 28 i64  append time  ms since 1970
//! ```

use alloc::vec::Vec;

use cutwater_api::{Announced, Produce, Produced, RequiredAcks, Upcoming};
use cutwater_model::limits::FRAME_BYTES_MAX;
use cutwater_model::{Offset, TimestampMs};

use crate::{
    error::{DecodeError, Failure},
    frame::{self, Cut, Frame, RETRIABLE_FLAG, header, kind},
    wire::{Reader, code_of, flags_of, put_partition},
};

/// What stands before the batch.
pub const REQUEST_HEAD_BYTES: usize = 32;
const APPEND_TIME_FLAG: u8 = 2;

/// What became of a batch, as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedView {
    /// Why the batch was not appended, if it was not.
    pub failure: Option<Failure>,
    /// The offset of its first record, -1 where it was not appended.
    pub base_offset: Offset,
    /// The first offset of the partition.
    pub log_start: Offset,
    /// When it was appended, for topics that stamp it.
    pub append_time: Option<TimestampMs>,
}

/// Appends a produce request, batch included.
#[inline]
pub fn encode_request(into: &mut Vec<u8>, correlation: u32, request: &Produce<'_>) {
    encode_head(into, correlation, request);
    into.extend_from_slice(request.batch);
}

/// Appends the 32 bytes before the batch, for a client that sends the batch from where it is.
#[inline]
pub fn encode_head(into: &mut Vec<u8>, correlation: u32, request: &Produce<'_>) {
    let acks = match request.acks {
        RequiredAcks::None => 0,
        RequiredAcks::Leader => 1,
        RequiredAcks::All => -1,
    };
    let body_bytes = request.batch.len().saturating_add(20);
    let body_bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
    into.reserve(REQUEST_HEAD_BYTES);
    into.extend_from_slice(&header(body_bytes, kind::PRODUCE, 0, acks, correlation));
    put_partition(into, request.partition);
}

/// Reads the head of a request whose batch has not come yet. `None` for other requests and for what is wrong in any way,
/// which is told when the frame is whole.
pub(crate) fn announced(bytes: &[u8]) -> Option<Announced> {
    let Ok(Cut::Incomplete { bytes_needed }) = frame::cut(bytes, FRAME_BYTES_MAX) else { return None };
    let head = bytes.get(4..REQUEST_HEAD_BYTES)?;
    let batch_bytes = u32::try_from(bytes_needed.checked_sub(REQUEST_HEAD_BYTES)?).ok()?;
    // The same head as that of a request with an empty batch, but for its length.
    let mut alone = [0; REQUEST_HEAD_BYTES];
    alone[..4].copy_from_slice(&(REQUEST_HEAD_BYTES as u32 - 4).to_le_bytes());
    alone[4..].copy_from_slice(head);
    let Ok(Cut::Whole(frame)) = frame::cut(&alone, FRAME_BYTES_MAX) else { return None };
    if frame.kind != kind::PRODUCE {
        return None;
    }
    let Produce { partition, acks, .. } = decode_request(&frame).ok()?;
    let correlation = frame.correlation;
    Some(Announced { correlation, partition, acks, batch_at: REQUEST_HEAD_BYTES, batch_bytes })
}

/// Reads where the batches of the whole requests at the front of some bytes go, up to the first frame of another kind.
pub(crate) fn upcoming(mut bytes: &[u8], into: &mut [Upcoming]) -> usize {
    let mut told = 0;
    for upcoming in into {
        let Ok(Cut::Whole(frame)) = frame::cut(bytes, FRAME_BYTES_MAX) else { break };
        if frame.kind != kind::PRODUCE {
            break;
        }
        let Ok(Produce { partition, batch, .. }) = decode_request(&frame) else { break };
        *upcoming = Upcoming { partition, bytes: batch.len() as u32 };
        bytes = &bytes[frame.bytes()..];
        told += 1;
    }
    told
}

#[inline]
pub(crate) fn decode_request<'a>(frame: &Frame<'a>) -> Result<Produce<'a>, DecodeError> {
    frame.check_flags(0)?;
    let mut reader = Reader::new(frame.body);
    let partition = reader.partition()?;
    let acks = match frame.code {
        0 => RequiredAcks::None,
        1 => RequiredAcks::Leader,
        -1 => RequiredAcks::All,
        acks => return Err(DecodeError::Acks { acks }),
    };
    Ok(Produce { partition, acks, batch: reader.rest() })
}

/// Appends the answer.
#[inline]
pub fn encode_answer(into: &mut Vec<u8>, correlation: u32, produced: &Produced) {
    let kind = kind::PRODUCE + kind::ANSWER;
    let (flags, code) = (flags_of(produced.error), code_of(produced.error));
    let mut frame = [0; 36];
    frame[12..20].copy_from_slice(&produced.base_offset.0.to_le_bytes());
    frame[20..28].copy_from_slice(&produced.log_start.0.to_le_bytes());
    if let Some(time) = produced.append_time {
        frame[..12].copy_from_slice(&header(24, kind, flags | APPEND_TIME_FLAG, code, correlation));
        frame[28..].copy_from_slice(&time.0.to_le_bytes());
        into.extend_from_slice(&frame);
    } else {
        frame[..12].copy_from_slice(&header(16, kind, flags, code, correlation));
        into.extend_from_slice(&frame[..28]);
    }
}

#[inline]
pub(crate) fn decode_answer(frame: &Frame<'_>) -> Result<ProducedView, DecodeError> {
    frame.check_flags(RETRIABLE_FLAG | APPEND_TIME_FLAG)?;
    let mut reader = Reader::new(frame.body);
    let view = ProducedView {
        failure: Failure::of(frame.code, frame.flags & RETRIABLE_FLAG != 0),
        base_offset: Offset(reader.i64()?),
        log_start: Offset(reader.i64()?),
        append_time: match frame.flags & APPEND_TIME_FLAG {
            0 => None,
            _ => Some(TimestampMs(reader.i64()?)),
        },
    };
    reader.finish()?;
    Ok(view)
}
