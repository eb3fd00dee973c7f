//! One connection per shard of the node, made again with growing waits when it breaks.

use cutwater_model::ShardId;
use cutwater_native::ServerPreface;

use crate::backoff::Backoff;
use crate::error::{ClientError, LinkFault};
use crate::session::Session;
use crate::wire::{LinkId, Wire};

/// The first and the longest wait before a broken connection is made again.
const RECONNECT_US_LEAST: u64 = 20_000;
const RECONNECT_US_MOST: u64 = 1_000_000;

/// The connections of one producer or consumer. Places stay what they are for good.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Vec<ShardLink>,
}

#[derive(Debug)]
struct ShardLink {
    /// The shard that was asked for; any where there is none.
    wanted: Option<ShardId>,
    /// The shard that answered last.
    serving: Option<ShardId>,
    id: Option<LinkId>,
    is_up: bool,
    retry_at_us: u64,
    backoff: Backoff,
    last_fault: Option<LinkFault>,
}

impl Links {
    /// The place of the connection to `shard`, or any; a new one is made by the next [`Links::drive`].
    pub(crate) fn place_of(&mut self, shard: Option<ShardId>) -> usize {
        let found = self.links.iter().position(|link| match shard {
            None => true,
            Some(_) => link.wanted == shard || link.serving == shard,
        });
        found.unwrap_or_else(|| {
            let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(self.links.len() as u64 + 1);
            self.links.push(ShardLink {
                wanted: shard,
                serving: None,
                id: None,
                is_up: false,
                retry_at_us: 0,
                backoff: Backoff::new(RECONNECT_US_LEAST, RECONNECT_US_MOST, seed),
                last_fault: None,
            });
            self.links.len() - 1
        })
    }

    /// Makes the connections that are due, and says when the next one is.
    pub(crate) fn drive(&mut self, wire: &mut impl Wire, now_us: u64) -> Result<Option<u64>, ClientError> {
        let mut next_us: Option<u64> = None;
        for link in &mut self.links {
            if link.id.is_some() {
                continue;
            }
            if link.retry_at_us <= now_us {
                link.id = Some(wire.open(link.wanted)?);
            } else {
                next_us = Some(next_us.map_or(link.retry_at_us, |least| least.min(link.retry_at_us)));
            }
        }
        Ok(next_us)
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn is_up(&self, place: usize) -> bool {
        self.links.get(place).is_some_and(|link| link.is_up)
    }

    /// The session at a place, while it is up.
    pub(crate) fn session<'w, W: Wire>(&self, place: usize, wire: &'w mut W) -> Option<&'w mut Session> {
        let link = self.links.get(place).filter(|link| link.is_up)?;
        wire.session(link.id?)
    }

    /// Any session that is up.
    pub(crate) fn any_session<'w, W: Wire>(&self, wire: &'w mut W) -> Option<&'w mut Session> {
        let place = self.links.iter().position(|link| link.is_up)?;
        self.session(place, wire)
    }

    /// The place of a connection.
    pub(crate) fn place(&self, id: LinkId) -> Option<usize> {
        self.links.iter().position(|link| link.id == Some(id))
    }

    /// A connection was accepted; returns its place.
    pub(crate) fn on_up(&mut self, id: LinkId, preface: &ServerPreface) -> Option<usize> {
        let place = self.place(id)?;
        let link = &mut self.links[place];
        link.is_up = true;
        link.serving = Some(preface.shard);
        link.last_fault = None;
        Some(place)
    }

    /// A connection is gone; returns its place. It will be made again after a wait.
    pub(crate) fn on_down(&mut self, id: LinkId, fault: LinkFault, now_us: u64) -> Option<usize> {
        let place = self.place(id)?;
        let link = &mut self.links[place];
        link.id = None;
        link.is_up = false;
        link.last_fault = Some(fault);
        link.retry_at_us = now_us + link.backoff.next_us();
        Some(place)
    }

    /// An answer came: whatever breaks next begins with the shortest wait.
    pub(crate) fn on_answer(&mut self, place: usize) {
        if let Some(link) = self.links.get_mut(place) {
            link.backoff.reset();
        }
    }

    /// Gives a connection up that does not answer.
    pub(crate) fn give_up(&mut self, place: usize, wire: &mut impl Wire, now_us: u64) {
        if let Some(id) = self.links.get(place).and_then(|link| link.id) {
            wire.close(id);
            self.on_down(id, LinkFault::Silent, now_us);
        }
    }

    /// Ends all connections.
    pub(crate) fn close(&mut self, wire: &mut impl Wire) {
        for link in &mut self.links {
            if let Some(id) = link.id.take() {
                wire.close(id);
            }
            link.is_up = false;
            link.retry_at_us = u64::MAX;
        }
    }

    /// Why a connection does not stand; the first where several don't.
    pub(crate) fn last_fault(&self) -> Option<LinkFault> {
        self.links.iter().find_map(|link| link.last_fault)
    }
}
