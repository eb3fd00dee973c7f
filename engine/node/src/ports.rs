//! The ways between the threads of a node: byte rings between pumps, inboxes for what is rare, a bell for who sleeps.
//!
//! Messages from one shard to another keep their order. When a ring is full the bytes wait with the sender, and above
//! a bound its pump takes no input until they have gone.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use cutwater_api::{Response, Ticket};
use cutwater_broker::{ControlCommand, Input};
use cutwater_metadata::Image;
use cutwater_model::{ShardId, limits};
use cutwater_ring::{Doorbell, Errno, spsc};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::mesh::{Incoming, Outgoing};

/// A connection on its way to another shard.
#[derive(Debug)]
pub struct HandOver<S> {
    /// Its socket.
    pub socket: OwnedFd,
    /// Its session.
    pub session: S,
    /// Bytes received and not consumed.
    pub unread: Vec<u8>,
}

/// What is put into a shard's inbox.
#[derive(Debug)]
pub enum ToShard<S> {
    /// A new image of the metadata.
    Metadata(Arc<Image>),
    /// An answer of the control thread.
    ControlDone {
        /// Whose.
        ticket: Ticket,
        /// What.
        response: Response,
    },
    /// A connection of another shard.
    HandOver(HandOver<S>),
    /// The node stops.
    Stop,
}

/// What a shard tells the control thread.
#[derive(Debug)]
pub enum FromShard {
    /// It wants the metadata changed.
    Ask {
        /// Which shard.
        shard: ShardId,
        /// Whose request.
        ticket: Ticket,
        /// What.
        command: ControlCommand,
    },
    /// It acts by this version of the metadata.
    Applied {
        /// Which shard.
        shard: ShardId,
        /// Which version.
        version: u64,
    },
    /// Its thread has ended.
    Ended {
        /// Which shard.
        shard: ShardId,
        /// Why, if it was a failure.
        error: Option<String>,
    },
}

/// A queue that several threads fill and one empties.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    queue: Mutex<VecDeque<T>>,
    has_any: AtomicBool,
}

impl<T> Inbox<T> {
    fn new() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), has_any: AtomicBool::new(false) }
    }

    fn push(&self, item: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(item);
        self.has_any.store(true, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        !self.has_any.load(Ordering::Acquire)
    }

    fn take_all(&self) -> VecDeque<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_any.store(false, Ordering::Release);
        core::mem::take(&mut *queue)
    }
}

/// The way into one shard, for any thread.
#[derive(Debug)]
pub struct ShardDoor<S> {
    inbox: Arc<Inbox<ToShard<S>>>,
    /// What connections in the inbox take.
    handed_over_bytes: Arc<AtomicUsize>,
    bell: Arc<Doorbell>,
}

impl<S> Clone for ShardDoor<S> {
    fn clone(&self) -> Self {
        let handed_over_bytes = self.handed_over_bytes.clone();
        Self { inbox: self.inbox.clone(), handed_over_bytes, bell: self.bell.clone() }
    }
}

impl<S> ShardDoor<S> {
    /// Puts something into the shard's inbox and wakes it.
    pub fn send(&self, item: ToShard<S>) {
        self.inbox.push(item);
        self.bell.ring();
    }

    /// The bell that wakes the shard's pump.
    #[must_use]
    pub fn bell(&self) -> Arc<Doorbell> {
        self.bell.clone()
    }
}

/// What one pump holds of all this.
#[derive(Debug)]
pub struct ShardPorts<S> {
    pub(crate) door: ShardDoor<S>,
    pub(crate) control: UnboundedSender<FromShard>,
    /// The other shards by number; nothing at the shard's own.
    pub(crate) outgoing: Vec<Option<Outgoing>>,
    pub(crate) incoming: Vec<Option<Incoming>>,
    pub(crate) doors: Vec<ShardDoor<S>>,
}

/// The ways between so many shards, and the control thread's ends of them.
///
/// # Errors
/// When there is no memory for the rings, or no descriptor for the bells.
#[expect(clippy::type_complexity, reason = "three ends of one thing, taken apart at once")]
pub fn connect<S>(
    shards: u16,
) -> Result<(Vec<ShardPorts<S>>, Vec<ShardDoor<S>>, UnboundedReceiver<FromShard>), Errno> {
    let (control, asked) = unbounded_channel();
    let mut doors = Vec::new();
    for _ in 0..shards {
        doors.push(ShardDoor {
            inbox: Arc::new(Inbox::new()),
            handed_over_bytes: Arc::default(),
            bell: Arc::new(Doorbell::new()?),
        });
    }
    let mut ports: Vec<ShardPorts<S>> = doors
        .iter()
        .map(|door| ShardPorts {
            door: door.clone(),
            control: control.clone(),
            outgoing: (0..shards).map(|_| None).collect(),
            incoming: (0..shards).map(|_| None).collect(),
            doors: doors.clone(),
        })
        .collect();
    for from in 0..usize::from(shards) {
        for to in (0..usize::from(shards)).filter(|&to| to != from) {
            let (sender, receiver) = spsc::channel(limits::SHARD_RING_BYTES)?;
            ports[from].outgoing[to] = Some(Outgoing::new(sender, doors[to].bell()));
            ports[to].incoming[from] = Some(Incoming::new(receiver));
        }
    }
    Ok((ports, doors, asked))
}

impl<S> ShardPorts<S> {
    /// Says that the pump is about to sleep; what comes after this rings the bell.
    pub(crate) fn park(&self) {
        self.door.bell.park();
    }

    pub(crate) fn unpark(&self) {
        self.door.bell.unpark();
    }

    /// Whether something has come, or still has to go.
    pub(crate) fn has_messages(&mut self) -> bool {
        !self.door.inbox.is_empty()
            || self.incoming.iter_mut().flatten().any(Incoming::has_some)
            || self.outgoing.iter_mut().flatten().any(|outgoing| !outgoing.is_clear())
    }

    /// Whether so many bytes wait for any other shard that nobody should add to them.
    pub(crate) fn is_congested(&self) -> bool {
        self.outgoing.iter().flatten().any(Outgoing::is_congested)
    }

    /// How many bytes wait for a shard, if those are so many.
    pub(crate) fn congestion(&self, shard: usize) -> Option<usize> {
        let outgoing = self.outgoing.get(shard)?.as_ref();
        outgoing.filter(|outgoing| outgoing.is_congested()).map(Outgoing::backlog)
    }

    /// What is in the inbox.
    pub(crate) fn take_inbox(&self) -> VecDeque<ToShard<S>> {
        if self.door.inbox.is_empty() { VecDeque::new() } else { self.door.inbox.take_all() }
    }

    /// Hands whole messages of other shards to `take`, a bounded number of bytes.
    pub(crate) fn receive_messages(&mut self, mut take: impl FnMut(Input<'_>)) -> bool {
        let mut any = false;
        for (from, incoming) in (0u16..).zip(&mut self.incoming) {
            if let Some(incoming) = incoming {
                any |=
                    incoming.receive(|message| take(Input::ShardMessages { from: ShardId(from), message }));
            }
        }
        any
    }

    /// Sends what the core has written for other shards.
    pub(crate) fn push_messages(&mut self, to_shards: &mut [Vec<u8>]) {
        for (outgoing, bytes) in self.outgoing.iter_mut().zip(to_shards) {
            if let Some(outgoing) = outgoing {
                outgoing.push(bytes);
            } else {
                debug_assert!(bytes.is_empty(), "a shard does not write to itself");
                bytes.clear();
            }
        }
    }

    /// Takes room for a connection that is to be handed over with so many bytes; false where there is none, or no such
    /// shard.
    pub(crate) fn make_way(&self, shard: ShardId, unread: usize) -> bool {
        let Some(door) = self.doors.get(usize::from(shard.0)) else { return false };
        let bytes = unread + limits::HAND_OVER_BYTES;
        let before = door.handed_over_bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before + bytes <= limits::HANDED_OVER_BYTES_MAX;
        if !has_room {
            door.handed_over_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        has_room
    }

    /// Hands a connection over for which there is room.
    pub(crate) fn hand_over(&self, shard: ShardId, passed: HandOver<S>) {
        if let Some(door) = self.doors.get(usize::from(shard.0)) {
            door.send(ToShard::HandOver(passed));
        }
    }

    /// A connection with so many bytes has come in.
    pub(crate) fn came_over(&self, unread: usize) {
        self.door.handed_over_bytes.fetch_sub(unread + limits::HAND_OVER_BYTES, Ordering::Relaxed);
    }

    /// Asks the control thread; where it has ended the node stops and nobody needs the answer.
    pub(crate) fn tell_control(&self, message: FromShard) {
        let _ = self.control.send(message);
    }
}
