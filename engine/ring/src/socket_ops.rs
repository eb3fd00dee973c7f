//! Operations on sockets.

use core::ops::Range;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use cutwater_model::MemoryRange;
use io_uring::{opcode, types};

use crate::completion::{Attachment, Errno, Token};
use crate::in_flight::{Held, Kind};
use crate::receive_buffers::GROUP;
use crate::ring::Ring;
use crate::socket;

/// The most slices one message may have (IOV_MAX).
const PIECES_MAX: usize = 1024;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A range of the owned buffer that is handed over with the send.
    Owned {
        /// Where in the buffer it begins.
        at: u32,
        /// How many bytes it has.
        len: u32,
    },
    /// A range of the slab.
    Slab(MemoryRange),
}

impl Ring {
    /// Accepts connections until it is cancelled or fails; each comes as an [`Attachment::Descriptor`].
    pub fn accept(&mut self, token: Token, listener: impl AsFd) {
        let fd = types::Fd(listener.as_fd().as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        self.push(token, Kind::Descriptor, 0, Held::Nothing, entry);
    }

    /// Connects a socket.
    pub fn connect(&mut self, token: Token, socket: impl AsFd, to: SocketAddr) {
        let (address, len) = socket::to_storage(to);
        let address = Box::new(address);
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Connect::new(fd, (&raw const *address).cast(), len).build();
        self.push(token, Kind::Plain, 0, Held::Address(address), entry);
    }

    /// Receives again and again into buffers of the ring; each comes as an [`Attachment::Received`].
    ///
    /// It ends (`more` is false) with 0 bytes at the end of the stream, with [`Errno::NO_BUFFERS`] when none is free,
    /// and now and then without a reason: receive again then.
    pub fn receive(&mut self, token: Token, socket: impl AsFd) {
        if !self.has_receive_buffers() {
            return self.fail(token, Errno::NO_BUFFERS, Attachment::None);
        }
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        self.push(token, Kind::Receive, 0, Held::Nothing, opcode::RecvMulti::new(fd, GROUP).build());
    }

    /// Receives once into a range of the slab; with `whole` only when all of it has come, or the stream has ended.
    pub fn receive_slab(&mut self, token: Token, socket: impl AsFd, range: MemoryRange, whole: bool) {
        let Some(address) = self.slab_address(range) else {
            return self.fail(token, Errno::FAULT, Attachment::None);
        };
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Recv::new(fd, address, range.len).flags(wait_all(whole)).build();
        let bytes = if whole { range.len } else { 0 };
        self.push(token, Kind::Receive, bytes, Held::Nothing, entry);
    }

    /// Receives once into `range` of an owned buffer, which comes back as an [`Attachment::Returned`]; with `whole` only
    /// when all of it has come, or the stream has ended.
    pub fn receive_owned(
        &mut self,
        token: Token,
        socket: impl AsFd,
        mut buffer: Vec<u8>,
        range: Range<usize>,
        whole: bool,
    ) {
        let Some(space) = buffer.get_mut(range) else {
            return self.fail(token, Errno::FAULT, Attachment::Returned(buffer));
        };
        let len = u32::try_from(space.len()).unwrap_or(u32::MAX);
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Recv::new(fd, space.as_mut_ptr(), len).flags(wait_all(whole)).build();
        let bytes = if whole { len } else { 0 };
        self.push(token, Kind::Receive, bytes, Held::Buffer(buffer), entry);
    }

    /// Sends an owned buffer from `at` to its end; it comes back as an [`Attachment::Returned`].
    ///
    /// Fewer bytes than that are sent only when the connection failed midway: the next send says why.
    pub fn send(&mut self, token: Token, socket: impl AsFd, buffer: Vec<u8>, at: usize) {
        let Some(bytes) = buffer.get(at..) else {
            return self.fail(token, Errno::FAULT, Attachment::Returned(buffer));
        };
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Send::new(fd, bytes.as_ptr(), len).flags(SEND_FLAGS).build();
        self.push(token, Kind::Send, len, Held::Buffer(buffer), entry);
    }

    /// The same without a copy into the socket. Completes twice: with the result, `more` set; then, when the peer has
    /// the bytes, with the buffer and a result of 0. (If it can't be started it completes once.)
    pub fn send_zero_copy(&mut self, token: Token, socket: impl AsFd, buffer: Vec<u8>, at: usize) {
        let Some(bytes) = buffer.get(at..) else {
            return self.fail(token, Errno::FAULT, Attachment::Returned(buffer));
        };
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::SendZc::new(fd, bytes.as_ptr(), len).flags(SEND_FLAGS).build();
        self.push(token, Kind::Send, len, Held::Buffer(buffer), entry);
    }

    /// Sends a range of the slab.
    pub fn send_slab(&mut self, token: Token, socket: impl AsFd, range: MemoryRange) {
        let Some(address) = self.slab_address(range) else {
            return self.fail(token, Errno::FAULT, Attachment::None);
        };
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Send::new(fd, address.cast_const(), range.len).flags(SEND_FLAGS).build();
        self.push(token, Kind::Send, range.len, Held::Nothing, entry);
    }

    /// Sends up to 1024 pieces, in order, out of an owned buffer and the slab; the buffer comes back as an
    /// [`Attachment::Returned`]. More pieces complete with EMSGSIZE.
    ///
    /// Large pieces are cheaper than many small ones: 1024 slices of 170 bytes cost five times their copy.
    pub fn send_pieces(&mut self, token: Token, socket: impl AsFd, owned: Vec<u8>, pieces: &[Piece]) {
        self.send_message(token, socket, owned, pieces, false);
    }

    /// The same without a copy into the socket; completes twice like [`Ring::send_zero_copy`].
    pub fn send_pieces_zero_copy(
        &mut self,
        token: Token,
        socket: impl AsFd,
        owned: Vec<u8>,
        pieces: &[Piece],
    ) {
        self.send_message(token, socket, owned, pieces, true);
    }

    fn send_message(
        &mut self,
        token: Token,
        socket: impl AsFd,
        owned: Vec<u8>,
        pieces: &[Piece],
        zero_copy: bool,
    ) {
        if pieces.len() > PIECES_MAX {
            return self.fail(token, Errno(libc::EMSGSIZE), Attachment::Returned(owned));
        }
        let mut message = self.spare_message();
        let mut len = 0u32;
        for piece in pieces {
            let slice = match *piece {
                Piece::Slab(range) => {
                    self.slab_address(range).map(|address| (address.cast_const(), range.len as usize))
                }
                Piece::Owned { at, len } => owned
                    .get(at as usize..)
                    .and_then(|rest| rest.get(..len as usize))
                    .map(|bytes| (bytes.as_ptr(), bytes.len())),
            };
            let Some((address, bytes)) = slice else {
                return self.fail(token, Errno::FAULT, Attachment::Returned(owned));
            };
            message.slices.push(libc::iovec { iov_base: address.cast_mut().cast(), iov_len: bytes });
            len = len.saturating_add(bytes as u32);
        }
        message.owned = owned;
        message.header.msg_iov = message.slices.as_mut_ptr();
        message.header.msg_iovlen = message.slices.len() as _;
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let header = &raw const message.header;
        let entry = if zero_copy {
            opcode::SendMsgZc::new(fd, header).flags(SEND_FLAGS as u32).build()
        } else {
            opcode::SendMsg::new(fd, header).flags(SEND_FLAGS as u32).build()
        };
        self.push(token, Kind::Send, len, Held::Message(message), entry);
    }

    /// Ends a connection in both directions: receives end with 0 bytes, sends with EPIPE.
    pub fn shutdown(&mut self, socket: impl AsFd) {
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        self.push_unwatched(opcode::Shutdown::new(fd, libc::SHUT_RDWR).build());
    }
}

/// The kernel goes on after a short send, and a lost peer is an error instead of a signal.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

const fn wait_all(whole: bool) -> i32 {
    if whole { libc::MSG_WAITALL } else { 0 }
}
