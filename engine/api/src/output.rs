//! What a session has to send: its own bytes, and ranges of the shard's payload memory between them.

use alloc::vec::Vec;

use cutwater_model::MemoryRange;

/// Bytes on their way to one peer, in order.
///
/// Small things are written into `bytes`; payload stays where it is and is named. The pump sends both with one
/// operation, or copies what is small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    bytes: Vec<u8>,
    memory: Vec<(usize, MemoryRange)>,
}

/// One stretch of an [`Output`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The session's own bytes.
    Bytes(&'a [u8]),
    /// Payload in the slab.
    Memory(MemoryRange),
}

impl Output {
    /// The session's own bytes so far, to append to.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends payload in the slab.
    pub fn push_memory(&mut self, range: MemoryRange) {
        if range.len > 0 {
            self.memory.push((self.bytes.len(), range));
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.memory.is_empty()
    }

    /// How many bytes there are to send.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.memory.iter().map(|(_, range)| range.len as usize).sum::<usize>()
    }

    /// Whether only the session's own bytes are to be sent, as with acks.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.memory.is_empty()
    }

    /// Takes the session's own bytes out and leaves `spare` in their place; for a plain output.
    pub fn swap_bytes(&mut self, spare: Vec<u8>) -> Vec<u8> {
        core::mem::replace(&mut self.bytes, spare)
    }

    /// All stretches in the order they are sent.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut sent = 0;
        let heads = self.memory.iter().flat_map(move |&(before, range)| {
            let head = &self.bytes[sent..before];
            sent = before;
            [Piece::Bytes(head), Piece::Memory(range)]
        });
        let last = self.memory.last().map_or(0, |&(before, _)| before);
        heads
            .chain(core::iter::once(Piece::Bytes(&self.bytes[last..])))
            .filter(|piece| !matches!(piece, Piece::Bytes([])))
    }

    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.memory.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_the_order_they_were_put() {
        let mut output = Output::default();
        let range = MemoryRange { at: 4096, len: 10 };
        output.bytes().extend_from_slice(b"head");
        output.push_memory(range);
        output.push_memory(range);
        output.bytes().extend_from_slice(b"tail");
        let pieces: Vec<_> = output.pieces().collect();
        assert_eq!(
            pieces,
            [Piece::Bytes(b"head"), Piece::Memory(range), Piece::Memory(range), Piece::Bytes(b"tail")]
        );
        assert_eq!(output.len(), 28);
    }
}
