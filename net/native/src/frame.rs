//! Frames: what every request and answer is wrapped in.
//!
//! ```text
//!  0 u32 length       of what follows this field, at least 8
//!  4 u8  kind
//!  5 u8  flags        answers: bit 0 retriable, others by kind; requests: 0
//!  6 i16 code         answers: the error, 0 for none; Produce: acks; other requests: 0
//!  8 u32 correlation  given by the client, returned in the answer; a push: its subscription
//! 12     body         by kind
//! ```

use alloc::vec::Vec;

use crate::error::DecodeError;

/// The bytes before a frame's body.
pub const HEADER_BYTES: usize = 12;
const LENGTH_END: usize = 4;
/// The least that a length may be.
pub const LENGTH_LEAST: u32 = (HEADER_BYTES - LENGTH_END) as u32;

/// On an answer: the same request may succeed later.
pub const RETRIABLE_FLAG: u8 = 1;

/// The kinds of frames. Requests are below 128; an answer is its request's kind plus 128.
pub mod kind {
    /// Is anybody there?
    pub const PING: u8 = 1;
    /// Append a batch.
    pub const PRODUCE: u8 = 2;
    /// Read.
    pub const FETCH: u8 = 3;
    /// Find offsets.
    pub const LIST_OFFSETS: u8 = 4;
    /// Have records pushed.
    pub const SUBSCRIBE: u8 = 5;
    /// Allow a subscription more bytes; not answered unless it is refused.
    pub const ADD_CREDIT: u8 = 6;
    /// End a subscription.
    pub const UNSUBSCRIBE: u8 = 7;
    /// Topics and who serves them.
    pub const DESCRIBE: u8 = 8;
    /// Make a topic.
    pub const CREATE_TOPIC: u8 = 9;
    /// Remove a topic.
    pub const DELETE_TOPIC: u8 = 10;
    /// Give a topic more partitions.
    pub const ADD_PARTITIONS: u8 = 11;
    /// Draw a producer id.
    pub const ALLOCATE_PRODUCER_ID: u8 = 12;
    /// What an answer's kind has on top of its request's.
    pub const ANSWER: u8 = 128;
    /// Records pushed to a subscription.
    pub const PUSHED: u8 = 192;
    /// Any request, refused.
    pub const REFUSED: u8 = 193;
}

/// One whole frame, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// See [`kind`].
    pub kind: u8,
    /// Flags by kind.
    pub flags: u8,
    /// The error of an answer, acks of a Produce, else 0.
    pub code: i16,
    /// Which request.
    pub correlation: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes the frame has in all.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Refuses flags that aren't among `known`.
    pub(crate) const fn check_flags(&self, known: u8) -> Result<(), DecodeError> {
        if self.flags & !known == 0 { Ok(()) } else { Err(DecodeError::Reserved) }
    }

    /// Refuses a code, flags but for the retriable one, where the kind has none.
    pub(crate) const fn check_plain(&self) -> Result<(), DecodeError> {
        if self.code == 0 && self.flags == 0 { Ok(()) } else { Err(DecodeError::Reserved) }
    }
}

/// What lies at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// Not yet a whole frame: so many bytes are needed in all, as far as known.
    Incomplete {
        /// A lower bound of what is needed, counted from the front.
        bytes_needed: usize,
    },
    /// A frame.
    Whole(Frame<'a>),
}

/// A length that no frame has. There is no going on after it: close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame's length of {length} is not between {LENGTH_LEAST} and {length_max}")]
pub struct FrameLengthError {
    /// The length as the peer says it.
    pub length: u32,
    /// What it may be.
    pub length_max: u32,
}

/// Cuts the first frame off. Its length is judged as soon as it is there, before anybody takes memory for it (B1-B3).
///
/// # Errors
/// If the length is out of bounds.
#[inline]
pub fn cut(bytes: &[u8], length_max: u32) -> Result<Cut<'_>, FrameLengthError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_END>() else {
        return Ok(Cut::Incomplete { bytes_needed: HEADER_BYTES });
    };
    let length = u32::from_le_bytes(*length);
    if length < LENGTH_LEAST || length > length_max {
        return Err(FrameLengthError { length, length_max });
    }
    let Some(&[kind, flags, code_low, code_high, c0, c1, c2, c3, ref body @ ..]) =
        rest.get(..length as usize)
    else {
        return Ok(Cut::Incomplete { bytes_needed: LENGTH_END + length as usize });
    };
    Ok(Cut::Whole(Frame {
        kind,
        flags,
        code: i16::from_le_bytes([code_low, code_high]),
        correlation: u32::from_le_bytes([c0, c1, c2, c3]),
        body,
    }))
}

/// Begins a frame whose length isn't known yet; [`end`] wants what this returns.
pub(crate) fn begin(into: &mut Vec<u8>, kind: u8, flags: u8, code: i16, correlation: u32) -> usize {
    let start = into.len();
    into.extend_from_slice(&header(0, kind, flags, code, correlation));
    start
}

/// Ends a frame: fills in its length, `more` bytes that follow elsewhere included.
///
/// Frames are bounded far below 4 GiB by the bounds on what they hold; one that were longer would be cut off by the
/// peer as out of bounds.
pub(crate) fn end(into: &mut [u8], start: usize, more: usize) {
    let length = into.len() - start - LENGTH_END + more;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    into[start..start + LENGTH_END].copy_from_slice(&length.to_le_bytes());
}

/// A frame's header for a body of `body_bytes`.
pub(crate) fn header(
    body_bytes: u32,
    kind: u8,
    flags: u8,
    code: i16,
    correlation: u32,
) -> [u8; HEADER_BYTES] {
    let [l0, l1, l2, l3] = LENGTH_LEAST.saturating_add(body_bytes).to_le_bytes();
    let [low, high] = code.to_le_bytes();
    let [c0, c1, c2, c3] = correlation.to_le_bytes();
    [l0, l1, l2, l3, kind, flags, low, high, c0, c1, c2, c3]
}
