//! The operations the kernel knows about, and what it may still touch on their behalf.
//!
//! Whatever a submission points at is owned here until the last completion of that operation, so no caller can free
//! or change it under the kernel.

use std::ffi::CString;

use crate::completion::Token;

/// A message of several slices, at an address that does not move.
pub(crate) struct Message {
    pub(crate) header: libc::msghdr,
    pub(crate) slices: Vec<libc::iovec>,
    pub(crate) owned: Vec<u8>,
}

impl Message {
    pub(crate) fn new() -> Box<Self> {
        // SAFETY: a msghdr is plain data for which all zeros is valid: no name, no slices, no control bytes.
        let header = unsafe { core::mem::zeroed() };
        Box::new(Self { header, slices: Vec::new(), owned: Vec::new() })
    }
}

/// What the kernel reads or fills on behalf of one operation, besides slab memory and receive buffers.
#[expect(dead_code, reason = "held for the kernel, which reads them by address")]
pub(crate) enum Held {
    Nothing,
    Buffer(Vec<u8>),
    Message(Box<Message>),
    Address(Box<libc::sockaddr_storage>),
    Time(Box<io_uring::types::Timespec>),
    Path(CString),
    Paths(CString, CString),
    Word(Box<u64>),
}

/// How the result of an operation is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The result means itself.
    Plain,
    /// The result is a new descriptor.
    Descriptor,
    /// Bytes received; into a provided buffer where the completion names one.
    Receive,
    /// Bytes sent.
    Send,
    /// Bytes read from a file.
    Read,
    /// Bytes written to a file.
    Write,
}

/// One operation.
pub(crate) struct Operation {
    pub(crate) token: Token,
    pub(crate) kind: Kind,
    /// How many bytes it was to move, for counting short ones; 0 where any number is right.
    pub(crate) bytes: u32,
    pub(crate) held: Held,
}

/// All operations in flight, by the number the kernel knows them under.
#[derive(Default)]
pub(crate) struct InFlight {
    slots: Vec<Option<Operation>>,
    free: Vec<u32>,
    count: usize,
}

impl InFlight {
    pub(crate) fn insert(&mut self, operation: Operation) -> u32 {
        self.count += 1;
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(operation);
            return slot;
        }
        self.slots.push(Some(operation));
        (self.slots.len() - 1) as u32
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Operation> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Operation> {
        let operation = self.slots.get_mut(slot as usize)?.take()?;
        self.count -= 1;
        self.free.push(slot);
        Some(operation)
    }

    /// The numbers of all operations with that token.
    pub(crate) fn of_token(&self, token: Token) -> Vec<u32> {
        let named =
            |slot: &Option<Operation>| slot.as_ref().is_some_and(|operation| operation.token == token);
        (0u32..).zip(&self.slots).filter(|(_, slot)| named(slot)).map(|(number, _)| number).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
