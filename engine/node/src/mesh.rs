//! The two ends of the byte ring between two pumps.
//!
//! The core writes a stream of messages, each after its length. The ring carries the stream in chunks, so a message
//! may be longer than the ring; one that lies whole in a chunk is read where it lies.

use std::sync::Arc;

use cutwater_model::limits;
use cutwater_ring::{Doorbell, spsc};

/// The largest chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// The length before each message.
const PREFIX: usize = size_of::<u32>();

/// The end that writes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    sender: spsc::Sender,
    bell: Arc<Doorbell>,
    /// What found the ring full, from `sent` on.
    backlog: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(crate) fn new(sender: spsc::Sender, bell: Arc<Doorbell>) -> Self {
        Self { sender, bell, backlog: Vec::new(), sent: 0 }
    }

    /// Whether nothing waits.
    pub(crate) fn is_clear(&self) -> bool {
        self.backlog.is_empty()
    }

    /// How many bytes wait.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// Whether so much waits that nobody should add to it.
    pub(crate) fn is_congested(&self) -> bool {
        self.backlog() > limits::SHARD_BACKLOG_BYTES_MAX as usize
    }

    /// Sends what waits and then `bytes`, as far as there is room; empties `bytes`.
    pub(crate) fn push(&mut self, bytes: &mut Vec<u8>) {
        if self.backlog.is_empty() {
            if bytes.is_empty() {
                return;
            }
            core::mem::swap(&mut self.backlog, bytes);
        } else {
            self.backlog.append(bytes);
        }
        let before = self.sent;
        let chunk_bytes = CHUNK_BYTES.min(self.sender.message_bytes_max());
        while self.sent < self.backlog.len() {
            let end = self.backlog.len().min(self.sent + chunk_bytes);
            if !self.sender.send(&[&self.backlog[self.sent..end]]) {
                break;
            }
            self.sent = end;
        }
        if self.sent > before {
            self.bell.ring();
        }
        if self.sent == self.backlog.len() {
            self.backlog.clear();
            self.sent = 0;
            if bytes.capacity() < self.backlog.capacity() {
                core::mem::swap(&mut self.backlog, bytes);
            }
        } else if self.sent > limits::SHARD_RING_BYTES as usize {
            self.backlog.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// The end that reads.
#[derive(Debug)]
pub(crate) struct Incoming {
    receiver: spsc::Receiver,
    /// The beginning of a message whose end is in a later chunk, its length included.
    partial: Vec<u8>,
}

impl Incoming {
    pub(crate) fn new(receiver: spsc::Receiver) -> Self {
        Self { receiver, partial: Vec::new() }
    }

    /// Whether a chunk is there.
    pub(crate) fn has_some(&mut self) -> bool {
        !self.receiver.is_empty()
    }

    /// Hands over whole messages, as many as come in a turn's share of bytes. Returns whether there were any bytes.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        let mut left = limits::TURN_BYTES_MAX as usize;
        let mut any = false;
        while left > 0 {
            let Some(chunk) = self.receiver.receive() else { break };
            any = true;
            left = left.saturating_sub(chunk.len());
            let mut bytes: &[u8] = &chunk;
            while !bytes.is_empty() {
                if self.partial.is_empty()
                    && let Some((message, rest)) = split_message(bytes)
                {
                    take(message);
                    bytes = rest;
                    continue;
                }
                bytes = complete(&mut self.partial, bytes);
                if let Some((message, _)) = split_message(&self.partial) {
                    take(message);
                    self.partial.clear();
                }
            }
        }
        any
    }
}

/// The message at the front, if it is whole, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

/// Moves what belongs to the message in `partial` from the front of `bytes`, and returns the rest.
fn complete<'a>(partial: &mut Vec<u8>, bytes: &'a [u8]) -> &'a [u8] {
    let (prefix, bytes) = bytes.split_at(PREFIX.saturating_sub(partial.len()).min(bytes.len()));
    partial.extend_from_slice(prefix);
    let Some(len) = partial.first_chunk::<PREFIX>() else { return bytes };
    let missing = (u32::from_le_bytes(*len) as usize + PREFIX).saturating_sub(partial.len());
    let (body, bytes) = bytes.split_at(missing.min(bytes.len()));
    partial.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u32) -> Vec<u8> {
        let mixed = number.wrapping_mul(0x9e37_79b9) >> 7;
        let len = if number.is_multiple_of(50) { 200_000 } else { mixed as usize % 900 };
        (0..len).map(|at| (at as u32 ^ mixed) as u8).collect()
    }

    #[test]
    fn messages_of_any_length_cross_in_order_through_a_small_ring() {
        let (sender, receiver) = spsc::channel(1 << 18).unwrap();
        let mut outgoing = Outgoing::new(sender, Arc::new(Doorbell::new().unwrap()));
        let mut incoming = Incoming::new(receiver);
        let mut stream = Vec::new();
        let mut expected = 0;
        for number in 0..2000 {
            let message = message(number);
            stream.extend_from_slice(&(message.len() as u32).to_le_bytes());
            stream.extend_from_slice(&message);
            if number % 7 == 0 {
                outgoing.push(&mut stream);
                assert!(stream.is_empty());
            }
            if number % 40 == 0 {
                incoming.receive(|got| {
                    assert!(got == self::message(expected), "message {expected}");
                    expected += 1;
                });
            }
        }
        while expected < 2000 {
            outgoing.push(&mut stream);
            let any = incoming.receive(|got| {
                assert!(got == message(expected), "message {expected}");
                expected += 1;
            });
            assert!(any, "stuck at {expected}");
        }
        assert!(outgoing.is_clear());
    }

    #[test]
    fn what_waits_for_a_full_ring_is_bounded_by_the_pump() {
        let (sender, _receiver) = spsc::channel(4096 * 64).unwrap();
        let mut outgoing = Outgoing::new(sender, Arc::new(Doorbell::new().unwrap()));
        let mut pushed = 0;
        while !outgoing.is_congested() {
            outgoing.push(&mut vec![0; 100_000]);
            pushed += 100_000;
        }
        assert!(pushed <= limits::SHARD_BACKLOG_BYTES_MAX as usize + 400_000, "{pushed}");
    }
}
