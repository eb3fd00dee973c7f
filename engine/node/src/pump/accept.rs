//! New connections: taken only while there are slots, and not begged for while descriptors are short.

use std::os::fd::OwnedFd;

use cutwater_api::{CloseReason, Session};
use cutwater_broker::Input;
use cutwater_model::limits;
use cutwater_ring::{Completion, Errno, socket};

use super::{Core, Pump, Purpose, Stopping, descriptor_of};
use crate::connection::Connection;

/// How long nothing is accepted after the kernel refused: a full table of descriptors does not empty at once.
const REFUSED_US: u64 = 100_000;

/// Whether connections are being accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accepting {
    is_armed: bool,
    is_cancelling: bool,
    not_before_us: u64,
}

#[cfg(test)]
impl Accepting {
    /// Accepts nothing, ever.
    pub(super) fn never() -> Self {
        Self { not_before_us: u64::MAX, ..Self::default() }
    }
}

impl<C: Core, S: Session> Pump<C, S> {
    /// Accepts where that has ended and nothing speaks against it.
    pub(super) fn accept_more(&mut self) {
        let may = self.stopping == Stopping::No
            && !self.accepting.is_armed
            && !self.connections.is_full()
            && self.now.mono_us >= self.accepting.not_before_us;
        if may {
            self.accepting.is_armed = true;
            self.ring.accept(Purpose::Accept.token(0), &self.listener);
        }
    }

    /// Accepts no more.
    pub(super) fn stop_accepting(&mut self) {
        if self.accepting.is_armed && !self.accepting.is_cancelling {
            self.accepting.is_cancelling = true;
            self.ring.cancel(Purpose::Accept.token(0));
        }
    }

    /// A peer connected, or accepting has ended.
    pub(super) fn on_accepted(&mut self, completion: Completion) {
        let Completion { result, more, attachment, .. } = completion;
        if !more {
            self.accepting.is_armed = false;
            self.accepting.is_cancelling = false;
        }
        if let Some(socket) = descriptor_of(attachment) {
            self.meters.add_accept();
            // A socket that takes no options is one whose peer has gone; the first receive will say so.
            let _ = socket::set_no_delay(&socket);
            let _ = socket::set_unsent_max(&socket, limits::SEND_BYTES_PINNED_MAX);
            if self.stopping == Stopping::No {
                self.open(socket, S::new(self.facts));
            }
        } else if let Err(errno) = result
            && errno != Errno::CANCELED
            && !errno.is_transient()
        {
            tracing::warn!(%errno, "accepting a connection failed; if it is out of descriptors, raise `ulimit -n`");
            self.accepting.not_before_us = self.now.mono_us + REFUSED_US;
        }
        if self.connections.is_full() {
            self.stop_accepting();
        }
        self.accept_more();
    }

    /// Gives a connection a slot, tells the core and begins to receive.
    pub(super) fn open(&mut self, socket: OwnedFd, session: S) -> Option<u32> {
        let now_us = self.now.mono_us;
        let Some(connection) = self.connections.open(|id| Connection::new(id, socket, session, now_us))
        else {
            self.meters.add_close(CloseReason::Crowded);
            return None;
        };
        let id = connection.id;
        self.core.handle(Input::Opened(id), self.now, &mut self.effects);
        self.receive_if_wanted(id.slot);
        Some(id.slot)
    }
}
