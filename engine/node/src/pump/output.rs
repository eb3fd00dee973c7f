//! Answers leave: all of a turn in one send per connection, one operation per connection at a time.
//!
//! What is small is copied; payload is sent from where it lies, and its pins go back to the core when the kernel is
//! done with it.

use cutwater_api::{Output, Piece, Response, Session};
use cutwater_broker::Input;
use cutwater_model::{Slab, limits};
use cutwater_ring::{Attachment, Completion, Piece as RingPiece};

use super::{Core, Pump, Purpose};
use crate::connection::Connection;

/// Payload up to this size is copied to the session's own bytes: cheaper than naming it in pieces.
const COPY_BYTES_MAX: usize = 16 * 1024;
/// One operation sends no more, so that its end is a sign of progress.
const WINDOW_BYTES: usize = 256 * 1024;
/// The kernel takes no more pieces at once (IOV_MAX).
const WINDOW_PIECES: usize = 1024;
/// A send buffer that grew beyond this is not kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;

impl<C: Core, S: Session> Pump<C, S> {
    /// Writes the answers to produce requests.
    pub(super) fn send_acks(&mut self) {
        let mut acks = core::mem::take(&mut self.effects.acks);
        for ack in &acks {
            if let Some(kind) = ack.produced.error {
                self.meters.add_refusal(kind);
            }
            let Some(connection) = self.connections.get(ack.ticket.connection) else { continue };
            let response = Response::Produced(ack.produced);
            connection.session.on_response(ack.ticket, &response, &mut connection.output);
            if !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(ack.ticket.connection.slot);
            }
        }
        acks.clear();
        self.effects.acks = acks;
    }

    /// Begins a send for every connection that has output and no send in flight.
    pub(super) fn send_dirty(&mut self) {
        let mut dirty = core::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(connection) = self.connections.at(slot) else { continue };
            connection.is_dirty = false;
            if !connection.is_closed && !connection.sending.is_in_flight && !connection.output.is_empty() {
                self.begin_send(slot);
            }
        }
        self.dirty = dirty;
    }

    /// Takes what is to be sent next, and sends its beginning.
    fn begin_send(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Connection { sending, output, pins, spare, .. } = connection;
        core::mem::swap(&mut sending.output, output);
        core::mem::swap(&mut sending.pins, pins);
        sending.sent = 0;
        let mut copied = core::mem::take(spare);
        let is_small =
            !sending.output.is_plain() && copy_small(&sending.output, self.core.slab(), &mut copied);
        if is_small {
            sending.output.clear();
            core::mem::swap(sending.output.bytes(), &mut copied);
        }
        if is_small || sending.output.is_plain() {
            *spare = Vec::new();
            let bytes = sending.output.swap_bytes(copied);
            // What is small was copied and is let go of at once. What is large counts until the peer has taken it, even
            // where it names no payload here because it came from another shard.
            let is_light = bytes.len() <= COPY_BYTES_MAX;
            let pins = if is_light { core::mem::take(&mut sending.pins) } else { Vec::new() };
            let connection_socket = &connection.socket;
            self.ring.send(Purpose::Send.token(slot), connection_socket, bytes, 0);
            connection.sending.is_in_flight = true;
            connection.sending.begun_us = self.now.mono_us;
            for pin in &pins {
                self.core.handle(Input::SendDone(*pin), self.now, &mut self.effects);
            }
            if is_light && let Some(connection) = self.connections.at(slot) {
                connection.sending.pins = pins;
                connection.sending.pins.clear();
            }
            return;
        }
        *spare = copied;
        self.send_window(slot);
    }

    /// Sends the next pieces of an answer that names payload.
    fn send_window(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let sending = &mut connection.sending;
        self.pieces.clear();
        window(&sending.output, sending.sent, &mut self.pieces);
        let owned = sending.output.swap_bytes(Vec::new());
        sending.is_in_flight = true;
        sending.begun_us = self.now.mono_us;
        self.ring.send_pieces(Purpose::Send.token(slot), &connection.socket, owned, &self.pieces);
    }

    /// A send has ended.
    pub(super) fn on_sent(&mut self, slot: u32, completion: Completion) {
        let Some(connection) = self.connections.at(slot) else { return };
        let sending = &mut connection.sending;
        sending.is_in_flight = false;
        let is_plain = sending.output.is_plain();
        if let Attachment::Returned(mut buffer) = completion.attachment {
            if is_plain {
                buffer.clear();
                if buffer.capacity() <= SPARE_BYTES_MAX {
                    connection.spare = buffer;
                }
            } else {
                sending.output.swap_bytes(buffer);
            }
        }
        if connection.is_closed {
            self.end_sending(slot);
            return self.free_if_idle(slot);
        }
        let Ok(sent @ 1..) = completion.result else {
            return self.close(slot, cutwater_api::CloseReason::Peer);
        };
        sending.sent += sent as usize;
        if !is_plain && sending.sent < sending.output.len() {
            return self.send_window(slot);
        }
        self.meters.add_sent(sending.sent as u64, self.now.mono_us.saturating_sub(sending.begun_us));
        self.end_sending(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.output.is_empty() {
            if !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(slot);
            }
        } else if let Some(reason) = connection.closing {
            return self.close(slot, reason);
        } else if connection.moving.is_some() {
            return self.hand_over_if_quiet(slot);
        }
        self.unblock(slot);
    }

    /// Forgets what was sent and lets go of its memory.
    fn end_sending(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        connection.sending.output.clear();
        let mut pins = core::mem::take(&mut connection.sending.pins);
        for pin in pins.drain(..) {
            self.core.handle(Input::SendDone(pin), self.now, &mut self.effects);
        }
        if let Some(connection) = self.connections.at(slot) {
            connection.sending.pins = pins;
        }
    }

    /// Reads again from a connection whose answers had filled its share.
    fn unblock(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.is_blocked && connection.output.len() <= limits::SEND_BYTES_PINNED_MAX as usize {
            connection.is_blocked = false;
            self.read_on(slot);
        }
    }
}

/// Copies the whole output if its payload is small.
fn copy_small(output: &Output, slab: &Slab, into: &mut Vec<u8>) -> bool {
    let payload: usize = output
        .pieces()
        .map(|piece| if let Piece::Memory(range) = piece { range.len as usize } else { 0 })
        .sum();
    if payload > COPY_BYTES_MAX {
        return false;
    }
    for piece in output.pieces() {
        match piece {
            Piece::Bytes(bytes) => into.extend_from_slice(bytes),
            Piece::Memory(range) => into.extend_from_slice(slab.get(range)),
        }
    }
    true
}

/// Names the pieces of an output from `sent` on, as many as one operation takes.
fn window(output: &Output, sent: usize, into: &mut Vec<RingPiece>) {
    let mut skip = sent;
    let mut left = WINDOW_BYTES;
    let mut owned_at = 0;
    for piece in output.pieces() {
        let (len, start) = match piece {
            Piece::Bytes(bytes) => (bytes.len(), owned_at),
            Piece::Memory(range) => (range.len as usize, range.at as usize),
        };
        if let Piece::Bytes(bytes) = piece {
            owned_at += bytes.len();
        }
        if skip >= len {
            skip -= len;
            continue;
        }
        let (at, len) = (start + skip, (len - skip).min(left));
        skip = 0;
        left -= len;
        into.push(match piece {
            Piece::Bytes(_) => RingPiece::Owned { at: at as u32, len: len as u32 },
            Piece::Memory(_) => {
                RingPiece::Slab(cutwater_model::MemoryRange { at: at as u32, len: len as u32 })
            }
        });
        if left == 0 || into.len() == WINDOW_PIECES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use cutwater_model::MemoryRange;

    use super::*;

    #[test]
    fn windows_cover_every_byte_once_and_in_order() {
        let mut output = Output::default();
        output.bytes().extend_from_slice(&[1; 10]);
        output.push_memory(MemoryRange { at: 4096, len: 300_000 });
        output.bytes().extend_from_slice(&[2; 5]);
        output.push_memory(MemoryRange { at: 500_000, len: 7 });
        let (mut sent, mut pieces) = (0, Vec::new());
        let mut seen: Vec<(bool, u32, u32)> = Vec::new();
        while sent < output.len() {
            pieces.clear();
            window(&output, sent, &mut pieces);
            for piece in &pieces {
                let (is_slab, at, len) = match *piece {
                    RingPiece::Owned { at, len } => (false, at, len),
                    RingPiece::Slab(range) => (true, range.at, range.len),
                };
                sent += len as usize;
                match seen.last_mut() {
                    Some(last) if last.0 == is_slab && last.1 + last.2 == at => last.2 += len,
                    _ => seen.push((is_slab, at, len)),
                }
            }
        }
        assert_eq!(seen, [(false, 0, 10), (true, 4096, 300_000), (false, 10, 5), (true, 500_000, 7)]);
    }
}
