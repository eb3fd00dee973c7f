//! How frames come in: small ones in the ring's receive buffers, many at a time; large ones straight into the group.

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow, bail};
use cutwater_model::{MemoryRange, checksum};
use cutwater_ring::{Attachment, Errno, socket};

use super::server::{Connection, HEADER, HEADERS_AT, PAYLOAD, RECEIVE, Server, token};
use super::{FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX};

impl Server {
    pub(super) fn accepted(&mut self, socket: OwnedFd) -> Result<()> {
        socket::set_no_delay(&socket).map_err(|errno| anyhow!("setting TCP_NODELAY failed: {errno}"))?;
        let index = self.connections.len();
        self.connections.push(Some(Connection::new(socket)));
        self.receive(index);
        Ok(())
    }

    /// Receives what comes next on a connection.
    fn receive(&mut self, index: usize) {
        let Some(connection) = &self.connections[index] else { return };
        if self.is_direct {
            let header = MemoryRange {
                at: HEADERS_AT + (index * FRAME_HEADER_BYTES) as u32,
                len: FRAME_HEADER_BYTES as u32,
            };
            self.ring.receive_slab(token(HEADER, index), &connection.socket, header, true);
        } else {
            self.ring.receive(token(RECEIVE, index), &connection.socket);
        }
    }

    /// A header has come whole; what follows goes straight to its place.
    pub(super) fn direct_header(&mut self, index: usize, result: Result<u32, Errno>) -> Result<()> {
        match result {
            Ok(bytes) if bytes as usize == FRAME_HEADER_BYTES => {}
            other => return self.ended(index, other),
        }
        let at = HEADERS_AT + (index * FRAME_HEADER_BYTES) as u32;
        if let Some(connection) = &mut self.connections[index] {
            let header = self.slab.get(MemoryRange { at, len: FRAME_HEADER_BYTES as u32 });
            connection.header.copy_from_slice(header);
        }
        self.direct_payload(index)
    }

    /// Receives the payload that a header announced, if a group has space; else when one has.
    fn direct_payload(&mut self, index: usize) -> Result<()> {
        let Some(connection) = &self.connections[index] else { return Ok(()) };
        let len = announced(connection)?;
        let Some((group, space)) = self.space(len) else {
            self.starved.push_back(index);
            return Ok(());
        };
        if let Some(connection) = &mut self.connections[index] {
            connection.frame = Some((group, space, 0));
            self.ring.receive_slab(token(PAYLOAD, index), &connection.socket, space, true);
        }
        Ok(())
    }

    /// A payload has come whole.
    pub(super) fn direct_framed(&mut self, index: usize, result: Result<u32, Errno>) -> Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let Some((group, space, _)) = connection.frame.take() else { return Ok(()) };
        if result != Ok(space.len) {
            return self.ended(index, result);
        }
        let header = connection.header;
        self.receive(index);
        self.check(header, space)?;
        self.framed(group, index);
        Ok(())
    }

    /// The client closes at its end, whatever is on the way to and from it.
    fn ended(&mut self, index: usize, result: Result<u32, Errno>) -> Result<()> {
        match result {
            Ok(_) | Err(Errno(libc::ECONNRESET)) => {
                self.connections[index] = None;
                Ok(())
            }
            Err(errno) => bail!("receiving failed: {errno}"),
        }
    }

    fn check(&self, header: [u8; FRAME_HEADER_BYTES], payload: MemoryRange) -> Result<()> {
        let [_, _, _, _, crc @ ..] = header;
        if checksum::crc32c(self.slab.get(payload)) != u32::from_le_bytes(crc) {
            bail!("a frame arrived damaged");
        }
        Ok(())
    }

    pub(super) fn received(
        &mut self,
        index: usize,
        result: Result<u32, Errno>,
        more: bool,
        attachment: Attachment,
    ) -> Result<()> {
        if let Attachment::Received(buffer) = attachment {
            let waits = self.waiting.iter().any(|(of, _, _)| *of == index);
            let done = if waits { 0 } else { self.take(index, &buffer, 0)? };
            if done == buffer.len() {
                self.ring.recycle(buffer);
            } else {
                self.waiting.push_back((index, buffer, done));
            }
        }
        if more {
            return Ok(());
        }
        match result {
            Ok(1..) | Err(Errno::NO_BUFFERS) => {
                self.receive(index);
                Ok(())
            }
            other => self.ended(index, other),
        }
    }

    /// Takes frames out of `bytes` from `done` on until they end or no group is free; how far it came.
    fn take(&mut self, index: usize, bytes: &[u8], mut done: usize) -> Result<usize> {
        while done < bytes.len() {
            let Some(connection) = &mut self.connections[index] else { return Ok(bytes.len()) };
            let Some((group, space, filled)) = &mut connection.frame else {
                let missing = FRAME_HEADER_BYTES - connection.header_len;
                let step = missing.min(bytes.len() - done);
                connection.header[connection.header_len..][..step].copy_from_slice(&bytes[done..done + step]);
                if step < missing {
                    connection.header_len += step;
                    return Ok(bytes.len());
                }
                let len = announced(connection)?;
                let Some((group, space)) = self.space(len) else { return Ok(done) };
                done += step;
                if let Some(connection) = &mut self.connections[index] {
                    connection.header_len = 0;
                    connection.frame = Some((group, space, 0));
                }
                continue;
            };
            let step = (space.len - *filled).min((bytes.len() - done) as u32);
            let to = MemoryRange { at: space.at + *filled, len: step };
            self.slab.get_mut(to).copy_from_slice(&bytes[done..done + step as usize]);
            *filled += step;
            done += step as usize;
            if *filled == space.len {
                let (group, space, header) = (*group, *space, connection.header);
                connection.frame = None;
                self.check(header, space)?;
                self.framed(group, index);
            }
        }
        Ok(done)
    }

    /// Goes on with bytes that found no group.
    pub(super) fn resume(&mut self) -> Result<()> {
        for _ in 0..self.starved.len() {
            if let Some(index) = self.starved.pop_front() {
                self.direct_payload(index)?;
            }
        }
        while let Some((index, buffer, done)) = self.waiting.pop_front() {
            let done = self.take(index, &buffer, done)?;
            if done < buffer.len() {
                self.waiting.push_front((index, buffer, done));
                break;
            }
            self.ring.recycle(buffer);
        }
        Ok(())
    }
}

/// The length of the payload that a connection's header announces.
fn announced(connection: &Connection) -> Result<u32> {
    let [len @ .., _, _, _, _] = connection.header;
    let len = u32::from_le_bytes(len);
    if len > PAYLOAD_BYTES_MAX {
        bail!("a frame of {len} bytes: the floor takes {PAYLOAD_BYTES_MAX}");
    }
    Ok(len)
}
