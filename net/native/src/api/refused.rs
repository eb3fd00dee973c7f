//! A refusal, kind 193: the answer to any request that was not carried out.
//!
//! A produce request that reached its partition is refused by its own answer instead.
//! ```text
//!  5 u8  flags   bit 0 retriable
//!  6 i16 code    why, never 0
//! 12     text    for a human, UTF-8, 0 to 512 bytes, to the frame's end
//! ```

use alloc::vec::Vec;
use core::fmt::{self, Write};

use cutwater_model::{ErrorKind, limits::REFUSAL_TEXT_BYTES_MAX};

use crate::{
    error::{DecodeError, Failure},
    frame::{self, Frame, RETRIABLE_FLAG, kind},
    wire::flags_of,
};

/// A refusal as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Why.
    pub failure: Failure,
    /// The same for a human, from the server: escape it before it meets a terminal.
    pub text: &'a str,
}

/// Appends a refusal. A text that is too long is cut.
#[cold]
pub fn encode(into: &mut Vec<u8>, correlation: u32, error: ErrorKind, text: fmt::Arguments<'_>) {
    let start = frame::begin(into, kind::REFUSED, flags_of(Some(error)), error.code(), correlation);
    let mut text_into = BoundedText { into, left: REFUSAL_TEXT_BYTES_MAX };
    // A text that is cut reports so by an error; what fits is there.
    let _cut = text_into.write_fmt(text);
    frame::end(into, start, 0);
}

pub(crate) fn decode<'a>(frame: &Frame<'a>) -> Result<Refusal<'a>, DecodeError> {
    let failure = Failure::of(frame.code, frame.flags & RETRIABLE_FLAG != 0)
        .ok_or(DecodeError::Value { field: "the code of a refusal" })?;
    if frame.body.len() > REFUSAL_TEXT_BYTES_MAX {
        return Err(DecodeError::Leftover { bytes: frame.body.len() - REFUSAL_TEXT_BYTES_MAX });
    }
    let text = core::str::from_utf8(frame.body)
        .map_err(|_| DecodeError::Value { field: "the text of a refusal" })?;
    Ok(Refusal { failure, text })
}

struct BoundedText<'a> {
    into: &'a mut Vec<u8>,
    left: usize,
}

impl Write for BoundedText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.left);
        self.into.extend_from_slice(&text.as_bytes()[..fits]);
        self.left -= fits;
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
