//! Operations on files: reads and writes of slab memory, flushes, names.
//!
//! Slow ones at run time do not belong here but on a thread of their own; those here are for the few that a core
//! waits for itself.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};

use cutwater_model::MemoryRange;
use io_uring::{opcode, types};

use crate::completion::{Attachment, Errno, Token};
use crate::in_flight::{Held, Kind};
use crate::ring::Ring;

impl Ring {
    /// Fills a range of the slab from a file; whole blocks where it was opened with O_DIRECT.
    pub fn read(&mut self, token: Token, file: impl AsFd, at: u64, range: MemoryRange) {
        let Some(address) = self.slab_address(range) else {
            return self.fail(token, Errno::FAULT, Attachment::None);
        };
        let fd = types::Fd(file.as_fd().as_raw_fd());
        let entry = opcode::Read::new(fd, address, range.len).offset(at).build();
        self.push(token, Kind::Read, range.len, Held::Nothing, entry);
    }

    /// Writes a range of the slab to a file; with `durable` it is done only when it is on stable storage (RWF_DSYNC).
    pub fn write(&mut self, token: Token, file: impl AsFd, at: u64, range: MemoryRange, durable: bool) {
        let Some(address) = self.slab_address(range) else {
            return self.fail(token, Errno::FAULT, Attachment::None);
        };
        let fd = types::Fd(file.as_fd().as_raw_fd());
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(fd, address, range.len).offset(at).rw_flags(flags).build();
        self.push(token, Kind::Write, range.len, Held::Nothing, entry);
    }

    /// Flushes a file's bytes and length (fdatasync). Covers only what completed before this is submitted.
    pub fn flush_data(&mut self, token: Token, file: impl AsFd) {
        let fd = types::Fd(file.as_fd().as_raw_fd());
        let entry = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        self.push(token, Kind::Plain, 0, Held::Nothing, entry);
    }

    /// Flushes a file or a folder (fsync).
    pub fn flush(&mut self, token: Token, file: impl AsFd) {
        let fd = types::Fd(file.as_fd().as_raw_fd());
        self.push(token, Kind::Plain, 0, Held::Nothing, opcode::Fsync::new(fd).build());
    }

    /// Opens `path` below `folder` with the flags and mode of open(2); comes as an [`Attachment::Descriptor`].
    pub fn open(&mut self, token: Token, folder: impl AsFd, path: CString, flags: i32, mode: u32) {
        let fd = types::Fd(folder.as_fd().as_raw_fd());
        let entry = opcode::OpenAt::new(fd, path.as_ptr()).flags(flags | libc::O_CLOEXEC).mode(mode).build();
        self.push(token, Kind::Descriptor, 0, Held::Path(path), entry);
    }

    /// Closes a descriptor after everything queued before; nobody is told.
    pub fn close(&mut self, descriptor: OwnedFd) {
        self.push_unwatched(opcode::Close::new(types::Fd(descriptor.into_raw_fd())).build());
    }

    /// Gives a file below `folder` another name, replacing what was there. Not flushed.
    pub fn rename(&mut self, token: Token, folder: impl AsFd, from: CString, to: CString) {
        let fd = types::Fd(folder.as_fd().as_raw_fd());
        let entry = opcode::RenameAt::new(fd, from.as_ptr(), fd, to.as_ptr()).build();
        self.push(token, Kind::Plain, 0, Held::Paths(from, to), entry);
    }

    /// Removes a file's name below `folder`, or with `is_folder` an empty folder. Not flushed.
    pub fn unlink(&mut self, token: Token, folder: impl AsFd, path: CString, is_folder: bool) {
        let fd = types::Fd(folder.as_fd().as_raw_fd());
        let flags = if is_folder { libc::AT_REMOVEDIR } else { 0 };
        let entry = opcode::UnlinkAt::new(fd, path.as_ptr()).flags(flags).build();
        self.push(token, Kind::Plain, 0, Held::Path(path), entry);
    }

    /// Makes a folder below `folder`, mode 0750. Not flushed.
    pub fn make_folder(&mut self, token: Token, folder: impl AsFd, path: CString) {
        let fd = types::Fd(folder.as_fd().as_raw_fd());
        let entry = opcode::MkDirAt::new(fd, path.as_ptr()).mode(0o750).build();
        self.push(token, Kind::Plain, 0, Held::Path(path), entry);
    }

    /// Reserves space from `at` on, lengthening the file.
    pub fn reserve(&mut self, token: Token, file: impl AsFd, at: u64, bytes: u64) {
        let fd = types::Fd(file.as_fd().as_raw_fd());
        let entry = opcode::Fallocate::new(fd, bytes).offset(at).build();
        self.push(token, Kind::Plain, 0, Held::Nothing, entry);
    }

    /// Sets a file's length (Linux 6.9; before, it completes with EINVAL).
    pub fn truncate(&mut self, token: Token, file: impl AsFd, length: u64) {
        let fd = types::Fd(file.as_fd().as_raw_fd());
        self.push(token, Kind::Plain, 0, Held::Nothing, opcode::Ftruncate::new(fd, length).build());
    }
}
