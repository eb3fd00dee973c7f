//! Connections to one node on one io_uring, driven by the caller's thread.
//!
//! Each connection receives by one multishot operation and sends all that was queued in a turn by one. Buffers go
//! round: what was sent becomes what is filled next, so after warm-up nothing is allocated.

use std::os::fd::OwnedFd;
use std::time::Duration;

use cutwater_model::{Now, ShardId};
use cutwater_ring::socket;
use cutwater_ring::{Attachment, Clock, Completion, Errno, Ring, RingStats, Token, Wait};

use crate::config::ClientConfig;
use crate::error::{ClientError, LinkError, LinkFault};
use crate::session::{Event, Session};
use crate::wire::{LinkId, Wire};

/// What an operation is, in the lowest bits of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect = 0,
    Receive = 1,
    Send = 2,
}

const SLOT_SHIFT: u32 = 2;
const GENERATION_SHIFT: u32 = 32;
const SLOT_MASK: u64 = (1 << (GENERATION_SHIFT - SLOT_SHIFT)) - 1;

/// The real [`Wire`]. Stays on the thread that made it. See the module.
#[derive(Debug)]
pub struct Transport {
    ring: Ring,
    config: ClientConfig,
    links: Vec<Link>,
    completions: Vec<Completion>,
    connecting: usize,
}

#[derive(Debug)]
struct Link {
    generation: u32,
    socket: Option<OwnedFd>,
    is_connected: bool,
    is_sending: bool,
    session: Session,
    /// The buffer that was sent last.
    spare: Vec<u8>,
    deadline_us: u64,
}

impl Transport {
    /// A ring of its own, with no connection yet.
    ///
    /// # Errors
    /// When io_uring does not work here.
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        Ok(Self {
            ring: Ring::new(&config.ring)?,
            config: *config,
            links: Vec::new(),
            completions: Vec::new(),
            connecting: 0,
        })
    }

    /// Counts of the ring.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.ring.stats()
    }

    fn queue_sends(&mut self) {
        for (slot, link) in self.links.iter_mut().enumerate() {
            if !link.is_connected || link.is_sending || link.session.output_bytes() == 0 {
                continue;
            }
            let Some(socket) = &link.socket else { continue };
            let bytes = link.session.take_output(core::mem::take(&mut link.spare));
            link.is_sending = true;
            self.ring.send(token(Kind::Send, slot, link.generation), socket, bytes, 0);
        }
    }

    /// Caps a wait so that a connection that doesn't come to stand is given up in time.
    fn bounded(&self, wait: Wait) -> Wait {
        if self.connecting == 0 || wait == Wait::Never {
            return wait;
        }
        let now_us = Clock.mono_us();
        let waiting = self.links.iter().filter(|link| link.socket.is_some() && !link.session.is_up());
        let left = waiting.map(|link| link.deadline_us.saturating_sub(now_us)).min().unwrap_or(0);
        let left = Duration::from_micros(left + 1);
        match wait {
            Wait::AtMost(time) => Wait::AtMost(time.min(left)),
            _ => Wait::AtMost(left),
        }
    }

    fn give_up_late(&mut self, on_event: &mut impl FnMut(LinkId, Event<'_>)) {
        let now_us = Clock.mono_us();
        for slot in 0..self.links.len() {
            let link = &self.links[slot];
            if link.socket.is_some() && !link.session.is_up() && link.deadline_us <= now_us {
                self.down(slot, LinkFault::ConnectTimeout, on_event);
            }
        }
    }

    fn on_completion(&mut self, completion: Completion, on_event: &mut impl FnMut(LinkId, Event<'_>)) {
        let Completion { token: Token(bits), result, more, attachment } = completion;
        let slot = (bits >> SLOT_SHIFT & SLOT_MASK) as usize;
        let generation = (bits >> GENERATION_SHIFT) as u32;
        let Some(link) = self.links.get_mut(slot) else { return };
        let is_current = link.generation == generation && link.socket.is_some();
        let fault = match (bits & 3, attachment) {
            (RECEIVE, Attachment::Received(buffer)) => {
                let fault = if is_current {
                    let id = LinkId { slot: slot as u32, generation };
                    let was_up = link.session.is_up();
                    let taken = link.session.on_bytes(&buffer, &mut |event| on_event(id, event));
                    self.connecting -= usize::from(!was_up && link.session.is_up());
                    taken.err()
                } else {
                    None
                };
                self.ring.recycle(buffer);
                if is_current && fault.is_none() && !more {
                    self.receive(slot);
                }
                fault
            }
            (SEND, Attachment::Returned(buffer)) => {
                if !is_current {
                    return;
                }
                link.is_sending = false;
                let is_whole = result.is_ok_and(|sent| sent as usize == buffer.len());
                link.spare = buffer;
                match result {
                    Ok(_) if is_whole => None,
                    // A send is short only when the connection failed midway.
                    Ok(_) => Some(LinkFault::Closed),
                    Err(errno) => Some(LinkFault::Io(errno)),
                }
            }
            (RECEIVE, _) if is_current => match result {
                Ok(0) if !more => Some(LinkFault::Closed),
                Ok(_) | Err(Errno::NO_BUFFERS | Errno::INTERRUPTED | Errno::AGAIN) => {
                    if !more {
                        self.receive(slot);
                    }
                    None
                }
                Err(errno) => Some(LinkFault::Io(errno)),
            },
            (CONNECT, _) if is_current => match result {
                // Without a listener the kernel may give a connection the very port it asks for: it then talks to
                // itself, and keeps the node from listening there.
                Ok(_) if link.socket.as_ref().and_then(socket::local_address) == Some(self.config.server) => {
                    Some(LinkFault::NotCutwater)
                }
                Ok(_) => {
                    link.is_connected = true;
                    self.receive(slot);
                    None
                }
                Err(errno) => Some(LinkFault::Connect(errno)),
            },
            _ => None,
        };
        if let Some(fault) = fault {
            self.down(slot, fault, on_event);
        }
    }

    fn receive(&mut self, slot: usize) {
        let Some(link) = self.links.get(slot) else { return };
        if let Some(socket) = &link.socket {
            self.ring.receive(token(Kind::Receive, slot, link.generation), socket);
        }
    }

    #[cold]
    fn down(&mut self, slot: usize, fault: LinkFault, on_event: &mut impl FnMut(LinkId, Event<'_>)) {
        let Some(link) = self.links.get(slot) else { return };
        let id = LinkId { slot: slot as u32, generation: link.generation };
        self.close(id);
        on_event(id, Event::Down(fault));
    }
}

impl Wire for Transport {
    fn now(&self) -> Now {
        Clock.now()
    }

    fn open(&mut self, shard: Option<ShardId>) -> Result<LinkId, ClientError> {
        let socket = socket::stream(self.config.server)?;
        // Without it small requests wait for the peer's delayed acknowledgements; worth no failure, though.
        let _ = socket::set_no_delay(&socket);
        let slot = match self.links.iter().position(|link| link.socket.is_none()) {
            Some(slot) => slot,
            None => {
                self.links.push(Link {
                    generation: 0,
                    socket: None,
                    is_connected: false,
                    is_sending: false,
                    session: Session::new(shard),
                    spare: Vec::new(),
                    deadline_us: 0,
                });
                self.links.len() - 1
            }
        };
        let link = &mut self.links[slot];
        link.generation = link.generation.wrapping_add(1) & (u32::MAX >> 1);
        link.is_connected = false;
        link.is_sending = false;
        link.session.restart(shard);
        link.deadline_us = Clock.mono_us() + self.config.connect_timeout.as_micros() as u64;
        self.connecting += 1;
        self.ring.connect(token(Kind::Connect, slot, link.generation), &socket, self.config.server);
        link.socket = Some(socket);
        Ok(LinkId { slot: slot as u32, generation: link.generation })
    }

    fn close(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id.slot as usize) else { return };
        if link.generation != id.generation {
            return;
        }
        if let Some(socket) = link.socket.take() {
            self.connecting -= usize::from(!link.session.is_up());
            // A connect under way holds the socket until it is cancelled.
            self.ring.cancel_descriptor(&socket);
            self.ring.shutdown(&socket);
            self.ring.close(socket);
        }
    }

    fn session(&mut self, id: LinkId) -> Option<&mut Session> {
        let link = self.links.get_mut(id.slot as usize)?;
        (link.generation == id.generation && link.socket.is_some()).then_some(&mut link.session)
    }

    fn turn(&mut self, wait: Wait, mut on_event: impl FnMut(LinkId, Event<'_>)) -> Result<(), ClientError> {
        self.queue_sends();
        let wait = self.bounded(wait);
        let mut completions = core::mem::take(&mut self.completions);
        let entered = self.ring.enter(wait, &mut completions);
        for completion in completions.drain(..) {
            self.on_completion(completion, &mut on_event);
        }
        self.completions = completions;
        if self.connecting > 0 {
            self.give_up_late(&mut on_event);
        }
        Ok(entered?)
    }

    fn link_error(&self, fault: LinkFault) -> LinkError {
        LinkError { peer: self.config.server, fault }
    }
}

const CONNECT: u64 = Kind::Connect as u64;
const RECEIVE: u64 = Kind::Receive as u64;
const SEND: u64 = Kind::Send as u64;

fn token(kind: Kind, slot: usize, generation: u32) -> Token {
    Token(kind as u64 | (slot as u64) << SLOT_SHIFT | u64::from(generation) << GENERATION_SHIFT)
}
