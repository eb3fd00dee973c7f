//! Timers, polls, doorbells, cancellations and messages between rings.

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};

use crate::completion::Token;
use crate::in_flight::{Held, Kind};
use crate::ring::{MESSAGE, Ring, RingAddress};

impl Ring {
    /// Completes with [`crate::Errno::TIME`] after this time.
    pub fn timeout(&mut self, token: Token, after: Duration) {
        let time = Box::new(types::Timespec::from(after));
        let entry = opcode::Timeout::new(&raw const *time).build();
        self.push(token, Kind::Plain, 0, Held::Time(time), entry);
    }

    /// Completes with the events of poll(2) when one of `events` is there; with `again` each time one comes.
    pub fn poll(&mut self, token: Token, descriptor: impl AsFd, events: i16, again: bool) {
        let fd = types::Fd(descriptor.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, u32::from(events as u16)).multi(again).build();
        self.push(token, Kind::Plain, 0, Held::Nothing, entry);
    }

    /// Completes when a counter such as an eventfd(2) is above zero, and sets it to zero.
    pub fn read_counter(&mut self, token: Token, counter: impl AsFd) {
        let mut word = Box::new(0u64);
        let fd = types::Fd(counter.as_fd().as_raw_fd());
        let entry = opcode::Read::new(fd, (&raw mut *word).cast(), 8).build();
        self.push(token, Kind::Plain, 0, Held::Word(word), entry);
    }

    /// Cancels the operations with that token; each completes with [`crate::Errno::CANCELED`], or as it would have
    /// if it ended first.
    pub fn cancel(&mut self, token: Token) {
        for slot in self.in_flight.of_token(token) {
            let which = types::CancelBuilder::user_data(u64::from(slot));
            self.push_unwatched(opcode::AsyncCancel2::new(which).build());
        }
    }

    /// Cancels all operations on a descriptor.
    pub fn cancel_descriptor(&mut self, descriptor: impl AsFd) {
        let fd = types::Fd(descriptor.as_fd().as_raw_fd());
        self.push_unwatched(opcode::AsyncCancel2::new(types::CancelBuilder::fd(fd).all()).build());
    }

    /// Cancels every operation of this ring.
    pub fn cancel_all(&mut self) {
        self.push_unwatched(opcode::AsyncCancel2::new(types::CancelBuilder::any()).build());
    }

    /// Posts a completion with `at_peer`, less its highest bit, and `word` (31 bits) to another ring, waking its thread.
    /// Here it completes with `token` when it is delivered.
    pub fn message(&mut self, token: Token, peer: &RingAddress, at_peer: Token, word: u32) {
        let fd = types::Fd(peer.0.as_raw_fd());
        let word = (word & 0x7fff_ffff) as i32;
        let entry = opcode::MsgRingData::new(fd, word, at_peer.0 | MESSAGE, None).build();
        self.push(token, Kind::Plain, 0, Held::Nothing, entry);
    }
}
