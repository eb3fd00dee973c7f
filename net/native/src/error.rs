//! Why a frame can't be read, and how a refusal looks to the peer that reads it.

use cutwater_model::ErrorKind;

/// Why a frame's contents can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends before its fields do.
    #[error("the frame ends inside its fields")]
    Cut,
    /// The frame goes on after its fields.
    #[error("{bytes} bytes are left over at the end of the frame")]
    Leftover {
        /// How many bytes.
        bytes: usize,
    },
    /// A count is more than its bound, or than the frame has room for.
    #[error("the frame says {count} elements, but has room for, or may name, {count_max}")]
    Count {
        /// The count as the frame says it.
        count: u32,
        /// What it may be.
        count_max: usize,
    },
    /// There is no such kind of frame, or not in this direction.
    #[error("there is no kind {kind} of frame in this direction")]
    Kind {
        /// The kind as the frame says it.
        kind: u8,
    },
    /// A bit or byte is set that must be 0.
    #[error("a reserved byte or flag is not 0")]
    Reserved,
    /// A field has a value without meaning.
    #[error("{field} has a value without meaning")]
    Value {
        /// Which field.
        field: &'static str,
    },
    /// Acks is none of 0, 1 and -1.
    #[error("acks is {acks}; it must be 0, 1 or -1 (all)")]
    Acks {
        /// Acks as the frame says it.
        acks: i16,
    },
    /// A topic's name is not UTF-8 or too long.
    #[error("a topic's name is not text, or longer than any name")]
    Name,
}

impl DecodeError {
    /// The kind that the peer is told.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Acks { .. } => ErrorKind::InvalidRequiredAcks,
            Self::Name => ErrorKind::InvalidTopic,
            _ => ErrorKind::InvalidRequest,
        }
    }

    /// Whether the peer has lost the thread and is better closed than answered.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        !matches!(self, Self::Acks { .. } | Self::Name)
    }
}

/// A refusal as a client reads it. The code may come from a later version and have no kind here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number on the wire, never 0.
    pub code: i16,
    /// Whether the same request may succeed later.
    pub is_retriable: bool,
}

impl Failure {
    /// The failure of a code, or `None` where the code is 0: no error.
    #[must_use]
    pub const fn of(code: i16, is_retriable: bool) -> Option<Self> {
        if code == 0 { None } else { Some(Self { code, is_retriable }) }
    }

    /// The kind, where it is one of those known here.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        ErrorKind::from_code(self.code)
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self { code: kind.code(), is_retriable: kind.is_retriable() }
    }
}
