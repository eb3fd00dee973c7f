//! Clients and their connections: where they are, what is on its way, what waits for an answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cutwater_api::{Announced, ConnectionId, Response, Ticket};
use cutwater_broker::{Input, Landing};
use cutwater_model::ShardId;

use super::{Event, World};
use crate::finding::Checked;
use crate::random::Random;
use crate::request::Sent;
use crate::workload::{Client, Hands};

/// One client and its connection.
pub(super) struct Peer {
    pub(super) client: Box<dyn Client>,
    random: Random,
    connection: Option<(ShardId, ConnectionId)>,
    /// Counts connections, so that what belongs to an earlier one is told apart.
    life: u32,
    correlation: u32,
    /// What waits for an answer, and since when.
    pub(super) waiting: BTreeMap<u32, (u64, &'static str)>,
    pub(super) paused: bool,
    /// What is on its way, in order, each with the moment of its arrival.
    queue: VecDeque<(u64, u32, Sent)>,
    arrives_us: u64,
    leaves_us: u64,
    /// A large batch that is received into memory of its shard; what was sent after it waits.
    coming: Option<Coming>,
}

/// A batch of which a part has come.
struct Coming {
    /// When it is whole.
    whole_us: u64,
    correlation: u32,
    landing: Landing,
    batch: Arc<[u8]>,
}

impl World {
    /// A client comes; it connects some time later.
    pub(super) fn add_client(&mut self, client: Box<dyn Client>) -> usize {
        let random = self.random.fork();
        self.peers.push(Peer {
            client,
            random,
            connection: None,
            life: 0,
            correlation: 0,
            waiting: BTreeMap::new(),
            paused: false,
            queue: VecDeque::new(),
            arrives_us: 0,
            leaves_us: 0,
            coming: None,
        });
        self.peers.len() - 1
    }

    /// A client connects to some shard.
    pub(super) fn connect(&mut self, peer: usize) -> Checked {
        if self.is_stopping
            || self.seats.is_empty()
            || self.peers.get(peer).is_none_or(|peer| peer.connection.is_some())
        {
            return Ok(());
        }
        let shard = ShardId(self.random.below(self.seats.len() as u64) as u16);
        let seat = &mut self.seats[usize::from(shard.0)];
        let free = seat.connections.iter().position(|(_, owner)| owner.is_none());
        let slot = free.unwrap_or_else(|| {
            seat.connections.push((0, None));
            seat.connections.len() - 1
        });
        let (generation, owner) = &mut seat.connections[slot];
        *generation += 1;
        *owner = Some(peer);
        let id = ConnectionId { slot: slot as u32, generation: *generation };
        let kind = self.peers[peer].client.kind();
        self.say(shard.0, || format!("client {peer}, a {kind}, connects as {id:?}"));
        self.note(shard.0, "connect", [peer as u64, slot as u64, u64::from(id.generation)]);
        let seat = &mut self.peers[peer];
        seat.connection = Some((shard, id));
        seat.life += 1;
        seat.arrives_us = self.now_us;
        seat.leaves_us = self.now_us;
        seat.paused = false;
        self.hand(shard, Input::Opened(id))?;
        self.work(peer, |client, hands| client.wake(hands))
    }

    /// Lets a client do something and sends what it asks.
    fn work(&mut self, peer: usize, act: impl FnOnce(&mut dyn Client, &mut Hands<'_>) -> Checked) -> Checked {
        let now = self.now();
        let seat = &mut self.peers[peer];
        let mut hands = Hands {
            now,
            random: &mut seat.random,
            oracle: &mut self.oracle,
            habits: &self.plan.habits,
            winding_down: self.winding_down,
            sample: &self.sample,
            correlation: &mut seat.correlation,
            asked: Vec::new(),
            wake_us: None,
            leaves: false,
        };
        act(seat.client.as_mut(), &mut hands)?;
        let Hands { asked, wake_us, leaves, .. } = hands;
        let life = seat.life;
        for (correlation, sent) in asked {
            self.send(peer, correlation, sent);
        }
        if let Some(at_us) = wake_us {
            self.agenda.plan(at_us, Event::Wake { peer, life });
        }
        if leaves {
            self.disconnect(peer)?;
        }
        Ok(())
    }

    fn send(&mut self, peer: usize, correlation: u32, sent: Sent) {
        let takes_us = if self.random.one_in(20) { self.random.below(5_000) } else { self.random.below(100) };
        let seat = &mut self.peers[peer];
        let (life, kind) = (seat.life, sent.kind());
        if sent.is_answered() {
            seat.waiting.insert(correlation, (self.now_us, kind));
        }
        seat.arrives_us = seat.arrives_us.max(self.now_us + takes_us);
        let at_us = seat.arrives_us;
        self.note(crate::trace::WORLD, kind, [peer as u64, u64::from(correlation), takes_us]);
        self.say(crate::trace::WORLD, || match &sent {
            Sent::Produce { partition, acks, batch } => {
                format!("client {peer} asks {correlation}: {} bytes to {partition} {acks:?}", batch.len())
            }
            other => format!("client {peer} asks {correlation}: {other:?}"),
        });
        self.peers[peer].queue.push_back((at_us, correlation, sent));
        self.agenda.plan(at_us, Event::Arrival { peer, life });
    }

    /// Requests arrive in their order, unless their connection is gone or held back.
    pub(super) fn on_arrival(&mut self, peer: usize, life: u32) -> Checked {
        loop {
            let Some(seat) = self.peers.get_mut(peer) else { return Ok(()) };
            let Some((shard, connection)) = seat.connection.filter(|_| seat.life == life) else {
                return Ok(());
            };
            if let Some(coming) = seat.coming.take_if(|coming| !seat.paused && coming.whole_us <= self.now_us)
            {
                self.hand_landed(shard, connection, &coming)?;
                continue;
            }
            let is_due = |(at_us, _, _): &(u64, u32, Sent)| *at_us <= self.now_us;
            if seat.paused || seat.coming.is_some() || !seat.queue.front().is_some_and(is_due) {
                return Ok(());
            }
            let Some((_, correlation, sent)) = seat.queue.pop_front() else { return Ok(()) };
            if !self.lands(peer, shard, correlation, &sent) {
                self.hand_request(shard, connection, correlation, &sent)?;
            }
        }
    }

    /// Of every other large batch a part comes first, and the rest goes where its shard wants it, while others go on.
    fn lands(&mut self, peer: usize, shard: ShardId, correlation: u32, sent: &Sent) -> bool {
        let Sent::Produce { partition, acks, batch } = sent else { return false };
        let (partition, acks) = (*partition, *acks);
        let Some(seat) = self.seats.get_mut(usize::from(shard.0)) else { return false };
        let batch_bytes = batch.len() as u32;
        if batch_bytes < self.plan.config.bulk_bytes_least || self.random.one_in(2) {
            return false;
        }
        let announced = Announced { correlation, partition, acks, batch_at: 32, batch_bytes };
        let come = self.random.below(u64::from(batch_bytes)) as usize;
        let Some(landing) = seat.shard.land(&announced, &batch[..come]) else { return false };
        self.tally.landings += 1;
        let whole_us = self.now_us + self.random.below(500);
        let seat = &mut self.peers[peer];
        seat.coming = Some(Coming { whole_us, correlation, landing, batch: Arc::clone(batch) });
        let life = seat.life;
        self.agenda.plan(whole_us, Event::Arrival { peer, life });
        true
    }

    fn hand_landed(&mut self, shard: ShardId, connection: ConnectionId, coming: &Coming) -> Checked {
        let Coming { correlation, landing, ref batch, .. } = *coming;
        self.note(shard.0, "landed", [u64::from(connection.slot), u64::from(correlation), 0]);
        if let Some(seat) = self.seats.get_mut(usize::from(shard.0)) {
            let come = batch.len() - landing.missing.len as usize;
            seat.shard.slab().get_mut(landing.missing).copy_from_slice(&batch[come..]);
        }
        let ticket = Ticket { connection, correlation };
        self.hand(shard, Input::Landed { ticket, landing: landing.id })
    }

    /// What was coming will not be whole.
    fn abandon(&mut self, peer: usize, shard: ShardId) -> Checked {
        match self.peers[peer].coming.take() {
            Some(coming) => self.hand(shard, Input::Abandoned(coming.landing.id)),
            None => Ok(()),
        }
    }

    fn hand_request(
        &mut self,
        shard: ShardId,
        connection: ConnectionId,
        correlation: u32,
        sent: &Sent,
    ) -> Checked {
        self.note(shard.0, "request", [u64::from(connection.slot), u64::from(correlation), 0]);
        let ticket = Ticket { connection, correlation };
        self.hand(shard, Input::Request { ticket, request: sent.request() })
    }

    /// What was held back may arrive.
    pub(super) fn resume(&mut self, peer: usize) {
        let life = self.peers[peer].life;
        self.agenda.plan(self.now_us + 1, Event::Arrival { peer, life });
    }

    /// A client does what it planned.
    pub(super) fn wake(&mut self, peer: usize, life: u32) -> Checked {
        let is_there = |seat: &Peer| seat.connection.is_some() && seat.life == life;
        if !self.peers.get(peer).is_some_and(is_there) {
            return Ok(());
        }
        self.work(peer, |client, hands| client.wake(hands))
    }

    /// An answer has reached its client, if that is still there.
    pub(super) fn deliver(&mut self, shard: ShardId, ticket: Ticket, response: Response) -> Checked {
        let Some(peer) = self.peer_of(shard, ticket.connection) else { return Ok(()) };
        self.say(shard.0, || {
            let mut text = format!("client {peer} is answered {}: {response:?}", ticket.correlation);
            if text.len() > 600 {
                text.truncate(text.char_indices().nth(600).map_or(0, |(at, _)| at));
            }
            text
        });
        if !matches!(response, Response::Pushed { .. }) {
            self.peers[peer].waiting.remove(&ticket.correlation);
        }
        self.work(peer, |client, hands| {
            client.answer(ticket.correlation, response, hands)?;
            if !client.is_done() || !hands.winding_down {
                hands.wake_after(hands.habits.rest_us / 4);
            }
            Ok(())
        })
    }

    fn disconnect(&mut self, peer: usize) -> Checked {
        let Some((shard, connection)) = self.peers[peer].connection else { return Ok(()) };
        self.note(shard.0, "disconnect", [peer as u64, 0, 0]);
        self.abandon(peer, shard)?;
        self.lose_connection(peer);
        self.seats[usize::from(shard.0)].connections[connection.slot as usize].1 = None;
        self.hand(shard, Input::Closed(connection))?;
        let at_us = self.now_us + self.random.below(3_000);
        self.agenda.plan(at_us, Event::Connect { peer });
        Ok(())
    }

    /// A client's connection ends and it doesn't come back.
    pub(super) fn lose_peer(&mut self, peer: usize) -> Checked {
        let Some((shard, connection)) = self.peers[peer].connection else { return Ok(()) };
        self.abandon(peer, shard)?;
        self.lose_connection(peer);
        self.seats[usize::from(shard.0)].connections[connection.slot as usize].1 = None;
        self.hand(shard, Input::Closed(connection))
    }

    /// A client that came last goes for good.
    pub(super) fn forget_client(&mut self, peer: usize) -> Checked {
        self.lose_peer(peer)?;
        self.peers.truncate(peer);
        Ok(())
    }

    /// A connection is no more; its client knows.
    pub(super) fn lose_connection(&mut self, peer: usize) {
        let seat = &mut self.peers[peer];
        if seat.connection.take().is_some() {
            seat.client.gone(&mut self.oracle);
        }
        seat.life += 1;
        seat.waiting.clear();
        seat.queue.clear();
        seat.coming = None;
        seat.paused = false;
    }

    /// Whose connection it is, if it still is anybody's.
    pub(super) fn peer_of(&self, shard: ShardId, connection: ConnectionId) -> Option<usize> {
        let seat = self.seats.get(usize::from(shard.0))?;
        let (generation, owner) = seat.connections.get(connection.slot as usize)?;
        owner.filter(|_| *generation == connection.generation)
    }

    /// The moment at which an answer leaves: after those before it.
    pub(super) fn leaves_us(&mut self, shard: ShardId, connection: ConnectionId, at_us: u64) -> u64 {
        match self.peer_of(shard, connection) {
            Some(peer) => {
                let seat = &mut self.peers[peer];
                seat.leaves_us = seat.leaves_us.max(at_us);
                seat.leaves_us
            }
            None => at_us,
        }
    }
}
