//! Little-endian fields, read and written in order.

use alloc::vec::Vec;

use cutwater_model::{ErrorKind, PartitionId, PartitionIndex, TopicId};

use crate::error::DecodeError;

/// Reads the fields of a frame's body, in order.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Cut)?;
        self.rest = rest;
        Ok(*field)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn topic(&mut self) -> Result<TopicId, DecodeError> {
        self.array().map(|field| TopicId(u128::from_le_bytes(field)))
    }

    /// A topic id and a partition's number, 20 bytes.
    #[inline]
    pub(crate) fn partition(&mut self) -> Result<PartitionId, DecodeError> {
        Ok(PartitionId { topic: self.topic()?, index: PartitionIndex(self.u32()?) })
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(DecodeError::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes that must be 0.
    pub(crate) fn reserved(&mut self, bytes: usize) -> Result<(), DecodeError> {
        if self.take(bytes)?.iter().any(|&byte| byte != 0) { Err(DecodeError::Reserved) } else { Ok(()) }
    }

    /// A count of elements that take `element_bytes` each at least. It is believed only as far as the bytes for
    /// that many elements are there, so that no memory is taken for a promise (B20, B21).
    pub(crate) fn count(&mut self, element_bytes: usize, count_max: u32) -> Result<u32, DecodeError> {
        let count = self.u32()?;
        let count_max = (self.rest.len() / element_bytes).min(count_max as usize);
        if count as usize > count_max { Err(DecodeError::Count { count, count_max }) } else { Ok(count) }
    }

    /// All bytes that are left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left (B11).
    #[inline]
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Leftover { bytes: self.rest.len() }) }
    }
}

/// Appends a topic id and a partition's number, 20 bytes.
pub(crate) fn put_partition(into: &mut Vec<u8>, partition: PartitionId) {
    into.extend_from_slice(&partition.topic.0.to_le_bytes());
    into.extend_from_slice(&partition.index.0.to_le_bytes());
}

/// Appends an error's code, or 0, and its flags, and a byte of 0: 4 bytes.
pub(crate) fn put_error(into: &mut Vec<u8>, error: Option<ErrorKind>) {
    into.extend_from_slice(&code_of(error).to_le_bytes());
    into.extend_from_slice(&[flags_of(error), 0]);
}

/// The code of an error, 0 for none.
pub(crate) const fn code_of(error: Option<ErrorKind>) -> i16 {
    match error {
        Some(kind) => kind.code(),
        None => 0,
    }
}

/// The flags that go with an error.
pub(crate) const fn flags_of(error: Option<ErrorKind>) -> u8 {
    match error {
        Some(kind) if kind.is_retriable() => crate::frame::RETRIABLE_FLAG,
        _ => 0,
    }
}
